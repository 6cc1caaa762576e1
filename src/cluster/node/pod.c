#include "cluster/node/pod.h"

#include "base/clock.h"
#include "kube/client.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define BACKOFF_FIRST_MS 10000
#define GRACE_DEFAULT_S 30

/* ---- making one ---- */

static void container_init(struct container *container, const json_t *spec, enum container_kind kind) {
    static const char *const members[] = {
        [PROBE_STARTUP] = "startupProbe", [PROBE_READINESS] = "readinessProbe", [PROBE_LIVENESS] = "livenessProbe"};
    container->spec = spec;
    container->name = json_string_at(spec, "name", "");
    container->kind = kind;
    container->waiting_reason = kind == CONTAINER_MAIN ? "ContainerCreating" : "PodInitializing";
    for (int i = 0; i < PROBE_KINDS; i++) {
        /* Kubernetes allows no probes on plain init containers. */
        probe_init(&container->probes[i], (enum probe_kind)i, kind == CONTAINER_INIT ? NULL : json_object_get(spec, members[i]));
    }
}

static void add_containers(struct pod *pod, const char *member) {
    size_t index = 0;
    json_t *spec = NULL;
    bool is_init = strcmp(member, "initContainers") == 0;
    json_array_foreach(json_object_get(pod->spec, member), index, spec) {
        bool is_sidecar = is_init && strcmp(json_string_at(spec, "restartPolicy", ""), "Always") == 0;
        if (pod->container_count < POD_CONTAINERS_MAX) {
            container_init(&pod->containers[pod->container_count++], spec,
                           is_sidecar ? CONTAINER_SIDECAR
                           : is_init  ? CONTAINER_INIT
                                      : CONTAINER_MAIN);
        }
    }
}

struct pod *pod_new(json_t *object, const char *address, int64_t wall_ms) {
    struct pod *pod = xcalloc(1, sizeof(*pod));
    pod->object = json_incref(object);
    pod->spec = json_incref(json_object_get(object, "spec"));
    pod->uid = xstrdup(kube_uid(object));
    pod->address = xstrdup(address);
    pod->started_wall_ms = wall_ms;
    pod->grace_ms = 1000 * json_int_at(pod->spec, "terminationGracePeriodSeconds", GRACE_DEFAULT_S);
    size_t count =
        json_array_size(json_object_get(pod->spec, "initContainers")) + json_array_size(json_object_get(pod->spec, "containers"));
    pod->containers = xcalloc(count < POD_CONTAINERS_MAX ? count + 1 : POD_CONTAINERS_MAX, sizeof(*pod->containers));
    add_containers(pod, "initContainers");
    add_containers(pod, "containers");
    return pod;
}

void pod_free(struct pod *pod) {
    if (pod == NULL) {
        return;
    }
    for (size_t i = 0; i < pod->container_count; i++) {
        json_decref(pod->containers[i].last_ended);
    }
    free(pod->containers);
    json_decref(pod->object);
    json_decref(pod->spec);
    free(pod->uid);
    free(pod->address);
    free(pod);
}

void pod_set_address(struct pod *pod, const char *address) {
    free(pod->address);
    pod->address = xstrdup(address);
}

struct container *pod_find_container(const struct pod *pod, const char *name) {
    for (size_t i = 0; i < pod->container_count; i++) {
        if (strcmp(pod->containers[i].name, name) == 0) {
            return &pod->containers[i];
        }
    }
    return NULL;
}

/* ---- what it is ---- */

bool container_is_started(const struct container *container) {
    return container->state == CONTAINER_RUNNING && container->probes[PROBE_STARTUP].is_passing;
}

bool container_is_ready(const struct container *container) {
    if (container->kind == CONTAINER_INIT) {
        return container->state == CONTAINER_ENDED && container->exit_code == 0;
    }
    return container_is_started(container) && container->probes[PROBE_READINESS].is_passing;
}

int container_next_run(const struct container *container) {
    return container->restart_count + (container->last_ended != NULL);
}

bool pod_restarts(const struct pod *pod, const struct container *container) {
    if (container->kind == CONTAINER_SIDECAR) {
        return true;
    }
    const char *policy = json_string_at(pod->spec, "restartPolicy", "Always");
    if (container->exit_code == 0 && container->kind == CONTAINER_INIT) {
        return false;
    }
    return strcmp(policy, "Always") == 0 || (strcmp(policy, "OnFailure") == 0 && container->exit_code != 0);
}

json_t *container_terminated(const struct container *container) {
    char started[CLOCK_RFC3339_BYTES];
    char finished[CLOCK_RFC3339_BYTES];
    char id[64];
    clock_format_rfc3339(container->started_wall_ms, started);
    clock_format_rfc3339(container->finished_wall_ms, finished);
    (void)snprintf(id, sizeof(id), "process://%d", (int)container->process.pid);
    json_t *terminated = json_pack("{s:i, s:s, s:s, s:s, s:s}", "exitCode", container->exit_code, "reason", container->end_reason,
                                   "startedAt", started, "finishedAt", finished, "containerID", id);
    if (container->signal != 0) {
        json_object_set_new(terminated, "signal", json_integer(container->signal));
    }
    if (container->end_message[0] != '\0') {
        json_object_set_new(terminated, "message", json_string(container->end_message));
    }
    return terminated;
}

