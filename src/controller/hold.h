/* What one pod is known to hold of one adapter, and what became of the attempts to change that. Pure: observations, results and the
 * time come in; plan.c reads the state.
 *
 * A hold speaks about one start of the engine: when the engine is another, everything is forgotten. Only a list that was asked for
 * after the last change counts against it.
 *
 * It speaks of one name, too, although an engine may know the adapter under several (adapter/engine_name.h): one is unloaded before
 * the next is loaded. Where more than one is listed all the same (somebody loaded it by hand, a load came after nobody waited for
 * it any more), a hold that serves stays with what it has and the others are cleared away; else those that are not wanted have
 * their turns first. */
#ifndef DAVIT_CONTROLLER_HOLD_H
#define DAVIT_CONTROLLER_HOLD_H

#include "adapter/engine_name.h"
#include "adapter/model_adapter.h"
#include "dialect/dialect.h"

#define REVISION_BYTES MODEL_ADAPTER_REVISION_BYTES
#define VERSION_BYTES sizeof(((struct dialect_answer *)NULL)->version)

enum hold_state {
    HOLD_NONE,     /* the engine does not have it */
    HOLD_MAYBE,    /* a load may have succeeded, or an earlier run of ours says so: the next list tells */
    HOLD_LOADED,   /* the engine has `revision` of it */
    HOLD_CONFLICT, /* the engine has something under the name that is not ours */
};

enum hold_action { HOLD_IDLE, HOLD_LOADING, HOLD_PROVING, HOLD_UNLOADING, HOLD_CLEARING };
enum hold_effect { EFFECT_UNKNOWN, EFFECT_SEEN, EFFECT_NONE };

struct hold {
    enum hold_state state;
    char revision[REVISION_BYTES]; /* that it has or is loading; "" = ours, but which is not known */
    char tag[ENGINE_TAG_BYTES];    /* of the name under which it has it or is loading it */
    bool is_several;               /* the last list showed the adapter under other names as well */
    char other[ENGINE_TAG_BYTES];  /* ... of which this one is to be cleared away */
    int64_t clear_at_ms;           /* not before */
    char *start;                   /* NULL before the pod was first seen */
    char *root;                    /* as the engine lists it; NULL = not listed yet */
    int64_t since_ms;              /* lists asked for before do not count */
    int64_t load_ms;               /* how long the load took, -1 = we did not load it */
    bool is_proved;
    bool is_recalled; /* an earlier run had proved it; what it published stays while that is proved again */
    enum hold_effect effect;
    enum hold_action running;
    bool is_wanted;             /* by the last plan */
    bool is_counted;            /* by its pod, among the adapters it holds */
    bool is_rolled;             /* an older revision was, or is being, taken away to load `tried` */
    char last[REVISION_BYTES];  /* the revision that this start of the engine had last, "?" = one that is not known, "" = none */
    bool is_in_place;           /* ... and it had, or may have had, more than one under the adapter's own name */
    bool is_fetching;           /* `tried` is on its way to the sidecar, which loads it then: `message` says how far it is */
    int loads;                  /* that we made at this start */
    char tried[REVISION_BYTES]; /* the revision that failures are about */
    int failures;
    int64_t retry_at_ms;
    enum dialect_outcome outcome; /* of the last failure */
    const char *reason;           /* static; NULL = no failure */
    char *message;                /* NULL = none */
    int64_t unpublished_ms;       /* since when the pod is not in the EndpointSlice; 0 = it is in */
};

/* What a pod's list says of the adapter, under the name of it that counts. */
struct hold_listing {
    bool is_listed;
    const char *root;
    bool is_base;
    int64_t asked_ms;
    const char *start;
    char tag[ENGINE_TAG_BYTES];    /* of the name */
    char revision[REVISION_BYTES]; /* that the tag is of; "" for the adapter's own name, which says nothing */
    bool is_several;               /* it lists other names of it as well */
    char other[ENGINE_TAG_BYTES];  /* ... such as this one */
};

/* The adapter's side. */
struct hold_target {
    const char *name;
    const char *artifact_url;
    const char *revision;
    bool uses_sidecar;
    const char *known;           /* revisions that were loaded before, with spaces between them; "" or NULL = none */
    char tag[ENGINE_TAG_BYTES];  /* of the name under which the revision is to be there */
    bool is_davit;               /* the engine is Davit's own, which takes every URL */
    const char *source_revision; /* "" or NULL = none */
};

/* Of a load in status.loads that replaced other weights under the same name. */
#define HOLD_REASON_IN_PLACE "LoadedInPlace"
#define HOLD_REASON_UNLOAD "UnloadFailed"

struct hold *hold_new(void);
void hold_free(struct hold *hold);

/* The engine that now runs has the identity `start`. */
void hold_meet(struct hold *hold, const char *start);
/* What an earlier run of ours recorded. */
struct hold_record {
    const char *revision; /* that the pod had; "" = none */
    char tag[ENGINE_TAG_BYTES];
    bool was_serving, is_in_place, is_rolled;
    int64_t load_ms;
    enum hold_effect effect;
};
/* Whether a pod with this state in status.loads has answered with what it has if it is published, which only proved weights are:
 * the status is written now and then, and a roll may not have come to the pod yet. */
bool hold_state_is_serving(const char *state);
void hold_recall(struct hold *hold, const struct hold_record *record);
void hold_observe(struct hold *hold, const struct hold_target *target, const struct hold_listing *listing);
/* It has answered, in this run or, as far as is known, in an earlier one. */
bool hold_is_serving(const struct hold *hold);
/* Whether what is listed under the adapter's own name with this root is neither its own nor was, as far as can be told. */
bool hold_is_foreign(const struct hold_target *target, const char *root);
/* It is the revision, or may be, under the name with the tag. */
bool hold_is_of(const struct hold *hold, const char *revision, const char *tag);
const char *hold_message(const struct hold *hold); /* of the last failure, "" when there is none */
/* Nothing is held, nothing runs and nothing is to be remembered. */
bool hold_is_blank(const struct hold *hold);
/* The object changed: failures may be tried again at once. */
void hold_forgive(struct hold *hold);

/* An action begins; a load is of `revision`, under the name with the tag, and the others are of what the hold has. */
void hold_begin(struct hold *hold, enum hold_action action, const char *revision, const char *tag);
/* The revision that the engine has or may have of it: loaded, perhaps loaded, or being loaded; "" = none, or one that is not known.
 */
const char *hold_may_have(const struct hold *hold);
void hold_note_load(struct hold *hold, const char *revision, const struct dialect_answer *answer, int64_t took_ms, int64_t now_ms);
void hold_note_unload(struct hold *hold, const struct dialect_answer *answer, int64_t now_ms);
void hold_note_clear(struct hold *hold, const struct dialect_answer *answer, int64_t now_ms);
void hold_note_proof(struct hold *hold, enum hold_effect effect);
/* `reason` is static. */
void hold_note_failure(struct hold *hold, const char *revision, const struct dialect_answer *answer, const char *reason,
                       int64_t now_ms);

#endif
