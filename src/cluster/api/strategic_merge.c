#include "cluster/api/patch.h"

#include <string.h>

/* Lists that are merged, and by which member; key "" = a set of strings. `kind` NULL = any. `parent`: the member that holds the
 * object that holds the list, NULL = any. First match wins; a list without a row is replaced. From the patchStrategy tags of
 * k8s.io/api. */
static const struct merge_rule {
    const char *list;
    const char *kind;
    const char *parent;
    const char *key;
} merge_rules[] = {
    {"containers", NULL, NULL, "name"},
    {"initContainers", NULL, NULL, "name"},
    {"ephemeralContainers", NULL, NULL, "name"},
    {"env", NULL, NULL, "name"},
    {"volumes", NULL, NULL, "name"},
    {"volumeMounts", NULL, NULL, "mountPath"},
    {"volumeDevices", NULL, NULL, "devicePath"},
    {"imagePullSecrets", NULL, NULL, "name"},
    {"secrets", "ServiceAccount", NULL, "name"},
    {"hostAliases", NULL, NULL, "ip"},
    {"topologySpreadConstraints", NULL, NULL, "topologyKey"},
    {"resourceClaims", NULL, "spec", "name"},
    {"ports", "Service", NULL, "port"},
    {"ports", NULL, "containers", "containerPort"},
    {"ports", NULL, "initContainers", "containerPort"},
    {"addresses", "Node", NULL, "type"},
    {"taints", "Node", NULL, "key"},
    {"conditions", "CustomResourceDefinition", NULL, NULL},
    {"conditions", "EndpointSlice", NULL, NULL},
    {"conditions", NULL, NULL, "type"},
    {"podIPs", NULL, NULL, "ip"},
    {"hostIPs", NULL, NULL, "ip"},
    {"ownerReferences", NULL, "metadata", "uid"},
    {"finalizers", NULL, "metadata", ""},
};

struct merge {
    const char *kind;
    struct error *err;
};

static const char order_prefix[] = "$setElementOrder/";
static const char delete_prefix[] = "$deleteFromPrimitiveList/";

static json_t *merge_objects(const struct merge *merge, const char *member, const json_t *target, const json_t *patch);

/* NULL: the list is replaced. */
static const char *merge_key(const struct merge *merge, const char *list, const char *parent) {
    for (size_t i = 0; i < ARRAY_LEN(merge_rules); i++) {
        const struct merge_rule *rule = &merge_rules[i];
        if (strcmp(rule->list, list) == 0 && (rule->kind == NULL || strcmp(rule->kind, merge->kind) == 0) &&
            (rule->parent == NULL || strcmp(rule->parent, parent) == 0)) {
            return rule->key;
        }
    }
    return NULL;
}

static bool is_directive(const char *member) {
    return member[0] == '$' && (strcmp(member, "$patch") == 0 || strcmp(member, "$retainKeys") == 0 ||
                                strncmp(member, order_prefix, sizeof(order_prefix) - 1) == 0 ||
                                strncmp(member, delete_prefix, sizeof(delete_prefix) - 1) == 0);
}

static int64_t find_item(const json_t *list, const char *key, const json_t *wanted) {
    size_t i = 0;
    const json_t *item = NULL;
    json_array_foreach(list, i, item) {
        const json_t *have = *key != '\0' ? json_object_get(item, key) : item;
        if (have != NULL && json_equal(have, wanted)) {
            return (int64_t)i;
        }
    }
    return -1;
}

/* A copy of a patch value as it stands when there is nothing to merge with: without directives and nulls. */
static json_t *plain_value(const struct merge *merge, const char *member, const json_t *patch) {
    if (json_is_object(patch)) {
        cleanup_json json_t *empty = json_object();
        return merge_objects(merge, member, empty, patch);
    }
    if (!json_is_array(patch)) {
        return json_deep_copy(patch);
    }
    json_t *list = json_array();
    size_t i = 0;
    const json_t *item = NULL;
    json_array_foreach(patch, i, item) {
        if (*json_string_at(item, "$patch", "") != '\0') {
            continue;
        }
        json_t *plain = plain_value(merge, member, item);
        if (plain == NULL) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, plain);
    }
    return list;
}

