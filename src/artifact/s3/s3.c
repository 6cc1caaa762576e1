/* s3:// and tos://: the objects right in a folder of a bucket, each pinned to the ETag that it has when it is listed.
 *
 * A listing says too little (whether an ETag is an MD5, what checksum there is) and needs another right than reading does. So each
 * file is asked for with HEAD too: whoever may list and not read is refused before a cache could answer. */
#include "artifact/gcs/google_base64.h"
#include "artifact/s3/api.h"
#include "artifact/s3/explain.h"
#include "artifact/s3/regions.h"
#include "artifact/s3/xml.h"
#include "artifact/source.h"

#include "base/clock.h"

#include <string.h>
#include <strings.h>

#define ASKS_MAX 4           /* of one question: another region, new keys */
#define PARTS_RENEWED_MAX 16 /* that were under way with keys that ended */
#define ETAG_BYTES_MAX 256

struct s3_source {
    struct source_filter filter;
    struct artifact_http *http;
    struct s3_place place;
    char *shown; /* "s3://bucket/folder/" */
    struct s3_server server;
    char *region;
    struct aws_identity identity;
    struct aws_keys keys; /* of the last request */
    int renewals;         /* keys were refused that there may be others for */
};

static void s3_close(void *arg) {
    struct s3_source *source = arg;
    s3_place_release(&source->place);
    s3_server_release(&source->server);
    aws_identity_release(&source->identity);
    aws_keys_release(&source->keys);
    free(source->region);
    free(source->shown);
    free(source);
}

/* ---- opening ---- */

static int find_identity(struct s3_source *source, const struct artifact_secrets *secrets, const struct aws_profile *profile,
                         struct error *err) {
    const struct aws_key_names *names = source->place.is_tos ? &aws_key_names_tos : &aws_key_names_s3;
    int result = aws_identity_of_secrets(secrets, names, &source->identity, err);
    if (result != 0) {
        return result < 0 ? -1 : 0;
    }
    if (source->server.is_adapters) {
        source->identity = (struct aws_identity){
            .kind = AWS_NOBODY, .origin = xstrdup("an adapter that names the server it comes from brings its keys too")};
        return 0;
    }
    return aws_identity_of_process(names, profile, source->server.region, &source->identity, err);
}

static int open_with(struct s3_source *source, const struct artifact_secrets *secrets, const struct aws_profile *profile,
                     struct error *err) {
    if (s3_server_find(source->place.is_tos, secrets, profile, &source->server, err) < 0 ||
        find_identity(source, secrets, profile, err) < 0) {
        return -1;
    }
    source->region = s3_region_known(source->server.origin != NULL ? source->server.origin : "", source->place.bucket);
    if (source->region == NULL) {
        source->region = xstrdup(source->server.region);
    }
    return 0;
}

static int open_source(struct s3_source *source, const struct source_args *args, struct error *err) {
    const struct artifact_wanted *wanted = args->wanted;
    struct aws_profile profile = {0};
    source->filter = source_filter_of(args->options, wanted);
    source->http = args->http;
    if (s3_place_parse(wanted->url, &source->place, err) < 0) {
        return -1;
    }
    source->shown = xasprintf("%s://%s/%s", source->place.is_tos ? "tos" : "s3", source->place.bucket, source->place.prefix);
    if (wanted->revision != NULL && *wanted->revision != '\0') {
        return error_set(
            err, ERROR_UNSUPPORTED,
            "an adapter in a bucket is several objects, each with versions of its own: expected no revision, found \"%.64s\"",
            wanted->revision);
    }
    if (source->place.is_tos) {
        return open_with(source, wanted->secrets, NULL, err);
    }
    if (aws_profile_load(&profile, err) < 0) {
        return -1;
    }
    int result = open_with(source, wanted->secrets, &profile, err);
    aws_profile_release(&profile);
    return result;
}

