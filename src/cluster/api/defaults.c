#include "cluster/api/defaults.h"

#include "adapter/model_adapter.h"

#include "cluster/api/object.h"

#include <openssl/evp.h>
#include <string.h>

static void default_string(json_t *object, const char *member, const char *value) {
    json_default(object, member, json_string(value));
}

static void default_int(json_t *object, const char *member, int64_t value) {
    json_default(object, member, json_integer(value));
}

/* ---- pods ---- */

static void default_probe(json_t *container, const char *member) {
    json_t *probe = json_object_get(container, member);
    if (!json_is_object(probe)) {
        return;
    }
    default_int(probe, "timeoutSeconds", 1);
    default_int(probe, "periodSeconds", 10);
    default_int(probe, "successThreshold", 1);
    default_int(probe, "failureThreshold", 3);
    json_t *http = json_object_get(probe, "httpGet");
    if (json_is_object(http)) {
        default_string(http, "scheme", "HTTP");
        default_string(http, "path", "/");
    }
}

static const char *pull_policy(const char *image) {
    const char *slash = strrchr(image, '/');
    const char *tag = strchr(slash != NULL ? slash : image, ':');
    bool has_digest = strchr(image, '@') != NULL;
    return !has_digest && (tag == NULL || strcmp(tag, ":latest") == 0) ? "Always" : "IfNotPresent";
}

static void default_container(json_t *container) {
    if (!json_is_object(container)) {
        return;
    }
    default_string(container, "terminationMessagePath", "/dev/termination-log");
    default_string(container, "terminationMessagePolicy", "File");
    default_string(container, "imagePullPolicy", pull_policy(json_string_at(container, "image", "")));
    (void)json_default_object(container, "resources");
    default_probe(container, "livenessProbe");
    default_probe(container, "readinessProbe");
    default_probe(container, "startupProbe");
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(json_object_get(container, "ports"), i, item) {
        if (json_is_object(item)) {
            default_string(item, "protocol", "TCP");
        }
    }
    json_array_foreach(json_object_get(container, "env"), i, item) {
        json_t *field = json_at(item, "valueFrom.fieldRef");
        if (json_is_object(field)) {
            default_string(field, "apiVersion", "v1");
        }
    }
}

static void default_pod_spec(json_t *spec) {
    if (!json_is_object(spec)) {
        return;
    }
    default_string(spec, "restartPolicy", "Always");
    default_int(spec, "terminationGracePeriodSeconds", 30);
    default_string(spec, "dnsPolicy", "ClusterFirst");
    default_string(spec, "schedulerName", "default-scheduler");
    (void)json_default_object(spec, "securityContext");
    static const char *const lists[] = {"containers", "initContainers"};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        size_t i = 0;
        json_t *container = NULL;
        json_array_foreach(json_object_get(spec, lists[l]), i, container) {
            default_container(container);
        }
    }
}

/* Requests follow limits (pods only, not templates). */
static void default_requests(json_t *pod) {
    size_t i = 0;
    json_t *container = NULL;
    json_array_foreach(json_at(pod, "spec.containers"), i, container) {
        json_t *resources = json_object_get(container, "resources");
        json_t *limits = json_object_get(resources, "limits");
        if (!json_is_object(resources) || json_object_size(limits) == 0) {
            continue;
        }
        json_t *requests = json_default_object(resources, "requests");
        const char *key = NULL;
        json_t *value = NULL;
        json_object_foreach(limits, key, value) {
            if (requests != NULL) {
                json_default(requests, key, json_incref(value));
            }
        }
    }
}

static const char *quality_of_service(const json_t *pod) {
    bool is_any = false;
    bool is_all_equal = true;
    size_t i = 0;
    const json_t *container = NULL;
    json_array_foreach(json_at(pod, "spec.containers"), i, container) {
        const json_t *limits = json_at(container, "resources.limits");
        const json_t *requests = json_at(container, "resources.requests");
        is_any = is_any || json_object_size(limits) > 0 || json_object_size(requests) > 0;
        is_all_equal = is_all_equal && json_object_get(limits, "cpu") != NULL && json_object_get(limits, "memory") != NULL &&
                       json_equal(limits, requests);
    }
    return !is_any ? "BestEffort" : is_all_equal ? "Guaranteed" : "Burstable";
}

void defaults_pod(json_t *object, const json_t *old_object) {
    default_pod_spec(json_object_get(object, "spec"));
    if (json_is_object(json_object_get(object, "spec"))) {
        json_default(json_object_get(object, "spec"), "enableServiceLinks", json_true());
    }
    default_requests(object);
    if (old_object == NULL) {
        json_object_set_new(object, "status", json_pack("{s:s, s:s}", "phase", "Pending", "qosClass", quality_of_service(object)));
    }
}

/* ---- deployments and replica sets ---- */

static void default_template(json_t *spec) {
    json_t *template = json_object_get(spec, "template");
    if (json_is_object(template)) {
        (void)json_default_object(template, "metadata");
        default_pod_spec(json_object_get(template, "spec"));
    }
}