static json_t *merge_set(const json_t *target, const json_t *patch) {
    json_t *result = json_is_array(target) ? json_copy((json_t *)target) : json_array();
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(patch, i, item) {
        if (find_item(result, "", item) < 0) {
            json_array_append(result, item);
        }
    }
    return result;
}

static bool list_is_replaced(const json_t *patch) {
    size_t i = 0;
    const json_t *item = NULL;
    json_array_foreach(patch, i, item) {
        if (json_is_object(item) && strcmp(json_string_at(item, "$patch", ""), "replace") == 0) {
            return true;
        }
    }
    return false;
}

static json_t *merge_lists(const struct merge *merge, const char *member, const char *key, const json_t *target,
                           const json_t *patch) {
    if (list_is_replaced(patch)) {
        return plain_value(merge, member, patch);
    }
    json_t *result = json_is_array(target) ? json_copy((json_t *)target) : json_array();
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(patch, i, item) {
        const json_t *wanted = json_object_get(item, key);
        if (wanted == NULL) {
            error_set(merge->err, ERROR_INVALID, "map: %s[%zu] does not contain declared merge key: %s", member, i, key);
            json_decref(result);
            return NULL;
        }
        int64_t at = find_item(result, key, wanted);
        if (strcmp(json_string_at(item, "$patch", ""), "delete") == 0) {
            if (at >= 0) {
                json_array_remove(result, (size_t)at);
            }
            continue;
        }
        json_t *merged =
            at >= 0 ? merge_objects(merge, member, json_array_get(result, (size_t)at), item) : plain_value(merge, member, item);
        if (merged == NULL) {
            json_decref(result);
            return NULL;
        }
        if (at >= 0) {
            json_array_set_new(result, (size_t)at, merged);
        } else {
            json_array_append_new(result, merged);
        }
    }
    return result;
}

/* $setElementOrder: items that the order names come in that order; others keep their place after the item they followed. */
static json_t *order_list(const json_t *list, const char *key, const json_t *order) {
    json_t *result = json_array();
    size_t i = 0;
    json_t *item = NULL;
    size_t next = 0; /* items of `list` before it are placed or wait for their turn in the order */
    cleanup_json json_t *placed = json_object();
    json_array_foreach(order, i, item) {
        const json_t *wanted = *key != '\0' && json_is_object(item) ? json_object_get(item, key) : item;
        int64_t at = find_item(list, key, wanted);
        if (at < 0) {
            continue;
        }
        while (next < (size_t)at) { /* unnamed items that came before it */
            json_t *before = json_array_get(list, next);
            const json_t *before_key = *key != '\0' ? json_object_get(before, key) : before;
            bool is_named = false;
            size_t o = 0;
            const json_t *named = NULL;
            json_array_foreach(order, o, named) {
                is_named =
                    is_named || json_equal(*key != '\0' && json_is_object(named) ? json_object_get(named, key) : named, before_key);
            }
            if (!is_named) {
                json_array_append(result, before);
                char index[24];
                (void)snprintf(index, sizeof(index), "%zu", next);
                json_object_set_new(placed, index, json_true());
            }
            next++;
        }
        char index[24];
        (void)snprintf(index, sizeof(index), "%lld", (long long)at);
        if (json_object_get(placed, index) == NULL) {
            json_object_set_new(placed, index, json_true());
            json_array_append(result, json_array_get(list, (size_t)at));
        }
    }
    json_array_foreach(list, i, item) {
        char index[24];
        (void)snprintf(index, sizeof(index), "%zu", i);
        if (json_object_get(placed, index) == NULL) {
            json_array_append(result, item);
        }
    }
    return result;
}

static json_t *merge_value(const struct merge *merge, const char *parent, const char *member, const json_t *target,
                           const json_t *patch) {
    if (json_is_object(patch)) {
        return json_is_object(target) ? merge_objects(merge, member, target, patch) : plain_value(merge, member, patch);
    }
    const char *key = json_is_array(patch) ? merge_key(merge, member, parent) : NULL;
    if (key == NULL) {
        return plain_value(merge, member, patch);
    }
    return *key == '\0' ? merge_set(target, patch) : merge_lists(merge, member, key, target, patch);
}

