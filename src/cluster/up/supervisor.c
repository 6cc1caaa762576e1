#include "cluster/up/supervisor.h"

#include "base/clock.h"
#include "base/log.h"
#include "cluster/up/instance.h"
#include "cluster/up/log_bound.h"
#include "cluster/up/readiness.h"
#include "cluster/up/restart.h"
#include "io/loop.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#define LOOK_STARTING_MS 25
#define LOOK_READY_MS 2000
#define START_TIMEOUT_MS 60000
#define START_FAILURES_MAX 3 /* of one role before all have been ready once */
#define STOP_TIMEOUT_MS 6000
#define LOG_LOOK_MS 5000
#define LOG_TAIL_LINES 5

struct role {
    struct supervisor *supervisor;
    const struct role_spec *spec;
    struct process_id process;
    struct restart restart;
    bool is_running;
    bool is_ready;
    bool was_ready; /* since the supervisor began */
    int64_t started_wall_ms;
    struct timer start_timer;
    struct timer look_timer;
    struct readiness *question;
};

enum phase { STARTING, RUNNING, STOPPING_OTHERS, STOPPING_API };

struct supervisor {
    const struct supervisor_options *options;
    struct loop *loop;
    struct transfers *transfers;
    struct role roles[INSTANCE_ROLES_MAX];
    size_t role_count;
    enum phase phase;
    struct timer phase_timer; /* the start's deadline, then the stop's */
    struct timer log_timer;
    bool has_failed;
    struct error *err;
    int64_t began_ms;
};

static void save(struct supervisor *supervisor, bool is_stopped) {
    const struct role_context *context = &supervisor->options->context;
    struct instance instance = {
        .api_port = context->api_port, .gateway_port = context->gateway_port, .controller_port = context->controller_port};
    if (!is_stopped) {
        instance.supervisor = instance_own_process();
    }
    (void)snprintf(instance.version, sizeof(instance.version), "%s", supervisor->options->version);
    for (size_t i = 0; i < supervisor->role_count && !is_stopped; i++) {
        const struct role *role = &supervisor->roles[i];
        struct instance_role *out = &instance.roles[instance.role_count++];
        (void)snprintf(out->name, sizeof(out->name), "%s", role->spec->name);
        if (role->is_running) {
            out->process = role->process;
        }
        out->restarts = role->restart.total;
        out->is_ready = role->is_ready;
        out->started_wall_ms = role->started_wall_ms;
    }
    struct error err = {0};
    if (instance_write(context->directory, &instance, &err) < 0) {
        log_warn("%s", err.message);
    }
}

static void progress(struct supervisor *supervisor, const char *line) {
    supervisor->options->on_progress(supervisor->options->arg, line);
}

/* ---- stopping ---- */

static void signal_phase(struct supervisor *supervisor, int number) {
    for (size_t i = 0; i < supervisor->role_count; i++) {
        struct role *role = &supervisor->roles[i];
        if (role->is_running && (i == 0) == (supervisor->phase == STOPPING_API)) {
            process_signal(&role->process, number);
        }
    }
}

static bool phase_runs(const struct supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->role_count; i++) {
        if (supervisor->roles[i].is_running && (i == 0) == (supervisor->phase == STOPPING_API)) {
            return true;
        }
    }
    return false;
}

static void advance_stop(struct supervisor *supervisor) {
    if (supervisor->phase == STOPPING_OTHERS && !phase_runs(supervisor)) {
        supervisor->phase = STOPPING_API;
        signal_phase(supervisor, SIGTERM);
        timer_set(&supervisor->phase_timer, STOP_TIMEOUT_MS);
    }
    if (supervisor->phase == STOPPING_API && !phase_runs(supervisor)) {
        loop_stop(supervisor->loop);
    }
}

static void role_quiet(struct role *role) {
    timer_clear(&role->start_timer);
    timer_clear(&role->look_timer);
    if (role->question != NULL) {
        readiness_cancel(take_pointer(role->question));
    }
}

static void begin_stop(struct supervisor *supervisor) {
    if (supervisor->phase >= STOPPING_OTHERS) {
        return;
    }
    supervisor->phase = STOPPING_OTHERS;
    for (size_t i = 0; i < supervisor->role_count; i++) {
        role_quiet(&supervisor->roles[i]);
    }
    signal_phase(supervisor, SIGTERM);
    timer_set(&supervisor->phase_timer, STOP_TIMEOUT_MS);
    advance_stop(supervisor);
}

