/* davit engine: the flags (vLLM's spelling), the start, and the orderly end of the inference server. */
#include "cli/artifact_args.h"
#include "cli/cli.h"
#include "cli/cpu_count.h"

#include "adapter/artifact_url.h"
#include "base/json.h"
#include "base/log.h"
#include "engine/api/adapter_loads.h"
#include "engine/api/api.h"
#include "engine/engine.h"

#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define ACCEPT_AFTER_TERM_MS 1000 /* endpoints take a moment to hear that this pod leaves */
#define DRAIN_LOOK_MS 20
#define ABORT_FLUSH_MS 200 /* for the error events to leave */
/* Of one step. SmolLM2-135M on two cores reads 300 tokens a second whatever the size of a step, so 64 keep the gaps of running
 * streams near 200 ms. */
#define STEP_TOKENS 64

struct settings {
    const char *model;
    struct option_strings served_names;
    const char *host;
    int64_t port;
    struct option_strings api_keys;
    int64_t max_model_len;
    int64_t max_num_seqs;
    int64_t max_num_queued;
    int64_t max_num_batched_tokens;
    int64_t kv_cache_memory_bytes;
    bool enable_lora;
    struct option_strings lora_modules;
    const char *lora_resolver_dir;
    const char *artifact_cache;
    const char *artifact_cache_size;
    int64_t max_loras;
    int64_t max_cpu_loras;
    int64_t max_lora_rank;
    int64_t threads;
    const char *activations;
    int64_t shutdown_timeout;
    const char *log_level;
};

static const struct settings defaults = {
    .host = "0.0.0.0",
    .port = 8000,
    .max_num_seqs = 32,
    .max_num_queued = 1024,
    .enable_lora = true,
    .max_loras = 16,
    .max_lora_rank = 16,
    .artifact_cache_size = "20G",
    .shutdown_timeout = 25,
    .log_level = "info",
};

/* ---- the command line ---- */

/* vLLM's flags that take several values in a row (`--lora-modules a=/x b=/y`). */
static bool takes_several(const char *argument) {
    return strcmp(argument, "--served-model-name") == 0 || strcmp(argument, "--lora-modules") == 0 ||
           strcmp(argument, "--api-key") == 0;
}

/* Writes `--flag a b` as `--flag a --flag b` and, as vLLM does, takes `--max_loras` for `--max-loras`. The caller frees the words
 * in `owned` and both arrays. */
struct expanded {
    char **argv;
    char **owned;
    int argc;
};

static void expand(int argc, char **argv, struct expanded *ret_expanded) {
    size_t room = (size_t)argc * 2 + 1;
    *ret_expanded = (struct expanded){.argv = xcalloc(room, sizeof(char *)), .owned = xcalloc(room, sizeof(char *))};
    char *flag = NULL;
    int given = 0;
    for (int i = 0; i < argc; i++) {
        char *word = xstrdup(argv[i]);
        ret_expanded->owned[i] = word;
        if (strncmp(word, "--", 2) == 0) {
            for (char *at = word; *at != '\0' && *at != '='; at++) {
                *at = (char)(*at == '_' ? '-' : *at);
            }
            flag = takes_several(word) ? word : NULL;
            given = 0;
        } else if (flag != NULL && given++ > 0) {
            ret_expanded->argv[ret_expanded->argc++] = flag;
        }
        ret_expanded->argv[ret_expanded->argc++] = word;
    }
}

static void expanded_release(struct expanded *expanded) {
    for (size_t i = 0; expanded->owned[i] != NULL; i++) {
        free(expanded->owned[i]);
    }
    free(expanded->owned);
    free(expanded->argv);
}