void defaults_deployment(json_t *object, const json_t *old_object) {
    json_t *spec = json_object_get(object, "spec");
    if (old_object == NULL) {
        (void)json_default_object(object, "status");
    }
    if (!json_is_object(spec)) {
        return;
    }
    default_int(spec, "replicas", 1);
    default_int(spec, "revisionHistoryLimit", 10);
    default_int(spec, "progressDeadlineSeconds", 600);
    json_t *strategy = json_default_object(spec, "strategy");
    if (strategy != NULL) {
        default_string(strategy, "type", "RollingUpdate");
        json_t *rolling = strcmp(json_string_at(strategy, "type", ""), "RollingUpdate") == 0
                              ? json_default_object(strategy, "rollingUpdate")
                              : NULL;
        if (rolling != NULL) {
            default_string(rolling, "maxUnavailable", "25%");
            default_string(rolling, "maxSurge", "25%");
        }
    }
    default_template(spec);
}

void defaults_replica_set(json_t *object, const json_t *old_object) {
    json_t *spec = json_object_get(object, "spec");
    if (json_is_object(spec)) {
        default_int(spec, "replicas", 1);
        default_template(spec);
    }
    if (old_object == NULL) {
        json_default(object, "status", json_pack("{s:i}", "replicas", 0));
    }
}

/* ---- services, slices, secrets, namespaces ---- */

void defaults_service(json_t *object, const json_t *old_object) {
    json_t *spec = json_default_object(object, "spec");
    if (spec == NULL) {
        return;
    }
    default_string(spec, "type", "ClusterIP");
    default_string(spec, "sessionAffinity", "None");
    if (strcmp(json_string_at(spec, "clusterIP", ""), "None") == 0) {
        json_default(spec, "clusterIPs", json_pack("[s]", "None"));
    }
    if (strcmp(json_string_at(spec, "type", ""), "ExternalName") != 0) {
        default_string(spec, "internalTrafficPolicy", "Cluster");
    }
    size_t i = 0;
    json_t *port = NULL;
    json_array_foreach(json_object_get(spec, "ports"), i, port) {
        if (json_is_object(port)) {
            default_string(port, "protocol", "TCP");
            json_t *number = json_object_get(port, "port");
            json_default(port, "targetPort", number != NULL ? json_incref(number) : json_null());
        }
    }
    if (old_object == NULL) {
        json_default(object, "status", json_pack("{s:{}}", "loadBalancer"));
    }
}

void defaults_endpoint_slice(json_t *object, const json_t *old_object) {
    (void)old_object;
    size_t i = 0;
    json_t *port = NULL;
    json_array_foreach(json_object_get(object, "ports"), i, port) {
        if (json_is_object(port)) {
            default_string(port, "protocol", "TCP");
            default_string(port, "name", "");
        }
    }
}

static json_t *base64_of(const char *text, size_t len) {
    cleanup_free unsigned char *encoded = xmalloc(len / 3 * 4 + 8);
    EVP_EncodeBlock(encoded, (const unsigned char *)text, (int)len);
    return json_string((const char *)encoded);
}

void defaults_secret(json_t *object, const json_t *old_object) {
    (void)old_object;
    default_string(object, "type", "Opaque");
    json_t *plain = json_object_get(object, "stringData");
    if (plain == NULL) {
        return;
    }
    json_t *data = json_is_object(plain) ? json_default_object(object, "data") : NULL;
    if (data == NULL && !json_is_null(plain)) {
        return; /* left for validation to refuse */
    }
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(plain, key, value) {
        if (json_is_string(value)) {
            json_object_set_new(data, key, base64_of(json_string_value(value), json_string_length(value)));
        }
    }
    json_object_del(object, "stringData");
}

void defaults_namespace(json_t *object, const json_t *old_object) {
    json_t *labels = json_default_object(object_meta_mutable(object), "labels");
    if (labels != NULL) {
        json_object_set_new(labels, "kubernetes.io/metadata.name", json_string(object_name(object)));
    }
    if (old_object == NULL) {
        json_object_set_new(object, "spec", json_pack("{s:[s]}", "finalizers", "kubernetes"));
        json_object_set_new(object, "status", json_pack("{s:s}", "phase", "Active"));
    } else {
        json_object_set(object, "spec", json_object_get(old_object, "spec"));
    }
}

void defaults_model_adapter(json_t *object, const json_t *old_object) {
    (void)old_object;
    model_adapter_default(object);
}

void defaults_custom_resource_definition(json_t *object, const json_t *old_object) {
    if (old_object != NULL) {
        return;
    }
    char now[32];
    object_now(now);
    json_t *names = json_at(object, "spec.names");
    json_object_set_new(object, "status",
                        json_pack("{s:[{s:s, s:s, s:s, s:s, s:s}, {s:s, s:s, s:s, s:s, s:s}], s:O*, s:[s]}", "conditions", "type",
                                  "NamesAccepted", "status", "True", "reason", "NoConflicts", "message", "no conflicts found",
                                  "lastTransitionTime", now, "type", "Established", "status", "True", "reason",
                                  "InitialNamesAccepted", "message", "this API server serves the resource itself",
                                  "lastTransitionTime", now, "acceptedNames", names, "storedVersions", "v1alpha1"));
}
