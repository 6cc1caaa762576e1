#include "cluster/node/local_pod.h"

#include "base/clock.h"
#include "base/log.h"
#include "cluster/node/launch.h"
#include "cluster/node/log_file.h"
#include "cluster/node/log_times.h"
#include "cluster/node/marks.h"
#include "cluster/node/prober.h"
#include "cluster/node/records.h"
#include "cluster/node/status.h"

#include <signal.h>
#include <string.h>

#define RETRY_LAUNCH_MS 10000
#define RETRY_SOURCE_MS 100
#define RETRY_WRITE_MS 1000
#define ROUNDS_MAX 4

/* The live side of a container: what pod.h's struct container does not know. */
struct running {
    struct local_pod *local;
    struct container *container;
    int pidfd;         /* -1 = nothing runs */
    int64_t log_bytes; /* at the last look; -1 = none yet */
    struct watch *watch;
    struct prober_call *probes[PROBE_KINDS];
};

struct local_pod {
    const struct local_pod_context *context;
    struct pod *pod;
    char *folder;
    struct running *running; /* one a container */
    struct timer timer;
    bool is_vanished;
    json_t *rendered; /* the newest status */
    json_t *written;  /* the status that the API has */
    json_t *sending;
    struct kube_call *status_call;
    struct kube_call *delete_call;
    int64_t retry_ms;  /* no write to the API before */
    bool was_reported; /* that writes fail: logged once, not each second while the API is away */
};

static void sync_pod(struct local_pod *local);

static struct running *running_of(struct local_pod *local, const struct container *container) {
    return &local->running[container - local->pod->containers];
}

static void save(struct local_pod *local) {
    struct error err;
    if (records_write(local->folder, local->pod, &err) < 0) {
        log_error("record of pod %s/%s: %s", kube_namespace(local->pod->object), kube_name(local->pod->object), err.message);
    }
}

static void tell(struct local_pod *local, const char *type, const char *reason, const char *message) {
    if (!local->is_vanished) {
        event_record(local->context->events, local->pod->object, type, reason, "%s", message);
    }
}

/* ---- processes ---- */

static void stop_watching(struct running *running) {
    for (int i = 0; i < PROBE_KINDS; i++) {
        prober_cancel(take_pointer(running->probes[i]));
    }
    if (running->watch != NULL) {
        watch_free(take_pointer(running->watch));
    }
    if (running->pidfd >= 0) {
        close(running->pidfd);
        running->pidfd = -1;
    }
}

static void look_at_log(struct local_pod *local, const struct container *container) {
    cleanup_free char *log = records_log_file(local->folder, container->name, container->restart_count);
    log_times_note(log, clock_wall_ms(), &running_of(local, container)->log_bytes);
}

static void on_process_ended(void *arg) {
    struct running *running = arg;
    struct local_pod *local = running->local;
    struct container *container = running->container;
    int code = 0;
    look_at_log(local, container); /* what it said last */
    process_kill_leftovers(&container->process);
    enum process_end end = process_reap(running->pidfd, &code);
    stop_watching(running);
    pod_note_ended(local->pod, container, end, code, loop_now_ms(kube_client_loop(local->context->client)), clock_wall_ms());
    log_info("pod %s/%s container \"%s\" ended exit_code=%d", kube_namespace(local->pod->object), kube_name(local->pod->object),
             container->name, container->exit_code);
    if (container->state == CONTAINER_WAITING && container->backoff_ms > 0) {
        cleanup_free char *message = xasprintf("Back-off restarting failed container %s in pod %s_%s(%s)", container->name,
                                               kube_name(local->pod->object), kube_namespace(local->pod->object), local->pod->uid);
        tell(local, "Warning", "BackOff", message);
    }
    save(local);
    sync_pod(local);
}

