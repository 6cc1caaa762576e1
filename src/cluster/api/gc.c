#include "cluster/api/gc.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "cluster/api/deletion.h"
#include "cluster/api/dependents.h"
#include "cluster/api/object.h"

#include <string.h>

#define PASS_DELAY_MS 10 /* changes that come together are one pass */
#define EVENTS_PERIOD_MS (30 * 1000)
#define EVENTS_SLACK 100     /* beyond EVENTS_MAX before a pass is made out of turn */
#define PASS_CHANGES_MAX 500 /* a pass goes on in the next one beyond these */

struct gc {
    struct loop *loop;
    struct state *state;
    struct map alive; /* uid -> anything, of committed objects; not of events */
    struct dependents dependents;
    struct dependent *due; /* to be looked at in the next pass; may name one twice, or what is gone */
    size_t due_count;
    size_t due_capacity;
    bool looks_at_all; /* in the next pass */
    struct timer pass;
    struct timer events;
    size_t terminating_namespaces;
    size_t waiting_owners; /* deleted in the foreground */
};

static const json_t *owners_of(const json_t *object) {
    return json_object_get(object_meta(object), "ownerReferences");
}

static bool is_terminating_namespace(const struct resource *resource, const json_t *object) {
    return resource == resource_namespaces && object != NULL && object_is_deleting(object);
}

/* ---- noticing ---- */

static bool has_unknown_owner(const struct gc *gc, const json_t *object) {
    size_t i = 0;
    const json_t *owner = NULL;
    json_array_foreach(owners_of(object), i, owner) {
        if (map_get(&gc->alive, json_string_at(owner, "uid", "")) == NULL) {
            return true;
        }
    }
    return false;
}

static void add_due(struct gc *gc, const struct resource *resource, const char *key) {
    if (gc->due_count == gc->due_capacity) {
        gc->due_capacity = gc->due_capacity == 0 ? 64 : gc->due_capacity * 2;
        gc->due = xrealloc(gc->due, gc->due_capacity * sizeof(struct dependent));
    }
    gc->due[gc->due_count++] = (struct dependent){resource, xstrdup(key)};
}

static void add_dependents_due(struct gc *gc, const char *owner_uid) {
    const struct dependent *items = NULL;
    size_t count = dependents_of(&gc->dependents, owner_uid, &items);
    for (size_t i = 0; i < count; i++) {
        add_due(gc, items[i].resource, items[i].key);
    }
}

static bool is_waiting_owner(const json_t *object) {
    return object != NULL && object_is_deleting(object) && object_has_finalizer(object, FINALIZER_FOREGROUND);
}

static void note(struct gc *gc, const struct resource *resource, const char *key, const json_t *old_object,
                 const json_t *new_object) {
    if (resource == resource_events) {
        if (state_count(gc->state, resource_events) > EVENTS_MAX + EVENTS_SLACK) {
            timer_set(&gc->events, PASS_DELAY_MS);
        }
        return;
    }
    bool was_terminating = is_terminating_namespace(resource, old_object);
    bool is_terminating = is_terminating_namespace(resource, new_object);
    gc->terminating_namespaces += (is_terminating ? 1U : 0U) - (was_terminating ? 1U : 0U);
    gc->waiting_owners += (is_waiting_owner(new_object) ? 1U : 0U) - (is_waiting_owner(old_object) ? 1U : 0U);
    dependents_note(&gc->dependents, resource, key, old_object, new_object);
    if (new_object == NULL) {
        (void)map_remove(&gc->alive, object_uid(old_object));
        add_dependents_due(gc, object_uid(old_object));
    } else {
        if (old_object == NULL) {
            (void)map_set(&gc->alive, object_uid(new_object), gc);
        }
        if (has_unknown_owner(gc, new_object)) {
            add_due(gc, resource, key);
        }
    }
    gc->looks_at_all = gc->looks_at_all || gc->terminating_namespaces > 0 || gc->waiting_owners > 0;
    if ((gc->looks_at_all || gc->due_count > 0) && !timer_is_set(&gc->pass)) {
        timer_set(&gc->pass, PASS_DELAY_MS);
    }
}

static void on_change(void *arg, const struct change *change) {
    note(arg, change->resource, change->key, change->old_object, change->new_object);
}

