#include "cluster/node/kubelet.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "cluster/node/log_times.h"
#include "cluster/node/marks.h"
#include "cluster/node/records.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define ROTATE_PERIOD_MS 60000

struct kubelet {
    struct kubelet_options options;
    struct local_pod_context context;
    struct map pods;             /* uid -> struct local_pod */
    struct watch_cache *secrets; /* made when a pod first refers to one; NULL = not yet */
    struct watch_cache *config_maps;
    struct timer rotation;
    struct timer looks; /* at log files */
    struct map marked;  /* "<pod folder>/<container>/<restart>" -> struct process_id, found at start */
};

/* ---- Secrets and ConfigMaps ---- */

static const json_t *find_source(void *arg, bool is_secret, const char *namespace, const char *name, bool *ret_is_known) {
    struct kubelet *kubelet = arg;
    struct watch_cache **cache = is_secret ? &kubelet->secrets : &kubelet->config_maps;
    if (*cache == NULL) {
        *cache = watch_cache_new(&(struct watch_cache_options){.client = kubelet->options.client,
                                                               .resource = is_secret ? &kube_secrets : &kube_config_maps});
    }
    *ret_is_known = watch_cache_is_synced(*cache);
    return watch_cache_get(*cache, namespace, name);
}

/* ---- adoption ---- */

static void note_marked(void *arg, const struct marked_process *process) {
    struct kubelet *kubelet = arg;
    if (process->is_orphan) { /* its container ended while no node was there to end the rest of it */
        process_signal_alone(&process->process, SIGKILL);
        return;
    }
    struct process_id *copy = xmalloc(sizeof(*copy));
    *copy = process->process;
    cleanup_free char *key = xasprintf("%s/%s/%d", process->pod_folder, process->container, process->restart);
    free(map_set(&kubelet->marked, key, copy));
}

/* A process that was started and not written down. */
static void adopt_marked(struct kubelet *kubelet, struct pod *pod, const char *folder) {
    for (size_t i = 0; i < pod->container_count; i++) {
        struct container *container = &pod->containers[i];
        cleanup_free char *key = xasprintf("%s/%s/%d", folder, container->name, container_next_run(container));
        const struct process_id *process = container->state == CONTAINER_WAITING ? map_get(&kubelet->marked, key) : NULL;
        if (process != NULL && process_is_alive(process)) {
            pod_note_started(container, *process, container_next_run(container),
                             loop_now_ms(kube_client_loop(kubelet->options.client)), clock_wall_ms());
        }
    }
}

static void kill_process(void *arg, const struct process_id *process) {
    (void)arg;
    process_signal(process, SIGKILL);
}

/* A pod as its record has it, NULL when there is none or it belongs to another net. */
static struct pod *restore_pod(struct kubelet *kubelet, json_t *object, const char *folder) {
    cleanup_json json_t *record = records_read(folder);
    const char *address = json_string_at(record, "address", "");
    if (record == NULL) {
        return NULL;
    }
    if (*address == '\0') {
        return NULL; /* it waited for one and ran nothing */
    }
    if (!net_address_mark(kubelet->options.net, address)) {
        log_warn("pod %s/%s: its recorded address \"%s\" is not free any more; it is started anew", kube_namespace(object),
                 kube_name(object), address);
        records_for_each_process(record, kill_process, NULL);
        return NULL;
    }
    struct pod *pod = pod_new(object, address, clock_wall_ms());
    records_restore(record, pod, loop_now_ms(kube_client_loop(kubelet->options.client)), clock_wall_ms());
    adopt_marked(kubelet, pod, folder);
    return pod;
}

/* ---- pods ---- */

static bool has_ended_before(const json_t *object) {
    const char *phase = json_string_at(object, "status.phase", "");
    return strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0;
}

/* Addresses are given to those who wait for one in the order of their arrival. */
static void serve_waiting(struct kubelet *kubelet) {
    const struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&kubelet->pods, &at)) != NULL;) {
        const struct pod *pod = local_pod_peek(entry->value);
        if (pod->address[0] != '\0' || pod->is_terminating || pod_has_ended(pod)) {
            continue;
        }
        cleanup_free char *address = net_address_take(kubelet->options.net);
        if (address == NULL) {
            return;
        }
        local_pod_take_address(entry->value, address);
    }
}

