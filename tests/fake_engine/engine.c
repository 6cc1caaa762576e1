#include "engine.h"

#include "artifact.h"
#include "pages.h"
#include "words.h"

#include <string.h>

static void free_held(struct held *held) {
    free(held->root);
    free(held->card_head);
    free(held->card_tail);
    free(held);
}

void engine_init(struct engine *engine, enum kind kind, const char *address, const char *base_model) {
    *engine = (struct engine){.address = xstrdup(address), .kind = kind};
    settings_init(&engine->settings, base_model);
}

bool engine_forget(struct engine *engine, const char *name) {
    struct held *held = map_remove(&engine->adapters, name);
    if (held != NULL) {
        free_held(held);
    }
    return held != NULL;
}

void engine_forget_all(struct engine *engine) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&engine->adapters, &at)) != NULL;) {
        free_held(entry->value);
    }
    map_release(&engine->adapters);
}

int engine_set(struct engine *engine, const json_t *settings, struct error *err) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&engine->adapters, &at)) != NULL;) {
        struct held *held = entry->value; /* cards name the base and the root */
        free(take_pointer(held->card_head));
        free(take_pointer(held->card_tail));
    }
    return settings_merge(&engine->settings, settings, err);
}

void engine_release(struct engine *engine) {
    engine_forget_all(engine);
    settings_release(&engine->settings);
    free(engine->address);
    free(engine->asked_for);
}

void answer_release(struct answer *answer) {
    buffer_release(&answer->body);
}

/* ---- words ---- */

/* {"success", "error_message", "loaded_adapters": {name: path}} */
static void sglang_answer(const struct engine *engine, const char *error, struct answer *answer) {
    struct buffer *out = &answer->body;
    answer->status = error == NULL ? 200 : 400;
    answer->content_type = "application/json";
    buffer_printf(out, "{\"success\":%s,\"error_message\":", error == NULL ? "true" : "false");
    json_append_string(out, error != NULL ? error : "", error != NULL ? strlen(error) : 0);
    buffer_append_text(out, ",\"loaded_adapters\":{");
    struct map_entry *entry = NULL;
    const char *comma = "";
    for (size_t at = 0; (entry = map_next(&engine->adapters, &at)) != NULL; comma = ",") {
        const struct held *held = entry->value;
        buffer_append_text(out, comma);
        json_append_string(out, entry->key, strlen(entry->key));
        buffer_append_char(out, ':');
        json_append_string(out, held->root, strlen(held->root));
    }
    buffer_append_text(out, "}}");
}

/* A refusal in the words of whoever was asked. */
static void answer_error(const struct engine *engine, const struct asked *asked, int status, const char *type, const char *message,
                         struct answer *answer) {
    bool is_adapter_call = asked->call == CALL_LOAD || asked->call == CALL_UNLOAD;
    answer->status = status;
    answer->content_type = "application/json";
    if (asked->door == DOOR_SIDECAR && asked->is_artifact) {
        words_plain(&answer->body, message);
    } else if (asked->door == DOOR_SIDECAR) {
        words_flat(&answer->body, status, status == 404 ? "NotFoundError" : "ServerError", message);
    } else if (engine->kind == KIND_SGLANG && is_adapter_call) {
        sglang_answer(engine, message, answer);
        answer->status = status;
    } else if (engine->kind == KIND_SGLANG) {
        words_flat(&answer->body, status, type, message);
    } else {
        words_nested(&answer->body, status, type, NULL, message);
    }
}

void engine_refuse(const struct engine *engine, const struct asked *asked, int status, const char *message,
                   struct answer *ret_answer) {
    cleanup_free char *own = message != NULL ? xstrdup(message) : xasprintf("refused with %d, as ordered", status);
    *ret_answer = (struct answer){0};
    if (status == 401) {
        ret_answer->status = status;
        ret_answer->content_type = "application/json";
        words_plain(&ret_answer->body, "Unauthorized");
    } else {
        answer_error(engine, asked, status, words_type(status), own, ret_answer);
    }
}

/* The sidecar tells its own way what the engine answered; for an artifact it loses the status and says 500. */
static void answer_engine_error(const struct engine *engine, const struct asked *asked, int status, const char *type,
                                const char *message, struct answer *answer) {
    cleanup_free char *words = NULL;
    if (asked->door == DOOR_ENGINE) {
        answer_error(engine, asked, status, type, message, answer);
    } else if (asked->is_artifact) {
        words = xasprintf("Engine error: %s", message);
        answer_error(engine, asked, 500, type, words, answer);
    } else {
        cleanup_buffer struct buffer nested = BUFFER_INIT;
        words_nested(&nested, status, type, NULL, message);
        words = xasprintf("Failed to load LoRA adapter '%s': %s", asked->name, nested.data);
        answer_error(engine, asked, status, type, words, answer);
    }
}

