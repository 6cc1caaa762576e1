/* A request that waits for somebody else, and what the pages of the service share. */
#ifndef DAVIT_RUNTIME_SERVICE_CALL_H
#define DAVIT_RUNTIME_SERVICE_CALL_H

#include "runtime/load_secrets.h"
#include "runtime/lora_answer.h"
#include "runtime/service.h"

struct service_call {
    struct service *service;
    struct http_request *request;
    const char *endpoint;      /* for metrics */
    const char *authorization; /* the engine's; of the request */
    struct transfer *transfer; /* what it waits for: at most one of the two */
    struct loader_waiter *waiter;
    uint64_t changes_before; /* of a list of models; see residents_see */
    /* load and unload */
    enum lora_verb verb;
    struct lora_request lora;
    struct timer patience; /* Prefer: wait */
    bool has_patience;
    int64_t begun_ms;
    struct {
        char *folder;
        char *name;
        int64_t until_ms;
        bool waits_for_all; /* not for the source's answer alone */
        struct models_listing *listing;
        json_t *cards; /* of the list, so far */
    } model;           /* that is being downloaded, or models that are listed */
    LIST_ENTRY(service_call) next;
};

struct service_call *service_call_begin(struct service *service, struct http_request *request, const char *endpoint,
                                        const char *authorization);
void service_call_end(struct service_call *call); /* the request remains to be answered */

/* Milliseconds of "Prefer: wait=N" (RFC 7240), at most an hour; -1 = none. */
int64_t service_wanted_wait_ms(const struct http_request *request);

/* The answer, counted. */
void service_reply(struct service *service, struct http_request *request, const char *endpoint, int status,
                   const char *content_type, const char *body, size_t len);
void service_reply_json(struct service *service, struct http_request *request, const char *endpoint, int status, const char *text);
/* Both at once. */
void service_call_end_with(struct service_call *call, int status, const char *content_type, const char *body, size_t len);
void service_call_end_with_json(struct service_call *call, int status, const char *text);

/* ---- what is served: one function a page ---- */

typedef void service_page(struct service *service, struct http_request *request, const char *endpoint, const char *authorization);
service_page service_health, service_ready, service_metrics, service_models;
service_page service_model_download, service_model_list;
service_page service_load, service_unload;

void service_on_model_change(void *arg); /* whoever waits for a model looks at it */
void service_on_progress(void *arg);     /* of service.progress: says how far fetches are */

#endif
