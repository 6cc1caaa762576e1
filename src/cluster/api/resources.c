#include "cluster/api/resources.h"

#include "cluster/api/columns.h"
#include "cluster/api/defaults.h"
#include "cluster/api/validate.h"

#include <string.h>

#define COLUMNS(kind) .columns = columns_##kind, .cells = cells_##kind

enum {
    NAMESPACES,
    PODS,
    SERVICES,
    SECRETS,
    CONFIG_MAPS,
    EVENTS,
    NODES,
    SERVICE_ACCOUNTS,
    DEPLOYMENTS,
    REPLICA_SETS,
    ENDPOINT_SLICES,
    LEASES,
    MODEL_ADAPTERS,
    CRDS,
    END
};

const struct resource resource_table[] = {
    [NAMESPACES] = {.group = "",
                    .version = "v1",
                    .plural = "namespaces",
                    .singular = "namespace",
                    .kind = "Namespace",
                    .short_names = {"ns"},
                    .has_status = true,
                    .name_rule = NAME_LABEL,
                    COLUMNS(namespace),
                    .fields = {"status.phase"},
                    .set_defaults = defaults_namespace},
    [PODS] = {.group = "",
              .version = "v1",
              .plural = "pods",
              .singular = "pod",
              .kind = "Pod",
              .short_names = {"po"},
              .categories = {"all"},
              .is_namespaced = true,
              .has_status = true,
              .has_log = true,
              .has_generation = true,
              .is_graceful = true,
              COLUMNS(pod),
              .fields = {"status.phase", "spec.nodeName", "status.podIP", "spec.restartPolicy"},
              .set_defaults = defaults_pod,
              .validate = validate_pod},
    [SERVICES] = {.group = "",
                  .version = "v1",
                  .plural = "services",
                  .singular = "service",
                  .kind = "Service",
                  .short_names = {"svc"},
                  .categories = {"all"},
                  .is_namespaced = true,
                  .has_status = true,
                  .name_rule = NAME_DNS1035,
                  COLUMNS(service),
                  .fields = {"spec.type", "spec.clusterIP"},
                  .set_defaults = defaults_service,
                  .validate = validate_service},
    [SECRETS] = {.group = "",
                 .version = "v1",
                 .plural = "secrets",
                 .singular = "secret",
                 .kind = "Secret",
                 .is_namespaced = true,
                 COLUMNS(secret),
                 .fields = {"type"},
                 .set_defaults = defaults_secret,
                 .validate = validate_secret},
    [CONFIG_MAPS] = {.group = "",
                     .version = "v1",
                     .plural = "configmaps",
                     .singular = "configmap",
                     .kind = "ConfigMap",
                     .short_names = {"cm"},
                     .is_namespaced = true,
                     COLUMNS(config_map),
                     .validate = validate_config_map},
    [EVENTS] = {.group = "",
                .version = "v1",
                .plural = "events",
                .singular = "event",
                .kind = "Event",
                .short_names = {"ev"},
                .is_namespaced = true,
                COLUMNS(event),
                .fields = {"involvedObject.name", "involvedObject.namespace", "involvedObject.kind", "involvedObject.uid",
                           "involvedObject.apiVersion", "involvedObject.fieldPath", "reason", "type"},
                .validate = validate_event},
    [NODES] = {.group = "",
               .version = "v1",
               .plural = "nodes",
               .singular = "node",
               .kind = "Node",
               .short_names = {"no"},
               .has_status = true,
               .keeps_status_on_create = true,
               COLUMNS(node),
               .fields = {"spec.unschedulable"}},
    [SERVICE_ACCOUNTS] = {.group = "",
                          .version = "v1",
                          .plural = "serviceaccounts",
                          .singular = "serviceaccount",
                          .kind = "ServiceAccount",
                          .short_names = {"sa"},
                          .is_namespaced = true,
                          COLUMNS(named)},
    [DEPLOYMENTS] = {.group = "apps",
                     .version = "v1",
                     .plural = "deployments",
                     .singular = "deployment",
                     .kind = "Deployment",
                     .short_names = {"deploy"},
                     .categories = {"all"},
                     .is_namespaced = true,
                     .has_status = true,
                     .has_scale = true,
                     .has_generation = true,
                     COLUMNS(deployment),
                     .set_defaults = defaults_deployment,
                     .validate = validate_workload},
    [REPLICA_SETS] = {.group = "apps",
                      .version = "v1",
                      .plural = "replicasets",
                      .singular = "replicaset",
                      .kind = "ReplicaSet",
                      .short_names = {"rs"},
                      .categories = {"all"},
                      .is_namespaced = true,
                      .has_status = true,
                      .has_scale = true,
                      .has_generation = true,
                      COLUMNS(replica_set),
                      .fields = {"status.replicas"},
                      .set_defaults = defaults_replica_set,
                      .validate = validate_workload},
    [ENDPOINT_SLICES] = {.group = "discovery.k8s.io",
                         .version = "v1",
                         .plural = "endpointslices",
                         .singular = "endpointslice",
                         .kind = "EndpointSlice",
                         .is_namespaced = true,
                         .has_generation = true,
                         COLUMNS(endpoint_slice),
                         .set_defaults = defaults_endpoint_slice,
                         .validate = validate_endpoint_slice},
    [LEASES] = {.group = "coordination.k8s.io",
                .version = "v1",
                .plural = "leases",
                .singular = "lease",
                .kind = "Lease",
                .is_namespaced = true,
                .wants_revision = true,
                COLUMNS(lease),
                .validate = validate_lease},
    [MODEL_ADAPTERS] = {.group = "model.aibrix.ai",
                        .version = "v1alpha1",
                        .plural = "modeladapters",
                        .singular = "modeladapter",
                        .kind = "ModelAdapter",
                        .is_namespaced = true,
                        .has_status = true,
                        .has_generation = true,
                        .is_custom = true,
                        .wants_revision = true,
                        COLUMNS(model_adapter),
                        .set_defaults = defaults_model_adapter,
                        .validate = validate_model_adapter},
    [CRDS] = {.group = "apiextensions.k8s.io",
              .version = "v1",
              .plural = "customresourcedefinitions",
              .singular = "customresourcedefinition",
              .kind = "CustomResourceDefinition",
              .short_names = {"crd", "crds"},
              .categories = {"api-extensions"},
              .has_status = true,
              .has_generation = true,
              .wants_revision = true,
              COLUMNS(named),
              .set_defaults = defaults_custom_resource_definition,
              .validate = validate_custom_resource_definition},
    [END] = {0},
};

