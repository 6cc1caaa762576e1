/* davit runtime: see runtime/runtime.h. */
#include "runtime/runtime.h"
#include "cli/cli.h"
#include "cli/command.h"

#include <string.h>

#define RUNTIME_PORT 8080
#define ENGINE_DEFAULT_PORT 8000

static const char *environment(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : fallback;
}

/* "http://host:port" without a slash at the end; of the caller's. */
static int clean_endpoint(const char *text, char **ret_endpoint, struct error *err) {
    if (strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0) {
        return error_set(err, ERROR_INVALID, "INFERENCE_ENGINE_ENDPOINT: expected http://host:port, found \"%s\"", text);
    }
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '/') {
        len--;
    }
    *ret_endpoint = xstrndup(text, len);
    return 0;
}

int cli_runtime(int argc, char **argv) {
    const char *pod_ip = environment("POD_IP", NULL);
    bool is_ipv6 = pod_ip != NULL && strchr(pod_ip, ':') != NULL;
    cleanup_free char *default_endpoint = pod_ip != NULL
                                              ? xasprintf(is_ipv6 ? "http://[%s]:%d" : "http://%s:%d", pod_ip, ENGINE_DEFAULT_PORT)
                                              : xasprintf("http://localhost:%d", ENGINE_DEFAULT_PORT);
    struct runtime_options options = {
        .address = pod_ip != NULL ? pod_ip : "0.0.0.0", .engine = "vllm", .endpoint = default_endpoint};
    const char *log_level = "info";
    int64_t port = RUNTIME_PORT;
    int64_t drain_s = 25;
    const struct option_spec table[] = {
        {.name = "host",
         .type = OPTION_STRING,
         .target = &options.address,
         .value_name = "IP",
         .help = "address to serve on (default: $POD_IP, else 0.0.0.0)"},
        {.name = "port",
         .type = OPTION_INT,
         .target = &port,
         .value_name = "N",
         .help = "port to serve on; 0 takes a free one (default 8080)",
         .minimum = 0,
         .maximum = 65535},
        {.name = "port-file",
         .type = OPTION_STRING,
         .target = &options.port_file,
         .value_name = "PATH",
         .help = "write the port there once it serves"},
        {.name = "engine",
         .env = "INFERENCE_ENGINE",
         .type = OPTION_STRING,
         .target = &options.engine,
         .value_name = "NAME",
         .help = "vllm or sglang (default vllm)"},
        {.name = "engine-endpoint",
         .env = "INFERENCE_ENGINE_ENDPOINT",
         .type = OPTION_STRING,
         .target = &options.endpoint,
         .value_name = "URL",
         .help = "the engine (default http://$POD_IP:8000, else http://localhost:8000)"},
        {.name = "drain-seconds",
         .type = OPTION_INT,
         .target = &drain_s,
         .value_name = "N",
         .help = "after SIGTERM, how long requests under way may go on (default 25)",
         .minimum = 0,
         .maximum = 3600},
        {.name = "log-level",
         .type = OPTION_STRING,
         .target = &log_level,
         .value_name = "LEVEL",
         .help = "debug, info, warn or error (default info)"},
        {.name = "enable-fastapi-docs", .type = OPTION_IGNORED},
        {0},
    };
    const struct command command = {
        .name = "runtime",
        .arguments = "[options]",
        .description = "Sidecar of an engine pod: checks adapters and hands them to the engine beside it.\n"
                       "Serves /v1/lora_adapter/load and /unload (POST), /v1/models, /healthz, /ready and /metrics.",
        .options = table,
        .log_level = &log_level,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    cleanup_free char *endpoint = NULL;
    options.port = (int)port;
    options.drain_ms = drain_s * 1000;
    if (clean_endpoint(options.endpoint, &endpoint, &err) < 0) {
        return command_misused("runtime", &err);
    }
    options.endpoint = endpoint;
    return runtime_run(&options, &err) < 0 ? command_failed("runtime", &err) : 0;
}
