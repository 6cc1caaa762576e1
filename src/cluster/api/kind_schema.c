#include "cluster/api/kind_schema.h"

#include <string.h>

#define TYPE_NAME_BYTES 64

/* Where a value is, without a copy of the path: from the inside out. */
struct place {
    const struct place *parent;
    const char *member; /* NULL = an item of a list */
    size_t index;
};

struct findings {
    json_t *paths;
    size_t max;
    size_t count;
};

static void append_place(struct buffer *out, const struct place *place) {
    if (place->parent != NULL) {
        append_place(out, place->parent);
    }
    if (place->member == NULL) {
        buffer_printf(out, "[%zu]", place->index);
    } else {
        buffer_printf(out, "%s%s", out->len > 0 ? "." : "", place->member);
    }
}

static void report(struct findings *findings, const struct place *place) {
    if (findings->count++ < findings->max) {
        cleanup_buffer struct buffer path = BUFFER_INIT;
        append_place(&path, place);
        json_array_append_new(findings->paths, json_stringn(path.data, path.len));
    }
}

/* Whether the type has the member; *ret_type: what is known of it, NULL for nothing. */
static bool find_member(const struct kind_schema *type, const char *member, const struct kind_schema **ret_type) {
    size_t len = strlen(member);
    for (const char *at = type->fields; *at != '\0';) {
        size_t field_len = strcspn(at, " ");
        size_t name_len = strcspn(at, " :");
        if (name_len == len && memcmp(at, member, len) == 0) {
            char name[TYPE_NAME_BYTES] = "";
            if (name_len < field_len) {
                (void)snprintf(name, sizeof(name), "%.*s", (int)(field_len - name_len - 1), at + name_len + 1);
            }
            *ret_type = name[0] != '\0' ? kind_schema_find(name) : NULL;
            return true;
        }
        at += field_len;
        at += strspn(at, " ");
    }
    return false;
}

static void prune(const struct kind_schema *type, json_t *value, const struct place *parent, struct findings *findings) {
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(value, i, item) {
        const struct place place = {.parent = parent, .index = i};
        if (json_is_object(item)) {
            prune(type, item, &place, findings);
        }
    }
    const char *member = NULL;
    void *next = NULL;
    json_object_foreach_safe(value, next, member, item) {
        const struct place place = {.parent = parent, .member = member};
        const struct kind_schema *below = NULL;
        if (!find_member(type, member, &below)) {
            report(findings, &place);
            json_object_del(value, member);
        } else if (below != NULL) {
            prune(below, item, &place, findings);
        }
    }
}

size_t kind_schema_prune(const struct kind_schema *type, json_t *object, json_t *paths, size_t max) {
    struct findings findings = {.paths = paths, .max = max};
    prune(type, object, NULL, &findings);
    return findings.count;
}
