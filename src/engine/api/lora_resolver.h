/* --lora-resolver-dir: an inference request whose model nobody knows is looked up as an adapter, `base`/<model>, and loaded under
 * that name. As vLLM's resolver plugins do, but for the base model's name in adapter_config.json: what is compared is the shapes.
 *
 * One lookup a name, however many requests wait for it; a bounded number of lookups at a time; what was not found is remembered for
 * some seconds, so that a client that insists costs nothing. Adapters that were loaded so stay until they are unloaded: their
 * number is bounded by --max-cpu-loras. Not for several threads. */
#ifndef DAVIT_ENGINE_API_LORA_RESOLVER_H
#define DAVIT_ENGINE_API_LORA_RESOLVER_H

#include "engine/api/adapter_thread.h"

#define LOOKUPS_MAX 16
#define LOOKUP_WAITERS_MAX 1024 /* of all lookups */
#define LOOKUP_MISSES_MAX 256
#define LOOKUP_MISS_MS 5000
#define LOOKUP_NAME_BYTES_MAX 253

struct lora_resolver;
struct lora_lookup;

struct lora_resolver_options {
    const char *base;                                                         /* a folder, or a URL; borrowed */
    int (*load)(void *arg, const struct adapter_job *job, struct error *err); /* adapter_loads_submit */
    void *load_arg;
    int64_t (*now_ms)(void); /* monotonic */
};

/* Whether a name may become a part of a path: up to four parts, each of letters, digits, '.', '_' and '-' and not beginning with
 * '.' or
 * '-'. */
bool lora_resolver_is_name(const char *name);

struct lora_resolver *lora_resolver_new(const struct lora_resolver_options *options);
/* Whoever waits is gone by then, and so are the loads. */
void lora_resolver_free(struct lora_resolver *resolver);

/* One that waits; embedded in its owner, which stays where it is. */
struct lora_waiter {
    void (*on_done)(void *arg, const struct error *err); /* err NULL: the adapter is there */
    void *arg;
    struct lora_lookup *lookup; /* NULL = does not wait */
    struct lora_waiter *next;
};

/* 0: on_done follows, not before this returns. -1, no callback: ERROR_NOT_FOUND (no name for an adapter, or looked for in vain just
 * now), ERROR_BUSY, or what the last lookup ended with. */
int lora_resolver_ask(struct lora_resolver *resolver, const char *name, struct lora_waiter *waiter,
                      struct error *err) DAVIT_MUST_USE;
/* No callback follows; the lookup goes on. */
void lora_resolver_leave(struct lora_waiter *waiter);

#endif
