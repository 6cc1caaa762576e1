/* Writes of HTTPRoutes and ReferenceGrants: one under way of each key at most, and what became of the last. What fails backs off,
 * each by itself or, where the cause concerns all, together. Keys: "namespace/name" of an adapter's route, "namespace/" of a grant.
 */
#ifndef DAVIT_CONTROLLER_ROUTE_WRITES_H
#define DAVIT_CONTROLLER_ROUTE_WRITES_H

#include "io/metrics.h"
#include "kube/client.h"

struct route_writes;

struct route_written {
    const char *key;
    const struct kube_resource *resource;
    json_t *object;          /* as the API has it now; NULL = deleted, or it failed */
    const struct error *err; /* NULL = it succeeded */
    /* The failure is another than the key's last, and none that passes by itself (somebody was faster, the API is away). */
    bool is_news;
    bool may_be_gone; /* the kind or the namespace that was written to is not there */
};

struct route_writes_setup {
    struct kube_client *kube;
    struct metric *count; /* label: kind */
    void (*on_written)(void *arg, const struct route_written *written);
    void *arg;
};

struct route_write {
    const char *key;
    const struct kube_resource *resource; /* kube_http_routes or kube_reference_grants */
    const char *namespace;
    const json_t *found; /* what is there; NULL = it is created */
    const json_t *body;  /* object or merge patch; NULL = what is there is deleted */
};

struct route_writes *route_writes_new(const struct route_writes_setup *setup);
void route_writes_free(struct route_writes *writes);
/* None of the key may be running. */
void route_writes_start(struct route_writes *writes, const struct route_write *write);
int route_writes_running(const struct route_writes *writes);
bool route_writes_is_running(const struct route_writes *writes, const char *key);
/* When the key may be written, in clock_now_ms(); it may be in the past. */
int64_t route_writes_due_ms(const struct route_writes *writes, const char *key);
/* Whether `found`, as a cache has it, is what was deleted: the watch has not told yet. */
bool route_writes_has_deleted(const struct route_writes *writes, const char *key, const json_t *found);
/* There is nothing to write of the key: failures are forgotten. One that runs goes on. */
void route_writes_forget(struct route_writes *writes, const char *key);
void route_writes_forget_all(struct route_writes *writes);

#endif