static void watch_process(struct local_pod *local, struct container *container) {
    struct running *running = running_of(local, container);
    running->pidfd = process_open(&container->process);
    if (running->pidfd >= 0) {
        running->watch = watch_new(kube_client_loop(local->context->client), running->pidfd, on_process_ended, running);
    } else {
        pod_note_ended(local->pod, container, PROCESS_END_UNKNOWN, 0, loop_now_ms(kube_client_loop(local->context->client)),
                       clock_wall_ms());
    }
}

static void append_variable(char ***environment, char *variable) {
    size_t count = 0;
    while ((*environment)[count] != NULL) {
        count++;
    }
    *environment = xrealloc(*environment, (count + 2) * sizeof(**environment));
    (*environment)[count] = variable;
    (*environment)[count + 1] = NULL;
}

static int spawn(struct local_pod *local, const struct container *container, struct launch *launch, struct process_id *ret_process,
                 struct error *err) {
    int run = container_next_run(container);
    append_variable(&launch->environment, xasprintf("%s=%s", MARK_POD_FOLDER, local->folder));
    append_variable(&launch->environment, xasprintf("%s=%s", MARK_CONTAINER, container->name));
    append_variable(&launch->environment, xasprintf("%s=%d", MARK_RESTART, run));
    if (records_prepare_log(local->folder, container->name, run, err) < 0) {
        return -1;
    }
    cleanup_free char *log_file = records_log_file(local->folder, container->name, run);
    struct process_spec spec = {.program = launch->program,
                                .arguments = launch->arguments,
                                .environment = launch->environment,
                                .folder = launch->folder,
                                .output_file = log_file};
    return process_spawn(&spec, ret_process, err);
}

static void start_failed(struct local_pod *local, struct container *container, const char *reason, const struct error *err,
                         int64_t now_ms) {
    bool is_new = strcmp(container->waiting_message, err->message) != 0;
    pod_note_not_started(container, reason, err->message, now_ms, RETRY_LAUNCH_MS);
    if (is_new) {
        cleanup_free char *message = xasprintf("Error: %s", err->message);
        tell(local, "Warning", "Failed", message);
        log_warn("pod %s/%s: %s", kube_namespace(local->pod->object), kube_name(local->pod->object), err->message);
    }
}

static void start(struct local_pod *local, struct container *container, int64_t now_ms) {
    const struct local_pod_context *context = local->context;
    struct launch_input input = {.pod = local->pod->object,
                                 .container = container->spec,
                                 .pod_ip = local->pod->address,
                                 .node_name = context->node_name,
                                 .cpus = context->cpus,
                                 .find_source = context->find_source,
                                 .arg = context->arg};
    struct launch launch = {0};
    const char *reason = "";
    struct error err = {0};
    struct process_id process = {0};
    enum launch_result result = launch_prepare(&input, &launch, &reason, &err);
    if (result == LAUNCH_NOT_YET) {
        pod_note_not_started(container, "ContainerCreating", "", now_ms, RETRY_SOURCE_MS);
    } else if (result == LAUNCH_FAILED) {
        start_failed(local, container, reason, &err, now_ms);
    } else if (spawn(local, container, &launch, &process, &err) < 0) {
        start_failed(local, container, "RunContainerError", &err, now_ms);
    } else {
        pod_note_started(container, process, container_next_run(container), now_ms, clock_wall_ms());
        running_of(local, container)->log_bytes = -1;
        save(local);
        watch_process(local, container);
        cleanup_free char *created = xasprintf("Created container: %s", container->name);
        cleanup_free char *started = xasprintf("Started container %s", container->name);
        tell(local, "Normal", "Created", created);
        tell(local, "Normal", "Started", started);
        log_info("pod %s/%s container \"%s\" started pid=%d address=%s", kube_namespace(local->pod->object),
                 kube_name(local->pod->object), container->name, (int)process.pid, local->pod->address);
    }
    launch_release(&launch);
}

/* ---- probes ---- */

