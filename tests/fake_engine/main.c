/* fake_engine: one process that plays many engine pods, each an address, and misbehaves as it is told (control.h).
 *
 * Prints one line when it listens: "ready control=127.0.0.1:PORT engines=N". Ends on SIGTERM and SIGINT. */
#include "addresses.h"
#include "base/log.h"
#include "base/options.h"
#include "control.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>

struct program {
    struct fakes fakes;
    struct loop *loop;
    struct served_options engine;
    const json_t *settings; /* NULL = none */
};

static void on_signal(void *arg, int number) {
    (void)number;
    loop_stop(arg);
}

static int add_engine(void *arg, const char *address, struct error *err) {
    struct program *program = arg;
    struct served *served = xcalloc(1, sizeof(*served));
    struct served_options options = program->engine;
    options.address = address;
    map_set(&program->fakes.by_address, address, served);
    if (served_init(served, &options, err) < 0) {
        return -1;
    }
    return program->settings != NULL ? served_set(served, program->settings, err) : 0;
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int serve(struct program *program, const char *addresses, const char *control_address, struct error *err) {
    static const int signals[] = {SIGTERM, SIGINT, 0};
    struct http_server_options options = {.loop = program->loop,
                                          .body_bytes_max = 8u << 20,
                                          .connections_max = 64,
                                          .on_request = control_on_request,
                                          .arg = &program->fakes};
    struct http_server *control = http_server_new(&options);
    int port = 0;
    int result = http_server_listen(control, control_address, 0, &port, err);
    if (result == 0) {
        result = addresses_read(addresses, add_engine, program, err);
    }
    if (result == 0) {
        loop_on_signals(program->loop, signals, on_signal, program->loop);
        printf("ready control=%s:%d engines=%zu\n", control_address, port, program->fakes.by_address.count);
        (void)fflush(stdout);
        loop_run(program->loop);
    }
    http_server_free(control);
    return result;
}

static void release(struct program *program) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&program->fakes.by_address, &at)) != NULL;) {
        served_release(entry->value);
        free(entry->value);
    }
    map_release(&program->fakes.by_address);
    event_log_release(&program->fakes.log);
    loop_free(program->loop);
}

int main(int argc, char **argv) {
    const char *addresses = NULL, *kind = "vllm", *base_model = "base", *control = "127.0.0.1", *settings = NULL;
    int64_t port = 8000, sidecar_port = 0, log_entries = 65536;
    bool is_help = false;
    const struct option_spec table[] = {
        {.name = "addresses",
         .type = OPTION_STRING,
         .target = &addresses,
         .value_name = "LIST",
         .help = "A,B-C: an engine on each"},
        {.name = "port",
         .type = OPTION_INT,
         .target = &port,
         .value_name = "N",
         .minimum = 1,
         .maximum = 65535,
         .help = "of engines"},
        {.name = "sidecar-port",
         .type = OPTION_INT,
         .target = &sidecar_port,
         .value_name = "N",
         .minimum = 0,
         .maximum = 65535,
         .help = "of a sidecar beside each engine; 0 = none"},
        {.name = "kind", .type = OPTION_STRING, .target = &kind, .value_name = "NAME", .help = "vllm (default) or sglang"},
        {.name = "base-model", .type = OPTION_STRING, .target = &base_model, .value_name = "NAME", .help = "default base"},
        {.name = "settings",
         .type = OPTION_STRING,
         .target = &settings,
         .value_name = "JSON",
         .help = "of every engine at the start"},
        {.name = "control", .type = OPTION_STRING, .target = &control, .value_name = "ADDRESS", .help = "of the control door"},
        {.name = "log-entries",
         .type = OPTION_INT,
         .target = &log_entries,
         .value_name = "N",
         .minimum = 1,
         .maximum = 10000000,
         .help = "of the event log that are kept"},
        {0},
    };
    struct error err = {0};
    int positional = options_parse(table, argc, argv, &is_help, &err);
    if (is_help) {
        options_print_help(table, "fake_engine --addresses LIST [options]", "Engines that misbehave as they are told.", stdout);
        return 0;
    }
    bool is_sglang = strcmp(kind, "sglang") == 0;
    if (positional == 0 && (addresses == NULL || (!is_sglang && strcmp(kind, "vllm") != 0))) {
        positional = error_set(&err, ERROR_INVALID, "--addresses is needed, and --kind is vllm or sglang");
    }
    cleanup_json json_t *parsed = positional == 0 && settings != NULL ? json_parse(settings, strlen(settings), &err) : NULL;
    if (positional != 0 || (settings != NULL && parsed == NULL)) {
        fprintf(stderr, "fake_engine: %s\n", positional > 0 ? "no arguments are taken, only options" : err.message);
        return 2;
    }
    raise_descriptor_limit();
    struct program program = {.loop = loop_new(), .settings = parsed};
    event_log_init(&program.fakes.log, (size_t)log_entries);
    program.engine = (struct served_options){.loop = program.loop,
                                             .log = &program.fakes.log,
                                             .kind = is_sglang ? KIND_SGLANG : KIND_VLLM,
                                             .base_model = base_model,
                                             .port = (int)port,
                                             .sidecar_port = (int)sidecar_port};
    int result = serve(&program, addresses, control, &err);
    if (result < 0) {
        fprintf(stderr, "fake_engine: %s\n", err.message);
    }
    release(&program);
    return result < 0 ? 1 : 0;
}
