#include "gateway/route_table.h"

#include "adapter/names.h"
#include "base/map.h"
#include "gateway/route_read.h"

#include <string.h>
#include <sys/queue.h>

struct pod_record {
    struct route_pod facts;
    char *key; /* "namespace/name" */
    const char *name;
    bool is_gone;
    TAILQ_ENTRY(pod_record) in_gone;
};

struct slice_record {
    struct route_slice facts;
    struct adapter_record *adapter;
    LIST_ENTRY(slice_record) in_adapter;
};

/* A ModelAdapter, or only the slices under its name while it is not (or no longer) there. */
struct adapter_record {
    struct route_adapter facts;
    char *key;
    char *namespace;
    const char *name;
    bool exists;
    char *hidden_by; /* as of the last build; see struct route_hidden */
    LIST_HEAD(slice_list, slice_record) slices;
    struct route_model *model; /* as of the last build; NULL = to be made anew */
};

struct route_table {
    struct map pods;                        /* "namespace/name" -> pod_record */
    struct map pods_by_ip;                  /* borrowed */
    TAILQ_HEAD(gone_list, pod_record) gone; /* oldest first */
    size_t gone_count;
    struct map slices;               /* "namespace/name" -> slice_record */
    struct map adapters;             /* "namespace/name" -> adapter_record */
    struct adapter_record **by_name; /* those that exist, by name; of one name the first has it */
    size_t by_name_count;
    size_t by_name_room;
    struct route_hidden *hidden; /* as of the last build */
    size_t hidden_count;
    size_t hidden_room;
    struct map bases; /* name -> route_model, as of the last change of a pod */
    bool pods_changed;
    struct map endpoints; /* "address port" -> route_endpoint, a reference each */
};

struct route_table *route_table_new(void) {
    struct route_table *table = xcalloc(1, sizeof(*table));
    TAILQ_INIT(&table->gone);
    table->pods_changed = true;
    return table;
}

static char *make_key(const char *namespace, const char *name) {
    return xasprintf("%s/%s", namespace, name);
}

/* ---- pods ---- */

static void forget_addresses(struct route_table *table, const struct pod_record *pod) {
    for (size_t i = 0; i < ROUTE_POD_IPS_MAX; i++) {
        if (map_get(&table->pods_by_ip, pod->facts.ips[i]) == pod) {
            map_remove(&table->pods_by_ip, pod->facts.ips[i]);
        }
    }
}

/* Pods on the host's network share an address: one that can be asked is preferred. */
static void note_addresses(struct route_table *table, struct pod_record *pod) {
    for (size_t i = 0; i < ROUTE_POD_IPS_MAX && pod->facts.ips[i][0] != '\0'; i++) {
        const struct pod_record *other = map_get(&table->pods_by_ip, pod->facts.ips[i]);
        if (other == NULL || pod->facts.state >= other->facts.state) {
            map_set(&table->pods_by_ip, pod->facts.ips[i], pod);
        }
    }
}

static void drop_pod(struct route_table *table, struct pod_record *pod) {
    forget_addresses(table, pod);
    map_remove(&table->pods, pod->key);
    route_pod_release(&pod->facts);
    free(pod->key);
    free(pod);
}

static bool mark_gone(struct route_table *table, struct pod_record *pod) {
    if (pod == NULL || pod->is_gone) {
        return false;
    }
    pod->is_gone = true;
    pod->facts.state = ROUTE_STATE_OUT;
    TAILQ_INSERT_TAIL(&table->gone, pod, in_gone);
    if (++table->gone_count > ROUTE_GONE_PODS_MAX) {
        struct pod_record *oldest = TAILQ_FIRST(&table->gone);
        TAILQ_REMOVE(&table->gone, oldest, in_gone);
        table->gone_count--;
        drop_pod(table, oldest);
    }
    table->pods_changed = true;
    return true;
}

bool route_table_set_pod(struct route_table *table, const char *namespace, const char *name, const json_t *object) {
    cleanup_free char *key = make_key(namespace, name);
    struct pod_record *pod = map_get(&table->pods, key);
    if (object == NULL) {
        return mark_gone(table, pod);
    }
    struct route_pod facts;
    route_pod_read(object, &facts);
    if (pod == NULL) {
        pod = xcalloc(1, sizeof(*pod));
        pod->key = take_pointer(key);
        pod->name = strchr(pod->key, '/') + 1;
        map_set(&table->pods, pod->key, pod);
    } else if (!pod->is_gone && route_pod_equal(&pod->facts, &facts)) {
        route_pod_release(&facts);
        return false;
    } else {
        forget_addresses(table, pod);
        route_pod_release(&pod->facts);
    }
    if (pod->is_gone) {
        pod->is_gone = false;
        TAILQ_REMOVE(&table->gone, pod, in_gone);
        table->gone_count--;
    }
    pod->facts = facts;
    note_addresses(table, pod);
    table->pods_changed = true;
    return true;
}

