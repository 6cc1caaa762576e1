/* Which endpoint answers a request: a function of the model's endpoints, how much each has to do, and which were tried. */
#ifndef DAVIT_GATEWAY_BALANCE_H
#define DAVIT_GATEWAY_BALANCE_H

#include "gateway/route.h"

#define BALANCE_TRIES_MAX 3

struct balance_question {
    const struct route_model *model;
    const struct route_endpoint *excluded[BALANCE_TRIES_MAX]; /* tried already */
    size_t excluded_count;
    uint64_t rotation; /* goes up by one a request: spreads those that meet equal endpoints */
};

/* The endpoint with the fewest outstanding requests that is not excluded; among equal ones the (rotation mod their number)th. NULL
 * when there is none. Borrowed from the model. Other loops count
 * meanwhile, so the choice is one that was right a moment ago; with one loop it is exact. */
struct route_endpoint *balance_choose(const struct balance_question *question);

#endif
