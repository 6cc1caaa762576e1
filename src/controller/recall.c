#include "controller/recall.h"

#include <string.h>

static enum hold_effect effect_in(const json_t *status) {
    const json_t *conditions = json_at(status, "conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *condition = json_array_get(conditions, i);
        if (strcmp(json_string_at(condition, "type", ""), "NoEffect") == 0) {
            return strcmp(json_string_at(condition, "status", ""), "True") == 0 ? EFFECT_NONE : EFFECT_SEEN;
        }
    }
    return EFFECT_UNKNOWN;
}

void recall_load(const json_t *status, const json_t *row, struct hold_record *ret_record) {
    const char *reason = json_string_at(row, "reason", "");
    /* What had served and does not let itself be unloaded is out, until the pod serves again. */
    bool was_serving = hold_state_is_serving(json_string_at(row, "state", "")) || strcmp(reason, HOLD_REASON_UNLOAD) == 0;
    size_t len = 0;
    *ret_record = (struct hold_record){.revision = json_string_at(row, "revision", ""),
                                       .was_serving = was_serving,
                                       .is_in_place = strcmp(reason, HOLD_REASON_IN_PLACE) == 0,
                                       .is_rolled = json_string_at(row, "replaces", NULL) != NULL,
                                       .load_ms = json_int_at(row, "loadMillis", -1),
                                       .effect = effect_in(status)};
    snprintf(ret_record->tag, ENGINE_TAG_BYTES, "%s", engine_name_split(json_string_at(row, "engineName", ""), &len));
}

void recall_add_revision(struct buffer *list, const char *revision) {
    bool fits = strlen(revision) == REVISION_BYTES - 1 && list->len + REVISION_BYTES <= RECALL_REVISIONS_MAX * REVISION_BYTES;
    if (fits && strstr(buffer_text(list), revision) == NULL) {
        buffer_printf(list, "%s%s", list->len > 0 ? " " : "", revision);
    }
}

const char *recall_next(const char *at, char ret_revision[REVISION_BYTES]) {
    if (at == NULL || strlen(at) < REVISION_BYTES - 1) {
        return NULL;
    }
    snprintf(ret_revision, REVISION_BYTES, "%.*s", REVISION_BYTES - 1, at);
    return at + REVISION_BYTES - (at[REVISION_BYTES - 1] == '\0');
}

void recall_remember(char **list, const char *revision) {
    cleanup_buffer struct buffer next = BUFFER_INIT;
    char each[REVISION_BYTES];
    recall_add_revision(&next, revision);
    for (const char *at = *list; (at = recall_next(at, each)) != NULL;) {
        recall_add_revision(&next, each);
    }
    free(*list);
    *list = xstrdup(buffer_text(&next));
}

char *recall_revisions(const json_t *status) {
    cleanup_buffer struct buffer list = BUFFER_INIT;
    const json_t *earlier = json_at(status, "earlierRevisions"), *loads = json_at(status, "loads");
    recall_add_revision(&list, json_string_at(status, "revision", ""));
    for (size_t i = 0; i < json_array_size(earlier); i++) {
        const char *revision = json_string_value(json_array_get(earlier, i));
        recall_add_revision(&list, revision != NULL ? revision : "");
    }
    for (size_t i = 0; i < json_array_size(loads); i++) { /* where the CRD has no earlierRevisions */
        recall_add_revision(&list, json_string_at(json_array_get(loads, i), "revision", ""));
        recall_add_revision(&list, json_string_at(json_array_get(loads, i), "replaces", ""));
    }
    return xstrdup(buffer_text(&list));
}
