/* gs:// and gcs://: the objects right in a folder of a bucket, each pinned to the generation that the listing shows. */
#include "artifact/gcs/api.h"
#include "artifact/gcs/google_token.h"
#include "artifact/gcs/google_token_cache.h"
#include "artifact/source.h"

#include <openssl/crypto.h>
#include <string.h>

struct gcs_source {
    struct source_filter filter;
    struct artifact_http *http;
    struct gcs_place place;
    char *shown; /* "gs://bucket/folder/" */
    char *endpoint;
    bool is_emulated;
    struct google_credentials identity;
    char *token;     /* of the last request; NULL = none was sent */
    bool is_refused; /* a token was, once */
};

static void forget_token(struct gcs_source *source) {
    if (source->token != NULL) {
        OPENSSL_cleanse(source->token, strlen(source->token));
        free(source->token);
        source->token = NULL;
    }
}

static void gcs_close(void *arg) {
    struct gcs_source *source = arg;
    gcs_place_release(&source->place);
    google_credentials_release(&source->identity);
    forget_token(source);
    free(source->shown);
    free(source->endpoint);
    free(source);
}

static int open_source(struct gcs_source *source, const struct source_args *args, struct error *err) {
    const char *emulator = getenv("STORAGE_EMULATOR_HOST");
    const char *revision = args->wanted->revision;
    source->filter = source_filter_of(args->options, args->wanted);
    source->http = args->http;
    source->is_emulated = emulator != NULL && *emulator != '\0';
    source->endpoint = gcs_endpoint(emulator);
    if (revision != NULL && *revision != '\0') {
        return error_set(err, ERROR_UNSUPPORTED,
                         "an adapter in Google Cloud Storage is several objects, each with generations of its "
                         "own: expected no revision, found \"%.64s\"",
                         revision);
    }
    if (gcs_place_parse(args->wanted->url, &source->place, err) < 0) {
        return -1;
    }
    const char *url = args->wanted->url;
    source->shown = xasprintf("%.*s://%s/%s", (int)strcspn(url, ":"), url, source->place.bucket, source->place.prefix);
    return google_identity(args->wanted->secrets, source->is_emulated, &source->identity, err);
}

static int gcs_open(const struct source_args *args, void **ret_source, struct error *err) {
    struct gcs_source *source = xcalloc(1, sizeof(*source));
    if (open_source(source, args, err) < 0) {
        gcs_close(source);
        return -1;
    }
    *ret_source = source;
    return 0;
}

/* ---- one request ---- */

/* Takes `url`. */
static int make_request(struct gcs_source *source, char *url, struct artifact_request *ret, struct error *err) {
    *ret = (struct artifact_request){.url = url, .is_operators = source->is_emulated};
    forget_token(source);
    if (google_token(source->http, &source->identity, &source->token, err) < 0) {
        artifact_request_release(ret);
        return -1;
    }
    if (source->token != NULL) {
        artifact_request_secret_header(ret, "Authorization: Bearer %s", source->token);
    }
    return 0;
}

/* Whether a refused token was perhaps only an old one: the next request has a new one. */
static bool is_worth_a_new_token(struct gcs_source *source, int status) {
    if (status != 401 || source->token == NULL || source->is_refused || source->identity.kind == GOOGLE_ACCESS_TOKEN) {
        return false;
    }
    source->is_refused = true;
    google_token_drop(&source->identity, source->token);
    return true;
}

static void explain(const struct gcs_source *source, const char *name, const struct artifact_reply *reply, struct error *err) {
    cleanup_free char *shown = xasprintf("%s%s", source->shown, name);
    const char *who = source->token == NULL            ? NULL
                      : source->identity.email != NULL ? source->identity.email
                                                       : source->identity.origin;
    gcs_explain(reply->status, buffer_text(&reply->body), reply->body.len, shown, who, err);
}

static void gcs_explain_file(void *arg, const struct artifact_file *file, const struct artifact_reply *reply, struct error *err) {
    struct gcs_source *source = arg;
    bool is_renewed = is_worth_a_new_token(source, reply->status);
    explain(source, file->name, reply, err);
    if (is_renewed || reply->status == 404) { /* the listing had it */
        err->code = ERROR_UNAVAILABLE;
        err->http_status = error_code_http_status(ERROR_UNAVAILABLE);
        (void)error_wrap(err, is_renewed ? "the access token ended" : "the object was replaced meanwhile");
    }
}

/* ---- the list ---- */

static int ask_page(struct gcs_source *source, const char *page_token, struct artifact_reply *ret, struct error *err) {
    for (;;) {
        struct artifact_request request;
        if (make_request(source, gcs_list_url(source->endpoint, &source->place, page_token), &request, err) < 0) {
            return -1;
        }
        request.body_bytes_max = GCS_PAGE_BYTES_MAX;
        int result = artifact_http_ask(source->http, &request, ret, err);
        artifact_request_release(&request);
        if (result < 0) {
            return -1;
        }
        if (!is_worth_a_new_token(source, ret->status)) {
            return 0;
        }
        artifact_reply_release(ret);
    }
}

static int read_page(struct gcs_source *source, const struct artifact_reply *reply, struct artifact_listing *listing,
                     char **ret_next, struct error *err) {
    if (reply->status != 200) {
        explain(source, "", reply, err);
        return -1;
    }
    return gcs_page_read(buffer_text(&reply->body), reply->body.len, &source->place, &source->filter, listing, ret_next, err);
}

static int read_pages(struct gcs_source *source, struct artifact_listing *listing, struct error *err) {
    cleanup_free char *page_token = NULL;
    for (int page = 0; page < GCS_PAGES_MAX; page++) {
        struct artifact_reply reply = {0};
        char *next = NULL;
        if (ask_page(source, page_token, &reply, err) < 0) {
            return -1;
        }
        int result = read_page(source, &reply, listing, &next, err);
        artifact_reply_release(&reply);
        if (result < 0 || next == NULL) {
            return result;
        }
        free(page_token);
        page_token = next;
    }
    return error_set(err, ERROR_LIMIT, "%s lists more than %d pages of objects", source->shown, GCS_PAGES_MAX);
}

static char *version_of(const struct artifact_listing *listing) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    for (size_t i = 0; i < listing->count; i++) {
        buffer_printf(&text, "%s\n%s\n", listing->files[i].name, listing->files[i].etag);
    }
    char hex[HASH_HEX_BYTES];
    struct hash hash = hash_bytes(buffer_text(&text), text.len);
    hash_hex(&hash, hex);
    return xstrdup(hex);
}

static int gcs_list(void *arg, struct artifact_listing *listing, struct error *err) {
    struct gcs_source *source = arg;
    if (read_pages(source, listing, err) < 0) {
        return -1;
    }
    if (listing->count == 0) {
        return error_set(err, ERROR_NOT_FOUND, "%s holds no %s", source->shown, source_needs(&source->filter));
    }
    listing->version = version_of(listing);
    return 0;
}

static int gcs_request(void *arg, const struct artifact_file *file, struct artifact_request *ret, struct error *err) {
    struct gcs_source *source = arg;
    return make_request(source, gcs_object_url(source->endpoint, source->place.bucket, file->key, file->etag), ret, err);
}

const struct source_type source_gcs = {
    .open = gcs_open,
    .list = gcs_list,
    .request = gcs_request,
    .explain = gcs_explain_file,
    .close = gcs_close,
};
