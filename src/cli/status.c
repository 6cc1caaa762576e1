/* davit status: what runs in a state directory, and how to reach it. */
#include "cli/cli.h"

#include "base/clock.h"
#include "cli/command.h"
#include "cluster/up/instance.h"
#include "cluster/up/readiness.h"

#include <string.h>

static void format_age(int64_t ms, char *out, size_t room) {
    int64_t seconds = ms > 0 ? ms / 1000 : 0;
    if (seconds < 120) {
        (void)snprintf(out, room, "%llds", (long long)seconds);
    } else if (seconds < 7200) {
        (void)snprintf(out, room, "%lldm", (long long)(seconds / 60));
    } else if (seconds < 172800) {
        (void)snprintf(out, room, "%lldh", (long long)(seconds / 3600));
    } else {
        (void)snprintf(out, room, "%lldd", (long long)(seconds / 86400));
    }
}

static bool print_roles(struct instance *instance) {
    bool all_ready = instance->role_count > 0;
    (void)printf("%-12s %-8s %-9s %-9s %s\n", "ROLE", "PID", "UPTIME", "RESTARTS", "READY");
    for (size_t i = 0; i < instance->role_count; i++) {
        const struct instance_role *role = &instance->roles[i];
        bool is_alive = process_is_alive(&role->process);
        bool is_ready = is_alive && role->is_ready;
        char age[16] = "-";
        char pid[16] = "-";
        if (is_alive) {
            format_age(clock_wall_ms() - role->started_wall_ms, age, sizeof(age));
            (void)snprintf(pid, sizeof(pid), "%d", (int)role->process.pid);
        }
        (void)printf("%-12s %-8s %-9s %-9d %s\n", role->name, pid, age, role->restarts,
                     is_ready   ? "yes"
                     : is_alive ? "no"
                                : "down");
        all_ready = all_ready && is_ready;
    }
    return all_ready;
}

/* What is asked now wins over what davit.json says. */
static void refresh(const char *directory, struct instance *instance) {
    cleanup_free char *kubeconfig = instance_kubeconfig(directory);
    struct role_context context = {
        .directory = directory, .kubeconfig = kubeconfig, .api_port = instance->api_port, .gateway_port = instance->gateway_port};
    bool api_ready = false;
    bool gateway_ready = false;
    readiness_ask_now(&context, &api_ready, &gateway_ready);
    for (size_t i = 0; i < instance->role_count; i++) {
        struct instance_role *role = &instance->roles[i];
        if (strcmp(role->name, "apiserver") == 0) {
            role->is_ready = api_ready;
        } else if (strcmp(role->name, "gateway") == 0) {
            role->is_ready = gateway_ready;
        }
    }
}

static int run(const char *directory, bool gateway_url_only, struct error *err) {
    struct instance instance;
    if (instance_read(directory, &instance, err) < 0 && err->code != ERROR_NOT_FOUND) {
        return -1;
    }
    if (err->code == ERROR_NOT_FOUND || !instance_is_running(&instance)) {
        bool has_roles = err->code != ERROR_NOT_FOUND && instance_any_role_runs(&instance);
        (void)printf(has_roles ? "the supervisor in %s was killed and its roles still run; `davit up --detach` takes over, `davit "
                                 "down` stops them\n"
                               : "davit is not running in %s; `davit up --detach` starts it\n",
                     directory);
        return 1;
    }
    if (gateway_url_only) {
        (void)printf("http://127.0.0.1:%d\n", instance.gateway_port);
        return 0;
    }
    refresh(directory, &instance);
    cleanup_free char *kubeconfig = instance_kubeconfig(directory);
    (void)printf("davit %s in %s (pid %d)\n\n", instance.version, directory, (int)instance.supervisor.pid);
    bool all_ready = print_roles(&instance);
    (void)printf(
        "\ngateway      http://127.0.0.1:%d/v1\nKubernetes   https://127.0.0.1:%d\nkubeconfig   %s\nlogs         %s/logs\n",
        instance.gateway_port, instance.api_port, kubeconfig, directory);
    if (!all_ready) {
        (void)printf("\nnot everything is ready: look into %s/logs\n", directory);
    }
    return all_ready ? 0 : 1;
}

int cli_status(int argc, char **argv) {
    const char *dir = NULL;
    bool gateway_url_only = false;
    const struct option_spec table[] = {
        {.name = "dir",
         .env = "DAVIT_DIR",
         .type = OPTION_STRING,
         .target = &dir,
         .value_name = "DIR",
         .help = "state directory (default $XDG_STATE_HOME/davit, else ~/.local/state/davit)"},
        {.name = "gateway-url",
         .type = OPTION_FLAG,
         .target = &gateway_url_only,
         .help = "print the gateway's URL and nothing else, for scripts"},
        {0},
    };
    const struct command command = {
        .name = "status",
        .arguments = "[--dir DIR] [--gateway-url]",
        .description = "Shows the roles and the addresses. Exit status 0 only when all of them are ready.",
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
    int result = instance_directory(dir, &directory, &err) < 0 ? -1 : run(directory, gateway_url_only, &err);
    return result < 0 ? command_failed("status", &err) : result;
}