/* ---- a pass ---- */

struct work_item {
    const struct resource *resource;
    char *key;
    json_t *replacement; /* NULL = delete in the background */
};

struct pass {
    struct gc *gc;
    const struct resource *resource; /* being walked */
    struct work_item items[PASS_CHANGES_MAX];
    size_t count;
    bool is_cut;
    struct map foreground;       /* uid of an owner that waits -> its number of dependents + 1 */
    struct map namespace_counts; /* terminating namespace -> objects in it + 1 */
};

static void pass_add(struct pass *pass, const char *key, json_t *replacement) {
    if (pass->count == PASS_CHANGES_MAX) {
        pass->is_cut = true;
        json_decref(replacement);
        return;
    }
    pass->items[pass->count++] = (struct work_item){pass->resource, xstrdup(key), replacement};
}

static void count_up(struct map *map, const char *key) {
    uintptr_t count = (uintptr_t)map_get(map, key);
    (void)map_set(map, key, (void *)(count + 1));
}

/* First walk: who waits for dependents or contents. */
static bool note_waiting(void *arg, const char *key, const json_t *object) {
    struct pass *pass = arg;
    if (is_waiting_owner(object)) {
        count_up(&pass->foreground, object_uid(object));
    }
    if (is_terminating_namespace(pass->resource, object)) {
        count_up(&pass->namespace_counts, key);
    }
    return true;
}

static bool is_owner_gone(const struct gc *gc, const json_t *owner) {
    return map_get(&gc->alive, json_string_at(owner, "uid", "")) == NULL &&
           resource_find_kind(json_string_at(owner, "apiVersion", ""), json_string_at(owner, "kind", "")) != NULL;
}

/* What the owners of an object mean for it: kept, deleted, or changed. */
static void judge_owners(struct pass *pass, const char *key, const json_t *object) {
    const json_t *owners = owners_of(object);
    bool is_owner_waiting = false;
    cleanup_json json_t *kept = json_array();
    size_t i = 0;
    json_t *owner = NULL;
    json_array_foreach(owners, i, owner) {
        if (map_get(&pass->foreground, json_string_at(owner, "uid", "")) != NULL) {
            count_up(&pass->foreground, json_string_at(owner, "uid", ""));
            is_owner_waiting = true;
        }
        if (!is_owner_gone(pass->gc, owner)) {
            json_array_append(kept, owner);
        }
    }
    if (object_is_deleting(object)) {
        return;
    }
    if (json_array_size(kept) == 0 || is_owner_waiting) {
        pass_add(pass, key, NULL);
    } else if (json_array_size(kept) < json_array_size(owners)) {
        json_t *changed = object_touch(object);
        json_object_set(object_meta_mutable(changed), "ownerReferences", kept);
        pass_add(pass, key, changed);
    }
}

static bool judge(void *arg, const char *key, const json_t *object) {
    struct pass *pass = arg;
    const char *namespace = object_namespace(object);
    if (*namespace != '\0' && map_get(&pass->namespace_counts, namespace) != NULL) {
        count_up(&pass->namespace_counts, namespace);
        if (!object_is_deleting(object)) {
            pass_add(pass, key, NULL);
        }
        return !pass->is_cut;
    }
    if (json_array_size(owners_of(object)) > 0) {
        judge_owners(pass, key, object);
    }
    return !pass->is_cut;
}

/* Last walk: those that waited and need not any more. */
static bool release_waiting(void *arg, const char *key, const json_t *object) {
    struct pass *pass = arg;
    if ((uintptr_t)map_get(&pass->foreground, object_uid(object)) == 1) {
        json_t *released = object_touch(object);
        object_remove_finalizer(released, FINALIZER_FOREGROUND);
        pass_add(pass, key, released);
    } else if (is_terminating_namespace(pass->resource, object) && (uintptr_t)map_get(&pass->namespace_counts, key) == 1 &&
               !object_has_finalizers(object)) {
        json_t *released = object_touch(object); /* empty: nothing is left to wait for */
        json_object_set_new(released, "spec", json_object());
        pass_add(pass, key, released);
    }
    return !pass->is_cut;
}

