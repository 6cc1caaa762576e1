#include "controller/route_objects.h"

#include "adapter/names.h"
#include "controller/objects.h"
#include "kube/client.h"

#include <string.h>

#define PATH_BYTES_MAX 1024

static const char *const default_paths[] = {
    "/v1/completions",        "/v1/chat/completions",
    "/v1/responses",          "/v1/messages",
    "/v1/embeddings",         "/v1/rerank",
    "/v1/classify",           "/generate",
    "/generatevideo",         "/v1/audio/transcriptions",
    "/v1/audio/translations",
};

char *route_name(const char *adapter) {
    return xasprintf("%s-router", adapter);
}

char *route_grant_name(const struct route_options *options, const char *adapters_namespace) {
    return xasprintf("%s-reserved-referencegrant-in-%s", options->gateway_namespace, adapters_namespace);
}

/* ---- paths ---- */

/* What Gateway API takes as a prefix (HTTPPathMatch): one path that it refuses would cost the whole route. */
static bool is_path(const char *path) {
    static const char *const refused[] = {"//", "/./", "/../", "%2f", "%2F"};
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/._~!$&'()*+,;=:@";
    size_t len = strlen(path);
    bool is_good = path[0] == '/' && len <= PATH_BYTES_MAX && strspn(path, letters) == len;
    for (size_t i = 0; is_good && i < ARRAY_LEN(refused); i++) {
        is_good = strstr(path, refused[i]) == NULL;
    }
    bool ends_in_dots = (len >= 2 && strcmp(path + len - 2, "/.") == 0) || (len >= 3 && strcmp(path + len - 3, "/..") == 0);
    return is_good && !ends_in_dots;
}

static bool has_path(const json_t *matches, const char *path) {
    for (size_t i = 0; i < json_array_size(matches); i++) {
        if (strcmp(json_string_at(json_array_get(matches, i), "path.value", ""), path) == 0) {
            return true;
        }
    }
    return false;
}

static void add_match(json_t *matches, const char *model, const char *path) {
    if (json_array_size(matches) < ROUTE_MATCHES_MAX && !has_path(matches, path)) {
        json_array_append_new(matches, json_pack("{s:{s:s, s:s}, s:[{s:s, s:s, s:s}]}", "path", "type", "PathPrefix", "value", path,
                                                 "headers", "type", "Exact", "name", "model", "value", model));
    }
}

static void add_custom_paths(json_t *matches, const char *model, const char *text) {
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        cleanup_buffer struct buffer path = BUFFER_INIT;
        for (size_t i = 0; i < len; i++) {
            if (strchr(" \t\n", text[i]) == NULL) {
                buffer_append_char(&path, text[i]);
            }
        }
        if (is_path(buffer_text(&path))) {
            add_match(matches, model, buffer_text(&path));
        }
        text += len + (text[len] == ',');
    }
}

static json_t *render_matches(const json_t *adapter) {
    const char *model = kube_name(adapter);
    json_t *matches = json_array();
    for (size_t i = 0; i < ARRAY_LEN(default_paths); i++) {
        add_match(matches, model, default_paths[i]);
    }
    const char *custom = json_string_value(json_object_get(json_at(adapter, "metadata.annotations"), ANNOTATION_CUSTOM_PATHS));
    add_custom_paths(matches, model, custom != NULL ? custom : "");
    return matches;
}

/* ---- the objects ---- */

/* A Gateway API duration (GEP-2257). */
static char *duration(int64_t ms) {
    return ms % 1000 == 0 ? xasprintf("%llds", (long long)(ms / 1000)) : xasprintf("%lldms", (long long)ms);
}