/* ---- adapters ---- */

/* Of equal names the oldest comes first. A tie goes by uid, which nobody chooses; the namespace only makes the order a total one.
 */
static int compare_records(const struct adapter_record *a, const struct adapter_record *b) {
    int order = strcmp(a->name, b->name);
    if (order == 0 && a->facts.created_s != b->facts.created_s) {
        order = a->facts.created_s < b->facts.created_s ? -1 : 1;
    }
    order = order != 0 ? order : strcmp(a->facts.uid, b->facts.uid);
    return order != 0 ? order : strcmp(a->namespace, b->namespace);
}

/* Where the record is, or belongs, in by_name. */
static size_t find_by_name(const struct route_table *table, const struct adapter_record *adapter) {
    size_t low = 0;
    for (size_t high = table->by_name_count; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (compare_records(table->by_name[middle], adapter) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void insert_by_name(struct route_table *table, struct adapter_record *adapter) {
    if (table->by_name_count == table->by_name_room) {
        table->by_name_room = table->by_name_room * 2 + 16;
        table->by_name = xrealloc(table->by_name, table->by_name_room * sizeof(struct adapter_record *));
    }
    size_t at = find_by_name(table, adapter);
    memmove(table->by_name + at + 1, table->by_name + at, (table->by_name_count - at) * sizeof(struct adapter_record *));
    table->by_name[at] = adapter;
    table->by_name_count++;
}

static void remove_by_name(struct route_table *table, const struct adapter_record *adapter) {
    size_t at = find_by_name(table, adapter);
    table->by_name_count--;
    memmove(table->by_name + at, table->by_name + at + 1, (table->by_name_count - at) * sizeof(struct adapter_record *));
}

static void adapter_is_dirty(struct adapter_record *adapter) {
    route_model_unref(take_pointer(adapter->model));
}

static struct adapter_record *get_adapter(struct route_table *table, const char *namespace, const char *name) {
    cleanup_free char *key = make_key(namespace, name);
    struct adapter_record *adapter = map_get(&table->adapters, key);
    if (adapter == NULL) {
        adapter = xcalloc(1, sizeof(*adapter));
        adapter->key = take_pointer(key);
        adapter->namespace = xstrdup(namespace);
        adapter->name = strchr(adapter->key, '/') + 1;
        LIST_INIT(&adapter->slices);
        map_set(&table->adapters, adapter->key, adapter);
    }
    return adapter;
}

static void drop_adapter_if_empty(struct route_table *table, struct adapter_record *adapter) {
    if (adapter->exists || !LIST_EMPTY(&adapter->slices)) {
        return;
    }
    map_remove(&table->adapters, adapter->key);
    adapter_is_dirty(adapter);
    free(adapter->hidden_by);
    free(adapter->key);
    free(adapter->namespace);
    free(adapter);
}

bool route_table_set_adapter(struct route_table *table, const char *namespace, const char *name, const json_t *object) {
    struct adapter_record *adapter = get_adapter(table, namespace, name);
    struct route_adapter facts = {0};
    if (object != NULL) {
        route_adapter_read(object, &facts);
        if (adapter->exists && route_adapter_equal(&adapter->facts, &facts)) {
            route_adapter_release(&facts);
            return false;
        }
    } else if (!adapter->exists) {
        drop_adapter_if_empty(table, adapter);
        return false;
    }
    adapter_is_dirty(adapter);
    if (adapter->exists) { /* its place hangs on the facts */
        remove_by_name(table, adapter);
    }
    route_adapter_release(&adapter->facts);
    adapter->exists = object != NULL;
    if (object == NULL) {
        free(take_pointer(adapter->hidden_by));
        drop_adapter_if_empty(table, adapter);
        return true;
    }
    adapter->facts = facts;
    insert_by_name(table, adapter);
    return true;
}

/* ---- slices ---- */

static void drop_slice(struct route_table *table, struct slice_record *slice) {
    struct adapter_record *adapter = slice->adapter;
    LIST_REMOVE(slice, in_adapter);
    adapter_is_dirty(adapter);
    drop_adapter_if_empty(table, adapter);
    route_slice_release(&slice->facts);
    free(slice);
}

bool route_table_set_slice(struct route_table *table, const char *namespace, const char *name, const json_t *object) {
    cleanup_free char *key = make_key(namespace, name);
    struct slice_record *slice = map_get(&table->slices, key);
    struct route_slice facts = {0};
    if (object != NULL) {
        route_slice_read(object, &facts);
    }
    /* Slices of ordinary Services are none of ours. */
    bool is_wanted = object != NULL && facts.owner_uid[0] != '\0' && facts.service[0] != '\0';
    if (slice != NULL && is_wanted && route_slice_equal(&slice->facts, &facts)) {
        route_slice_release(&facts);
        return false;
    }
    bool changed = slice != NULL || is_wanted;
    if (slice != NULL) {
        map_remove(&table->slices, key);
        drop_slice(table, slice);
    }
    if (!is_wanted) {
        route_slice_release(&facts);
        return changed;
    }
    slice = xcalloc(1, sizeof(*slice));
    slice->facts = facts;
    slice->adapter = get_adapter(table, namespace, facts.service);
    LIST_INSERT_HEAD(&slice->adapter->slices, slice, in_adapter);
    map_set(&table->slices, key, slice);
    adapter_is_dirty(slice->adapter);
    return changed;
}

/* ---- building ---- */

/* A reference to the endpoint at an address. What is known of its pod may have changed: then it is a new object with the
 * same load. */
static struct route_endpoint *find_or_make_endpoint(struct route_table *table, const char *host, int port, const char *pod_name,
                                                    const char *base, bool is_sglang) {
    cleanup_free char *key = xasprintf("%s %d", host, port);
    struct route_endpoint *endpoint = map_get(&table->endpoints, key);
    if (endpoint != NULL && endpoint->is_sglang == is_sglang && strcmp(endpoint->pod, pod_name) == 0 &&
        strcmp(endpoint->base, base) == 0) {
        return route_endpoint_ref(endpoint);
    }
    struct route_endpoint *fresh = route_endpoint_new(endpoint != NULL ? endpoint->load : NULL);
    fresh->host = xstrdup(host);
    fresh->port = port;
    fresh->pod = xstrdup(pod_name);
    fresh->base = xstrdup(base);
    fresh->is_sglang = is_sglang;
    map_set(&table->endpoints, key, fresh);
    if (endpoint != NULL) {
        route_endpoint_unref(endpoint);
    }
    return route_endpoint_ref(fresh); /* the other reference is the table's */
}

static struct route_endpoint *get_endpoint(struct route_table *table, const char *host, int port, const struct pod_record *pod) {
    return find_or_make_endpoint(table, host, port, pod->name, pod->facts.model, pod->facts.is_sglang);
}

static struct route_endpoint *get_endpoint_of_unwatched(struct route_table *table, const char *host, int port, const char *pod) {
    return find_or_make_endpoint(table, host, port, pod, "", false);
}

static void sweep_endpoints(struct route_table *table) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&table->endpoints, &at)) != NULL;) {
        struct route_endpoint *endpoint = entry->value;
        if (atomic_load_explicit(&endpoint->refs, memory_order_acquire) == 1) {
            map_remove(&table->endpoints, entry->key);
            route_endpoint_unref(endpoint);
        }
    }
}

