/* davit cache: what is kept of adapters on this machine. */
#include "artifact/cache/cache.h"
#include "base/clock.h"
#include "cli/artifact_args.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/table.h"

#include <string.h>

struct settings {
    const char *cache;
    const char *keep;
};

static int show(struct artifact_cache *cache, const struct settings *settings, struct error *err) {
    static const char *const headings[] = {"ID", "SIZE", "LAST USED", "IN USE", "FROM", "VERSION", NULL};
    struct artifact_cache_list list;
    struct table table;
    char size[32], used[CLOCK_RFC3339_BYTES];
    cleanup_buffer struct buffer text = BUFFER_INIT;
    (void)settings;
    if (artifact_cache_list(cache, &list, err) < 0) {
        return -1;
    }
    table_init(&table, headings);
    for (size_t i = 0; i < list.count; i++) {
        const struct artifact_cache_entry *entry = &list.items[i];
        artifact_format_bytes(entry->bytes, size, sizeof(size));
        clock_format_rfc3339(entry->used_s * 1000, used);
        table_add(&table, entry->id);
        table_add(&table, size);
        table_add(&table, used);
        table_add(&table, entry->is_in_use ? "yes" : "no");
        table_add(&table, entry->url);
        table_addf(&table, "%.16s", entry->version);
    }
    table_render(&table, &text);
    table_release(&table);
    (void)fputs(list.count > 0 ? buffer_text(&text) : "", stdout);
    artifact_format_bytes(list.bytes, size, sizeof(size));
    (void)fprintf(stderr, "%zu adapters, %s", list.count, size);
    artifact_format_bytes(list.staging_bytes, size, sizeof(size));
    (void)fprintf(stderr, "; %s of downloads that are not whole\n", size);
    artifact_cache_list_release(&list);
    return 0;
}

static int verify(struct artifact_cache *cache, const struct settings *settings, struct error *err) {
    struct artifact_cache_list list;
    size_t bad = 0;
    (void)settings;
    if (artifact_cache_list(cache, &list, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < list.count; i++) {
        struct error problem = {0};
        bool is_fine = artifact_cache_verify(cache, &list.items[i], &problem) == 0;
        bad += is_fine ? 0 : 1;
        (void)printf("%s %s\n", is_fine ? "ok    " : "BROKEN", is_fine ? list.items[i].id : problem.message);
    }
    size_t count = list.count;
    artifact_cache_list_release(&list);
    return bad == 0 ? 0
                    : error_set(err, ERROR_INVALID,
                                "%zu of %zu adapters are not what was fetched; `davit cache prune` removes what is not in use", bad,
                                count);
}

static int prune(struct artifact_cache *cache, const struct settings *settings, struct error *err) {
    uint64_t bytes_max = 0, freed = 0;
    char text[32];
    if (settings->keep != NULL && artifact_parse_bytes(settings->keep, &bytes_max, err) < 0) {
        return error_wrap(err, "--keep");
    }
    int removed = artifact_cache_prune(cache, bytes_max, &freed, err);
    if (removed < 0) {
        return -1;
    }
    artifact_format_bytes(freed, text, sizeof(text));
    (void)printf("removed %d adapter%s, %s\n", removed, removed == 1 ? "" : "s", text);
    return 0;
}

static const struct verb {
    const char *name;
    int (*run)(struct artifact_cache *cache, const struct settings *settings, struct error *err);
} verbs[] = {{"ls", show}, {"verify", verify}, {"prune", prune}};

static int run(const struct verb *verb, const struct settings *settings, struct error *err) {
    cleanup_free char *path = artifact_cache_path(settings->cache, err);
    const struct artifact_options options = {.cache = path};
    struct artifact_cache *cache = path != NULL ? artifact_cache_open(&options, err) : NULL;
    if (cache == NULL) {
        return -1;
    }
    int result = verb->run(cache, settings, err);
    artifact_cache_close(cache);
    return result;
}

int cli_cache(int argc, char **argv) {
    struct settings settings = {0};
    const struct option_spec table[] = {
        {.name = "cache",
         .env = "DAVIT_CACHE",
         .type = OPTION_STRING,
         .target = &settings.cache,
         .value_name = "DIR",
         .help = "where artifacts are kept (default $XDG_CACHE_HOME/davit, else ~/.cache/davit)"},
        {.name = "keep",
         .type = OPTION_STRING,
         .target = &settings.keep,
         .value_name = "SIZE",
         .help = "prune: keep as much of what was used last, e.g. 20G (default 0)"},
        {0},
    };
    const struct command command = {
        .name = "cache",
        .arguments = "ls|verify|prune [OPTION...]",
        .description =
            "Shows what is kept of adapters, reads all of it again, or removes what was used longest ago and is not in use.",
        .options = table,
        .log_level = NULL,
        .arguments_max = 1,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    for (size_t i = 0; i < ARRAY_LEN(verbs) && arguments == 1; i++) {
        if (strcmp(argv[1], verbs[i].name) == 0) {
            return run(&verbs[i], &settings, &err) < 0 ? command_failed("cache", &err) : 0;
        }
    }
    error_set(&err, ERROR_INVALID, "expected ls, verify or prune");
    return command_misused("cache", &err);
}
