#include "controller/hold.h"

#include "adapter/artifact_url.h"
#include "controller/recall.h"

#include <ctype.h>
#include <string.h>

#define RETRY_FIRST_MS 1000
#define RETRY_LAST_MS 60000
#define ASK_AGAIN_MS 500 /* for what is being fetched; the sidecar answers after a while of its own */
#define RETRY_BUSY_LAST_MS 8000
#define CLEAR_AGAIN_MS 10000
/* What the object or the artifact has to change for is looked at again all the same: a file may have appeared where it was missed.
 */
#define RETRY_PERMANENT_MS 300000

struct hold *hold_new(void) {
    struct hold *hold = xcalloc(1, sizeof(*hold));
    hold->load_ms = -1;
    return hold;
}

void hold_free(struct hold *hold) {
    if (hold != NULL) {
        free(hold->start);
        free(hold->root);
        free(hold->message);
        free(hold);
    }
}

const char *hold_message(const struct hold *hold) {
    return hold->message != NULL ? hold->message : "";
}

static void set_message(struct hold *hold, const char *message) {
    free(hold->message);
    hold->message = message[0] != '\0' ? xstrdup(message) : NULL;
}

bool hold_is_blank(const struct hold *hold) {
    return hold->state == HOLD_NONE && hold->running == HOLD_IDLE && !hold->is_wanted && hold->failures == 0 &&
           !hold->is_fetching && hold->last[0] == '\0';
}

static void set_revision(char out[REVISION_BYTES], const char *revision) {
    snprintf(out, REVISION_BYTES, "%s", revision);
}

static void set_tag(struct hold *hold, const char *tag) {
    snprintf(hold->tag, ENGINE_TAG_BYTES, "%s", tag);
}

bool hold_is_of(const struct hold *hold, const char *revision, const char *tag) {
    return strcmp(hold->revision, revision) == 0 && strcmp(hold->tag, tag) == 0;
}

/* The engine has these weights; an earlier start's do not count. What the adapter's own name had before a name with a tag is not
 * remembered: it may have been others than those that come under it next. */
static void note_weights(struct hold *hold) {
    const char *now = hold->revision[0] != '\0' ? hold->revision : "?";
    hold->is_in_place |= hold->tag[0] != '\0' || (hold->last[0] != '\0' && strcmp(hold->last, now) != 0);
    set_revision(hold->last, now);
}

static void set_state(struct hold *hold, enum hold_state state) {
    hold->state = state;
    hold->is_proved = false;
    hold->is_recalled = hold->is_recalled && state == HOLD_LOADED;
    hold->effect = hold->is_recalled ? hold->effect : EFFECT_UNKNOWN;
    if (state != HOLD_LOADED) {
        free(hold->root);
        hold->root = NULL;
    }
}

void hold_forgive(struct hold *hold) {
    hold->failures = 0;
    hold->retry_at_ms = 0;
    hold->reason = NULL;
    set_message(hold, "");
}

void hold_meet(struct hold *hold, const char *start) {
    if (hold->start != NULL && strcmp(hold->start, start) == 0) {
        return;
    }
    if (hold->start != NULL) { /* what was recalled survives the first meeting */
        set_state(hold, HOLD_NONE);
        hold->load_ms = -1;
        hold->is_rolled = false;
        hold->is_in_place = false;
        hold->last[0] = '\0';
        hold->loads = 0;
        hold->is_fetching = false;
        hold->is_several = false;
        hold->clear_at_ms = 0;
        hold->running = HOLD_IDLE; /* what was asked of the engine before is void */
        hold_forgive(hold);
    }
    free(hold->start);
    hold->start = xstrdup(start);
}

bool hold_state_is_serving(const char *state) {
    static const char *const states[] = {"Ready", "Outdated", "Proving", "Loading", "Loaded"};
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        if (strcmp(states[i], state) == 0) {
            return true;
        }
    }
    return false;
}