static void fail(struct supervisor *supervisor, const struct role *role, const char *what) {
    if (supervisor->has_failed) {
        return;
    }
    supervisor->has_failed = true;
    cleanup_buffer struct buffer tail = BUFFER_INIT;
    instance_log_tail(supervisor->options->context.directory, role->spec->name, LOG_TAIL_LINES, &tail);
    cleanup_free char *log = instance_log(supervisor->options->context.directory, role->spec->name);
    (void)error_set(supervisor->err, ERROR_UNAVAILABLE, "the %s %s; the end of %s:\n%s", role->spec->label, what, log,
                    buffer_text(&tail));
    begin_stop(supervisor);
}

/* ---- starting ---- */

static void look(void *arg);

static void start_role(void *arg) {
    struct role *role = arg;
    struct supervisor *supervisor = role->supervisor;
    struct role_arguments arguments;
    role_arguments_build(role->spec, &supervisor->options->context, &arguments);
    cleanup_free char *log = instance_log(supervisor->options->context.directory, role->spec->name);
    struct error err = {0};
    struct process_spec process = {
        .program = supervisor->options->context.program, .arguments = arguments.items, .environment = environ, .output_file = log};
    int result = process_spawn(&process, &role->process, &err);
    role_arguments_release(&arguments);
    restart_started(&role->restart, clock_now_ms());
    if (result < 0) {
        log_error("%s", err.message);
        timer_set(&role->start_timer, restart_ended(&role->restart, clock_now_ms()));
        return;
    }
    role->is_running = true;
    role->started_wall_ms = clock_wall_ms();
    log_info("%s started pid=%d", role->spec->name, (int)role->process.pid);
    save(supervisor, false);
    timer_set(&role->look_timer, LOOK_STARTING_MS);
}

static void all_ready(struct supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->role_count; i++) {
        if (!supervisor->roles[i].was_ready) {
            return;
        }
    }
    supervisor->phase = RUNNING;
    timer_clear(&supervisor->phase_timer);
    log_info("all roles are ready after %lld ms", (long long)(clock_now_ms() - supervisor->began_ms));
    supervisor->options->on_ready(supervisor->options->arg);
}

static void became_ready(struct role *role) {
    struct supervisor *supervisor = role->supervisor;
    double seconds = (double)(clock_now_ms() - role->restart.started_ms) / 1000;
    log_info("%s ready took_ms=%.0f", role->spec->name, seconds * 1000);
    if (role->was_ready) {
        return;
    }
    role->was_ready = true;
    cleanup_free char *line = xasprintf("%-12s ready in %.1f s", role->spec->label, seconds);
    progress(supervisor, line);
    if (role == &supervisor->roles[0]) {
        for (size_t i = 1; i < supervisor->role_count; i++) {
            start_role(&supervisor->roles[i]);
        }
    }
    if (supervisor->phase == STARTING) {
        all_ready(supervisor);
    }
}

static void set_ready(struct role *role, bool is_ready) {
    timer_set(&role->look_timer, is_ready ? LOOK_READY_MS : LOOK_STARTING_MS);
    if (role->is_ready == is_ready) {
        return;
    }
    role->is_ready = is_ready;
    if (is_ready) {
        became_ready(role);
    } else {
        log_warn("%s runs but does not answer", role->spec->name);
    }
    save(role->supervisor, false);
}

static void on_answer(void *arg, bool is_ready) {
    struct role *role = arg;
    role->question = NULL;
    if (role->is_running) {
        set_ready(role, is_ready);
    }
}

static void look(void *arg) {
    struct role *role = arg;
    struct supervisor *supervisor = role->supervisor;
    if (!role->is_running || role->question != NULL) {
        return;
    }
    if (role->spec->probe == ROLE_PROBE_ALIVE) {
        set_ready(role, clock_now_ms() - role->restart.started_ms >= ROLE_SETTLE_MS);
        return;
    }
    role->question = readiness_ask(supervisor->transfers, role->spec->probe, &supervisor->options->context, on_answer, role);
    if (role->question == NULL) {
        timer_set(&role->look_timer, LOOK_STARTING_MS);
    }
}

/* ---- what happens to them ---- */

