/* davit gateway: see gateway/gateway.h. */
#include "gateway/gateway.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/cpu_count.h"

#define GATEWAY_PORT 8088
#define WORKERS_DEFAULT_MAX 4

int cli_gateway(int argc, char **argv) {
    const char *address = getenv("POD_IP");
    struct gateway_options options = {.address = address != NULL && *address != '\0' ? address : "127.0.0.1"};
    const char *log_level = "info";
    int64_t port = GATEWAY_PORT;
    int64_t drain_s = 25;
    int64_t workers = cpu_count() < WORKERS_DEFAULT_MAX ? cpu_count() : WORKERS_DEFAULT_MAX;
    const struct option_spec table[] = {
        {.name = "kubeconfig",
         .type = OPTION_STRING,
         .target = &options.kubeconfig,
         .value_name = "PATH",
         .help = "Kubernetes API to read routes from (else $KUBECONFIG, the pod's service account, ~/.kube/config)"},
        {.name = "namespace",
         .type = OPTION_STRING,
         .target = &options.namespace,
         .value_name = "NAME",
         .help = "only this namespace (default: all)"},
        {.name = "address",
         .type = OPTION_STRING,
         .target = &options.address,
         .value_name = "IP",
         .help = "address to serve on (default: $POD_IP, else 127.0.0.1)"},
        {.name = "port",
         .type = OPTION_INT,
         .target = &port,
         .value_name = "N",
         .help = "port to serve on; 0 takes a free one (default 8088)",
         .minimum = 0,
         .maximum = 65535},
        {.name = "port-file",
         .type = OPTION_STRING,
         .target = &options.port_file,
         .value_name = "PATH",
         .help = "write the port there once it serves"},
        {.name = "workers",
         .type = OPTION_INT,
         .target = &workers,
         .value_name = "N",
         .help = "threads that serve requests (default: the CPUs, at most 4)",
         .minimum = 1,
         .maximum = 64},
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
        {0},
    };
    const struct command command = {
        .name = "gateway",
        .arguments = "[options]",
        .description = "OpenAI-compatible entry: sends each request to an engine pod that has the model or adapter it names.\n"
                       "Serves /v1/* (POST), /v1/models, /healthz, /readyz and /metrics.",
        .options = table,
        .log_level = &log_level,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    options.port = (int)port;
    options.workers = (int)workers;
    options.drain_ms = drain_s * 1000;
    return gateway_run(&options, &err) < 0 ? command_failed("gateway", &err) : 0;
}
