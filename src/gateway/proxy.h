/* One request to an engine and its answer back: choose, send, retry before the first byte, stream.
 *
 * Tried again on another endpoint, at most BALANCE_TRIES_MAX times in all, as long as the client has got nothing: no connection, a
 * connection cut before the answer's body was on its way, 503, and an engine's word that it does not have the adapter (the route is
 * stale; gateway/stale_answer.h). When the client leaves, the engine's connection is closed. When the engine dies in the middle of
 * server-sent events, the client gets an event {"error":{...}} and the end without [DONE]; any other body is cut, so that it cannot
 * be taken for whole.
 *
 * The body goes to the engine byte for byte, but for the value of its top-level `model` where that endpoint's engine calls the
 * model otherwise (route_engine_name; base:adapter for SGLang); then the answer's `model` is put back (gateway/model_rename.h). */
#ifndef DAVIT_GATEWAY_PROXY_H
#define DAVIT_GATEWAY_PROXY_H

#include "gateway/worker.h"

/* Answers the request, now or later. */
void proxy_start(struct worker *worker, struct http_request *request);
/* Cancels every exchange of the worker without answering; only before its server is freed. */
void proxy_release_all(struct worker *worker);

#endif