static int parse(struct settings *settings, int argc, char **argv, bool *ret_help, struct error *err) {
    static bool unused_flag; /* target of flags that are accepted for vLLM's sake */
    const struct option_spec table[] = {
        {.name = "model",
         .type = OPTION_STRING,
         .target = &settings->model,
         .value_name = "PATH",
         .help = "the base model: a GGUF file"},
        {.name = "served-model-name",
         .type = OPTION_STRINGS,
         .target = &settings->served_names,
         .value_name = "NAME...",
         .help = "what requests call it (default: the path)"},
        {.name = "host",
         .env = "POD_IP",
         .type = OPTION_STRING,
         .target = &settings->host,
         .value_name = "ADDRESS",
         .help = "numeric address to listen on (default 0.0.0.0)"},
        {.name = "port",
         .type = OPTION_INT,
         .target = &settings->port,
         .value_name = "N",
         .help = "default 8000; 0 takes a free one",
         .minimum = 0,
         .maximum = 65535},
        {.name = "api-key",
         .type = OPTION_STRINGS,
         .target = &settings->api_keys,
         .value_name = "KEY...",
         .help = "keys that /v1 asks for (default: $VLLM_API_KEY)"},
        {.name = "max-model-len",
         .type = OPTION_INT,
         .target = &settings->max_model_len,
         .value_name = "N",
         .help = "tokens of prompt and answer (default: the model's)",
         .minimum = 1,
         .maximum = 1 << 20},
        {.name = "max-num-seqs",
         .type = OPTION_INT,
         .target = &settings->max_num_seqs,
         .value_name = "N",
         .help = "requests that run at once (default 32)",
         .minimum = 1,
         .maximum = 4096},
        {.name = "max-num-queued",
         .type = OPTION_INT,
         .target = &settings->max_num_queued,
         .value_name = "N",
         .help = "requests that wait, more get 503 (default 1024)",
         .minimum = 1,
         .maximum = 1 << 20},
        {.name = "max-num-batched-tokens",
         .type = OPTION_INT,
         .target = &settings->max_num_batched_tokens,
         .value_name = "N",
         .help = "tokens of one step; fewer mean shorter gaps while a long prompt is read (default 64, at least max-num-seqs)",
         .minimum = 1,
         .maximum = 1 << 16},
        {.name = "kv-cache-memory-bytes",
         .type = OPTION_INT,
         .target = &settings->kv_cache_memory_bytes,
         .value_name = "N",
         .help = "bound of the KV cache (default: 1,024 tokens for each of max-num-seqs)",
         .minimum = 1,
         .maximum = INT64_MAX},
        {.name = "enable-lora",
         .type = OPTION_FLAG,
         .target = &settings->enable_lora,
         .help = "the default; with --no-enable-lora adapters can neither be loaded nor unloaded"},
        {.name = "lora-modules",
         .type = OPTION_STRINGS,
         .target = &settings->lora_modules,
         .value_name = "NAME=PATH...",
         .help = "adapters to load at start"},
        {.name = "lora-resolver-dir",
         .env = "VLLM_LORA_RESOLVER_CACHE_DIR",
         .type = OPTION_STRING,
         .target = &settings->lora_resolver_dir,
         .value_name = "DIR|URL",
         .help = "a model that nobody knows is looked up below it as an adapter and loaded when it is first asked for"},
        {.name = "artifact-cache",
         .env = "DAVIT_CACHE",
         .type = OPTION_STRING,
         .target = &settings->artifact_cache,
         .value_name = "DIR",
         .help =
             "where adapters are kept that come from hf://, s3:// and so on (default $XDG_CACHE_HOME/davit, else ~/.cache/davit)"},
        {.name = "artifact-cache-size",
         .env = "DAVIT_CACHE_SIZE",
         .type = OPTION_STRING,
         .target = &settings->artifact_cache_size,
         .value_name = "SIZE",
         .help = "above it what was used longest ago is removed (default 20G)"},
        {.name = "max-loras",
         .type = OPTION_INT,
         .target = &settings->max_loras,
         .value_name = "N",
         .help = "distinct adapters in one step (default 16)",
         .minimum = 1,
         .maximum = 4096},
        {.name = "max-cpu-loras",
         .type = OPTION_INT,
         .target = &settings->max_cpu_loras,
         .value_name = "N",
         .help = "adapters that are resident (default 256, at least max-loras)",
         .minimum = 1,
         .maximum = 65536},
        {.name = "max-lora-rank",
         .type = OPTION_INT,
         .target = &settings->max_lora_rank,
         .value_name = "N",
         .help = "default 16",
         .minimum = 1,
         .maximum = 512},
        {.name = "threads",
         .env = "DAVIT_THREADS",
         .type = OPTION_INT,
         .target = &settings->threads,
         .value_name = "N",
         .help = "compute threads (default: the container's cpu limit, else all cores)",
         .minimum = 1,
         .maximum = 1024},
        {.name = "activations",
         .type = OPTION_STRING,
         .target = &settings->activations,
         .value_name = "KIND",
         .help =
             "what quantised weights are multiplied with: f32 (default), or int8: a quarter to a half faster in answering, nearly "
             "twice as fast in reading prompts, and a little less exact"},
        {.name = "shutdown-timeout",
         .type = OPTION_INT,
         .target = &settings->shutdown_timeout,
         .value_name = "SECONDS",
         .help = "how long running requests may take after SIGTERM (default 25)",
         .minimum = 0,
         .maximum = 3600},
        {.name = "log-level",
         .type = OPTION_STRING,
         .target = &settings->log_level,
         .value_name = "LEVEL",
         .help = "debug, info, warn or error"},
        {.name = "enable-prefix-caching", .type = OPTION_FLAG, .target = &unused_flag},
        {.name = "enable-log-requests", .type = OPTION_FLAG, .target = &unused_flag},
        {.name = "trust-remote-code", .type = OPTION_IGNORED},
        {.name = "enforce-eager", .type = OPTION_IGNORED},
        {.name = "disable-log-requests", .type = OPTION_IGNORED},
        {.name = "disable-log-stats", .type = OPTION_IGNORED},
        {.name = "dtype", .type = OPTION_IGNORED, .takes_value = true},
        {.name = "lora-dtype", .type = OPTION_IGNORED, .takes_value = true},
        {.name = "block-size", .type = OPTION_IGNORED, .takes_value = true},
        {.name = "gpu-memory-utilization", .type = OPTION_IGNORED, .takes_value = true},
        {.name = "uvicorn-log-level", .type = OPTION_IGNORED, .takes_value = true},
        {0},
    };
    int positional = options_parse(table, argc, argv, ret_help, err);
    if (*ret_help) {
        options_print_help(table, "davit engine --model PATH [OPTION...]",
                           "Serves one base model and its LoRA adapters on the CPU, in vLLM's HTTP dialect. Adapters are loaded "
                           "and unloaded while "
                           "requests run:\n  POST /v1/load_lora_adapter {\"lora_name\": \"sql\", \"lora_path\": \"/adapters/sql\"}",
                           stdout);
        return 0;
    }
    if (positional < 0) {
        return -1;
    }
    if (positional > 1 || (positional == 1 && settings->model != NULL)) {
        return error_set(err, ERROR_INVALID, "unexpected argument \"%s\"", argv[positional]);
    }
    if (positional == 1) {
        settings->model = argv[1];
    }
    return 0;
}

