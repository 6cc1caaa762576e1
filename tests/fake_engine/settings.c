#include "settings.h"

#include <string.h>

static const char *const call_names[] = {[CALL_LIST] = "list",
                                         [CALL_LOAD] = "load",
                                         [CALL_UNLOAD] = "unload",
                                         [CALL_GENERATE] = "generate",
                                         [CALL_GENERATE_BASE] = "generate_base",
                                         [CALL_OTHER] = "other"};

const char *call_name(enum call call) {
    return call_names[call];
}

enum type { TYPE_BOOL, TYPE_INT, TYPE_TEXT };

struct member {
    const char *name;
    enum type type;
    size_t offset;
};

static const struct member fault_members[] = {
    {"delay_ms", TYPE_INT, offsetof(struct fault, delay_ms)}, {"hang", TYPE_BOOL, offsetof(struct fault, hang)},
    {"close", TYPE_BOOL, offsetof(struct fault, close)},      {"status", TYPE_INT, offsetof(struct fault, status)},
    {"message", TYPE_TEXT, offsetof(struct fault, message)},
};

static const struct member settings_members[] = {
    {"base_model", TYPE_TEXT, offsetof(struct settings, base_model)},
    {"api_key", TYPE_TEXT, offsetof(struct settings, api_key)},
    {"max_loras", TYPE_INT, offsetof(struct settings, max_loras)},
    {"max_cpu_loras", TYPE_INT, offsetof(struct settings, max_cpu_loras)},
    {"loads_at_once", TYPE_INT, offsetof(struct settings, loads_at_once)},
    {"no_effect", TYPE_BOOL, offsetof(struct settings, no_effect)},
    {"no_logprobs", TYPE_BOOL, offsetof(struct settings, no_logprobs)},
    {"root", TYPE_TEXT, offsetof(struct settings, root)},
    {"dead", TYPE_BOOL, offsetof(struct settings, dead)},
    {"s3_access_key", TYPE_TEXT, offsetof(struct settings, s3_access_key)},
    {"s3_secret_key", TYPE_TEXT, offsetof(struct settings, s3_secret_key)},
};

static const struct member *find_member(const struct member *members, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(members[i].name, name) == 0) {
            return &members[i];
        }
    }
    return NULL;
}

static bool fits(enum type type, const json_t *value) {
    switch (type) {
    case TYPE_BOOL:
        return json_is_boolean(value);
    case TYPE_INT:
        return json_is_integer(value) && json_integer_value(value) >= 0;
    default:
        return json_is_string(value) || json_is_null(value);
    }
}

static void set(void *target, const struct member *member, const json_t *value) {
    char *at = (char *)target + member->offset;
    if (member->type == TYPE_BOOL) {
        *(bool *)at = json_is_true(value);
    } else if (member->type == TYPE_INT) {
        *(int64_t *)at = json_integer_value(value);
    } else {
        free(*(char **)at);
        *(char **)at = json_is_string(value) ? xstrdup(json_string_value(value)) : NULL;
    }
}

/* Checks every member when `target` is NULL, else sets them. */
static int walk(const struct member *members, size_t count, const json_t *object, const char *what, void *target,
                struct error *err) {
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)object, name, value) {
        const struct member *member = find_member(members, count, name);
        if (strcmp(name, "faults") == 0 && members == settings_members) {
            continue;
        }
        if (member == NULL || !fits(member->type, value)) {
            return error_set(err, ERROR_INVALID, "%s: %s is %s", what, name, member == NULL ? "not known" : "of another type");
        }
        if (target != NULL) {
            set(target, member, value);
        }
    }
    return 0;
}

static int walk_faults(const json_t *object, struct settings *target, struct error *err) {
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)object, name, value) {
        enum call call = CALL_LIST;
        while (call < CALL_COUNT && strcmp(call_names[call], name) != 0) {
            call++;
        }
        if (call == CALL_COUNT || !json_is_object(value)) {
            return error_set(err, ERROR_INVALID, "faults: %s is not a call, or not an object", name);
        }
        if (walk(fault_members, ARRAY_LEN(fault_members), value, name, target != NULL ? &target->faults[call] : NULL, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int settings_merge(struct settings *settings, const json_t *object, struct error *err) {
    const json_t *faults = json_at(object, "faults");
    if (!json_is_object(object) || (faults != NULL && !json_is_object(faults))) {
        return error_set(err, ERROR_INVALID, "settings: expected an object");
    }
    if (json_is_null(json_at(object, "base_model"))) {
        return error_set(err, ERROR_INVALID, "settings: base_model is needed");
    }
    if (walk(settings_members, ARRAY_LEN(settings_members), object, "settings", NULL, err) < 0 ||
        walk_faults(faults, NULL, err) < 0 ||
        walk(settings_members, ARRAY_LEN(settings_members), object, "settings", settings, err) < 0) {
        return -1;
    }
    return walk_faults(faults, settings, err);
}

void settings_init(struct settings *settings, const char *base_model) {
    *settings = (struct settings){.base_model = xstrdup(base_model), .max_loras = 4};
}

void settings_release(struct settings *settings) {
    free(settings->base_model);
    free(settings->api_key);
    free(settings->root);
    free(settings->s3_access_key);
    free(settings->s3_secret_key);
    for (size_t i = 0; i < CALL_COUNT; i++) {
        free(settings->faults[i].message);
    }
    *settings = (struct settings){0};
}
