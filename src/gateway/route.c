#include "gateway/route.h"

#include "base/alloc.h"

#include <string.h>

static uint64_t hash_name(const char *name) {
    uint64_t hash = 1469598103934665603U; /* FNV-1a */
    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * 1099511628211U;
    }
    return hash ^ (hash >> 32);
}

static size_t find_slot(const struct route_snapshot *snapshot, const char *name) {
    size_t mask = snapshot->slot_count - 1;
    size_t slot = hash_name(name) & mask;
    while (snapshot->slots[slot] != 0 && strcmp(snapshot->models[snapshot->slots[slot] - 1]->name, name) != 0) {
        slot = (slot + 1) & mask;
    }
    return slot;
}

const struct route_model *route_find(const struct route_snapshot *snapshot, const char *name) {
    uint32_t at = snapshot->slots[find_slot(snapshot, name)];
    return at != 0 ? snapshot->models[at - 1] : NULL;
}

struct route_snapshot *route_snapshot_new(struct route_model **models, size_t count) {
    struct route_snapshot *snapshot = xcalloc(1, sizeof(*snapshot));
    atomic_init(&snapshot->refs, 1);
    snapshot->models = models;
    snapshot->count = count;
    snapshot->slot_count = 16;
    while (snapshot->slot_count < count * 2) {
        snapshot->slot_count *= 2;
    }
    snapshot->slots = xcalloc(snapshot->slot_count, sizeof(*snapshot->slots));
    for (size_t i = 0; i < count; i++) {
        snapshot->slots[find_slot(snapshot, models[i]->name)] = (uint32_t)i + 1;
    }
    return snapshot;
}

struct route_snapshot *route_snapshot_ref(struct route_snapshot *snapshot) {
    atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
    return snapshot;
}

void route_snapshot_unref(struct route_snapshot *snapshot) {
    if (snapshot == NULL || atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < snapshot->count; i++) {
        route_model_unref(snapshot->models[i]);
    }
    free(snapshot->models);
    free(snapshot->slots);
    free(snapshot);
}

struct route_model *route_model_new(const char *name, size_t endpoint_room) {
    struct route_model *model = xcalloc(1, sizeof(*model) + endpoint_room * sizeof(model->endpoints[0]));
    atomic_init(&model->refs, 1);
    model->name = xstrdup(name);
    model->endpoint_room = endpoint_room;
    return model;
}

void route_model_add(struct route_model *model, struct route_endpoint *endpoint, const char *engine_name) {
    for (size_t i = 0; i < model->endpoint_count; i++) {
        if (model->endpoints[i] == endpoint) {
            route_endpoint_unref(endpoint);
            return;
        }
    }
    if (engine_name != NULL && *engine_name != '\0') {
        if (model->engine_names == NULL) {
            model->engine_names = xcalloc(model->endpoint_room, sizeof(char *));
        }
        model->engine_names[model->endpoint_count] = xstrdup(engine_name);
    }
    model->endpoints[model->endpoint_count++] = endpoint;
}

void route_model_replace(struct route_model *model, size_t i, struct route_endpoint *endpoint) {
    route_endpoint_unref(model->endpoints[i]);
    model->endpoints[i] = endpoint;
}

const char *route_engine_name(const struct route_model *model, const struct route_endpoint *endpoint) {
    for (size_t i = 0; model->engine_names != NULL && i < model->endpoint_count; i++) {
        if (model->endpoints[i] == endpoint) {
            return model->engine_names[i] != NULL ? model->engine_names[i] : model->name;
        }
    }
    return model->name;
}

struct route_model *route_model_ref(struct route_model *model) {
    atomic_fetch_add_explicit(&model->refs, 1, memory_order_relaxed);
    return model;
}

void route_model_unref(struct route_model *model) {
    if (model == NULL || atomic_fetch_sub_explicit(&model->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < model->endpoint_count; i++) {
        route_endpoint_unref(model->endpoints[i]);
        free(model->engine_names != NULL ? model->engine_names[i] : NULL);
    }
    free(model->engine_names);
    free(model->name);
    free(model->root);
    free(model->parent);
    free(model);
}

struct route_endpoint *route_endpoint_new(struct route_load *load) {
    struct route_endpoint *endpoint = xcalloc(1, sizeof(*endpoint));
    atomic_init(&endpoint->refs, 1);
    if (load != NULL) {
        atomic_fetch_add_explicit(&load->refs, 1, memory_order_relaxed);
    } else {
        load = xcalloc(1, sizeof(*load));
        atomic_init(&load->refs, 1);
    }
    endpoint->load = load;
    return endpoint;
}

struct route_endpoint *route_endpoint_ref(struct route_endpoint *endpoint) {
    atomic_fetch_add_explicit(&endpoint->refs, 1, memory_order_relaxed);
    return endpoint;
}

void route_endpoint_unref(struct route_endpoint *endpoint) {
    if (atomic_fetch_sub_explicit(&endpoint->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (atomic_fetch_sub_explicit(&endpoint->load->refs, 1, memory_order_acq_rel) == 1) {
        free(endpoint->load);
    }
    free(endpoint->host);
    free(endpoint->pod);
    free(endpoint->base);
    free(endpoint);
}
