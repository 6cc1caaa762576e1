/* davit runtime: see runtime/runtime.h. */
#include "runtime/runtime.h"
#include "base/log.h"
#include "cli/artifact_args.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "runtime/load_secrets.h"

#include <string.h>
#include <sys/stat.h>

#define RUNTIME_PORT 8080
#define ENGINE_DEFAULT_PORT 8000
#define CACHE_DEFAULT "/tmp/aibrix/adapters"

static const char *environment(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : fallback;
}

/* As the reference reads its booleans. */
static bool is_on(const char *name, bool fallback) {
    static const char *const words[] = {"1", "on", "yes", "true"};
    const char *value = environment(name, NULL);
    for (size_t i = 0; value != NULL && i < ARRAY_LEN(words); i++) {
        if (strcasecmp(value, words[i]) == 0) {
            return true;
        }
    }
    return value == NULL && fallback;
}

static bool has_raw_metrics(void) {
    return is_on("METRICS_RAW_PASSTHROUGH_MODE", false) || !is_on("METRICS_ENABLE_TRANSFORMATION", true);
}

/* "http://host:port" without a slash at the end; of the caller's. */
static int clean_endpoint(const char *text, char **ret_endpoint, struct error *err) {
    if (strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0) {
        return error_set(err, ERROR_INVALID, "INFERENCE_ENGINE_ENDPOINT: expected http://host:port, found \"%s\"", text);
    }
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '/') {
        len--;
    }
    *ret_endpoint = xstrndup(text, len);
    return 0;
}

/* Where the reference's manifests mount a volume of the sidecar's and the engine's; NULL where they do not. */
static const char *mounted_cache(void) {
    struct stat status;
    bool is_usable = stat(CACHE_DEFAULT, &status) == 0 && access(CACHE_DEFAULT, R_OK | W_OK | X_OK) == 0;
    if (is_usable && status.st_uid != geteuid() && status.st_uid != 0) {
        log_warn("%s is user %ld's, who could change what is loaded: not used without --cache", CACHE_DEFAULT, (long)status.st_uid);
        return NULL;
    }
    return is_usable ? CACHE_DEFAULT : NULL;
}

static int read_size(const char *option, const char *text, uint64_t *ret_bytes, struct error *err) {
    return text == NULL || artifact_parse_bytes(text, ret_bytes, err) == 0 ? 0 : error_wrap(err, "%s", option);
}

static int check_options(const struct runtime_options *options, const struct option_strings *addresses, struct error *err) {
    const char *cache = options->service.artifacts.cache;
    const char *metrics_path = options->service.metrics_path;
    if (cache[0] != '/') {
        return error_set(err, ERROR_INVALID, "--cache: expected an absolute path, which the engine has too, found \"%s\"", cache);
    }
    if (metrics_path != NULL && metrics_path[0] != '/') {
        return error_set(err, ERROR_INVALID, "--metric-path: expected a path such as /metrics, found \"%s\"", metrics_path);
    }
    const char *models = options->service.models.folder;
    if (models != NULL && models[0] != '/') {
        return error_set(err, ERROR_INVALID, "--model-dir: expected an absolute path, which the engine has too, found \"%s\"",
                         models);
    }
    if (addresses->count == OPTION_STRINGS_MAX) {
        return error_set(err, ERROR_LIMIT, "--allow-address: given more than %d times", OPTION_STRINGS_MAX - 1);
    }
    return 0;
}

