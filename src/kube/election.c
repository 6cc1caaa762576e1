#include "kube/election.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

#define JITTER_FACTOR 1.2 /* client-go's: waits of candidates are 1 to 2.2 retry periods */
#define RELEASED_DURATION_SECONDS 1

void election_init(struct election *election, const struct election_options *options) {
    *election = (struct election){.options = *options, .must_read = true};
}

void election_release(struct election *election) {
    json_decref(election->observed);
    election->observed = NULL;
}

const char *election_holder(const struct election *election) {
    return election->is_missing ? "" : json_string_at(election->observed, "spec.holderIdentity", "");
}

bool election_is_held(const struct election *election, int64_t now_ms) {
    return election->is_leading && now_ms < election->deadline_ms;
}

static bool is_ours(const struct election *election) {
    return strcmp(election_holder(election), election->options.identity) == 0;
}

/* How long a silent holder is believed to be alive: what it wrote itself, since its own deadline goes with that. */
static int64_t observed_duration_ms(const struct election *election) {
    int64_t seconds = json_int_at(election->observed, "spec.leaseDurationSeconds", 0);
    return seconds > 0 ? seconds * 1000 : election->options.duration_ms;
}

/* The moment from which the lease may be taken from whoever holds it (or held it when it vanished). */
static int64_t free_from_ms(const struct election *election) {
    const char *holder = json_string_at(election->observed, "spec.holderIdentity", "");
    if (holder[0] == '\0' || strcmp(holder, election->options.identity) == 0) {
        return 0;
    }
    return election->observed_ms + observed_duration_ms(election);
}

/* ---- what is written ---- */