/* A folder becomes absolute: a relative path with a slash would be taken for a model of the Hub where nothing is there. */
static int complete_resolver(struct settings *settings, struct error *err) {
    static char folder[PATH_MAX]; /* as long as the program runs, as what comes from argv */
    const char *base = settings->lora_resolver_dir;
    struct stat status;
    if (base == NULL || *base == '\0') {
        settings->lora_resolver_dir = NULL;
        return 0;
    }
    if (!settings->enable_lora) {
        return error_set(err, ERROR_INVALID, "--lora-resolver-dir and --no-enable-lora exclude each other");
    }
    if (artifact_scheme_of(base) != ARTIFACT_UNKNOWN && artifact_local_path(base) == NULL) {
        return 0;
    }
    const char *path = artifact_local_path(base) != NULL ? artifact_local_path(base) : base;
    if (realpath(path, folder) == NULL || stat(folder, &status) < 0 || !S_ISDIR(status.st_mode)) {
        return error_set(err, ERROR_INVALID, "--lora-resolver-dir %s: expected a folder that is there, or a URL (%s)", base,
                         artifact_schemes_text());
    }
    settings->lora_resolver_dir = folder;
    return 0;
}

/* What follows from several options together. */
static int complete(struct settings *settings, struct error *err) {
    if (settings->model == NULL) {
        return error_set(err, ERROR_INVALID, "--model is missing: name a GGUF file");
    }
    if (settings->served_names.count == 0) {
        settings->served_names.values[settings->served_names.count++] = settings->model;
    }
    if (strcmp(settings->host, "localhost") == 0) {
        settings->host = "127.0.0.1";
    }
    const char *key = getenv("VLLM_API_KEY");
    if (settings->api_keys.count == 0 && key != NULL && *key != '\0') {
        settings->api_keys.values[settings->api_keys.count++] = key;
    }
    if (settings->max_cpu_loras == 0) {
        settings->max_cpu_loras = settings->max_loras > 256 ? settings->max_loras : 256;
    }
    if (settings->max_cpu_loras < settings->max_loras) {
        return error_set(err, ERROR_INVALID, "--max-cpu-loras (%lld) must be at least --max-loras (%lld)",
                         (long long)settings->max_cpu_loras, (long long)settings->max_loras);
    }
    if (settings->max_num_batched_tokens == 0) {
        settings->max_num_batched_tokens = settings->max_num_seqs > STEP_TOKENS ? settings->max_num_seqs : STEP_TOKENS;
    }
    if (settings->max_num_batched_tokens < settings->max_num_seqs) {
        return error_set(err, ERROR_INVALID, "--max-num-batched-tokens (%lld) must be at least --max-num-seqs (%lld)",
                         (long long)settings->max_num_batched_tokens, (long long)settings->max_num_seqs);
    }
    if (settings->threads == 0) {
        settings->threads = cpu_count();
    }
    return complete_resolver(settings, err);
}

