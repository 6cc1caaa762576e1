/* davit plan: what applying a file of ModelAdapters would do to which pods, without doing it. */
#include "cli/cli.h"
#include "cli/command.h"

#include "adapter/engine_name.h"
#include "adapter/model_adapter.h"
#include "cli/plan_file.h"
#include "cli/plan_gather.h"
#include "cli/plan_notes.h"
#include "cli/plan_print.h"
#include "cli/printable.h"
#include "controller/publish.h"

#include <string.h>
#include <unistd.h>

#define ENGINE_TIMEOUT_MS 5000

enum { EXIT_SAME = 0, EXIT_CHANGES = 1, EXIT_ERROR = 2 }; /* as `kubectl diff` */

struct settings {
    const char *file, *namespace, *kubeconfig, *dir, *output, *policy_name, *proof_name, *engine_names;
    bool enable_sidecar, has_engine_names, is_offline;
    int64_t timeout_ms;
    enum placement_policy policy;
    enum proof_mode proof;
};

/* ---- what may be applied ---- */

static void complain(const char *file, const json_t *adapter, const char *field, const char *message) {
    cleanup_free char *text = xasprintf("davit plan: %s: ModelAdapter %s/%s: %s%s%s", file, kube_namespace(adapter),
                                        kube_name(adapter), field, field[0] != '\0' ? ": " : "", message);
    cleanup_buffer struct buffer line = BUFFER_INIT;
    printable_append_line(&line, text);
    (void)fprintf(stderr, "%s\n", buffer_text(&line));
}

/* Every reason on a line of its own, as the API would give them. */
static int validate(const char *file, const json_t *given, const json_t *wanted, const json_t *existing) {
    cleanup_json json_t *unknown = json_array();
    cleanup_json json_t *causes = json_array();
    model_adapter_unknown_fields(given, unknown);
    int count = model_adapter_validate(wanted, existing, causes);
    for (size_t i = 0; i < json_array_size(unknown); i++) {
        cleanup_free char *message = xasprintf("unknown field \"%s\"", json_string_value(json_array_get(unknown, i)));
        complain(file, wanted, "", message);
    }
    for (size_t i = 0; i < json_array_size(causes); i++) {
        const json_t *cause = json_array_get(causes, i);
        complain(file, wanted, json_string_at(cause, "field", ""), json_string_at(cause, "message", ""));
    }
    return count + (int)json_array_size(unknown);
}

static int validate_all(const struct settings *settings, const struct plan_gather *gather) {
    int count = 0;
    for (size_t i = 0; i < json_array_size(gather->wanted); i++) {
        const json_t *wanted = json_array_get(gather->wanted, i);
        const struct plan_room *room = plan_gather_room(gather, kube_namespace(wanted));
        count += validate(settings->file, json_array_get(gather->files, i), wanted,
                          plan_gather_find(&room->adapters, kube_name(wanted), NULL));
    }
    return count;
}

/* ---- one adapter ---- */

static json_t *preview_one(const struct settings *settings, const struct plan_gather *gather, const json_t *wanted) {
    struct plan_room *room = plan_gather_room(gather, kube_namespace(wanted));
    size_t at = json_array_size(room->adapters.items);
    struct preview_input input = {.object = wanted,
                                  .existing = plan_gather_find(&room->adapters, kube_name(wanted), &at),
                                  .pods = room->views,
                                  .pod_count = room->pod_count,
                                  .adapters = room->adapters.items,
                                  .nodes = gather->nodes.has_failed ? NULL : gather->nodes.items,
                                  .service = plan_gather_find(&room->services, kube_name(wanted), NULL),
                                  .enable_sidecar = settings->enable_sidecar,
                                  .has_engine_names = settings->has_engine_names,
                                  .proof = settings->proof,
                                  .policy = settings->policy};
    for (size_t i = 0; i < PLAN_SLICES_MAX; i++) {
        cleanup_free char *name = publish_slice_name(kube_name(wanted), i);
        input.slices[i] = plan_gather_find(&room->slices, name, NULL);
    }
    struct preview preview;
    preview_make(&input, &preview);
    cleanup_json json_t *notes = plan_notes(room, input.existing, &preview, settings->is_offline);
    json_t *result = plan_print_json(&preview, notes);
    /* Those that follow in the file find it as it is then. */
    if (input.existing != NULL) {
        json_array_set(room->adapters.items, at, preview.object);
    } else {
        json_array_append(room->adapters.items, preview.object);
    }
    preview_release(&preview);
    return result;
}

