/* davit pull: an adapter from where its URL points into the cache, or into a folder. */
#include "adapter/artifact_url.h"
#include "artifact/address.h"
#include "artifact/cache/cache.h"
#include "artifact/hub/url.h"
#include "artifact/model_files.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"
#include "cli/artifact_args.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/printable.h"
#include "cli/pull_copy.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define SECRET_BYTES_MAX (64u << 10)
#define SHOW_EVERY_MS 200
#define MODEL_BYTES_MAX (16ull << 40) /* the disk is what counts */

struct settings {
    const char *to;
    const char *cache;
    const char *cache_size;
    const char *revision;
    const char *digest;
    const char *ca_file;
    const char *log_level;
    int64_t timeout_ms;
    int64_t stall_ms;
    int64_t parts;
    int64_t max_rank;
    bool is_offline;
    bool is_pickle_allowed;
    bool is_model;
    struct option_strings addresses;
    struct option_strings secret_files;
};

/* ---- secrets ---- */

struct secrets {
    struct artifact_secrets given;
    char *texts[2 * OPTION_STRINGS_MAX]; /* owned */
    size_t text_count;
};

static void secrets_release(struct secrets *secrets) {
    for (size_t i = 0; i < secrets->text_count; i++) {
        free(secrets->texts[i]);
    }
}

/* "KEY=FILE": never the secret itself, which would be seen in the list of processes. */
static int read_secret(struct secrets *secrets, const char *argument, struct error *err) {
    const char *equals = strchr(argument, '=');
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (equals == NULL || equals == argument || equals[1] == '\0') {
        return error_set(err, ERROR_INVALID, "--secret-file: expected KEY=FILE, found \"%s\"", argument);
    }
    if (file_read(equals + 1, SECRET_BYTES_MAX, &text, err) < 0) {
        return error_wrap(err, "--secret-file");
    }
    while (text.len > 0 && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r')) {
        text.data[--text.len] = '\0';
    }
    char *key = xstrndup(argument, (size_t)(equals - argument));
    char *value = buffer_take(&text);
    secrets->texts[secrets->text_count++] = key;
    secrets->texts[secrets->text_count++] = value;
    secrets->given.items[secrets->given.count++] = (struct artifact_secret){.key = key, .value = value};
    return 0;
}

/* ---- the fetch, on a thread of its own; this one shows how far it is ---- */

struct pull {
    struct artifact_cache *cache;
    struct artifact_wanted wanted;
    struct artifact_progress progress;
    struct artifact_found found;
    struct error err;
    int result;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_done; /* guarded by the mutex */
};

static void *fetch(void *arg) {
    struct pull *pull = arg;
    (void)pthread_setname_np(pthread_self(), "artifact");
    pull->result = artifact_fetch(pull->cache, &pull->wanted, &pull->progress, &pull->found, &pull->err);
    pthread_mutex_lock(&pull->mutex);
    pull->is_done = true;
    pthread_cond_signal(&pull->changed);
    pthread_mutex_unlock(&pull->mutex);
    return NULL;
}

static bool wait_a_while(struct pull *pull) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += SHOW_EVERY_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&pull->mutex);
    if (!pull->is_done) {
        (void)pthread_cond_timedwait(&pull->changed, &pull->mutex, &until);
    }
    bool is_done = pull->is_done;
    pthread_mutex_unlock(&pull->mutex);
    return is_done;
}

static void show_bar(const struct artifact_progress *progress, int64_t spent_ms) {
    static const char *const words[] = {"waiting for another download", "looking what there is", "downloading", "checking", "done"};
    uint64_t done = atomic_load(&progress->bytes_done);
    uint64_t total = atomic_load(&progress->bytes_total);
    int stage = atomic_load(&progress->stage);
    char done_text[32], total_text[32], bar[31];
    if (atomic_load(&progress->is_cancelled)) {
        (void)fprintf(stderr, "\r\x1b[Kending; interrupt again to end at once");
        return;
    }
    if (stage != ARTIFACT_DOWNLOADING || total == 0) {
        (void)fprintf(stderr, "\r\x1b[K%s", words[stage]);
        return;
    }
    size_t full = artifact_percent(done, total) * (sizeof(bar) - 1) / 100;
    memset(bar, '.', sizeof(bar) - 1);
    memset(bar, '#', full);
    bar[sizeof(bar) - 1] = '\0';
    artifact_format_bytes(done, done_text, sizeof(done_text));
    artifact_format_bytes(total, total_text, sizeof(total_text));
    (void)fprintf(stderr, "\r\x1b[K[%s] %3u %%  %s of %s  %.1f MB/s", bar, artifact_percent(done, total), done_text, total_text,
                  spent_ms > 0 ? (double)done / 1000.0 / (double)spent_ms : 0);
}

static struct pull *interrupted; /* whom a signal concerns */

/* The second one ends the process: the disk, or what a path leads to, may keep the fetch from seeing the first. */
static void on_interrupt(int number) {
    (void)number;
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    atomic_store(&interrupted->progress.is_cancelled, true);
}

