#include "cluster/node/deployment.h"

#include "base/hash.h"
#include "cluster/node/deployment_status.h"

#include <string.h>

#define LABEL_HASH "pod-template-hash"
#define ANNOTATION_REVISION "deployment.kubernetes.io/revision"
#define ANNOTATION_DESIRED "deployment.kubernetes.io/desired-replicas"
#define ANNOTATION_MAX "deployment.kubernetes.io/max-replicas"
#define ANNOTATION_LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"
#define HASH_LETTERS 10

struct rollout {
    const json_t *deployment;
    const json_t *sets;
    json_t *new_set;  /* NULL = none yet */
    json_t *old_sets; /* oldest first */
    int64_t replicas;
    int64_t max_surge;
    int64_t max_unavailable;
    bool is_recreate;
    struct api_actions *actions;
};

/* ---- reading ---- */

int64_t int_or_percent(const json_t *value, int64_t total, bool round_up, const char *fallback) {
    if (json_is_integer(value)) {
        return json_integer_value(value);
    }
    const char *text = json_is_string(value) ? json_string_value(value) : fallback;
    char *end = NULL;
    long long number = strtoll(text, &end, 10);
    if (end == text || number < 0 || number > 1000000) {
        return 0;
    }
    return *end == '%' ? (number * total + (round_up ? 99 : 0)) / 100 : number;
}

static int64_t spec_replicas(const json_t *set) {
    return json_int_at(set, "spec.replicas", 1);
}

static int64_t available_replicas(const json_t *set) {
    return json_int_at(set, "status.availableReplicas", 0);
}

static const char *annotation(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(json_at(object, "metadata.annotations"), name));
    return text != NULL ? text : "";
}

static int64_t revision_of(const json_t *object) {
    return strtoll(annotation(object, ANNOTATION_REVISION), NULL, 10);
}

static bool has_same_template(const json_t *set, const json_t *deployment) {
    cleanup_json json_t *have = json_deep_copy(json_at(set, "spec.template"));
    cleanup_json json_t *wanted = json_deep_copy(json_at(deployment, "spec.template"));
    json_object_del(json_at(have, "metadata.labels"), LABEL_HASH);
    json_object_del(json_at(wanted, "metadata.labels"), LABEL_HASH); /* written there by hand it has no meaning */
    return json_equal(have, wanted);
}

json_t *deployment_new_replica_set(const json_t *deployment, const json_t *replica_sets) {
    json_t *found = NULL;
    size_t index = 0;
    json_t *set = NULL;
    json_array_foreach((json_t *)replica_sets, index, set) {
        if (has_same_template(set, deployment) && (found == NULL || revision_of(set) > revision_of(found))) {
            found = set;
        }
    }
    return found;
}

static int compare_age(const void *left_pointer, const void *right_pointer) {
    const json_t *left = *(json_t *const *)left_pointer;
    const json_t *right = *(json_t *const *)right_pointer;
    int64_t difference = revision_of(left) - revision_of(right);
    return difference != 0 ? (difference < 0 ? -1 : 1) : strcmp(kube_name(left), kube_name(right));
}

static json_t *sorted_old_sets(const json_t *sets, const json_t *new_set) {
    size_t count = json_array_size(sets);
    json_t **items = xcalloc(count + 1, sizeof(*items));
    size_t used = 0;
    size_t index = 0;
    json_t *set = NULL;
    json_array_foreach((json_t *)sets, index, set) {
        if (set != new_set) {
            items[used++] = set;
        }
    }
    qsort(items, used, sizeof(*items), compare_age);
    json_t *sorted = json_array();
    for (size_t i = 0; i < used; i++) {
        json_array_append(sorted, items[i]);
    }
    free(items);
    return sorted;
}

static int64_t sum(const json_t *sets, int64_t (*value)(const json_t *set)) {
    int64_t total = 0;
    size_t index = 0;
    json_t *set = NULL;
    json_array_foreach((json_t *)sets, index, set) {
        total += value(set);
    }
    return total;
}

static int64_t max_revision(const json_t *sets) {
    int64_t highest = 0;
    size_t index = 0;
    json_t *set = NULL;
    json_array_foreach((json_t *)sets, index, set) {
        highest = revision_of(set) > highest ? revision_of(set) : highest;
    }
    return highest;
}

/* ---- writing ---- */