static int s3_open(const struct source_args *args, void **ret_source, struct error *err) {
    struct s3_source *source = xcalloc(1, sizeof(*source));
    if (open_source(source, args, err) < 0) {
        s3_close(source);
        return -1;
    }
    *ret_source = source;
    return 0;
}

/* ---- one request ---- */

/* key NULL = the bucket. */
static int make_request(struct s3_source *source, const char *method, const char *key, const char *query,
                        struct artifact_request *ret, struct error *err) {
    struct s3_target target;
    aws_keys_release(&source->keys);
    if (aws_identity_keys(source->http, &source->identity, &source->keys, err) < 0) {
        return -1;
    }
    s3_target_init(&source->server, source->place.bucket, source->region, key, &target);
    s3_request_init(method, &target, query, source->region, &source->keys, clock_wall_ms(), ret);
    ret->is_operators = source->server.origin != NULL && !source->server.is_adapters;
    s3_target_release(&target);
    return 0;
}

/* Whether the answer says that the bucket is in another region than the request was for: then the next one is for that. */
static bool learn_region(struct s3_source *source, const struct artifact_reply *reply, const struct s3_refusal *refusal) {
    cleanup_free char *field = artifact_reply_field(reply, "x-amz-bucket-region");
    const char *region = field != NULL && *field != '\0' ? field : refusal->region;
    bool is_another = s3_region_is_valid(region) && strcmp(region, source->region) != 0;
    if (!is_another || reply->status < 300 || reply->status >= 500) {
        return false;
    }
    s3_region_learn(source->server.origin != NULL ? source->server.origin : "", source->place.bucket, region);
    free(source->region);
    source->region = xstrdup(region);
    return true;
}

/* Whether keys were refused that were lent for a while, and there may be others. */
static bool renew_keys(struct s3_source *source, int renewals_max, int status, const struct s3_refusal *refusal) {
    bool is_worth_it =
        source->renewals < renewals_max && s3_is_expiry(status, refusal) && aws_identity_drop(&source->identity, &source->keys);
    source->renewals += is_worth_it;
    return is_worth_it;
}

/* The answer to one question, in whatever region and with whatever keys. */
static int ask(struct s3_source *source, const char *method, const char *key, const char *query, struct artifact_reply *ret,
               struct s3_refusal *ret_refusal, struct error *err) {
    for (int asks = 1;; asks++) {
        struct artifact_request request;
        if (make_request(source, method, key, query, &request, err) < 0) {
            return -1;
        }
        int result = artifact_http_ask(source->http, &request, ret, err);
        artifact_request_release(&request);
        if (result < 0) {
            return -1;
        }
        *ret_refusal = (struct s3_refusal){0};
        if (ret->status != 200) {
            s3_xml_refusal(buffer_text(&ret->body), ret->body.len, ret_refusal);
        }
        bool is_worth_another = ret->status != 200 && asks < ASKS_MAX &&
                                (learn_region(source, ret, ret_refusal) || renew_keys(source, 1, ret->status, ret_refusal));
        if (!is_worth_another) {
            return 0;
        }
        artifact_reply_release(ret);
    }
}

static int explain(const struct s3_source *source, const char *name, bool is_listing, const struct artifact_reply *reply,
                   const struct s3_refusal *refusal, struct error *err) {
    cleanup_free char *shown = xasprintf("%s%s", source->shown, name);
    const struct s3_question question = {
        .shown = shown, .origin = source->identity.origin, .keys = &source->keys, .is_listing = is_listing};
    return s3_explain(reply->status, refusal, &question, err);
}

/* ---- the list ---- */

struct reading {
    struct s3_source *source;
    struct artifact_listing *listing;
};

static int add_file(struct reading *reading, const char *name, struct error *err) {
    struct artifact_file *file = source_add_file(reading->listing, name, err);
    if (file == NULL) {
        return -1;
    }
    file->key = xasprintf("%s%s", reading->source->place.prefix, name);
    return 0;
}