static int fetch_and_show(struct pull *pull, struct error *err) {
    pthread_t thread;
    pthread_condattr_t attributes;
    int64_t started_ms = clock_now_ms();
    bool has_terminal = isatty(STDERR_FILENO);
    (void)pthread_mutex_init(&pull->mutex, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&pull->changed, &attributes);
    interrupted = pull;
    (void)signal(SIGINT, on_interrupt); /* what was staged is noted, for the next time */
    (void)signal(SIGTERM, on_interrupt);
    if (pthread_create(&thread, NULL, fetch, pull) != 0) {
        return error_set(err, ERROR_IO, "no thread is to be had");
    }
    while (!wait_a_while(pull)) {
        if (has_terminal) {
            show_bar(&pull->progress, clock_now_ms() - started_ms);
        }
    }
    (void)pthread_join(thread, NULL);
    if (has_terminal) {
        (void)fprintf(stderr, "\r\x1b[K");
    }
    *err = pull->err;
    return pull->result;
}

static int tell(const struct pull *pull, const struct settings *settings, int64_t spent_ms, struct error *err) {
    char bytes[32];
    artifact_format_bytes(pull->found.bytes, bytes, sizeof(bytes));
    if (pull->found.is_unseen) {
        return error_set(err, ERROR_NOT_FOUND, "%s: there is no such folder here, or none that may be read", pull->found.folder);
    }
    if (settings->to != NULL && pull_copy(pull->found.folder, settings->to, &pull->progress, err) < 0) {
        return -1;
    }
    const char *how = artifact_local_path(pull->wanted.url) != NULL ? "where it is"
                      : pull->found.was_cached                      ? "from the cache"
                                                                    : "fetched";
    (void)fprintf(stderr, "%s, %s%s%s%s%s", bytes, how, pull->found.version[0] != '\0' ? ", version " : "", pull->found.version,
                  pull->found.digest[0] != '\0' ? ", SHA-256 " : "", pull->found.digest);
    (void)fprintf(stderr, ", %.2f s\n", (double)spent_ms / 1000.0);
    (void)printf("%s\n", settings->to != NULL ? settings->to : pull->found.folder);
    return 0;
}

static int run(const struct settings *settings, const char *url, const struct secrets *secrets, struct error *err) {
    cleanup_free char *cache_path = artifact_cache_path(settings->cache, err);
    struct artifact_options options = {
        .cache = cache_path,
        .timeout_ms = settings->timeout_ms,
        .stall_ms = settings->stall_ms,
        .parts = (unsigned)settings->parts,
        .is_pickle_allowed = settings->is_pickle_allowed,
        .is_offline = settings->is_offline,
        .addresses = settings->addresses.values,
        .ca_file = settings->ca_file,
        .artifact_bytes_max = settings->is_model ? MODEL_BYTES_MAX : 0,
    };
    if (cache_path == NULL ||
        (settings->cache_size != NULL && artifact_parse_bytes(settings->cache_size, &options.cache_bytes_max, err) < 0)) {
        return -1;
    }
    cleanup_free char *folder_url = NULL;
    cleanup_free char *file = NULL;
    bool is_file = settings->is_model && model_url_split(url, &folder_url, &file);
    struct pull pull = {.wanted = {.url = is_file ? folder_url : url,
                                   .revision = settings->revision,
                                   .digest = settings->digest,
                                   .version = "",
                                   .model_suffixes = is_file              ? file
                                                     : settings->is_model ? ""
                                                                          : NULL,
                                   .max_rank = (int)settings->max_rank,
                                   .secrets = secrets->given.count > 0 ? &secrets->given : NULL}};
    int64_t started_ms = clock_now_ms();
    pull.cache = artifact_cache_open(&options, err);
    if (pull.cache == NULL) {
        return -1;
    }
    int result = fetch_and_show(&pull, err);
    if (result == 0) {
        result = tell(&pull, settings, clock_now_ms() - started_ms, err);
        artifact_found_release(&pull.found);
    }
    artifact_cache_close(pull.cache);
    return result;
}

/* What is no URL may be meant for one. */
static int check_url(const char *url, struct error *err) {
    if (artifact_scheme_of(url) != ARTIFACT_UNKNOWN || strstr(url, "://") != NULL) {
        return 0;
    }
    cleanup_free char *path = realpath(url, NULL);
    if (path != NULL) {
        return error_set(err, ERROR_UNSUPPORTED, "%s: expected a URL or an absolute path: `davit pull %s`", url, path);
    }
    if (strchr(url, '/') != NULL && hub_is_repo(url)) {
        return error_set(err, ERROR_UNSUPPORTED, "%s: there is no such folder here, and a model of the Hugging Face Hub is hf://%s",
                         url, url);
    }
    return 0;
}

static int check_settings(struct settings *settings, struct error *err) {
    if (settings->digest[0] != '\0' &&
        (strlen(settings->digest) != 64 || strspn(settings->digest, "0123456789abcdefABCDEF") != 64)) {
        return error_set(err, ERROR_INVALID, "--digest: expected 64 hexadecimal digits, found \"%s\"", settings->digest);
    }
    if (settings->addresses.count == OPTION_STRINGS_MAX) { /* the list ends with NULL */
        return error_set(err, ERROR_LIMIT, "--allow-address: at most %d may be given", OPTION_STRINGS_MAX - 1);
    }
    return address_check_list(settings->addresses.values, err) < 0 ? error_wrap(err, "--allow-address") : 0;
}