static void patch(struct rollout *rollout, const struct kube_resource *resource, const json_t *object, json_t *body,
                  char *event_message) {
    api_actions_add(rollout->actions, &(struct api_action){.verb = KUBE_PATCH_MERGE,
                                                           .resource = resource,
                                                           .namespace = xstrdup(kube_namespace(object)),
                                                           .name = xstrdup(kube_name(object)),
                                                           .body = body,
                                                           .event_reason = event_message != NULL ? "ScalingReplicaSet" : NULL,
                                                           .event_message = event_message});
}

static char *number_text(int64_t number) {
    return xasprintf("%lld", (long long)number);
}

static json_t *size_annotations(const struct rollout *rollout) {
    cleanup_free char *desired = number_text(rollout->replicas);
    cleanup_free char *most = number_text(rollout->replicas + rollout->max_surge);
    return json_pack("{s:s, s:s}", ANNOTATION_DESIRED, desired, ANNOTATION_MAX, most);
}

/* The plan goes on with the new size as if it were written already. */
static void scale(struct rollout *rollout, json_t *set, int64_t replicas) {
    int64_t before = spec_replicas(set);
    if (before == replicas) {
        return;
    }
    char *message = xasprintf("Scaled %s replica set %s from %lld to %lld", replicas > before ? "up" : "down", kube_name(set),
                              (long long)before, (long long)replicas);
    patch(rollout, &kube_replicasets, set,
          json_pack("{s:{s:o}, s:{s:I}}", "metadata", "annotations", size_annotations(rollout), "spec", "replicas",
                    (json_int_t)replicas),
          message);
    json_object_set_new(json_object_get(set, "spec"), "replicas", json_integer(replicas));
}

