/* What every Kubernetes object has: names, versions, owners; and the paths at which objects live. */
#include "kube/client.h"

#include "io/http.h"

#include <stdio.h>
#include <string.h>

#define RESOURCE(variable, group_, version_, plural_, kind_, namespaced_)                                                          \
    const struct kube_resource variable = {                                                                                        \
        .group = group_, .version = version_, .plural = plural_, .kind = kind_, .is_namespaced = namespaced_}

RESOURCE(kube_pods, "", "v1", "pods", "Pod", true);
RESOURCE(kube_services, "", "v1", "services", "Service", true);
RESOURCE(kube_secrets, "", "v1", "secrets", "Secret", true);
RESOURCE(kube_config_maps, "", "v1", "configmaps", "ConfigMap", true);
RESOURCE(kube_events, "", "v1", "events", "Event", true);
RESOURCE(kube_nodes, "", "v1", "nodes", "Node", false);
RESOURCE(kube_namespaces, "", "v1", "namespaces", "Namespace", false);
RESOURCE(kube_deployments, "apps", "v1", "deployments", "Deployment", true);
RESOURCE(kube_replicasets, "apps", "v1", "replicasets", "ReplicaSet", true);
RESOURCE(kube_endpoint_slices, "discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true);
RESOURCE(kube_leases, "coordination.k8s.io", "v1", "leases", "Lease", true);
RESOURCE(kube_model_adapters, "model.aibrix.ai", "v1alpha1", "modeladapters", "ModelAdapter", true);
RESOURCE(kube_http_routes, "gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute", true);
RESOURCE(kube_reference_grants, "gateway.networking.k8s.io", "v1beta1", "referencegrants", "ReferenceGrant", true);

char *kube_path(const struct kube_resource *resource, const char *namespace, const char *name, const char *subresource) {
    struct buffer path = BUFFER_INIT;
    if (resource->group[0] == '\0') {
        buffer_printf(&path, "/api/%s", resource->version);
    } else {
        buffer_printf(&path, "/apis/%s/%s", resource->group, resource->version);
    }
    if (resource->is_namespaced && namespace != NULL) {
        buffer_append_text(&path, "/namespaces/");
        http_append_percent_encoded(&path, namespace);
    }
    buffer_printf(&path, "/%s", resource->plural);
    if (name != NULL) {
        buffer_append_char(&path, '/');
        http_append_percent_encoded(&path, name);
    }
    if (subresource != NULL) {
        buffer_printf(&path, "/%s", subresource);
    }
    return buffer_take(&path);
}

char *kube_api_version(const struct kube_resource *resource) {
    return resource->group[0] == '\0' ? xstrdup(resource->version) : xasprintf("%s/%s", resource->group, resource->version);
}

/* In the order in which a record has them, each with a NUL behind it. */
enum identity { IDENTITY_NAMESPACE, IDENTITY_NAME, IDENTITY_UID, IDENTITY_RESOURCE_VERSION, IDENTITY_COUNT };

static const char *identity_of(const json_t *object, enum identity which) {
    static const char *const paths[] = {"metadata.namespace", "metadata.name", "metadata.uid", "metadata.resourceVersion"};
    const char *at = json_string_value(object);
    if (at == NULL) {
        return json_string_at(object, paths[which], "");
    }
    for (int i = 0; i < (int)which; i++) {
        at += strlen(at) + 1;
    }
    return at;
}

json_t *kube_record(const json_t *object, const void *rest, size_t len) {
    cleanup_buffer struct buffer bytes = BUFFER_INIT;
    for (int i = 0; i < IDENTITY_COUNT; i++) {
        const char *text = identity_of(object, (enum identity)i);
        buffer_append(&bytes, text, strlen(text) + 1);
    }
    buffer_append(&bytes, rest, len);
    return json_stringn_nocheck(bytes.data, bytes.len); /* no text: nobody writes it down */
}

const char *kube_record_rest(const json_t *record, size_t *ret_len) {
    if (!json_is_string(record)) {
        return NULL;
    }
    const char *last = identity_of(record, IDENTITY_RESOURCE_VERSION), *rest = last + strlen(last) + 1;
    *ret_len = json_string_length(record) - (size_t)(rest - json_string_value(record));
    return rest;
}

const char *kube_name(const json_t *object) {
    return identity_of(object, IDENTITY_NAME);
}

const char *kube_namespace(const json_t *object) {
    return identity_of(object, IDENTITY_NAMESPACE);
}

const char *kube_uid(const json_t *object) {
    return identity_of(object, IDENTITY_UID);
}

const char *kube_resource_version(const json_t *object) {
    return identity_of(object, IDENTITY_RESOURCE_VERSION);
}

bool kube_is_deleting(const json_t *object) {
    return json_is_string(json_at(object, "metadata.deletionTimestamp"));
}

json_t *kube_owner_reference(const json_t *owner) {
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "apiVersion", json_string_at(owner, "apiVersion", ""), "kind",
                     json_string_at(owner, "kind", ""), "name", kube_name(owner), "uid", kube_uid(owner), "controller", 1,
                     "blockOwnerDeletion", 1);
}

const char *kube_controller_uid(const json_t *object) {
    size_t index = 0;
    json_t *reference = NULL;
    json_array_foreach(json_at(object, "metadata.ownerReferences"), index, reference) {
        if (json_is_true(json_object_get(reference, "controller"))) {
            return json_string_at(reference, "uid", "");
        }
    }
    return "";
}

bool kube_is_controlled_by(const json_t *object, const json_t *owner) {
    const char *uid = kube_controller_uid(object);
    return uid[0] != '\0' && strcmp(uid, kube_uid(owner)) == 0;
}