static void walk(struct pass *pass, bool (*each)(void *arg, const char *key, const json_t *object)) {
    for (size_t i = 0; i < resource_count() && !pass->is_cut; i++) {
        pass->resource = &resource_table[i];
        state_each_latest(pass->gc->state, pass->resource, each, pass);
    }
}

static void look_at_all(struct pass *pass) {
    walk(pass, note_waiting);
    walk(pass, judge);
    walk(pass, release_waiting); /* stops at once when the pass is cut: counts are not complete then */
}

/* Nobody waits: only what lost an owner is of interest. What does not fit stays due. */
static void look_at_due(struct pass *pass) {
    struct gc *gc = pass->gc;
    while (gc->due_count > 0 && pass->count < PASS_CHANGES_MAX) {
        struct dependent *due = &gc->due[--gc->due_count];
        const json_t *object = state_latest(gc->state, due->resource, due->key);
        pass->resource = due->resource;
        if (object != NULL && json_array_size(owners_of(object)) > 0) {
            judge_owners(pass, due->key, object);
        }
        free(due->key);
    }
    pass->is_cut = gc->due_count > 0;
}

static void forget_due(struct gc *gc) {
    while (gc->due_count > 0) {
        free(gc->due[--gc->due_count].key);
    }
}

static void apply(struct pass *pass, struct transaction *transaction, struct work_item *item) {
    struct state *state = pass->gc->state;
    bool is_empty_namespace = item->resource == resource_namespaces && item->replacement != NULL;
    if (state_latest(state, item->resource, item->key) == NULL) {
        json_decref(item->replacement);
    } else if (item->replacement == NULL) {
        cleanup_json json_t *ignored = NULL;
        (void)deletion_run(transaction, state, item->resource, item->key, &DELETION_BACKGROUND, &ignored);
    } else if (is_empty_namespace || deletion_is_complete(item->resource, item->replacement)) {
        (void)transaction_delete(transaction, item->resource, item->key);
        json_decref(item->replacement);
    } else {
        (void)transaction_put(transaction, item->resource, item->key, item->replacement);
    }
    free(item->key);
}

/* What could not be written is still to be collected. */
static void on_pass_stored(void *arg, const struct error *err) {
    struct gc *gc = arg;
    if (err != NULL) {
        gc->looks_at_all = true;
        timer_set(&gc->pass, 1000);
    }
}

static void on_pass(void *arg) {
    struct gc *gc = arg;
    if (!state_is_writable(gc->state)) {
        timer_set(&gc->pass, 1000);
        return;
    }
    struct pass *pass = xcalloc(1, sizeof(*pass));
    pass->gc = gc;
    if (gc->looks_at_all) {
        forget_due(gc);
        look_at_all(pass);
        gc->looks_at_all = pass->is_cut;
    } else {
        look_at_due(pass);
    }
    if (pass->count > 0) {
        struct transaction *transaction = transaction_new(gc->state);
        for (size_t i = 0; i < pass->count; i++) {
            apply(pass, transaction, &pass->items[i]);
        }
        log_debug("garbage collection: %zu objects deleted or changed", pass->count);
        transaction_submit(transaction, on_pass_stored, gc);
    }
    if (pass->is_cut) {
        timer_set(&gc->pass, PASS_DELAY_MS);
    }
    map_release(&pass->foreground);
    map_release(&pass->namespace_counts);
    free(pass);
}

/* ---- events ---- */

struct aged_event {
    char *key;
    int64_t seen_ms;
};

struct aged_events {
    struct aged_event *items;
    size_t count;
};

static bool note_event(void *arg, const char *key, const json_t *object) {
    struct aged_events *events = arg;
    int64_t seen_ms = object_created_ms(object);
    int64_t last_ms = 0;
    const char *last = json_string_at(object, "series.lastObservedTime", json_string_at(object, "lastTimestamp", NULL));
    if (last != NULL && clock_parse_rfc3339(last, &last_ms) == 0 && last_ms > seen_ms) {
        seen_ms = last_ms;
    }
    events->items = xrealloc(events->items, (events->count + 1) * sizeof(struct aged_event));
    events->items[events->count++] = (struct aged_event){xstrdup(key), seen_ms};
    return true;
}

