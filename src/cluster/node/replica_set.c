#include "cluster/node/replica_set.h"

#include "base/clock.h"

#include <string.h>

#define BURST_MAX 100 /* pods made or deleted in one go; the rest follows when these are there */
#define NAME_SUFFIX 5

struct ranked {
    const json_t *pod;
    bool is_assigned;
    int phase; /* Pending 0, Unknown 1, Running 2 */
    bool is_ready;
    int64_t ready_ms; /* since when; 0 = not */
    int64_t restarts;
    int64_t created_ms;
};

static int64_t time_at(const json_t *object, const char *path) {
    int64_t wall_ms = 0;
    const char *text = json_string_at(object, path, NULL);
    return text != NULL && clock_parse_rfc3339(text, &wall_ms) == 0 ? wall_ms : 0;
}

static bool is_active(const json_t *pod) {
    const char *phase = json_string_at(pod, "status.phase", "Pending");
    return !kube_is_deleting(pod) && strcmp(phase, "Succeeded") != 0 && strcmp(phase, "Failed") != 0;
}

/* true: Ready; *ret_since_ms: since when. */
static bool is_ready(const json_t *pod, int64_t *ret_since_ms) {
    size_t index = 0;
    json_t *condition = NULL;
    *ret_since_ms = 0;
    json_array_foreach(json_at(pod, "status.conditions"), index, condition) {
        if (strcmp(json_string_at(condition, "type", ""), "Ready") == 0 &&
            strcmp(json_string_at(condition, "status", ""), "True") == 0) {
            *ret_since_ms = time_at(condition, "lastTransitionTime");
            return true;
        }
    }
    return false;
}

/* ---- which pod goes first (client-go's ActivePods order) ---- */

static int compare_int64(int64_t left, int64_t right) {
    return left < right ? -1 : left > right;
}

static int compare_ranked(const void *left_pointer, const void *right_pointer) {
    const struct ranked *left = left_pointer;
    const struct ranked *right = right_pointer;
    if (left->is_assigned != right->is_assigned) {
        return left->is_assigned ? 1 : -1;
    }
    if (left->phase != right->phase) {
        return left->phase - right->phase;
    }
    if (left->is_ready != right->is_ready) {
        return left->is_ready ? 1 : -1;
    }
    if (left->ready_ms != right->ready_ms) {
        return -compare_int64(left->ready_ms, right->ready_ms); /* younger first */
    }
    if (left->restarts != right->restarts) {
        return -compare_int64(left->restarts, right->restarts);
    }
    if (left->created_ms != right->created_ms) {
        return -compare_int64(left->created_ms, right->created_ms);
    }
    return strcmp(kube_name(left->pod), kube_name(right->pod));
}

static struct ranked rank(const json_t *pod) {
    struct ranked ranked = {.pod = pod};
    const char *phase = json_string_at(pod, "status.phase", "Pending");
    ranked.is_assigned = json_string_at(pod, "spec.nodeName", "")[0] != '\0';
    ranked.phase = strcmp(phase, "Running") == 0 ? 2 : strcmp(phase, "Pending") == 0 ? 0 : 1;
    ranked.is_ready = is_ready(pod, &ranked.ready_ms);
    ranked.created_ms = time_at(pod, "metadata.creationTimestamp");
    size_t index = 0;
    json_t *container = NULL;
    json_array_foreach(json_at(pod, "status.containerStatuses"), index, container) {
        int64_t restarts = json_int_at(container, "restartCount", 0);
        ranked.restarts = restarts > ranked.restarts ? restarts : ranked.restarts;
    }
    return ranked;
}

static void delete_pods(const json_t *replica_set, const json_t *active, size_t how_many, struct api_actions *actions) {
    size_t count = json_array_size(active);
    struct ranked *ranked = xcalloc(count + 1, sizeof(*ranked));
    for (size_t i = 0; i < count; i++) {
        ranked[i] = rank(json_array_get(active, i));
    }
    qsort(ranked, count, sizeof(*ranked), compare_ranked);
    for (size_t i = 0; i < how_many && i < BURST_MAX; i++) {
        const char *name = kube_name(ranked[i].pod);
        api_actions_add(actions,
                        &(struct api_action){.verb = KUBE_DELETE,
                                             .resource = &kube_pods,
                                             .namespace = xstrdup(kube_namespace(replica_set)),
                                             .name = xstrdup(name),
                                             .body = json_pack("{s:{s:s}}", "preconditions", "uid", kube_uid(ranked[i].pod)),
                                             .event_reason = "SuccessfulDelete",
                                             .event_message = xasprintf("Deleted pod: %s", name)});
    }
    free(ranked);
}