/* ---- serving ---- */

struct server {
    const struct settings *settings;
    struct loop *loop;
    struct api *api;
    struct timer timer;
    bool is_stopping;
    bool is_draining;
    bool is_aborting;
    int64_t deadline_ms;
};

static void look_at_drain(void *arg) {
    struct server *server = arg;
    int64_t now_ms = loop_now_ms(server->loop);
    if (!server->is_draining) {
        server->is_draining = true;
        server->deadline_ms = now_ms + server->settings->shutdown_timeout * 1000;
        api_drain(server->api);
    }
    int open = api_open_requests(server->api);
    if (open > 0 && now_ms < server->deadline_ms) {
        timer_set(&server->timer, DRAIN_LOOK_MS);
        return;
    }
    if (open > 0 && !server->is_aborting) {
        log_warn("%d requests are cut: they did not end within %lld s", open, (long long)server->settings->shutdown_timeout);
        server->is_aborting = true;
        server->deadline_ms = now_ms + ABORT_FLUSH_MS;
        api_abort(server->api);
        timer_set(&server->timer, DRAIN_LOOK_MS);
        return;
    }
    loop_stop(server->loop);
}

static void on_signal(void *arg, int number) {
    struct server *server = arg;
    if (server->is_stopping) {
        if (number == SIGINT) { /* a second Ctrl-C */
            loop_stop(server->loop);
        }
        return;
    }
    server->is_stopping = true;
    log_info("%s: accepting for %d ms more, then finishing %d requests", strsignal(number), ACCEPT_AFTER_TERM_MS,
             api_open_requests(server->api));
    timer_set(&server->timer, ACCEPT_AFTER_TERM_MS);
}

/* Requests of that name would go to the base model. */
static int check_module_name(const struct settings *settings, const char *name, struct error *err) {
    for (size_t i = 0; i < settings->served_names.count; i++) {
        if (strcmp(settings->served_names.values[i], name) == 0) {
            return error_set(err, ERROR_INVALID, "--lora-modules: the name \"%s\" is that of the base model (--served-model-name)",
                             name);
        }
    }
    return 0;
}

/* "name=path", or vLLM's JSON form {"name":...,"path":...}. */
static int load_module(struct engine *engine, const struct settings *settings, const struct artifact_options *artifacts,
                       const char *module, struct error *err) {
    if (module[0] == '{') {
        cleanup_json json_t *object = json_parse(module, strlen(module), err);
        if (object == NULL) {
            return error_wrap(err, "--lora-modules %s", module);
        }
        const char *name = json_string_at(object, "name", "");
        const char *path = json_string_at(object, "path", "");
        if (*name == '\0' || *path == '\0') {
            return error_set(err, ERROR_INVALID, "--lora-modules %s: \"name\" and \"path\" must be given", module);
        }
        return check_module_name(settings, name, err) < 0 ? -1 : adapter_load_blocking(engine, artifacts, name, path, err);
    }
    const char *equals = strchr(module, '=');
    if (equals == NULL || equals == module || equals[1] == '\0') {
        return error_set(err, ERROR_INVALID, "--lora-modules %s: expected NAME=PATH", module);
    }
    cleanup_free char *name = xstrndup(module, (size_t)(equals - module));
    return check_module_name(settings, name, err) < 0 ? -1 : adapter_load_blocking(engine, artifacts, name, equals + 1, err);
}

