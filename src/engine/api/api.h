/* The engine's HTTP API, in the dialect of vLLM 0.32: one network loop, and one
 * thread for adapter loads, which block on the disk. Everything here is called on the loop's thread. */
#ifndef DAVIT_ENGINE_API_API_H
#define DAVIT_ENGINE_API_API_H

#include "base/error.h"
#include "engine/engine.h"
#include "io/loop.h"

struct api;
struct artifact_options;

struct api_options {
    struct loop *loop;
    struct engine *engine;
    const char *const *served_names; /* at least one; the first is the one answers show */
    size_t served_name_count;
    const char *model_root;      /* what /v1/models gives as the base model's root */
    const char *const *api_keys; /* none = open */
    size_t api_key_count;
    const struct artifact_options *artifacts; /* for adapters that are not folders; NULL = folders only */
    const char *resolver_base;                /* where unknown models are looked up as adapters; NULL = nowhere */
    bool runtime_lora;                        /* false: the routes to load and unload do not exist */
    int max_loras;                            /* as told in metrics */
    int max_cpu_loras;
    int max_lora_rank;
    const char *version;
};

/* The texts are borrowed and outlive the api. */
struct api *api_new(const struct api_options *options);
int api_listen(struct api *api, const char *address, int port, int *ret_port, struct error *err) DAVIT_MUST_USE;
/* Stops accepting; what runs goes on. */
void api_drain(struct api *api);
/* Requests that are not yet answered. */
int api_open_requests(const struct api *api);
/* Ends what runs with an error that the client can tell from a short answer: 503, or an SSE error event. */
void api_abort(struct api *api);
/* Cuts what is open and joins the adapter thread. Then comes engine_free (which ends what runs), then api_free. */
void api_stop(struct api *api);
void api_free(struct api *api);

#endif