/* ---- new pods ---- */

static uint64_t next_random(uint64_t *seed) {
    *seed += 0x9e3779b97f4a7c15; /* splitmix64 */
    uint64_t value = *seed;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

/* As apimachinery's names.SimpleNameGenerator: at most 63 characters, five of them random without vowels. */
static char *new_name(const char *replica_set, uint64_t *seed) {
    static const char letters[] = "bcdfghjklmnpqrstvwxz2456789";
    char suffix[NAME_SUFFIX + 1] = "";
    uint64_t value = next_random(seed);
    for (int i = 0; i < NAME_SUFFIX; i++) {
        suffix[i] = letters[value % (sizeof(letters) - 1)];
        value /= sizeof(letters) - 1;
    }
    return xasprintf("%.57s-%s", replica_set, suffix);
}

static void create_pods(const json_t *replica_set, size_t how_many, uint64_t seed, struct api_actions *actions) {
    for (size_t i = 0; i < how_many && i < BURST_MAX; i++) {
        cleanup_free char *name = new_name(kube_name(replica_set), &seed);
        json_t *metadata = json_pack("{s:s, s:s, s:[o]}", "name", name, "namespace", kube_namespace(replica_set), "ownerReferences",
                                     kube_owner_reference(replica_set));
        static const char *const copied[] = {"labels", "annotations"};
        for (size_t j = 0; j < ARRAY_LEN(copied); j++) {
            json_t *value = json_object_get(json_at(replica_set, "spec.template.metadata"), copied[j]);
            if (json_is_object(value)) {
                json_object_set_new(metadata, copied[j], json_deep_copy(value));
            }
        }
        json_t *pod = json_pack("{s:s, s:s, s:o, s:o}", "apiVersion", "v1", "kind", "Pod", "metadata", metadata, "spec",
                                json_deep_copy(json_at(replica_set, "spec.template.spec")));
        api_actions_add(actions, &(struct api_action){.verb = KUBE_CREATE,
                                                      .resource = &kube_pods,
                                                      .namespace = xstrdup(kube_namespace(replica_set)),
                                                      .body = pod,
                                                      .event_reason = "SuccessfulCreate",
                                                      .event_message = xasprintf("Created pod: %s", name)});
    }
}

/* ---- status ---- */

static bool has_labels(const json_t *pod, const json_t *wanted) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)wanted, key, value) {
        if (!json_equal(json_object_get(json_at(pod, "metadata.labels"), key), value)) {
            return false;
        }
    }
    return true;
}

static json_t *make_status(const json_t *replica_set, const json_t *active, int64_t wall_ms, struct api_actions *actions) {
    int64_t min_ready_ms = 1000 * json_int_at(replica_set, "spec.minReadySeconds", 0);
    int64_t labeled = 0;
    int64_t ready = 0;
    int64_t available = 0;
    size_t index = 0;
    json_t *pod = NULL;
    json_array_foreach((json_t *)active, index, pod) {
        int64_t since_ms = 0;
        labeled += has_labels(pod, json_at(replica_set, "spec.template.metadata.labels"));
        if (!is_ready(pod, &since_ms)) {
            continue;
        }
        ready++;
        if (min_ready_ms <= 0 || wall_ms - since_ms >= min_ready_ms) {
            available++;
        } else {
            api_actions_look_again(actions, since_ms + min_ready_ms - wall_ms);
        }
    }
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "replicas", (json_int_t)json_array_size(active), "fullyLabeledReplicas",
                     (json_int_t)labeled, "readyReplicas", (json_int_t)ready, "availableReplicas", (json_int_t)available,
                     "observedGeneration", (json_int_t)json_int_at(replica_set, "metadata.generation", 0));
}

void replica_set_plan(const json_t *replica_set, const json_t *pods, int64_t wall_ms, uint64_t seed,
                      struct api_actions *ret_actions) {
    cleanup_json json_t *active = json_array();
    size_t index = 0;
    json_t *pod = NULL;
    json_array_foreach((json_t *)pods, index, pod) {
        if (is_active(pod)) {
            json_array_append(active, pod);
        }
    }
    int64_t wanted = json_int_at(replica_set, "spec.replicas", 1);
    int64_t present = (int64_t)json_array_size(active);
    if (!kube_is_deleting(replica_set) && present < wanted) {
        create_pods(replica_set, (size_t)(wanted - present), seed, ret_actions);
    } else if (!kube_is_deleting(replica_set) && present > wanted) {
        delete_pods(replica_set, active, (size_t)(present - wanted), ret_actions);
    }
    api_actions_add_status(ret_actions, &kube_replicasets, replica_set, make_status(replica_set, active, wall_ms, ret_actions));
}