const struct resource *const resource_namespaces = &resource_table[NAMESPACES];
const struct resource *const resource_events = &resource_table[EVENTS];
const struct resource *const resource_custom_resource_definitions = &resource_table[CRDS];

size_t resource_count(void) {
    return END;
}

size_t resource_index(const struct resource *resource) {
    return (size_t)(resource - resource_table);
}

const struct resource *resource_find(const char *group, const char *version, const char *plural) {
    for (const struct resource *resource = resource_table; resource->plural != NULL; resource++) {
        if (strcmp(resource->plural, plural) == 0 && strcmp(resource->group, group) == 0 &&
            (version == NULL || strcmp(resource->version, version) == 0)) {
            return resource;
        }
    }
    return NULL;
}

const struct resource *resource_find_kind(const char *api_version, const char *kind) {
    const char *slash = strchr(api_version, '/');
    size_t group_len = slash != NULL ? (size_t)(slash - api_version) : 0;
    for (const struct resource *resource = resource_table; resource->plural != NULL; resource++) {
        if (strcmp(resource->kind, kind) == 0 && strlen(resource->group) == group_len &&
            strncmp(resource->group, api_version, group_len) == 0) {
            return resource;
        }
    }
    return NULL;
}

char *resource_api_version(const struct resource *resource) {
    return *resource->group != '\0' ? xasprintf("%s/%s", resource->group, resource->version) : xstrdup(resource->version);
}