void hold_recall(struct hold *hold, const struct hold_record *record) {
    hold->is_rolled = record->is_rolled;
    if (record->revision[0] == '\0') {
        return; /* it had none yet */
    }
    hold->state = HOLD_MAYBE;
    hold->is_recalled = record->was_serving;
    hold->load_ms = record->load_ms;
    hold->effect = record->was_serving ? record->effect : EFFECT_UNKNOWN;
    hold->is_in_place = record->is_in_place || record->tag[0] != '\0';
    set_revision(hold->revision, record->revision);
    set_tag(hold, record->tag);
}

/* ---- whose is what is listed ---- */

enum relation { RELATION_OURS, RELATION_OLD, RELATION_UNKNOWN, RELATION_FOREIGN };

static bool is_same_path(const char *a, const char *b) {
    size_t a_len = strlen(a), b_len = strlen(b);
    while (a_len > 1 && a[a_len - 1] == '/') {
        a_len--;
    }
    while (b_len > 1 && b[b_len - 1] == '/') {
        b_len--;
    }
    return a_len == b_len && memcmp(a, b, a_len) == 0;
}

/* "<anything>/<name>/<revision>[/...]": our runtime's cache. Borrows the digits, NULL when the root has another form. */
static const char *cached_revision(const char *root, const char *name) {
    cleanup_free char *part = xasprintf("/%s/", name);
    const char *at = strstr(root, part);
    if (at == NULL) {
        return NULL;
    }
    at += strlen(part);
    size_t len = strspn(at, "0123456789abcdef");
    return len == REVISION_BYTES - 1 && (at[len] == '\0' || at[len] == '/') ? at : NULL;
}

static bool is_given_as(const struct hold_target *target, const char *root, bool is_davit) {
    const char *pinned = target->source_revision != NULL ? target->source_revision : "";
    cleanup_free char *path = NULL;
    if (artifact_engine_path(target->artifact_url, pinned, is_davit, &path, NULL) < 0) {
        return false;
    }
    cleanup_free char *listed = artifact_shown_url(path); /* as Davit's engine does */
    return is_same_path(listed, root);
}

/* Whether the engine, asked itself, was given the artifact with this path. Davit's takes what every engine takes, and more. */
static bool is_given(const struct hold_target *target, const char *root) {
    return is_given_as(target, root, false) || (target->is_davit && is_given_as(target, root, true));
}

static enum relation relation_of(const struct hold_target *target, const char *root) {
    const char *revision = target->uses_sidecar ? cached_revision(root, target->name) : NULL;
    if (root[0] == '\0') {
        return RELATION_UNKNOWN;
    }
    if (revision != NULL) {
        return strncmp(revision, target->revision, REVISION_BYTES - 1) == 0 ? RELATION_OURS : RELATION_OLD;
    }
    if (is_given(target, root)) {
        return RELATION_OURS;
    }
    /* Where the reference's sidecar puts what it fetches says the name only. */
    cleanup_free char *fetched = xasprintf("/tmp/aibrix/adapters/%s", target->name);
    if (target->uses_sidecar && strncmp(root, fetched, strlen(fetched)) == 0) {
        return RELATION_UNKNOWN;
    }
    return target->uses_sidecar && artifact_local_path(target->artifact_url) == NULL ? RELATION_UNKNOWN : RELATION_FOREIGN;
}

/* Whether an earlier run was told to load this path, and as which revision. The object may have changed while nobody looked, and
 * the load need not have been written down. */
static bool is_earlier(const struct hold_target *target, const char *root, char ret_revision[REVISION_BYTES]) {
    struct model_adapter told = {.artifact_url = root, .source_revision = "", .digest = ""};
    char of_root[REVISION_BYTES];
    model_adapter_revision(&told, of_root);
    for (const char *at = target->known; (at = recall_next(at, ret_revision)) != NULL;) {
        if (strncmp(ret_revision, of_root, MODEL_ADAPTER_REVISION_URL_LEN) == 0) {
            return true;
        }
    }
    return false;
}