int cli_runtime(int argc, char **argv) {
    const char *pod_ip = environment("POD_IP", NULL);
    bool is_ipv6 = pod_ip != NULL && strchr(pod_ip, ':') != NULL;
    cleanup_free char *default_endpoint = pod_ip != NULL
                                              ? xasprintf(is_ipv6 ? "http://[%s]:%d" : "http://%s:%d", pod_ip, ENGINE_DEFAULT_PORT)
                                              : xasprintf("http://localhost:%d", ENGINE_DEFAULT_PORT);
    struct runtime_options options = {
        .address = pod_ip != NULL ? pod_ip : "0.0.0.0",
        .engine = "vllm",
        .service = {.models = {.revision = getenv("HF_REVISION")},
                    .endpoint = default_endpoint,
                    .has_raw_metrics = has_raw_metrics()},
    };
    struct artifact_options *artifacts = &options.service.artifacts;
    struct option_strings addresses = {0};
    const char *cache = NULL;
    const char *cache_size = NULL;
    const char *artifact_size = NULL;
    int64_t max_rank = 0;
    const char *log_level = "info";
    int64_t port = RUNTIME_PORT;
    int64_t drain_s = 25;
    const struct option_spec table[] = {
        {.name = "host",
         .type = OPTION_STRING,
         .target = &options.address,
         .value_name = "IP",
         .help = "address to serve on (default: $POD_IP, else 0.0.0.0)"},
        {.name = "port",
         .type = OPTION_INT,
         .target = &port,
         .value_name = "N",
         .help = "port to serve on; 0 takes a free one (default 8080)",
         .minimum = 0,
         .maximum = 65535},
        {.name = "port-file",
         .type = OPTION_STRING,
         .target = &options.port_file,
         .value_name = "PATH",
         .help = "write the port there once it serves"},
        {.name = "engine",
         .env = "INFERENCE_ENGINE",
         .type = OPTION_STRING,
         .target = &options.engine,
         .value_name = "NAME",
         .help = "vllm or sglang (default vllm)"},
        {.name = "engine-version",
         .env = "INFERENCE_ENGINE_VERSION",
         .type = OPTION_STRING,
         .target = &options.service.engine_version,
         .value_name = "TEXT",
         .help = "shown as aibrix:info_info{engine_version}"},
        {.name = "engine-endpoint",
         .env = "INFERENCE_ENGINE_ENDPOINT",
         .type = OPTION_STRING,
         .target = &options.service.endpoint,
         .value_name = "URL",
         .help = "the engine (default http://$POD_IP:8000, else http://localhost:8000)"},
        {.name = "cache",
         .env = "DAVIT_CACHE",
         .type = OPTION_STRING,
         .target = &cache,
         .value_name = "DIR",
         .help = "where adapters are kept (default " CACHE_DEFAULT " where that is mounted, else ~/.cache/davit)"},
        {.name = "cache-size",
         .env = "DAVIT_CACHE_SIZE",
         .type = OPTION_STRING,
         .target = &cache_size,
         .value_name = "SIZE",
         .help = "above it what was used longest ago is removed, e.g. 20G, never what is loaded (default: no limit)"},
        {.name = "artifact-size",
         .type = OPTION_STRING,
         .target = &artifact_size,
         .value_name = "SIZE",
         .help = "of the largest adapter that is fetched (default 16Gi)"},
        {.name = "model-dir",
         .env = "DOWNLOADER_LOCAL_DIR",
         .type = OPTION_STRING,
         .target = &options.service.models.folder,
         .value_name = "DIR",
         .help = "where base models are kept that are asked for without local_dir (default " MODELS_FOLDER ")"},
        {.name = "model-files",
         .env = "DOWNLOADER_ALLOW_FILE_SUFFIX",
         .type = OPTION_STRING,
         .target = &options.service.models.suffixes,
         .value_name = "ENDING,...",
         .help = "which files of a base model are fetched (default: those that engines read)"},
        {.name = "max-lora-rank",
         .type = OPTION_INT,
         .target = &max_rank,
         .value_name = "N",
         .help = "the engine's limit: adapters above it are refused before it is asked (default: the engine judges)",
         .minimum = 0,
         .maximum = 4096},
        {.name = "allow-pickle",
         .type = OPTION_FLAG,
         .target = &artifacts->is_pickle_allowed,
         .help = "take adapter_model.bin where there are no safetensors; reading it can run code"},
        {.name = "allow-address",
         .type = OPTION_STRINGS,
         .target = &addresses,
         .value_name = "ADDRESS[/BITS]",
         .help = "fetch from there though it is link-local or a cloud's metadata server; may be given several times"},
        {.name = "offline",
         .type = OPTION_FLAG,
         .target = &artifacts->is_offline,
         .help = "fetch nothing: what is in the cache and in folders only"},
        {.name = "ca-file",
         .env = "DAVIT_CA_FILE",
         .type = OPTION_STRING,
         .target = &artifacts->ca_file,
         .value_name = "PATH",
         .help = "authorities (PEM) that stores are trusted by, beside the system's"},
        {.name = "secrets-dir",
         .type = OPTION_STRING,
         .target = &options.service.secrets_root,
         .value_name = "DIR",
         .help = "where Secrets are mounted that loads name (default " LOAD_SECRETS_ROOT ")"},
        {.name = "token-file",
         .env = "DAVIT_RUNTIME_TOKEN_FILE",
         .type = OPTION_STRING,
         .target = &options.token_file,
         .value_name = "PATH",
         .help = "a token that whoever asks must show, but for /healthz, /ready and /metrics (default: anybody may ask)"},
        {.name = "metric-path",
         .env = "METRIC_SCRAPE_PATH",
         .type = OPTION_STRING,
         .target = &options.service.metrics_path,
         .value_name = "PATH",
         .help = "the engine's page of metrics (default /metrics)"},
        {.name = "drain-seconds",
         .type = OPTION_INT,
         .target = &drain_s,
         .value_name = "N",
         .help = "after SIGTERM, how long requests under way may go on (default 25)",
         .minimum = 0,
         .maximum = 3600},
        {.name = "log-level",
         .type = OPTION_STRING,
         .target = &log_level,
         .value_name = "LEVEL",
         .help = "debug, info, warn or error (default info)"},
        {.name = "enable-fastapi-docs", .type = OPTION_IGNORED},
        {0},
    };
    const struct command command = {
        .name = "runtime",
        .arguments = "[options]",
        .description =
            "Sidecar of an engine pod: fetches adapters, checks them and hands them to the engine beside it.\n"
            "Fetches base models too. Serves /v1/lora_adapter/load and /unload, /v1/model/download (POST), /v1/model/list,\n"
            "/v1/models, /healthz, /ready and /metrics.",
        .options = table,
        .log_level = &log_level,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    cleanup_free char *endpoint = NULL;
    options.port = (int)port;
    options.drain_ms = drain_s * 1000;
    cleanup_free char *cache_path = artifact_cache_path(cache != NULL ? cache : mounted_cache(), &err);
    artifacts->cache = cache_path;
    if (clean_endpoint(options.service.endpoint, &endpoint, &err) < 0 || cache_path == NULL ||
        check_options(&options, &addresses, &err) < 0 ||
        read_size("--cache-size", cache_size, &artifacts->cache_bytes_max, &err) < 0 ||
        read_size("--artifact-size", artifact_size, &artifacts->artifact_bytes_max, &err) < 0) {
        return command_misused("runtime", &err);
    }
    options.service.endpoint = endpoint;
    options.service.max_rank = (int)max_rank;
    artifacts->addresses = addresses.values;
    return runtime_run(&options, &err) < 0 ? command_failed("runtime", &err) : 0;
}
