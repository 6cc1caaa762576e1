/* Answers to load and unload, with the texts of aibrix_runtime 0.8. Pure.
 *
 * One difference is on purpose: errors keep their meaning. The reference answers 500 to every failure of the delegated form; here
 * the status is that of the cause, and the body {"error":"..."} has the members "reason" and "lora_name" beside it. */
#ifndef DAVIT_RUNTIME_LORA_ANSWER_H
#define DAVIT_RUNTIME_LORA_ANSWER_H

#include "runtime/loader.h"
#include "runtime/lora_request.h"

struct lora_answer {
    int status;
    const char *content_type; /* NULL = none, for the direct form's bare text */
    struct buffer body;
};
void lora_answer_release(struct lora_answer *answer);

void lora_answer_result(enum lora_verb verb, const struct lora_request *request, const struct loader_result *result,
                        struct lora_answer *ret_answer);
/* 202: a load that goes on. `state`: "downloading", ... */
void lora_answer_progress(const struct lora_request *request, const char *state, const char *words, struct lora_answer *ret_answer);
/* A refusal before anything was tried. `type`: for the direct form, e.g. "ValidationError". */
void lora_answer_refusal(enum lora_verb verb, const struct lora_request *request, const struct error *err, const char *reason,
                         const char *type, struct lora_answer *ret_answer);
/* {"object":"error","message","type","param":null,"code"} */
void lora_error_object(struct buffer *out, int status, const char *type, const char *message);

#endif
