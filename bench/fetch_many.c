/* Fetches many adapters in one process, as the sidecar does: bench_fetch_many URL COUNT CACHE THREADS asks for URL/0, URL/1, ...
 * and prints seconds and resident memory. For bench/artifact.py. */
#include "artifact/cache/cache.h"
#include "artifact/pool.h"
#include "base/clock.h"
#include "base/log.h"

#include <malloc.h>
#include <string.h>

struct run {
    struct loop *loop;
    struct artifact_pool *pool;
    const char *url;
    long count;
    long next;
    long done;
    long failed;
};

static void start_next(struct run *run);

static void on_fetched(void *arg, const struct artifact_found *found, const struct error *err) {
    struct run *run = arg;
    (void)found;
    if (err != NULL && run->failed++ == 0) {
        (void)fprintf(stderr, "%s\n", err->message);
    }
    run->done++;
    start_next(run);
    if (run->done == run->count) {
        loop_stop(run->loop);
    }
}

static void start_next(struct run *run) {
    struct error err;
    if (run->next == run->count) {
        return;
    }
    cleanup_free char *url = xasprintf("%s/%ld", run->url, run->next++);
    const struct artifact_wanted wanted = {.url = url, .revision = "", .digest = "", .version = ""};
    if (artifact_pool_start(run->pool, &wanted, on_fetched, run, &err) == NULL) {
        run->done++;
        run->failed++;
    }
}

static long resident_kb(const char *name) {
    char line[128];
    long kb = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kb = strtol(line + strlen(name) + 1, NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return kb;
}

int main(int argc, char **argv) {
    struct error err;
    if (argc != 5 || log_init("bench", "warn") < 0) {
        return 2;
    }
    const struct artifact_options options = {.cache = argv[3]};
    struct run run = {.loop = loop_new(), .url = argv[1], .count = strtol(argv[2], NULL, 10)};
    struct artifact_cache *cache = artifact_cache_open(&options, &err);
    if (cache == NULL) {
        (void)fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    unsigned threads = (unsigned)strtoul(argv[4], NULL, 10);
    run.pool = artifact_pool_new(run.loop, cache, threads);
    int64_t started_ms = clock_now_ms();
    for (unsigned i = 0; i < threads; i++) {
        start_next(&run);
    }
    loop_run(run.loop);
    (void)printf("%.3f s, %ld kB at most, %ld kB now, %ld failed\n", (double)(clock_now_ms() - started_ms) / 1000.0,
                 resident_kb("VmHWM"), resident_kb("VmRSS"), run.failed);
    artifact_pool_free(run.pool);
    artifact_cache_close(cache);
    loop_free(run.loop);
    return run.failed == 0 ? 0 : 1;
}
