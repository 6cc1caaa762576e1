/* davit up: everything on this machine, in the foreground or detached. */
#include "cli/cli.h"
#include "cli/command.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cluster/node/node.h"
#include "cluster/up/instance.h"
#include "cluster/up/ports.h"
#include "cluster/up/readiness.h"
#include "cluster/up/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>

#define API_PORT 6443
#define GATEWAY_PORT 8088
#define PODS_GRACE_MS 5000
#define ALREADY_UP_WAIT_MS 60000
#define ALREADY_UP_LOOK_US 100000

struct settings {
    const char *dir;
    bool detach;
    int64_t port;
    int64_t api_port;
    const char *log_level;
    char *directory; /* owned */
};

/* Where lines for the person go: standard output, or the process that detached us. */
struct reporter {
    int fd;
    bool is_detached;
    const struct settings *settings;
    int api_port;
    int gateway_port;
};

static void say(const struct reporter *reporter, const char *format, ...) DAVIT_PRINTF(2, 3);
static void say(const struct reporter *reporter, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vdprintf(reporter->fd, format, arguments);
    va_end(arguments);
}

static void say_where(const struct reporter *reporter) {
    cleanup_free char *kubeconfig = instance_kubeconfig(reporter->settings->directory);
    say(reporter,
        "\n  gateway      http://127.0.0.1:%d/v1\n  Kubernetes   https://127.0.0.1:%d\n  logs         %s/logs\n\n  export "
        "KUBECONFIG=%s\n",
        reporter->gateway_port, reporter->api_port, reporter->settings->directory, kubeconfig);
}

static void on_progress(void *arg, const char *line) {
    say(arg, "  %s\n", line);
}

static void on_ready(void *arg) {
    struct reporter *reporter = arg;
    say_where(reporter);
    if (!reporter->is_detached) {
        say(reporter, "\nCtrl-C stops everything.\n");
        return;
    }
    say(reporter, "%c", '\0'); /* tells the waiting process that all is well */
    (void)close(reporter->fd);
    reporter->fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
}

enum port { PORT_API, PORT_GATEWAY, PORT_CONTROLLER, PORT_COUNT };