static void release_bases(struct route_table *table) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&table->bases, &at)) != NULL;) {
        route_model_unref(entry->value);
    }
    map_release(&table->bases);
}

/* How many pods each base model has, so that its endpoints get their room at once. */
static void count_bases(const struct route_table *table, struct map *counts) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&table->pods, &at)) != NULL;) {
        const struct pod_record *pod = entry->value;
        if (!pod->is_gone && pod->facts.model[0] != '\0') {
            uintptr_t count = (uintptr_t)map_get(counts, pod->facts.model);
            map_set(counts, pod->facts.model, (void *)(count + 1));
        }
    }
}

/* Pods that are READY; then, for base models that got none, those that are ENDING. */
static void add_pods(struct route_table *table, enum route_state state) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&table->pods, &at)) != NULL;) {
        const struct pod_record *pod = entry->value;
        struct route_model *model = pod->facts.state == state ? map_get(&table->bases, pod->facts.model) : NULL;
        if (model != NULL && (state == ROUTE_STATE_READY || model->endpoint_count == 0 || model->is_ending)) {
            model->is_ending = state == ROUTE_STATE_ENDING;
            route_model_add(model, get_endpoint(table, pod->facts.ips[0], pod->facts.port, pod), NULL);
        }
    }
}

static void rebuild_bases(struct route_table *table) {
    release_bases(table);
    struct map counts = MAP_INIT;
    count_bases(table, &counts);
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&counts, &at)) != NULL;) {
        struct route_model *model = route_model_new(entry->key, (uintptr_t)entry->value);
        model->root = xstrdup(entry->key);
        map_set(&table->bases, entry->key, model);
    }
    map_release(&counts);
    at = 0;
    for (struct map_entry *entry; (entry = map_next(&table->pods, &at)) != NULL;) {
        const struct pod_record *pod = entry->value;
        struct route_model *model = pod->is_gone ? NULL : map_get(&table->bases, pod->facts.model);
        if (model == NULL) {
            continue;
        }
        if (model->created_s == 0 || pod->facts.created_s < model->created_s) {
            model->created_s = pod->facts.created_s;
        }
    }
    add_pods(table, ROUTE_STATE_READY);
    add_pods(table, ROUTE_STATE_ENDING);
}