/* ---- all of them ---- */

static int print(const struct settings *settings, const json_t *plans) {
    bool has_steps = false;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    for (size_t i = 0; i < json_array_size(plans); i++) {
        const json_t *plan = json_array_get(plans, i);
        has_steps |= json_array_size(json_at(plan, "steps")) > 0;
        plan_print_text(plan, &text);
    }
    if (settings->output != NULL && strcmp(settings->output, "json") == 0) {
        cleanup_json json_t *all = json_pack("{s:O}", "adapters", plans);
        (void)json_dumpf(all, stdout, JSON_INDENT(2));
        (void)printf("\n");
    } else {
        (void)fputs(buffer_text(&text), stdout);
    }
    return has_steps ? EXIT_CHANGES : EXIT_SAME;
}

static int plan_all(const struct settings *settings, const struct kube_config *config, const struct plan_file *file,
                    struct error *err) {
    struct plan_gather_options options = {.config = config,
                                          .enable_sidecar = settings->enable_sidecar,
                                          .is_offline = settings->is_offline,
                                          .timeout_ms = settings->timeout_ms};
    struct plan_gather gather;
    int result = plan_gather_run(&gather, &options, file->adapters, err);
    if (result == 0 && validate_all(settings, &gather) > 0) {
        result = EXIT_ERROR; /* said already */
    } else if (result == 0) {
        cleanup_json json_t *plans = json_array();
        for (size_t i = 0; i < json_array_size(gather.wanted); i++) {
            json_array_append_new(plans, preview_one(settings, &gather, json_array_get(gather.wanted, i)));
        }
        result = print(settings, plans);
    }
    plan_gather_release(&gather);
    return result;
}

/* Whether it lies where `davit up` writes it, beside davit.json; NULL = what $KUBECONFIG names. */
static bool is_kubeconfig_of_up(const char *path) {
    const char *env = getenv("KUBECONFIG");
    path = path != NULL ? path : env != NULL ? env : "";
    const char *slash = strrchr(path, '/');
    cleanup_free char *beside = xasprintf("%.*sdavit.json", slash != NULL ? (int)(slash - path + 1) : 0, path);
    return path[0] != '\0' && access(beside, F_OK) == 0;
}

static int run(struct settings *settings, struct error *err) {
    cleanup_free char *path = NULL;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct kube_config config = {0};
    if (plan_file_read(settings->file, &text, err) < 0 ||
        api_find_kubeconfig(settings->kubeconfig, settings->dir, &path, err) < 0 || kube_config_load(path, &config, err) < 0) {
        return -1;
    }
    bool is_of_up = is_kubeconfig_of_up(path);
    settings->enable_sidecar |= is_of_up; /* `davit up` starts its controller so */
    settings->has_engine_names |= is_of_up;
    struct plan_file file;
    int result = plan_file_parse(&text, settings->namespace, config.namespace, &file, err);
    if (result < 0) {
        result = error_wrap(err, "%s", settings->file);
    } else {
        (void)fputs(buffer_text(&file.skipped), stderr);
        result = json_array_size(file.adapters) > 0
                     ? plan_all(settings, &config, &file, err)
                     : error_set(err, ERROR_INVALID, "%s: there is no ModelAdapter in it", settings->file);
    }
    plan_file_release(&file);
    kube_config_release(&config);
    return result;
}

/* ---- usage ---- */