static int newest_first(const void *a, const void *b) {
    int64_t left = ((const struct aged_event *)a)->seen_ms;
    int64_t right = ((const struct aged_event *)b)->seen_ms;
    return (left < right) - (left > right);
}

static void on_events(void *arg) {
    struct gc *gc = arg;
    timer_set(&gc->events, EVENTS_PERIOD_MS);
    if (!state_is_writable(gc->state)) {
        return;
    }
    struct aged_events events = {0};
    state_each_latest(gc->state, resource_events, note_event, &events);
    if (events.count > 0) {
        qsort(events.items, events.count, sizeof(struct aged_event), newest_first);
    }
    int64_t expired_ms = clock_wall_ms() - EVENT_TTL_MS;
    struct transaction *transaction = transaction_new(gc->state);
    for (size_t i = 0; i < events.count; i++) {
        if (i >= EVENTS_MAX || events.items[i].seen_ms < expired_ms) {
            (void)transaction_delete(transaction, resource_events, events.items[i].key);
        }
        free(events.items[i].key);
    }
    free(events.items);
    transaction_submit(transaction, NULL, NULL);
}

/* ---- orphans ---- */

struct orphaning {
    struct transaction *transaction;
    const struct resource *resource;
    const char *uid;
    char **keys;
    size_t count;
};

static json_t *without_owner(const json_t *object, const char *uid) {
    json_t *kept = json_array();
    size_t i = 0;
    json_t *owner = NULL;
    json_array_foreach(owners_of(object), i, owner) {
        if (strcmp(json_string_at(owner, "uid", ""), uid) != 0) {
            json_array_append(kept, owner);
        }
    }
    json_t *changed = object_touch(object);
    json_object_set_new(object_meta_mutable(changed), "ownerReferences", kept);
    return changed;
}

static bool note_dependent(void *arg, const char *key, const json_t *object) {
    struct orphaning *orphaning = arg;
    size_t i = 0;
    const json_t *owner = NULL;
    json_array_foreach(owners_of(object), i, owner) {
        if (strcmp(json_string_at(owner, "uid", ""), orphaning->uid) == 0) {
            orphaning->keys = xrealloc(orphaning->keys, (orphaning->count + 1) * sizeof(char *));
            orphaning->keys[orphaning->count++] = xstrdup(key);
            break;
        }
    }
    return true;
}

void gc_orphan_dependents(struct transaction *transaction, struct state *state, const char *owner_uid) {
    for (size_t i = 0; i < resource_count(); i++) {
        const struct resource *resource = &resource_table[i];
        struct orphaning orphaning = {.transaction = transaction, .resource = resource, .uid = owner_uid};
        state_each_latest(state, resource, note_dependent, &orphaning);
        for (size_t k = 0; k < orphaning.count; k++) {
            const json_t *object = state_latest(state, resource, orphaning.keys[k]);
            (void)transaction_put(transaction, resource, orphaning.keys[k], without_owner(object, owner_uid));
            free(orphaning.keys[k]);
        }
        free(orphaning.keys);
    }
}

/* ---- life ---- */

struct gc *gc_new(struct loop *loop, struct state *state) {
    struct gc *gc = xcalloc(1, sizeof(*gc));
    gc->loop = loop;
    gc->state = state;
    timer_init(&gc->pass, loop, on_pass, gc);
    timer_init(&gc->events, loop, on_events, gc);
    for (size_t i = 0; i < resource_count(); i++) {
        struct state_iterator it = state_iterate(state, &resource_table[i], NULL, NULL);
        const json_t *object = NULL;
        while (&resource_table[i] != resource_events && (object = state_next(&it)) != NULL) {
            note(gc, &resource_table[i], it.key, NULL, object);
        }
    }
    gc->looks_at_all = true;
    timer_set(&gc->pass, 0);
    timer_set(&gc->events, EVENTS_PERIOD_MS);
    state_listen(state, on_change, gc);
    return gc;
}

void gc_free(struct gc *gc) {
    if (gc == NULL) {
        return;
    }
    timer_release(&gc->pass);
    timer_release(&gc->events);
    map_release(&gc->alive);
    dependents_release(&gc->dependents);
    forget_due(gc);
    free(gc->due);
    free(gc);
}
