#include "artifact/gcs/google_token.h"

#include "artifact/gcs/google_token_cache.h"
#include "base/clock.h"
#include "base/file.h"

#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

#define METADATA_HOST "metadata.google.internal"
#define METADATA_TIMEOUT_MS 3000
#define TOKEN_TIMEOUT_MS 10000
#define TOKEN_ANSWER_BYTES_MAX 65536
#define EARLY_MS (4 * 60 * 1000) /* a token is not begun with shortly before it ends (Google's own libraries: 3 min 45 s) */

/* ---- whose ---- */

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

static bool has_key(const struct artifact_secrets *secrets, const char *key) {
    for (size_t i = 0; secrets != NULL && i < secrets->count; i++) {
        if (strcasecmp(secrets->items[i].key, key) == 0) {
            return true;
        }
    }
    return false;
}

/* 1 = found, 0 = the Secret has none. */
static int of_secret(const struct artifact_secrets *secrets, struct google_credentials *ret, struct error *err) {
    static const char file_key[] = "gcp_service_account_json";
    static const char token_key[] = "gcp_access_token";
    if (has_key(secrets, file_key)) {
        const char *text = artifact_secret(secrets, (const char *const[]){file_key, NULL});
        text = text != NULL ? text : "";
        return google_credentials_parse(text, strlen(text), "the Secret's \"gcp_service_account_json\"", ret, err) < 0 ? -1 : 1;
    }
    if (has_key(secrets, token_key)) {
        const char *text = artifact_secret(secrets, (const char *const[]){token_key, NULL});
        cleanup_free char *token = text != NULL ? xstrndup(text, strcspn(text, "\r\n")) : xstrdup("");
        size_t len = strlen(token);
        if (len == 0 || len > GOOGLE_TOKEN_BYTES_MAX || strpbrk(token, " \t") != NULL) {
            return error_set(err, ERROR_INVALID, "the Secret's \"%s\": expected one access token", token_key);
        }
        *ret = (struct google_credentials){.kind = GOOGLE_ACCESS_TOKEN,
                                           .origin = xstrdup("the Secret's \"gcp_access_token\""),
                                           .access_token = take_pointer(token)};
        return 1;
    }
    return 0;
}

static int of_file(const char *path, struct google_credentials *ret, struct error *err) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read(path, GOOGLE_CREDENTIALS_BYTES_MAX, &text, err) < 0) {
        return -1;
    }
    int result = google_credentials_parse(buffer_text(&text), text.len, path, ret, err);
    OPENSSL_cleanse(text.data, text.len);
    return result;
}

/* gcloud's, of the caller's; NULL without a home. */
static char *well_known_file(void) {
    static const char name[] = "application_default_credentials.json";
    const char *folder = environment("CLOUDSDK_CONFIG");
    const char *home = environment("HOME");
    if (folder != NULL) {
        return path_join(folder, name);
    }
    return home != NULL ? xasprintf("%s/.config/gcloud/%s", home, name) : NULL;
}

/* Machines of Google say so in their firmware; Cloud Run, which shows none, in its environment. */
static bool is_googles_machine(void) {
    cleanup_buffer struct buffer product = BUFFER_INIT;
    if (environment("K_SERVICE") != NULL) {
        return true;
    }
    return file_read("/sys/class/dmi/id/product_name", 4096, &product, NULL) == 0 &&
           strncmp(buffer_text(&product), "Google", 6) == 0;
}

static int of_process(struct google_credentials *ret, struct error *err) {
    const char *named = environment("GOOGLE_APPLICATION_CREDENTIALS");
    if (named != NULL) {
        return of_file(named, ret, err) < 0 ? error_wrap(err, "GOOGLE_APPLICATION_CREDENTIALS") : 0;
    }
    cleanup_free char *well_known = well_known_file();
    if (well_known != NULL && access(well_known, F_OK) == 0) {
        return of_file(well_known, ret, err);
    }
    const char *host = environment("GCE_METADATA_HOST");
    if (host == NULL && !is_googles_machine()) {
        *ret = (struct google_credentials){.kind = GOOGLE_ANONYMOUS, .origin = xstrdup("nobody")};
        return 0;
    }
    host = host != NULL ? host : METADATA_HOST;
    *ret = (struct google_credentials){
        .kind = GOOGLE_METADATA, .origin = xasprintf("the metadata server %s", host), .metadata_host = xstrdup(host)};
    return 0;
}

