/* Requests: vLLM entrypoints/serve/lora/protocol.py, SGLang managers/io_struct.py, aibrix runtime protocol.py. */
#include "dialect/dialect.h"

#include <string.h>

#define PROOF_LOGPROBS 5 /* what every engine allows: OpenAI's limit for completions */

enum call { CALL_LIST, CALL_LOAD, CALL_UNLOAD, CALL_COUNT };

static const char *const paths[][CALL_COUNT] = {
    [DIALECT_VLLM] = {"/v1/models", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"},
    [DIALECT_SGLANG] = {"/v1/models", "/load_lora_adapter", "/unload_lora_adapter"},
    [DIALECT_SIDECAR] = {"/v1/models", "/v1/lora_adapter/load", "/v1/lora_adapter/unload"},
};

static void set_post(struct dialect_request *request, const char *path, json_t *body) {
    *request = (struct dialect_request){.method = "POST", .path = path, .body = json_text(body)};
    json_decref(body);
}

static void set_string(json_t *object, const char *key, const char *value) {
    json_object_set_new(object, key, json_string(value));
}

void dialect_request_release(struct dialect_request *request) {
    free(request->body);
    request->body = NULL;
    for (size_t i = 0; i < ARRAY_LEN(request->fields); i++) {
        free(take_pointer(request->fields[i]));
    }
}

void dialect_list(enum dialect dialect, struct dialect_request *ret_request) {
    *ret_request = (struct dialect_request){.method = "GET", .path = paths[dialect][CALL_LIST]};
}

static void add_field(struct dialect_request *request, const char *name, const char *value) {
    size_t at = 0;
    while (request->fields[at] != NULL) {
        at++;
    }
    if (value != NULL && value[0] != '\0' && strpbrk(value, "\r\n") == NULL) {
        request->fields[at] = xasprintf("%s: %s", name, value);
    }
}

static void add_fields(struct dialect_request *request, const struct dialect_load *load) {
    add_field(request, "X-Davit-Revision", load->revision);
    add_field(request, "X-Davit-Source-Revision", load->source_revision);
    add_field(request, "X-Davit-Digest", load->digest);
    add_field(request, "X-Davit-Version", load->version);
    if (load->wait_s > 0) {
        cleanup_free char *wait = xasprintf("wait=%d", load->wait_s);
        add_field(request, "Prefer", wait);
    }
}

void dialect_load(enum dialect dialect, const struct dialect_load *load, struct dialect_request *ret_request) {
    json_t *body = json_object();
    set_string(body, "lora_name", load->name);
    if (dialect != DIALECT_SIDECAR) {
        set_string(body, "lora_path", load->path);
    } else {
        /* The reference's sidecar answers 422 to any other field, and takes the two objects only when they are objects of strings.
         */
        set_string(body, "artifact_url", load->artifact_url);
        if (json_object_size(load->credentials) > 0) {
            json_object_set(body, "credentials", (json_t *)load->credentials);
        }
        if (json_object_size(load->additional_config) > 0) {
            json_object_set(body, "additional_config", (json_t *)load->additional_config);
        }
    }
    set_post(ret_request, paths[dialect][CALL_LOAD], body);
    if (dialect == DIALECT_SIDECAR) {
        add_fields(ret_request, load);
    }
}

void dialect_unload(enum dialect dialect, const char *name, struct dialect_request *ret_request) {
    json_t *body = json_object();
    set_string(body, "lora_name", name);
    if (dialect == DIALECT_SIDECAR) {
        json_object_set_new(body, "cleanup_local", json_true());
    }
    set_post(ret_request, paths[dialect][CALL_UNLOAD], body);
}

void dialect_prove(enum dialect dialect, const char *base_model, const char *adapter, const char *prompt,
                   struct dialect_request *ret_request) {
    json_t *body = json_object();
    if (adapter != NULL && dialect == DIALECT_SGLANG) {
        /* A bare adapter name is not looked up there: the base model would answer silently. */
        cleanup_free char *model = xasprintf("%s:%s", base_model, adapter);
        set_string(body, "model", model);
    } else {
        set_string(body, "model", adapter != NULL ? adapter : base_model);
    }
    set_string(body, "prompt", prompt);
    json_object_set_new(body, "max_tokens", json_integer(1));
    json_object_set_new(body, "temperature", json_integer(0));
    json_object_set_new(body, "logprobs", json_integer(PROOF_LOGPROBS));
    set_post(ret_request, "/v1/completions", body);
}