static void answer_done(const struct engine *engine, const struct asked *asked, const char *local_path, struct answer *answer) {
    const char *name = asked->name;
    bool is_load = asked->call == CALL_LOAD;
    struct buffer *out = &answer->body;
    answer->status = 200;
    if (asked->door == DOOR_SIDECAR && asked->is_artifact) {
        answer->content_type = "application/json";
        buffer_printf(out, "{\"status\":\"success\",\"message\":\"Successfully %s adapter %s", is_load ? "loaded" : "unloaded",
                      name);
        if (is_load) {
            buffer_printf(out,
                          " from %s\",\"local_path\":\"%s\",\"engine_response\":{\"message\":\"Success: LoRA adapter '%s' added "
                          "successfully.\"}}",
                          asked->path, local_path, name);
        } else {
            buffer_append_text(out, "\"}");
        }
    } else if (asked->door == DOOR_SIDECAR && is_load) {
        buffer_printf(out, "Success: LoRA adapter '%s' loaded successfully from '%s'.", name, asked->path);
    } else if (asked->door == DOOR_SIDECAR) {
        buffer_printf(out, "Success: LoRA adapter '%s' unloaded successfully.", name);
    } else if (engine->kind == KIND_SGLANG) {
        sglang_answer(engine, NULL, answer);
    } else {
        buffer_printf(out, "Success: LoRA adapter '%s' %s successfully.", name, is_load ? "added" : "removed");
    }
}

/* ---- load and unload ---- */

static void load(struct engine *engine, const struct asked *asked, struct answer *answer) {
    const char *name = asked->name;
    const struct settings *settings = &engine->settings;
    cleanup_free char *message = NULL;
    cleanup_free char *path = artifact_fetch(engine, asked, &message);
    struct held *held = map_get(&engine->adapters, name);
    const char *type = "InvalidUserInput";
    int status = 400;
    if (path == NULL) {
        answer_error(engine, asked, 500, "ServerError", message, answer);
        return;
    }
    if (strcmp(name, settings->base_model) == 0 && engine->kind == KIND_VLLM) {
        message = xasprintf("The lora adapter '%s' conflicts with a served base model.", name);
    } else if (held != NULL && engine->kind == KIND_SGLANG) {
        message = xasprintf("LoRA with name %s already exists. Loaded LoRAs: dict_keys(['%s'])", name, name);
    } else if (held != NULL && !json_bool_at(asked->body, "load_inplace", false)) {
        message = xasprintf("The lora adapter '%s' has already been loaded. If you want to load the adapter in place, set "
                            "'load_inplace' to True.",
                            name);
    } else if (held == NULL && ((settings->max_cpu_loras > 0 && (int64_t)engine->adapters.count >= settings->max_cpu_loras) ||
                                engine->adapters.count >= ADAPTERS_MAX)) {
        message = xasprintf("adapter \"%s\": %zu adapters are resident, which is the limit (max_cpu_loras)", name,
                            engine->adapters.count);
        type = "ServiceUnavailableError";
        status = 503;
        answer->retry_after_s = 1;
    }
    if (message != NULL) {
        answer_engine_error(engine, asked, status, type, message, answer);
        return;
    }
    (void)engine_forget(engine, name);
    held = xcalloc(1, sizeof(*held));
    held->root = xstrdup(path);
    map_set(&engine->adapters, name, held);
    answer_done(engine, asked, path, answer);
}

static void unload(struct engine *engine, const struct asked *asked, struct answer *answer) {
    const char *name = asked->name;
    bool is_held = engine_forget(engine, name);
    if (is_held || asked->is_artifact) { /* the sidecar says that it went well also when the engine refused */
        answer_done(engine, asked, "", answer);
        return;
    }
    bool is_sglang = engine->kind == KIND_SGLANG && asked->door == DOOR_ENGINE;
    cleanup_free char *message = asked->door == DOOR_SIDECAR ? xasprintf("LoRA adapter '%s' not found", name)
                                 : is_sglang ? xasprintf("LoRA with name %s does not exist. Loaded LoRAs: dict_keys([])", name)
                                             : xasprintf("The lora adapter '%s' cannot be found.", name);
    answer_error(engine, asked, is_sglang ? 400 : 404, "NotFoundError", message, answer);
}

/* ---- the rest ---- */

static void answer_other(const struct engine *engine, const struct asked *asked, int64_t wall_s, struct answer *answer) {
    static const struct {
        const char *path, *type, *body;
    } pages[] = {{"/health", NULL, ""},
                 {"/ping", NULL, ""},
                 {"/version", "application/json", "{\"version\":\"0.32.0\"}"},
                 {"/load", "application/json", "{\"server_load\":0}"},
                 {"/healthz", "application/json", "{\"status\":\"ok\"}"},
                 {"/ready", "application/json", "{\"status\":\"ready\"}"}};
    answer->status = 200;
    if (strcmp(asked->path, "/metrics") == 0) {
        answer->content_type = "text/plain; version=1.0.0; charset=utf-8";
        pages_metrics(engine, wall_s, &answer->body);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (strcmp(pages[i].path, asked->path) == 0) {
            answer->content_type = pages[i].type;
            buffer_append_text(&answer->body, pages[i].body);
        }
    }
}

void engine_answer(struct engine *engine, const struct asked *asked, int64_t wall_s, struct answer *ret_answer) {
    *ret_answer = (struct answer){0};
    if (asked->refused != 0) {
        ret_answer->status = asked->refused;
        ret_answer->content_type = "application/json";
        buffer_append_text(&ret_answer->body, asked->refusal);
        return;
    }
    switch (asked->call) {
    case CALL_LIST:
        ret_answer->status = 200;
        ret_answer->content_type = "application/json";
        pages_list(engine, wall_s, &ret_answer->body);
        break;
    case CALL_LOAD:
        load(engine, asked, ret_answer);
        break;
    case CALL_UNLOAD:
        unload(engine, asked, ret_answer);
        break;
    case CALL_GENERATE:
    case CALL_GENERATE_BASE:
        pages_completion(engine, asked, wall_s, ret_answer);
        break;
    default:
        answer_other(engine, asked, wall_s, ret_answer);
    }
}