static void on_probe_result(struct running *running, enum probe_kind kind, bool is_success, const char *problem) {
    struct local_pod *local = running->local;
    struct container *container = running->container;
    bool is_counted = false;
    int64_t now_ms = loop_now_ms(kube_client_loop(local->context->client));
    running->probes[kind] = NULL;
    enum probe_verdict verdict = probe_record(&container->probes[kind], is_success, now_ms, &is_counted);
    if (is_counted) {
        cleanup_free char *message = xasprintf("%s probe failed: %s", probe_kind_name(kind), problem);
        tell(local, "Warning", "Unhealthy", message);
    }
    if (verdict == PROBE_NOW_FAILING && kind != PROBE_READINESS) {
        cleanup_free char *message = xasprintf("Container %s failed %s probe, will be restarted", container->name,
                                               kind == PROBE_LIVENESS ? "liveness" : "startup");
        tell(local, "Normal", "Killing", message);
        pod_restart_container(container);
    }
    if (verdict != PROBE_UNCHANGED) {
        save(local);
    }
    sync_pod(local);
}

static void on_startup_result(void *arg, bool is_success, const char *problem) {
    on_probe_result(arg, PROBE_STARTUP, is_success, problem);
}

static void on_readiness_result(void *arg, bool is_success, const char *problem) {
    on_probe_result(arg, PROBE_READINESS, is_success, problem);
}

static void on_liveness_result(void *arg, bool is_success, const char *problem) {
    on_probe_result(arg, PROBE_LIVENESS, is_success, problem);
}

static void send_probe(struct local_pod *local, struct container *container, enum probe_kind kind) {
    static void (*const on_done[])(void *, bool, const char *) = {
        [PROBE_STARTUP] = on_startup_result, [PROBE_READINESS] = on_readiness_result, [PROBE_LIVENESS] = on_liveness_result};
    struct running *running = running_of(local, container);
    struct probe *probe = &container->probes[kind];
    probe_note_sent(probe);
    running->probes[kind] =
        prober_start(kube_client_loop(local->context->client), &(struct prober_request){.transfers = local->context->transfers,
                                                                                        .probe = probe->spec,
                                                                                        .container = container->spec,
                                                                                        .address = local->pod->address,
                                                                                        .timeout_ms = probe->timeout_ms,
                                                                                        .on_done = on_done[kind],
                                                                                        .arg = running});
}

/* ---- telling the API ---- */

static void hold_back_writes(struct local_pod *local) {
    local->retry_ms = loop_now_ms(kube_client_loop(local->context->client)) + RETRY_WRITE_MS;
}

static void report_failure(struct local_pod *local, const struct error *err) {
    /* It is gone, or another pod has its name: the watch will tell. */
    bool is_race = err->code == ERROR_NOT_FOUND || err->code == ERROR_CONFLICT;
    log_write(is_race || local->was_reported ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "%s", err->message);
    local->was_reported = local->was_reported || !is_race;
}

static void on_status_written(void *arg, json_t *object, const struct error *err) {
    struct local_pod *local = arg;
    cleanup_json json_t *sent = take_pointer(local->sending);
    local->status_call = NULL;
    if (err == NULL) {
        json_decref(local->written);
        local->written = take_pointer(sent);
        watch_cache_note_write(local->context->pods, object);
        local->was_reported = false;
    } else {
        report_failure(local, err);
        hold_back_writes(local);
    }
    sync_pod(local);
}

static bool may_write(const struct local_pod *local) {
    return !local->is_vanished && loop_now_ms(kube_client_loop(local->context->client)) >= local->retry_ms;
}

/* Sends the newest status unless one is on its way; what changed meanwhile goes with the next. */
static void write_status(struct local_pod *local) {
    if (local->status_call != NULL || !may_write(local) || json_equal(local->rendered, local->written)) {
        return;
    }
    cleanup_json json_t *patch = pod_status_patch(local->rendered, local->written);
    json_object_set_new(patch, "metadata", json_pack("{s:s}", "uid", local->pod->uid)); /* not to its successor of the same name */
    local->sending = json_incref(local->rendered);
    local->status_call = kube_start(local->context->client, &(struct kube_request){.verb = KUBE_PATCH_MERGE,
                                                                                   .resource = &kube_pods,
                                                                                   .namespace = kube_namespace(local->pod->object),
                                                                                   .name = kube_name(local->pod->object),
                                                                                   .subresource = "status",
                                                                                   .body = patch,
                                                                                   .on_done = on_status_written,
                                                                                   .arg = local});
}