/* The directives that concern members beside their own: order, deletion from sets, kept keys. */
static void run_directives(const struct merge *merge, const char *parent, json_t *result, const json_t *patch) {
    const char *member = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)patch, member, value) {
        if (strncmp(member, delete_prefix, sizeof(delete_prefix) - 1) == 0) {
            const char *name = member + sizeof(delete_prefix) - 1;
            json_t *list = json_copy(json_object_get(result, name));
            size_t i = 0;
            json_t *item = NULL;
            json_array_foreach(value, i, item) {
                int64_t at = find_item(list, "", item);
                if (at >= 0) {
                    json_array_remove(list, (size_t)at);
                }
            }
            if (list != NULL) {
                json_object_set_new(result, name, list);
            }
        }
    }
    json_object_foreach((json_t *)patch, member, value) {
        if (strncmp(member, order_prefix, sizeof(order_prefix) - 1) == 0) {
            const char *name = member + sizeof(order_prefix) - 1;
            const char *key = merge_key(merge, name, parent);
            const json_t *list = json_object_get(result, name);
            if (key != NULL && json_is_array(list) && json_is_array(value)) {
                json_object_set_new(result, name, order_list(list, key, value));
            }
        }
    }
    const json_t *kept = json_object_get(patch, "$retainKeys");
    if (json_is_array(kept)) {
        void *next = NULL;
        json_object_foreach_safe(result, next, member, value) {
            cleanup_json json_t *name = json_string(member);
            if (find_item(kept, "", name) < 0) {
                json_object_del(result, member);
            }
        }
    }
}

/* `member`: where the objects are held, which decides about lists in them. Returns a new object, or NULL with an error. */
static json_t *merge_objects(const struct merge *merge, const char *member, const json_t *target, const json_t *patch) {
    const char *directive = json_string_at(patch, "$patch", "merge");
    if (strcmp(directive, "delete") == 0) {
        return json_object();
    }
    if (strcmp(directive, "replace") != 0 && strcmp(directive, "merge") != 0) {
        error_set(merge->err, ERROR_INVALID, "unknown patch directive $patch: \"%s\"", directive);
        return NULL;
    }
    json_t *result = strcmp(directive, "replace") == 0 || !json_is_object(target) ? json_object() : json_copy((json_t *)target);
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)patch, name, value) {
        if (is_directive(name)) {
            continue;
        }
        if (json_is_null(value)) {
            json_object_del(result, name);
            continue;
        }
        json_t *merged = merge_value(merge, member, name, json_object_get(result, name), value);
        if (merged == NULL) {
            json_decref(result);
            return NULL;
        }
        json_object_set_new(result, name, merged);
    }
    run_directives(merge, member, result, patch);
    return result;
}

static bool has_long_list(const json_t *value) {
    const char *key = NULL;
    json_t *member = NULL;
    size_t i = 0;
    json_object_foreach((json_t *)value, key, member) {
        if (has_long_list(member)) {
            return true;
        }
    }
    json_array_foreach(value, i, member) {
        if (has_long_list(member)) {
            return true;
        }
    }
    return json_array_size(value) > MERGED_LIST_ITEMS_MAX;
}

int patch_strategic(const char *kind, const json_t *target, const json_t *patch, json_t **ret_result, struct error *err) {
    if (has_long_list(target) || has_long_list(patch)) {
        return error_set(err, ERROR_LIMIT,
                         "a strategic merge patch is not done with lists of more than %d items; use a merge patch",
                         MERGED_LIST_ITEMS_MAX);
    }
    struct merge merge = {.kind = kind, .err = err};
    cleanup_json json_t *merged = merge_objects(&merge, "", target, patch); /* shares what the patch did not touch */
    if (merged == NULL) {
        return -1;
    }
    *ret_result = json_deep_copy(merged);
    return 0;
}