static int load_modules(struct engine *engine, const struct settings *settings, const struct artifact_options *artifacts,
                        struct error *err) {
    for (size_t i = 0; i < settings->lora_modules.count; i++) {
        if (load_module(engine, settings, artifacts, settings->lora_modules.values[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int serve(const struct settings *settings, struct engine *engine, const struct artifact_options *artifacts,
                 struct error *err) {
    static const int signals[] = {SIGTERM, SIGINT, 0};
    struct server server = {.settings = settings, .loop = loop_new()};
    struct api_options options = {
        .loop = server.loop,
        .engine = engine,
        .served_names = settings->served_names.values,
        .served_name_count = settings->served_names.count,
        .model_root = settings->model,
        .api_keys = settings->api_keys.values,
        .api_key_count = settings->api_keys.count,
        .runtime_lora = settings->enable_lora,
        .artifacts = artifacts,
        .resolver_base = settings->lora_resolver_dir,
        .max_loras = (int)settings->max_loras,
        .max_cpu_loras = (int)settings->max_cpu_loras,
        .max_lora_rank = (int)settings->max_lora_rank,
        .version = DAVIT_VERSION,
    };
    server.api = api_new(&options);
    timer_init(&server.timer, server.loop, look_at_drain, &server);
    loop_on_signals(server.loop, signals, on_signal, &server); /* before anybody can read that it serves */
    int port = 0;
    int result = api_listen(server.api, settings->host, (int)settings->port, &port, err);
    if (result == 0) {
        log_info("serving %s on http://%s:%d threads=%lld kernels=%s activations=%s max_model_len=%d",
                 settings->served_names.values[0], settings->host, port, (long long)settings->threads,
                 engine_model_info(engine)->kernels, engine_model_info(engine)->activations,
                 engine_model_info(engine)->max_model_len);
        loop_run(server.loop);
    }
    timer_release(&server.timer);
    api_stop(server.api);
    engine_free(engine);
    api_free(server.api);
    loop_free(server.loop);
    return result;
}

static int run(const struct settings *settings, struct error *err) {
    struct engine_options options = {
        .model_path = settings->model,
        .threads = (int)settings->threads,
        .max_model_len = (int)settings->max_model_len,
        .max_num_seqs = (int)settings->max_num_seqs,
        .max_num_queued = (int)settings->max_num_queued,
        .max_num_batched_tokens = (int)settings->max_num_batched_tokens,
        .kv_cache_bytes = (size_t)settings->kv_cache_memory_bytes,
        .max_loras = (int)settings->max_loras,
        .max_cpu_loras = (int)settings->max_cpu_loras,
        .max_lora_rank = (int)settings->max_lora_rank,
        .activations = settings->activations,
    };
    cleanup_free char *cache = artifact_cache_path(settings->artifact_cache, NULL); /* without one, folders only */
    struct artifact_options artifacts = {.cache = cache};
    struct engine *engine = NULL;
    if (artifact_parse_bytes(settings->artifact_cache_size, &artifacts.cache_bytes_max, err) < 0) {
        return error_wrap(err, "--artifact-cache-size");
    }
    if (engine_new(&options, &engine, err) < 0) {
        return -1;
    }
    if (load_modules(engine, settings, &artifacts, err) < 0) {
        engine_free(engine);
        return -1;
    }
    return serve(settings, engine, &artifacts, err);
}

int cli_engine(int argc, char **argv) {
    struct settings settings = defaults;
    struct error err = {0};
    struct expanded expanded;
    bool wants_help = false;
    expand(argc, argv, &expanded);
    int status = 0;
    (void)log_init("engine", NULL);
    if (parse(&settings, expanded.argc, expanded.argv, &wants_help, &err) < 0 || (!wants_help && complete(&settings, &err) < 0)) {
        (void)fprintf(stderr, "davit engine: %s; `davit engine --help` lists the options\n", err.message);
        status = 2;
    } else if (!wants_help && log_init("engine", settings.log_level) < 0) {
        (void)fprintf(stderr, "davit engine: --log-level %s: expected debug, info, warn or error\n", settings.log_level);
        status = 2;
    } else if (!wants_help && run(&settings, &err) < 0) {
        log_error("%s", err.message);
        status = 1;
    }
    expanded_release(&expanded);
    return status;
}