/* ---- what came of it ---- */

void pod_note_started(struct container *container, struct process_id process, int run, int64_t now_ms, int64_t wall_ms) {
    container->state = CONTAINER_RUNNING;
    container->restart_count = run;
    container->process = process;
    container->started_ms = now_ms;
    container->started_wall_ms = wall_ms;
    container->is_killing = false;
    for (int i = 0; i < PROBE_KINDS; i++) {
        probe_restart(&container->probes[i], now_ms, false);
    }
}

void pod_note_not_started(struct container *container, const char *reason, const char *message, int64_t now_ms, int64_t retry_ms) {
    container->state = CONTAINER_WAITING;
    container->waiting_reason = reason;
    (void)snprintf(container->waiting_message, sizeof(container->waiting_message), "%s", message);
    container->due_ms = now_ms + retry_ms;
}

static void describe_end(struct container *container, enum process_end end, int code) {
    container->signal = end == PROCESS_END_SIGNALED ? code : 0;
    container->exit_code = end == PROCESS_END_SIGNALED ? 128 + code : end == PROCESS_END_EXITED ? code : 255;
    container->end_reason = end == PROCESS_END_UNKNOWN ? "ExitCodeUnknown" : container->exit_code == 0 ? "Completed" : "Error";
    container->end_message = end == PROCESS_END_UNKNOWN
                                 ? "the process was adopted after a restart of the node, which therefore cannot know its exit code"
                                 : "";
}

void pod_note_ended(struct pod *pod, struct container *container, enum process_end end, int code, int64_t now_ms, int64_t wall_ms) {
    describe_end(container, end, code);
    container->state = CONTAINER_ENDED;
    container->finished_wall_ms = wall_ms;
    container->is_killing = false;
    for (int i = 0; i < PROBE_KINDS; i++) {
        probe_restart(&container->probes[i], now_ms, false);
    }
    if (pod->is_terminating || !pod_restarts(pod, container) || pod_has_ended(pod)) {
        return;
    }
    json_decref(container->last_ended);
    container->last_ended = container_terminated(container);
    if (now_ms - container->started_ms >= POD_BACKOFF_RESET_MS) {
        container->backoff_ms = -1;
    }
    /* 0 s, 10 s, 20 s, 40 s ... : backoff_ms is -1 after a long run, 0 before the first restart has happened */
    bool is_first = container->backoff_ms < 0 || (container->restart_count == 0 && container->backoff_ms == 0);
    int64_t wait_ms = is_first ? 0 : container->backoff_ms == 0 ? BACKOFF_FIRST_MS : 2 * container->backoff_ms;
    container->backoff_ms = wait_ms < POD_BACKOFF_MAX_MS ? wait_ms : POD_BACKOFF_MAX_MS;
    char message[ERROR_MESSAGE_BYTES];
    (void)snprintf(message, sizeof(message), "back-off %lld%s restarting failed container=%s pod=%s_%s(%s)",
                   (long long)(container->backoff_ms < 60000 ? container->backoff_ms / 1000 : container->backoff_ms / 60000),
                   container->backoff_ms < 60000 ? "s" : "m", container->name, kube_name(pod->object), kube_namespace(pod->object),
                   pod->uid);
    pod_note_not_started(container, "CrashLoopBackOff", message, now_ms, container->backoff_ms);
}

void pod_terminate(struct pod *pod, int64_t grace_ms, int64_t now_ms) {
    if (pod->is_terminating && grace_ms >= pod->grace_ms) {
        return;
    }
    pod->is_terminating = true;
    pod->grace_ms = grace_ms;
    for (size_t i = 0; i < pod->container_count; i++) {
        struct container *container = &pod->containers[i];
        if (container->is_killing && container->kill_ms != INT64_MAX && now_ms + grace_ms < container->kill_ms) {
            container->kill_ms = now_ms + grace_ms;
        }
    }
}

void pod_restart_container(struct container *container) {
    if (container->state == CONTAINER_RUNNING && !container->is_killing) {
        container->is_killing = true;
        container->kill_ms = -1; /* SIGTERM is still to be sent */
    }
}

/* ---- what is to be done ---- */

struct decision {
    struct pod *pod;
    int64_t now_ms;
    struct pod_action *actions;
    size_t count;
    int64_t next_ms;
};

static void act(struct decision *decision, enum pod_action_type type, struct container *container, enum probe_kind probe) {
    if (decision->count < POD_ACTIONS_MAX) {
        decision->actions[decision->count++] = (struct pod_action){.type = type, .container = container, .probe = probe};
    }
}

static void look_again_at(struct decision *decision, int64_t when_ms) {
    if (when_ms < decision->next_ms) {
        decision->next_ms = when_ms;
    }
}

