/* One fake engine, without sockets: what it holds, and the exact answers of vLLM, SGLang and the sidecar in front of them. Requests
 * and the wall clock in; effects and answers out. Faults, delays and counting are the server's (server.h).
 *
 * Answers are those of vLLM 0.32 and of aibrix_runtime 0.8 as recorded, and SGLang's by its sources. Two liberties: an absolute
 * path is taken by the sidecar as Davit's takes it, and an engine with max_cpu_loras refuses as Davit's does. */
#ifndef DAVIT_TESTS_FAKE_ENGINE_ENGINE_H
#define DAVIT_TESTS_FAKE_ENGINE_ENGINE_H

#include "base/map.h"
#include "settings.h"

enum kind { KIND_VLLM, KIND_SGLANG };
enum door { DOOR_ENGINE, DOOR_SIDECAR };

#define ADAPTERS_MAX 200000 /* of one engine */

struct engine {
    char *address;
    enum kind kind;
    struct settings settings;
    struct map adapters; /* name -> struct held */
    char *asked_for;     /* adapters with requests that have no answer yet, as metrics name them: "a,b"; NULL = none */
};

struct held {
    char *root;
    char *card_head, *card_tail; /* of its card in lists, around the time; made once */
};

struct request {
    enum door door;
    const char *method, *path, *authorization, *content_type; /* the last two may be NULL */
    const char *body;
    size_t body_len;
};

/* A request that was read. */
struct asked {
    enum call call;
    enum door door;
    int refused;      /* a status that is the answer already: 400, 401, 404, 405, 422; 0 = go on */
    char *refusal;    /* its body */
    char *name;       /* of the adapter; "" when none is named */
    char *path;       /* load: what was asked for */
    char *prompt;     /* generate */
    bool is_artifact; /* the sidecar's delegated form, answered in JSON */
    json_t *body;     /* NULL when it is not an object */
};
void asked_release(struct asked *asked);

struct answer {
    int status;
    const char *content_type; /* NULL = none, as vLLM's success has none */
    int64_t retry_after_s;    /* 0 = none */
    struct buffer body;
};
void answer_release(struct answer *answer);

void engine_init(struct engine *engine, enum kind kind, const char *address, const char *base_model);
void engine_release(struct engine *engine);

void engine_read(const struct engine *engine, const struct request *request, struct asked *ret_asked);
/* Carries out what was asked, and words the answer. `wall_s`: seconds since 1970. */
void engine_answer(struct engine *engine, const struct asked *asked, int64_t wall_s, struct answer *ret_answer);
/* Words a refusal that a fault orders. */
void engine_refuse(const struct engine *engine, const struct asked *asked, int status, const char *message,
                   struct answer *ret_answer);

bool engine_forget(struct engine *engine, const char *name); /* whether it was held */
void engine_forget_all(struct engine *engine);
/* settings_merge() */
int engine_set(struct engine *engine, const json_t *settings, struct error *err) DAVIT_MUST_USE;

#endif
