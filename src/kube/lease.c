#include "kube/lease.h"

#include "base/clock.h"
#include "base/log.h"
#include "kube/election.h"

#include <stdio.h>
#include <string.h>

#define DURATION_MS 15000
#define RENEW_DEADLINE_MS 10000
#define RETRY_PERIOD_MS 2000
#define HOST_NAME_BYTES 256

struct lease {
    struct lease_options options;
    char *namespace;
    char *name;
    char *identity;
    struct election election;
    struct timer timer;
    struct kube_call *call;
    bool was_told; /* on_started was called, on_stopped not yet */
    void (*on_released)(void *arg);
    void *released_arg;
    int depth; /* lease_free inside of a callback is put off until we are out of it */
    bool is_freed;
};

static struct election_time time_now(void) {
    return (struct election_time){
        .now_ms = clock_boot_ms(), .wall_ms = clock_wall_ms(), .jitter = (double)arc4random_uniform(1000) / 1000};
}

static void destroy(struct lease *lease) {
    election_release(&lease->election);
    free(lease->namespace);
    free(lease->name);
    free(lease->identity);
    free(lease);
}

static void call_out(struct lease *lease, void (*callback)(void *arg), void *arg) {
    lease->depth++;
    callback(arg);
    if (--lease->depth == 0 && lease->is_freed) {
        destroy(lease);
    }
}

/* Tells the owner when leading began or ended. */
static void tell(struct lease *lease) {
    bool is_leading = election_is_held(&lease->election, clock_boot_ms());
    if (is_leading == lease->was_told || lease->election.has_given_up) {
        return;
    }
    lease->was_told = is_leading;
    log_info("lease %s/%s: %s %s (holder: %s)", lease->namespace, lease->name, lease->identity,
             is_leading ? "leads" : "leads no more", election_holder(&lease->election));
    call_out(lease, is_leading ? lease->options.on_started : lease->options.on_stopped, lease->options.arg);
}

static void on_answer(void *arg, json_t *object, const struct error *err);

static void send(struct lease *lease, const struct election_step *step) {
    static const enum kube_verb verbs[] = {
        [ELECTION_READ] = KUBE_GET, [ELECTION_CREATE] = KUBE_CREATE, [ELECTION_UPDATE] = KUBE_UPDATE};
    lease->call = kube_start(lease->options.client, &(struct kube_request){
                                                        .verb = verbs[step->action],
                                                        .resource = &kube_leases,
                                                        .namespace = lease->namespace,
                                                        .name = step->action == ELECTION_CREATE ? NULL : lease->name,
                                                        .body = step->lease,
                                                        .timeout_ms = step->timeout_ms,
                                                        .is_urgent = true,
                                                        .on_done = on_answer,
                                                        .arg = lease,
                                                    });
    json_decref(step->lease);
}

static void advance(struct lease *lease) {
    struct election_time time = time_now();
    struct election_step step = election_next(&lease->election, &time);
    if (step.action != ELECTION_WAIT && step.action != ELECTION_OVER) {
        send(lease, &step);
        step = election_next(&lease->election, &time); /* how long to wait for the answer */
    }
    if (step.action == ELECTION_OVER) {
        kube_call_cancel(take_pointer(lease->call));
        timer_clear(&lease->timer);
        call_out(lease, lease->on_released, lease->released_arg);
        return;
    }
    timer_set(&lease->timer, step.delay_ms);
    tell(lease);
}

static void on_answer(void *arg, json_t *object, const struct error *err) {
    struct lease *lease = arg;
    struct election_time time = time_now();
    lease->call = NULL;
    if (err != NULL && err->code != ERROR_NOT_FOUND) {
        log_debug("lease: %s", err->message);
    }
    election_answer(&lease->election, &time, object, err != NULL ? err->code : ERROR_NONE);
    advance(lease);
}

static void on_timer(void *arg) {
    advance(arg);
}

static char *make_identity(void) {
    char host[HOST_NAME_BYTES] = "";
    (void)gethostname(host, sizeof(host) - 1);
    return xasprintf("%s_%08x%08x", host, arc4random(), arc4random());
}

static int64_t or_default(int64_t value_ms, int64_t default_ms) {
    return value_ms > 0 ? value_ms : default_ms;
}

struct lease *lease_new(const struct lease_options *options, struct error *err) {
    int64_t duration_ms = or_default(options->duration_ms, DURATION_MS);
    int64_t deadline_ms = or_default(options->renew_deadline_ms, RENEW_DEADLINE_MS);
    int64_t retry_ms = or_default(options->retry_period_ms, RETRY_PERIOD_MS);
    if (retry_ms >= deadline_ms || deadline_ms >= duration_ms) {
        error_set(err, ERROR_INVALID,
                  "lease %s/%s: expected retry period < renew deadline < duration, found %lld, %lld and %lld ms",
                  options->namespace, options->name, (long long)retry_ms, (long long)deadline_ms, (long long)duration_ms);
        return NULL;
    }
    struct lease *lease = xcalloc(1, sizeof(*lease));
    lease->options = *options;
    lease->namespace = xstrdup(options->namespace);
    lease->name = xstrdup(options->name);
    lease->identity = options->identity != NULL ? xstrdup(options->identity) : make_identity();
    election_init(&lease->election, &(struct election_options){.namespace = lease->namespace,
                                                               .name = lease->name,
                                                               .identity = lease->identity,
                                                               .duration_ms = duration_ms,
                                                               .renew_deadline_ms = deadline_ms,
                                                               .retry_period_ms = retry_ms});
    timer_init(&lease->timer, kube_client_loop(options->client), on_timer, lease);
    timer_set(&lease->timer, 0);
    return lease;
}

void lease_free(struct lease *lease) {
    if (lease == NULL || lease->is_freed) {
        return;
    }
    kube_call_cancel(take_pointer(lease->call));
    timer_release(&lease->timer);
    lease->is_freed = true;
    if (lease->depth == 0) {
        destroy(lease);
    }
}

void lease_release(struct lease *lease, void (*on_done)(void *arg), void *arg) {
    lease->on_released = on_done;
    lease->released_arg = arg;
    election_give_up(&lease->election, clock_boot_ms());
    timer_set(&lease->timer, 0);
}

bool lease_is_held(const struct lease *lease) {
    return election_is_held(&lease->election, clock_boot_ms());
}

bool lease_may_send(void *lease) {
    return lease_is_held(lease);
}

const char *lease_identity(const struct lease *lease) {
    return lease->identity;
}

const char *lease_holder(const struct lease *lease) {
    return election_holder(&lease->election);
}
