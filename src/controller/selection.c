/* Which pods each selector matches. */
#include "controller/world.h"

#include <string.h>

/* ---- sorted pods ---- */

/* Index of the first pod that is not before `name`. */
static size_t find_pod(const struct selection *selection, const char *name) {
    size_t low = 0, high = selection->pod_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(selection->pods[middle]->facts.name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void add_pod(struct selection *selection, struct pod *pod) {
    size_t at = find_pod(selection, pod->facts.name);
    if (selection->pod_count == selection->pod_room) {
        selection->pod_room = selection->pod_room > 0 ? 2 * selection->pod_room : 8;
        selection->pods = xrealloc(selection->pods, selection->pod_room * sizeof(*selection->pods));
    }
    memmove(&selection->pods[at + 1], &selection->pods[at], (selection->pod_count - at) * sizeof(*selection->pods));
    selection->pods[at] = pod;
    selection->pod_count++;
    selection->ready_count += pod->is_counted_ready;
    if (pod->selection_count == pod->selection_room) {
        pod->selection_room = pod->selection_room > 0 ? 2 * pod->selection_room : 2;
        pod->selections = xrealloc(pod->selections, pod->selection_room * sizeof(*pod->selections));
    }
    pod->selections[pod->selection_count++] = selection;
}

static void remove_pod(struct selection *selection, struct pod *pod) {
    size_t at = find_pod(selection, pod->facts.name);
    selection->pod_count--;
    memmove(&selection->pods[at], &selection->pods[at + 1], (selection->pod_count - at) * sizeof(*selection->pods));
    selection->ready_count -= pod->is_counted_ready;
    size_t mine = 0;
    while (pod->selections[mine] != selection) {
        mine++;
    }
    pod->selections[mine] = pod->selections[--pod->selection_count];
}

bool selection_has(const struct pod *pod, const struct selection *selection) {
    for (size_t i = 0; i < pod->selection_count; i++) {
        if (pod->selections[i] == selection) {
            return true;
        }
    }
    return false;
}

void selection_update_pod(struct controller *controller, struct pod *pod, bool is_gone) {
    bool is_ready = pod->facts.is_ready && !is_gone;
    for (size_t i = 0; i < pod->selection_count; i++) {
        pod->selections[i]->ready_count += (size_t)is_ready - (size_t)pod->is_counted_ready;
    }
    pod->is_counted_ready = is_ready;
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&controller->selections, &at)) != NULL;) {
        struct selection *selection = entry->value;
        bool matches = !is_gone && strcmp(selection->namespace, pod->facts.namespace) == 0 &&
                       selector_matches(selection->selector, pod->facts.labels);
        bool is_in = selection_has(pod, selection);
        if (matches && !is_in) {
            add_pod(selection, pod);
        } else if (!matches && is_in) {
            remove_pod(selection, pod);
        }
    }
}

/* ---- adapters ---- */

static char *key_of(const struct adapter *adapter) {
    char *selector = json_dumps(json_at(adapter->object, "spec.podSelector"), JSON_COMPACT | JSON_SORT_KEYS);
    char *key = xasprintf("%s\n%s", adapter->spec.namespace, selector);
    free(selector);
    return key;
}

/* Takes the parsed selector from the adapter's spec. */
static struct selection *make(struct controller *controller, struct adapter *adapter, char *key) {
    struct selection *selection = xcalloc(1, sizeof(*selection));
    *selection = (struct selection){.key = key, .namespace = xstrdup(adapter->spec.namespace)};
    selection->selector = take_pointer(adapter->spec.selector);
    LIST_INIT(&selection->seeking);
    map_set(&controller->selections, key, selection);
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&controller->pods, &at)) != NULL;) {
        struct pod *pod = entry->value;
        if (strcmp(selection->namespace, pod->facts.namespace) == 0 && selector_matches(selection->selector, pod->facts.labels)) {
            add_pod(selection, pod);
        }
    }
    return selection;
}

void selection_join(struct controller *controller, struct adapter *adapter) {
    char *key = key_of(adapter);
    struct selection *selection = map_get(&controller->selections, key);
    if (selection == NULL) {
        selection = make(controller, adapter, key);
    } else {
        free(key);
    }
    selector_free(take_pointer(adapter->spec.selector));
    selection->adapter_count++; /* before the old one is left: it may be the same */
    selection_leave(controller, adapter);
    adapter->selection = selection;
    selection_seek(adapter, true);
}

void selection_leave(struct controller *controller, struct adapter *adapter) {
    struct selection *selection = adapter->selection;
    if (selection == NULL) {
        return;
    }
    selection_seek(adapter, false);
    adapter->selection = NULL;
    if (--selection->adapter_count > 0) {
        return;
    }
    while (selection->pod_count > 0) {
        remove_pod(selection, selection->pods[selection->pod_count - 1]);
    }
    map_remove(&controller->selections, selection->key);
    selector_free(selection->selector);
    free(selection->pods);
    free(selection->namespace);
    free(selection->key);
    free(selection);
}

void selection_seek(struct adapter *adapter, bool is_seeking) {
    if (adapter->selection == NULL || adapter->is_seeking == is_seeking) {
        return;
    }
    adapter->is_seeking = is_seeking;
    if (is_seeking) {
        LIST_INSERT_HEAD(&adapter->selection->seeking, adapter, in_seeking);
    } else {
        LIST_REMOVE(adapter, in_seeking);
    }
}
