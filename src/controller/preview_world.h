/* The world that a preview plays in: the pods that concern one adapter and the API's objects of it, copied, and what becomes of
 * them when everything succeeds. Pure; for preview.c. */
#ifndef DAVIT_CONTROLLER_PREVIEW_WORLD_H
#define DAVIT_CONTROLLER_PREVIEW_WORLD_H

#include "controller/pod_facts.h"
#include "controller/preview.h"

struct preview_place {
    struct pod_facts facts;
    char *start;
    const struct dialect_models *models; /* NULL = not asked */
    struct hold *hold;
    bool matches, is_published, is_believed;
    char published_tag[ENGINE_TAG_BYTES];
    bool has_left; /* its endpoint was taken out */
    int others;    /* adapters that it holds, this one aside */
    const char *domain, *zone;
};

struct preview_world {
    const struct preview_input *input;
    json_t *object; /* with the status as it is written */
    struct model_adapter spec;
    bool is_invalid;
    struct error err; /* why */
    char revision[REVISION_BYTES];
    struct preview_place *places; /* by name */
    struct plan_pod *views;       /* as the places, at the last look */
    size_t count;
    int matching, ready;
    json_t *service;
    json_t *slices[PLAN_SLICES_MAX];
    uint64_t digest;
    int64_t now_ms, status_written_ms, slice_written_ms;
    bool is_told; /* a status was written here */
};

void preview_world_init(struct preview_world *world, const struct preview_input *input);
void preview_world_release(struct preview_world *world);
/* The planner's input at this moment; borrows from the world. */
void preview_world_look(struct preview_world *world, struct plan_input *ret_input);
/* Tells the places anew who is published, after the slices were written. */
void preview_world_read_slices(struct preview_world *world);
/* The place's row in status.loads; NULL = none. */
const json_t *preview_row_in(const json_t *status, const char *pod);

#endif
