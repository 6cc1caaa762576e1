/* The controller: keeps engines, Services, EndpointSlices and the status of ModelAdapters as the objects say.
 *
 *   watch caches, polls of pods -> world.c -> plan.c (pure) -> act.c (engines), write.c (API)
 *
 * controller_run() owns its loop and returns when it is told to stop by SIGTERM or SIGINT. */
#ifndef DAVIT_CONTROLLER_CONTROLLER_H
#define DAVIT_CONTROLLER_CONTROLLER_H

#include "adapter/placement.h"
#include "base/error.h"
#include "controller/plan.h"
#include "controller/route_objects.h"

struct controller_options {
    const char *kubeconfig; /* NULL = see kube/config.h */
    const char *namespace;  /* NULL = all */
    bool enable_sidecar;
    bool has_engine_names; /* a name for each revision, where the engine keys its prefix cache by names; else the adapter's own */
    enum proof_mode proof;
    enum placement_policy policy;
    int64_t poll_period_ms;
    const char *metrics_address; /* "host:port", ":port", "0" or "" = none */
    const char *health_address;
    int calls_max;   /* of the Kubernetes API at once */
    bool has_routes; /* keeps HTTPRoutes and ReferenceGrants where the Gateway API is installed */
    struct route_options routes;
    /* Of several controllers one acts: the holder of a Lease. A controller that loses it ends (ERROR_CONFLICT). */
    bool elects_leader;
    const char *lease_namespace; /* NULL = the namespace that the configuration gives */
    const char *lease_name;
    int64_t lease_duration_ms, renew_deadline_ms, retry_period_ms; /* 0 = kube/lease.h's */
};

int controller_run(const struct controller_options *options, struct error *err) DAVIT_MUST_USE;

/* Makes the adapter due now, or after a while. */
struct controller;
void controller_wake(struct controller *controller, const char *key, int64_t delay_ms);
/* A pod has become free: the next adapter that waits for it is looked at. */
struct pod;
void controller_pod_is_free(struct controller *controller, struct pod *pod);

#endif
