#include "gateway/balance.h"

static bool is_excluded(const struct balance_question *question, const struct route_endpoint *endpoint) {
    for (size_t i = 0; i < question->excluded_count; i++) {
        if (question->excluded[i] == endpoint) {
            return true;
        }
    }
    return false;
}

static unsigned load_of(const struct route_endpoint *endpoint) {
    return atomic_load_explicit(&endpoint->load->outstanding, memory_order_relaxed);
}

struct route_endpoint *balance_choose(const struct balance_question *question) {
    const struct route_model *model = question->model;
    struct route_endpoint *first = NULL; /* of those with the least load */
    unsigned least = 0;
    uint64_t equal = 0;
    for (size_t i = 0; i < model->endpoint_count; i++) {
        if (is_excluded(question, model->endpoints[i])) {
            continue;
        }
        unsigned load = load_of(model->endpoints[i]);
        if (first == NULL || load < least) {
            first = model->endpoints[i];
            least = load;
            equal = 1;
        } else if (load == least) {
            equal++;
        }
    }
    uint64_t wanted = equal > 0 ? question->rotation % equal : 0;
    for (size_t i = 0; i < model->endpoint_count && wanted > 0; i++) {
        struct route_endpoint *endpoint = model->endpoints[i];
        if (endpoint != first && !is_excluded(question, endpoint) && load_of(endpoint) <= least && --wanted == 0) {
            return endpoint;
        }
    }
    return first; /* or the others got something to do meanwhile */
}