json_t *route_render(const struct route_options *options, const json_t *adapter, int port) {
    cleanup_free char *name = route_name(kube_name(adapter));
    cleanup_free char *timeout = duration(options->timeout_ms);
    json_t *metadata =
        json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:{s:s}}", "name", name, "namespace", options->gateway_namespace, "labels",
                  LABEL_APP_MANAGED_BY, MANAGED_BY, LABEL_ADAPTER_NAME, kube_name(adapter), LABEL_ADAPTER_NAMESPACE,
                  kube_namespace(adapter), "annotations", ANNOTATION_ADAPTER_UID, kube_uid(adapter));
    if (strcmp(kube_namespace(adapter), options->gateway_namespace) == 0) {
        json_object_set_new(metadata, "ownerReferences", json_pack("[o]", kube_owner_reference(adapter)));
    }
    json_t *parents = json_pack("[{s:s, s:s}]", "name", options->gateway_name, "namespace", options->gateway_namespace);
    json_t *backends =
        json_pack("[{s:s, s:s, s:i}]", "name", kube_name(adapter), "namespace", kube_namespace(adapter), "port", port);
    json_t *rules = json_pack("[{s:o, s:o, s:{s:s}}]", "matches", render_matches(adapter), "backendRefs", backends, "timeouts",
                              "request", timeout);
    return json_pack("{s:s, s:s, s:o, s:{s:o, s:o}}", "apiVersion", "gateway.networking.k8s.io/v1", "kind", "HTTPRoute", "metadata",
                     metadata, "spec", "parentRefs", parents, "rules", rules);
}

json_t *route_grant_render(const struct route_options *options, const char *adapters_namespace) {
    cleanup_free char *name = route_grant_name(options, adapters_namespace);
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:{s:[{s:s, s:s, s:s}], s:[{s:s, s:s}]}}", "apiVersion",
                     "gateway.networking.k8s.io/v1beta1", "kind", "ReferenceGrant", "metadata", "name", name, "namespace",
                     adapters_namespace, "labels", LABEL_APP_MANAGED_BY, MANAGED_BY, "spec", "from", "group",
                     "gateway.networking.k8s.io", "kind", "HTTPRoute", "namespace", options->gateway_namespace, "to", "group", "",
                     "kind", "Service");
}

/* Adds to the patch the wanted members of `parent` that the found object lacks. */
static void patch_members(json_t *patch, const char *parent, const json_t *wanted, const json_t *found) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(wanted, parent), key, value) {
        if (!objects_covers(json_object_get(json_object_get(found, parent), key), value)) {
            if (json_object_get(patch, parent) == NULL) {
                json_object_set_new(patch, parent, json_object());
            }
            json_object_set(json_object_get(patch, parent), key, value);
        }
    }
}

json_t *route_patch(const json_t *wanted, const json_t *found) {
    json_t *patch = json_object();
    patch_members(patch, "metadata", wanted, found);
    patch_members(patch, "spec", wanted, found);
    if (json_object_size(patch) == 0) {
        json_decref(patch);
        return NULL;
    }
    if (json_object_get(patch, "metadata") == NULL) {
        json_object_set_new(patch, "metadata", json_object());
    }
    json_object_set_new(json_object_get(patch, "metadata"), "resourceVersion", json_string(kube_resource_version(found)));
    return patch;
}

/* ---- whose ---- */

static const char *label(const json_t *object, const char *name) {
    const char *value = json_string_value(json_object_get(json_at(object, "metadata.labels"), name));
    return value != NULL ? value : "";
}

bool route_grant_is_ours(const json_t *grant) {
    return strcmp(label(grant, LABEL_APP_MANAGED_BY), MANAGED_BY) == 0;
}

char *route_adapter_key(const json_t *route) {
    const char *namespace = label(route, LABEL_ADAPTER_NAMESPACE), *name = label(route, LABEL_ADAPTER_NAME);
    cleanup_free char *own_name = route_name(name);
    bool is_ours = strcmp(label(route, LABEL_APP_MANAGED_BY), MANAGED_BY) == 0 && namespace[0] != '\0' &&
                   strcmp(own_name, kube_name(route)) == 0;
    return is_ours ? xasprintf("%s/%s", namespace, name) : NULL;
}

static bool has_row(const json_t *rows, const json_t *wanted) {
    for (size_t i = 0; i < json_array_size(rows); i++) {
        if (objects_covers(json_array_get(rows, i), wanted)) {
            return true;
        }
    }
    return false;
}

bool route_grant_allows(const struct route_options *options, const json_t *grant) {
    cleanup_json json_t *wanted = route_grant_render(options, kube_namespace(grant));
    return has_row(json_at(grant, "spec.from"), json_array_get(json_at(wanted, "spec.from"), 0)) &&
           has_row(json_at(grant, "spec.to"), json_array_get(json_at(wanted, "spec.to"), 0));
}