/* SIGTERM, and SIGKILL once the grace period is over. */
static void drive_kill(struct decision *decision, struct container *container) {
    if (!container->is_killing || container->kill_ms < 0) {
        container->is_killing = true;
        container->kill_ms = decision->now_ms + decision->pod->grace_ms;
        if (decision->pod->grace_ms > 0) {
            act(decision, POD_TERMINATE, container, 0);
        }
    }
    if (container->kill_ms <= decision->now_ms) {
        container->kill_ms = INT64_MAX;
        act(decision, POD_KILL, container, 0);
    }
    look_again_at(decision, container->kill_ms);
}

static void drive_probe(struct decision *decision, struct container *container, enum probe_kind kind) {
    struct probe *probe = &container->probes[kind];
    bool is_over = kind == PROBE_STARTUP && probe->is_passing;
    bool is_early = kind != PROBE_STARTUP && !container->probes[PROBE_STARTUP].is_passing;
    if (probe->spec == NULL || probe->is_in_flight || is_over || is_early) {
        return;
    }
    if (probe->next_ms <= decision->now_ms) {
        act(decision, POD_PROBE, container, kind);
    } else {
        look_again_at(decision, probe->next_ms);
    }
}

static void drive_running(struct decision *decision, struct container *container) {
    if (container->is_killing) {
        drive_kill(decision, container);
        return;
    }
    for (int kind = 0; kind < PROBE_KINDS; kind++) {
        drive_probe(decision, container, (enum probe_kind)kind);
    }
}

static void drive_waiting(struct decision *decision, struct container *container) {
    if (decision->pod->address[0] == '\0') {
        return;
    }
    if (container->due_ms <= decision->now_ms) {
        act(decision, POD_START, container, 0);
    } else {
        look_again_at(decision, container->due_ms);
    }
}

static void drive(struct decision *decision, struct container *container) {
    if (container->state == CONTAINER_RUNNING) {
        drive_running(decision, container);
    } else if (container->state == CONTAINER_WAITING) {
        drive_waiting(decision, container);
    }
}

/* Sidecars outlive what they serve: they are told to end when nothing else runs. */
static void drive_termination(struct decision *decision) {
    struct pod *pod = decision->pod;
    bool others_run = false;
    bool any_runs = false;
    for (size_t i = 0; i < pod->container_count; i++) {
        bool runs = pod->containers[i].state == CONTAINER_RUNNING;
        any_runs = any_runs || runs;
        others_run = others_run || (runs && pod->containers[i].kind != CONTAINER_SIDECAR);
    }
    for (size_t i = 0; i < pod->container_count; i++) {
        struct container *container = &pod->containers[i];
        if (container->state == CONTAINER_RUNNING && (container->kind != CONTAINER_SIDECAR || !others_run)) {
            drive_kill(decision, container);
        } else if (container->state == CONTAINER_RUNNING) {
            drive_running(decision, container);
        }
    }
    if (!any_runs) {
        act(decision, POD_GONE, NULL, 0);
    }
}

bool pod_has_ended(const struct pod *pod) {
    bool mains_ended = true;
    for (size_t i = 0; i < pod->container_count; i++) {
        const struct container *container = &pod->containers[i];
        bool is_final = container->state == CONTAINER_ENDED && !pod_restarts(pod, container);
        if (container->kind == CONTAINER_INIT && is_final && container->exit_code != 0) {
            return true;
        }
        mains_ended = mains_ended && (container->kind != CONTAINER_MAIN || is_final);
    }
    return mains_ended;
}

static void end_sidecars(struct decision *decision) {
    for (size_t i = 0; i < decision->pod->container_count; i++) {
        struct container *container = &decision->pod->containers[i];
        if (container->state == CONTAINER_RUNNING) {
            drive_kill(decision, container);
        }
    }
}

static void drive_normally(struct decision *decision) {
    struct pod *pod = decision->pod;
    bool may_go_on = true;
    for (size_t i = 0; i < pod->container_count; i++) {
        struct container *container = &pod->containers[i];
        bool is_turn = may_go_on || pod->is_initialized || container->state == CONTAINER_RUNNING;
        if (container->kind == CONTAINER_MAIN && may_go_on && !pod->is_initialized) {
            pod->is_initialized = true;
        }
        if (container->kind == CONTAINER_INIT && pod->is_initialized) {
            continue; /* done in an earlier life of the node */
        }
        if (is_turn) {
            drive(decision, container);
        }
        if (container->kind == CONTAINER_INIT) {
            may_go_on = may_go_on && container->state == CONTAINER_ENDED && container->exit_code == 0;
        } else if (container->kind == CONTAINER_SIDECAR) {
            may_go_on = may_go_on && container_is_started(container);
        }
    }
}

size_t pod_decide(struct pod *pod, int64_t now_ms, struct pod_action *ret_actions, int64_t *ret_next_ms) {
    struct decision decision = {.pod = pod, .now_ms = now_ms, .actions = ret_actions, .next_ms = INT64_MAX};
    if (pod->is_terminating) {
        drive_termination(&decision);
    } else if (pod_has_ended(pod)) {
        end_sidecars(&decision);
    } else {
        drive_normally(&decision);
    }
    *ret_next_ms = decision.next_ms;
    return decision.count;
}
