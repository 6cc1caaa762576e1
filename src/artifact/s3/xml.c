#include "artifact/s3/xml.h"

#include "artifact/percent.h"
#include "artifact/xml.h"
#include "base/alloc.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#define TOKEN_BYTES_MAX 4096
#define ETAG_BYTES_MAX 256

/* ---- pages ---- */

struct page {
    bool is_list;
    bool is_truncated;
    bool is_encoded; /* keys are percent-encoded, with "+" for a space */
    char *next;
    int (*on_object)(void *arg, const struct s3_object *object, struct error *err);
    void *arg;
    struct s3_object object;
    bool has_bytes;
};

static int on_page_leaf(void *arg, const char *path, const char *text, struct error *err) {
    struct page *page = arg;
    page->is_list |= strncmp(path, "ListBucketResult", 16) == 0;
    if (strcmp(path, "ListBucketResult/IsTruncated") == 0) {
        page->is_truncated = strcmp(text, "true") == 0;
    } else if (strcmp(path, "ListBucketResult/EncodingType") == 0) {
        page->is_encoded = strcmp(text, "url") == 0;
    } else if (strcmp(path, "ListBucketResult/NextContinuationToken") == 0) {
        if (strlen(text) > TOKEN_BYTES_MAX) {
            return error_set(err, ERROR_LIMIT, "the listing's continuation token has more than %d bytes", TOKEN_BYTES_MAX);
        }
        free(page->next);
        page->next = xstrdup(text);
    }
    return 0;
}

static int read_bytes(const char *text, uint64_t *ret) {
    size_t len = strlen(text);
    if (len == 0 || len > 19 || strspn(text, "0123456789") != len) {
        return -1;
    }
    *ret = strtoull(text, NULL, 10);
    return 0;
}

static void clear_object(struct page *page) {
    free(page->object.key);
    free(page->object.etag);
    page->object = (struct s3_object){0};
    page->has_bytes = false;
}

static int on_object_leaf(void *arg, const char *path, const char *text, struct error *err) {
    struct page *page = arg;
    if (strcmp(path, "ListBucketResult/Contents/Key") == 0) {
        free(page->object.key);
        page->object.key = page->is_encoded ? percent_decode(text, strlen(text), true) : xstrdup(text);
        if (page->object.key == NULL || strlen(page->object.key) > S3_KEY_BYTES_MAX) {
            return error_set(err, ERROR_INVALID, "the listing has a key that is none");
        }
    } else if (strcmp(path, "ListBucketResult/Contents/ETag") == 0 && strlen(text) <= ETAG_BYTES_MAX) {
        free(page->object.etag);
        page->object.etag = xstrdup(text);
    } else if (strcmp(path, "ListBucketResult/Contents/Size") == 0) {
        page->has_bytes = read_bytes(text, &page->object.bytes) == 0;
    }
    return 0;
}

static int on_object_end(void *arg, const char *path, struct error *err) {
    struct page *page = arg;
    if (strcmp(path, "ListBucketResult/Contents") != 0) {
        return 0;
    }
    if (page->object.key == NULL || !page->has_bytes) {
        return error_set(err, ERROR_INVALID, "the listing has an object without key or size");
    }
    if (page->object.etag == NULL) {
        page->object.etag = xstrdup("");
    }
    int result = page->on_object(page->arg, &page->object, err);
    clear_object(page);
    return result;
}

int s3_xml_page(const char *text, size_t len, int (*on_object)(void *arg, const struct s3_object *object, struct error *err),
                void *arg, struct s3_page *ret, struct error *err) {
    struct page page = {.on_object = on_object, .arg = arg};
    /* Twice: some servers say only at the end how the keys before are encoded. */
    const struct xml_reader of_page = {.on_leaf = on_page_leaf, .arg = &page};
    const struct xml_reader of_objects = {.on_leaf = on_object_leaf, .on_end = on_object_end, .arg = &page};
    int result = xml_walk(text, len, &of_page, err);
    if (result == 0 && !page.is_list) {
        result = error_set(err, ERROR_INVALID, "expected ListBucketResult");
    }
    if (result == 0) {
        result = xml_walk(text, len, &of_objects, err);
    }
    if (result == 0 && page.is_truncated && (page.next == NULL || page.next[0] == '\0')) {
        result = error_set(err, ERROR_INVALID, "the listing is cut off and says no NextContinuationToken");
    }
    clear_object(&page);
    if (result < 0 || !page.is_truncated) {
        free(page.next);
        page.next = NULL;
    }
    if (result == 0) {
        ret->next = page.next;
    }
    return result;
}

