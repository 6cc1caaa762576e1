#include "cluster/node/actions.h"

void api_actions_add(struct api_actions *actions, const struct api_action *action) {
    if (actions->count == actions->capacity) {
        actions->capacity = actions->capacity == 0 ? 8 : 2 * actions->capacity;
        actions->items = xrealloc(actions->items, actions->capacity * sizeof(*actions->items));
    }
    actions->items[actions->count++] = *action;
}

void api_actions_look_again(struct api_actions *actions, int64_t after_ms) {
    after_ms = after_ms > 0 ? after_ms : 1;
    if (actions->again_ms == 0 || after_ms < actions->again_ms) {
        actions->again_ms = after_ms;
    }
}

void api_actions_release(struct api_actions *actions) {
    for (size_t i = 0; i < actions->count; i++) {
        struct api_action *action = &actions->items[i];
        free(action->namespace);
        free(action->name);
        json_decref(action->body);
        free(action->event_message);
    }
    free(actions->items);
    *actions = (struct api_actions){0};
}

void api_actions_add_status(struct api_actions *actions, const struct kube_resource *resource, const json_t *object,
                            json_t *status) {
    cleanup_json json_t *before = json_incref(json_object_get(object, "status"));
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(before, key, value) {
        if (json_object_get(status, key) == NULL) {
            json_object_set_new(status, key, json_null());
        }
    }
    cleanup_json json_t *after = json_merge_patch(before != NULL ? json_deep_copy(before) : json_object(), status);
    if (before != NULL && json_equal(before, after)) {
        json_decref(status);
        return;
    }
    api_actions_add(actions, &(struct api_action){.verb = KUBE_PATCH_MERGE,
                                                  .resource = resource,
                                                  .namespace = xstrdup(kube_namespace(object)),
                                                  .name = xstrdup(kube_name(object)),
                                                  .subresource = "status",
                                                  .body = json_pack("{s:o}", "status", status)});
}
