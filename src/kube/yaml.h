/* YAML (libyaml) read as JSON: what kubeconfig files and manifests use of it. Anchors and aliases are followed (bounded), tags are
 * ignored, plain scalars are typed by the YAML 1.2 core schema, mappings have string keys. */
#ifndef DAVIT_KUBE_YAML_H
#define DAVIT_KUBE_YAML_H

#include "base/json.h"

/* All documents of a stream, empty ones left out, as an array of the caller's. At most a million nodes and 200 levels; NULL and
 * *err (ERROR_INVALID with line and column, or ERROR_LIMIT) otherwise. */
json_t *yaml_parse_all(const char *text, size_t len, struct error *err) DAVIT_MUST_USE;

#endif
