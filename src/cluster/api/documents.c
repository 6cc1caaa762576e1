#include "cluster/api/documents.h"

#include "cluster/api/resources.h"

#include <string.h>

#define VERSION_TEXT "v1.37.0+davit"

size_t documents_group_versions(struct group_version *out, size_t max) {
    size_t count = 0;
    for (const struct resource *resource = resource_table; resource->plural != NULL; resource++) {
        bool is_known = false;
        for (size_t i = 0; i < count; i++) {
            is_known = is_known || (strcmp(out[i].group, resource->group) == 0 && strcmp(out[i].version, resource->version) == 0);
        }
        if (!is_known && count < max) {
            out[count++] = (struct group_version){resource->group, resource->version};
        }
    }
    return count;
}

static bool is_in(const struct resource *resource, const struct group_version *gv) {
    return strcmp(resource->group, gv->group) == 0 && strcmp(resource->version, gv->version) == 0;
}

json_t *document_version(void) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "major", "1", "minor", "37", "gitVersion", VERSION_TEXT,
                     "gitCommit", "", "gitTreeState", "clean", "buildDate", "2026-11-23T00:00:00Z", "goVersion", "none", "compiler",
                     "gcc", "platform", "linux/amd64");
}

json_t *document_api_versions(void) {
    return json_pack("{s:s, s:[s], s:[]}", "kind", "APIVersions", "versions", "v1", "serverAddressByClientCIDRs");
}

static json_t *group_object(const struct group_version *gv) {
    json_t *version =
        json_pack("{s:o, s:s}", "groupVersion", json_sprintf("%s/%s", gv->group, gv->version), "version", gv->version);
    return json_pack("{s:s, s:[O], s:o}", "name", gv->group, "versions", version, "preferredVersion", version);
}

json_t *document_api_group(const struct group_version *gv) {
    json_t *group = group_object(gv);
    json_object_set_new(group, "kind", json_string("APIGroup"));
    json_object_set_new(group, "apiVersion", json_string("v1"));
    return group;
}

json_t *document_api_group_list(void) {
    struct group_version all[16];
    size_t count = documents_group_versions(all, ARRAY_LEN(all));
    json_t *groups = json_array();
    for (size_t i = 0; i < count; i++) {
        if (*all[i].group != '\0') {
            json_array_append_new(groups, group_object(&all[i]));
        }
    }
    return json_pack("{s:s, s:s, s:o}", "kind", "APIGroupList", "apiVersion", "v1", "groups", groups);
}

static json_t *strings(const char *const *items, size_t max) {
    json_t *list = json_array();
    for (size_t i = 0; i < max && items[i] != NULL; i++) {
        json_array_append_new(list, json_string(items[i]));
    }
    return list;
}

static json_t *verbs_of_resource(void) {
    return json_pack("[s,s,s,s,s,s,s,s]", "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch");
}

static json_t *verbs_of_subresource(void) {
    return json_pack("[s,s,s]", "get", "patch", "update");
}

struct subresource {
    const char *name;
    const char *group; /* of what it answers with */
    const char *version;
    const char *kind;
};

/* At most 3; returns their number. */
static size_t subresources_of(const struct resource *resource, struct subresource out[3]) {
    size_t count = 0;
    if (resource->has_log) {
        out[count++] = (struct subresource){"log", resource->group, resource->version, resource->kind};
    }
    if (resource->has_scale) {
        out[count++] = (struct subresource){"scale", "autoscaling", "v1", "Scale"};
    }
    if (resource->has_status) {
        out[count++] = (struct subresource){"status", resource->group, resource->version, resource->kind};
    }
    return count;
}

static json_t *plain_entry(const struct resource *resource) {
    json_t *entry = json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", resource->plural, "singularName", resource->singular,
                              "namespaced", resource->is_namespaced, "kind", resource->kind, "verbs", verbs_of_resource());
    if (resource->short_names[0] != NULL) {
        json_object_set_new(entry, "shortNames", strings(resource->short_names, ARRAY_LEN(resource->short_names)));
    }
    if (resource->categories[0] != NULL) {
        json_object_set_new(entry, "categories", strings(resource->categories, ARRAY_LEN(resource->categories)));
    }
    return entry;
}

json_t *document_api_resource_list(const struct group_version *gv) {
    json_t *resources = json_array();
    for (const struct resource *resource = resource_table; resource->plural != NULL; resource++) {
        if (!is_in(resource, gv)) {
            continue;
        }
        json_array_append_new(resources, plain_entry(resource));
        struct subresource subs[3];
        size_t count = subresources_of(resource, subs);
        for (size_t i = 0; i < count; i++) {
            json_t *entry = json_pack("{s:o, s:s, s:b, s:s, s:o}", "name", json_sprintf("%s/%s", resource->plural, subs[i].name),
                                      "singularName", "", "namespaced", resource->is_namespaced, "kind", subs[i].kind, "verbs",
                                      verbs_of_subresource());
            if (strcmp(subs[i].group, resource->group) != 0) {
                json_object_set_new(entry, "group", json_string(subs[i].group));
                json_object_set_new(entry, "version", json_string(subs[i].version));
            }
            json_array_append_new(resources, entry);
        }
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "kind", "APIResourceList", "apiVersion", "v1", "groupVersion",
                     *gv->group != '\0' ? json_sprintf("%s/%s", gv->group, gv->version) : json_string(gv->version), "resources",
                     resources);
}

