/* The adapters that are resident, by name. Not for several threads: the engine's lock guards it. */
#ifndef DAVIT_ENGINE_LORA_REGISTRY_H
#define DAVIT_ENGINE_LORA_REGISTRY_H

#include "base/map.h"
#include "engine/lora/lora.h"

/* An adapter under a name. The registry holds one reference and every request of it another, so that a request keeps the weights it
 * began with when the name is dropped or given to others. */
struct resident {
    int references; /* guarded by the engine's lock */
    char *name;
    char *path;
    struct lora_adapter *weights;
    double load_seconds;
    int64_t loaded_wall_ms;
    uint64_t requests_total;
    uint64_t generated_tokens_total;
    int running; /* requests */
    int waiting;
};

struct registry {
    struct map residents;
    size_t capacity;
};

void registry_init(struct registry *registry, size_t capacity);
void registry_release(struct registry *registry);

/* Whether `name` can be added (or, with `in_place`, replaced): ERROR_EXISTS or ERROR_LIMIT. */
int registry_check(const struct registry *registry, const char *name, bool in_place, struct error *err) DAVIT_MUST_USE;
/* Adds what registry_check allowed, with one reference, taken from the caller; a replaced one's counters are carried over. */
void registry_put(struct registry *registry, struct resident *resident);
int registry_remove(struct registry *registry, const char *name, struct error *err) DAVIT_MUST_USE;
struct resident *registry_find(const struct registry *registry, const char *name);

struct resident *resident_ref(struct resident *resident);
void resident_unref(struct resident *resident); /* NULL is fine */

#endif
