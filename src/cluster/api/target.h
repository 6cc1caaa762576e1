/* What a URL path names: resource, namespace, name, subresource. Pure. */
#ifndef DAVIT_CLUSTER_API_TARGET_H
#define DAVIT_CLUSTER_API_TARGET_H

#include "cluster/api/resources.h"

struct target {
    const struct resource *resource;
    char *namespace;   /* NULL: all, or cluster-scoped */
    char *name;        /* NULL: the collection */
    char *subresource; /* "status", "scale", "log", ...; NULL = none */
};

/* "/api/v1/..." and "/apis/GROUP/VERSION/...", already percent-decoded. False: the path names no resource that is served. Release
 * in either case. */
bool target_parse(const char *path, struct target *ret_target);
void target_release(struct target *target);

/* How the client wants answers, from the Accept field (NULL = JSON). */
enum answer_form { FORM_OBJECT, FORM_TABLE, FORM_PARTIAL, FORM_NOT_ACCEPTABLE };
enum answer_form accept_parse(const char *accept);

#endif
