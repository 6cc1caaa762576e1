/* What the files of plan_world share with one another, and with nobody else. */
#ifndef DAVIT_TESTS_PLAN_WORLD_PARTS_H
#define DAVIT_TESTS_PLAN_WORLD_PARTS_H

#include "plan_world.h"

#define WORLD_RESOURCES (2 + WORLD_SLICES) /* the object, the Service, the slices */
#define UNREACHABLE_MS 10000

struct world_resource *world_resource_at(struct world_adapter *adapter, size_t index);
void world_root(const struct world *world, int a, const char *url, const char *revision, char ret_root[WORLD_ROOT_BYTES]);
#define WORLD_FOREIGN_ROOT "/somebody/elses"
/* Index of the version with this tag; fails when there is none. */
int world_version_of(const struct world *world, int a, const char *tag);
/* The last list shows the current revision's root under the adapter's own name, or one of its other names. */
bool world_lists_ours(const struct world *world, int a, int p);
/* The tag that the current revision is to have on the pod. */
void world_wanted_tag(const struct world *world, int a, int p, char ret_tag[ENGINE_TAG_BYTES]);
/* False when the engines have no room for it in the simulation. */
bool world_begin_operation(struct world *world, const struct world_operation *wanted);

/* ---- plan_world_shell.c ---- */
void world_reconcile(struct world *world, int a);
void world_forget_record(struct world *world, int a);
void world_note_operation(struct world *world, const struct world_operation *operation, const struct dialect_answer *answer);
/* Whether a plan made now asks for anything. */
bool world_would_act(struct world *world, int a);

#endif
