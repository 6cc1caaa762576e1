#include "engine/lora/registry.h"

void registry_init(struct registry *registry, size_t capacity) {
    *registry = (struct registry){.residents = MAP_INIT, .capacity = capacity};
}

void registry_release(struct registry *registry) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&registry->residents, &at)) != NULL;) {
        resident_unref(entry->value);
    }
    map_release(&registry->residents);
}

int registry_check(const struct registry *registry, const char *name, bool in_place, struct error *err) {
    bool is_taken = registry_find(registry, name) != NULL;
    if (is_taken && !in_place) {
        return error_set(
            err, ERROR_EXISTS,
            "The lora adapter '%s' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.",
            name);
    }
    if (!is_taken && registry->residents.count >= registry->capacity) {
        return error_set(err, ERROR_LIMIT, "adapter \"%s\": %zu adapters are resident, which is the limit (max_cpu_loras)", name,
                         registry->residents.count);
    }
    return 0;
}

void registry_put(struct registry *registry, struct resident *resident) {
    struct resident *old = map_set(&registry->residents, resident->name, resident);
    if (old != NULL) {
        resident->requests_total = old->requests_total;
        resident->generated_tokens_total = old->generated_tokens_total;
        resident_unref(old);
    }
}

int registry_remove(struct registry *registry, const char *name, struct error *err) {
    struct resident *resident = map_remove(&registry->residents, name);
    if (resident == NULL) {
        return error_set(err, ERROR_NOT_FOUND, "The lora adapter '%s' cannot be found.", name);
    }
    resident_unref(resident);
    return 0;
}

struct resident *registry_find(const struct registry *registry, const char *name) {
    return map_get(&registry->residents, name);
}

struct resident *resident_ref(struct resident *resident) {
    resident->references++;
    return resident;
}

void resident_unref(struct resident *resident) {
    if (resident != NULL && --resident->references == 0) {
        lora_unref(resident->weights);
        free(resident->name);
        free(resident->path);
        free(resident);
    }
}
