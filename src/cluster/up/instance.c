#include "cluster/up/instance.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define STATE_BYTES_MAX (64 * 1024)
#define STAT_BYTES_MAX 4096
#define ROLE_STOP_MS 6000
#define WAIT_LOOK_US 10000
#define LOG_TAIL_BYTES (8 * 1024)

int instance_directory(const char *given, char **ret_path, struct error *err) {
    const char *state_home = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    cleanup_free char *path = NULL;
    if (given != NULL && *given != '\0') {
        cleanup_free char *current = given[0] == '/' ? NULL : getcwd(NULL, 0);
        path = given[0] == '/' ? xstrdup(given) : path_join(current != NULL ? current : ".", given);
    } else if (state_home != NULL && *state_home == '/') {
        path = path_join(state_home, "davit");
    } else if (home != NULL && *home == '/') {
        path = path_join(home, ".local/state/davit");
    } else {
        return error_set(err, ERROR_INVALID, "no state directory: neither XDG_STATE_HOME nor HOME is set; give --dir");
    }
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') {
        path[--len] = '\0';
    }
    *ret_path = take_pointer(path);
    return 0;
}

static char *state_path(const char *directory) {
    return path_join(directory, "davit.json");
}

static void read_process(const json_t *object, struct process_id *process) {
    process->pid = (pid_t)json_int_at(object, "pid", 0);
    process->start_ticks = (uint64_t)json_int_at(object, "start_ticks", 0);
}

int instance_read(const char *directory, struct instance *ret_instance, struct error *err) {
    cleanup_free char *path = state_path(directory);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read(path, STATE_BYTES_MAX, &text, err) < 0) {
        return -1;
    }
    cleanup_json json_t *root = json_parse(buffer_text(&text), text.len, err);
    if (root == NULL) {
        return error_wrap(err, "%s", path);
    }
    struct instance instance = {
        .api_port = (int)json_int_at(root, "api_port", 0),
        .gateway_port = (int)json_int_at(root, "gateway_port", 0),
        .controller_port = (int)json_int_at(root, "controller_port", 0),
    };
    read_process(root, &instance.supervisor);
    (void)snprintf(instance.version, sizeof(instance.version), "%s", json_string_at(root, "version", ""));
    const json_t *roles = json_at(root, "roles");
    for (size_t i = 0; i < json_array_size(roles) && i < INSTANCE_ROLES_MAX; i++) {
        const json_t *item = json_array_get(roles, i);
        struct instance_role *role = &instance.roles[instance.role_count++];
        (void)snprintf(role->name, sizeof(role->name), "%s", json_string_at(item, "name", ""));
        read_process(item, &role->process);
        role->restarts = (int)json_int_at(item, "restarts", 0);
        role->is_ready = json_bool_at(item, "ready", false);
        role->started_wall_ms = json_int_at(item, "started_ms", 0);
    }
    *ret_instance = instance;
    return 0;
}

int instance_write(const char *directory, const struct instance *instance, struct error *err) {
    cleanup_free char *path = state_path(directory);
    cleanup_free char *kubeconfig = instance_kubeconfig(directory);
    cleanup_json json_t *root = json_pack(
        "{s:i, s:I, s:i, s:i, s:i, s:s, s:s, s:[]}", "pid", (int)instance->supervisor.pid, "start_ticks",
        (json_int_t)instance->supervisor.start_ticks, "api_port", instance->api_port, "gateway_port", instance->gateway_port,
        "controller_port", instance->controller_port, "kubeconfig", kubeconfig, "version", instance->version, "roles");
    for (size_t i = 0; root != NULL && i < instance->role_count; i++) {
        const struct instance_role *role = &instance->roles[i];
        (void)json_array_append_new(json_object_get(root, "roles"),
                                    json_pack("{s:s, s:i, s:I, s:i, s:b, s:I}", "name", role->name, "pid", (int)role->process.pid,
                                              "start_ticks", (json_int_t)role->process.start_ticks, "restarts", role->restarts,
                                              "ready", (int)role->is_ready, "started_ms", (json_int_t)role->started_wall_ms));
    }
    if (root == NULL) {
        return error_set(err, ERROR_INVALID, "%s: the directory's name is not UTF-8", directory);
    }
    cleanup_free char *text = json_text(root);
    return file_replace(path, text, strlen(text), 0600, err);
}

bool instance_is_running(const struct instance *instance) {
    return instance->supervisor.pid > 0 && process_is_alive(&instance->supervisor);
}

bool instance_any_role_runs(const struct instance *instance) {
    for (size_t i = 0; i < instance->role_count; i++) {
        if (process_is_alive(&instance->roles[i].process)) {
            return true;
        }
    }
    return false;
}

struct process_id instance_own_process(void) {
    struct process_id process = {.pid = getpid()};
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read("/proc/self/stat", STAT_BYTES_MAX, &text, NULL) < 0) {
        return process;
    }
    /* proc(5): the second field is the program's name in parentheses and may hold anything, the 22nd the start time */
    const char *at = strrchr(buffer_text(&text), ')');
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    process.start_ticks = at != NULL ? strtoull(at, NULL, 10) : 0;
    return process;
}

bool instance_wait_gone(const struct process_id *process, int64_t timeout_ms) {
    int64_t deadline_ms = clock_now_ms() + timeout_ms;
    while (process_is_alive(process)) {
        if (clock_now_ms() >= deadline_ms) {
            return false;
        }
        (void)usleep(WAIT_LOOK_US);
    }
    return true;
}

int instance_stop_roles(const struct instance *instance, struct error *err) {
    for (size_t i = 0; i < instance->role_count; i++) {
        process_signal(&instance->roles[i].process, SIGTERM);
    }
    for (size_t i = 0; i < instance->role_count; i++) {
        const struct instance_role *role = &instance->roles[i];
        if (instance_wait_gone(&role->process, ROLE_STOP_MS)) {
            continue;
        }
        process_signal(&role->process, SIGKILL);
        if (!instance_wait_gone(&role->process, ROLE_STOP_MS)) {
            return error_set(err, ERROR_TIMEOUT, "the %s (pid %d) cannot be stopped", role->name, (int)role->process.pid);
        }
    }
    return 0;
}

char *instance_kubeconfig(const char *directory) {
    return path_join(directory, "kubeconfig");
}

char *instance_log(const char *directory, const char *role) {
    return xasprintf("%s/logs/%s.log", directory, role);
}

void instance_log_tail(const char *directory, const char *role, int lines, struct buffer *out) {
    cleanup_free char *path = instance_log(directory, role);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    char text[LOG_TAIL_BYTES + 1];
    if (fseek(file, -LOG_TAIL_BYTES, SEEK_END) < 0) {
        rewind(file);
    }
    size_t len = fread(text, 1, LOG_TAIL_BYTES, file);
    (void)fclose(file);
    while (len > 0 && text[len - 1] == '\n') {
        len--;
    }
    size_t start = len;
    while (start > 0 && (text[start - 1] != '\n' || --lines > 0)) {
        start--;
    }
    text[len] = '\0';
    for (const char *line = text + start; *line != '\0';) {
        size_t line_len = strcspn(line, "\n");
        buffer_printf(out, "    %.*s\n", (int)line_len, line);
        line += line_len + (line[line_len] == '\n');
    }
}
