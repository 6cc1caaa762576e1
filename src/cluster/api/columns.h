/* Printer columns of each kind, as kubectl shows them. Pure. A cells function appends one cell a column. */
#ifndef DAVIT_CLUSTER_API_COLUMNS_H
#define DAVIT_CLUSTER_API_COLUMNS_H

#include "cluster/api/resources.h"

#define DECLARE_COLUMNS(kind)                                                                                                      \
    extern const struct column columns_##kind[];                                                                                   \
    void cells_##kind(const json_t *object, int64_t now_ms, json_t *cells)

DECLARE_COLUMNS(pod);
DECLARE_COLUMNS(deployment);
DECLARE_COLUMNS(replica_set);
DECLARE_COLUMNS(service);
DECLARE_COLUMNS(endpoint_slice);
DECLARE_COLUMNS(event);
DECLARE_COLUMNS(namespace);
DECLARE_COLUMNS(secret);
DECLARE_COLUMNS(config_map);
DECLARE_COLUMNS(lease);
DECLARE_COLUMNS(node);
DECLARE_COLUMNS(model_adapter);
DECLARE_COLUMNS(named); /* name and creation time: whatever has nothing else to show */

#undef DECLARE_COLUMNS

/* "5m", "3h20m", "2d" as k8s.io/apimachinery's duration.HumanDuration; `out` holds 32 bytes. */
void columns_format_duration(int64_t duration_ms, char out[32]);
/* The duration since a metav1.Time (NULL or not a time: "<unknown>"). A new string. */
json_t *columns_since(const char *time, int64_t now_ms);
json_t *columns_age(const json_t *object, int64_t now_ms);
/* "a=b,c=d" of an object of strings, "<none>" when empty. A new string. */
json_t *columns_labels(const json_t *labels);
void cell_text(json_t *cells, const char *text);
void cell_text_or(json_t *cells, const char *text, const char *when_empty);
void cell_int(json_t *cells, int64_t number);

#endif
