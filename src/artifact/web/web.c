/* http:// and https://: a folder on a web server, of which nobody can ask what it holds.
 *
 * So the files that an adapter may have are asked for by name: HEAD, and where that is not answered or says no size, a GET of the
 * first byte. What an optional file answers with 403, 404 or a web page is not there. */
#include "artifact/source.h"
#include "artifact/web/headers.h"
#include "artifact/web/url.h"

#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

#define CONFIG "adapter_config.json"
#define WEIGHTS "adapter_model.safetensors"
#define PICKLE "adapter_model.bin"
#define PROBE_BYTES_MAX (1u << 20) /* of a whole file that comes where its first byte was asked for */

/* A tokenizer of the adapter's own; where the first one is not there, nobody is asked for the others. */
static const char *const optional[] = {
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
};

struct http_source {
    const struct artifact_options *options;
    const char *model_suffixes; /* NULL = an adapter */
    struct artifact_http *http;
    struct source_http_url url;
    struct source_http_headers headers;
    bool has_no_head; /* the server refused HEAD once */
    bool is_unsure;   /* of one of the files nothing is known that changes with its content */
    EVP_MD_CTX *version;
};

/* What the server says of a file. */
struct sight {
    uint64_t bytes; /* UINT64_MAX = nothing */
    char *etag;
    char *modified; /* Last-Modified */
};

static void sight_release(struct sight *sight) {
    free(sight->etag);
    free(sight->modified);
    *sight = (struct sight){0};
}
#define cleanup_sight __attribute__((cleanup(sight_release)))

static void http_close(void *arg) {
    struct http_source *source = arg;
    source_http_url_release(&source->url);
    source_http_headers_release(&source->headers);
    EVP_MD_CTX_free(source->version);
    free(source);
}

static int http_open(const struct source_args *args, void **ret_source, struct error *err) {
    struct http_source *source = xcalloc(1, sizeof(*source));
    source->options = args->options;
    source->model_suffixes = args->wanted->model_suffixes;
    source->http = args->http;
    int result = 0;
    if (args->wanted->revision != NULL && args->wanted->revision[0] != '\0') {
        result = error_set(err, ERROR_UNSUPPORTED, "a web server keeps no revisions: expected none, found \"%.64s\"",
                           args->wanted->revision);
    }
    result = result < 0 ? result : source_http_url_parse(args->wanted->url, &source->url, err);
    result = result < 0 ? result : source_http_headers_read(args->wanted->secrets, source->url.user_info, &source->headers, err);
    if (result < 0) {
        http_close(source);
        return -1;
    }
    *ret_source = source;
    return 0;
}

/* ---- what a status means ---- */

static void explain_status(const struct http_source *source, const char *name, int status, struct error *err) {
    static const struct {
        int status;
        enum error_code code;
        const char *words;
    } rows[] = {
        {401, ERROR_UNAUTHORIZED, "401, credentials are wanted"},
        {403, ERROR_DENIED, "403, forbidden"},
        {404, ERROR_NOT_FOUND, "404, there is no such file"},
        {410, ERROR_NOT_FOUND, "410, the file is gone"},
        {408, ERROR_UNAVAILABLE, "408, the server did not wait for the request"},
        {412, ERROR_UNAVAILABLE, "412, the file was changed meanwhile"},
        {416, ERROR_UNAVAILABLE, "416, the file was cut meanwhile"},
        {429, ERROR_UNAVAILABLE, "429, too many requests"},
    };
    const char *key = source->headers.authorization;
    cleanup_free char *sent =
        key != NULL ? xasprintf("credentials were sent, of \"%s\"", key) : xstrdup("no credentials were sent");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].status == status) {
            bool is_about_them = status == 401 || status == 403;
            error_set(err, rows[i].code, "%s%s: HTTP %s%s%s", source->url.folder, name, rows[i].words, is_about_them ? "; " : "",
                      is_about_them ? sent : "");
            return;
        }
    }
    error_set(err, status >= 500 ? ERROR_UNAVAILABLE : ERROR_INVALID, "%s%s: HTTP %d: expected 200 or 206", source->url.folder,
              name, status);
}

static void http_explain(void *arg, const struct artifact_file *file, const struct artifact_reply *reply, struct error *err) {
    explain_status(arg, file->name, reply->status, err);
}

/* ---- one file ---- */

static void make_request(const struct http_source *source, const char *name, const char *method, struct artifact_request *ret) {
    *ret = (struct artifact_request){.method = xstrdup(method), .url = source_http_url_file(&source->url, name)};
    for (size_t i = 0; i < source->headers.count; i++) {
        artifact_request_secret_header(ret, "%s", source->headers.fields[i]);
    }
}

