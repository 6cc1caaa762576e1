/* What the files of the engine's API share. */
#ifndef DAVIT_ENGINE_API_API_INTERNAL_H
#define DAVIT_ENGINE_API_API_INTERNAL_H

#include "base/json.h"
#include "engine/api/adapter_loads.h"
#include "engine/api/api.h"
#include "engine/api/api_error.h"
#include "engine/api/engine_metrics.h"
#include "engine/api/fields.h"
#include "engine/api/inbox.h"
#include "engine/api/lora_resolver.h"
#include "io/http_server.h"
#include "io/metrics.h"

struct generation; /* generation.c */

struct api {
    struct api_options options;
    struct http_server *server;
    struct inbox *inbox;            /* the engine's events, on their way to the loop */
    struct adapter_loads *loads;    /* NULL when runtime_lora is off */
    struct lora_resolver *resolver; /* NULL when there is none */
    struct engine_metrics *metrics;
    struct hash *key_hashes;
    char *fingerprint;
    char *server_name;                   /* in every answer of a handler: by it a caller knows this engine from vLLM */
    struct generation *first_generation; /* of those alive, answered or not */
    int generations;
};

/* ---- answers ---- */
void api_reply_json(struct http_request *http, int status, const struct buffer *body);
void api_reply_error(struct http_request *http, const struct api_error *error);
/* Parses the request's body or answers the error itself; NULL then. The caller owns the result. */
json_t *api_take_document(const struct api *api, struct http_request *http);
/* "" and served names are the base model: *ret_adapter NULL. An adapter's name is borrowed from `model`. -1: *error is vLLM's 404.
 */
int api_find_model(struct api *api, const char *model, const char **ret_adapter, struct api_error *error) DAVIT_MUST_USE;
/* What an adapter's lookup ended with, as vLLM answers where a resolver looked. Returns -1. */
int api_error_from_lookup(const struct api *api, const char *model, const struct error *cause, struct api_error *error);
bool api_is_served_name(const struct api *api, const char *name);

/* ---- handlers ---- */
void api_on_event(void *arg, const struct inbox_item *item); /* arg: the api */
void api_completions(struct api *api, struct http_request *http);
void api_chat_completions(struct api *api, struct http_request *http);
void api_load_adapter(struct api *api, struct http_request *http);
void api_unload_adapter(struct api *api, struct http_request *http);
void api_register_adapter(struct api *api, struct http_request *http);
void api_unregister_adapter(struct api *api, struct http_request *http);
void api_free_loads(struct api *api); /* and the requests that wait for them */
void api_models(struct api *api, struct http_request *http);
void api_tokenize(struct api *api, struct http_request *http);
void api_detokenize(struct api *api, struct http_request *http);

#endif
