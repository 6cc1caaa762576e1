/* What `davit plan` needs to know: objects of the API and what engines list. Only GETs. One thread; runs a loop of its own. */
#ifndef DAVIT_CLI_PLAN_GATHER_H
#define DAVIT_CLI_PLAN_GATHER_H

#include "cli/api_list.h"
#include "controller/preview.h"

struct plan_gather_options {
    const struct kube_config *config;
    bool enable_sidecar;
    bool is_offline;    /* no engine is asked */
    int64_t timeout_ms; /* of a question to an engine */
};

struct plan_engine {
    struct plan_gather *gather;
    const json_t *adapter; /* that concerns it: whose key is used */
    struct dialect_models models;
    bool is_asked;
    char *failure; /* why it is not known what it lists; NULL = it is, or nobody asked */
};

/* A namespace. */
struct plan_room {
    struct plan_gather *gather;
    char *namespace;
    struct api_list adapters, pods, services, slices;
    struct preview_pod *views;
    struct plan_engine *engines; /* as the views */
    size_t pod_count;
    bool is_missing; /* the API has no such namespace */
};

struct plan_gather {
    const struct plan_gather_options *options;
    struct loop *loop;
    struct transfers *transfers;
    struct kube_client *client;
    struct secrets *secrets;
    const json_t *files; /* the file's ModelAdapters */
    json_t *wanted;      /* as they would be stored, once the objects are there */
    struct plan_room *rooms;
    size_t room_count;
    struct api_list nodes;
    int open;
    int phase;
    bool was_interrupted;
};

/* `files`: array of ModelAdapters with namespaces, borrowed. Release in either case. */
int plan_gather_run(struct plan_gather *gather, const struct plan_gather_options *options, const json_t *files,
                    struct error *err) DAVIT_MUST_USE;
void plan_gather_release(struct plan_gather *gather);

/* A question was answered, or will not be. */
void plan_gather_end_one(struct plan_gather *gather);

struct plan_room *plan_gather_room(const struct plan_gather *gather, const char *namespace);
/* The object of that name in a list; NULL when there is none. Borrowed. */
json_t *plan_gather_find(const struct api_list *list, const char *name, size_t *ret_index);

#endif