static uint64_t read_number(const char *text) {
    uint64_t value = 0;
    size_t len = text != NULL ? strspn(text, "0123456789") : 0;
    if (len == 0 || len > 19 || text[len] != '\0') {
        return UINT64_MAX;
    }
    for (size_t i = 0; i < len; i++) {
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    return value;
}

/* "bytes 0-0/1234" */
static uint64_t range_total(const char *text) {
    const char *slash = text != NULL ? strrchr(text, '/') : NULL;
    return slash != NULL ? read_number(slash + 1) : UINT64_MAX;
}

static void read_sight(const struct artifact_reply *reply, bool is_head, struct sight *ret) {
    cleanup_free char *length = artifact_reply_field(reply, "content-length");
    cleanup_free char *range = artifact_reply_field(reply, "content-range");
    ret->bytes = reply->status == 206 ? range_total(range) : is_head ? read_number(length) : reply->body.len;
    ret->etag = artifact_reply_field(reply, "etag");
    ret->modified = artifact_reply_field(reply, "last-modified");
}

static bool is_page(const struct artifact_reply *reply) {
    cleanup_free char *type = artifact_reply_field(reply, "content-type");
    return type != NULL && strncasecmp(type, "text/html", 9) == 0;
}

/* HEAD. Returns the status, 0 when it says nothing that counts, or -1. */
static int ask_head(struct http_source *source, const char *name, struct sight *ret, struct error *err) {
    struct artifact_request request;
    struct artifact_reply reply = {0};
    make_request(source, name, "HEAD", &request);
    int result = artifact_http_ask(source->http, &request, &reply, err);
    artifact_request_release(&request);
    if (result < 0) {
        return -1;
    }
    int status = reply.status;
    source->has_no_head |= status == 405 || status == 501;
    if (status == 200) {
        read_sight(&reply, true, ret);
        /* Some say 0 to every HEAD. */
        status = ret->bytes == 0 || ret->bytes == UINT64_MAX ? 0 : is_page(&reply) ? 404 : 200;
    }
    artifact_reply_release(&reply);
    return status;
}

/* GET of the first byte. Returns the status or -1. */
static int ask_first_byte(struct http_source *source, const char *name, struct sight *ret, struct error *err) {
    struct artifact_request request;
    struct artifact_reply reply = {0};
    make_request(source, name, "GET", &request);
    artifact_request_header(&request, "Range: bytes=0-0");
    request.body_bytes_max = PROBE_BYTES_MAX;
    int result = artifact_http_ask(source->http, &request, &reply, err);
    artifact_request_release(&request);
    if (result < 0 && err->code == ERROR_LIMIT) {
        ret->bytes = UINT64_MAX; /* it is there, is large, and comes as a whole only */
        return 200;
    }
    if (result < 0) {
        return -1;
    }
    int status = reply.status;
    if (status == 200 || status == 206) {
        read_sight(&reply, false, ret);
        status = is_page(&reply) ? 404 : 200;
    } else if (status == 416) {
        status = 200; /* it is empty */
    }
    artifact_reply_release(&reply);
    return status;
}

/* 1: *ret is what is known of the file. 0: there is none, *ret_status says with which answer. */
static int look(struct http_source *source, const char *name, bool is_needed, struct sight *ret, int *ret_status,
                struct error *err) {
    int status = source->has_no_head ? 405 : ask_head(source, name, ret, err);
    /* HEAD may be forbidden where GET is not (a signature is for one method), and unknown. */
    bool is_told = status == 200 || status < 0 || (!is_needed && status == 404);
    if (!is_told) {
        sight_release(ret);
        status = ask_first_byte(source, name, ret, err);
    }
    *ret_status = status;
    return status < 0 ? -1 : status == 200 ? 1 : 0;
}

/* ---- the list ---- */

static void hash_text(struct http_source *source, const char *text) {
    (void)EVP_DigestUpdate(source->version, text, strlen(text) + 1);
}

static int add_file(struct http_source *source, struct artifact_listing *listing, const char *name, const struct sight *sight,
                    struct error *err) {
    struct artifact_file *file = source_add_file(listing, name, err);
    if (file == NULL) {
        return -1;
    }
    bool is_strong = sight->etag != NULL && sight->etag[0] == '"';
    file->bytes = sight->bytes;
    file->etag = is_strong ? xstrdup(sight->etag) : NULL; /* a weak one may not be compared so (RFC 9110, 13.1.1) */
    file->key = source_http_url_file(&source->url, name);
    cleanup_free char *bytes = xasprintf("%llu", (unsigned long long)sight->bytes);
    hash_text(source, name);
    hash_text(source, bytes);
    hash_text(source, sight->etag != NULL ? sight->etag : sight->modified != NULL ? sight->modified : "");
    source->is_unsure |= sight->etag == NULL && sight->modified == NULL;
    return 0;
}

static int add_needed(struct http_source *source, struct artifact_listing *listing, const char *name, struct error *err) {
    cleanup_sight struct sight sight = {.bytes = UINT64_MAX};
    int status = 0;
    int result = look(source, name, true, &sight, &status, err);
    if (result == 0) {
        explain_status(source, name, status, err);
        return -1;
    }
    return result < 0 ? -1 : add_file(source, listing, name, &sight, err);
}

static int add_optional(struct http_source *source, struct artifact_listing *listing, const char *name, struct error *err) {
    cleanup_sight struct sight sight = {.bytes = UINT64_MAX};
    int status = 0;
    int result = look(source, name, false, &sight, &status, err);
    if (result == 0 && status != 401 && status != 403 && status != 404 && status != 410) {
        explain_status(source, name, status, err);
        return -1;
    }
    return result <= 0 ? result : add_file(source, listing, name, &sight, err);
}

/* Safetensors; where there are none, pickle if that is allowed. */
static int add_weights(struct http_source *source, struct artifact_listing *listing, struct error *err) {
    if (add_needed(source, listing, WEIGHTS, err) == 0) {
        return 0;
    }
    struct error other = {0};
    cleanup_sight struct sight sight = {.bytes = UINT64_MAX};
    int status = 0;
    if (err->code != ERROR_NOT_FOUND || look(source, PICKLE, false, &sight, &status, &other) != 1) {
        return -1;
    }
    if (!source->options->is_pickle_allowed) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "%s has %s and no %s: pickle can run code when it is read, and is not allowed here", source->url.folder,
                         PICKLE, WEIGHTS);
    }
    return add_file(source, listing, PICKLE, &sight, err);
}

