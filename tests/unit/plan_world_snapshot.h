/* A simulated world as the API and its engines show it: the input of a preview. */
#ifndef DAVIT_TESTS_PLAN_WORLD_SNAPSHOT_H
#define DAVIT_TESTS_PLAN_WORLD_SNAPSHOT_H

#include "plan_world.h"

#include "controller/preview.h"

struct world_snapshot {
    json_t *pods[WORLD_PODS];
    struct dialect_model models[WORLD_PODS][WORLD_ADAPTERS];
    struct dialect_models lists[WORLD_PODS];
    struct preview_pod views[WORLD_PODS];
    json_t *nodes, *adapters;
    struct preview_input input;
};

/* Of an adapter that is in the API: as it is there now is what is wanted, `existing` is what it was. Borrows from the world until
 * it is released. */
void world_snapshot_take(struct world *world, int a, const json_t *existing, struct world_snapshot *ret_snapshot);
void world_snapshot_release(struct world_snapshot *snapshot);
/* No engine was asked. */
void world_snapshot_hide_lists(struct world_snapshot *snapshot);

#endif
