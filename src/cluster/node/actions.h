/* Calls to the API as data: what the pure controllers decide and the shell sends. */
#ifndef DAVIT_CLUSTER_NODE_ACTIONS_H
#define DAVIT_CLUSTER_NODE_ACTIONS_H

#include "kube/client.h"

struct api_action {
    enum kube_verb verb;
    const struct kube_resource *resource;
    char *namespace;
    char *name; /* NULL for creates */
    const char *subresource;
    json_t *body; /* NULL = none */
    /* recorded about the owner once the call succeeded; NULL = none */
    const char *event_reason;
    char *event_message;
};

struct api_actions {
    struct api_action *items;
    size_t count;
    size_t capacity;
    int64_t again_ms; /* look again after that long although nothing changed; 0 = no need */
};

/* Appends; `action` is taken over with all it owns. */
void api_actions_add(struct api_actions *actions, const struct api_action *action);
void api_actions_look_again(struct api_actions *actions, int64_t after_ms);
void api_actions_release(struct api_actions *actions);
/* A merge patch of /status, unless `status` equals the object's. `status` is taken over. */
void api_actions_add_status(struct api_actions *actions, const struct kube_resource *resource, const json_t *object,
                            json_t *status);

#endif
