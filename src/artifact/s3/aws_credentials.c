#include "artifact/s3/aws_credentials.h"

#include "base/file.h"
#include "io/url.h"

#include <ctype.h>
#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

#define KEY_BYTES_MAX 256
#define TOKEN_BYTES_MAX 8192
#define CONTAINER_HOST "http://169.254.170.2"
#define MACHINE_URL "http://169.254.169.254"

const struct aws_key_names aws_key_names_s3 = {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"};
const struct aws_key_names aws_key_names_tos = {"tos_access_key", "tos_secret_key", "tos_session_key"};

static void forget(char **secret) {
    if (*secret != NULL) {
        OPENSSL_cleanse(*secret, strlen(*secret));
        free(*secret);
        *secret = NULL;
    }
}

void aws_keys_release(struct aws_keys *keys) {
    forget(&keys->access_key);
    forget(&keys->secret_key);
    forget(&keys->session_token);
}

void aws_keys_copy(const struct aws_keys *keys, struct aws_keys *ret) {
    *ret = (struct aws_keys){
        .access_key = keys->access_key != NULL ? xstrdup(keys->access_key) : NULL,
        .secret_key = keys->secret_key != NULL ? xstrdup(keys->secret_key) : NULL,
        .session_token = keys->session_token != NULL ? xstrdup(keys->session_token) : NULL,
    };
}

void aws_identity_release(struct aws_identity *identity) {
    aws_keys_release(&identity->keys);
    forget(&identity->authorization);
    free(identity->origin);
    free(identity->url);
    free(identity->role_arn);
    free(identity->session_name);
    free(identity->token_file);
    *identity = (struct aws_identity){0};
}

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

static bool is_switched_on(const char *name) {
    const char *value = environment(name);
    return value != NULL && strcasecmp(value, "true") == 0;
}

static char *in_capitals(const char *name) {
    char *out = xstrdup(name);
    for (char *at = out; *at != '\0'; at++) {
        *at = (char)toupper((unsigned char)*at);
    }
    return out;
}

/* ---- keys that somebody wrote down ---- */

/* Without the white space around it, that files and Secrets are given by accident. They become parts of header fields. */
static int take_key(const char *name, const char *text, size_t bytes_max, char **ret, struct error *err) {
    text += strspn(text, " \t\r\n");
    size_t len = strlen(text);
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL) {
        len--;
    }
    bool is_fine = len > 0 && len <= bytes_max;
    for (size_t i = 0; i < len && is_fine; i++) {
        is_fine = text[i] > 0x20 && text[i] < 0x7f;
    }
    if (!is_fine) {
        return error_set(err, ERROR_UNAUTHORIZED, "%s: expected 1 to %zu visible characters in one line", name, bytes_max);
    }
    *ret = xstrndup(text, len);
    return 0;
}

struct written {
    const char *origin;
    const char *names[3]; /* as they are called there */
    const char *values[3];
};

/* 1, or 0 when there are none, or -1 when there are some only. */
static int take_written(const struct written *written, struct aws_identity *ret, struct error *err) {
    struct aws_keys keys = {0};
    char **const outs[] = {&keys.access_key, &keys.secret_key, &keys.session_token};
    if (written->values[0] == NULL && written->values[1] == NULL && written->values[2] == NULL) {
        return 0;
    }
    for (size_t i = 0; i < 2; i++) {
        if (written->values[i] == NULL) {
            return error_set(err, ERROR_UNAUTHORIZED, "%s has no %s, which belongs to its %s", written->origin, written->names[i],
                             written->names[written->values[0] != NULL   ? 0
                                            : written->values[1] != NULL ? 1
                                                                         : 2]);
        }
    }
    for (size_t i = 0; i < 3; i++) {
        if (written->values[i] != NULL &&
            take_key(written->names[i], written->values[i], i < 2 ? KEY_BYTES_MAX : TOKEN_BYTES_MAX, outs[i], err) < 0) {
            aws_keys_release(&keys);
            return error_wrap(err, "%s", written->origin);
        }
    }
    *ret = (struct aws_identity){.kind = AWS_KEYS, .origin = xstrdup(written->origin), .keys = keys};
    return 1;
}