static int check_usage(struct settings *settings, struct error *err) {
    if (settings->file == NULL) {
        return error_set(err, ERROR_INVALID, "expected -f FILE");
    }
    if (settings->output != NULL && strcmp(settings->output, "json") != 0 && strcmp(settings->output, "table") != 0) {
        return error_set(err, ERROR_INVALID, "--output: expected table or json, found \"%s\"", settings->output);
    }
    if (settings->timeout_ms <= 0) {
        return error_set(err, ERROR_INVALID, "--timeout: expected more than 0");
    }
    if (placement_policy_parse(settings->policy_name, &settings->policy) < 0) {
        return error_set(err, ERROR_INVALID, "--model-adapter-scheduler-policy: expected %s, found \"%s\"",
                         placement_policy_names(), settings->policy_name);
    }
    if (proof_mode_parse(settings->proof_name, &settings->proof) < 0) {
        return error_set(err, ERROR_INVALID, "--proof: expected effect, generate or list, found \"%s\"", settings->proof_name);
    }
    if (engine_names_parse(settings->engine_names, &settings->has_engine_names) < 0) {
        return error_set(err, ERROR_INVALID, "--engine-names: expected plain or versioned, found \"%s\"", settings->engine_names);
    }
    return 0;
}

int cli_plan(int argc, char **argv) {
    struct settings settings = {
        .policy_name = "leastAdapters", .proof_name = "effect", .engine_names = "plain", .timeout_ms = ENGINE_TIMEOUT_MS};
    const struct option_spec table[] = {
        {.name = "filename",
         .short_name = 'f',
         .type = OPTION_STRING,
         .target = &settings.file,
         .value_name = "FILE",
         .help = "manifests, YAML or JSON; - is standard input"},
        {.name = "namespace",
         .short_name = 'n',
         .type = OPTION_STRING,
         .target = &settings.namespace,
         .value_name = "NAMESPACE",
         .help = "of objects that name none (default: the kubeconfig's)"},
        {.name = "output",
         .short_name = 'o',
         .type = OPTION_STRING,
         .target = &settings.output,
         .value_name = "FORMAT",
         .help = "table (default) or json"},
        {.name = "offline",
         .type = OPTION_FLAG,
         .target = &settings.is_offline,
         .help = "ask no engine: what pods hold is taken from the adapters' statuses"},
        {.name = "timeout",
         .type = OPTION_DURATION,
         .target = &settings.timeout_ms,
         .value_name = "TIME",
         .help = "how long an engine may take to list what it holds (default 5s)"},
        {.name = "enable-runtime-sidecar",
         .type = OPTION_FLAG,
         .target = &settings.enable_sidecar,
         .help = "as the controller was started (that of `davit up` is)"},
        {.name = "model-adapter-scheduler-policy",
         .type = OPTION_STRING,
         .target = &settings.policy_name,
         .value_name = "NAME",
         .help = "as the controller was started: random, leastAdapters (default), binPack or spread"},
        {.name = "proof",
         .type = OPTION_STRING,
         .target = &settings.proof_name,
         .value_name = "KIND",
         .help = "as the controller was started: effect (default), generate or list"},
        {.name = "engine-names",
         .type = OPTION_STRING,
         .target = &settings.engine_names,
         .value_name = "KIND",
         .help = "as the controller was started: plain (default), or versioned (that of `davit up` is)"},
        {.name = "kubeconfig",
         .type = OPTION_STRING,
         .target = &settings.kubeconfig,
         .value_name = "PATH",
         .help = "default: $KUBECONFIG, else that of the instance in --dir"},
        {.name = "dir",
         .type = OPTION_STRING,
         .target = &settings.dir,
         .value_name = "DIR",
         .help = "state directory (default $DAVIT_DIR, else $XDG_STATE_HOME/davit, else ~/.local/state/davit)"},
        {0},
    };
    const struct command command = {
        .name = "plan",
        .arguments = "-f FILE [options]",
        .description = "Says what applying the ModelAdapters in FILE would do, and to which pods: the controller's own decisions,\n"
                       "played to their end on paper. Nothing is written; each engine concerned is asked once what it holds.\n"
                       "Exit status: 0 when nothing would be done, 1 when something would, 2 on an error.",
        .options = table,
        .log_level = NULL,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    if (check_usage(&settings, &err) < 0) {
        return command_misused("plan", &err);
    }
    int result = run(&settings, &err);
    if (result < 0) {
        (void)fprintf(stderr, "davit plan: %s%s\n", err.message, api_advice(settings.kubeconfig, err.code));
        return EXIT_ERROR;
    }
    return result;
}