bool hold_is_serving(const struct hold *hold) {
    return hold->is_recalled || (hold->state == HOLD_LOADED && hold->is_proved);
}

bool hold_is_foreign(const struct hold_target *target, const char *root) {
    char told[REVISION_BYTES];
    return relation_of(target, root) == RELATION_FOREIGN && !is_earlier(target, root, told);
}

static void conflict(struct hold *hold, const struct hold_target *target, const struct hold_listing *listing) {
    cleanup_free char *name = engine_name_of(target->name, listing->tag);
    set_state(hold, HOLD_CONFLICT);
    hold->reason = "Conflict";
    free(hold->message);
    hold->message = listing->is_base ? xasprintf("the engine serves a base model named \"%s\"", name)
                                     : xasprintf("the engine already has an adapter \"%s\" with root %.200s, expected %.200s", name,
                                                 listing->root, target->artifact_url);
}

static void adopt(struct hold *hold, const char *revision, const struct hold_listing *listing) {
    bool is_as_it_was = hold_is_of(hold, revision, listing->tag);
    /* What was recalled was replaced since, and that was not written down. */
    hold->is_rolled |= hold->state == HOLD_MAYBE && hold->revision[0] != '\0' && !is_as_it_was;
    hold->is_recalled = hold->is_recalled && is_as_it_was;
    free(take_pointer(hold->root)); /* another name's */
    set_state(hold, HOLD_LOADED);
    if (revision != hold->revision) {
        set_revision(hold->revision, revision);
    }
    set_tag(hold, listing->tag);
    hold->root = xstrdup(listing->root);
    note_weights(hold);
    hold_forgive(hold);
}

/* The name says which revision it is, whatever the root: it was ours alone to give. */
static void observe_tagged(struct hold *hold, const struct hold_target *target, const struct hold_listing *listing) {
    bool is_target = strcmp(listing->revision, target->revision) == 0;
    if (is_target && relation_of(target, listing->root) == RELATION_FOREIGN) {
        conflict(hold, target, listing);
    } else {
        adopt(hold, listing->revision, listing);
    }
}

static void observe_listed(struct hold *hold, const struct hold_target *target, const struct hold_listing *listing) {
    if (listing->is_base) {
        conflict(hold, target, listing);
        return;
    }
    bool is_same_name = strcmp(hold->tag, listing->tag) == 0;
    if (hold->state == HOLD_LOADED && is_same_name && (hold->root == NULL || strcmp(hold->root, listing->root) == 0)) {
        if (hold->root == NULL) {
            hold->root = xstrdup(listing->root); /* the engine took our load: this is how it writes our path */
        }
        return;
    }
    if (listing->tag[0] != '\0') {
        observe_tagged(hold, target, listing);
        return;
    }
    char told[REVISION_BYTES];
    enum relation relation = relation_of(target, listing->root);
    bool is_recalled = hold->state == HOLD_MAYBE && is_same_name;
    if (relation == RELATION_OURS) {
        adopt(hold, target->revision, listing);
    } else if (relation == RELATION_OLD) {
        char revision[REVISION_BYTES];
        snprintf(revision, sizeof(revision), "%.*s", REVISION_BYTES - 1, cached_revision(listing->root, target->name));
        adopt(hold, revision, listing); /* it says itself which: what was recalled of it stays true */
    } else if (is_recalled && (relation == RELATION_UNKNOWN || strcmp(hold->revision, target->revision) != 0)) {
        adopt(hold, hold->revision, listing);
    } else if (relation == RELATION_UNKNOWN) {
        adopt(hold, "", listing); /* loaded again, to be sure of the weights */
    } else if (is_earlier(target, listing->root, told)) {
        adopt(hold, told, listing);
    } else {
        conflict(hold, target, listing);
    }
}

