#include "cluster/api/table.h"

#include "cluster/api/object.h"

static void append_definitions(struct buffer *out, const struct resource *resource) {
    cleanup_json json_t *definitions = json_array();
    for (const struct column *column = resource->columns; column->name != NULL; column++) {
        json_array_append_new(definitions,
                              json_pack("{s:s, s:s, s:s, s:s, s:i}", "name", column->name, "type", column->type, "format",
                                        column->format, "description", column->description, "priority", column->priority));
    }
    json_append(out, definitions);
}

static void append_table_head(struct buffer *out, const struct resource *resource, const char *revision, const char *continue_token,
                              int64_t remaining, bool without_definitions) {
    buffer_printf(out, "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{\"resourceVersion\":\"%s\"", revision);
    if (continue_token != NULL && *continue_token != '\0') {
        buffer_printf(out, ",\"continue\":\"%s\"", continue_token);
    }
    if (remaining >= 0) {
        buffer_printf(out, ",\"remainingItemCount\":%lld", (long long)remaining);
    }
    buffer_append_text(out, "},\"columnDefinitions\":");
    if (without_definitions) {
        buffer_append_text(out, "null");
    } else {
        append_definitions(out, resource);
    }
    buffer_append_text(out, ",\"rows\":[");
}

static void append_row(struct buffer *out, const struct resource *resource, const json_t *object, enum include_object include,
                       int64_t now_ms) {
    cleanup_json json_t *cells = json_array();
    resource->cells(object, now_ms, cells);
    buffer_append_text(out, "{\"cells\":");
    json_append(out, cells);
    if (include == INCLUDE_OBJECT) {
        buffer_append_text(out, ",\"object\":");
        json_append(out, object);
    } else if (include == INCLUDE_METADATA) {
        cleanup_json json_t *partial = object_partial(object);
        buffer_append_text(out, ",\"object\":");
        json_append(out, partial);
    }
    buffer_append_text(out, "}");
}

void answer_object(struct buffer *out, const struct resource *resource, const json_t *object, const struct answer_options *options,
                   int64_t now_ms) {
    if (options->form == FORM_TABLE) {
        append_table_head(out, resource, object_revision_text(object), NULL, -1, options->without_definitions);
        append_row(out, resource, object, options->include, now_ms);
        buffer_append_text(out, "]}");
    } else if (options->form == FORM_PARTIAL) {
        cleanup_json json_t *partial = object_partial(object);
        json_append(out, partial);
    } else {
        json_append(out, object);
    }
}

void answer_list_begin(struct answer_list *list, int64_t revision, const char *continue_token, int64_t remaining) {
    if (list->options->form == FORM_TABLE) {
        char text[24];
        (void)snprintf(text, sizeof(text), "%lld", (long long)revision);
        append_table_head(list->out, list->resource, text, continue_token, remaining, false);
        return;
    }
    cleanup_free char *api_version = resource_api_version(list->resource);
    bool is_partial = list->options->form == FORM_PARTIAL;
    buffer_printf(list->out, "{\"kind\":\"%sList\",\"apiVersion\":\"%s\",\"metadata\":{\"resourceVersion\":\"%lld\"",
                  is_partial ? "PartialObjectMetadata" : list->resource->kind, is_partial ? "meta.k8s.io/v1" : api_version,
                  (long long)revision);
    if (continue_token != NULL && *continue_token != '\0') {
        buffer_printf(list->out, ",\"continue\":\"%s\"", continue_token);
    }
    if (remaining >= 0) {
        buffer_printf(list->out, ",\"remainingItemCount\":%lld", (long long)remaining);
    }
    buffer_append_text(list->out, "},\"items\":[");
}

void answer_list_item(struct answer_list *list, const json_t *object) {
    if (list->count++ > 0) {
        buffer_append_char(list->out, ',');
    }
    if (list->options->form == FORM_TABLE) {
        append_row(list->out, list->resource, object, list->options->include, list->now_ms);
    } else {
        answer_object(list->out, list->resource, object, list->options, list->now_ms);
    }
}

void answer_list_end(struct answer_list *list) {
    buffer_append_text(list->out, "]}");
}
