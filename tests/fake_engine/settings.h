/* What one fake engine is and what is wrong with it, settable at any time by a JSON object:
 *
 *   {"base_model": "base", "api_key": "k" or null, "max_loras": 4, "max_cpu_loras": 8 or 0 (any number), "loads_at_once": 0 (any),
 *    "no_effect": true, "no_logprobs": true, "root": "/what/lists/say" or null, "dead": true,
 *    "s3_access_key": "id" or null, "s3_secret_key": "key",
 *    "faults": {"load": {"delay_ms": 50, "hang": true, "close": true, "status": 500, "message": "words"}, ...}}
 *
 * A fault belongs to one call: list, load, unload, generate (by an adapter), generate_base, other. */
#ifndef DAVIT_TESTS_FAKE_ENGINE_SETTINGS_H
#define DAVIT_TESTS_FAKE_ENGINE_SETTINGS_H

#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

enum call { CALL_LIST, CALL_LOAD, CALL_UNLOAD, CALL_GENERATE, CALL_GENERATE_BASE, CALL_OTHER, CALL_COUNT };
const char *call_name(enum call call);

struct fault {
    int64_t delay_ms; /* before the call has its effect and is answered */
    bool hang;        /* no answer and no effect until this is taken back */
    bool close;       /* the connection is cut without an answer; the call has its effect all the same */
    int64_t status;   /* 0 = none; the call is refused with it */
    char *message;    /* NULL = words that fit the status */
};

struct settings {
    char *base_model;
    char *api_key;         /* NULL = none asked for */
    int64_t max_loras;     /* shown in /metrics */
    int64_t max_cpu_loras; /* further loads are refused as Davit's engine does; 0 = any number */
    int64_t loads_at_once; /* further loads wait; 0 = any number */
    bool no_effect;        /* adapters answer with the base's numbers */
    bool no_logprobs;
    char *root;                          /* lists name this root for every adapter; NULL = the path it was loaded from */
    bool dead;                           /* nothing listens */
    char *s3_access_key, *s3_secret_key; /* what the sidecar needs to be given for s3://; NULL = nothing */
    struct fault faults[CALL_COUNT];
};

void settings_init(struct settings *settings, const char *base_model);
void settings_release(struct settings *settings);
/* Changes what `object` names and leaves the rest; nothing is changed when a name or a type is wrong (ERROR_INVALID names it). */
int settings_merge(struct settings *settings, const json_t *object, struct error *err) DAVIT_MUST_USE;

#endif
