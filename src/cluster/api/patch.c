#include "cluster/api/patch.h"

#include <string.h>

int patch_apply(enum patch_type type, const char *kind, const json_t *target, const json_t *patch, json_t **ret_result,
                struct error *err) {
    if (type == PATCH_JSON) {
        return patch_json(target, patch, ret_result, err);
    }
    if (!json_is_object(patch)) {
        return error_set(err, ERROR_INVALID, "the patch must be a JSON object");
    }
    if (type == PATCH_STRATEGIC) {
        return patch_strategic(kind, target, patch, ret_result, err);
    }
    *ret_result = json_merge_patch(json_deep_copy(target), patch);
    return 0;
}

/* ---- JSON Pointer (RFC 6901) ---- */

/* The next token after the '/' at *pointer, decoded; *pointer moves behind it. */
static char *next_token(const char **pointer) {
    const char *at = *pointer + 1;
    char *token = xmalloc(strlen(at) + 1);
    size_t len = 0;
    for (; *at != '\0' && *at != '/'; at++) {
        if (at[0] == '~' && (at[1] == '0' || at[1] == '1')) {
            token[len++] = at[1] == '0' ? '~' : '/';
            at++;
        } else {
            token[len++] = *at;
        }
    }
    token[len] = '\0';
    *pointer = at;
    return token;
}

/* Index of a list's token; -1 when it is not one. "-" is the end. */
static int64_t list_index(const json_t *list, const char *token, bool may_be_end) {
    size_t size = json_array_size(list);
    if (strcmp(token, "-") == 0) {
        return may_be_end ? (int64_t)size : -1;
    }
    if (*token == '\0' || strspn(token, "0123456789") != strlen(token) || strlen(token) > 9 ||
        (token[0] == '0' && token[1] != '\0')) {
        return -1;
    }
    int64_t index = strtoll(token, NULL, 10);
    return index < (int64_t)size + (may_be_end ? 1 : 0) ? index : -1;
}

static json_t *child_of(const json_t *parent, const char *token) {
    if (json_is_array(parent)) {
        int64_t index = list_index(parent, token, false);
        return index >= 0 ? json_array_get(parent, (size_t)index) : NULL;
    }
    return json_object_get(parent, token);
}

/* The parent of what the pointer names, and the last token (of the caller's). NULL when the parent does not exist. */
static json_t *find_parent(json_t *root, const char *pointer, char **ret_token) {
    json_t *parent = root;
    while (true) {
        char *token = next_token(&pointer);
        if (*pointer == '\0') {
            *ret_token = token;
            return json_is_object(parent) || json_is_array(parent) ? parent : (free(take_pointer(*ret_token)), NULL);
        }
        parent = child_of(parent, token);
        free(token);
        if (parent == NULL) {
            return NULL;
        }
    }
}

static json_t *find_value(json_t *root, const char *pointer) {
    json_t *value = root;
    while (value != NULL && *pointer != '\0') {
        cleanup_free char *token = next_token(&pointer);
        value = child_of(value, token);
    }
    return value;
}

/* ---- operations; `value` is taken ---- */

static int add_value(json_t **root, const char *pointer, json_t *value) {
    if (*pointer == '\0') {
        json_decref(*root);
        *root = value;
        return 0;
    }
    cleanup_free char *token = NULL;
    json_t *parent = find_parent(*root, pointer, &token);
    int result = -1;
    if (json_is_object(parent)) {
        return json_object_set_new(parent, token, value);
    }
    if (json_is_array(parent)) {
        int64_t index = list_index(parent, token, true);
        result = index >= 0 ? json_array_insert(parent, (size_t)index, value) : -1;
    }
    json_decref(value);
    return result;
}

static int remove_value(json_t *root, const char *pointer) {
    if (*pointer == '\0') {
        return -1;
    }
    cleanup_free char *token = NULL;
    json_t *parent = find_parent(root, pointer, &token);
    if (json_is_object(parent)) {
        return json_object_del(parent, token);
    }
    int64_t index = json_is_array(parent) ? list_index(parent, token, false) : -1;
    return index >= 0 ? json_array_remove(parent, (size_t)index) : -1;
}

