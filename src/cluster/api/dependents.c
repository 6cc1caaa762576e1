#include "cluster/api/dependents.h"

#include "cluster/api/object.h"

#include <string.h>

struct list {
    struct dependent *items;
    size_t count;
    size_t capacity;
};

static void add(struct dependents *dependents, const char *uid, const struct resource *resource, const char *key) {
    struct list *list = map_get(&dependents->by_owner, uid);
    if (list == NULL) {
        list = xcalloc(1, sizeof(*list));
        (void)map_set(&dependents->by_owner, uid, list);
    }
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 2 : list->capacity * 2;
        list->items = xrealloc(list->items, list->capacity * sizeof(struct dependent));
    }
    list->items[list->count++] = (struct dependent){resource, xstrdup(key)};
}

static void list_free(struct list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].key);
    }
    free(list->items);
    free(list);
}

static void take_out(struct dependents *dependents, const char *uid, const struct resource *resource, const char *key) {
    struct list *list = map_get(&dependents->by_owner, uid);
    for (size_t i = 0; list != NULL && i < list->count; i++) {
        if (list->items[i].resource == resource && strcmp(list->items[i].key, key) == 0) {
            free(list->items[i].key);
            list->items[i] = list->items[--list->count];
            break;
        }
    }
    if (list != NULL && list->count == 0) {
        (void)map_remove(&dependents->by_owner, uid);
        list_free(list);
    }
}

static void each_owner(struct dependents *dependents, const struct resource *resource, const char *key, const json_t *owners,
                       void (*each)(struct dependents *dependents, const char *uid, const struct resource *resource,
                                    const char *key)) {
    size_t i = 0;
    const json_t *owner = NULL;
    json_array_foreach(owners, i, owner) {
        each(dependents, json_string_at(owner, "uid", ""), resource, key);
    }
}

void dependents_note(struct dependents *dependents, const struct resource *resource, const char *key, const json_t *old_object,
                     const json_t *new_object) {
    const json_t *before = json_object_get(object_meta(old_object), "ownerReferences");
    const json_t *after = json_object_get(object_meta(new_object), "ownerReferences");
    if (before == after || (before != NULL && after != NULL && json_equal(before, after))) {
        return;
    }
    each_owner(dependents, resource, key, before, take_out);
    each_owner(dependents, resource, key, after, add);
}

size_t dependents_of(const struct dependents *dependents, const char *owner_uid, const struct dependent **ret_items) {
    const struct list *list = map_get(&dependents->by_owner, owner_uid);
    *ret_items = list != NULL ? list->items : NULL;
    return list != NULL ? list->count : 0;
}

void dependents_release(struct dependents *dependents) {
    const struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&dependents->by_owner, &at)) != NULL;) {
        list_free(entry->value);
    }
    map_release(&dependents->by_owner);
}
