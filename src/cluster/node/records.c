#include "cluster/node/records.h"

#include "base/file.h"
#include "cluster/node/log_times.h"
#include "kube/client.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>

#define RECORD_BYTES_MAX (4 * 1024 * 1024)

char *records_pod_folder(const char *folder, const char *namespace, const char *name, const char *uid) {
    return xasprintf("%s/pods/%s_%s_%s", folder, namespace, name, uid);
}

char *records_log_file(const char *pod_folder, const char *container, int restart) {
    return xasprintf("%s/%s/%d.log", pod_folder, container, restart);
}

int records_prepare_log(const char *pod_folder, const char *container, int restart, struct error *err) {
    cleanup_free char *folder = path_join(pod_folder, container);
    if (restart >= 2) {
        cleanup_free char *old = records_log_file(pod_folder, container, restart - 2);
        cleanup_free char *old_rotated = xasprintf("%s.1", old);
        log_times_forget(old);
        (void)unlink(old);
        (void)unlink(old_rotated);
    }
    return file_make_dirs(folder, 0700, err);
}

/* ---- writing ---- */

static json_t *container_record(const struct container *container) {
    json_t *record = json_pack("{s:s, s:i, s:i, s:I, s:I, s:I, s:i, s:i, s:I, s:b, s:b, s:b}", "name", container->name, "state",
                               (int)container->state, "pid", (int)container->process.pid, "startTicks",
                               (json_int_t)container->process.start_ticks, "startedMs", (json_int_t)container->started_wall_ms,
                               "finishedMs", (json_int_t)container->finished_wall_ms, "exitCode", container->exit_code,
                               "restartCount", container->restart_count, "backoffMs", (json_int_t)container->backoff_ms, "wasReady",
                               container->probes[PROBE_READINESS].is_passing, "wasStarted",
                               container->probes[PROBE_STARTUP].is_passing, "wasKilled", container->is_killing);
    if (container->last_ended != NULL) {
        json_object_set(record, "lastEnded", container->last_ended);
    }
    return record;
}

int records_write(const char *pod_folder, const struct pod *pod, struct error *err) {
    json_t *containers = json_array();
    for (size_t i = 0; i < pod->container_count; i++) {
        json_array_append_new(containers, container_record(&pod->containers[i]));
    }
    cleanup_json json_t *record =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:b, s:I, s:o}", "namespace", kube_namespace(pod->object), "name",
                  kube_name(pod->object), "uid", pod->uid, "address", pod->address, "startedMs", (json_int_t)pod->started_wall_ms,
                  "isInitialized", pod->is_initialized, "graceMs", (json_int_t)pod->grace_ms, "containers", containers);
    cleanup_free char *text = json_text(record);
    cleanup_free char *path = path_join(pod_folder, "pod.json");
    if (file_make_dirs(pod_folder, 0700, err) < 0) {
        return -1;
    }
    return file_replace(path, text, strlen(text), 0600, err);
}

/* ---- reading ---- */

json_t *records_read(const char *pod_folder) {
    cleanup_free char *path = path_join(pod_folder, "pod.json");
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read(path, RECORD_BYTES_MAX, &text, NULL) < 0) {
        return NULL;
    }
    return json_parse(buffer_text(&text), text.len, NULL);
}

static struct process_id process_of(const json_t *record) {
    return (struct process_id){.pid = (pid_t)json_int_at(record, "pid", 0),
                               .start_ticks = (uint64_t)json_int_at(record, "startTicks", 0)};
}

static void restore_container(const json_t *record, struct pod *pod, struct container *container, int64_t now_ms, int64_t wall_ms) {
    int state = (int)json_int_at(record, "state", CONTAINER_WAITING);
    container->process = process_of(record);
    container->restart_count = (int)json_int_at(record, "restartCount", 0);
    container->backoff_ms = json_int_at(record, "backoffMs", 0);
    container->last_ended = json_incref(json_object_get(record, "lastEnded"));
    int64_t started_wall_ms = json_int_at(record, "startedMs", wall_ms);
    int64_t started_ms = now_ms - (wall_ms > started_wall_ms ? wall_ms - started_wall_ms : 0);
    container->started_wall_ms = started_wall_ms;
    container->started_ms = started_ms;
    if (state == CONTAINER_RUNNING) {
        pod_note_started(container, container->process, container->restart_count, started_ms, started_wall_ms);
        probe_restart(&container->probes[PROBE_STARTUP], started_ms, json_bool_at(record, "wasStarted", false));
        probe_restart(&container->probes[PROBE_READINESS], now_ms, json_bool_at(record, "wasReady", false));
        probe_restart(&container->probes[PROBE_LIVENESS], now_ms, true);
        if (json_bool_at(record, "wasKilled", false)) {
            pod_restart_container(container);
        }
        if (!process_is_alive(&container->process)) {
            pod_note_ended(pod, container, PROCESS_END_UNKNOWN, 0, now_ms, wall_ms);
        }
    } else if (state == CONTAINER_ENDED) {
        container->state = CONTAINER_ENDED;
        container->exit_code = (int)json_int_at(record, "exitCode", 0);
        container->signal = container->exit_code > 128 && container->exit_code < 128 + 65 ? container->exit_code - 128 : 0;
        container->end_reason = container->exit_code == 0 ? "Completed" : "Error";
        container->end_message = "";
        container->finished_wall_ms = json_int_at(record, "finishedMs", wall_ms);
    } else if (container->last_ended != NULL) {
        pod_note_not_started(container, "CrashLoopBackOff", "", now_ms, container->backoff_ms);
    }
}

void records_restore(const json_t *record, struct pod *pod, int64_t now_ms, int64_t wall_ms) {
    pod->started_wall_ms = json_int_at(record, "startedMs", wall_ms);
    pod->is_initialized = json_bool_at(record, "isInitialized", false);
    size_t index = 0;
    json_t *item = NULL;
    json_array_foreach(json_object_get(record, "containers"), index, item) {
        struct container *container = pod_find_container(pod, json_string_at(item, "name", ""));
        if (container != NULL) {
            restore_container(item, pod, container, now_ms, wall_ms);
        }
    }
}

void records_for_each(const char *folder, void (*on_pod)(void *arg, const char *pod_folder, const json_t *record), void *arg) {
    cleanup_free char *pods = path_join(folder, "pods");
    DIR *directory = opendir(pods);
    if (directory == NULL) {
        return;
    }
    for (struct dirent *entry = NULL; (entry = readdir(directory)) != NULL;) {
        cleanup_free char *pod_folder = path_join(pods, entry->d_name);
        cleanup_json json_t *record = entry->d_name[0] != '.' ? records_read(pod_folder) : NULL;
        if (record != NULL) {
            on_pod(arg, pod_folder, record);
        }
    }
    closedir(directory);
}

void records_for_each_process(const json_t *record, void (*on_process)(void *arg, const struct process_id *process), void *arg) {
    size_t index = 0;
    json_t *container = NULL;
    json_array_foreach(json_object_get(record, "containers"), index, container) {
        struct process_id process = process_of(container);
        if (process_is_alive(&process)) {
            on_process(arg, &process);
        }
    }
}

static void note_alive(void *arg, const struct process_id *process) {
    (void)process;
    *(bool *)arg = true;
}

static void note_pod_alive(void *arg, const char *pod_folder, const json_t *record) {
    (void)pod_folder;
    records_for_each_process(record, note_alive, arg);
}

bool records_any_alive(const char *folder) {
    bool is_alive = false;
    records_for_each(folder, note_pod_alive, &is_alive);
    return is_alive;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

void records_remove(const char *pod_folder) {
    (void)nftw(pod_folder, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