int google_identity(const struct artifact_secrets *secrets, bool is_emulated, struct google_credentials *ret, struct error *err) {
    int result = of_secret(secrets, ret, err);
    if (result != 0) {
        return result < 0 ? -1 : 0;
    }
    if (is_emulated) {
        *ret = (struct google_credentials){.kind = GOOGLE_ANONYMOUS, .origin = xstrdup("nobody")};
        return 0;
    }
    if (of_process(ret, err) < 0) {
        return -1;
    }
    ret->is_operators = true;
    return 0;
}

/* ---- where from ---- */

static int make_request(const struct google_credentials *credentials, struct artifact_request *ret, struct error *err) {
    *ret = (struct artifact_request){
        .is_operators = credentials->is_operators, .is_redirect_final = true, .body_bytes_max = TOKEN_ANSWER_BYTES_MAX};
    if (credentials->kind == GOOGLE_METADATA) {
        ret->url = xasprintf("http://%s/computeMetadata/v1/instance/service-accounts/default/token?scopes=%s",
                             credentials->metadata_host, GOOGLE_SCOPE);
        ret->timeout_ms = METADATA_TIMEOUT_MS;
        artifact_request_header(ret, "Metadata-Flavor: Google");
        return 0;
    }
    ret->method = xstrdup("POST");
    ret->url = xstrdup(credentials->token_uri);
    ret->timeout_ms = TOKEN_TIMEOUT_MS;
    artifact_request_header(ret, "Content-Type: application/x-www-form-urlencoded");
    return google_token_form(credentials, clock_wall_ms() / 1000, &ret->body, err);
}

static int refuse(const struct google_credentials *credentials, const struct artifact_reply *reply, struct error *err) {
    bool is_our_fault = reply->status == 400 || reply->status == 401 || reply->status == 403;
    cleanup_free char *words = google_token_refusal(buffer_text(&reply->body), reply->body.len, credentials);
    enum error_code code = is_our_fault ? ERROR_UNAUTHORIZED : reply->status >= 500 ? ERROR_UNAVAILABLE : ERROR_INVALID;
    return error_set(err, code, "%s: no access token: HTTP %d%s%s", credentials->origin, reply->status, *words != '\0' ? ": " : "",
                     words);
}

static int read_answer(const struct google_credentials *credentials, const struct artifact_reply *reply, char **ret_token,
                       struct error *err) {
    if (credentials->kind == GOOGLE_METADATA && reply->status == 404) {
        *ret_token = NULL; /* a machine without a service account */
        return 0;
    }
    if (reply->status != 200) {
        return refuse(credentials, reply, err);
    }
    cleanup_free char *flavor = artifact_reply_field(reply, "metadata-flavor");
    if (credentials->kind == GOOGLE_METADATA && (flavor == NULL || strcmp(flavor, "Google") != 0)) {
        return error_set(err, ERROR_INVALID, "%s is none: its answer lacks Metadata-Flavor: Google", credentials->origin);
    }
    int64_t lifetime_s = 0;
    if (google_token_parse(buffer_text(&reply->body), reply->body.len, ret_token, &lifetime_s, err) < 0) {
        return error_wrap(err, "%s", credentials->origin);
    }
    if (lifetime_s * 1000 > EARLY_MS) {
        google_token_keep(credentials, *ret_token, clock_boot_ms() + lifetime_s * 1000 - EARLY_MS);
    }
    return 0;
}

int google_token(struct artifact_http *http, const struct google_credentials *credentials, char **ret_token, struct error *err) {
    *ret_token = NULL;
    if (credentials->kind == GOOGLE_ANONYMOUS) {
        return 0;
    }
    if (credentials->kind == GOOGLE_ACCESS_TOKEN) {
        *ret_token = xstrdup(credentials->access_token);
        return 0;
    }
    *ret_token = google_token_cached(credentials, clock_boot_ms());
    if (*ret_token != NULL) {
        return 0;
    }
    struct artifact_request request;
    struct artifact_reply reply = {0};
    int result = make_request(credentials, &request, err);
    if (result == 0 && artifact_http_ask(http, &request, &reply, err) < 0) {
        result = error_wrap(err, "%s", credentials->origin);
    } else if (result == 0) {
        result = read_answer(credentials, &reply, ret_token, err);
        artifact_reply_release(&reply);
    }
    artifact_request_release(&request);
    return result;
}
