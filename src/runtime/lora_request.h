/* The bodies of POST /v1/lora_adapter/load and /unload, both forms, and what is said of bad ones: FastAPI's 422 for a union of
 * models that forbid unknown fields, as aibrix_runtime 0.8 answers it. Pure. */
#ifndef DAVIT_RUNTIME_LORA_REQUEST_H
#define DAVIT_RUNTIME_LORA_REQUEST_H

#include "base/json.h"

enum lora_verb { LORA_LOAD, LORA_UNLOAD };

struct lora_request {
    json_t *body;   /* holds the strings */
    bool is_direct; /* {lora_name, lora_path} or {lora_name, lora_int_id}; else the delegated form */
    const char *name;
    const char *source; /* load: artifact_url or lora_path */
};

/* Fills *ret_request, or appends the body of a 422 answer to `detail` and returns -1. What credentials hold is not repeated there.
 */
int lora_request_parse(enum lora_verb verb, const char *bytes, size_t len, struct lora_request *ret_request,
                       struct buffer *detail) DAVIT_MUST_USE;
void lora_request_release(struct lora_request *request);

#define LORA_NAME_RULE "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
bool is_lora_name(const char *name);

#endif