static int replace_value(json_t **root, const char *pointer, json_t *value) {
    if (*pointer == '\0') {
        return add_value(root, pointer, value);
    }
    cleanup_free char *token = NULL;
    json_t *parent = find_parent(*root, pointer, &token);
    if (parent == NULL || child_of(parent, token) == NULL) {
        json_decref(value);
        return -1;
    }
    return json_is_object(parent) ? json_object_set_new(parent, token, value)
                                  : json_array_set_new(parent, (size_t)list_index(parent, token, false), value);
}

/* 0, -1 = the path does not exist (or the test failed), -2 = the operation is malformed, -3 = the copies are too large together:
 * each may double the document. */
static int run_operation(json_t **root, const json_t *operation, size_t *copied_bytes) {
    const char *op = json_string_at(operation, "op", "");
    const char *path = json_string_at(operation, "path", NULL);
    const char *from = json_string_at(operation, "from", NULL);
    const json_t *value = json_object_get(operation, "value");
    if (path == NULL || (*path != '\0' && *path != '/')) {
        return -2;
    }
    if (strcmp(op, "remove") == 0) {
        return remove_value(*root, path);
    }
    if (strcmp(op, "move") == 0 || strcmp(op, "copy") == 0) {
        if (from == NULL || (*from != '\0' && *from != '/')) {
            return -2;
        }
        json_t *source = find_value(*root, from);
        if (source == NULL) {
            return -1;
        }
        *copied_bytes += strcmp(op, "copy") == 0 ? json_dumpb(source, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY) : 0;
        if (*copied_bytes > JSON_PATCH_COPIED_BYTES_MAX) {
            return -3;
        }
        json_t *copy = json_deep_copy(source);
        if (strcmp(op, "move") == 0 && remove_value(*root, from) < 0) {
            json_decref(copy);
            return -1;
        }
        return add_value(root, path, copy);
    }
    if (value == NULL) {
        return -2;
    }
    if (strcmp(op, "add") == 0) {
        return add_value(root, path, json_deep_copy(value));
    }
    if (strcmp(op, "replace") == 0) {
        return replace_value(root, path, json_deep_copy(value));
    }
    if (strcmp(op, "test") == 0) {
        const json_t *found = find_value(*root, path);
        return found != NULL && json_equal(found, value) ? 0 : -1;
    }
    return -2;
}

int patch_json(const json_t *target, const json_t *operations, json_t **ret_result, struct error *err) {
    if (!json_is_array(operations)) {
        return error_set(err, ERROR_INVALID, "a JSON Patch must be a list of operations");
    }
    if (json_array_size(operations) > JSON_PATCH_OPERATIONS_MAX) {
        return error_set(err, ERROR_LIMIT, "the JSON Patch has %zu operations, more than %d", json_array_size(operations),
                         JSON_PATCH_OPERATIONS_MAX);
    }
    cleanup_json json_t *root = json_deep_copy(target);
    size_t i = 0;
    size_t copied_bytes = 0;
    const json_t *operation = NULL;
    json_array_foreach(operations, i, operation) {
        int result = run_operation(&root, operation, &copied_bytes);
        if (result == -3) {
            return error_set(err, ERROR_LIMIT, "operation %zu of the JSON Patch: the copies are larger than %d bytes together", i,
                             JSON_PATCH_COPIED_BYTES_MAX);
        }
        if (result < 0) {
            const char *op = json_string_at(operation, "op", "?");
            const char *path = json_string_at(operation, "path", "?");
            return result == -2 ? error_set(err, ERROR_INVALID,
                                            "operation %zu of the JSON Patch is malformed: op \"%s\", path \"%s\"", i, op, path)
                                : error_set(err, ERROR_CONFLICT, "operation %zu of the JSON Patch cannot be done: %s %s: %s", i, op,
                                            path, strcmp(op, "test") == 0 ? "the test failed" : "the path does not exist");
        }
    }
    *ret_result = json_incref(root);
    return 0;
}
