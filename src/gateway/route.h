/* A route snapshot: which names can be asked for, and which endpoints answer them. Immutable and reference counted; loops on any
 * thread hold one each and swap it for a newer one. gateway/route_table.h builds them.
 *
 * Names. A base model is the label model.aibrix.ai/name of pods, an adapter the name of a ModelAdapter. Names are global at the
 * gateway, because a request carries nothing else, so of equal names one wins, always the same: a base model before an adapter
 * (engines answer such a name with the base, too), then the oldest adapter (creationTimestamp, then uid: the API server gives
 * both). The others are hidden until it is gone; they are logged once and are davit_gateway_hidden_adapters.
 *
 * So nobody gets hold of a served adapter's name by making a ModelAdapter, in whatever namespace. Who may make pods can: a pod that
 * carries a base model's label is taken for one that serves it, and its label takes the name from an adapter. Where namespaces do
 * not trust one another in that, each gets a gateway of its own (--namespace). */
#ifndef DAVIT_GATEWAY_ROUTE_H
#define DAVIT_GATEWAY_ROUTE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What an address has to do, counted by all loops. It stays when the endpoint object is replaced. */
struct route_load {
    atomic_uint refs;
    atomic_uint outstanding; /* requests under way */
};

/* An engine's address. One object per (host, port) however many models it answers. */
struct route_endpoint {
    atomic_uint refs;
    struct route_load *load;
    char *host; /* numeric address */
    int port;
    char *pod;      /* name, "" when unknown */
    char *base;     /* base model of the pod, "" when unknown */
    bool is_sglang; /* wants adapters as base:adapter, and answers a bare adapter name with the base */
};

struct route_model {
    atomic_uint refs;
    char *name;
    bool is_adapter;
    char *root;   /* where it comes from, without user info and query; the name for a base model */
    char *parent; /* base model of an adapter, "" when unknown; NULL for a base model */
    int64_t created_s;
    bool is_ending;        /* its endpoints still serve and are about to go: there are no others */
    size_t endpoint_count; /* may be 0: known, and nobody to answer now */
    size_t endpoint_room;
    char **engine_names; /* by endpoint: what its engine calls the model; NULL, or NULL for all = `name` */
    struct route_endpoint *endpoints[];
};

struct route_snapshot {
    atomic_uint refs;
    size_t count;
    struct route_model **models; /* base models, then adapters, each in byte order of names */
    size_t slot_count;
    uint32_t *slots; /* index into models + 1, by hash of the name */
};

/* NULL when nothing has this name. Borrowed from the snapshot. */
const struct route_model *route_find(const struct route_snapshot *snapshot, const char *name);

/* What the endpoint's engine calls the model: its own name for it if it has one, else the model's name. (SGLang wants base:that.)
 */
const char *route_engine_name(const struct route_model *model, const struct route_endpoint *endpoint);

/* Any thread. */
struct route_snapshot *route_snapshot_ref(struct route_snapshot *snapshot);
void route_snapshot_unref(struct route_snapshot *snapshot); /* NULL is fine */

/* For the builder. `models` are taken over, as are their references. */
struct route_snapshot *route_snapshot_new(struct route_model **models, size_t count);
struct route_model *route_model_new(const char *name, size_t endpoint_room);
/* Takes over the reference; there is room. One that is there already is not added again. `engine_name`: NULL or "" = the model's.
 */
void route_model_add(struct route_model *model, struct route_endpoint *endpoint, const char *engine_name);
/* Puts the endpoint in place of the i-th, and takes over the reference. */
void route_model_replace(struct route_model *model, size_t i, struct route_endpoint *endpoint);
struct route_model *route_model_ref(struct route_model *model);
void route_model_unref(struct route_model *model);
/* `load`: NULL = a new one. The other members are the caller's to set. */
struct route_endpoint *route_endpoint_new(struct route_load *load);
struct route_endpoint *route_endpoint_ref(struct route_endpoint *endpoint);
void route_endpoint_unref(struct route_endpoint *endpoint);

#endif
