/* A hash map from a string (copied) to a pointer (borrowed), iterable in order of insertion. Not for several threads. */
#ifndef DAVIT_BASE_MAP_H
#define DAVIT_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

struct map_entry {
    char *key; /* NULL once removed */
    void *value;
};

struct map {
    struct map_entry *entries; /* in order of insertion, with holes */
    size_t used;               /* entries in use, holes included */
    size_t count;              /* entries alive */
    size_t capacity;
    unsigned *slots; /* open addressing: index into entries + 1 */
    size_t slot_count;
};

#define MAP_INIT ((struct map){0})

void map_release(struct map *map); /* frees the map, not the values */
void *map_get(const struct map *map, const char *key);
/* Returns the value that was there before, or NULL. `value` is not NULL. */
void *map_set(struct map *map, const char *key, void *value);
void *map_remove(struct map *map, const char *key); /* the removed value or NULL */

/* for (size_t at = 0; (entry = map_next(&map, &at)) != NULL;). Removing the entry just returned is allowed. */
struct map_entry *map_next(const struct map *map, size_t *at);

#endif
