#include "cluster/api/state.h"

#include "base/log.h"
#include "base/map.h"
#include "cluster/api/object.h"
#include "cluster/api/store.h"

#include <string.h>

#define LISTENERS_MAX 4

struct entry {
    char *key;
    json_t *committed; /* NULL = not there yet, or deleted */
    json_t *latest;    /* NULL = deleted */
    int in_flight;     /* changes on their way to disk */
};

/* What a change owns behind the borrowed view of it. */
struct owned_change {
    struct change view;
    struct entry *entry;
    json_t *object; /* new object or tombstone */
    json_t *old_object;
    char *key;
    char *text;
};

struct collection {
    const struct resource *resource;
    char *name; /* "deployments.apps": the resource's name on disk */
    struct map entries;
    size_t committed_count;
    struct entry **sorted; /* entries with a committed object, by key; rebuilt when stale */
    size_t sorted_count;
    bool is_sorted;
    struct owned_change **history; /* ring */
    int64_t history_first;         /* index of the oldest, rising for ever */
    int64_t history_next;
    size_t history_bytes;
    int64_t forgotten_revision; /* changes up to here are not in the history */
};

struct state {
    struct loop *loop;
    struct store *store;
    struct collection *collections; /* by resource_index */
    int64_t revision;               /* committed */
    int64_t next_revision;
    size_t in_flight;
    bool has_failed;
    struct {
        void (*on_change)(void *arg, const struct change *change);
        void *arg;
    } listeners[LISTENERS_MAX];
    size_t listener_count;
};

struct transaction {
    struct state *state;
    struct owned_change **changes;
    size_t count;
    size_t capacity;
    struct store_write *writes;
    struct store_batch batch;
    json_t *last_object; /* of the last change, with its text, once it is committed */
    char *last_text;
    size_t last_text_len;
    void (*on_done)(void *arg, const struct error *err);
    void *arg;
};

static struct collection *collection_of(const struct state *state, const struct resource *resource) {
    return &state->collections[resource_index(resource)];
}

/* ---- entries ---- */

static struct entry *entry_get_or_add(struct collection *collection, const char *key) {
    struct entry *entry = map_get(&collection->entries, key);
    if (entry == NULL) {
        entry = xcalloc(1, sizeof(*entry));
        entry->key = xstrdup(key);
        (void)map_set(&collection->entries, key, entry);
    }
    return entry;
}

static void entry_free(struct entry *entry) {
    json_decref(entry->committed);
    json_decref(entry->latest);
    free(entry->key);
    free(entry);
}

static void entry_drop_if_gone(struct collection *collection, struct entry *entry) {
    if (entry->committed == NULL && entry->latest == NULL && entry->in_flight == 0) {
        (void)map_remove(&collection->entries, entry->key);
        entry_free(entry);
    }
}

static void set_committed(struct collection *collection, struct entry *entry, json_t *object) {
    if ((entry->committed == NULL) != (object == NULL)) {
        collection->is_sorted = false;
        collection->committed_count += object != NULL ? 1 : (size_t)-1;
    }
    json_t *old = entry->committed;
    entry->committed = json_incref(object);
    json_decref(old);
}

/* ---- history ---- */

static void change_free(struct owned_change *change) {
    json_decref(change->object);
    json_decref(change->old_object);
    free(change->key);
    free(change->text);
    free(change);
}

static void history_drop_first(struct collection *collection) {
    struct owned_change *oldest = collection->history[collection->history_first % HISTORY_CHANGES_MAX];
    collection->history_first++;
    collection->history_bytes -= oldest->view.text_len;
    collection->forgotten_revision = oldest->view.revision;
    change_free(oldest);
}

static void history_append(struct collection *collection, struct owned_change *change) {
    if (collection->history == NULL) {
        collection->history = xcalloc(HISTORY_CHANGES_MAX, sizeof(struct owned_change *));
    }
    while (collection->history_next - collection->history_first >= HISTORY_CHANGES_MAX ||
           (collection->history_next > collection->history_first &&
            collection->history_bytes + change->view.text_len > HISTORY_BYTES_MAX)) {
        history_drop_first(collection);
    }
    collection->history[collection->history_next++ % HISTORY_CHANGES_MAX] = change;
    collection->history_bytes += change->view.text_len;
}