static const struct pod_record *find_pod(const struct route_table *table, const char *namespace,
                                         const struct slice_endpoint *endpoint) {
    if (endpoint->pod[0] == '\0') {
        return map_get(&table->pods_by_ip, endpoint->ip);
    }
    cleanup_free char *key = make_key(namespace, endpoint->pod);
    return map_get(&table->pods, key);
}

static enum route_state worse(enum route_state a, enum route_state b) {
    return a < b ? a : b;
}

/* A pod may be named by a slice of each address family. One that is watched is asked at its own first address, whichever slice
 * names it; of one that is not, the IPv4 address is kept. */
static void add_slice_endpoint(struct route_table *table, const struct slice_record *slice, const struct slice_endpoint *endpoint,
                               const struct pod_record *pod, struct route_model *model) {
    int port = slice->facts.port != 0 ? slice->facts.port : pod != NULL ? pod->facts.port : ENGINE_PORT;
    if (pod != NULL) {
        route_model_add(model, get_endpoint(table, pod->facts.ips[0], port, pod), endpoint->engine_name);
        return;
    }
    struct route_endpoint *found = get_endpoint_of_unwatched(table, endpoint->ip, port, endpoint->pod);
    for (size_t i = 0; i < model->endpoint_count && endpoint->pod[0] != '\0'; i++) {
        struct route_endpoint *other = model->endpoints[i];
        if (strcmp(other->pod, found->pod) == 0 && other->port == port) {
            bool is_better = strchr(other->host, ':') != NULL && strchr(found->host, ':') == NULL;
            if (is_better) {
                route_model_replace(model, i, found);
            } else {
                route_endpoint_unref(found);
            }
            return;
        }
    }
    route_model_add(model, found, endpoint->engine_name);
}

static void add_slice(struct route_table *table, const struct adapter_record *adapter, const struct slice_record *slice,
                      enum route_state state, struct route_model *model) {
    for (size_t i = 0; i < slice->facts.count; i++) {
        const struct slice_endpoint *endpoint = &slice->facts.endpoints[i];
        const struct pod_record *pod = find_pod(table, adapter->namespace, endpoint);
        if (pod != NULL && !route_pod_has_ip(&pod->facts, endpoint->ip)) {
            continue;
        }
        if (worse(endpoint->state, pod != NULL ? pod->facts.state : ROUTE_STATE_READY) == state) {
            add_slice_endpoint(table, slice, endpoint, pod, model);
        }
    }
}

static void add_slices(struct route_table *table, const struct adapter_record *adapter, enum route_state state,
                       struct route_model *model) {
    const struct slice_record *slice;
    LIST_FOREACH(slice, &adapter->slices, in_adapter) {
        if (strcmp(slice->facts.owner_uid, adapter->facts.uid) == 0) {
            add_slice(table, adapter, slice, state, model);
        }
    }
}

static struct route_model *build_adapter(struct route_table *table, const struct adapter_record *adapter) {
    size_t room = 0;
    const struct slice_record *slice;
    LIST_FOREACH(slice, &adapter->slices, in_adapter) {
        room += slice->facts.count;
    }
    struct route_model *model = route_model_new(adapter->name, room);
    model->is_adapter = true;
    model->root = xstrdup(adapter->facts.root);
    model->created_s = adapter->facts.created_s;
    add_slices(table, adapter, ROUTE_STATE_READY, model);
    if (model->endpoint_count == 0) {
        model->is_ending = true;
        add_slices(table, adapter, ROUTE_STATE_ENDING, model);
    }
    const char *parent = model->endpoint_count > 0 ? model->endpoints[0]->base : "";
    model->parent = xstrdup(adapter->facts.base[0] != '\0' ? adapter->facts.base : parent);
    return model;
}

