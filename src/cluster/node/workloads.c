#include "cluster/node/workloads.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "cluster/node/deployment.h"
#include "cluster/node/replica_set.h"
#include "kube/work_queue.h"

#include <stdio.h>
#include <string.h>

#define PARALLEL 8
#define RETRY_FIRST_MS 250
#define RETRY_MAX_MS 30000

struct workloads {
    struct workloads_options options;
    struct work_queue *queue; /* "d/<namespace>/<name>", "r/..." and "p/..." */
    struct map works;         /* key -> struct work, being sent */
    struct map retries;       /* key -> struct retry, of those that failed */
    bool is_started;
};

struct retry {
    int64_t delay_ms;
};

/* The actions of one key, on their way. */
struct work {
    struct workloads *workloads;
    char *key;
    json_t *owner; /* whom events are about */
    struct event_recorder *events;
    struct api_actions actions;
    struct work_call *calls; /* one an action */
    size_t pending;
    bool has_failed;
};

struct work_call {
    struct work *work;
    size_t index;
    struct kube_call *call;
};

/* ---- sending ---- */

static void work_free(struct work *work) {
    for (size_t i = 0; work->calls != NULL && i < work->actions.count; i++) {
        kube_call_cancel(work->calls[i].call);
    }
    api_actions_release(&work->actions);
    json_decref(work->owner);
    free(work->calls);
    free(work->key);
    free(work);
}

static int64_t retry_delay_ms(struct workloads *workloads, const char *key) {
    struct retry *retry = map_get(&workloads->retries, key);
    if (retry == NULL) {
        retry = xcalloc(1, sizeof(*retry));
        map_set(&workloads->retries, key, retry);
    }
    retry->delay_ms = retry->delay_ms == 0                 ? RETRY_FIRST_MS
                      : retry->delay_ms * 2 < RETRY_MAX_MS ? retry->delay_ms * 2
                                                           : RETRY_MAX_MS;
    return retry->delay_ms / 2 + (int64_t)arc4random_uniform((uint32_t)(retry->delay_ms / 2 + 1));
}

static void work_finish(struct work *work) {
    struct workloads *workloads = work->workloads;
    map_remove(&workloads->works, work->key);
    if (work->has_failed) {
        work_queue_add(workloads->queue, work->key, retry_delay_ms(workloads, work->key));
    } else {
        free(map_remove(&workloads->retries, work->key));
    }
    if (work->actions.again_ms > 0) {
        work_queue_add(workloads->queue, work->key, work->actions.again_ms);
    }
    work_queue_done(workloads->queue, work->key);
    work_free(work);
}

static struct watch_cache *cache_of(const struct workloads *workloads, const struct kube_resource *resource) {
    return resource == &kube_deployments   ? workloads->options.deployments
           : resource == &kube_replicasets ? workloads->options.replica_sets
                                           : workloads->options.pods;
}

static void report_failure(struct work *work, const struct api_action *action, const struct error *err) {
    /* Somebody else was first: the watch tells what it came to, and the plan is made anew. */
    bool is_race = err->code == ERROR_CONFLICT || err->code == ERROR_NOT_FOUND;
    log_write(is_race ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "%s: %s", work->key, err->message);
    if (action->verb == KUBE_CREATE && err->http_status >= 400 && err->http_status < 500 && !is_race) {
        event_record(work->events, work->owner, "Warning", "FailedCreate", "Error creating: %s", err->message);
    }
    work->has_failed = work->has_failed || !(action->verb == KUBE_DELETE && err->code == ERROR_NOT_FOUND);
}

static void on_action_done(void *arg, json_t *object, const struct error *err) {
    struct work_call *call = arg;
    struct work *work = call->work;
    const struct api_action *action = &work->actions.items[call->index];
    call->call = NULL;
    if (err != NULL) {
        report_failure(work, action, err);
    } else {
        if (strcmp(json_string_at(object, "kind", ""), action->resource->kind) == 0) {
            watch_cache_note_write(cache_of(work->workloads, action->resource), object);
        }
        if (action->event_reason != NULL) {
            event_record(work->events, work->owner, "Normal", action->event_reason, "%s", action->event_message);
        }
    }
    if (--work->pending == 0) {
        work_finish(work);
    }
}

