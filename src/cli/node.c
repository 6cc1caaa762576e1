/* `davit node`: see cluster/node/node.h. */
#include "cli/cli.h"

#include "base/log.h"
#include "cluster/node/node.h"

#include <stdio.h>

static const char usage[] = "davit node --dir DIR [options]";
static const char description[] =
    "Runs Deployments and pods of a Kubernetes API as processes of this machine, each pod with a loopback address of its own\n"
    "($(POD_IP) in its command, arguments and environment). Images are not pulled: every container names a command that exists "
    "here.\n"
    "Output goes to DIR/pods/<namespace>_<name>_<uid>/<container>/<restart>.log. When davit node ends its pods go on; when it is "
    "started again\n"
    "with the same DIR it takes them over.\n";

int cli_node(int argc, char **argv) {
    struct node_options node = {0};
    const char *log_level = NULL;
    const struct option_spec table[] = {
        {.name = "kubeconfig",
         .env = NULL,
         .type = OPTION_STRING,
         .target = &node.kubeconfig,
         .value_name = "FILE",
         .help = "how to reach the API (default: $KUBECONFIG, the pod's service account or ~/.kube/config)"},
        {.name = "dir",
         .env = "DAVIT_NODE_DIR",
         .type = OPTION_STRING,
         .target = &node.folder,
         .value_name = "DIR",
         .help = "state folder: logs and records of pods (required)"},
        {.name = "name",
         .env = "DAVIT_NODE_NAME",
         .type = OPTION_STRING,
         .target = &node.name,
         .value_name = "NAME",
         .help = "name of the node (default: the host's name)"},
        {.name = "pod-cidr",
         .env = NULL,
         .type = OPTION_STRING,
         .target = &node.pod_cidr,
         .value_name = "127.1.N.0/24",
         .help = "addresses of pods (default: the net DIR had before, else a free one)"},
        {.name = "log-level",
         .env = "DAVIT_LOG_LEVEL",
         .type = OPTION_STRING,
         .target = &log_level,
         .value_name = "LEVEL",
         .help = "debug, info, warn or error (default: info)"},
        {0},
    };
    struct error err;
    bool help = false;
    int positional = options_parse(table, argc, argv, &help, &err);
    if (positional >= 0 && help) {
        options_print_help(table, usage, description, stdout);
        return 0;
    }
    if (positional > 0) {
        error_set(&err, ERROR_INVALID, "unexpected argument \"%s\"", argv[1]);
    } else if (positional == 0 && node.folder == NULL) {
        error_set(&err, ERROR_INVALID, "--dir is required: the folder for logs and records of pods");
    } else if (positional == 0 && log_init("node", log_level) < 0) {
        error_set(&err, ERROR_INVALID, "--log-level \"%s\": expected debug, info, warn or error", log_level);
    } else if (positional == 0) {
        if (node_run(&node, &err) == 0) {
            return 0;
        }
        (void)fprintf(stderr, "davit node: %s\n", err.message);
        return 1;
    }
    (void)fprintf(stderr, "davit node: %s\nSee davit node --help.\n", err.message);
    return 2;
}
