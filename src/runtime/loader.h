/* Loads and unloads adapters on the engine, one operation per name at a time.
 *
 * A load: check what is on disk -> ask the engine -> "already loaded" means: look at its list; the same root is what was wanted,
 * another root is unloaded and the new one loaded. Callers that ask for the same thing (operation, name, path and key) while it
 * waits or runs share its result; others wait for their turn.
 *
 * Nothing is written anywhere: what is loaded is what the engine's list says. So a sidecar that is killed in the middle of a load
 * leaves either nothing or a whole adapter on the engine, and the same load asked again finds which. */
#ifndef DAVIT_RUNTIME_LOADER_H
#define DAVIT_RUNTIME_LOADER_H

#include "runtime/check_thread.h"
#include "runtime/engine_client.h"

#define LOADER_JOBS_MAX 256   /* waiting and running, over all names */
#define LOADER_WAITERS_MAX 64 /* that share one job */
#define LOADER_REVISION_BYTES 16
#define LOADER_REVISIONS_MAX 16384 /* adapters whose revision is kept; of more it is not */

struct loader;
struct loader_waiter;

struct loader_result {
    int status;          /* 200, or the status of the cause */
    bool was_not_loaded; /* unload: there was nothing to unload, which is success all the same (status 200) */
    bool is_engines;     /* the engine refused, or did not answer */
    const char *reason;  /* CamelCase, for errors: "EngineUnreachable", "ArtifactNotFound", ... */
    const char *message; /* the cause in words; for success the engine's own */
};
typedef void loader_done(void *arg, const struct loader_result *result);

struct loader *loader_new(const struct engine_client *engine, struct check_thread *checks); /* both borrowed */
void loader_free(struct loader *loader); /* cancels everything, without callbacks */

struct loader_job {
    bool is_unload;
    const char *name;
    const char *path;          /* load; checked only when it is absolute */
    const char *authorization; /* NULL = none */
    const char *revision;      /* load; of LOADER_REVISION_BYTES, NULL = none was told. Kept with the adapter, decides nothing */
};
/* NULL with *err (ERROR_BUSY) when a bound is reached. Everything is copied. Never calls back before it returns. */
struct loader_waiter *loader_submit(struct loader *loader, const struct loader_job *job, loader_done *on_done, void *arg,
                                    struct error *err) DAVIT_MUST_USE;
/* The waiter wants to hear nothing any more. The job goes on. */
void loader_leave(struct loader_waiter *waiter);
/* Shows the revision that each adapter was last loaded with, by name in order of loading. */
void loader_show_revisions(const struct loader *loader, void (*show)(void *arg, const char *name, const char *revision), void *arg);
size_t loader_running(const struct loader *loader); /* jobs, waiting ones included */

#endif
