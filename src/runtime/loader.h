/* Loads and unloads adapters on the engine, one operation per name at a time.
 *
 * A load: fetch and check (artifact/pool.h; that begins at once, whoever's turn it is) -> ask the engine -> "already loaded" means:
 * look at its list; the same root is what was wanted, another root is unloaded and the new one loaded. Callers that ask for the
 * same thing (operation, name, what is wanted, key) while it waits or runs share its result; others wait for their turn. A job goes
 * on when its callers have left: one that asks again finds it further on. What a job that nobody waits for any more failed with is
 * kept for a minute, for the caller that asks again.
 *
 * Nothing is written but the cache: what is loaded is what the engine's list says. So a sidecar that is killed in the middle of a
 * load leaves either nothing or a whole adapter on the engine, and the same load asked again finds which. */
#ifndef DAVIT_RUNTIME_LOADER_H
#define DAVIT_RUNTIME_LOADER_H

#include "adapter/model_adapter.h"
#include "artifact/pool.h"
#include "runtime/engine_client.h"
#include "runtime/residents.h"

#define LOADER_JOBS_MAX 256   /* waiting and running, over all names */
#define LOADER_WAITERS_MAX 64 /* that share one job */
#define LOADER_REVISION_BYTES (MODEL_ADAPTER_REVISION_BYTES - 1)
#define LOADER_REVISIONS_MAX 16384 /* adapters whose revision is kept; of more it is not */

struct loader;
struct loader_waiter;

struct loader_result {
    int status;          /* 200, or the status of the cause */
    bool was_not_loaded; /* unload: there was nothing to unload, which is success all the same (status 200) */
    bool is_engines;     /* the engine refused, or did not answer */
    const char *reason;  /* CamelCase, for errors: "EngineUnreachable", "ArtifactNotFound", ... */
    const char *message; /* the cause in words; for success the engine's own */
    const char *path;    /* of a load that succeeded: what the engine was given */
    const char *version; /* of what was fetched; "" = not known */
    const char *digest;
};
typedef void loader_done(void *arg, const struct loader_result *result);

struct loader_options {
    struct loop *loop;
    const struct engine_client *engine;
    struct artifact_pool *pool;
    struct residents *residents;
    /* A fetch ended; found is NULL when it failed. */
    void (*on_fetched)(void *arg, const struct artifact_found *found, int64_t took_ms);
    void *arg;
};
struct loader *loader_new(const struct loader_options *options); /* everything is borrowed */
void loader_free(struct loader *loader);                         /* cancels everything, without callbacks; before the pool */

struct loader_job {
    bool is_unload;
    const char *name;
    const struct artifact_wanted *wanted; /* load; NULL = the engine is given `path` as it is */
    const char *path;
    bool keeps_files;          /* unload; the next list of the engine decides what becomes of them */
    const char *authorization; /* NULL = none */
    const char *revision;      /* load; of LOADER_REVISION_BYTES, NULL = none was told. Kept with the adapter, decides nothing */
};
/* NULL with *err (ERROR_BUSY) when a bound is reached. Everything is copied. Never calls back before it returns. */
struct loader_waiter *loader_submit(struct loader *loader, const struct loader_job *job, loader_done *on_done, void *arg,
                                    struct error *err) DAVIT_MUST_USE;
/* The waiter wants to hear nothing any more. The job goes on. */
void loader_leave(struct loader_waiter *waiter);
/* How far it is: *ret_state is "waiting", "downloading" or "loading", the result words such as "downloading 41 % of 12.3 MB". Until
 * the loader is called again. */
const char *loader_words(const struct loader_waiter *waiter, const char **ret_state);

/* Each fetch under way, with words as above. */
void loader_show_fetches(const struct loader *loader, void (*show)(void *arg, const char *name, const char *words), void *arg);
/* Shows the revision that each adapter was last loaded with, by name in order of loading. */
void loader_show_revisions(const struct loader *loader, void (*show)(void *arg, const char *name, const char *revision), void *arg);
size_t loader_running(const struct loader *loader); /* jobs, waiting ones included */

#endif
