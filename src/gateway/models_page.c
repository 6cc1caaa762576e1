#include "gateway/models_page.h"

#include "base/json.h"

#include <inttypes.h>
#include <string.h>

static void append_member(struct buffer *out, const char *key, const char *value) {
    buffer_printf(out, ",\"%s\":", key);
    if (value != NULL) {
        json_append_string(out, value, strlen(value));
    } else {
        buffer_append_text(out, "null");
    }
}

void models_page_card(const struct route_model *model, struct buffer *out) {
    buffer_append_text(out, "{\"id\":");
    json_append_string(out, model->name, strlen(model->name));
    buffer_printf(out, ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"davit\"", model->created_s);
    append_member(out, "root", model->root);
    append_member(out, "parent", model->parent);
    buffer_append_char(out, '}');
}

void models_page_list(const struct route_snapshot *snapshot, struct buffer *out) {
    const char *separator = "";
    buffer_append_text(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < snapshot->count; i++) {
        if (snapshot->models[i]->endpoint_count > 0) {
            buffer_append_text(out, separator);
            models_page_card(snapshot->models[i], out);
            separator = ",";
        }
    }
    buffer_append_text(out, "]}");
}
