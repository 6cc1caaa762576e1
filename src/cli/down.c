/* davit down: stops what `davit up` started, pods included. The objects stay in the store. */
#include "cli/cli.h"

#include "base/file.h"
#include "cli/command.h"
#include "cluster/node/node.h"
#include "cluster/up/instance.h"

#include <signal.h>
#include <string.h>

#define SUPERVISOR_STOP_MS 60000 /* roles, then pods with their grace periods */
#define PODS_GRACE_MS 5000
#define KILL_WAIT_MS 6000

static int stop_supervisor(const struct instance *instance, struct error *err) {
    if (!instance_is_running(instance)) {
        return 0;
    }
    process_signal_alone(&instance->supervisor, SIGTERM);
    if (instance_wait_gone(&instance->supervisor, SUPERVISOR_STOP_MS)) {
        return 0;
    }
    process_signal_alone(&instance->supervisor, SIGKILL);
    if (!instance_wait_gone(&instance->supervisor, KILL_WAIT_MS)) {
        return error_set(err, ERROR_TIMEOUT, "the supervisor (pid %d) cannot be stopped", (int)instance->supervisor.pid);
    }
    return 0;
}

static int mark_stopped(const char *directory, const struct instance *instance, struct error *err) {
    struct instance stopped = *instance;
    stopped.supervisor = (struct process_id){0};
    stopped.role_count = 0;
    return instance_write(directory, &stopped, err);
}

static int run(const char *directory, struct error *err) {
    struct instance instance = {0};
    if (instance_read(directory, &instance, err) < 0) {
        if (err->code != ERROR_NOT_FOUND) {
            return -1;
        }
        (void)printf("nothing to stop: there is no davit in %s\n", directory);
        return 0;
    }
    bool was_running = instance_is_running(&instance);
    bool had_roles = instance_any_role_runs(&instance);
    int pod_processes = 0;
    cleanup_free char *node = path_join(directory, "node");
    if (stop_supervisor(&instance, err) < 0 || instance_stop_roles(&instance, err) < 0 ||
        node_kill_all(node, PODS_GRACE_MS, &pod_processes, err) < 0) {
        return -1;
    }
    struct error mark_err = {0};
    if (mark_stopped(directory, &instance, &mark_err) < 0) { /* a full disk: the pids in the file are those of the dead */
        (void)fprintf(stderr, "davit down: all is stopped, but that could not be noted: %s\n", mark_err.message);
    }
    if (was_running) {
        (void)printf("stopped; the objects are kept in %s, `davit up` goes on from there\n", directory);
    } else if (had_roles || pod_processes > 0) {
        (void)printf("the supervisor in %s had been killed; what it left running is stopped, the objects are kept\n", directory);
    } else {
        (void)printf("was not running in %s\n", directory);
    }
    return 0;
}

int cli_down(int argc, char **argv) {
    const char *dir = NULL;
    const struct option_spec table[] = {
        {.name = "dir",
         .env = "DAVIT_DIR",
         .type = OPTION_STRING,
         .target = &dir,
         .value_name = "DIR",
         .help = "state directory (default $XDG_STATE_HOME/davit, else ~/.local/state/davit)"},
        {0},
    };
    const struct command command = {
        .name = "down",
        .arguments = "[--dir DIR]",
        .description =
            "Stops the roles that `davit up` started, and all pods. Objects, logs and ports are kept for the next `davit up`.",
        .options = table,
        .log_level = NULL,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    cleanup_free char *directory = NULL;
    if (instance_directory(dir, &directory, &err) < 0 || run(directory, &err) < 0) {
        return command_failed("down", &err);
    }
    return 0;
}
