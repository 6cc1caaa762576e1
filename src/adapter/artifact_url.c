#include "adapter/artifact_url.h"

#include "base/buffer.h"
#include "base/hash.h"

#include <ctype.h>
#include <string.h>

static const struct {
    const char *prefix;
    enum artifact_scheme scheme;
} schemes[] = {
    {"/", ARTIFACT_PATH},
    {"file:///", ARTIFACT_PATH},
    {"huggingface://", ARTIFACT_HUGGINGFACE},
    {"hf://", ARTIFACT_HUGGINGFACE},
    {"s3://", ARTIFACT_S3},
    {"gs://", ARTIFACT_GCS},
    {"gcs://", ARTIFACT_GCS},
    {"tos://", ARTIFACT_TOS},
    {"http://", ARTIFACT_HTTP},
    {"https://", ARTIFACT_HTTP},
};

static const char *prefix_of(const char *url, enum artifact_scheme *ret_scheme) {
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (strncmp(url, schemes[i].prefix, strlen(schemes[i].prefix)) == 0) {
            *ret_scheme = schemes[i].scheme;
            return schemes[i].prefix;
        }
    }
    *ret_scheme = ARTIFACT_UNKNOWN;
    return "";
}

enum artifact_scheme artifact_scheme_of(const char *url) {
    enum artifact_scheme scheme;
    (void)prefix_of(url, &scheme);
    return scheme;
}

const char *artifact_schemes_text(void) {
    return "s3://, gs://, gcs://, tos://, huggingface://, hf://, http://, https://, file:///, or an absolute path";
}

const char *artifact_local_path(const char *url) {
    if (url[0] == '/') {
        return url;
    }
    return strncmp(url, "file:///", 8) == 0 ? url + 7 : NULL;
}

char *artifact_shown_url(const char *url) {
    if (artifact_scheme_of(url) != ARTIFACT_HTTP) {
        return xstrdup(url);
    }
    const char *authority = strchr(url, '/') + 2;
    const char *at = memrchr(authority, '@', strcspn(authority, "/?#"));
    const char *host = at != NULL ? at + 1 : authority;
    const char *query = host + strcspn(host, "?");
    char digits[HASH_HEX_BYTES];
    struct hash hash = hash_bytes(query, strlen(query));
    hash_hex(&hash, digits);
    return xasprintf("%.*s%.*s%s%.*s", (int)(authority - url), url, (int)(query - host), host, *query != '\0' ? "?sha256=" : "",
                     *query != '\0' ? 16 : 0, digits);
}

/* ---- for engines that fetch themselves ---- */

/* The length of "org/repo", or of "repo". */
static size_t repository_len(const char *rest) {
    size_t len = strcspn(rest, "/@");
    return rest[len] == '/' ? len + 1 + strcspn(rest + len + 1, "/@") : len;
}

/* A revision's slashes would end it, and '?' and '#' are refused in a Hub's URL. */
static char *encode_revision(const char *revision) {
    struct buffer out = BUFFER_INIT;
    for (const char *at = revision; *at != '\0'; at++) {
        if (isalnum((unsigned char)*at) || strchr("-._~", *at) != NULL) {
            buffer_append_char(&out, *at);
        } else {
            buffer_printf(&out, "%%%02X", (unsigned char)*at);
        }
    }
    return buffer_take(&out);
}

static bool begins_with_part(const char *text, const char *part) {
    size_t len = strlen(part);
    return strncmp(text, part, len) == 0 && (text[len] == '\0' || text[len] == '/');
}

/* hf://org/repo[/folder] and v1 -> hf://org/repo@v1[/folder] */
static int pin(const char *url, size_t prefix_len, const char *revision, char **ret_path, struct error *err) {
    const char *rest = url + prefix_len;
    size_t len = repository_len(rest);
    cleanup_free char *encoded = encode_revision(revision);
    bool is_pinned = rest[len] == '@';
    if (is_pinned && !begins_with_part(rest + len + 1, revision) && !begins_with_part(rest + len + 1, encoded)) {
        return error_set(err, ERROR_UNSUPPORTED, "\"%.256s\" names a revision, and \"%.100s\" is asked for beside it: expected one",
                         url, revision);
    }
    *ret_path = is_pinned ? xstrdup(url) : xasprintf("%.*s@%s%s", (int)(prefix_len + len), url, encoded, rest + len);
    return 0;
}

static int davits_path(const char *url, const char *revision, char **ret_path, struct error *err) {
    enum artifact_scheme scheme;
    const char *prefix = prefix_of(url, &scheme);
    if (scheme == ARTIFACT_UNKNOWN) {
        return error_set(err, ERROR_UNSUPPORTED, "\"%.256s\": expected %s", url, artifact_schemes_text());
    }
    if (revision[0] == '\0') {
        *ret_path = xstrdup(url);
        return 0;
    }
    if (scheme != ARTIFACT_HUGGINGFACE) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "only models of the Hub have revisions: expected none of \"%.256s\", found \"%.100s\"", url, revision);
    }
    return pin(url, strlen(prefix), revision, ret_path, err);
}

static int any_engines_path(const char *url, const char *revision, char **ret_path, struct error *err) {
    enum artifact_scheme scheme;
    const char *rest = url + strlen(prefix_of(url, &scheme));
    if (scheme != ARTIFACT_HUGGINGFACE || rest[0] == '\0') {
        return error_set(
            err, ERROR_UNSUPPORTED,
            "without the sidecar this engine takes absolute paths and huggingface://org/repo only (Davit's own takes every "
            "URL); start the controller with --enable-runtime-sidecar and add the container aibrix-runtime to the pods");
    }
    if (rest[repository_len(rest)] != '\0' || revision[0] != '\0') {
        return error_set(
            err, ERROR_UNSUPPORTED,
            "without the sidecar this engine takes a whole model of the Hub as it is now: expected huggingface://org/repo "
            "and no revision, found \"%.256s\"%s%.100s",
            url, revision[0] != '\0' ? " and revision " : "", revision);
    }
    *ret_path = xstrdup(rest);
    return 0;
}

int artifact_engine_path(const char *url, const char *revision, bool is_davit, char **ret_path, struct error *err) {
    const char *local = artifact_local_path(url);
    if (local != NULL) {
        *ret_path = xstrdup(local);
        return 0;
    }
    return is_davit ? davits_path(url, revision, ret_path, err) : any_engines_path(url, revision, ret_path, err);
}