static int choose_ports(const struct settings *settings, const struct instance *last, struct port_claim *claims,
                        struct error *err) {
    int asked_api = settings->api_port == PORTS_ANY && settings->port == 0 ? 0 : (int)settings->api_port;
    const struct {
        const char *what;
        int asked, last, fallback;
    } ports[PORT_COUNT] = {
        [PORT_API] = {"the API server (--api-port)", asked_api, last->api_port, API_PORT},
        [PORT_GATEWAY] = {"the gateway (--port)", (int)settings->port, last->gateway_port, GATEWAY_PORT},
        [PORT_CONTROLLER] = {"the controller", PORTS_ANY, last->controller_port, 0},
    };
    for (size_t i = 0; i < PORT_COUNT; i++) {
        if (ports_choose(ports[i].what, ports[i].asked, ports[i].last, ports[i].fallback, &claims[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int stop_pods(const struct settings *settings, struct error *err) {
    cleanup_free char *node = path_join(settings->directory, "node");
    int count = 0;
    int result = node_kill_all(node, PODS_GRACE_MS, &count, err);
    if (result == 0 && count > 0) {
        log_info("%d processes of pods ended", count);
    }
    return result;
}

/* The supervisor's life, from the choice of ports on. */
static int supervise_with_ports(const struct settings *settings, const struct instance *last, struct reporter *reporter,
                                struct port_claim *claims, struct error *err) {
    if (choose_ports(settings, last, claims, err) < 0) {
        return -1;
    }
    reporter->api_port = claims[PORT_API].port;
    reporter->gateway_port = claims[PORT_GATEWAY].port;
    char program[4096];
    ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);
    if (len < 0) {
        return error_set_errno(err, "/proc/self/exe");
    }
    program[len] = '\0';
    cleanup_free char *kubeconfig = instance_kubeconfig(settings->directory);
    struct supervisor_options options = {
        .context =
            {
                .program = program,
                .directory = settings->directory,
                .kubeconfig = kubeconfig,
                .api_port = reporter->api_port,
                .gateway_port = reporter->gateway_port,
                .controller_port = claims[PORT_CONTROLLER].port,
                .log_level = settings->log_level,
            },
        .version = DAVIT_VERSION,
        .on_progress = on_progress,
        .on_ready = on_ready,
        .arg = reporter,
    };
    say(reporter, "davit %s in %s\n", DAVIT_VERSION, settings->directory);
    int result = supervisor_run(&options, err);
    struct error pods_err = {0};
    if (stop_pods(settings, &pods_err) < 0) {
        log_error("%s", pods_err.message);
    }
    return result;
}

static int supervise(const struct settings *settings, struct reporter *reporter, struct error *err) {
    cleanup_free char *lock_path = path_join(settings->directory, "up.lock");
    cleanup_close int lock = file_lock(lock_path, err);
    if (lock < 0) {
        return error_wrap(err, "another davit up is starting or running in %s", settings->directory);
    }
    struct instance last = {0};
    if (instance_read(settings->directory, &last, NULL) == 0 && instance_stop_roles(&last, err) < 0) {
        return -1;
    }
    struct port_claim claims[PORT_COUNT] = {0};
    int result = supervise_with_ports(settings, &last, reporter, claims, err);
    for (size_t i = 0; i < PORT_COUNT; i++) {
        port_claim_release(&claims[i]);
    }
    return result;
}

/* ---- detached ---- */

/* In the process that stays: leaves the terminal, reports through `fd`. Never returns. */
static void stay(const struct settings *settings, int fd) __attribute__((noreturn));
static void stay(const struct settings *settings, int fd) {
    (void)setsid();
    cleanup_free char *log = instance_log(settings->directory, "up");
    int log_fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (log_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(log_fd, STDOUT_FILENO) < 0 || dup2(log_fd, STDERR_FILENO) < 0) {
        (void)dprintf(fd, "davit up: cannot write %s\n", log);
        _exit(1);
    }
    struct reporter reporter = {.fd = fd, .is_detached = true, .settings = settings};
    struct error err = {0};
    int result = supervise(settings, &reporter, &err);
    if (result < 0) {
        log_error("%s", err.message);
        say(&reporter, "davit up: %s\n", err.message);
    }
    _exit(result < 0 ? 1 : 0);
}

/* Shows what the staying process reports; 0 once it said that all is ready. */
static int show_reports(int fd) {
    char text[4096];
    ssize_t got = 0;
    while ((got = read(fd, text, sizeof(text))) > 0 || (got < 0 && errno == EINTR)) {
        const char *end = got > 0 ? memchr(text, '\0', (size_t)got) : NULL;
        size_t shown = end != NULL ? (size_t)(end - text) : got > 0 ? (size_t)got : 0;
        (void)fwrite(text, 1, shown, stdout);
        (void)fflush(stdout);
        if (end != NULL) {
            return 0;
        }
    }
    return 1;
}

static int detach(const struct settings *settings, struct error *err) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return error_set_errno(err, "pipe");
    }
    pid_t pid = fork();
    if (pid < 0) {
        return error_set_errno(err, "fork");
    }
    if (pid == 0) {
        (void)close(ends[0]);
        stay(settings, ends[1]);
    }
    (void)close(ends[1]);
    int status = show_reports(ends[0]);
    (void)close(ends[0]);
    return status;
}

/* ---- already up ---- */

static int wait_for_running(const struct settings *settings, const struct instance *instance) {
    cleanup_free char *kubeconfig = instance_kubeconfig(settings->directory);
    struct role_context context = {.directory = settings->directory,
                                   .kubeconfig = kubeconfig,
                                   .api_port = instance->api_port,
                                   .gateway_port = instance->gateway_port};
    int64_t deadline_ms = clock_now_ms() + ALREADY_UP_WAIT_MS;
    bool api_ready = false;
    bool gateway_ready = false;
    do {
        readiness_ask_now(&context, &api_ready, &gateway_ready);
        if (api_ready && gateway_ready) {
            struct reporter reporter = {
                .fd = STDOUT_FILENO, .settings = settings, .api_port = instance->api_port, .gateway_port = instance->gateway_port};
            say(&reporter, "davit %s is up already in %s (pid %d)\n", instance->version, settings->directory,
                (int)instance->supervisor.pid);
            say_where(&reporter);
            return 0;
        }
        (void)usleep(ALREADY_UP_LOOK_US);
    } while (clock_now_ms() < deadline_ms && instance_is_running(instance));
    (void)fprintf(
        stderr, "davit up: it runs already in %s (pid %d), but %s does not answer; see %s/logs, or `davit down` and again\n",
        settings->directory, (int)instance->supervisor.pid, api_ready ? "the gateway" : "the API server", settings->directory);
    return 1;
}

static int run(struct settings *settings, struct error *err) {
    if (instance_directory(settings->dir, &settings->directory, err) < 0) {
        return -1;
    }
    cleanup_free char *logs = path_join(settings->directory, "logs");
    if (file_make_dirs(logs, 0700, err) < 0) {
        return error_wrap(err, "give another state directory with --dir");
    }
    struct instance instance;
    if (instance_read(settings->directory, &instance, NULL) == 0 && instance_is_running(&instance)) {
        return wait_for_running(settings, &instance);
    }
    if (settings->detach) {
        return detach(settings, err);
    }
    struct reporter reporter = {.fd = STDOUT_FILENO, .settings = settings};
    return supervise(settings, &reporter, err);
}

int cli_up(int argc, char **argv) {
    struct settings settings = {.port = PORTS_ANY, .api_port = PORTS_ANY};
    const struct option_spec table[] = {
        {.name = "dir",
         .env = "DAVIT_DIR",
         .type = OPTION_STRING,
         .target = &settings.dir,
         .value_name = "DIR",
         .help = "state directory (default $XDG_STATE_HOME/davit, else ~/.local/state/davit)"},
        {.name = "detach", .type = OPTION_FLAG, .target = &settings.detach, .help = "return once everything is ready"},
        {.name = "port",
         .type = OPTION_INT,
         .target = &settings.port,
         .value_name = "N",
         .minimum = 0,
         .maximum = 65535,
         .help = "the gateway's port (default 8088 if free); 0 takes free ones for gateway and API server"},
        {.name = "api-port",
         .type = OPTION_INT,
         .target = &settings.api_port,
         .value_name = "N",
         .minimum = 0,
         .maximum = 65535,
         .help = "the API server's port (default 6443 if free)"},
        {.name = "log-level",
         .type = OPTION_STRING,
         .target = &settings.log_level,
         .value_name = "LEVEL",
         .help = "of all roles: debug, info, warn or error"},
        {0},
    };
    const struct command command = {
        .name = "up",
        .arguments = "[--dir DIR] [--detach]",
        .description =
            "Starts API server, node, controller and gateway on this machine, on loopback addresses only, and keeps them running.\n"
            "`davit status` shows them, `davit down` stops them.",
        .options = table,
        .log_level = NULL,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    const char *log_level = settings.log_level != NULL ? settings.log_level : settings.detach ? "info" : "warn";
    if (log_init("up", log_level) < 0) {
        error_set(&err, ERROR_INVALID, "--log-level: expected debug, info, warn or error, found \"%s\"", log_level);
        return command_misused("up", &err);
    }
    int result = run(&settings, &err);
    free(settings.directory);
    return result < 0 ? command_failed("up", &err) : result;
}