static bool has_key(const struct artifact_secrets *secrets, const char *key) {
    for (size_t i = 0; secrets != NULL && i < secrets->count; i++) {
        if (strcasecmp(secrets->items[i].key, key) == 0) {
            return true;
        }
    }
    return false;
}

int aws_identity_of_secrets(const struct artifact_secrets *secrets, const struct aws_key_names *names, struct aws_identity *ret,
                            struct error *err) {
    struct written written = {.origin = "the adapter's Secret",
                              .names = {names->access_key, names->secret_key, names->session_token}};
    bool has_any = false;
    for (size_t i = 0; i < 3; i++) {
        written.values[i] = artifact_secret(secrets, (const char *const[]){written.names[i], NULL});
        has_any |= i < 2 && has_key(secrets, written.names[i]);
    }
    int result = take_written(&written, ret, err);
    if (result == 0 && has_any) {
        return error_set(err, ERROR_UNAUTHORIZED, "%s: %s and %s are empty", written.origin, written.names[0], written.names[1]);
    }
    return result;
}

static int of_environment(const struct aws_key_names *names, struct aws_identity *ret, struct error *err) {
    cleanup_free char *access_key = in_capitals(names->access_key);
    cleanup_free char *secret_key = in_capitals(names->secret_key);
    cleanup_free char *session_token = in_capitals(names->session_token);
    struct written written = {.origin = "the environment",
                              .names = {access_key, secret_key, session_token},
                              .values = {environment(access_key), environment(secret_key), environment(session_token)}};
    if (written.values[0] == NULL && written.values[1] == NULL) {
        return 0; /* a token alone is none's */
    }
    return take_written(&written, ret, err);
}

/* ---- identities that are changed for keys ---- */