static void render_status(struct local_pod *local) {
    json_t *status = pod_status(local->pod, local->rendered, clock_wall_ms());
    if (local->rendered != NULL && json_equal(status, local->rendered)) {
        json_decref(status);
        return;
    }
    json_decref(local->rendered);
    local->rendered = status;
}

static void on_deleted(void *arg, json_t *object, const struct error *err) {
    struct local_pod *local = arg;
    (void)object;
    local->delete_call = NULL;
    if (err != NULL && err->code != ERROR_NOT_FOUND) {
        report_failure(local, err);
        hold_back_writes(local);
    }
    sync_pod(local);
}

/* Nothing runs any more: the object may go, and the watch tells when it has gone. Its last status is written first. */
static void delete_object(struct local_pod *local) {
    if (local->delete_call != NULL || local->status_call != NULL || !may_write(local) ||
        !json_equal(local->rendered, local->written)) {
        return;
    }
    cleanup_json json_t *options = json_pack("{s:s, s:s, s:i, s:{s:s}}", "kind", "DeleteOptions", "apiVersion", "v1",
                                             "gracePeriodSeconds", 0, "preconditions", "uid", local->pod->uid);
    local->delete_call = kube_start(local->context->client, &(struct kube_request){.verb = KUBE_DELETE,
                                                                                   .resource = &kube_pods,
                                                                                   .namespace = kube_namespace(local->pod->object),
                                                                                   .name = kube_name(local->pod->object),
                                                                                   .body = options,
                                                                                   .on_done = on_deleted,
                                                                                   .arg = local});
    hold_back_writes(local); /* once answered, the watch has that long to tell before it is asked for again */
    timer_set(&local->timer, RETRY_WRITE_MS);
}

/* ---- the round ---- */

static void perform(struct local_pod *local, const struct pod_action *action, int64_t now_ms) {
    switch (action->type) {
    case POD_START:
        start(local, action->container, now_ms);
        break;
    case POD_TERMINATE:
        process_signal(&action->container->process, SIGTERM);
        break;
    case POD_KILL:
        process_signal(&action->container->process, SIGKILL);
        break;
    case POD_PROBE:
        send_probe(local, action->container, action->probe);
        break;
    case POD_GONE:
        break;
    }
}

/* One round of decide and do; true when something was started, so that another round may have more to do. */
static bool run_round(struct local_pod *local, bool *ret_is_gone, int64_t *ret_next_ms) {
    struct pod_action actions[POD_ACTIONS_MAX];
    int64_t now_ms = loop_now_ms(kube_client_loop(local->context->client));
    size_t count = pod_decide(local->pod, now_ms, actions, ret_next_ms);
    bool has_started = false;
    *ret_is_gone = false;
    for (size_t i = 0; i < count; i++) {
        perform(local, &actions[i], now_ms);
        has_started = has_started || actions[i].type == POD_START;
        *ret_is_gone = *ret_is_gone || actions[i].type == POD_GONE;
    }
    return has_started;
}

static void sync_pod(struct local_pod *local) {
    bool is_gone = false;
    int64_t next_ms = INT64_MAX;
    for (int round = 0; round < ROUNDS_MAX && run_round(local, &is_gone, &next_ms); round++) {
    }
    if (is_gone && local->is_vanished) {
        local->context->on_gone(local->context->arg, local);
        return;
    }
    int64_t now_ms = loop_now_ms(kube_client_loop(local->context->client));
    if (local->retry_ms > now_ms && local->retry_ms < next_ms) {
        next_ms = local->retry_ms;
    }
    if (next_ms == INT64_MAX) {
        timer_clear(&local->timer);
    } else {
        timer_set(&local->timer, next_ms > now_ms ? next_ms - now_ms : 0);
    }
    render_status(local);
    write_status(local);
    if (is_gone) {
        delete_object(local);
    }
}

