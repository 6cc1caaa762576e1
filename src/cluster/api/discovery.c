#include "cluster/api/discovery.h"

#include "base/hash.h"
#include "cluster/api/documents.h"

#include <string.h>

#define DOCUMENTS_MAX 64
#define GROUPS_MAX 16
#define AGGREGATED_TYPE "application/json;g=apidiscovery.k8s.io;v=%s;as=APIGroupDiscoveryList"

struct document {
    char *path;
    const char *accept_version; /* only for an Accept that asks for this version of aggregated discovery; NULL = any */
    char *content_type;
    char *text;
    size_t len;
    char etag[HASH_HEX_BYTES + 2];
};

struct discovery {
    struct document documents[DOCUMENTS_MAX]; /* the first that fits is sent */
    size_t count;
};

/* The smallest OpenAPI v2 document with which kubectl <= 1.28 applies and creates: swagger "2.0", info
 * {"Davit","v1"}, paths {}. */
static const char openapi_v2[] = "\x0a\x03"
                                 "2.0"
                                 "\x12\x0b\x0a\x05"
                                 "Davit"
                                 "\x12\x02"
                                 "v1"
                                 "\x42\x00";

static struct document *add_bytes(struct discovery *discovery, const char *path, const char *content_type, const char *bytes,
                                  size_t len) {
    if (discovery->count == DOCUMENTS_MAX) {
        abort();
    }
    struct document *document = &discovery->documents[discovery->count++];
    document->path = xstrdup(path);
    document->content_type = xstrdup(content_type);
    document->text = xmalloc(len + 1);
    memcpy(document->text, bytes, len);
    document->text[len] = '\0';
    document->len = len;
    struct hash hash = hash_bytes(bytes, len);
    char hex[HASH_HEX_BYTES];
    hash_hex(&hash, hex);
    (void)snprintf(document->etag, sizeof(document->etag), "\"%s\"", hex);
    return document;
}

static struct document *add(struct discovery *discovery, const char *path, const char *content_type, json_t *value) {
    cleanup_free char *text = json_text(value);
    json_decref(value);
    return add_bytes(discovery, path, content_type, text, strlen(text));
}

static void add_aggregated(struct discovery *discovery, const char *path, bool is_core) {
    static const char *const versions[] = {"v2", "v2beta1"};
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        cleanup_free char *type = xasprintf(AGGREGATED_TYPE, versions[i]);
        add(discovery, path, type, document_aggregated(is_core, versions[i]))->accept_version = versions[i];
    }
}

static void add_group_version(struct discovery *discovery, const struct group_version *gv, json_t *openapi_paths) {
    cleanup_free char *base = document_openapi_path(gv);
    cleanup_free char *path = xasprintf("/%s", base);
    add(discovery, path, "application/json", document_api_resource_list(gv));
    if (*gv->group != '\0') {
        cleanup_free char *group_path = xasprintf("/apis/%s", gv->group);
        add(discovery, group_path, "application/json", document_api_group(gv));
    }
    cleanup_free char *openapi_path = xasprintf("/openapi/v3/%s", base);
    const struct document *openapi = add(discovery, openapi_path, "application/json", document_openapi(gv));
    json_object_set_new(openapi_paths, base,
                        json_pack("{s:o}", "serverRelativeURL", json_sprintf("%s?hash=%.64s", openapi_path, openapi->etag + 1)));
}

struct discovery *discovery_new(void) {
    struct discovery *discovery = xcalloc(1, sizeof(*discovery));
    add_aggregated(discovery, "/api", true);
    add_aggregated(discovery, "/apis", false);
    add(discovery, "/api", "application/json", document_api_versions());
    add(discovery, "/apis", "application/json", document_api_group_list());
    add(discovery, "/version", "application/json", document_version());
    struct group_version all[GROUPS_MAX];
    size_t count = documents_group_versions(all, ARRAY_LEN(all));
    json_t *openapi_paths = json_object();
    for (size_t i = 0; i < count; i++) {
        add_group_version(discovery, &all[i], openapi_paths);
    }
    add(discovery, "/openapi/v3", "application/json", json_pack("{s:o}", "paths", openapi_paths));
    add_bytes(discovery, "/openapi/v2", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", openapi_v2,
              sizeof(openapi_v2) - 1);
    return discovery;
}

void discovery_free(struct discovery *discovery) {
    if (discovery == NULL) {
        return;
    }
    for (size_t i = 0; i < discovery->count; i++) {
        free(discovery->documents[i].path);
        free(discovery->documents[i].content_type);
        free(discovery->documents[i].text);
    }
    free(discovery);
}

/* v2 is looked for before v2beta1: the table has it first, and clients that ask for both prefer it. */
static bool accepts(const struct document *document, const char *accept) {
    if (document->accept_version == NULL) {
        return true;
    }
    if (accept == NULL) {
        return false;
    }
    cleanup_free char *wanted = xasprintf("v=%s;as=APIGroupDiscoveryList", document->accept_version);
    return strstr(accept, wanted) != NULL;
}

bool discovery_serve(const struct discovery *discovery, struct http_request *request) {
    const struct http_head *head = http_request_head(request);
    if (strcmp(head->method, "GET") != 0) {
        return false;
    }
    size_t len = strlen(head->path);
    len -= len > 1 && head->path[len - 1] == '/' ? 1 : 0;
    const char *accept = http_fields_get(&head->fields, "Accept");
    for (size_t i = 0; i < discovery->count; i++) {
        const struct document *document = &discovery->documents[i];
        if (strlen(document->path) != len || strncmp(document->path, head->path, len) != 0 || !accepts(document, accept)) {
            continue;
        }
        const char *known = http_fields_get(&head->fields, "If-None-Match");
        http_request_on_gone(request, NULL, NULL);
        http_reply_field(request, "ETag", document->etag);
        http_reply_field(request, "Vary", "Accept");
        if (known != NULL && strstr(known, document->etag) != NULL) {
            http_reply(request, 304, NULL, NULL, 0);
        } else {
            http_reply(request, 200, document->content_type, document->text, document->len);
        }
        return true;
    }
    return false;
}
