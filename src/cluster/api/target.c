#include "cluster/api/target.h"

#include <string.h>

#define SEGMENTS_MAX 10

struct segments {
    char *text;
    char *items[SEGMENTS_MAX];
    size_t count;
};

/* Splits at '/'; false when a segment is empty or there are too many. */
static bool split(const char *path, struct segments *out) {
    *out = (struct segments){.text = xstrdup(path)};
    for (char *at = out->text; *at == '/';) {
        *at++ = '\0';
        if (*at == '\0' && out->count > 0) {
            return true; /* a trailing slash */
        }
        if (*at == '\0' || *at == '/' || out->count == SEGMENTS_MAX) {
            return false;
        }
        out->items[out->count++] = at;
        at = strchrnul(at, '/');
    }
    return out->count > 0;
}

static char *segment_copy(const struct segments *segments, size_t at) {
    return at < segments->count ? xstrdup(segments->items[at]) : NULL;
}

static bool is_namespace_part(const char *text) {
    return strcmp(text, "status") == 0 || strcmp(text, "finalize") == 0;
}

static bool read_segments(const struct segments *segments, struct target *target) {
    if (segments->count < 3) {
        return false;
    }
    bool is_core = strcmp(segments->items[0], "api") == 0;
    if (!is_core && (strcmp(segments->items[0], "apis") != 0 || segments->count < 4)) {
        return false;
    }
    const char *group = is_core ? "" : segments->items[1];
    const char *version = segments->items[is_core ? 1 : 2];
    size_t at = is_core ? 2 : 3;
    bool has_namespace = strcmp(segments->items[at], "namespaces") == 0 && segments->count > at + 2 &&
                         !(is_core && is_namespace_part(segments->items[at + 2]));
    if (has_namespace) {
        target->namespace = xstrdup(segments->items[at + 1]);
        at += 2;
    }
    target->resource = resource_find(group, version, segments->items[at]);
    if (target->resource == NULL || (has_namespace && !target->resource->is_namespaced) || segments->count > at + 3) {
        return false;
    }
    target->name = segment_copy(segments, at + 1);
    target->subresource = segment_copy(segments, at + 2);
    return target->name == NULL || target->namespace != NULL || !target->resource->is_namespaced;
}

bool target_parse(const char *path, struct target *ret_target) {
    *ret_target = (struct target){0};
    struct segments segments;
    bool is_ok = split(path, &segments) && read_segments(&segments, ret_target);
    free(segments.text);
    return is_ok;
}

void target_release(struct target *target) {
    free(target->namespace);
    free(target->name);
    free(target->subresource);
    *target = (struct target){0};
}

enum answer_form accept_parse(const char *accept) {
    if (accept == NULL || *accept == '\0') {
        return FORM_OBJECT;
    }
    for (const char *range = accept; *range != '\0';) {
        size_t len = strcspn(range, ",");
        cleanup_free char *one = xstrndup(range, len);
        const char *type = one + strspn(one, " \t");
        bool is_json = strncmp(type, "application/json", 16) == 0;
        if (is_json && strstr(type, "as=Table") != NULL) {
            return FORM_TABLE;
        }
        if (is_json && strstr(type, "as=PartialObjectMetadata") != NULL) {
            return FORM_PARTIAL;
        }
        if ((is_json && strstr(type, "as=") == NULL) || strncmp(type, "*/*", 3) == 0 || strncmp(type, "application/*", 13) == 0) {
            return FORM_OBJECT;
        }
        range += len + (range[len] == ',' ? 1 : 0);
    }
    return FORM_NOT_ACCEPTABLE;
}