int64_t state_history_find(const struct state *state, const struct resource *resource, int64_t after_revision) {
    const struct collection *collection = collection_of(state, resource);
    if (after_revision < collection->forgotten_revision) {
        return -1;
    }
    int64_t low = collection->history_first;
    int64_t high = collection->history_next;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (collection->history[middle % HISTORY_CHANGES_MAX]->view.revision <= after_revision) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct change *state_history_at(const struct state *state, const struct resource *resource, int64_t index) {
    const struct collection *collection = collection_of(state, resource);
    if (index < collection->history_first || index >= collection->history_next) {
        return NULL;
    }
    return &collection->history[index % HISTORY_CHANGES_MAX]->view;
}

/* ---- reading ---- */

int64_t state_revision(const struct state *state) {
    return state->revision;
}

const json_t *state_get(const struct state *state, const struct resource *resource, const char *key) {
    const struct entry *entry = map_get(&collection_of(state, resource)->entries, key);
    return entry != NULL ? entry->committed : NULL;
}

const json_t *state_latest(const struct state *state, const struct resource *resource, const char *key) {
    const struct entry *entry = map_get(&collection_of(state, resource)->entries, key);
    return entry != NULL ? entry->latest : NULL;
}

size_t state_count(const struct state *state, const struct resource *resource) {
    return collection_of(state, resource)->committed_count;
}

void state_each_latest(const struct state *state, const struct resource *resource,
                       bool (*each)(void *arg, const char *key, const json_t *object), void *arg) {
    const struct collection *collection = collection_of(state, resource);
    const struct map_entry *item = NULL;
    for (size_t at = 0; (item = map_next(&collection->entries, &at)) != NULL;) {
        const struct entry *entry = item->value;
        if (entry->latest != NULL && !each(arg, entry->key, entry->latest)) {
            return;
        }
    }
}

static int compare_entries(const void *a, const void *b) {
    return strcmp((*(struct entry *const *)a)->key, (*(struct entry *const *)b)->key);
}

static void sort_collection(struct collection *collection) {
    if (collection->is_sorted) {
        return;
    }
    collection->sorted = xrealloc(collection->sorted, (collection->committed_count + 1) * sizeof(struct entry *));
    collection->sorted_count = 0;
    const struct map_entry *item = NULL;
    for (size_t at = 0; (item = map_next(&collection->entries, &at)) != NULL;) {
        struct entry *entry = item->value;
        if (entry->committed != NULL) {
            collection->sorted[collection->sorted_count++] = entry;
        }
    }
    qsort(collection->sorted, collection->sorted_count, sizeof(struct entry *), compare_entries);
    collection->is_sorted = true;
}

struct state_iterator state_iterate(struct state *state, const struct resource *resource, const char *namespace,
                                    const char *after) {
    struct collection *collection = collection_of(state, resource);
    sort_collection(collection);
    bool is_all = namespace == NULL || *namespace == '\0';
    cleanup_free char *from = after != NULL ? xstrdup(after) : is_all ? xstrdup("") : xasprintf("%s/", namespace);
    size_t low = 0;
    size_t high = collection->sorted_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(collection->sorted[middle]->key, from) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return (struct state_iterator){.state = state,
                                   .resource = resource,
                                   .namespace = is_all ? NULL : namespace,
                                   .namespace_len = is_all ? 0 : strlen(namespace),
                                   .at = low};
}

const json_t *state_next(struct state_iterator *it) {
    const struct collection *collection = collection_of(it->state, it->resource);
    if (it->at >= collection->sorted_count) {
        return NULL;
    }
    const struct entry *entry = collection->sorted[it->at];
    if (it->namespace != NULL &&
        (strncmp(entry->key, it->namespace, it->namespace_len) != 0 || entry->key[it->namespace_len] != '/')) {
        return NULL;
    }
    it->at++;
    it->key = entry->key;
    return entry->committed;
}

/* ---- writing ---- */

bool state_is_writable(const struct state *state) {
    return !state->has_failed;
}

size_t state_in_flight(const struct state *state) {
    return state->in_flight;
}

struct transaction *transaction_new(struct state *state) {
    struct transaction *transaction = xcalloc(1, sizeof(*transaction));
    transaction->state = state;
    return transaction;
}

size_t transaction_count(const struct transaction *transaction) {
    return transaction->count;
}

const char *transaction_text(const struct transaction *transaction, const json_t *object, size_t *ret_len) {
    if (transaction->last_text == NULL || transaction->last_object != object) {
        return NULL;
    }
    *ret_len = transaction->last_text_len;
    return transaction->last_text;
}

/* `object` (taken): the new object, or the tombstone when is_delete. */
static const json_t *add_change(struct transaction *transaction, const struct resource *resource, const char *key, json_t *object,
                                bool is_delete) {
    struct state *state = transaction->state;
    struct entry *entry = entry_get_or_add(collection_of(state, resource), key);
    struct owned_change *change = xcalloc(1, sizeof(*change));
    int64_t revision = state->next_revision++;
    object_set_revision(object, revision);
    change->entry = entry;
    change->object = object;
    change->old_object = json_incref(entry->latest);
    change->key = xstrdup(key);
    change->text = json_text(object);
    change->view = (struct change){.revision = revision,
                                   .resource = resource,
                                   .key = change->key,
                                   .old_object = change->old_object,
                                   .new_object = is_delete ? NULL : object,
                                   .tombstone = is_delete ? object : NULL,
                                   .text_len = strlen(change->text)};
    json_t *before = entry->latest;
    entry->latest = is_delete ? NULL : json_incref(object);
    json_decref(before);
    entry->in_flight++;
    if (transaction->count == transaction->capacity) {
        transaction->capacity = transaction->capacity == 0 ? 1 : transaction->capacity * 2;
        transaction->changes = xrealloc(transaction->changes, transaction->capacity * sizeof(struct owned_change *));
    }
    transaction->changes[transaction->count++] = change;
    return object;
}

const json_t *transaction_put(struct transaction *transaction, const struct resource *resource, const char *key, json_t *object) {
    return add_change(transaction, resource, key, object, false);
}

const json_t *transaction_delete(struct transaction *transaction, const struct resource *resource, const char *key) {
    const json_t *latest = state_latest(transaction->state, resource, key);
    return latest != NULL ? add_change(transaction, resource, key, object_touch(latest), true) : NULL;
}

/* Returns the change's text, of the caller's; the change may be gone afterwards. */
static char *commit_change(struct state *state, struct owned_change *change) {
    struct collection *collection = collection_of(state, change->view.resource);
    set_committed(collection, change->entry, change->view.new_object != NULL ? change->object : NULL);
    change->entry->in_flight--;
    state->revision = change->view.revision;
    change->view.text = change->text;
    history_append(collection, change);
    for (size_t i = 0; i < state->listener_count; i++) {
        state->listeners[i].on_change(state->listeners[i].arg, &change->view);
    }
    change->view.text = NULL;
    entry_drop_if_gone(collection, change->entry);
    change->entry = NULL;
    return take_pointer(change->text);
}

static void fail_change(struct state *state, struct owned_change *change) {
    struct entry *entry = change->entry;
    if (--entry->in_flight == 0) {
        json_t *lost = entry->latest;
        entry->latest = json_incref(entry->committed);
        json_decref(lost);
        entry_drop_if_gone(collection_of(state, change->view.resource), entry);
    }
    change_free(change);
}

static void on_stored(void *arg, const struct error *err) {
    struct transaction *transaction = arg;
    struct state *state = transaction->state;
    if (err != NULL && !state->has_failed) {
        state->has_failed = true;
        log_error("%s: writes in flight are refused and undone", err->message);
    }
    for (size_t i = 0; i < transaction->count; i++) {
        if (err != NULL) {
            fail_change(state, transaction->changes[i]);
            continue;
        }
        json_decref(transaction->last_object);
        free(transaction->last_text);
        transaction->last_object = json_incref(transaction->changes[i]->object);
        transaction->last_text_len = transaction->changes[i]->view.text_len;
        transaction->last_text = commit_change(state, transaction->changes[i]);
    }
    state->in_flight--;
    if (state->has_failed && state->in_flight == 0) {
        state->has_failed = false;
        store_resume(state->store);
    }
    if (transaction->on_done != NULL) {
        transaction->on_done(transaction->arg, err);
    }
    json_decref(transaction->last_object);
    free(transaction->last_text);
    free(transaction->changes);
    free(transaction->writes);
    free(transaction);
}

void transaction_submit(struct transaction *transaction, void (*on_done)(void *arg, const struct error *err), void *arg) {
    transaction->on_done = on_done;
    transaction->arg = arg;
    transaction->writes = xcalloc(transaction->count + 1, sizeof(struct store_write));
    for (size_t i = 0; i < transaction->count; i++) {
        const struct owned_change *change = transaction->changes[i];
        transaction->writes[i] = (struct store_write){.resource = collection_of(transaction->state, change->view.resource)->name,
                                                      .key = change->key,
                                                      .revision = change->view.revision,
                                                      .text = change->view.new_object != NULL ? change->text : NULL,
                                                      .len = change->view.text_len};
    }
    transaction->batch =
        (struct store_batch){.writes = transaction->writes, .count = transaction->count, .on_done = on_stored, .arg = transaction};
    transaction->state->in_flight++;
    store_submit(transaction->state->store, &transaction->batch);
}

void state_listen(struct state *state, void (*on_change)(void *arg, const struct change *change), void *arg) {
    if (state->listener_count == LISTENERS_MAX) {
        abort();
    }
    state->listeners[state->listener_count].on_change = on_change;
    state->listeners[state->listener_count++].arg = arg;
}

/* ---- opening and closing ---- */

static int load_object(void *arg, const char *resource_name, const char *key, const char *text, size_t len, struct error *err) {
    struct state *state = arg;
    for (size_t i = 0; i < resource_count(); i++) {
        struct collection *collection = &state->collections[i];
        if (strcmp(collection->name, resource_name) != 0) {
            continue;
        }
        json_t *object = json_parse(text, len, err);
        if (object == NULL) {
            return error_wrap(err, "store: %s %s", resource_name, key);
        }
        struct entry *entry = entry_get_or_add(collection, key);
        set_committed(collection, entry, object);
        entry->latest = object;
        return 0;
    }
    log_warn("store: %s %s is not served and stays on disk", resource_name, key);
    return 0;
}

int state_open(struct loop *loop, const char *path, struct state **ret_state, struct error *err) {
    struct state *state = xcalloc(1, sizeof(*state));
    state->loop = loop;
    state->collections = xcalloc(resource_count(), sizeof(struct collection));
    for (size_t i = 0; i < resource_count(); i++) {
        const struct resource *resource = &resource_table[i];
        state->collections[i].resource = resource;
        state->collections[i].name =
            *resource->group != '\0' ? xasprintf("%s.%s", resource->plural, resource->group) : xstrdup(resource->plural);
    }
    if (store_open(path, &state->store, err) < 0 || store_load(state->store, load_object, state, &state->revision, err) < 0 ||
        store_start(state->store, loop, err) < 0) {
        state_close(state);
        return -1;
    }
    state->next_revision = state->revision + 1;
    for (size_t i = 0; i < resource_count(); i++) {
        state->collections[i].forgotten_revision = state->revision;
    }
    *ret_state = state;
    return 0;
}

static void collection_release(struct collection *collection) {
    const struct map_entry *item = NULL;
    for (size_t at = 0; (item = map_next(&collection->entries, &at)) != NULL;) {
        entry_free(item->value);
    }
    map_release(&collection->entries);
    while (collection->history_first < collection->history_next) {
        history_drop_first(collection);
    }
    free(collection->history);
    free(collection->sorted);
    free(collection->name);
}

void state_close(struct state *state) {
    if (state == NULL) {
        return;
    }
    store_close(state->store);
    for (size_t i = 0; i < resource_count(); i++) {
        collection_release(&state->collections[i]);
    }
    free(state->collections);
    free(state);
}