static int compare_models(const void *a, const void *b) {
    return strcmp((*(struct route_model *const *)a)->name, (*(struct route_model *const *)b)->name);
}

static void refresh_after_pods(struct route_table *table) {
    rebuild_bases(table);
    for (size_t i = 0; i < table->by_name_count; i++) {
        adapter_is_dirty(table->by_name[i]);
    }
    table->pods_changed = false;
}

/* Who has the adapter's name instead of it; NULL when it has it. `first`: the first adapter of that name. */
static const char *hidden_by(const struct route_table *table, const struct adapter_record *adapter,
                             const struct adapter_record *first) {
    if (map_get(&table->bases, adapter->name) != NULL) {
        return ROUTE_HIDDEN_BY_BASE;
    }
    return adapter != first ? first->namespace : NULL;
}

static void note_hidden(struct route_table *table, struct adapter_record *adapter, const char *by) {
    bool is_as_before = by != NULL ? adapter->hidden_by != NULL && strcmp(adapter->hidden_by, by) == 0 : adapter->hidden_by == NULL;
    if (by != NULL) {
        if (table->hidden_count == table->hidden_room) {
            table->hidden_room = table->hidden_room * 2 + 16;
            table->hidden = xrealloc(table->hidden, table->hidden_room * sizeof(*table->hidden));
        }
        if (!is_as_before) {
            free(adapter->hidden_by);
            adapter->hidden_by = xstrdup(by);
        }
        table->hidden[table->hidden_count++] = (struct route_hidden){
            .namespace = adapter->namespace, .name = adapter->name, .by = adapter->hidden_by, .is_new = !is_as_before};
    } else if (!is_as_before) {
        free(take_pointer(adapter->hidden_by));
    }
}

const struct route_hidden *route_table_hidden(const struct route_table *table, size_t *ret_count) {
    *ret_count = table->hidden_count;
    return table->hidden;
}

struct route_snapshot *route_table_build(struct route_table *table) {
    bool pods_changed = table->pods_changed;
    if (pods_changed) {
        refresh_after_pods(table);
    }
    struct route_model **models = xcalloc(table->bases.count + table->by_name_count + 1, sizeof(struct route_model *));
    size_t count = 0;
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&table->bases, &at)) != NULL;) {
        models[count++] = route_model_ref(entry->value);
    }
    qsort(models, count, sizeof(struct route_model *), compare_models);
    const struct adapter_record *first = NULL;
    table->hidden_count = 0;
    for (size_t i = 0; i < table->by_name_count; i++) {
        struct adapter_record *adapter = table->by_name[i];
        first = first != NULL && strcmp(first->name, adapter->name) == 0 ? first : adapter;
        const char *by = hidden_by(table, adapter, first);
        note_hidden(table, adapter, by);
        if (by != NULL) {
            continue;
        }
        if (adapter->model == NULL) {
            adapter->model = build_adapter(table, adapter);
        }
        models[count++] = route_model_ref(adapter->model);
    }
    if (pods_changed) {
        sweep_endpoints(table);
    }
    return route_snapshot_new(models, count);
}

/* ---- the end ---- */

void route_table_free(struct route_table *table) {
    if (table == NULL) {
        return;
    }
    size_t at = 0;
    struct map_entry *entry;
    while ((entry = map_next(&table->slices, &at)) != NULL) {
        drop_slice(table, entry->value);
    }
    at = 0;
    while ((entry = map_next(&table->adapters, &at)) != NULL) {
        struct adapter_record *adapter = entry->value;
        route_adapter_release(&adapter->facts);
        adapter->exists = false;
        drop_adapter_if_empty(table, adapter);
    }
    at = 0;
    while ((entry = map_next(&table->pods, &at)) != NULL) {
        drop_pod(table, entry->value);
    }
    release_bases(table);
    at = 0;
    while ((entry = map_next(&table->endpoints, &at)) != NULL) {
        route_endpoint_unref(entry->value);
    }
    map_release(&table->slices);
    map_release(&table->adapters);
    map_release(&table->pods);
    map_release(&table->pods_by_ip);
    map_release(&table->endpoints);
    free(table->by_name);
    free(table->hidden);
    free(table);
}
