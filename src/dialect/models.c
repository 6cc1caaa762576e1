#include "dialect/dialect.h"

#define MODELS_MAX 100000

void dialect_models_release(struct dialect_models *models) {
    for (size_t i = 0; i < models->count; i++) {
        free(models->items[i].id);
        free(models->items[i].root);
        free(models->items[i].parent);
    }
    free(models->items);
    *models = (struct dialect_models){0};
}

/* An adapter names its parent. Engines that name none (vLLM's Rust frontend, AIBrix's mock engine) still list the base first, and
 * give a context length to base models only. */
static char *parent_of(const json_t *card, size_t at) {
    const char *parent = json_string_at(card, "parent", NULL);
    if (parent != NULL) {
        return xstrdup(parent);
    }
    bool is_base = at == 0 || json_is_integer(json_at(card, "max_model_len"));
    return is_base ? NULL : xstrdup("");
}

int dialect_parse_models(const char *body, size_t len, struct dialect_models *ret_models, struct error *err) {
    cleanup_json json_t *parsed = json_parse(body, len, err);
    if (parsed == NULL) {
        return error_wrap(err, "list of models");
    }
    const json_t *data = json_at(parsed, "data");
    size_t count = json_array_size(data);
    if (!json_is_array(data) || count > MODELS_MAX) {
        return error_set(err, ERROR_INVALID, "list of models: expected an object with an array \"data\" of at most %d", MODELS_MAX);
    }
    struct dialect_models models = {.items = xcalloc(count > 0 ? count : 1, sizeof(*models.items))};
    for (size_t i = 0; i < count; i++) {
        const json_t *card = json_array_get(data, i);
        const char *id = json_string_at(card, "id", NULL);
        if (id == NULL) {
            dialect_models_release(&models);
            return error_set(err, ERROR_INVALID, "list of models: data[%zu] has no id", i);
        }
        models.items[models.count++] = (struct dialect_model){
            .id = xstrdup(id), .root = xstrdup(json_string_at(card, "root", "")), .parent = parent_of(card, i)};
    }
    *ret_models = models;
    return 0;
}