void hold_observe(struct hold *hold, const struct hold_target *target, const struct hold_listing *listing) {
    bool counts = hold->start != NULL && strcmp(listing->start, hold->start) == 0 && listing->asked_ms >= hold->since_ms;
    /* What is being fetched may be listed at any time; the answer to the load says of what content it is. And a proof that runs is
     * of the name that it asks. */
    bool is_of_another = hold->running == HOLD_PROVING && strcmp(hold->tag, listing->tag) != 0;
    bool is_changing = hold->running != HOLD_IDLE && hold->running != HOLD_PROVING;
    if (!counts || is_changing || hold->is_fetching || is_of_another) {
        return;
    }
    hold->is_several = listing->is_several;
    memcpy(hold->other, listing->other, ENGINE_TAG_BYTES);
    if (listing->is_listed) {
        observe_listed(hold, target, listing);
    } else if (hold->state != HOLD_NONE) {
        if (hold->state == HOLD_CONFLICT) {
            hold_forgive(hold);
        }
        bool was_old = !hold_is_of(hold, target->revision, target->tag);
        bool was_ours = hold->state == HOLD_LOADED ? hold->is_wanted : hold->state == HOLD_MAYBE && hold->loads == 0;
        bool was_out = hold->is_recalled && hold->unpublished_ms != 0; /* the earlier run had taken it out to unload it */
        hold->is_rolled |= was_ours && (was_old || was_out);           /* gone by itself: the new one is to come all the same */
        set_state(hold, HOLD_NONE);
    }
}

/* ---- actions and results ---- */

void hold_begin(struct hold *hold, enum hold_action action, const char *revision, const char *tag) {
    hold->running = action;
    hold->is_rolled |= action == HOLD_UNLOADING && hold->is_wanted; /* it may fail for long: the pod is out all the same */
    if (action == HOLD_LOADING) {
        set_revision(hold->revision, revision);
        set_tag(hold, tag);
    }
}

const char *hold_may_have(const struct hold *hold) {
    bool may = hold->state == HOLD_LOADED || hold->state == HOLD_MAYBE || hold->running == HOLD_LOADING || hold->is_fetching;
    return may ? hold->revision : "";
}

/* Between 75 % and 125 %, from what differs between holds, so that pods do not march in step. */
static int64_t jitter(const struct hold *hold, int64_t delay_ms, int64_t now_ms) {
    uint32_t mix = (uint32_t)now_ms * 2654435761u;
    for (const char *at = hold->start; at != NULL && *at != '\0'; at++) {
        mix = (mix ^ (unsigned char)*at) * 16777619u;
    }
    return delay_ms * 3 / 4 + (int64_t)(mix >> 8) % (delay_ms / 2 + 1);
}

static int64_t retry_delay_ms(const struct hold *hold, enum dialect_outcome outcome) {
    if (outcome == DIALECT_PERMANENT) {
        return RETRY_PERMANENT_MS;
    }
    int doublings = hold->failures < 10 ? hold->failures : 10;
    int64_t delay = (int64_t)RETRY_FIRST_MS << (doublings > 0 ? doublings - 1 : 0);
    int64_t last = outcome == DIALECT_BUSY ? RETRY_BUSY_LAST_MS : RETRY_LAST_MS;
    return delay < last ? delay : last;
}

void hold_note_failure(struct hold *hold, const char *revision, const struct dialect_answer *answer, const char *reason,
                       int64_t now_ms) {
    if (strcmp(hold->tried, revision) != 0) {
        hold_forgive(hold);
        set_revision(hold->tried, revision);
    }
    hold->running = HOLD_IDLE;
    hold->is_fetching = false;
    bool is_against_it = answer->outcome == DIALECT_FAILED || answer->outcome == DIALECT_PERMANENT;
    hold->is_rolled |= hold->is_recalled && is_against_it && hold->unpublished_ms != 0; /* it was out, and stays out */
    hold->is_recalled = hold->is_recalled && !is_against_it;
    hold->failures++;
    hold->outcome = answer->outcome;
    hold->reason = reason;
    set_message(hold, answer->message);
    hold->retry_at_ms = now_ms + jitter(hold, retry_delay_ms(hold, answer->outcome), now_ms);
}

