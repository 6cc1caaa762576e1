#include "engine/api/adapter_loads.h"

#include "adapter/artifact_url.h"
#include "artifact/pool.h"
#include "base/log.h"
#include "engine/api/lora_path.h"
#include "io/url.h"

#include <string.h>

#define FETCH_THREADS 4

/* A job, from when it is asked for until it is done. */
struct load {
    struct adapter_loads *loads;
    struct load *next;
    struct load **link;
    struct adapter_job job;         /* the caller's; name and path are owned */
    struct artifact_ticket *ticket; /* while it is fetched */
    char *folder;                   /* in the cache, in use until it is loaded; NULL when it is elsewhere */
};

struct adapter_loads {
    struct adapter_thread *thread;
    struct loop *loop;
    const struct artifact_options *artifacts;
    struct artifact_cache *cache; /* NULL until something is fetched */
    struct artifact_pool *pool;   /* with `cache` */
    struct load *first;
    int fetching;
};

static struct load *load_new(struct adapter_loads *loads, const struct adapter_job *job) {
    struct load *load = xcalloc(1, sizeof(*load));
    load->loads = loads;
    load->job = *job;
    load->job.name = xstrdup(job->name);
    load->job.path = job->path != NULL ? xstrdup(job->path) : NULL;
    load->next = loads->first;
    load->link = &loads->first;
    if (load->next != NULL) {
        load->next->link = &load->next;
    }
    loads->first = load;
    return load;
}

static void load_free(struct load *load) {
    *load->link = load->next;
    if (load->next != NULL) {
        load->next->link = load->link;
    }
    if (load->folder != NULL) {
        artifact_cache_unuse(load->loads->cache, load->folder);
    }
    free(load->folder);
    free((char *)load->job.name);
    free((char *)load->job.path);
    free(load);
}

static void finish(void *arg, const struct error *err) {
    struct load *load = arg;
    struct adapter_job job = load->job;
    load_free(load);
    job.on_done(job.arg, err);
}

static void drop(void *arg) {
    struct load *load = arg;
    struct adapter_job job = load->job;
    load_free(load);
    job.on_dropped(job.arg);
}

/* ---- from folder to engine ---- */

static int submit_folder(struct load *load, const char *folder, struct error *err) {
    struct adapter_job job = load->job;
    job.folder = folder;
    job.on_done = finish;
    job.on_dropped = drop;
    job.arg = load;
    return adapter_thread_submit(load->loads->thread, &job, err);
}

/* ---- from elsewhere to a folder ---- */

static void on_fetched(void *arg, const struct artifact_found *found, const struct error *err) {
    struct load *load = arg;
    struct error problem = {0};
    load->ticket = NULL;
    load->loads->fetching--;
    if (err != NULL) {
        problem = *err;
        problem.code = err->code == ERROR_LIMIT ? ERROR_INVALID : err->code; /* a limit of size: here no wait makes room */
        if (!load->job.is_lookup) {
            cleanup_free char *shown = url_for_people(load->job.path);
            log_warn("adapter \"%s\" not fetched from %s: %s", load->job.name, shown, err->message);
        }
        finish(load, &problem);
        return;
    }
    load->folder = xstrdup(found->folder);
    artifact_cache_use(load->loads->cache, load->folder);
    if (submit_folder(load, load->folder, &problem) < 0) {
        finish(load, &problem);
    }
}

static int check_artifacts(const struct artifact_options *artifacts, struct error *err) {
    return artifacts != NULL && artifacts->cache != NULL
               ? 0
               : error_set(err, ERROR_UNSUPPORTED,
                           "this engine has no folder to keep what it fetches (--artifact-cache): it loads adapters "
                           "from folders only");
}

static int open_cache(struct adapter_loads *loads, struct error *err) {
    if (loads->cache != NULL) {
        return 0;
    }
    if (check_artifacts(loads->artifacts, err) < 0) {
        return -1;
    }
    loads->cache = artifact_cache_open(loads->artifacts, err);
    loads->pool = loads->cache != NULL ? artifact_pool_new(loads->loop, loads->cache, FETCH_THREADS) : NULL;
    return loads->cache != NULL ? 0 : -1;
}

