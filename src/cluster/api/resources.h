/* What the API serves: one row a resource. Everything that differs between kinds hangs on its row; the verbs know no kinds. */
#ifndef DAVIT_CLUSTER_API_RESOURCES_H
#define DAVIT_CLUSTER_API_RESOURCES_H

#include "base/json.h"

#include <stddef.h>

#define RESOURCE_FIELDS_MAX 8

/* How names are checked: RFC 1123 subdomain, RFC 1123 label, RFC 1035 label. */
enum name_rule { NAME_SUBDOMAIN, NAME_LABEL, NAME_DNS1035 };

struct column {
    const char *name;
    const char *type;   /* "string", "integer", "date" */
    const char *format; /* "name" for the first, else "" */
    int priority;       /* 1 = only with -o wide */
    const char *description;
};

struct resource {
    const char *group; /* "" = core */
    const char *version;
    const char *plural;
    const char *singular;
    const char *kind;
    const char *short_names[3];
    const char *categories[2];
    bool is_namespaced;
    bool has_status; /* a status subresource: status is not written through the object, nor the rest through status */
    bool has_scale;  /* spec.replicas and status.replicas as autoscaling/v1 Scale */
    bool has_log;    /* pods: log, exec, attach, portforward are named in errors */
    bool has_generation;
    bool keeps_status_on_create; /* nodes: the kubelet registers with its status */
    bool is_custom;              /* what a CRD would make: no strategic merge */
    bool wants_revision;         /* PUT without a resourceVersion is refused */
    bool is_graceful;            /* pods: delete waits for the kubelet */
    enum name_rule name_rule;
    const struct column *columns;                                       /* ends with a row whose name is NULL */
    void (*cells)(const json_t *object, int64_t now_ms, json_t *cells); /* appends one cell a column */
    const char *fields[RESOURCE_FIELDS_MAX]; /* field selectors beside metadata.name and metadata.namespace, as paths */
    void (*set_defaults)(json_t *object, const json_t *old_object);                   /* NULL = none; old_object NULL on create */
    void (*validate)(const json_t *object, const json_t *old_object, json_t *causes); /* NULL = none */
};

extern const struct resource resource_table[]; /* ends with a row whose plural is NULL */
size_t resource_count(void);
size_t resource_index(const struct resource *resource); /* its place in the table */

/* NULL when not served. version NULL = any. */
const struct resource *resource_find(const char *group, const char *version, const char *plural);
/* By apiVersion ("apps/v1") and kind; NULL when not served. Any version of the group matches. */
const struct resource *resource_find_kind(const char *api_version, const char *kind);
/* "apps/v1" or "v1"; of the caller's. */
char *resource_api_version(const struct resource *resource);

extern const struct resource *const resource_namespaces;
extern const struct resource *const resource_events;
extern const struct resource *const resource_custom_resource_definitions;

#endif
