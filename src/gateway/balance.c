#include "gateway/balance.h"

static unsigned load_of(const struct balance_question *question, const struct route_endpoint *endpoint) {
    return endpoint->id < question->outstanding_len ? question->outstanding[endpoint->id] : 0;
}

static bool is_excluded(const struct balance_question *question, const struct route_endpoint *endpoint) {
    for (size_t i = 0; i < question->excluded_count; i++) {
        if (question->excluded[i] == endpoint) {
            return true;
        }
    }
    return false;
}

struct route_endpoint *balance_choose(const struct balance_question *question) {
    const struct route_model *model = question->model;
    unsigned least = 0;
    uint64_t equal = 0;
    for (size_t i = 0; i < model->endpoint_count; i++) {
        if (is_excluded(question, model->endpoints[i])) {
            continue;
        }
        unsigned load = load_of(question, model->endpoints[i]);
        if (equal == 0 || load < least) {
            least = load;
            equal = 1;
        } else if (load == least) {
            equal++;
        }
    }
    if (equal == 0) {
        return NULL;
    }
    uint64_t wanted = question->rotation % equal;
    for (size_t i = 0; i < model->endpoint_count; i++) {
        if (is_excluded(question, model->endpoints[i]) || load_of(question, model->endpoints[i]) != least) {
            continue;
        }
        if (wanted-- == 0) {
            return model->endpoints[i];
        }
    }
    return NULL;
}
