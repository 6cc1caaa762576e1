#include "base/log.h"
#include "base/options.h"
#include "cluster/api/server.h"

#include <stdio.h>

int cli_apiserver(int argc, char **argv);

/* davit apiserver: see cluster/api/server.h. */
int cli_apiserver(int argc, char **argv) {
    struct apiserver_options options = {.address = "127.0.0.1"};
    int64_t port = 6443;
    const char *log_level = NULL;
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
    struct error err = {0};
    bool wants_help = false;
    int positional = options_parse(table, argc, argv, &wants_help, &err);
    if (wants_help) {
        options_print_help(table, "davit apiserver --dir DIR [options]", "A Kubernetes-compatible API on SQLite, for one machine.",
                           stdout);
        return 0;
    }
    if (positional > 0) {
        error_set(&err, ERROR_INVALID, "unexpected argument \"%s\"", argv[1]);
    } else if (positional == 0 && options.folder == NULL) {
        error_set(&err, ERROR_INVALID, "--dir is required: the folder for its state");
    } else if (positional == 0 && log_init("apiserver", log_level) < 0) {
        error_set(&err, ERROR_INVALID, "--log-level: \"%s\" is not one of debug, info, warn, error", log_level);
    }
    if (err.code != ERROR_NONE) {
        (void)fprintf(stderr, "davit apiserver: %s\n", err.message);
        return 2;
    }
    options.port = (int)port;
    if (apiserver_run(&options, &err) < 0) {
        log_error("%s", err.message);
        return 1;
    }
    return 0;
}