/* metav1.MicroTime: exactly six digits. */
static json_t *micro_time(int64_t wall_ms) {
    char text[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339_ms(wall_ms, text);
    return json_sprintf("%.*s000Z", (int)strcspn(text, "Z"), text);
}

static json_t *new_lease(const struct election *election) {
    return json_pack("{s:s, s:s, s:{s:s, s:s}, s:{}}", "apiVersion", "coordination.k8s.io/v1", "kind", "Lease", "metadata", "name",
                     election->options.name, "namespace", election->options.namespace, "spec");
}

/* The observed Lease with everything that others put there, or a new one; and its spec. */
static json_t *lease_to_write(const struct election *election, json_t **ret_spec) {
    json_t *lease = election->is_missing ? new_lease(election) : json_deep_copy(election->observed);
    json_t *spec = json_object_get(lease, "spec");
    if (!json_is_object(spec)) {
        spec = json_object();
        json_object_set_new(lease, "spec", spec);
    }
    *ret_spec = spec;
    return lease;
}

static json_t *lease_as_holder(const struct election *election, const struct election_time *time) {
    json_t *spec = NULL;
    json_t *lease = lease_to_write(election, &spec);
    if (!is_ours(election)) {
        int64_t transitions = json_int_at(spec, "leaseTransitions", -1); /* of a new one: 0 */
        json_object_set_new(spec, "holderIdentity", json_string(election->options.identity));
        json_object_set_new(spec, "acquireTime", micro_time(time->wall_ms));
        json_object_set_new(spec, "leaseTransitions", json_integer(transitions + 1));
    }
    json_object_set_new(spec, "leaseDurationSeconds", json_integer((election->options.duration_ms + 999) / 1000));
    json_object_set_new(spec, "renewTime", micro_time(time->wall_ms));
    return lease;
}

static json_t *lease_without_holder(const struct election *election, const struct election_time *time) {
    json_t *spec = NULL;
    json_t *lease = lease_to_write(election, &spec);
    json_object_del(spec, "holderIdentity");
    json_object_set_new(spec, "leaseDurationSeconds", json_integer(RELEASED_DURATION_SECONDS));
    json_object_set_new(spec, "renewTime", micro_time(time->wall_ms));
    return lease;
}

/* ---- steps ---- */

static struct election_step wait_until(const struct election *election, const struct election_time *time, int64_t until_ms) {
    if ((election->is_leading || election->has_given_up) && election->deadline_ms < until_ms) {
        until_ms = election->deadline_ms;
    }
    int64_t delay_ms = until_ms - time->now_ms;
    return (struct election_step){.action = ELECTION_WAIT, .delay_ms = delay_ms > 0 ? delay_ms : 0};
}

/* No call may take the time of a second try. */
static struct election_step ask(struct election *election, const struct election_time *time, enum election_action action,
                                json_t *lease) {
    election->asked = action;
    election->asked_ms = time->now_ms;
    return (struct election_step){.action = action, .timeout_ms = (election->options.renew_deadline_ms + 1) / 2, .lease = lease};
}

static void put_off(struct election *election, const struct election_time *time) {
    int64_t period_ms = election->options.retry_period_ms;
    int64_t spread_ms = election->is_leading ? 0 : (int64_t)(JITTER_FACTOR * time->jitter * (double)period_ms);
    election->next_attempt_ms = time->now_ms + period_ms + spread_ms;
}

static struct election_step step_of_candidate(struct election *election, const struct election_time *time) {
    int64_t free_ms = free_from_ms(election);
    if (time->now_ms >= free_ms) {
        return ask(election, time, election->is_missing ? ELECTION_CREATE : ELECTION_UPDATE, lease_as_holder(election, time));
    }
    put_off(election, time);
    if (free_ms < election->next_attempt_ms) {
        election->next_attempt_ms = free_ms;
    }
    election->must_read = true;
    return wait_until(election, time, election->next_attempt_ms);
}

static struct election_step step_of_leaver(struct election *election, const struct election_time *time) {
    bool has_nothing = election->observed == NULL || (!election->must_read && !is_ours(election));
    if (has_nothing) {
        return (struct election_step){.action = ELECTION_OVER};
    }
    if (time->now_ms < election->next_attempt_ms) {
        return wait_until(election, time, election->next_attempt_ms);
    }
    return election->must_read ? ask(election, time, ELECTION_READ, NULL)
                               : ask(election, time, ELECTION_UPDATE, lease_without_holder(election, time));
}

struct election_step election_next(struct election *election, const struct election_time *time) {
    if (election->is_leading && time->now_ms >= election->deadline_ms) {
        election->is_leading = false;
        election->must_read = true;
    }
    if (election->has_given_up && time->now_ms >= election->deadline_ms) {
        return (struct election_step){.action = ELECTION_OVER};
    }
    if (election->asked != ELECTION_WAIT) {
        return wait_until(election, time, election->asked_ms + election->options.renew_deadline_ms);
    }
    if (election->has_given_up) {
        return step_of_leaver(election, time);
    }
    if (time->now_ms < election->next_attempt_ms) {
        return wait_until(election, time, election->next_attempt_ms);
    }
    if (election->must_read) {
        return ask(election, time, ELECTION_READ, NULL);
    }
    if (election->is_leading) {
        return ask(election, time, election->is_missing ? ELECTION_CREATE : ELECTION_UPDATE, lease_as_holder(election, time));
    }
    return step_of_candidate(election, time);
}

/* ---- answers ---- */

static void observe(struct election *election, const struct election_time *time, const json_t *lease) {
    const json_t *before = json_object_get(election->observed, "spec");
    bool is_same = !election->is_missing && before != NULL && json_equal(before, json_object_get(lease, "spec"));
    json_decref(election->observed);
    election->observed = json_deep_copy(lease);
    election->is_missing = false;
    election->must_read = false;
    if (!is_same) {
        election->observed_ms = time->now_ms;
    }
    if (!is_ours(election)) {
        election->is_leading = false;
    }
}

/* A Lease that vanishes is no proof that its holder stopped: it counts as a change. */
static void observe_missing(struct election *election, const struct election_time *time) {
    if (!election->is_missing) {
        election->observed_ms = time->now_ms;
    }
    election->is_missing = true;
    election->must_read = false;
}

static void take_written(struct election *election, const struct election_time *time, int64_t asked_ms) {
    if (election->has_given_up || !is_ours(election)) {
        return;
    }
    election->deadline_ms = asked_ms + election->options.renew_deadline_ms;
    election->is_leading = time->now_ms < election->deadline_ms;
    put_off(election, time);
}

void election_answer(struct election *election, const struct election_time *time, const json_t *lease, enum error_code code) {
    enum election_action asked = election->asked;
    election->asked = ELECTION_WAIT;
    election->next_attempt_ms = time->now_ms;
    if (lease != NULL) {
        observe(election, time, lease);
        if (asked != ELECTION_READ) {
            take_written(election, time, election->asked_ms);
        }
    } else if (code == ERROR_NOT_FOUND && asked != ELECTION_CREATE) {
        observe_missing(election, time);
    } else if (code == ERROR_CONFLICT || code == ERROR_EXISTS) {
        election->must_read = true;
        election->next_attempt_ms += election->options.retry_period_ms / 4; /* so that two do not chase one another */
    } else {
        election->must_read |= !election->is_leading;
        put_off(election, time);
    }
}

void election_give_up(struct election *election, int64_t now_ms) {
    election->has_given_up = true;
    election->is_leading = false;
    election->deadline_ms = now_ms + election->options.renew_deadline_ms;
    election->next_attempt_ms = now_ms;
}
