/* Leader election among processes by a Lease (coordination.k8s.io/v1), on the loop. What decides is kube/election.h.
 *
 *   lease_new ... on_started -> act, each time only if lease_is_held() ... on_stopped -> stop acting
 *   shutting down: stop acting, lease_release(lease, on_released, arg), then lease_free
 *
 * A process that was frozen (SIGSTOP, a paused virtual machine, a starved host) wakes up with its timers late: on_stopped comes at
 * the loop's next turn, but whatever acts before must ask lease_is_held(), which reads the clock each time. For a request that
 * waits for a connection, hand lease_may_send to transfer_request.may_send, or to kube_client_guard_writes: it is asked at the
 * moment of sending. */
#ifndef DAVIT_KUBE_LEASE_H
#define DAVIT_KUBE_LEASE_H

#include "kube/client.h"

struct lease;

struct lease_options {
    struct kube_client *client;
    const char *namespace; /* the strings are copied */
    const char *name;
    const char *identity;          /* NULL = "<host name>_<random>" */
    int64_t duration_ms;           /* 0 = 15 s; written in whole seconds, rounded up */
    int64_t renew_deadline_ms;     /* 0 = 10 s */
    int64_t retry_period_ms;       /* 0 = 2 s */
    void (*on_started)(void *arg); /* leads from now on */
    /* Lost: renewing failed until the deadline, or somebody else holds the lease. The lease goes on as a candidate, on_started may
     * come again; lease_free may be called from here. */
    void (*on_stopped)(void *arg);
    void *arg;
};

/* Starts campaigning at the loop's next turn. NULL and ERROR_INVALID unless retry period < renew deadline < duration. */
struct lease *lease_new(const struct lease_options *options, struct error *err) DAVIT_MUST_USE;
/* Does not give the lease back: other candidates wait until it has run out. */
void lease_free(struct lease *lease);
/* Gives the lease back if it is held (clears holderIdentity), so that another candidate takes it at its next try. lease_is_held is
 * false from here on and on_stopped is not called. on_done: once, at a later turn, after at most the renew deadline, whether or not
 * the API took it; lease_free may be called from it. */
void lease_release(struct lease *lease, void (*on_done)(void *arg), void *arg);

/* Whether this process leads at this moment, by a clock that counts suspended time (CLOCK_BOOTTIME). */
bool lease_is_held(const struct lease *lease);
/* The same, as a callback: `lease` is a struct lease. */
bool lease_may_send(void *lease);
const char *lease_identity(const struct lease *lease);
const char *lease_holder(const struct lease *lease); /* as last seen, "" when nobody; borrowed until the loop's next turn */

#endif