static int on_object(void *arg, const struct s3_object *object, struct error *err) {
    struct reading *reading = arg;
    const char *prefix = reading->source->place.prefix;
    size_t prefix_len = strlen(prefix);
    if (strncmp(object->key, prefix, prefix_len) != 0 || !source_is_needed(object->key + prefix_len, &reading->source->filter)) {
        return 0;
    }
    return add_file(reading, object->key + prefix_len, err);
}

static int read_page(struct reading *reading, const char *token, struct s3_page *ret, struct error *err) {
    struct s3_source *source = reading->source;
    struct artifact_reply reply = {0};
    struct s3_refusal refusal;
    cleanup_free char *query = s3_list_query(source->place.prefix, token);
    if (ask(source, "GET", NULL, query, &reply, &refusal, err) < 0) {
        return -1;
    }
    int result = 0;
    if (reply.status != 200) {
        result = explain(source, "", true, &reply, &refusal, err);
    } else if (s3_xml_page(buffer_text(&reply.body), reply.body.len, on_object, reading, ret, err) < 0) {
        result = error_wrap(err, "%s: the listing", source->shown);
    }
    artifact_reply_release(&reply);
    return result;
}

static int read_pages(struct reading *reading, struct error *err) {
    cleanup_free char *token = NULL;
    for (int pages = 0; pages < S3_PAGES_MAX; pages++) {
        struct s3_page page = {0};
        if (read_page(reading, token, &page, err) < 0) {
            return -1;
        }
        if (page.next == NULL) {
            return 0;
        }
        free(token);
        token = page.next;
    }
    return error_set(err, ERROR_LIMIT, "%s lists more than %d pages of objects", reading->source->shown, S3_PAGES_MAX);
}

/* ---- what is known of a file ---- */

static bool is_number(const char *text) {
    size_t len = strlen(text);
    return len > 0 && len <= 19 && strspn(text, "0123456789") == len;
}

static bool is_etag(const char *text) {
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= 0x20 || text[i] >= 0x7f) {
            return false;
        }
    }
    return len > 0 && len <= ETAG_BYTES_MAX;
}

/* An ETag is the MD5 of what was put at once, unless a key was involved that the store shares with somebody. */
static void read_md5(const struct artifact_reply *reply, struct artifact_file *file) {
    static const char digits[] = "0123456789abcdefABCDEF";
    cleanup_free char *encryption = artifact_reply_field(reply, "x-amz-server-side-encryption");
    cleanup_free char *customers = artifact_reply_field(reply, "x-amz-server-side-encryption-customer-algorithm");
    const char *etag = file->etag;
    bool is_keyed = customers != NULL || (encryption != NULL && strncasecmp(encryption, "aws:kms", 7) == 0);
    if (!is_keyed && strlen(etag) == 34 && etag[0] == '"' && etag[33] == '"' && strspn(etag + 1, digits) == 32) {
        (void)snprintf(file->md5, sizeof(file->md5), "%.32s", etag + 1);
    }
}

/* Of the whole object: one that was put in parts has a checksum of checksums, "...-3". */
static void read_checksums(const struct artifact_reply *reply, struct artifact_file *file) {
    cleanup_free char *type = artifact_reply_field(reply, "x-amz-checksum-type");
    cleanup_free char *sha256 = artifact_reply_field(reply, "x-amz-checksum-sha256");
    cleanup_free char *crc32c = artifact_reply_field(reply, "x-amz-checksum-crc32c");
    if (type != NULL && strcasecmp(type, "FULL_OBJECT") != 0) {
        return;
    }
    if (sha256 != NULL && !google_base64_to_hex(sha256, HASH_BYTES, file->sha256)) {
        file->sha256[0] = '\0';
    }
    if (crc32c != NULL && !google_base64_to_hex(crc32c, 4, file->crc32c)) {
        file->crc32c[0] = '\0';
    }
}

