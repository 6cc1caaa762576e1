/* meta.k8s.io/v1 Table and PartialObjectMetadata forms of answers. Pure. */
#ifndef DAVIT_CLUSTER_API_TABLE_H
#define DAVIT_CLUSTER_API_TABLE_H

#include "base/buffer.h"
#include "base/json.h"
#include "cluster/api/resources.h"
#include "cluster/api/target.h"

enum include_object { INCLUDE_METADATA, INCLUDE_OBJECT, INCLUDE_NONE };

struct answer_options {
    enum answer_form form;
    enum include_object include; /* FORM_TABLE: what rows carry */
    bool without_definitions;    /* FORM_TABLE: column definitions only in a watch's first event, as kube-apiserver does */
};

/* Appends one object in the form asked for. */
void answer_object(struct buffer *out, const struct resource *resource, const json_t *object, const struct answer_options *options,
                   int64_t now_ms);

/* A list, item by item: begin, answer_list_item for each, end. */
struct answer_list {
    struct buffer *out;
    const struct resource *resource;
    const struct answer_options *options;
    int64_t now_ms;
    size_t count;
};
/* continue_token NULL or "" = complete; remaining < 0 = not told. */
void answer_list_begin(struct answer_list *list, int64_t revision, const char *continue_token, int64_t remaining);
void answer_list_item(struct answer_list *list, const json_t *object);
void answer_list_end(struct answer_list *list);

#endif
