#include "cluster/up/roles.h"

#include "base/alloc.h"
#include "base/file.h"

#include <assert.h>

static void add(struct role_arguments *arguments, char *owned) {
    assert(arguments->count < ROLE_ARGUMENTS_MAX);
    arguments->items[arguments->count++] = owned;
}

static void add_option(struct role_arguments *arguments, const char *name, const char *value) {
    add(arguments, xstrdup(name));
    add(arguments, xstrdup(value));
}

static void add_port(struct role_arguments *arguments, const char *name, int port) {
    add(arguments, xstrdup(name));
    add(arguments, xasprintf("%d", port));
}

static void add_folder(struct role_arguments *arguments, const struct role_context *context, const char *folder) {
    add(arguments, xstrdup("--dir"));
    add(arguments, path_join(context->directory, folder));
}

static void apiserver_arguments(const struct role_context *context, struct role_arguments *arguments) {
    add_folder(arguments, context, "apiserver");
    add_port(arguments, "--secure-port", context->api_port);
    add_option(arguments, "--kubeconfig-out", context->kubeconfig);
}

static void node_arguments(const struct role_context *context, struct role_arguments *arguments) {
    add_folder(arguments, context, "node");
    add_option(arguments, "--kubeconfig", context->kubeconfig);
}

static void controller_arguments(const struct role_context *context, struct role_arguments *arguments) {
    add_option(arguments, "--kubeconfig", context->kubeconfig);
    add(arguments, xstrdup("--enable-runtime-sidecar"));
    add(arguments, xstrdup("--metrics-bind-address"));
    add(arguments, xasprintf("127.0.0.1:%d", context->controller_port));
}

static void gateway_arguments(const struct role_context *context, struct role_arguments *arguments) {
    add_option(arguments, "--kubeconfig", context->kubeconfig);
    add_option(arguments, "--address", "127.0.0.1");
    add_port(arguments, "--port", context->gateway_port);
    add_option(arguments, "--drain-seconds", "3");
}

const struct role_spec role_specs[] = {
    {"apiserver", "API server", ROLE_PROBE_API, apiserver_arguments},
    {"node", "node", ROLE_PROBE_ALIVE, node_arguments},
    {"controller", "controller", ROLE_PROBE_CONTROLLER, controller_arguments},
    {"gateway", "gateway", ROLE_PROBE_GATEWAY, gateway_arguments},
};
const size_t role_spec_count = ARRAY_LEN(role_specs);

void role_arguments_build(const struct role_spec *spec, const struct role_context *context, struct role_arguments *ret_arguments) {
    *ret_arguments = (struct role_arguments){0};
    add(ret_arguments, xstrdup(context->program));
    add(ret_arguments, xstrdup(spec->name));
    spec->add_arguments(context, ret_arguments);
    if (context->log_level != NULL) {
        add_option(ret_arguments, "--log-level", context->log_level);
    }
}

void role_arguments_release(struct role_arguments *arguments) {
    for (size_t i = 0; i < arguments->count; i++) {
        free(arguments->items[i]);
    }
}
