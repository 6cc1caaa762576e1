/* davit controller: see controller/controller.h. */
#include "controller/controller.h"

#include "adapter/engine_name.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/command.h"

#include <string.h>

static int fail_usage(const char *option, const char *value, const char *expected) {
    struct error err;
    error_set(&err, ERROR_INVALID, "--%s: expected %s, found \"%s\"", option, expected, value);
    return command_misused("controller", &err);
}

int cli_controller(int argc, char **argv) {
    const char *kubeconfig = NULL, *namespace = NULL, *proof = "effect", *policy = "leastAdapters", *log_level = "info";
    const char *metrics_address = "127.0.0.1:0", *health_address = "0";
    bool enable_sidecar = false, leader_elect = false;
    const char *lease_namespace = NULL, *lease_name = "davit-controller";
    int64_t lease_duration_ms = 0, renew_deadline_ms = 0, retry_period_ms = 0;
    const char *engine_names = "plain";
    const char *routes = "auto", *gateway_namespace = "aibrix-system", *gateway_name = "aibrix-eg";
    int64_t route_timeout_ms = 120000;
    double poll_period = 3;
    int64_t burst = 32;
    const struct option_spec table[] = {
        {.name = "kubeconfig",
         .type = OPTION_STRING,
         .target = &kubeconfig,
         .value_name = "PATH",
         .help = "how to reach the API (default: $KUBECONFIG, the pod's service account, ~/.kube/config)"},
        {.name = "namespace",
         .type = OPTION_STRING,
         .target = &namespace,
         .value_name = "NAME",
         .help = "look at one namespace only"},
        {.name = "enable-runtime-sidecar",
         .type = OPTION_FLAG,
         .target = &enable_sidecar,
         .help = "load through the container aibrix-runtime of pods that have it"},
        {.name = "engine-names",
         .type = OPTION_STRING,
         .target = &engine_names,
         .value_name = "KIND",
         .help =
             "what engines call an adapter that key their prefix cache by it (vLLM): plain, its own name (default), or versioned, "
             "one for each revision, which davit gateway knows and no other gateway does: there are no HTTPRoutes then"},
        {.name = "proof",
         .type = OPTION_STRING,
         .target = &proof,
         .value_name = "KIND",
         .help = "what makes an adapter Ready: list (it is listed), generate (it answered), effect (and differs from the base; "
                 "default)"},
        {.name = "poll-period",
         .type = OPTION_FLOAT,
         .target = &poll_period,
         .value_name = "SECONDS",
         .help = "how often each pod is asked what it holds (default 3)"},
        {.name = "model-adapter-scheduler-policy",
         .type = OPTION_STRING,
         .target = &policy,
         .value_name = "NAME",
         .help = "random, leastAdapters (default), binPack or spread"},
        {.name = "metrics-bind-address",
         .type = OPTION_STRING,
         .target = &metrics_address,
         .value_name = "ADDRESS",
         .help = "/metrics, /healthz and /readyz (default 127.0.0.1:0, a free port; 0 = none)"},
        {.name = "health-probe-bind-address",
         .type = OPTION_STRING,
         .target = &health_address,
         .value_name = "ADDRESS",
         .help = "the same pages on a second address (default 0, none)"},
        {.name = "kube-api-burst",
         .type = OPTION_INT,
         .target = &burst,
         .value_name = "N",
         .help = "calls to the API at once (default 32)",
         .minimum = 1,
         .maximum = 10000},
        {.name = "routes",
         .type = OPTION_STRING,
         .target = &routes,
         .value_name = "WHEN",
         .help = "auto: an HTTPRoute for each published adapter where the Gateway API is installed (default); off: none"},
        {.name = "gateway-namespace",
         .type = OPTION_STRING,
         .target = &gateway_namespace,
         .value_name = "NAME",
         .help = "of the Gateway and of the HTTPRoutes (default aibrix-system)"},
        {.name = "gateway-name",
         .type = OPTION_STRING,
         .target = &gateway_name,
         .value_name = "NAME",
         .help = "of the Gateway that the HTTPRoutes belong to (default aibrix-eg)"},
        {.name = "route-timeout",
         .type = OPTION_DURATION,
         .target = &route_timeout_ms,
         .value_name = "TIME",
         .help = "of a request by an HTTPRoute (default 120s)"},
        {.name = "leader-elect",
         .type = OPTION_FLAG,
         .target = &leader_elect,
         .help = "of several controllers one acts: the holder of a Lease"},
        {.name = "leader-election-namespace",
         .type = OPTION_STRING,
         .target = &lease_namespace,
         .value_name = "NAME",
         .help = "of the Lease (default: the namespace this process is configured for)"},
        {.name = "leader-election-id",
         .type = OPTION_STRING,
         .target = &lease_name,
         .value_name = "NAME",
         .help = "of the Lease (default davit-controller)"},
        {.name = "leader-election-lease-duration",
         .type = OPTION_DURATION,
         .target = &lease_duration_ms,
         .value_name = "TIME",
         .help = "a Lease that nobody renews is taken over after that (default 15s)"},
        {.name = "leader-election-renew-deadline",
         .type = OPTION_DURATION,
         .target = &renew_deadline_ms,
         .value_name = "TIME",
         .help = "a leader that cannot renew stops acting after that (default 10s)"},
        {.name = "leader-election-retry-period",
         .type = OPTION_DURATION,
         .target = &retry_period_ms,
         .value_name = "TIME",
         .help = "between tries (default 2s)"},
        {.name = "log-level",
         .type = OPTION_STRING,
         .target = &log_level,
         .value_name = "LEVEL",
         .help = "debug, info, warn or error"},
        {.name = "kube-api-qps",
         .type = OPTION_IGNORED,
         .takes_value = true,
         .help = "ignored: calls are bounded by --kube-api-burst"},
        {.name = "leader-election-resource-lock", .type = OPTION_IGNORED, .takes_value = true, .help = "ignored"},
        {.name = "metrics-secure", .type = OPTION_IGNORED, .help = "ignored: the page is clear text"},
        {.name = "enable-http2", .type = OPTION_IGNORED, .help = "ignored"},
        {.name = "controllers", .type = OPTION_IGNORED, .takes_value = true, .help = "ignored: there is one controller"},
        {.name = "disable-webhook", .type = OPTION_IGNORED, .help = "ignored: there is no webhook"},
        {.name = "webhook-port", .type = OPTION_IGNORED, .takes_value = true, .help = "ignored: there is no webhook"},
        {.name = "webhook-cert-dir", .type = OPTION_IGNORED, .takes_value = true, .help = "ignored: there is no webhook"},
        {.name = "debug-mode", .type = OPTION_IGNORED, .help = "ignored"},
        {.name = "v", .type = OPTION_IGNORED, .takes_value = true, .help = "ignored: see --log-level"},
        {0},
    };
    const struct command command = {
        .name = "controller",
        .arguments = "[options]",
        .description = "Keeps ModelAdapters loaded in the engine pods they select, proved, published and truthfully described.",
        .options = table,
        .log_level = &log_level,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    struct controller_options options = {
        .kubeconfig = kubeconfig,
        .namespace = namespace,
        .enable_sidecar = enable_sidecar,
        .poll_period_ms = (int64_t)(poll_period * 1000),
        .metrics_address = metrics_address,
        .health_address = health_address,
        .calls_max = (int)burst,
        .has_routes = strcmp(routes, "auto") == 0,
        .routes = {.gateway_namespace = gateway_namespace, .gateway_name = gateway_name, .timeout_ms = route_timeout_ms},
        .elects_leader = leader_elect,
        .lease_namespace = lease_namespace,
        .lease_name = lease_name,
        .lease_duration_ms = lease_duration_ms,
        .renew_deadline_ms = renew_deadline_ms,
        .retry_period_ms = retry_period_ms};
    if (proof_mode_parse(proof, &options.proof) < 0) {
        return fail_usage("proof", proof, "effect, generate or list");
    }
    if (engine_names_parse(engine_names, &options.has_engine_names) < 0) {
        return fail_usage("engine-names", engine_names, "plain or versioned");
    }
    if (!options.has_routes && strcmp(routes, "off") != 0) {
        return fail_usage("routes", routes, "auto or off");
    }
    if (placement_policy_parse(policy, &options.policy) < 0) {
        return fail_usage("model-adapter-scheduler-policy", policy, placement_policy_names());
    }
    if (!(poll_period >= 0.05 && poll_period <= 3600)) {
        return fail_usage("poll-period", "out of range", "0.05 to 3600 seconds");
    }
    return controller_run(&options, &err) < 0 ? command_failed("controller", &err) : 0;
}
