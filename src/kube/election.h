/* Who leads, decided without I/O: Lease objects and a clock in, what to send out. The rules are those of client-go's leader
 * election (k8s.io/client-go/tools/leaderelection), so that ours and others' candidates get along:
 *
 *   - A candidate takes a lease that has no holder, or whose spec it has not seen change for leaseDurationSeconds by its own clock.
 * Times written in the Lease are for people; clocks of two machines are never compared.
 *   - The leader renews every retry period. It leads until `renew_deadline_ms` after the moment at which it *began* the last
 * renewal that succeeded. Since that is shorter than the lease's duration, it has stopped before another candidate may start.
 *   - Every write carries the resourceVersion that was read: of two that write at once, one is refused.
 *
 * Beyond client-go: a lease that vanishes (deleted by hand) while its holder was alive is made anew only after its duration. */
#ifndef DAVIT_KUBE_ELECTION_H
#define DAVIT_KUBE_ELECTION_H

#include "base/json.h"

struct election_options {
    const char *namespace; /* the strings are borrowed and outlive the election */
    const char *name;
    const char *identity; /* of this candidate alone: a pod's name and something random */
    int64_t duration_ms;
    int64_t renew_deadline_ms; /* < duration_ms */
    int64_t retry_period_ms;   /* < renew_deadline_ms */
};

enum election_action {
    ELECTION_WAIT,   /* ask again after delay_ms, or when the answer is there */
    ELECTION_READ,   /* GET the Lease */
    ELECTION_CREATE, /* POST `lease` */
    ELECTION_UPDATE, /* PUT `lease` */
    ELECTION_OVER,   /* given up: released, or there is nothing to release */
};

struct election {
    struct election_options options;
    json_t *observed;           /* the Lease as last seen; NULL = none was ever seen */
    int64_t observed_ms;        /* when its spec was first seen as it is, or when it vanished */
    bool is_missing;            /* the API said that there is no such Lease */
    bool must_read;             /* what we know may be old */
    bool is_leading;            /* until deadline_ms, if nothing is renewed */
    bool has_given_up;          /* nothing is acquired any more */
    enum election_action asked; /* READ, CREATE or UPDATE: its answer is due; WAIT: none is */
    int64_t asked_ms;           /* when that call began */
    int64_t next_attempt_ms;    /* nothing is sent before */
    int64_t deadline_ms;        /* of leading; of giving back after election_give_up */
};

/* Time as a step sees it. `now_ms`: monotonic, counting suspended time. `wall_ms`: for what people read. `jitter`: random, 0 to 1.
 */
struct election_time {
    int64_t now_ms;
    int64_t wall_ms;
    double jitter;
};

struct election_step {
    enum election_action action;
    int64_t delay_ms;   /* of WAIT */
    int64_t timeout_ms; /* of a call */
    json_t *lease;      /* the caller's; NULL for WAIT, READ and OVER */
};

void election_init(struct election *election, const struct election_options *options);
void election_release(struct election *election); /* the memory; see election_give_up for the Lease */

/* What to do now. Each READ, CREATE and UPDATE is followed by exactly one election_answer. */
struct election_step election_next(struct election *election, const struct election_time *time);
/* `lease`: what the API answered, borrowed; NULL when it refused or was silent, then `code` says why. */
void election_answer(struct election *election, const struct election_time *time, const json_t *lease, enum error_code code);
/* Leads at this moment. */
bool election_is_held(const struct election *election, int64_t now_ms);
/* No more campaigning, and not held from here on. election_next gives the lease back if it is ours, then says OVER, after a renew
 * deadline at the latest. */
void election_give_up(struct election *election, int64_t now_ms);
/* The holder as last seen, "" when there is none. Borrowed until the next answer. */
const char *election_holder(const struct election *election);

#endif