static int read_head(const struct s3_source *source, const struct artifact_reply *reply, struct artifact_file *file,
                     struct error *err) {
    cleanup_free char *length = artifact_reply_field(reply, "content-length");
    char *etag = artifact_reply_field(reply, "etag");
    if (etag == NULL || !is_etag(etag) || length == NULL || !is_number(length)) {
        free(etag);
        return error_set(err, ERROR_INVALID, "%s%s: the server says no size or ETag", source->shown, file->name);
    }
    file->etag = etag;
    file->bytes = strtoull(length, NULL, 10);
    read_md5(reply, file);
    read_checksums(reply, file);
    return 0;
}

static int ask_head(struct s3_source *source, struct artifact_file *file, struct error *err) {
    struct artifact_reply reply = {0};
    struct s3_refusal refusal;
    if (ask(source, "HEAD", file->key, "", &reply, &refusal, err) < 0) {
        return -1;
    }
    int result =
        reply.status == 200 ? read_head(source, &reply, file, err) : explain(source, file->name, false, &reply, &refusal, err);
    artifact_reply_release(&reply);
    return result;
}

static int ask_heads(struct s3_source *source, struct artifact_listing *listing, struct error *err) {
    for (size_t i = 0; i < listing->count; i++) {
        if (ask_head(source, &listing->files[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Who may read and not list has an adapter's two files all the same. `err` says why it is not listed. */
static int read_without_list(struct reading *reading, struct error *err) {
    struct error refusal = *err;
    artifact_listing_release(reading->listing);
    if (add_file(reading, "adapter_config.json", err) < 0 || add_file(reading, "adapter_model.safetensors", err) < 0 ||
        ask_heads(reading->source, reading->listing, err) < 0) {
        *err = refusal;
        return -1;
    }
    return 0;
}

static char *version_of(const struct artifact_listing *listing) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    for (size_t i = 0; i < listing->count; i++) {
        const struct artifact_file *file = &listing->files[i];
        buffer_printf(&text, "%s\n%llu\n%s\n", file->key, (unsigned long long)file->bytes, file->etag);
    }
    char hex[HASH_HEX_BYTES];
    struct hash hash = hash_bytes(buffer_text(&text), text.len);
    hash_hex(&hash, hex);
    return xstrdup(hex);
}

static int s3_list(void *arg, struct artifact_listing *listing, struct error *err) {
    struct reading reading = {.source = arg, .listing = listing};
    int result = read_pages(&reading, err);
    if (result == 0 && listing->count == 0) {
        return error_set(err, ERROR_NOT_FOUND, "%s holds no %s", reading.source->shown, source_needs(&reading.source->filter));
    }
    if (result < 0 && (err->code != ERROR_DENIED || reading.source->filter.model_suffixes != NULL)) {
        return -1;
    }
    result = result == 0 ? ask_heads(reading.source, listing, err) : read_without_list(&reading, err);
    if (result == 0) {
        listing->version = version_of(listing);
    }
    return result;
}

/* ---- files ---- */

static int s3_request(void *arg, const struct artifact_file *file, struct artifact_request *ret, struct error *err) {
    if (make_request(arg, "GET", file->key, "", ret, err) < 0) {
        return -1;
    }
    artifact_request_header(ret, "If-Match: %s", file->etag);
    return 0;
}

static void s3_explain_file(void *arg, const struct artifact_file *file, const struct artifact_reply *reply, struct error *err) {
    struct s3_source *source = arg;
    struct s3_refusal refusal;
    s3_xml_refusal(buffer_text(&reply->body), reply->body.len, &refusal);
    (void)explain(source, file->name, false, reply, &refusal, err);
    if (learn_region(source, reply, &refusal) || renew_keys(source, PARTS_RENEWED_MAX, reply->status, &refusal)) {
        err->code = ERROR_UNAVAILABLE;
        err->http_status = error_code_http_status(ERROR_UNAVAILABLE);
    }
}

const struct source_type source_s3 = {
    .open = s3_open,
    .list = s3_list,
    .request = s3_request,
    .explain = s3_explain_file,
    .close = s3_close,
};