static void describe_status(int status, char *out, size_t room) {
    if (WIFSIGNALED(status)) {
        (void)snprintf(out, room, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else {
        (void)snprintf(out, room, "ended with exit status %d", WEXITSTATUS(status));
    }
}

static void role_ended(struct role *role, int status) {
    struct supervisor *supervisor = role->supervisor;
    role->is_running = false;
    role->is_ready = false;
    role_quiet(role);
    char what[96];
    describe_status(status, what, sizeof(what));
    if (supervisor->phase >= STOPPING_OTHERS) {
        log_info("%s stopped", role->spec->name);
        advance_stop(supervisor);
        return;
    }
    int64_t delay_ms = restart_ended(&role->restart, clock_now_ms());
    log_warn("%s %s, starting it again in %lld ms", role->spec->name, what, (long long)delay_ms);
    if (supervisor->phase == STARTING && role->restart.failures >= START_FAILURES_MAX) {
        fail(supervisor, role, what);
        return;
    }
    timer_set(&role->start_timer, delay_ms);
    save(supervisor, false);
}

static void on_child(struct supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->role_count; i++) {
        struct role *role = &supervisor->roles[i];
        int status = 0;
        if (role->is_running && waitpid(role->process.pid, &status, WNOHANG) == role->process.pid) {
            role_ended(role, status);
        }
    }
}

static void on_signal(void *arg, int number) {
    struct supervisor *supervisor = arg;
    if (number == SIGCHLD) {
        on_child(supervisor);
    } else {
        log_info("%s: stopping", strsignal(number));
        begin_stop(supervisor);
    }
}

static void on_phase_timeout(void *arg) {
    struct supervisor *supervisor = arg;
    if (supervisor->phase >= STOPPING_OTHERS) {
        log_warn("a role does not stop, killing it");
        signal_phase(supervisor, SIGKILL);
        return;
    }
    for (size_t i = 0; i < supervisor->role_count; i++) {
        if (!supervisor->roles[i].was_ready) {
            fail(supervisor, &supervisor->roles[i], "is not ready after 60 s");
        }
    }
}

static void look_at_logs(void *arg) {
    struct supervisor *supervisor = arg;
    for (size_t i = 0; i < supervisor->role_count; i++) {
        cleanup_free char *log = instance_log(supervisor->options->context.directory, supervisor->roles[i].spec->name);
        struct error err = {0};
        if (log_bound(log, LOG_BOUND_BYTES, &err) < 0) {
            log_warn("%s", err.message);
        }
    }
    timer_set(&supervisor->log_timer, LOG_LOOK_MS);
}

int supervisor_run(const struct supervisor_options *options, struct error *err) {
    struct supervisor supervisor = {.options = options, .loop = loop_new(), .role_count = role_spec_count, .err = err};
    supervisor.transfers = transfers_new(supervisor.loop);
    supervisor.began_ms = clock_now_ms();
    timer_init(&supervisor.phase_timer, supervisor.loop, on_phase_timeout, &supervisor);
    timer_init(&supervisor.log_timer, supervisor.loop, look_at_logs, &supervisor);
    for (size_t i = 0; i < supervisor.role_count; i++) {
        struct role *role = &supervisor.roles[i];
        role->supervisor = &supervisor;
        role->spec = &role_specs[i];
        timer_init(&role->start_timer, supervisor.loop, start_role, role);
        timer_init(&role->look_timer, supervisor.loop, look, role);
    }
    static const int signals[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, 0};
    loop_on_signals(supervisor.loop, signals, on_signal, &supervisor);
    timer_set(&supervisor.phase_timer, START_TIMEOUT_MS);
    timer_set(&supervisor.log_timer, LOG_LOOK_MS);
    start_role(&supervisor.roles[0]);
    loop_run(supervisor.loop);
    save(&supervisor, true);
    for (size_t i = 0; i < supervisor.role_count; i++) {
        role_quiet(&supervisor.roles[i]);
        timer_release(&supervisor.roles[i].start_timer);
        timer_release(&supervisor.roles[i].look_timer);
    }
    timer_release(&supervisor.log_timer);
    timer_release(&supervisor.phase_timer);
    transfers_free(supervisor.transfers);
    loop_free(supervisor.loop);
    return supervisor.has_failed ? -1 : 0;
}