static void send_actions(struct workloads *workloads, struct work *work) {
    work->calls = xcalloc(work->actions.count + 1, sizeof(*work->calls));
    work->pending = work->actions.count;
    map_set(&workloads->works, work->key, work);
    for (size_t i = 0; i < work->actions.count; i++) {
        const struct api_action *action = &work->actions.items[i];
        work->calls[i] = (struct work_call){.work = work, .index = i};
        work->calls[i].call = kube_start(workloads->options.client, &(struct kube_request){
                                                                        .verb = action->verb,
                                                                        .resource = action->resource,
                                                                        .namespace = action->namespace,
                                                                        .name = action->name,
                                                                        .subresource = action->subresource,
                                                                        .body = action->body,
                                                                        .on_done = on_action_done,
                                                                        .arg = &work->calls[i],
                                                                    });
    }
    if (work->pending == 0) {
        work_finish(work);
    }
}

/* ---- deciding ---- */

static json_t *controlled_by(const struct watch_cache *cache, const json_t *owner) {
    json_t *found = json_array();
    json_t *object = NULL;
    for (size_t at = 0; (object = watch_cache_next(cache, &at)) != NULL;) {
        if (kube_is_controlled_by(object, owner) && strcmp(kube_namespace(object), kube_namespace(owner)) == 0) {
            json_array_append(found, object);
        }
    }
    return found;
}

/* The revision is given along: of two schedulers that saw the pod free, one is refused. */
static void schedule_plan(const struct workloads *workloads, const json_t *pod, struct api_actions *actions) {
    if (json_string_at(pod, "spec.nodeName", "")[0] != '\0' || kube_is_deleting(pod)) {
        return;
    }
    api_actions_add(actions, &(struct api_action){
                                 .verb = KUBE_PATCH_MERGE,
                                 .resource = &kube_pods,
                                 .namespace = xstrdup(kube_namespace(pod)),
                                 .name = xstrdup(kube_name(pod)),
                                 .body = json_pack("{s:{s:s}, s:{s:s}}", "metadata", "resourceVersion", kube_resource_version(pod),
                                                   "spec", "nodeName", workloads->options.node_name),
                                 .event_reason = "Scheduled",
                                 .event_message = xasprintf("Successfully assigned %s/%s to %s", kube_namespace(pod),
                                                            kube_name(pod), workloads->options.node_name),
                             });
}

static void on_key(void *arg, const char *key) {
    struct workloads *workloads = arg;
    const char *slash = strchr(key + 2, '/');
    cleanup_free char *namespace = xstrndup(key + 2, (size_t)(slash - key - 2));
    struct watch_cache *cache = key[0] == 'd'   ? workloads->options.deployments
                                : key[0] == 'r' ? workloads->options.replica_sets
                                                : workloads->options.pods;
    json_t *object = workloads->is_started ? watch_cache_get(cache, namespace, slash + 1) : NULL;
    if (object == NULL) {
        free(map_remove(&workloads->retries, key));
        work_queue_done(workloads->queue, key);
        return;
    }
    struct work *work = xcalloc(1, sizeof(*work));
    work->workloads = workloads;
    work->key = xstrdup(key);
    work->owner = json_incref(object);
    work->events = key[0] == 'p' ? workloads->options.scheduler_events : workloads->options.controller_events;
    if (key[0] == 'd') {
        cleanup_json json_t *sets = controlled_by(workloads->options.replica_sets, object);
        deployment_plan(object, sets, clock_wall_ms(), &work->actions);
    } else if (key[0] == 'r') {
        cleanup_json json_t *pods = controlled_by(workloads->options.pods, object);
        uint64_t seed = (uint64_t)arc4random() << 32 | arc4random();
        replica_set_plan(object, pods, clock_wall_ms(), seed, &work->actions);
    } else {
        schedule_plan(workloads, object, &work->actions);
    }
    send_actions(workloads, work);
}

