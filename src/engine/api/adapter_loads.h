/* Loads and unloads of adapters, wherever their files are. A folder goes to the adapter thread at once. What is elsewhere is
 * fetched first, on threads of its own (artifact/pool.h), so that a slow source delays nobody who loads from another place. On the
 * loop's thread. */
#ifndef DAVIT_ENGINE_API_ADAPTER_LOADS_H
#define DAVIT_ENGINE_API_ADAPTER_LOADS_H

#include "artifact/cache/cache.h"
#include "engine/api/adapter_thread.h"

#define ADAPTER_FETCHES_MAX 64

struct adapter_loads;

/* `artifacts` is borrowed; NULL: folders only. Its cache is opened when something is fetched for the first time. */
struct adapter_loads *adapter_loads_new(struct loop *loop, struct engine *engine, const struct artifact_options *artifacts);
/* `job->path` is a lora_path (lora_path.h), `job->folder` is not looked at. ERROR_BUSY when too much is under way, ERROR_NOT_FOUND,
 * ERROR_UNSUPPORTED (nothing can be fetched), ERROR_IO (the cache); on_done is not called then. */
int adapter_loads_submit(struct adapter_loads *loads, const struct adapter_job *job, struct error *err) DAVIT_MUST_USE;
/* Ends what runs and drops the others, as adapter_thread_free. */
void adapter_loads_free(struct adapter_loads *loads);

/* The same for a start, where nobody else waits: blocks until the adapter is loaded. */
int adapter_load_blocking(struct engine *engine, const struct artifact_options *artifacts, const char *name, const char *path,
                          struct error *err) DAVIT_MUST_USE;

#endif
