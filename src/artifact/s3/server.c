/* Which server is asked, and how buckets are named to it: settings of the adapter, the environment and the profile. */
#include "artifact/s3/api.h"

#include "io/url.h"

#include <string.h>
#include <strings.h>

#define ENDPOINT_BYTES_MAX 512

/* Where a setting is looked for; the first that has it counts. */
struct setting {
    const char *const *secret_keys;
    const char *const *variables;
    const char *const *profile_keys;
};

struct settings {
    struct setting endpoint;
    struct setting region;
    struct setting style;
    const char *default_endpoint; /* NULL = Amazon's */
    const char *default_region;
};

static const struct settings *settings_of(bool is_tos) {
    static const char *const s3_endpoint_secrets[] = {"aws_endpoint_url_s3", "aws_endpoint_url", "s3_endpoint_url",
                                                      "endpoint_url",        "endpoint",         NULL};
    static const char *const s3_endpoint_variables[] = {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", NULL};
    static const char *const s3_region_secrets[] = {"aws_region", "aws_default_region", "region", NULL};
    static const char *const s3_region_variables[] = {"AWS_REGION", "AWS_DEFAULT_REGION", NULL};
    static const char *const s3_style_secrets[] = {"aws_s3_addressing_style", "addressing_style", NULL};
    static const char *const s3_style_variables[] = {"AWS_S3_ADDRESSING_STYLE", NULL};
    static const char *const s3_style_profile[] = {"s3.addressing_style", NULL};
    static const char *const region_profile[] = {"region", NULL};
    static const char *const tos_endpoint_secrets[] = {"tos_endpoint", "endpoint", NULL};
    static const char *const tos_endpoint_variables[] = {"TOS_ENDPOINT", NULL};
    static const char *const tos_region_secrets[] = {"tos_region", "region", NULL};
    static const char *const tos_region_variables[] = {"TOS_REGION", NULL};
    static const char *const none[] = {NULL};
    static const struct settings s3 = {
        .endpoint = {s3_endpoint_secrets, s3_endpoint_variables, none}, /* the profile's is in two places */
        .region = {s3_region_secrets, s3_region_variables, region_profile},
        .style = {s3_style_secrets, s3_style_variables, s3_style_profile},
        .default_region = "us-east-1",
    };
    static const struct settings tos = {
        .endpoint = {tos_endpoint_secrets, tos_endpoint_variables, none},
        .region = {tos_region_secrets, tos_region_variables, none},
        .style = {s3_style_secrets, none, none},
        .default_endpoint = "https://tos-s3-cn-beijing.volces.com",
        .default_region = "cn-beijing",
    };
    return is_tos ? &tos : &s3;
}

struct found {
    const char *value; /* NULL = nobody says it */
    const char *where;
    bool is_adapters;
};

static struct found find(const struct setting *setting, const struct artifact_secrets *secrets, const struct aws_profile *profile) {
    const char *value = artifact_secret(secrets, setting->secret_keys);
    if (value != NULL) {
        return (struct found){.value = value, .where = setting->secret_keys[0], .is_adapters = true};
    }
    for (const char *const *name = setting->variables; *name != NULL; name++) {
        value = getenv(*name);
        if (value != NULL && *value != '\0') {
            return (struct found){.value = value, .where = *name};
        }
    }
    for (const char *const *key = setting->profile_keys; *key != NULL && profile != NULL; key++) {
        value = aws_profile_get(profile, *key);
        if (value != NULL) {
            return (struct found){.value = value, .where = *key};
        }
    }
    return (struct found){0};
}

/* [services NAME] s3 = endpoint_url, where the profile says services = NAME; else endpoint_url of the profile. */
static const char *profile_endpoint(const struct aws_profile *profile) {
    const char *services = profile != NULL ? aws_profile_get(profile, "services") : NULL;
    if (services != NULL) {
        cleanup_free char *section = xasprintf("services %s", services);
        const char *endpoint = aws_profile_get_of(profile, section, "s3.endpoint_url");
        if (endpoint != NULL) {
            return endpoint;
        }
    }
    return profile != NULL ? aws_profile_get(profile, "endpoint_url") : NULL;
}

static struct found find_endpoint(bool is_tos, const struct artifact_secrets *secrets, const struct aws_profile *profile) {
    struct found found = find(&settings_of(is_tos)->endpoint, secrets, NULL);
    const char *ignored = getenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    bool is_ignored = !is_tos && ignored != NULL && strcasecmp(ignored, "true") == 0;
    if (found.value == NULL && !is_tos) {
        found = (struct found){.value = profile_endpoint(profile), .where = "endpoint_url"};
    }
    if (is_ignored && !found.is_adapters) {
        found = (struct found){0};
    }
    if (found.value == NULL) {
        found = (struct found){.value = settings_of(is_tos)->default_endpoint, .where = "the endpoint"};
    }
    return found;
}

/* ---- endpoints ---- */

/* TOS speaks its own language at tos-REGION, S3's at tos-s3-REGION. */
static char *with_scheme(bool is_tos, const char *value) {
    bool has_scheme = strstr(value, "://") != NULL;
    char *url = xasprintf("%s%s", has_scheme ? "" : "https://", value);
    char *host = strstr(url, "://") + 3;
    if (is_tos && strncmp(host, "tos-", 4) == 0 && strncmp(host, "tos-s3-", 7) != 0) {
        char *changed = xasprintf("%.*stos-s3-%s", (int)(host - url), url, host + 4);
        free(url);
        url = changed;
    }
    return url;
}

static char *without_default_port(const char *origin) {
    const char *const ports[][2] = {{"https://", ":443"}, {"http://", ":80"}};
    size_t len = strlen(origin);
    for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
        size_t port_len = strlen(ports[i][1]);
        if (strncmp(origin, ports[i][0], strlen(ports[i][0])) == 0 && strcmp(origin + len - port_len, ports[i][1]) == 0) {
            return xstrndup(origin, len - port_len);
        }
    }
    return xstrdup(origin);
}