static void on_gone(void *arg, struct local_pod *local) {
    struct kubelet *kubelet = arg;
    const struct pod *pod = local_pod_peek(local);
    log_info("pod %s/%s is gone", kube_namespace(pod->object), kube_name(pod->object));
    net_address_give_back(kubelet->options.net, pod->address);
    records_remove(local_pod_folder(local));
    map_remove(&kubelet->pods, pod->uid);
    local_pod_free(local);
    serve_waiting(kubelet);
}

static void wait_for_address(struct kubelet *kubelet, struct pod *pod) {
    event_record(kubelet->options.events, pod->object, "Warning", "FailedCreatePodSandBox",
                 "no free address left in %s; the pod is started once another one is gone", kubelet->options.net->cidr);
    for (size_t i = 0; i < pod->container_count; i++) {
        (void)snprintf(pod->containers[i].waiting_message, sizeof(pod->containers[i].waiting_message), "no free address left in %s",
                       kubelet->options.net->cidr);
    }
}

static struct pod *make_pod(struct kubelet *kubelet, json_t *object) {
    cleanup_free char *address = net_address_take(kubelet->options.net);
    struct pod *pod = pod_new(object, address != NULL ? address : "", clock_wall_ms());
    if (address == NULL && !has_ended_before(object)) {
        wait_for_address(kubelet, pod);
    }
    /* It ran to its end in a life that was not recorded: only its deletion is still of interest. */
    for (size_t i = 0; has_ended_before(object) && i < pod->container_count; i++) {
        pod->containers[i].state = CONTAINER_ENDED;
        pod->containers[i].exit_code = strcmp(json_string_at(object, "status.phase", ""), "Failed") == 0;
        pod->containers[i].end_reason = pod->containers[i].exit_code == 0 ? "Completed" : "Error";
        pod->containers[i].end_message = "";
    }
    return pod;
}

static void add_pod(struct kubelet *kubelet, json_t *object) {
    cleanup_free char *folder =
        records_pod_folder(kubelet->options.folder, kube_namespace(object), kube_name(object), kube_uid(object));
    struct pod *pod = restore_pod(kubelet, object, folder);
    pod = pod != NULL ? pod : make_pod(kubelet, object);
    if (json_array_size(json_at(object, "spec.volumes")) > 0) {
        event_record(kubelet->options.events, object, "Normal", "VolumesIgnored",
                     "volumes are not mounted on this node: containers see the files of this machine");
    }
    map_set(&kubelet->pods, kube_uid(object), local_pod_new(&kubelet->context, pod, folder));
}

static void vanish(struct kubelet *kubelet, const char *uid) {
    struct local_pod *local = map_get(&kubelet->pods, uid);
    if (local != NULL) {
        local_pod_on_vanished(local);
    }
}

void kubelet_on_pod(struct kubelet *kubelet, json_t *old_object, json_t *new_object) {
    if (old_object != NULL && (new_object == NULL || strcmp(kube_uid(old_object), kube_uid(new_object)) != 0)) {
        vanish(kubelet, kube_uid(old_object));
    }
    if (new_object == NULL || strcmp(json_string_at(new_object, "spec.nodeName", ""), kubelet->options.node_name) != 0) {
        return;
    }
    struct local_pod *local = map_get(&kubelet->pods, kube_uid(new_object));
    if (local != NULL) {
        local_pod_on_object(local, new_object);
    } else {
        add_pod(kubelet, new_object);
    }
}

static void drop_unknown(void *arg, const char *pod_folder, const json_t *record) {
    struct kubelet *kubelet = arg;
    if (map_get(&kubelet->pods, json_string_at(record, "uid", "")) == NULL) {
        log_info("pod %s/%s is no longer wanted", json_string_at(record, "namespace", ""), json_string_at(record, "name", ""));
        records_for_each_process(record, kill_process, NULL);
        records_remove(pod_folder);
    }
}

static void drop_unknown_marked(void *arg, const struct marked_process *process) {
    cleanup_json json_t *record = records_read(process->pod_folder);
    (void)arg;
    if (record == NULL) {
        process_signal(&process->process, SIGKILL);
    }
}

