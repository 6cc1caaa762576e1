/* `davit node`: see cluster/node/node.h. */
#include "cli/cli.h"

#include "cli/command.h"
#include "cluster/node/node.h"

static const char description[] =
    "Runs Deployments and pods of a Kubernetes API as processes of this machine, each pod with a loopback address of its own\n"
    "($(POD_IP) in its command, arguments and environment). Images are not pulled: every container names a command that exists "
    "here.\n"
    "Output goes to DIR/pods/<namespace>_<name>_<uid>/<container>/<restart>.log. When davit node ends its pods go on; when it is "
    "started again\n"
    "with the same DIR it takes them over.\n";

int cli_node(int argc, char **argv) {
    struct node_options node = {0};
    const char *log_level = "info";
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
    const struct command command = {
        .name = "node",
        .arguments = "--dir DIR [options]",
        .description = description,
        .options = table,
        .log_level = &log_level,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    if (node.folder == NULL) {
        error_set(&err, ERROR_INVALID, "--dir is required: the folder for logs and records of pods");
        return command_misused("node", &err);
    }
    return node_run(&node, &err) < 0 ? command_failed("node", &err) : 0;
}
