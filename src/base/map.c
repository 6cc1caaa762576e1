#include "base/map.h"

#include "base/alloc.h"

#include <stdint.h>
#include <string.h>

/* FNV-1a. Keys are object names and the like, whose number is bounded by their owners. */
static size_t hash_key(const char *key) {
    uint64_t hash = 1469598103934665603U;
    for (; *key != '\0'; key++) {
        hash = (hash ^ (unsigned char)*key) * 1099511628211U;
    }
    return (size_t)(hash ^ (hash >> 32));
}

void map_release(struct map *map) {
    for (size_t i = 0; i < map->used; i++) {
        free(map->entries[i].key);
    }
    free(map->entries);
    free(map->slots);
    *map = MAP_INIT;
}

/* The slot that holds the key, or the free one where it belongs. A removed entry keeps its slot until the next rebuild. */
static size_t find_slot(const struct map *map, const char *key) {
    size_t mask = map->slot_count - 1;
    size_t slot = hash_key(key) & mask;
    while (map->slots[slot] != 0) {
        const struct map_entry *entry = &map->entries[map->slots[slot] - 1];
        if (entry->key != NULL && strcmp(entry->key, key) == 0) {
            break;
        }
        slot = (slot + 1) & mask;
    }
    return slot;
}

static void rebuild(struct map *map) {
    size_t capacity = map->count < 8 ? 16 : map->count * 2;
    struct map_entry *entries = xcalloc(capacity, sizeof(*entries));
    size_t used = 0;
    for (size_t i = 0; i < map->used; i++) {
        if (map->entries[i].key != NULL) {
            entries[used++] = map->entries[i];
        }
    }
    free(map->entries);
    free(map->slots);
    map->entries = entries;
    map->used = used;
    map->capacity = capacity;
    map->slot_count = 32;
    while (map->slot_count < capacity * 2) {
        map->slot_count *= 2;
    }
    map->slots = xcalloc(map->slot_count, sizeof(*map->slots));
    for (size_t i = 0; i < used; i++) {
        map->slots[find_slot(map, entries[i].key)] = (unsigned)i + 1;
    }
}

void *map_get(const struct map *map, const char *key) {
    if (map->count == 0) {
        return NULL;
    }
    size_t slot = find_slot(map, key);
    return map->slots[slot] != 0 ? map->entries[map->slots[slot] - 1].value : NULL;
}

void *map_set(struct map *map, const char *key, void *value) {
    if (map->used == map->capacity) {
        rebuild(map);
    }
    size_t slot = find_slot(map, key);
    if (map->slots[slot] != 0) {
        struct map_entry *entry = &map->entries[map->slots[slot] - 1];
        void *old = entry->value;
        entry->value = value;
        return old;
    }
    map->entries[map->used] = (struct map_entry){.key = xstrdup(key), .value = value};
    map->used++;
    map->count++;
    map->slots[slot] = (unsigned)map->used;
    return NULL;
}

void *map_remove(struct map *map, const char *key) {
    if (map->count == 0) {
        return NULL;
    }
    size_t slot = find_slot(map, key);
    if (map->slots[slot] == 0) {
        return NULL;
    }
    struct map_entry *entry = &map->entries[map->slots[slot] - 1];
    void *old = entry->value;
    free(entry->key);
    *entry = (struct map_entry){0};
    map->count--;
    return old;
}

struct map_entry *map_next(const struct map *map, size_t *at) {
    while (*at < map->used) {
        struct map_entry *entry = &map->entries[(*at)++];
        if (entry->key != NULL) {
            return entry;
        }
    }
    return NULL;
}
