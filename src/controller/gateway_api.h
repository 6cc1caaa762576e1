/* Whether the Gateway API is installed, and whether we may see HTTPRoutes and ReferenceGrants: asked at the start, again soon
 * after, and every five minutes. */
#ifndef DAVIT_CONTROLLER_GATEWAY_API_H
#define DAVIT_CONTROLLER_GATEWAY_API_H

#include "kube/client.h"

enum gateway_api_state {
    GATEWAY_API_UNKNOWN, /* nobody has answered yet */
    GATEWAY_API_ABSENT,
    GATEWAY_API_DENIED, /* it is there, and we may not see what is needed */
    GATEWAY_API_INSTALLED,
};

struct gateway_api;

struct gateway_api_setup { /* the strings outlive it */
    struct kube_client *kube;
    const char *gateway_namespace; /* where HTTPRoutes are listed */
    const char *namespace;         /* where ReferenceGrants are; NULL = everywhere */
    /* The state is another; `why` it is denied, else NULL. */
    void (*on_change)(void *arg, enum gateway_api_state state, const char *why);
    void *arg;
};

struct gateway_api *gateway_api_new(const struct gateway_api_setup *setup); /* asks at once */
void gateway_api_free(struct gateway_api *api);
enum gateway_api_state gateway_api_state(const struct gateway_api *api);
void gateway_api_ask_soon(struct gateway_api *api); /* there is a sign that it may have gone */

#endif