static void on_timer(void *arg) {
    sync_pod(arg);
}

/* ---- the manual ---- */

static void take_deletion(struct local_pod *local) {
    struct pod *pod = local->pod;
    if (!kube_is_deleting(pod->object)) {
        return;
    }
    bool is_first = !pod->is_terminating;
    pod_terminate(pod, 1000 * json_int_at(pod->object, "metadata.deletionGracePeriodSeconds", pod->grace_ms / 1000),
                  loop_now_ms(kube_client_loop(local->context->client)));
    for (size_t i = 0; is_first && i < pod->container_count; i++) {
        if (pod->containers[i].state == CONTAINER_RUNNING) {
            cleanup_free char *message = xasprintf("Stopping container %s", pod->containers[i].name);
            tell(local, "Normal", "Killing", message);
        }
    }
}

struct local_pod *local_pod_new(const struct local_pod_context *context, struct pod *pod, const char *folder) {
    struct local_pod *local = xcalloc(1, sizeof(*local));
    local->context = context;
    local->pod = pod;
    local->folder = xstrdup(folder);
    local->running = xcalloc(pod->container_count + 1, sizeof(*local->running));
    local->written = json_incref(json_object_get(pod->object, "status"));
    local->rendered = json_incref(local->written);
    timer_init(&local->timer, kube_client_loop(context->client), on_timer, local);
    for (size_t i = 0; i < pod->container_count; i++) {
        local->running[i] = (struct running){.local = local, .container = &pod->containers[i], .pidfd = -1, .log_bytes = -1};
        if (pod->containers[i].state == CONTAINER_RUNNING) {
            watch_process(local, &pod->containers[i]);
        }
    }
    save(local);
    take_deletion(local);
    timer_set(&local->timer, 0);
    return local;
}

void local_pod_free(struct local_pod *local) {
    if (local == NULL) {
        return;
    }
    for (size_t i = 0; i < local->pod->container_count; i++) {
        stop_watching(&local->running[i]);
    }
    kube_call_cancel(local->status_call);
    kube_call_cancel(local->delete_call);
    timer_release(&local->timer);
    json_decref(local->rendered);
    json_decref(local->written);
    json_decref(local->sending);
    pod_free(local->pod);
    free(local->running);
    free(local->folder);
    free(local);
}

const struct pod *local_pod_peek(const struct local_pod *local) {
    return local->pod;
}

const char *local_pod_folder(const struct local_pod *local) {
    return local->folder;
}

void local_pod_on_object(struct local_pod *local, json_t *object) {
    json_decref(local->pod->object);
    local->pod->object = json_incref(object);
    take_deletion(local);
    timer_set(&local->timer, 0);
}

void local_pod_on_vanished(struct local_pod *local) {
    local->is_vanished = true;
    pod_terminate(local->pod, 0, loop_now_ms(kube_client_loop(local->context->client)));
    timer_set(&local->timer, 0);
}

void local_pod_take_address(struct local_pod *local, const char *address) {
    pod_set_address(local->pod, address);
    save(local);
    timer_set(&local->timer, 0);
}

void local_pod_rotate_logs(struct local_pod *local) {
    for (size_t i = 0; i < local->pod->container_count; i++) {
        const struct container *container = &local->pod->containers[i];
        if (container->state == CONTAINER_RUNNING) {
            cleanup_free char *file = records_log_file(local->folder, container->name, container->restart_count);
            log_file_rotate(file);
        }
    }
}

void local_pod_look_at_logs(struct local_pod *local) {
    for (size_t i = 0; i < local->pod->container_count; i++) {
        if (local->pod->containers[i].state == CONTAINER_RUNNING) {
            look_at_log(local, &local->pod->containers[i]);
        }
    }
}