int cli_pull(int argc, char **argv) {
    struct settings settings = {.revision = "", .digest = ""};
    struct secrets secrets = {0};
    const struct option_spec table[] = {
        {.name = "to",
         .type = OPTION_STRING,
         .target = &settings.to,
         .value_name = "DIR",
         .help = "copy the files there, in place of an earlier version's, and print that folder; without it the folder in the "
                 "cache is printed"},
        {.name = "model",
         .type = OPTION_FLAG,
         .target = &settings.is_model,
         .help = "a base model: all files that an engine reads of it, or the one that the URL names (.gguf, .safetensors)"},
        {.name = "revision",
         .type = OPTION_STRING,
         .target = &settings.revision,
         .value_name = "REV",
         .help = "branch, tag or commit of a repository on the Hugging Face Hub"},
        {.name = "digest",
         .type = OPTION_STRING,
         .target = &settings.digest,
         .value_name = "SHA256",
         .help = "what the weights must be"},
        {.name = "cache",
         .env = "DAVIT_CACHE",
         .type = OPTION_STRING,
         .target = &settings.cache,
         .value_name = "DIR",
         .help = "where artifacts are kept (default $XDG_CACHE_HOME/davit, else ~/.cache/davit)"},
        {.name = "cache-size",
         .env = "DAVIT_CACHE_SIZE",
         .type = OPTION_STRING,
         .target = &settings.cache_size,
         .value_name = "SIZE",
         .help = "above it what was used longest ago is removed, e.g. 20G (default: no limit)"},
        {.name = "secret-file",
         .type = OPTION_STRINGS,
         .target = &settings.secret_files,
         .value_name = "KEY=FILE",
         .help = "a credential as a Secret of the adapter would have it, e.g. token=FILE; may be repeated (default: the "
                 "environment's)"},
        {.name = "max-rank",
         .type = OPTION_INT,
         .target = &settings.max_rank,
         .value_name = "N",
         .help = "refuse adapters of a higher LoRA rank",
         .minimum = 0,
         .maximum = 65536},
        {.name = "offline", .type = OPTION_FLAG, .target = &settings.is_offline, .help = "ask nobody: the cache only"},
        {.name = "allow-pickle",
         .type = OPTION_FLAG,
         .target = &settings.is_pickle_allowed,
         .help = "take adapter_model.bin where there are no safetensors; reading it can run code"},
        {.name = "allow-address",
         .type = OPTION_STRINGS,
         .target = &settings.addresses,
         .value_name = "NET",
         .help = "let URLs lead to a link-local or metadata address, e.g. 169.254.1.0/24; may be repeated"},
        {.name = "ca-file",
         .type = OPTION_STRING,
         .target = &settings.ca_file,
         .value_name = "FILE",
         .help = "certificate authorities to trust beside the system's"},
        {.name = "parts",
         .type = OPTION_INT,
         .target = &settings.parts,
         .value_name = "N",
         .help = "ranges of a large file that are asked for at a time (default 4)",
         .minimum = 0,
         .maximum = 16},
        {.name = "timeout",
         .type = OPTION_DURATION,
         .target = &settings.timeout_ms,
         .value_name = "DURATION",
         .help = "for the whole of it (default 1h)"},
        {.name = "stall-timeout",
         .type = OPTION_DURATION,
         .target = &settings.stall_ms,
         .value_name = "DURATION",
         .help = "without a byte before it is tried again (default 30s)"},
        {.name = "log-level",
         .type = OPTION_STRING,
         .target = &settings.log_level,
         .value_name = "LEVEL",
         .help = "debug, info, warn or error (default warn)"},
        {0},
    };
    static const char *const quiet = "warn";
    settings.log_level = quiet;
    const struct command command = {
        .name = "pull",
        .arguments = "URL [--to DIR] [OPTION...]",
        .description =
            "Brings an adapter's files, or a base model's, from hf://, s3://, gs://, http(s):// or a folder: whole, checked, and "
            "once. A download that was cut goes on.",
        .options = table,
        .log_level = &settings.log_level,
        .arguments_max = 1,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    if (arguments != 1) {
        error_set(&err, ERROR_INVALID, "which adapter? `davit pull hf://org/repo`");
        return command_misused("pull", &err);
    }
    if (check_settings(&settings, &err) < 0) {
        return command_misused("pull", &err);
    }
    int result = 0;
    for (size_t i = 0; i < settings.secret_files.count && result == 0; i++) {
        result = read_secret(&secrets, settings.secret_files.values[i], &err);
    }
    result = result < 0 || check_url(argv[1], &err) < 0 ? -1 : run(&settings, argv[1], &secrets, &err);
    secrets_release(&secrets);
    return result < 0 ? command_failed("pull", &err) : 0;
}