static int start_fetch(struct load *load, const char *url, struct error *err) {
    struct adapter_loads *loads = load->loads;
    struct artifact_wanted wanted = {.url = url, .revision = "", .digest = "", .version = ""};
    if (open_cache(loads, err) < 0) {
        return -1;
    }
    if (loads->fetching >= ADAPTER_FETCHES_MAX) {
        return error_set(err, ERROR_BUSY, "%d adapters are being fetched already", ADAPTER_FETCHES_MAX);
    }
    load->ticket = artifact_pool_start(loads->pool, &wanted, on_fetched, load, err);
    loads->fetching += load->ticket != NULL ? 1 : 0;
    return load->ticket != NULL ? 0 : -1;
}

/* ---- both ---- */

static int start_load(struct load *load, struct error *err) {
    if (load->job.is_unload) {
        return submit_folder(load, NULL, err);
    }
    struct lora_place place;
    if (lora_place_find(load->job.path, &place, err) < 0) {
        return -1;
    }
    char *shown = artifact_shown_url(load->job.path); /* from here on it only goes into lists and logs */
    free((char *)load->job.path);
    load->job.path = shown;
    int result = place.url != NULL ? start_fetch(load, place.url, err) : submit_folder(load, place.folder, err);
    lora_place_release(&place);
    return result;
}

int adapter_loads_submit(struct adapter_loads *loads, const struct adapter_job *job, struct error *err) {
    struct load *load = load_new(loads, job);
    if (start_load(load, err) < 0) {
        load_free(load);
        return -1;
    }
    return 0;
}

struct adapter_loads *adapter_loads_new(struct loop *loop, struct engine *engine, const struct artifact_options *artifacts) {
    struct adapter_loads *loads = xcalloc(1, sizeof(*loads));
    loads->loop = loop;
    loads->thread = adapter_thread_new(loop, engine);
    loads->artifacts = artifacts;
    return loads;
}

void adapter_loads_free(struct adapter_loads *loads) {
    if (loads->pool != NULL) {
        artifact_pool_free(loads->pool);
    }
    adapter_thread_free(loads->thread);
    while (loads->first != NULL) { /* what was being fetched */
        drop(loads->first);
    }
    if (loads->cache != NULL) {
        artifact_cache_close(loads->cache);
    }
    free(loads);
}

/* ---- at the start ---- */

static int fetch_and_load(struct engine *engine, struct artifact_cache *cache, const char *name, const char *path, const char *url,
                          struct error *err) {
    struct artifact_wanted wanted = {.url = url, .revision = "", .digest = "", .version = ""};
    struct artifact_progress progress = {0};
    struct artifact_found found;
    if (artifact_fetch(cache, &wanted, &progress, &found, err) < 0) {
        return -1;
    }
    artifact_cache_use(cache, found.folder);
    cleanup_free char *shown = artifact_shown_url(path);
    int result = adapter_load_now(engine, name, shown, found.folder, false, err);
    artifact_cache_unuse(cache, found.folder);
    artifact_found_release(&found);
    return result;
}

static int open_fetch_and_load(struct engine *engine, const struct artifact_options *artifacts, const char *name, const char *path,
                               const char *url, struct error *err) {
    if (check_artifacts(artifacts, err) < 0) {
        return -1;
    }
    struct artifact_cache *cache = artifact_cache_open(artifacts, err);
    int result = cache != NULL ? fetch_and_load(engine, cache, name, path, url, err) : -1;
    if (cache != NULL) {
        artifact_cache_close(cache);
    }
    return result;
}

int adapter_load_blocking(struct engine *engine, const struct artifact_options *artifacts, const char *name, const char *path,
                          struct error *err) {
    struct lora_place place;
    if (lora_place_find(path, &place, err) < 0) {
        return -1;
    }
    int result = place.url != NULL ? open_fetch_and_load(engine, artifacts, name, path, place.url, err)
                                   : adapter_load_now(engine, name, path, place.folder, false, err);
    lora_place_release(&place);
    return result;
}
