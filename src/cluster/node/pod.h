/* A pod on this node as a state machine: clocks and results go in, actions come out. It starts no process and asks no API.
 *
 * Containers: init containers run one after another to their end; those with restartPolicy Always (native sidecars) are started in
 * their turn and kept; then the others all at once. What ended is started again after 0, 10, 20, 40 ... 300 s, as restartPolicy
 * says; ten minutes of running make it start from 0 s again. On deletion: SIGTERM, SIGKILL after the grace period, sidecars last.
 */
#ifndef DAVIT_CLUSTER_NODE_POD_H
#define DAVIT_CLUSTER_NODE_POD_H

#include "base/process.h"
#include "cluster/node/probe.h"

#define POD_CONTAINERS_MAX 128 /* as the API allows: 64, and 64 init containers */
#define POD_BACKOFF_MAX_MS 300000
#define POD_BACKOFF_RESET_MS 600000

enum container_kind { CONTAINER_INIT, CONTAINER_SIDECAR, CONTAINER_MAIN };
enum container_state { CONTAINER_WAITING, CONTAINER_RUNNING, CONTAINER_ENDED };

struct container {
    const char *name; /* borrowed from the spec, as is `spec` */
    const json_t *spec;
    enum container_kind kind;
    enum container_state state;
    struct process_id process; /* while RUNNING */
    int64_t started_wall_ms;
    int64_t started_ms;
    int64_t finished_wall_ms;
    int exit_code; /* when ENDED; 128 + signal */
    int signal;
    const char *end_reason;     /* "Completed", "Error", ...; static */
    const char *end_message;    /* "" or static */
    json_t *last_ended;         /* the `terminated` object of the run before, NULL = none */
    int restart_count;          /* of the present run, or of the last one while it waits */
    int64_t backoff_ms;         /* that was waited before this run */
    int64_t due_ms;             /* WAITING: when it may start */
    const char *waiting_reason; /* static */
    char waiting_message[ERROR_MESSAGE_BYTES];
    bool is_killing; /* SIGTERM was sent */
    int64_t kill_ms; /* when SIGKILL is due; INT64_MAX once sent */
    struct probe probes[PROBE_KINDS];
};

struct pod {
    json_t *object; /* as the API has it now */
    json_t *spec;   /* as it was when the pod came here: the containers do not change */
    char *uid;
    char *address; /* "" = none is free: it waits, nothing is started */
    int64_t started_wall_ms;
    struct container *containers; /* init containers first, in order */
    size_t container_count;
    bool is_terminating;
    int64_t grace_ms;
    bool is_initialized; /* stays true once every plain init container was through */
};

/* `object` gets a reference. */
struct pod *pod_new(json_t *object, const char *address, int64_t wall_ms);
void pod_free(struct pod *pod);
void pod_set_address(struct pod *pod, const char *address);
struct container *pod_find_container(const struct pod *pod, const char *name); /* NULL when there is none */

enum pod_action_type { POD_START, POD_TERMINATE, POD_KILL, POD_PROBE, POD_GONE };
struct pod_action {
    enum pod_action_type type;
    struct container *container; /* not for POD_GONE */
    enum probe_kind probe;       /* POD_PROBE */
};
#define POD_ACTIONS_MAX (4 * POD_CONTAINERS_MAX)
/* What is to be done now, at most POD_ACTIONS_MAX; returns how many. *ret_next_ms: when to ask again if nothing happens (INT64_MAX
 * = never). TERMINATE and KILL are asked for once. POD_GONE: nothing runs and the object may go; asked for each time. */
size_t pod_decide(struct pod *pod, int64_t now_ms, struct pod_action *ret_actions, int64_t *ret_next_ms);

/* What came of it. `run`: container_next_run as it was when the process was started; for one that was adopted, its own. */
void pod_note_started(struct container *container, struct process_id process, int run, int64_t now_ms, int64_t wall_ms);
/* It could not be started: it waits `retry_ms` with that reason (static). */
void pod_note_not_started(struct container *container, const char *reason, const char *message, int64_t now_ms, int64_t retry_ms);
void pod_note_ended(struct pod *pod, struct container *container, enum process_end end, int code, int64_t now_ms, int64_t wall_ms);
/* The pod is to end within `grace_ms` (again: the shorter grace wins). */
void pod_terminate(struct pod *pod, int64_t grace_ms, int64_t now_ms);
/* This container is to be ended (a probe failed); it comes back as restartPolicy says. */
void pod_restart_container(struct container *container);

int container_next_run(const struct container *container); /* the restart count of the run that would start now */
/* Running, and its startup probe passed / its readiness probe passes too. */
bool container_is_started(const struct container *container);
bool container_is_ready(const struct container *container);
bool pod_restarts(const struct pod *pod,
                  const struct container *container); /* would it be started again, having ended as it did? */
/* By itself: an init container failed for good, or all main containers ended and none is started again. */
bool pod_has_ended(const struct pod *pod);
/* {"exitCode","reason","startedAt","finishedAt","containerID"[,"signal","message"]} of an ended container. */
json_t *container_terminated(const struct container *container);

#endif
