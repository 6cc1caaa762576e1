/* davit get adapters: which adapter is on which pod. */
#include "cli/cli.h"
#include "cli/command.h"

#include "cli/adapter_matrix.h"
#include "cli/api_list.h"

#include <signal.h>
#include <string.h>

#define CALLS_MAX 2

struct settings {
    const char *namespace;
    const char *kubeconfig;
    const char *dir;
    const char *output;
    bool all_namespaces;
};

struct fetch {
    struct loop *loop;
    struct kube_client *client;
    struct api_list adapters, pods;
    int open;
    bool was_interrupted;
};

static void on_end(void *arg) {
    struct fetch *fetch = arg;
    if (--fetch->open == 0) {
        loop_stop(fetch->loop);
    }
}

static void start_list(struct fetch *fetch, struct api_list *list, const struct kube_resource *resource, const char *namespace) {
    *list =
        (struct api_list){.client = fetch->client, .resource = resource, .namespace = namespace, .on_end = on_end, .arg = fetch};
    fetch->open++;
    api_list_start(list);
}

/* Credentials may lie in temporary files, so Ctrl-C ends in the ordinary way. */
static void on_interrupt(void *arg, int number) {
    (void)number;
    struct fetch *fetch = arg;
    fetch->was_interrupted = true;
    loop_stop(fetch->loop);
}

static int fetch_matrix(const struct kube_config *config, const char *namespace, json_t **ret_matrix, struct error *err) {
    static const int signals[] = {SIGINT, SIGTERM, 0};
    struct fetch fetch = {.loop = loop_new()};
    struct transfers *transfers = transfers_new(fetch.loop);
    fetch.client = kube_client_new(fetch.loop, transfers, config, "davit-get", CALLS_MAX);
    loop_on_signals(fetch.loop, signals, on_interrupt, &fetch);
    start_list(&fetch, &fetch.adapters, &kube_model_adapters, namespace);
    start_list(&fetch, &fetch.pods, &kube_pods, namespace);
    loop_run(fetch.loop);
    int result = 0;
    if (fetch.was_interrupted) {
        result = error_set(err, ERROR_TIMEOUT, "interrupted");
    } else if (fetch.adapters.has_failed) {
        *err = fetch.adapters.err;
        result = -1;
    } else {
        /* Without leave to list pods, the adapters' own word is enough. */
        *ret_matrix = adapter_matrix_build(fetch.adapters.items, fetch.pods.has_failed ? NULL : fetch.pods.items);
    }
    json_decref(fetch.adapters.items);
    json_decref(fetch.pods.items);
    kube_client_free(fetch.client);
    transfers_free(transfers);
    loop_free(fetch.loop);
    return result;
}

static void print_json(const json_t *matrix) {
    (void)json_dumpf(matrix, stdout, JSON_INDENT(2));
    (void)printf("\n");
}

static void print_table(const json_t *matrix, const char *namespace) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (json_array_size(json_object_get(matrix, "adapters")) == 0) {
        (void)fprintf(stderr, "no ModelAdapters in %s%s; `kubectl apply -f` makes one, samples/adapters.yaml.in shows how%s\n",
                      namespace != NULL ? "namespace " : "any namespace", namespace != NULL ? namespace : "",
                      namespace != NULL ? "; -A looks into all namespaces" : "");
        return;
    }
    adapter_matrix_render(matrix, namespace == NULL, &text);
    (void)fputs(buffer_text(&text), stdout);
}

static int run(const struct settings *settings, struct error *err) {
    cleanup_free char *path = NULL;
    struct kube_config config = {0};
    if (api_find_kubeconfig(settings->kubeconfig, settings->dir, &path, err) < 0) {
        return -1;
    }
    if (kube_config_load(path, &config, err) < 0) {
        return -1;
    }
    const char *namespace = settings->all_namespaces ? NULL : settings->namespace != NULL ? settings->namespace : config.namespace;
    cleanup_json json_t *matrix = NULL;
    int result = fetch_matrix(&config, namespace, &matrix, err);
    if (result == 0 && settings->output != NULL) {
        print_json(matrix);
    } else if (result == 0) {
        print_table(matrix, namespace);
    }
    kube_config_release(&config);
    return result;
}

static bool is_word_for_adapters(const char *word) {
    static const char *const words[] = {"adapters", "adapter", "modeladapters", "modeladapter"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(word, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int check_usage(const struct settings *settings, int positional, char **argv, struct error *err) {
    if (positional != 1 || !is_word_for_adapters(argv[1])) {
        return error_set(err, ERROR_INVALID, "it shows adapters: `davit get adapters`; kubectl shows everything else");
    }
    if (settings->output != NULL && strcmp(settings->output, "json") != 0) {
        return error_set(err, ERROR_INVALID, "--output: expected json, found \"%s\"", settings->output);
    }
    return 0;
}

int cli_get(int argc, char **argv) {
    struct settings settings = {0};
    const struct option_spec table[] = {
        {.name = "namespace",
         .short_name = 'n',
         .type = OPTION_STRING,
         .target = &settings.namespace,
         .value_name = "NAMESPACE",
         .help = "where to look (default: the kubeconfig's)"},
        {.name = "all-namespaces",
         .short_name = 'A',
         .type = OPTION_FLAG,
         .target = &settings.all_namespaces,
         .help = "look everywhere"},
        {.name = "output",
         .short_name = 'o',
         .type = OPTION_STRING,
         .target = &settings.output,
         .value_name = "json",
         .help = "for programs"},
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
        .name = "get",
        .arguments = "adapters [-n NAMESPACE | -A] [-o json]",
        .description = "Shows each adapter on each pod: state, revision and how long loading took.",
        .options = table,
        .log_level = NULL,
        .arguments_max = -1,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    if (check_usage(&settings, arguments, argv, &err) < 0) {
        return command_misused("get", &err);
    }
    if (run(&settings, &err) < 0) {
        (void)fprintf(stderr, "davit get: %s%s\n", err.message, api_advice(settings.kubeconfig, err.code));
        return 1;
    }
    return 0;
}
