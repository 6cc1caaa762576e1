#include "kube/exec_plugin.h"

#include "base/clock.h"
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

#define OUTPUT_BYTES_MAX (1024 * 1024)
#define RUN_MS_MAX 60000
#define EXEC_INFO "KUBERNETES_EXEC_INFO"

/* ---- what it printed ---- */

static char *copy_string(const json_t *status, const char *name) {
    const char *text = json_string_at(status, name, "");
    return text[0] != '\0' ? xstrdup(text) : NULL;
}

static void free_secret(char *text) {
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}

void exec_credential_release(struct exec_credential *credential) {
    free_secret(credential->token);
    free(credential->client_cert_pem);
    free_secret(credential->client_key_pem);
    *credential = (struct exec_credential){0};
}

static int check_credential(const struct exec_credential *credential, struct error *err) {
    if ((credential->client_cert_pem == NULL) != (credential->client_key_pem == NULL)) {
        return error_set(err, ERROR_INVALID, "expected clientCertificateData and clientKeyData together, found one of them");
    }
    if (credential->token == NULL && credential->client_cert_pem == NULL) {
        return error_set(err, ERROR_INVALID, "expected a token or a client certificate, found neither");
    }
    if (credential->token != NULL && strpbrk(credential->token, "\r\n") != NULL) {
        return error_set(err, ERROR_INVALID, "the token holds a line break");
    }
    return 0;
}

int exec_credential_parse(const char *text, size_t len, const char *api_version, struct exec_credential *ret_credential,
                          struct error *err) {
    cleanup_json json_t *printed = json_parse(text, len, NULL);
    if (printed == NULL || strcmp(json_string_at(printed, "kind", ""), "ExecCredential") != 0) {
        return error_set(err, ERROR_INVALID, "expected an ExecCredential as JSON, found something else");
    }
    if (strcmp(json_string_at(printed, "apiVersion", ""), api_version) != 0) {
        return error_set(err, ERROR_INVALID, "expected apiVersion %s, found \"%.80s\"", api_version,
                         json_string_at(printed, "apiVersion", ""));
    }
    const json_t *status = json_object_get(printed, "status");
    const char *expires = json_string_at(status, "expirationTimestamp", "");
    struct exec_credential credential = {
        .token = copy_string(status, "token"),
        .client_cert_pem = copy_string(status, "clientCertificateData"),
        .client_key_pem = copy_string(status, "clientKeyData"),
        .expires_wall_ms = INT64_MAX,
    };
    int result = check_credential(&credential, err);
    if (result == 0 && expires[0] != '\0' && clock_parse_rfc3339(expires, &credential.expires_wall_ms) < 0) {
        result = error_set(err, ERROR_INVALID, "expirationTimestamp is no time: \"%.40s\"", expires);
    }
    if (result < 0) {
        exec_credential_release(&credential);
        return -1;
    }
    *ret_credential = credential;
    return 0;
}

/* ---- a run ---- */

struct exec_run {
    struct loop *loop;
    const struct kube_exec *plugin;
    void (*on_done)(void *arg, struct exec_credential *credential, const struct error *err);
    void *arg;
    pid_t pid; /* 0 = not started, or reaped */
    int pidfd;
    int output_fd;
    struct watch *output_watch;
    struct watch *exit_watch;
    struct timer timer; /* the end of its time, or of a start that failed */
    struct buffer output;
    int exit_code; /* of an ended one; negative = a signal */
    struct error err;
};

static void run_free(struct exec_run *run) {
    if (run->pid != 0) {
        (void)kill(-run->pid, SIGKILL);
        int code = 0;
        (void)process_reap(run->pidfd, &code);
    }
    watch_free(run->output_watch);
    watch_free(run->exit_watch);
    timer_release(&run->timer);
    if (run->pidfd >= 0) {
        close(run->pidfd);
    }
    if (run->output_fd >= 0) {
        close(run->output_fd);
    }
    if (run->output.data != NULL) {
        explicit_bzero(run->output.data, run->output.len);
    }
    buffer_release(&run->output);
    free(run);
}

static void finish(struct exec_run *run) {
    struct exec_credential credential = {0};
    struct error err = run->err;
    if (err.code == ERROR_NONE && run->exit_code != 0) {
        error_set(&err, ERROR_UNAUTHORIZED, "it ended with %s %d", run->exit_code < 0 ? "signal" : "exit code",
                  run->exit_code < 0 ? -run->exit_code : run->exit_code);
    }
    bool is_good = err.code == ERROR_NONE && exec_credential_parse(buffer_text(&run->output), run->output.len,
                                                                   run->plugin->api_version, &credential, &err) == 0;
    if (!is_good) {
        (void)error_wrap(&err, "exec plugin \"%s\"", run->plugin->command);
    }
    void (*on_done)(void *, struct exec_credential *, const struct error *) = run->on_done;
    void *arg = run->arg;
    run_free(run);
    on_done(arg, &credential, is_good ? NULL : &err);
}

static void on_output(void *arg) {
    struct exec_run *run = arg;
    char bytes[16384];
    ssize_t got = read(run->output_fd, bytes, sizeof(bytes));
    if (got > 0 && run->output.len + (size_t)got <= OUTPUT_BYTES_MAX) {
        buffer_append(&run->output, bytes, (size_t)got);
        explicit_bzero(bytes, sizeof(bytes));
        return;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got > 0) {
        error_set(&run->err, ERROR_LIMIT, "it printed more than %d bytes", OUTPUT_BYTES_MAX);
    }
    watch_free(take_pointer(run->output_watch));
    if (run->err.code != ERROR_NONE) {
        finish(run);
    }
}