static int add_adapter(struct http_source *source, struct artifact_listing *listing, struct error *err) {
    if (add_needed(source, listing, CONFIG, err) < 0 || add_weights(source, listing, err) < 0) {
        return -1;
    }
    size_t before = listing->count;
    for (size_t i = 0; i < ARRAY_LEN(optional) && (i == 0 || listing->count > before); i++) {
        if (add_optional(source, listing, optional[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Of a model: files that were named whole, "/model.gguf,/config.json". */
static int add_named(struct http_source *source, struct artifact_listing *listing, struct error *err) {
    for (const char *at = source->model_suffixes; *at == '/';) {
        size_t len = strcspn(at, ",");
        cleanup_free char *name = xstrndup(at + 1, len - 1);
        const struct source_filter filter = {source->options->is_pickle_allowed, source->model_suffixes};
        if (!source_is_needed(name, &filter)) {
            return error_set(err, ERROR_UNSUPPORTED, "%s%.256s: pickle can run code when it is read, and is not allowed here",
                             source->url.folder, name);
        }
        if (add_needed(source, listing, name, err) < 0) {
            return -1;
        }
        at += at[len] == ',' ? len + 1 : len;
    }
    return listing->count > 0
               ? 0
               : error_set(err, ERROR_UNSUPPORTED,
                           "%s: nobody can ask a web server what it holds: expected the URL of a model's file", source->url.folder);
}

static char *take_version(struct http_source *source) {
    struct hash hash;
    char hex[HASH_HEX_BYTES];
    (void)EVP_DigestFinal_ex(source->version, hash.bytes, NULL);
    hash_hex(&hash, hex);
    return xstrdup(source->is_unsure ? "" : hex);
}

static int http_list(void *arg, struct artifact_listing *listing, struct error *err) {
    struct http_source *source = arg;
    EVP_MD_CTX_free(source->version);
    source->version = EVP_MD_CTX_new();
    if (source->version == NULL || EVP_DigestInit_ex(source->version, EVP_sha256(), NULL) != 1) {
        return error_set(err, ERROR_INTERNAL, "SHA-256 is not to be had");
    }
    if ((source->model_suffixes != NULL ? add_named(source, listing, err) : add_adapter(source, listing, err)) < 0) {
        return -1;
    }
    listing->version = take_version(source);
    return 0;
}

static int http_request(void *arg, const struct artifact_file *file, struct artifact_request *ret, struct error *err) {
    (void)err;
    make_request(arg, file->name, "GET", ret);
    if (file->etag != NULL) {
        artifact_request_header(ret, "If-Match: %s", file->etag);
    }
    return 0;
}

const struct source_type source_http = {
    .open = http_open,
    .list = http_list,
    .request = http_request,
    .explain = http_explain,
    .close = http_close,
};
