/* A fake engine on its address: sockets, faults, delays and counting around engine.h. One loop serves all engines. */
#ifndef DAVIT_TESTS_FAKE_ENGINE_SERVER_H
#define DAVIT_TESTS_FAKE_ENGINE_SERVER_H

#include "engine.h"
#include "event_log.h"
#include "io/http_server.h"

#include <sys/queue.h>

struct pending;

struct counts {
    int64_t requests[CALL_COUNT]; /* that arrived */
    int64_t refused[CALL_COUNT];  /* answered with 400 or more */
    int64_t cut;                  /* of connections, without an answer */
    int64_t loads_running_most;   /* at once */
    int64_t starts;
};

struct served_door {
    struct served *served;
    enum door door;
    int port; /* 0 = there is no such door */
    struct http_server *http;
};

struct served {
    struct loop *loop;
    struct event_log *log;
    struct engine engine;
    struct served_door doors[2];
    struct counts counts;
    int64_t loads_running;
    TAILQ_HEAD(, pending) pending; /* requests that have no answer yet, in order */
};

struct served_options {
    struct loop *loop;
    struct event_log *log; /* borrowed */
    enum kind kind;
    const char *address, *base_model;
    int port, sidecar_port; /* 0 = no sidecar */
};

int served_init(struct served *served, const struct served_options *options, struct error *err) DAVIT_MUST_USE;
void served_release(struct served *served);
int served_set(struct served *served, const json_t *settings, struct error *err) DAVIT_MUST_USE;
/* Ends as a killed process does, and is there again at once, without adapters. */
void served_restart(struct served *served);

#endif