void s3_page_release(struct s3_page *page) {
    free(page->next);
    page->next = NULL;
}

/* ---- refusals ---- */

/* Visible ASCII, cut where it does not fit. */
static void copy_words(char *out, size_t size, const char *text) {
    size_t len = 0;
    for (; *text != '\0' && len + 1 < size; text++) {
        out[len++] = (char)(*text >= 0x20 && *text < 0x7f ? *text : '?');
    }
    out[len] = '\0';
}

static int on_refusal_leaf(void *arg, const char *path, const char *text, struct error *err) {
    struct s3_refusal *refusal = arg;
    const struct {
        const char *path;
        char *out;
        size_t size;
    } rows[] = {
        {"Error/Code", refusal->code, sizeof(refusal->code)},
        {"Error/Message", refusal->message, sizeof(refusal->message)},
        {"Error/Region", refusal->region, sizeof(refusal->region)},
        {"ErrorResponse/Error/Code", refusal->code, sizeof(refusal->code)},
        {"ErrorResponse/Error/Message", refusal->message, sizeof(refusal->message)},
    };
    (void)err;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strcmp(path, rows[i].path) == 0) {
            copy_words(rows[i].out, rows[i].size, text);
        }
    }
    return 0;
}

void s3_xml_refusal(const char *text, size_t len, struct s3_refusal *ret) {
    const struct xml_reader reader = {.on_leaf = on_refusal_leaf, .arg = ret};
    *ret = (struct s3_refusal){0};
    if (xml_walk(text, len, &reader, NULL) < 0) {
        *ret = (struct s3_refusal){0};
    }
}

/* ---- STS ---- */

#define ROLE "AssumeRoleWithWebIdentityResponse/AssumeRoleWithWebIdentityResult/Credentials/"

static const char *const role_paths[] = {ROLE "AccessKeyId", ROLE "SecretAccessKey", ROLE "SessionToken", ROLE "Expiration"};

static void set_secret(char **out, const char *text) {
    if (*out != NULL) {
        OPENSSL_cleanse(*out, strlen(*out));
        free(*out);
    }
    *out = text != NULL ? xstrdup(text) : NULL;
}

static int on_role_leaf(void *arg, const char *path, const char *text, struct error *err) {
    char **values = arg;
    (void)err;
    for (size_t i = 0; i < ARRAY_LEN(role_paths); i++) {
        if (strcmp(path, role_paths[i]) == 0) {
            set_secret(&values[i], text);
        }
    }
    return 0;
}

int s3_xml_assumed_role(const char *text, size_t len, char **ret_access_key, char **ret_secret_key, char **ret_session_token,
                        char **ret_expiration, struct error *err) {
    char *values[ARRAY_LEN(role_paths)] = {0};
    const struct xml_reader reader = {.on_leaf = on_role_leaf, .arg = values};
    int result = xml_walk(text, len, &reader, err);
    for (size_t i = 0; result == 0 && i < ARRAY_LEN(values); i++) {
        if (values[i] == NULL || values[i][0] == '\0') {
            result = error_set(err, ERROR_INVALID, "the answer has no %s", strrchr(role_paths[i], '/') + 1);
        }
    }
    if (result < 0) {
        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
            set_secret(&values[i], NULL);
        }
        return -1;
    }
    *ret_access_key = values[0];
    *ret_secret_key = values[1];
    *ret_session_token = values[2];
    *ret_expiration = values[3];
    return 0;
}