void kubelet_on_synced(struct kubelet *kubelet) {
    records_for_each(kubelet->options.folder, drop_unknown, kubelet);
    marks_for_each(kubelet->options.folder, drop_unknown_marked, kubelet);
}

static void on_rotation(void *arg) {
    struct kubelet *kubelet = arg;
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&kubelet->pods, &at)) != NULL;) {
        local_pod_rotate_logs(entry->value);
    }
    timer_set(&kubelet->rotation, ROTATE_PERIOD_MS);
}

static void on_looks(void *arg) {
    struct kubelet *kubelet = arg;
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&kubelet->pods, &at)) != NULL;) {
        local_pod_look_at_logs(entry->value);
    }
    timer_set(&kubelet->looks, LOG_TIMES_PERIOD_MS);
}

/* ---- logs ---- */

static const struct local_pod *find_pod(const struct kubelet *kubelet, const char *namespace, const char *name) {
    const json_t *object = watch_cache_get(kubelet->options.pods, namespace, name);
    return object != NULL ? map_get(&kubelet->pods, kube_uid(object)) : NULL;
}

int kubelet_log_file(const struct kubelet *kubelet, const char *namespace, const char *pod, const char *container, bool previous,
                     char **ret_path, struct error *err) {
    const struct local_pod *local = find_pod(kubelet, namespace, pod);
    const struct container *found = local != NULL ? pod_find_container(local_pod_peek(local), container) : NULL;
    if (found == NULL) {
        return error_set(err, ERROR_NOT_FOUND, "container \"%s\" of pod %s/%s is not on this node", container, namespace, pod);
    }
    /* While it waits for its restart, the last run is the previous one. */
    int run = found->restart_count - (previous && found->state != CONTAINER_WAITING);
    if (run < 0) {
        return error_set(err, ERROR_INVALID, "previous terminated container \"%s\" in pod \"%s\" not found", container, pod);
    }
    char *path = records_log_file(local_pod_folder(local), container, run);
    if (access(path, R_OK) < 0) {
        bool is_waiting = found->state == CONTAINER_WAITING;
        error_set(err, ERROR_INVALID, "container \"%s\" in pod \"%s\" is waiting to start: %s", container, pod,
                  is_waiting ? found->waiting_reason : "no output");
        free(path);
        return -1;
    }
    *ret_path = path;
    return 0;
}

bool kubelet_is_running(const struct kubelet *kubelet, const char *namespace, const char *pod, const char *container) {
    const struct local_pod *local = find_pod(kubelet, namespace, pod);
    const struct container *found = local != NULL ? pod_find_container(local_pod_peek(local), container) : NULL;
    return found != NULL && found->state == CONTAINER_RUNNING;
}

/* ---- */

struct kubelet *kubelet_new(const struct kubelet_options *options) {
    struct kubelet *kubelet = xcalloc(1, sizeof(*kubelet));
    kubelet->options = *options;
    kubelet->context = (struct local_pod_context){.client = options->client,
                                                  .transfers = options->transfers,
                                                  .events = options->events,
                                                  .pods = options->pods,
                                                  .node_name = options->node_name,
                                                  .cpus = options->cpus,
                                                  .find_source = find_source,
                                                  .on_gone = on_gone,
                                                  .arg = kubelet};
    marks_for_each(options->folder, note_marked, kubelet);
    timer_init(&kubelet->rotation, kube_client_loop(options->client), on_rotation, kubelet);
    timer_set(&kubelet->rotation, ROTATE_PERIOD_MS);
    timer_init(&kubelet->looks, kube_client_loop(options->client), on_looks, kubelet);
    timer_set(&kubelet->looks, LOG_TIMES_PERIOD_MS);
    return kubelet;
}

void kubelet_free(struct kubelet *kubelet) {
    if (kubelet == NULL) {
        return;
    }
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&kubelet->pods, &at)) != NULL;) {
        local_pod_free(entry->value);
    }
    for (size_t at = 0; (entry = map_next(&kubelet->marked, &at)) != NULL;) {
        free(entry->value);
    }
    map_release(&kubelet->pods);
    map_release(&kubelet->marked);
    watch_cache_free(kubelet->secrets);
    watch_cache_free(kubelet->config_maps);
    timer_release(&kubelet->rotation);
    timer_release(&kubelet->looks);
    free(kubelet);
}
