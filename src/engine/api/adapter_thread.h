/* One thread that loads and unloads adapters, in the order in which they were asked for: a load reads the disk, which must not stop
 * the network loop. The queue is bounded. */
#ifndef DAVIT_ENGINE_API_ADAPTER_THREAD_H
#define DAVIT_ENGINE_API_ADAPTER_THREAD_H

#include "engine/engine.h"
#include "io/loop.h"

#define ADAPTER_QUEUE_MAX 64

struct adapter_thread;

struct adapter_job {
    bool is_unload;
    bool in_place;
    bool is_lookup;     /* nobody has said that there is such an adapter: when there is none, that is no news */
    const char *name;   /* copied */
    const char *path;   /* copied; as it was asked for; NULL for unload */
    const char *folder; /* copied; where the files are; NULL = `path` */
    /* On the loop's thread, once, unless the thread is freed before. err NULL: done. */
    void (*on_done)(void *arg, const struct error *err);
    void (*on_dropped)(void *arg); /* instead, when the thread is freed before */
    void *arg;
};

struct adapter_thread *adapter_thread_new(struct loop *loop, struct engine *engine);
/* ERROR_BUSY when ADAPTER_QUEUE_MAX jobs wait. */
int adapter_thread_submit(struct adapter_thread *thread, const struct adapter_job *job, struct error *err) DAVIT_MUST_USE;
/* Finishes the job that runs, drops the others, joins. The loop no longer runs. */
void adapter_thread_free(struct adapter_thread *thread);

/* Loads and logs name, rank, bytes and milliseconds; blocks. Also used at start for --lora-modules. `folder` as of a job. */
int adapter_load_now(struct engine *engine, const char *name, const char *path, const char *folder, bool in_place,
                     struct error *err) DAVIT_MUST_USE;

#endif
