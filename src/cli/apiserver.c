#include "base/options.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cluster/api/server.h"

/* davit apiserver: see cluster/api/server.h. */
int cli_apiserver(int argc, char **argv) {
    struct apiserver_options options = {.address = "127.0.0.1"};
    int64_t port = 6443;
    const char *log_level = "info";
    const struct option_spec table[] = {
        {.name = "dir",
         .env = "DAVIT_DIR",
         .type = OPTION_STRING,
         .target = &options.folder,
         .value_name = "DIR",
         .help = "state folder: store.db, pki/, token, apiserver.port"},
        {.name = "bind-address",
         .type = OPTION_STRING,
         .target = &options.address,
         .value_name = "ADDRESS",
         .help = "numeric address to listen on (default 127.0.0.1)"},
        {.name = "secure-port",
         .type = OPTION_INT,
         .target = &port,
         .value_name = "N",
         .minimum = 0,
         .maximum = 65535,
         .help = "port to listen on, 0 = a free one (default 6443)"},
        {.name = "kubeconfig-out",
         .type = OPTION_STRING,
         .target = &options.kubeconfig_out,
         .value_name = "PATH",
         .help = "write an admin kubeconfig (mode 0600) there"},
        {.name = "token-file",
         .type = OPTION_STRING,
         .target = &options.token_file,
         .value_name = "PATH",
         .help = "the admin's bearer token; made when missing (default DIR/token)"},
        {.name = "log-level",
         .type = OPTION_STRING,
         .target = &log_level,
         .value_name = "LEVEL",
         .help = "debug, info, warn or error"},
        {0},
    };
    const struct command command = {
        .name = "apiserver",
        .arguments = "--dir DIR [options]",
        .description = "A Kubernetes-compatible API on SQLite, for one machine.",
        .options = table,
        .log_level = &log_level,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    if (options.folder == NULL) {
        error_set(&err, ERROR_INVALID, "--dir is required: the folder for its state");
        return command_misused("apiserver", &err);
    }
    options.port = (int)port;
    return apiserver_run(&options, &err) < 0 ? command_failed("apiserver", &err) : 0;
}
