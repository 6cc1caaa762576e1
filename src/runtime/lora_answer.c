#include "runtime/lora_answer.h"

#include "io/url.h"

#include <string.h>

void lora_answer_release(struct lora_answer *answer) {
    buffer_release(&answer->body);
}

static void set_text(struct lora_answer *answer, char *text) {
    answer->status = 200;
    answer->content_type = NULL;
    buffer_append_text(&answer->body, text);
    free(text);
}

static void set_json(struct lora_answer *answer, int status, json_t *value) {
    answer->status = status;
    answer->content_type = "application/json";
    json_append(&answer->body, value);
    json_decref(value);
}

/* Text from an engine may be cut within a character, which json_string would refuse. */
static json_t *text_value(const char *text) {
    json_t *value = json_string(text);
    return value != NULL ? value : json_string("(not text)");
}

static json_t *error_object(int status, const char *type, const char *message) {
    json_t *object = json_object();
    json_object_set_new(object, "object", json_string("error"));
    json_object_set_new(object, "message", text_value(message));
    json_object_set_new(object, "type", json_string(type));
    json_object_set_new(object, "param", json_null());
    json_object_set_new(object, "code", json_integer(status));
    return object;
}

void lora_error_object(struct buffer *out, int status, const char *type, const char *message) {
    json_t *object = error_object(status, type, message);
    json_append(out, object);
    json_decref(object);
}

static json_t *delegated_error(const struct lora_request *request, const char *reason, const char *message) {
    json_t *object = json_object();
    json_object_set_new(object, "error", text_value(message));
    json_object_set_new(object, "reason", json_string(reason));
    json_object_set_new(object, "lora_name", text_value(request->name));
    return object;
}

/* ---- success ---- */

/* What the reference does not say: which content it is. */
static void add_content(json_t *object, const char *name, const char *value) {
    if (*value != '\0') {
        json_object_set_new(object, name, text_value(value));
    }
}

static void answer_loaded(const struct lora_request *request, const struct loader_result *result, struct lora_answer *answer) {
    if (request->is_direct) {
        set_text(answer, xasprintf("Success: LoRA adapter '%s' loaded successfully from '%s'.", request->name, result->path));
        return;
    }
    cleanup_free char *url = url_for_people(request->source);
    cleanup_free char *message = xasprintf("Successfully loaded adapter %s from %s", request->name, url);
    json_t *engine = json_object();
    json_object_set_new(engine, "message", text_value(result->message));
    json_t *object = json_object();
    json_object_set_new(object, "status", json_string("success"));
    json_object_set_new(object, "message", text_value(message));
    json_object_set_new(object, "local_path", text_value(result->path));
    json_object_set_new(object, "engine_response", engine);
    add_content(object, "version", result->version);
    add_content(object, "digest", result->digest);
    set_json(answer, 200, object);
}

static void answer_unloaded(const struct lora_request *request, const struct loader_result *result, struct lora_answer *answer) {
    if (request->is_direct && result->was_not_loaded) {
        cleanup_free char *message = xasprintf("LoRA adapter '%s' not found", request->name);
        set_json(answer, 404, error_object(404, "NotFoundError", message));
        return;
    }
    if (request->is_direct) {
        set_text(answer, xasprintf("Success: LoRA adapter '%s' unloaded successfully.", request->name));
        return;
    }
    cleanup_free char *message = xasprintf("Successfully unloaded adapter %s", request->name);
    json_t *object = json_object();
    json_object_set_new(object, "status", json_string("success"));
    json_object_set_new(object, "message", text_value(message));
    set_json(answer, 200, object);
}

/* ---- failure ---- */

static char *direct_message(enum lora_verb verb, const struct lora_request *request, const struct loader_result *result) {
    if (verb == LORA_LOAD && result->status == 404) {
        return xasprintf("LoRA path '%s' not found: %s", request->source, result->message);
    }
    return xasprintf("Failed to %s LoRA adapter '%s': %s", verb == LORA_LOAD ? "load" : "unload", request->name, result->message);
}

static char *delegated_message(enum lora_verb verb, const struct loader_result *result) {
    const char *beginning = result->is_engines      ? "Engine error"
                            : result->status == 404 ? "Artifact not found"
                            : verb == LORA_LOAD     ? "Failed to load adapter"
                                                    : "Failed to unload adapter";
    return xasprintf("%s: %s", beginning, result->message);
}

void lora_answer_progress(const struct lora_request *request, const char *state, const char *words,
                          struct lora_answer *ret_answer) {
    *ret_answer = (struct lora_answer){.body = BUFFER_INIT};
    json_t *object = json_object();
    json_object_set_new(object, "status", json_string(state));
    json_object_set_new(object, "message", text_value(words));
    json_object_set_new(object, "lora_name", text_value(request->name));
    set_json(ret_answer, 202, object);
}

void lora_answer_result(enum lora_verb verb, const struct lora_request *request, const struct loader_result *result,
                        struct lora_answer *ret_answer) {
    *ret_answer = (struct lora_answer){.body = BUFFER_INIT};
    if (result->status == 200 && verb == LORA_LOAD) {
        answer_loaded(request, result, ret_answer);
    } else if (result->status == 200) {
        answer_unloaded(request, result, ret_answer);
    } else if (request->is_direct) {
        cleanup_free char *message = direct_message(verb, request, result);
        set_json(ret_answer, result->status,
                 error_object(result->status, result->status == 404 ? "NotFoundError" : "ServerError", message));
    } else {
        cleanup_free char *message = delegated_message(verb, result);
        set_json(ret_answer, result->status, delegated_error(request, result->reason, message));
    }
}

void lora_answer_refusal(enum lora_verb verb, const struct lora_request *request, const struct error *err, const char *reason,
                         const char *type, struct lora_answer *ret_answer) {
    *ret_answer = (struct lora_answer){.body = BUFFER_INIT};
    if (request->is_direct) {
        set_json(ret_answer, err->http_status, error_object(err->http_status, type, err->message));
        return;
    }
    cleanup_free char *message = xasprintf("Failed to %s adapter: %s", verb == LORA_LOAD ? "load" : "unload", err->message);
    set_json(ret_answer, err->http_status, delegated_error(request, reason, message));
}