static int read_endpoint(bool is_tos, const struct found *found, struct s3_server *server, struct error *err) {
    cleanup_free char *url = with_scheme(is_tos, found->value);
    cleanup_free char *origin = strlen(url) <= ENDPOINT_BYTES_MAX ? url_origin(url) : NULL;
    const char *authority = strstr(url, "://") + 3;
    const char *path = authority + strcspn(authority, "/?#");
    size_t path_len = strlen(path);
    bool has_user = memchr(authority, '@', (size_t)(path - authority)) != NULL;
    if (origin == NULL || has_user || strpbrk(path, "?#%") != NULL || strstr(path, "/.") != NULL) {
        return error_set(err, ERROR_INVALID, "%s: expected an endpoint such as https://host:9000", found->where);
    }
    while (path_len > 0 && path[path_len - 1] == '/') {
        path_len--;
    }
    server->origin = without_default_port(origin);
    server->path = xstrndup(path, path_len);
    server->is_adapters = found->is_adapters;
    return 0;
}

/* ---- style and region ---- */

static bool is_a_name(const char *origin) {
    cleanup_free char *host = url_host(origin);
    return host != NULL && host[strspn(host, "0123456789.")] != '\0' && strchr(host, ':') == NULL && strcmp(host, "localhost") != 0;
}

static int read_style(bool is_tos, const struct found *found, struct s3_server *server, struct error *err) {
    static const struct {
        const char *word;
        enum s3_style style;
    } rows[] = {{"auto", S3_STYLE_AUTO}, {"path", S3_STYLE_PATH}, {"virtual", S3_STYLE_VIRTUAL}};
    bool is_known = found->value == NULL;
    server->style = S3_STYLE_AUTO;
    for (size_t i = 0; i < ARRAY_LEN(rows) && !is_known; i++) {
        if (strcasecmp(found->value, rows[i].word) == 0) {
            server->style = rows[i].style;
            is_known = true;
        }
    }
    if (!is_known) {
        return error_set(err, ERROR_INVALID, "%s: expected auto, path or virtual, found \"%.32s\"", found->where, found->value);
    }
    if (is_tos && server->style == S3_STYLE_AUTO && is_a_name(server->origin)) {
        server->style = S3_STYLE_VIRTUAL; /* TOS knows no other */
    }
    return 0;
}

/* "tos-s3-cn-shanghai.volces.com" says the region itself. The caller frees it; NULL = it does not. */
static char *region_of_host(const struct s3_server *server) {
    const char *at = server->origin != NULL ? strstr(server->origin, "://tos-s3-") : NULL;
    return at != NULL ? xstrndup(at + 10, strcspn(at + 10, ".:/")) : NULL;
}

static int read_region(bool is_tos, const struct found *found, struct s3_server *server, struct error *err) {
    cleanup_free char *of_host = is_tos ? region_of_host(server) : NULL;
    const char *region = found->value != NULL ? found->value : of_host != NULL ? of_host : settings_of(is_tos)->default_region;
    if (!s3_region_is_valid(region)) {
        return error_set(err, ERROR_INVALID, "%s: expected a region such as %s",
                         found->value != NULL ? found->where : "the endpoint", settings_of(is_tos)->default_region);
    }
    server->region = xstrdup(region);
    return 0;
}

int s3_server_find(bool is_tos, const struct artifact_secrets *secrets, const struct aws_profile *profile, struct s3_server *ret,
                   struct error *err) {
    const struct settings *settings = settings_of(is_tos);
    struct s3_server server = {0};
    struct found endpoint = find_endpoint(is_tos, secrets, profile);
    struct found region = find(&settings->region, secrets, profile);
    struct found style = find(&settings->style, secrets, profile);
    if ((endpoint.value != NULL && read_endpoint(is_tos, &endpoint, &server, err) < 0) ||
        read_style(is_tos, &style, &server, err) < 0 || read_region(is_tos, &region, &server, err) < 0) {
        s3_server_release(&server);
        return -1;
    }
    *ret = server;
    return 0;
}

void s3_server_release(struct s3_server *server) {
    free(server->origin);
    free(server->path);
    free(server->region);
    *server = (struct s3_server){0};
}