static char *sts_url(const char *region) {
    const char *configured = environment("AWS_ENDPOINT_URL_STS");
    configured = configured != NULL ? configured : environment("AWS_ENDPOINT_URL");
    if (configured != NULL && !is_switched_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")) {
        size_t len = strlen(configured);
        bool has_slash = configured[len - 1] == '/';
        return xasprintf("%s%s", configured, has_slash ? "" : "/");
    }
    return xasprintf("https://sts.%s.amazonaws.com%s/", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

static void set_web_identity(const char *role, const char *file, const char *session, const char *region, const char *origin,
                             struct aws_identity *ret) {
    *ret = (struct aws_identity){
        .kind = AWS_WEB_IDENTITY,
        .origin = xstrdup(origin),
        .url = sts_url(region),
        .role_arn = xstrdup(role),
        .token_file = xstrdup(file),
        .session_name = xstrdup(session != NULL ? session : "davit"),
    };
}

static int of_web_identity(const char *region, struct aws_identity *ret, struct error *err) {
    const char *file = environment("AWS_WEB_IDENTITY_TOKEN_FILE");
    const char *role = environment("AWS_ROLE_ARN");
    if (file == NULL) {
        return 0;
    }
    if (role == NULL) {
        return error_set(err, ERROR_UNAUTHORIZED,
                         "the environment has no AWS_ROLE_ARN, which belongs to its "
                         "AWS_WEB_IDENTITY_TOKEN_FILE");
    }
    set_web_identity(role, file, environment("AWS_ROLE_SESSION_NAME"), region, "the web identity of AWS_WEB_IDENTITY_TOKEN_FILE",
                     ret);
    return 1;
}

static int of_profile(const struct aws_profile *profile, const char *region, struct aws_identity *ret, struct error *err) {
    static const char *const others[] = {"source_profile", "credential_source", "credential_process",
                                         "sso_session",    "sso_start_url",     "role_arn"};
    cleanup_free char *origin = xasprintf("profile \"%.64s\"", profile->name);
    if (profile->is_named && !profile->is_there) {
        return error_set(err, ERROR_UNAUTHORIZED, "%s is in neither of the files credentials and config", origin);
    }
    const char *role = aws_profile_get(profile, "role_arn");
    const char *file = aws_profile_get(profile, "web_identity_token_file");
    if (role != NULL && file != NULL) {
        set_web_identity(role, file, aws_profile_get(profile, "role_session_name"), region, origin, ret);
        return 1;
    }
    struct written written = {.origin = origin, .names = {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"}};
    for (size_t i = 0; i < 3; i++) {
        written.values[i] = aws_profile_get(profile, written.names[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(others) && (written.values[0] == NULL || role != NULL); i++) {
        if (aws_profile_get(profile, others[i]) != NULL) {
            return error_set(err, ERROR_UNSUPPORTED,
                             "%s says %s, which is not done here: expected keys, or role_arn with web_identity_token_file", origin,
                             others[i]);
        }
    }
    return take_written(&written, ret, err);
}

bool aws_container_url_is_allowed(const char *url) {
    static const char *const hosts[] = {"127.0.0.1", "::1", "localhost", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"};
    cleanup_free char *host = url_host(url);
    bool is_allowed = host != NULL && strncasecmp(url, "https://", 8) == 0;
    for (size_t i = 0; i < ARRAY_LEN(hosts) && host != NULL; i++) {
        is_allowed |= strcmp(host, hosts[i]) == 0;
    }
    return is_allowed;
}

static int of_container(struct aws_identity *ret, struct error *err) {
    const char *relative = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const char *file = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *authorization = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    if (relative == NULL && full == NULL) {
        return 0;
    }
    if (relative != NULL && relative[0] != '/') {
        return error_set(err, ERROR_INVALID, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: expected a path that begins with \"/\"");
    }
    if (relative == NULL && !aws_container_url_is_allowed(full)) {
        return error_set(
            err, ERROR_DENIED,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI: expected https, or http to this machine or to the addresses of ECS and EKS");
    }
    char *token = NULL;
    if (file == NULL && authorization != NULL &&
        take_key("AWS_CONTAINER_AUTHORIZATION_TOKEN", authorization, TOKEN_BYTES_MAX, &token, err) < 0) {
        return -1;
    }
    *ret = (struct aws_identity){
        .kind = AWS_CONTAINER,
        .origin = xstrdup("the container's credentials"),
        .url = relative != NULL ? xasprintf(CONTAINER_HOST "%s", relative) : xstrdup(full),
        .token_file = file != NULL ? xstrdup(file) : NULL,
        .authorization = token,
    };
    return 1;
}

/* Instances of EC2 say so in their firmware: nobody else waits for an answer that does not come. */
static bool is_amazons_machine(void) {
    static const char *const files[] = {"/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/board_vendor",
                                        "/sys/class/dmi/id/bios_vendor"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        cleanup_buffer struct buffer text = BUFFER_INIT;
        if (file_read(files[i], 4096, &text, NULL) == 0 && strncmp(buffer_text(&text), "Amazon EC2", 10) == 0) {
            return true;
        }
    }
    return false;
}

static int of_machine(struct aws_identity *ret) {
    const char *named = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    if (is_switched_on("AWS_EC2_METADATA_DISABLED") || (named == NULL && !is_amazons_machine())) {
        return 0;
    }
    const char *url = named != NULL ? named : MACHINE_URL;
    size_t len = strlen(url);
    *ret = (struct aws_identity){
        .kind = AWS_MACHINE,
        .origin = xstrdup("the instance's role"),
        .url = xstrndup(url, url[len - 1] == '/' ? len - 1 : len),
    };
    return 1;
}

int aws_identity_of_process(const struct aws_key_names *names, const struct aws_profile *profile, const char *region,
                            struct aws_identity *ret, struct error *err) {
    int result = of_environment(names, ret, err);
    if (result == 0 && profile != NULL) {
        result = of_web_identity(region, ret, err);
        result = result == 0 ? of_profile(profile, region, ret, err) : result;
        result = result == 0 ? of_container(ret, err) : result;
        result = result == 0 ? of_machine(ret) : result;
    }
    if (result == 0) {
        *ret = (struct aws_identity){.kind = AWS_NOBODY, .origin = xstrdup("neither the adapter nor this process has any")};
    }
    return result < 0 ? -1 : 0;
}
