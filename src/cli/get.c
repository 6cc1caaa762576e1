/* davit get adapters: which adapter is on which pod. */
#include "cli/cli.h"
#include "cli/command.h"

#include "cli/adapter_matrix.h"
#include "cluster/up/instance.h"
#include "io/http.h"
#include "kube/client.h"

#include <signal.h>
#include <string.h>

#define PAGE_OBJECTS 500
#define CALLS_MAX 2

struct settings {
    const char *namespace;
    const char *kubeconfig;
    const char *dir;
    const char *output;
    bool all_namespaces;
};

/* A list of one resource, page by page. */
struct listing {
    struct fetch *fetch;
    const struct kube_resource *resource;
    json_t *items;
    struct error err;
    bool has_failed;
};

struct fetch {
    struct loop *loop;
    struct kube_client *client;
    const char *namespace; /* NULL = all */
    struct listing adapters;
    struct listing pods;
    int open;
    bool was_interrupted;
};

static void list_page(struct listing *listing, const char *continue_token);

static void on_page(void *arg, json_t *object, const struct error *err) {
    struct listing *listing = arg;
    if (err != NULL) {
        listing->err = *err;
        listing->has_failed = true;
    } else {
        const char *more = json_string_at(object, "metadata.continue", "");
        json_array_extend(listing->items, json_object_get(object, "items"));
        if (*more != '\0') {
            list_page(listing, more);
            return;
        }
    }
    if (--listing->fetch->open == 0) {
        loop_stop(listing->fetch->loop);
    }
}

static void list_page(struct listing *listing, const char *continue_token) {
    cleanup_buffer struct buffer query = BUFFER_INIT;
    buffer_printf(&query, "limit=%d", PAGE_OBJECTS);
    if (continue_token != NULL) {
        buffer_append_text(&query, "&continue=");
        http_append_percent_encoded(&query, continue_token);
    }
    struct kube_request request = {
        .verb = KUBE_LIST,
        .resource = listing->resource,
        .namespace = listing->fetch->namespace,
        .query = query.data,
        .on_done = on_page,
        .arg = listing,
    };
    (void)kube_start(listing->fetch->client, &request);
}

static void start_list(struct fetch *fetch, struct listing *listing, const struct kube_resource *resource) {
    *listing = (struct listing){.fetch = fetch, .resource = resource, .items = json_array()};
    fetch->open++;
    list_page(listing, NULL);
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
    struct fetch fetch = {.loop = loop_new(), .namespace = namespace};
    struct transfers *transfers = transfers_new(fetch.loop);
    fetch.client = kube_client_new(fetch.loop, transfers, config, "davit-get", CALLS_MAX);
    loop_on_signals(fetch.loop, signals, on_interrupt, &fetch);
    start_list(&fetch, &fetch.adapters, &kube_model_adapters);
    start_list(&fetch, &fetch.pods, &kube_pods);
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

/* --kubeconfig, --dir, $KUBECONFIG, the instance that $DAVIT_DIR or the default names, else as any Kubernetes client does. */
static int find_kubeconfig(const struct settings *settings, char **ret_path, struct error *err) {
    const char *env = getenv("KUBECONFIG");
    if (settings->kubeconfig != NULL) {
        *ret_path = xstrdup(settings->kubeconfig);
        return 0;
    }
    if (settings->dir == NULL && env != NULL && *env != '\0') {
        *ret_path = NULL;
        return 0;
    }
    cleanup_free char *directory = NULL;
    if (instance_directory(settings->dir != NULL ? settings->dir : getenv("DAVIT_DIR"), &directory, err) < 0) {
        return -1;
    }
    cleanup_free char *path = instance_kubeconfig(directory);
    if (access(path, R_OK) == 0) {
        *ret_path = take_pointer(path);
        return 0;
    }
    if (settings->dir != NULL) {
        return error_set(err, ERROR_NOT_FOUND, "davit never ran in %s", directory);
    }
    *ret_path = NULL;
    return 0;
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

/* What to do next. */
static const char *advice(const struct settings *settings, enum error_code code) {
    switch (code) {
    case ERROR_UNAVAILABLE:
        return "\n  `davit status` shows what runs here, `davit up --detach` starts it";
    case ERROR_UNAUTHORIZED:
    case ERROR_DENIED:
        return "\n  the kubeconfig's credentials do not suffice; --kubeconfig names another one";
    case ERROR_NOT_FOUND:
        return settings->kubeconfig != NULL ? ""
                                            : "\n  `davit up --detach` starts an API server here, --kubeconfig names another one";
    default:
        return "";
    }
}

static int run(const struct settings *settings, struct error *err) {
    cleanup_free char *path = NULL;
    struct kube_config config = {0};
    if (find_kubeconfig(settings, &path, err) < 0) {
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
        (void)fprintf(stderr, "davit get: %s%s\n", err.message, advice(&settings, err.code));
        return 1;
    }
    return 0;
}