/* What it printed may still be in the pipe; a child of its own that holds the pipe open is not waited for. */
static void on_exit_ready(void *arg) {
    struct exec_run *run = arg;
    int code = 0;
    enum process_end end = process_reap(run->pidfd, &code);
    run->exit_code = end == PROCESS_END_SIGNALED ? -code : code;
    run->pid = 0;
    watch_free(take_pointer(run->exit_watch));
    ssize_t got = 0;
    char bytes[16384];
    while (run->output_watch != NULL && run->output.len <= OUTPUT_BYTES_MAX &&
           (got = read(run->output_fd, bytes, sizeof(bytes))) > 0) {
        buffer_append(&run->output, bytes, (size_t)got);
    }
    explicit_bzero(bytes, sizeof(bytes));
    if (run->output.len > OUTPUT_BYTES_MAX) {
        error_set(&run->err, ERROR_LIMIT, "it printed more than %d bytes", OUTPUT_BYTES_MAX);
    }
    finish(run);
}

static void on_timer(void *arg) {
    struct exec_run *run = arg;
    if (run->err.code == ERROR_NONE) {
        error_set(&run->err, ERROR_TIMEOUT, "no answer in %d s", RUN_MS_MAX / 1000);
    }
    finish(run);
}

/* ---- starting it ---- */

static char *exec_info(const struct kube_exec *plugin) {
    cleanup_json json_t *info =
        json_pack("{s:s, s:s, s:{s:b}}", "apiVersion", plugin->api_version, "kind", "ExecCredential", "spec", "interactive", 0);
    if (plugin->cluster != NULL) {
        json_object_set(json_object_get(info, "spec"), "cluster", plugin->cluster);
    }
    cleanup_free char *text = json_text(info);
    return xasprintf(EXEC_INFO "=%s", text);
}

static bool has_name_of(char *const *list, const char *variable) {
    size_t len = strcspn(variable, "=") + 1;
    for (; *list != NULL; list++) {
        if (strncmp(*list, variable, len) == 0) {
            return true;
        }
    }
    return false;
}

/* Ours, then the plugin's own, which win, then what it is told. The array is the caller's, its strings are not. */
static char **make_environment(const struct kube_exec *plugin, char *info) {
    size_t count = 2;
    for (char **at = environ; *at != NULL; at++) {
        count++;
    }
    for (char **at = plugin->environment; *at != NULL; at++) {
        count++;
    }
    char **environment = xcalloc(count, sizeof(char *));
    size_t used = 0;
    for (char **at = environ; *at != NULL; at++) {
        if (!has_name_of(plugin->environment, *at) && strncmp(*at, EXEC_INFO "=", strlen(EXEC_INFO) + 1) != 0) {
            environment[used++] = *at;
        }
    }
    for (char **at = plugin->environment; *at != NULL; at++) {
        environment[used++] = *at;
    }
    environment[used] = info;
    return environment;
}

static char **make_arguments(const struct kube_exec *plugin) {
    size_t count = 0;
    while (plugin->arguments[count] != NULL) {
        count++;
    }
    char **arguments = xcalloc(count + 2, sizeof(char *));
    arguments[0] = plugin->command;
    for (size_t i = 0; i < count; i++) {
        arguments[i + 1] = plugin->arguments[i];
    }
    return arguments;
}

static int spawn(struct exec_run *run, int output_fd) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output_fd, 1);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0); /* so that its children can be ended with it */
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    cleanup_free char *info = exec_info(run->plugin);
    cleanup_free char **environment = make_environment(run->plugin, info);
    cleanup_free char **arguments = make_arguments(run->plugin);
    int failure = posix_spawnp(&run->pid, run->plugin->command, &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (failure != 0) {
        run->pid = 0;
        errno = failure;
        return error_set_errno(&run->err, "it cannot be started%s%s", run->plugin->install_hint != NULL ? "; " : "",
                               run->plugin->install_hint != NULL ? run->plugin->install_hint : "");
    }
    return 0;
}

static int start(struct exec_run *run) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        return error_set_errno(&run->err, "pipe");
    }
    run->output_fd = ends[0];
    (void)fcntl(ends[1], F_SETFL, 0); /* the plugin's end blocks, as programs expect */
    int result = spawn(run, ends[1]);
    close(ends[1]);
    if (result < 0) {
        return -1;
    }
    run->pidfd = pidfd_open(run->pid, 0); /* also of one that has ended already */
    return run->pidfd >= 0 ? 0 : error_set(&run->err, ERROR_IO, "it cannot be watched");
}

struct exec_run *exec_run_start(struct loop *loop, const struct kube_exec *plugin,
                                void (*on_done)(void *arg, struct exec_credential *credential, const struct error *err),
                                void *arg) {
    struct exec_run *run = xcalloc(1, sizeof(*run));
    *run = (struct exec_run){
        .loop = loop, .plugin = plugin, .on_done = on_done, .arg = arg, .pidfd = -1, .output_fd = -1, .output = BUFFER_INIT};
    timer_init(&run->timer, loop, on_timer, run);
    if (start(run) < 0) {
        timer_set(&run->timer, 0);
        return run;
    }
    run->output_watch = watch_new(loop, run->output_fd, on_output, run);
    run->exit_watch = watch_new(loop, run->pidfd, on_exit_ready, run);
    timer_set(&run->timer, RUN_MS_MAX);
    return run;
}

void exec_run_cancel(struct exec_run *run) {
    if (run != NULL) {
        run_free(run);
    }
}