/* ---- hearing ---- */

static void add_key(struct workloads *workloads, char kind, const char *namespace, const char *name) {
    if (workloads->is_started) {
        cleanup_free char *key = xasprintf("%c/%s/%s", kind, namespace, name);
        work_queue_add(workloads->queue, key, 0);
    }
}

/* The name of the controller of that kind, NULL when it has none. */
static const char *controller_name(const json_t *object, const char *kind) {
    size_t index = 0;
    json_t *reference = NULL;
    json_array_foreach(json_at(object, "metadata.ownerReferences"), index, reference) {
        if (json_bool_at(reference, "controller", false) && strcmp(json_string_at(reference, "kind", ""), kind) == 0) {
            return json_string_at(reference, "name", "");
        }
    }
    return NULL;
}

static void add_owner(struct workloads *workloads, char kind, const char *owner_kind, const json_t *object) {
    const char *name = object != NULL ? controller_name(object, owner_kind) : NULL;
    if (name != NULL) {
        add_key(workloads, kind, kube_namespace(object), name);
    }
}

void workloads_on_deployment(struct workloads *workloads, const json_t *old_object, const json_t *new_object) {
    const json_t *object = new_object != NULL ? new_object : old_object;
    add_key(workloads, 'd', kube_namespace(object), kube_name(object));
}

void workloads_on_replica_set(struct workloads *workloads, const json_t *old_object, const json_t *new_object) {
    const json_t *object = new_object != NULL ? new_object : old_object;
    add_key(workloads, 'r', kube_namespace(object), kube_name(object));
    add_owner(workloads, 'd', "Deployment", old_object);
    add_owner(workloads, 'd', "Deployment", new_object);
}

void workloads_on_pod(struct workloads *workloads, const json_t *old_object, const json_t *new_object) {
    add_owner(workloads, 'r', "ReplicaSet", old_object);
    add_owner(workloads, 'r', "ReplicaSet", new_object);
    if (new_object != NULL && json_string_at(new_object, "spec.nodeName", "")[0] == '\0') {
        add_key(workloads, 'p', kube_namespace(new_object), kube_name(new_object));
    }
}

void workloads_on_synced(struct workloads *workloads) {
    const struct workloads_options *options = &workloads->options;
    if (workloads->is_started || !watch_cache_is_synced(options->deployments) || !watch_cache_is_synced(options->replica_sets) ||
        !watch_cache_is_synced(options->pods)) {
        return;
    }
    workloads->is_started = true;
    json_t *object = NULL;
    for (size_t at = 0; (object = watch_cache_next(options->deployments, &at)) != NULL;) {
        workloads_on_deployment(workloads, NULL, object);
    }
    for (size_t at = 0; (object = watch_cache_next(options->replica_sets, &at)) != NULL;) {
        workloads_on_replica_set(workloads, NULL, object);
    }
    for (size_t at = 0; (object = watch_cache_next(options->pods, &at)) != NULL;) {
        workloads_on_pod(workloads, NULL, object);
    }
}

struct workloads *workloads_new(const struct workloads_options *options) {
    struct workloads *workloads = xcalloc(1, sizeof(*workloads));
    workloads->options = *options;
    workloads->queue = work_queue_new(kube_client_loop(options->client), PARALLEL, on_key, workloads);
    return workloads;
}

void workloads_free(struct workloads *workloads) {
    if (workloads == NULL) {
        return;
    }
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&workloads->works, &at)) != NULL;) {
        work_free(entry->value);
    }
    for (size_t at = 0; (entry = map_next(&workloads->retries, &at)) != NULL;) {
        free(entry->value);
    }
    map_release(&workloads->works);
    map_release(&workloads->retries);
    work_queue_free(workloads->queue);
    free(workloads);
}
