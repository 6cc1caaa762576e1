/* From Kubernetes objects to route snapshots. Pure: objects go in as they change, snapshots come out.
 *
 * Who answers:
 * - a base model: the pods with the label model.aibrix.ai/name that are Ready and not being deleted, at their podIP and the port of
 *   the label model.aibrix.ai/port (else 8000);
 * - an adapter: the endpoints (ready not false) of the EndpointSlices that are labelled with its Service's name and owned by the
 *   ModelAdapter (any number of slices, of both address families), less those whose pod is known to be not Ready, going or gone.
 *   Pods are found by targetRef, else by address. A pod without the label above is not watched, and its endpoint is taken on the
 *   slice's word. A pod is one endpoint however many slices and addresses name it.
 * Only where that gives nobody, those are asked that still serve and are about to go: Ready pods that are being deleted, endpoints
 * that are serving and terminating.
 *
 * Cost: a change marks what depends on it; a build makes those models anew and shares all others with the snapshot before. */
#ifndef DAVIT_GATEWAY_ROUTE_TABLE_H
#define DAVIT_GATEWAY_ROUTE_TABLE_H

#include "base/json.h"
#include "gateway/route.h"

#define ROUTE_GONE_PODS_MAX 4096 /* deleted pods that are remembered, so that a slice which still names one is not believed */

struct route_table;

struct route_table *route_table_new(void);
void route_table_free(struct route_table *table);

/* The object as it is now; NULL = it was deleted. True when a new snapshot is due: most changes of a pod's status are not. */
bool route_table_set_pod(struct route_table *table, const char *namespace, const char *name, const json_t *pod);
bool route_table_set_adapter(struct route_table *table, const char *namespace, const char *name, const json_t *adapter);
bool route_table_set_slice(struct route_table *table, const char *namespace, const char *name, const json_t *slice);

struct route_snapshot *route_table_build(struct route_table *table);

/* Adapters that cannot be asked for, since their name is another's (see gateway/route.h). */
#define ROUTE_HIDDEN_BY_BASE "" /* `by` when a base model has the name */
struct route_hidden {
    const char *namespace;
    const char *name;
    const char *by; /* the namespace of the adapter that has the name */
    bool is_new;    /* it was not so at the build before */
};
/* As of the last build; borrowed until the table changes. */
const struct route_hidden *route_table_hidden(const struct route_table *table, size_t *ret_count);

#endif