static json_t *response_kind(const char *group, const char *version, const char *kind) {
    return json_pack("{s:s, s:s, s:s}", "group", group, "version", version, "kind", kind);
}

static json_t *aggregated_entry(const struct resource *resource) {
    json_t *entry = json_pack("{s:s, s:o, s:s, s:s, s:o}", "resource", resource->plural, "responseKind",
                              response_kind(resource->group, resource->version, resource->kind), "scope",
                              resource->is_namespaced ? "Namespaced" : "Cluster", "singularResource", resource->singular, "verbs",
                              verbs_of_resource());
    if (resource->short_names[0] != NULL) {
        json_object_set_new(entry, "shortNames", strings(resource->short_names, ARRAY_LEN(resource->short_names)));
    }
    if (resource->categories[0] != NULL) {
        json_object_set_new(entry, "categories", strings(resource->categories, ARRAY_LEN(resource->categories)));
    }
    struct subresource subs[3];
    size_t count = subresources_of(resource, subs);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "subresource", subs[i].name, "responseKind",
                                              response_kind(subs[i].group, subs[i].version, subs[i].kind), "verbs",
                                              verbs_of_subresource()));
    }
    if (count > 0) {
        json_object_set(entry, "subresources", list);
    }
    json_decref(list);
    return entry;
}

json_t *document_aggregated(bool is_core, const char *discovery_version) {
    struct group_version all[16];
    size_t count = documents_group_versions(all, ARRAY_LEN(all));
    json_t *groups = json_array();
    for (size_t i = 0; i < count; i++) {
        if ((*all[i].group == '\0') != is_core) {
            continue;
        }
        json_t *resources = json_array();
        for (const struct resource *resource = resource_table; resource->plural != NULL; resource++) {
            if (is_in(resource, &all[i])) {
                json_array_append_new(resources, aggregated_entry(resource));
            }
        }
        json_t *metadata = is_core ? json_object() : json_pack("{s:s}", "name", all[i].group);
        json_array_append_new(groups, json_pack("{s:o, s:[{s:s, s:o, s:s}]}", "metadata", metadata, "versions", "version",
                                                all[i].version, "resources", resources, "freshness", "Current"));
    }
    return json_pack("{s:s, s:o, s:{}, s:o}", "kind", "APIGroupDiscoveryList", "apiVersion",
                     json_sprintf("apidiscovery.k8s.io/%s", discovery_version), "metadata", "items", groups);
}

/* ---- OpenAPI: as little as kubectl needs to apply and create ---- */

static json_t *kind_extension(const struct resource *resource) {
    return json_pack("{s:s, s:s, s:s}", "group", resource->group, "version", resource->version, "kind", resource->kind);
}

static json_t *openapi_path_item(const struct resource *resource) {
    return json_pack("{s:{s:[{s:s, s:s, s:{s:s}}, {s:s, s:s, s:{s:s}}], s:{}, s:o}}", "patch", "parameters", "name", "dryRun", "in",
                     "query", "schema", "type", "string", "name", "fieldValidation", "in", "query", "schema", "type", "string",
                     "responses", "x-kubernetes-group-version-kind", kind_extension(resource));
}

char *document_openapi_path(const struct group_version *gv) {
    return *gv->group != '\0' ? xasprintf("apis/%s/%s", gv->group, gv->version) : xasprintf("api/%s", gv->version);
}

json_t *document_openapi(const struct group_version *gv) {
    cleanup_free char *base = document_openapi_path(gv);
    json_t *paths = json_object();
    json_t *schemas = json_object();
    for (const struct resource *resource = resource_table; resource->plural != NULL; resource++) {
        if (!is_in(resource, gv)) {
            continue;
        }
        cleanup_free char *path =
            xasprintf("/%s/%s%s/{name}", base, resource->is_namespaced ? "namespaces/{namespace}/" : "", resource->plural);
        json_object_set_new(paths, path, openapi_path_item(resource));
        if (resource->is_custom) {
            json_t *schema = schema_model_adapter();
            json_object_set_new(schema, "x-kubernetes-group-version-kind", json_pack("[o]", kind_extension(resource)));
            cleanup_free char *name = xasprintf("%s.%s.%s", resource->group, resource->version, resource->kind);
            json_object_set_new(schemas, name, schema);
        }
    }
    return json_pack("{s:s, s:{s:s, s:s}, s:o, s:{s:o}}", "openapi", "3.0.0", "info", "title", "Davit", "version", VERSION_TEXT,
                     "paths", paths, "components", "schemas", schemas);
}
