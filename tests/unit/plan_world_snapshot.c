#include "plan_world_snapshot.h"

#include "adapter/names.h"

#include <string.h>

static json_t *pod_object(const struct world *world, const struct world_pod *pod) {
    char port[8], flag[32] = "--enable-lora";
    snprintf(port, sizeof(port), "%d", pod->port);
    if (pod->capacity > 0) {
        snprintf(flag, sizeof(flag), "--max-cpu-loras=%d", pod->capacity);
    }
    json_t *object = json_pack(
        "{s:{s:s, s:s, s:s, s:{s:s, s:s}}, s:{s:s, s:[{s:s, s:[s]}, {s:s}]}, s:{s:s, s:s, s:[{s:s}, {s:s}], s:[{s:s, s:s}], "
        "s:[{s:s, s:i}]}}",
        "metadata", "name", pod->name, "namespace", "default", "uid", pod->uid, "labels", "app", pod->has_label ? "llm" : "other",
        LABEL_MODEL_PORT, port, "spec", "nodeName", pod->node, "containers", "name", "engine", "args", flag, "name",
        world->uses_sidecar ? SIDECAR_CONTAINER : "logs", "status", "phase", "Running", "podIP", pod->ip, "podIPs", "ip", pod->ip,
        "ip", pod->second_ip, "conditions", "type", "Ready", "status", pod->is_ready ? "True" : "False", "containerStatuses",
        "name", "engine", "restartCount", pod->start);
    assert_non_null(object);
    return object;
}

static void list_models(const struct world *world, int p, struct world_snapshot *snapshot) {
    struct dialect_models *list = &snapshot->lists[p];
    list->items = snapshot->models[p];
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        if (world->pods[p].roots[a][0] != '\0') {
            list->items[list->count++] = (struct dialect_model){
                .id = (char *)world->adapters[a].name, .root = (char *)world->pods[p].roots[a], .parent = (char *)"base"};
        }
    }
}

void world_snapshot_take(struct world *world, int a, const json_t *existing, struct world_snapshot *ret_snapshot) {
    struct world_adapter *adapter = &world->adapters[a];
    *ret_snapshot = (struct world_snapshot){.nodes = json_array(), .adapters = json_array()};
    size_t count = 0;
    for (int p = 0; p < WORLD_PODS; p++) {
        const struct world_pod *pod = &world->pods[p];
        if (pod->exists) {
            ret_snapshot->pods[count] = pod_object(world, pod);
            list_models(world, p, ret_snapshot);
            ret_snapshot->views[count] =
                (struct preview_pod){.object = ret_snapshot->pods[count], .models = &ret_snapshot->lists[p]};
            count++;
            json_array_append_new(ret_snapshot->nodes,
                                  json_pack("{s:{s:s, s:{s:s}}}", "metadata", "name", pod->node, "labels", LABEL_ZONE, pod->zone));
        }
    }
    for (int i = 0; i < WORLD_ADAPTERS; i++) {
        if (world->adapters[i].object.api != NULL) {
            json_array_append(ret_snapshot->adapters, world->adapters[i].object.api);
        }
    }
    ret_snapshot->input = (struct preview_input){.object = adapter->object.api,
                                                 .existing = existing,
                                                 .pods = ret_snapshot->views,
                                                 .pod_count = count,
                                                 .adapters = ret_snapshot->adapters,
                                                 .nodes = ret_snapshot->nodes,
                                                 .service = adapter->service.api,
                                                 .enable_sidecar = world->uses_sidecar,
                                                 .policy = world->policy};
    for (size_t i = 0; i < WORLD_SLICES; i++) {
        ret_snapshot->input.slices[i] = adapter->slices[i].api;
    }
}

void world_snapshot_release(struct world_snapshot *snapshot) {
    for (int p = 0; p < WORLD_PODS; p++) {
        json_decref(snapshot->pods[p]);
    }
    json_decref(snapshot->nodes);
    json_decref(snapshot->adapters);
}

void world_snapshot_hide_lists(struct world_snapshot *snapshot) {
    for (size_t i = 0; i < snapshot->input.pod_count; i++) {
        snapshot->views[i].models = NULL;
    }
}