/* Failures of before stay counted: they are forgiven by what is loaded, not by what is begun. */
static void note_fetching(struct hold *hold, const char *revision, const char *message, int64_t now_ms) {
    if (strcmp(hold->tried, revision) != 0) {
        hold_forgive(hold);
        set_revision(hold->tried, revision);
    }
    set_state(hold, HOLD_NONE);
    hold->is_fetching = true;
    hold->reason = NULL;
    set_message(hold, message);
    hold->retry_at_ms = now_ms + ASK_AGAIN_MS;
}

void hold_note_load(struct hold *hold, const char *revision, const struct dialect_answer *answer, int64_t took_ms, int64_t now_ms) {
    hold->running = HOLD_IDLE;
    hold->since_ms = now_ms;
    hold->is_recalled = false;
    if (answer->outcome == DIALECT_DONE) {
        set_state(hold, HOLD_LOADED);
        free(hold->root);
        hold->root = NULL;
        hold->is_fetching = false;
        set_revision(hold->revision, revision);
        note_weights(hold);
        hold->loads++;
        hold->load_ms = took_ms;
        hold->retry_at_ms = 0; /* failures are only forgiven by a proof: load and proof may fail in turn */
        hold->reason = NULL;
    } else if (answer->outcome == DIALECT_PENDING) {
        note_fetching(hold, revision, answer->message, now_ms);
    } else {
        bool is_unknown = answer->outcome == DIALECT_UNREACHABLE || answer->outcome == DIALECT_ALREADY_LOADED;
        set_state(hold, is_unknown ? HOLD_MAYBE : HOLD_NONE);
        set_revision(hold->revision, revision);
        hold_note_failure(hold, revision, answer, answer->reason != NULL ? answer->reason : dialect_outcome_name(answer->outcome),
                          now_ms);
    }
}

void hold_note_unload(struct hold *hold, const struct dialect_answer *answer, int64_t now_ms) {
    hold->running = HOLD_IDLE;
    hold->since_ms = now_ms;
    if (answer->outcome == DIALECT_DONE || answer->outcome == DIALECT_NOT_LOADED) {
        hold->is_rolled = hold->is_wanted;
        hold->is_fetching = false;
        set_state(hold, hold->is_several ? HOLD_MAYBE : HOLD_NONE);
        hold->load_ms = -1;
        hold_forgive(hold);
    } else {
        bool was_recalled = hold->is_recalled, was_rolled = hold->is_rolled; /* that it did not go says nothing of what it is */
        bool was_fetching = hold->is_fetching;                               /* it comes all the same */
        hold_note_failure(hold, hold->revision, answer, HOLD_REASON_UNLOAD, now_ms);
        hold->is_recalled = was_recalled;
        hold->is_rolled = was_rolled;
        hold->is_fetching = was_fetching;
    }
}

void hold_note_clear(struct hold *hold, const struct dialect_answer *answer, int64_t now_ms) {
    hold->running = HOLD_IDLE;
    hold->since_ms = now_ms;
    if (answer->outcome == DIALECT_DONE || answer->outcome == DIALECT_NOT_LOADED) {
        hold->is_several = false;
    } else {
        hold->clear_at_ms = now_ms + CLEAR_AGAIN_MS;
    }
}

void hold_note_proof(struct hold *hold, enum hold_effect effect) {
    hold->running = HOLD_IDLE;
    hold->is_proved = true;
    hold->is_recalled = false;
    hold->is_rolled = false;
    hold->effect = effect;
    hold_forgive(hold);
}