/* A hash of the template, in letters that spell no words (apimachinery's rand.SafeEncodeString). */
static void template_hash(const json_t *deployment, char ret_text[HASH_LETTERS + 1]) {
    static const char letters[] = "bcdfghjklmnpqrstvwxz2456789";
    char *text = json_dumps(json_at(deployment, "spec.template"), JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    cleanup_free char *salted =
        xasprintf("%s%lld", text != NULL ? text : "", (long long)json_int_at(deployment, "status.collisionCount", 0));
    free(text);
    struct hash hash = hash_bytes(salted, strlen(salted));
    for (int i = 0; i < HASH_LETTERS; i++) {
        ret_text[i] = letters[hash.bytes[i] % (sizeof(letters) - 1)];
    }
    ret_text[HASH_LETTERS] = '\0';
}

static json_t *copy_annotations(const json_t *deployment) {
    json_t *annotations = json_deep_copy(json_at(deployment, "metadata.annotations"));
    annotations = annotations != NULL ? annotations : json_object();
    json_object_del(annotations, ANNOTATION_LAST_APPLIED);
    json_object_del(annotations, ANNOTATION_REVISION);
    return annotations;
}

static json_t *with_hash(const json_t *labels, const char *hash) {
    json_t *copy = json_is_object(labels) ? json_deep_copy(labels) : json_object();
    json_object_set_new(copy, LABEL_HASH, json_string(hash));
    return copy;
}

static void create_new_set(struct rollout *rollout, int64_t replicas, int64_t revision) {
    const json_t *deployment = rollout->deployment;
    char hash[HASH_LETTERS + 1];
    template_hash(deployment, hash);
    cleanup_free char *name = xasprintf("%.200s-%s", kube_name(deployment), hash);
    cleanup_free char *revision_text = number_text(revision);
    json_t *annotations = copy_annotations(deployment);
    cleanup_json json_t *sizes = size_annotations(rollout);
    json_object_update(annotations, sizes);
    json_object_set_new(annotations, ANNOTATION_REVISION, json_string(revision_text));
    json_t *template = json_deep_copy(json_at(deployment, "spec.template"));
    json_t *template_metadata = json_object_get(template, "metadata");
    if (template_metadata == NULL) {
        template_metadata = json_object();
        json_object_set_new(template, "metadata", template_metadata);
    }
    json_object_set_new(template_metadata, "labels", with_hash(json_object_get(template_metadata, "labels"), hash));
    json_t *selector = json_deep_copy(json_at(deployment, "spec.selector"));
    selector = selector != NULL ? selector : json_object();
    json_object_set_new(selector, "matchLabels", with_hash(json_object_get(selector, "matchLabels"), hash));
    json_t *set =
        json_pack("{s:s, s:s, s:{s:s, s:s, s:O, s:o, s:[o]}, s:{s:I, s:I, s:o, s:o}}", "apiVersion", "apps/v1", "kind",
                  "ReplicaSet", "metadata", "name", name, "namespace", kube_namespace(deployment), "labels",
                  json_object_get(template_metadata, "labels"), "annotations", annotations, "ownerReferences",
                  kube_owner_reference(deployment), "spec", "replicas", (json_int_t)replicas, "minReadySeconds",
                  (json_int_t)json_int_at(deployment, "spec.minReadySeconds", 0), "selector", selector, "template", template);
    api_actions_add(rollout->actions, &(struct api_action){.verb = KUBE_CREATE,
                                                           .resource = &kube_replicasets,
                                                           .namespace = xstrdup(kube_namespace(deployment)),
                                                           .body = set,
                                                           .event_reason = "ScalingReplicaSet",
                                                           .event_message = xasprintf("Scaled up replica set %s from 0 to %lld",
                                                                                      name, (long long)replicas)});
}

static void set_revision(struct rollout *rollout, const struct kube_resource *resource, const json_t *object, int64_t revision) {
    if (revision_of(object) != revision) {
        cleanup_free char *text = number_text(revision);
        patch(rollout, resource, object, json_pack("{s:{s:{s:s}}}", "metadata", "annotations", ANNOTATION_REVISION, text), NULL);
    }
}

/* ---- sizes ---- */

/* How large the new ReplicaSet may be now (deploymentutil.NewRSNewReplicas). */
static int64_t new_set_size(const struct rollout *rollout) {
    int64_t present = rollout->new_set != NULL ? spec_replicas(rollout->new_set) : 0;
    if (rollout->is_recreate) {
        bool old_pods_run = false;
        size_t index = 0;
        json_t *set = NULL;
        json_array_foreach(rollout->old_sets, index, set) {
            old_pods_run = old_pods_run || spec_replicas(set) > 0 || json_int_at(set, "status.replicas", 0) > 0;
        }
        return old_pods_run ? present : rollout->replicas;
    }
    if (present >= rollout->replicas) {
        return rollout->replicas;
    }
    int64_t total = sum(rollout->old_sets, spec_replicas) + present;
    int64_t room = rollout->replicas + rollout->max_surge - total;
    int64_t missing = rollout->replicas - present;
    return room <= 0 ? present : present + (room < missing ? room : missing);
}

/* Pods of old ReplicaSets that serve nobody go first, however few are available (cleanupUnhealthyReplicas). */
static int64_t drop_unhealthy(struct rollout *rollout, int64_t budget) {
    size_t index = 0;
    json_t *set = NULL;
    int64_t dropped = 0;
    json_array_foreach(rollout->old_sets, index, set) {
        int64_t present = spec_replicas(set);
        int64_t unhealthy = present - available_replicas(set);
        int64_t drop = unhealthy < budget - dropped ? unhealthy : budget - dropped;
        if (drop > 0) {
            scale(rollout, set, present - drop);
            dropped += drop;
        }
    }
    return dropped;
}

static void shrink_old_sets(struct rollout *rollout) {
    if (rollout->is_recreate) {
        size_t at = 0;
        json_t *set = NULL;
        json_array_foreach(rollout->old_sets, at, set) {
            scale(rollout, set, 0);
        }
        return;
    }
    if (rollout->new_set == NULL || sum(rollout->old_sets, spec_replicas) == 0) {
        return;
    }
    int64_t min_available = rollout->replicas - rollout->max_unavailable;
    int64_t all = sum(rollout->old_sets, spec_replicas) + spec_replicas(rollout->new_set);
    int64_t new_unavailable = spec_replicas(rollout->new_set) - available_replicas(rollout->new_set);
    int64_t budget = all - min_available - (new_unavailable > 0 ? new_unavailable : 0);
    if (budget <= 0) {
        return;
    }
    (void)drop_unhealthy(rollout, budget);
    int64_t available = available_replicas(rollout->new_set);
    size_t index = 0;
    json_t *set = NULL;
    json_array_foreach(rollout->old_sets, index, set) {
        available += available_replicas(set) < spec_replicas(set) ? available_replicas(set) : spec_replicas(set);
    }
    int64_t surplus = available - min_available;
    json_array_foreach(rollout->old_sets, index, set) {
        int64_t present = spec_replicas(set);
        int64_t drop = present < surplus ? present : surplus;
        if (drop > 0) {
            scale(rollout, set, present - drop);
            surplus -= drop;
        }
    }
}

static void drop_history(struct rollout *rollout) {
    int64_t limit = json_int_at(rollout->deployment, "spec.revisionHistoryLimit", 10);
    int64_t surplus = (int64_t)json_array_size(rollout->old_sets) - limit;
    size_t index = 0;
    json_t *set = NULL;
    json_array_foreach(rollout->old_sets, index, set) {
        bool is_empty = spec_replicas(set) == 0 && json_int_at(set, "status.replicas", 0) == 0;
        if (surplus-- > 0 && is_empty && !kube_is_deleting(set)) {
            api_actions_add(rollout->actions, &(struct api_action){.verb = KUBE_DELETE,
                                                                   .resource = &kube_replicasets,
                                                                   .namespace = xstrdup(kube_namespace(set)),
                                                                   .name = xstrdup(kube_name(set))});
        }
    }
}

/* ---- the plan ---- */

static void roll(struct rollout *rollout) {
    int64_t highest = max_revision(rollout->sets);
    if (rollout->is_recreate) {
        shrink_old_sets(rollout);
    }
    if (rollout->new_set == NULL) {
        create_new_set(rollout, new_set_size(rollout), highest + 1);
        set_revision(rollout, &kube_deployments, rollout->deployment, highest + 1);
        return; /* what depends on the new one is decided once it is there */
    }
    int64_t revision = revision_of(rollout->new_set);
    if (revision < highest || revision == 0) {
        revision = highest + 1;
        set_revision(rollout, &kube_replicasets, rollout->new_set, revision);
    }
    set_revision(rollout, &kube_deployments, rollout->deployment, revision);
    scale(rollout, rollout->new_set, new_set_size(rollout));
    shrink_old_sets(rollout);
    drop_history(rollout);
}

/* No rollout while paused, but the size follows: on the new ReplicaSet, or on the only one that has pods. */
static void scale_paused(struct rollout *rollout) {
    json_t *target = rollout->new_set;
    size_t index = 0;
    json_t *set = NULL;
    json_array_foreach(rollout->old_sets, index, set) {
        target = spec_replicas(set) > 0 ? set : target;
    }
    if (target != NULL) {
        int64_t others = sum(rollout->sets, spec_replicas) - spec_replicas(target);
        scale(rollout, target, rollout->replicas > others ? rollout->replicas - others : 0);
    }
}

static void read_strategy(struct rollout *rollout) {
    const json_t *strategy = json_at(rollout->deployment, "spec.strategy");
    rollout->is_recreate = strcmp(json_string_at(strategy, "type", "RollingUpdate"), "Recreate") == 0;
    if (rollout->is_recreate) {
        return;
    }
    rollout->max_surge = int_or_percent(json_at(strategy, "rollingUpdate.maxSurge"), rollout->replicas, true, "25%");
    rollout->max_unavailable = int_or_percent(json_at(strategy, "rollingUpdate.maxUnavailable"), rollout->replicas, false, "25%");
    if (rollout->max_surge == 0 && rollout->max_unavailable == 0) {
        rollout->max_unavailable = 1; /* both may round to 0, and then nothing could ever move */
    }
}

void deployment_plan(const json_t *deployment, const json_t *replica_sets, int64_t wall_ms, struct api_actions *ret_actions) {
    cleanup_json json_t *sets = json_deep_copy(replica_sets); /* sizes are set in it as they are decided */
    struct rollout rollout = {.deployment = deployment, .sets = sets, .actions = ret_actions};
    rollout.replicas = json_int_at(deployment, "spec.replicas", 1);
    read_strategy(&rollout);
    rollout.new_set = deployment_new_replica_set(deployment, sets);
    rollout.old_sets = sorted_old_sets(sets, rollout.new_set);
    if (!kube_is_deleting(deployment)) {
        if (json_bool_at(deployment, "spec.paused", false)) {
            scale_paused(&rollout);
        } else {
            roll(&rollout);
        }
    }
    struct deployment_view view = {.deployment = deployment,
                                   .replica_sets = sets,
                                   .new_replica_set = rollout.new_set,
                                   .replicas = rollout.replicas,
                                   .max_unavailable = rollout.max_unavailable,
                                   .wall_ms = wall_ms};
    api_actions_add_status(ret_actions, &kube_deployments, deployment, deployment_status(&view, ret_actions));
    json_decref(rollout.old_sets);
}
