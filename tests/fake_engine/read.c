/* Requests read: which call it is, whom it names, and whether it is refused before anything is done. */
#include "engine.h"
#include "words.h"

#include <string.h>
#include <strings.h>

enum { FOR_VLLM = 1 << KIND_VLLM, FOR_SGLANG = 1 << KIND_SGLANG, FOR_BOTH = FOR_VLLM | FOR_SGLANG };

struct route {
    enum door door;
    int kinds;
    const char *method, *path;
    enum call call;
};

static const struct route routes[] = {
    {DOOR_ENGINE, FOR_BOTH, "GET", "/v1/models", CALL_LIST},
    {DOOR_ENGINE, FOR_VLLM, "POST", "/v1/load_lora_adapter", CALL_LOAD},
    {DOOR_ENGINE, FOR_SGLANG, "POST", "/load_lora_adapter", CALL_LOAD},
    {DOOR_ENGINE, FOR_VLLM, "POST", "/v1/unload_lora_adapter", CALL_UNLOAD},
    {DOOR_ENGINE, FOR_SGLANG, "POST", "/unload_lora_adapter", CALL_UNLOAD},
    {DOOR_ENGINE, FOR_BOTH, "POST", "/v1/completions", CALL_GENERATE},
    {DOOR_ENGINE, FOR_BOTH, "GET", "/health", CALL_OTHER},
    {DOOR_ENGINE, FOR_BOTH, "GET", "/metrics", CALL_OTHER},
    {DOOR_ENGINE, FOR_VLLM, "GET", "/version", CALL_OTHER},
    {DOOR_ENGINE, FOR_VLLM, "GET", "/ping", CALL_OTHER},
    {DOOR_ENGINE, FOR_VLLM, "GET", "/load", CALL_OTHER},
    {DOOR_SIDECAR, FOR_BOTH, "GET", "/v1/models", CALL_LIST},
    {DOOR_SIDECAR, FOR_BOTH, "POST", "/v1/lora_adapter/load", CALL_LOAD},
    {DOOR_SIDECAR, FOR_BOTH, "POST", "/v1/lora_adapter/unload", CALL_UNLOAD},
    {DOOR_SIDECAR, FOR_BOTH, "GET", "/healthz", CALL_OTHER},
    {DOOR_SIDECAR, FOR_BOTH, "GET", "/ready", CALL_OTHER},
};

static void refuse(struct asked *asked, int status, char *body) {
    asked->refused = status;
    asked->refusal = body;
}

static const struct route *find_route(const struct engine *engine, const struct request *request, struct asked *asked) {
    bool is_path_known = false;
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const struct route *route = &routes[i];
        if (route->door == request->door && (route->kinds & (1 << engine->kind)) != 0 && strcmp(route->path, request->path) == 0) {
            is_path_known = true;
            if (strcmp(route->method, request->method) == 0) {
                return route;
            }
        }
    }
    refuse(asked, is_path_known ? 405 : 404,
           xstrdup(is_path_known ? "{\"detail\":\"Method Not Allowed\"}" : "{\"detail\":\"Not Found\"}"));
    return NULL;
}

/* vLLM guards what begins with /v1; SGLang all but its health. */
static bool is_allowed(const struct engine *engine, const struct request *request) {
    const char *key = engine->settings.api_key;
    bool is_guarded = engine->kind == KIND_SGLANG ? strcmp(request->path, "/health") != 0 : strncmp(request->path, "/v1", 3) == 0;
    if (key == NULL || !is_guarded) {
        return true;
    }
    const char *given = request->authorization;
    return given != NULL && strncasecmp(given, "Bearer ", 7) == 0 && strcmp(given + 7, key) == 0;
}

/* vLLM checks bodies against its schema before it looks at anything else. */
static bool has_text_member(struct asked *asked, const char *member) {
    struct buffer body = BUFFER_INIT;
    const json_t *value = json_object_get(asked->body, member);
    if (json_is_string(value)) {
        return true;
    }
    if (value == NULL) {
        cleanup_free char *input = xasprintf("<dict of %zu items>", json_object_size(asked->body));
        words_invalid_member(&body, "missing", member, "Field required", input);
    } else {
        cleanup_free char *input = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        words_invalid_member(&body, "string_type", member, "Input should be a valid string", input);
    }
    refuse(asked, 400, buffer_take(&body));
    return false;
}

static void read_engine_adapter(struct asked *asked) {
    bool is_load = asked->call == CALL_LOAD;
    if (!has_text_member(asked, "lora_name") || (is_load && !has_text_member(asked, "lora_path"))) {
        return;
    }
    asked->name = xstrdup(json_string_at(asked->body, "lora_name", ""));
    asked->path = xstrdup(json_string_at(asked->body, "lora_path", ""));
    if (asked->name[0] == '\0' || (is_load && asked->path[0] == '\0')) {
        struct buffer body = BUFFER_INIT;
        words_nested(&body, 400, "InvalidUserInput", NULL,
                     is_load ? "Both 'lora_name' and 'lora_path' must be provided."
                             : "'lora_name' needs to be provided to unload a LoRA adapter.");
        refuse(asked, 400, buffer_take(&body));
    }
}

static bool is_known(const char *const *names, const char *name) {
    while (*names != NULL && strcmp(*names, name) != 0) {
        names++;
    }
    return *names != NULL;
}

/* aibrix_runtime's models forbid what they do not know. */
static void read_sidecar_adapter(struct asked *asked) {
    static const char *const delegated[] = {"lora_name",         "artifact_url", "credentials_secret", "credentials",
                                            "additional_config", "local_dir",    "cleanup_local",      NULL};
    static const char *const direct[] = {"lora_name", "lora_path", "lora_int_id", NULL};
    bool is_direct = json_object_get(asked->body, "lora_path") != NULL || json_object_get(asked->body, "lora_int_id") != NULL;
    const char *path = json_string_at(asked->body, is_direct ? "lora_path" : "artifact_url", NULL);
    const char *member = NULL;
    json_t *value = NULL;
    json_object_foreach(asked->body, member, value) {
        if (!is_known(is_direct ? direct : delegated, member)) {
            refuse(asked, 422,
                   xasprintf("{\"detail\":[{\"type\":\"extra_forbidden\",\"loc\":[\"body\",\"%s\"],"
                             "\"msg\":\"Extra inputs are not permitted\",\"input\":null}]}",
                             member));
            return;
        }
    }
    if (json_string_at(asked->body, "lora_name", NULL) == NULL || (asked->call == CALL_LOAD && path == NULL)) {
        refuse(asked, 422,
               xasprintf("{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",\"%s\"],\"msg\":\"Field required\",\"input\":{}}]}",
                         path == NULL && asked->call == CALL_LOAD ? "artifact_url" : "lora_name"));
        return;
    }
    asked->is_artifact = !is_direct;
    asked->name = xstrdup(json_string_at(asked->body, "lora_name", ""));
    asked->path = xstrdup(path != NULL ? path : "");
}

/* vLLM: the adapter's name. SGLang: base:adapter; a bare name is taken for the base without a look. */
static void read_completion(const struct engine *engine, struct asked *asked) {
    const char *model = json_string_at(asked->body, "model", "");
    const char *colon = strchr(model, ':');
    const char *name = model;
    if (engine->kind == KIND_SGLANG) {
        name = colon != NULL ? colon + 1 : "";
    } else if (model[0] == '\0' || strcmp(model, engine->settings.base_model) == 0) {
        name = "";
    }
    asked->call = name[0] == '\0' ? CALL_GENERATE_BASE : CALL_GENERATE;
    asked->name = xstrdup(name);
    asked->prompt = xstrdup(json_string_at(asked->body, "prompt", ""));
}

static bool read_body(struct asked *asked, const struct request *request) {
    struct buffer body = BUFFER_INIT;
    const char *type = request->content_type != NULL ? request->content_type : "";
    if (strncasecmp(type, "application/json", 16) != 0) {
        words_nested(&body, 400, "Bad Request", NULL,
                     "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed");
        refuse(asked, 400, buffer_take(&body));
        return false;
    }
    asked->body = json_parse(request->body, request->body_len, NULL);
    if (!json_is_object(asked->body)) {
        words_nested(&body, 400, "Bad Request", "body.1",
                     "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.1', 'msg': 'JSON decode error', 'input': "
                     "'<dict of 0 items>', 'ctx': {'error': 'Expecting property name enclosed in double quotes'}}");
        refuse(asked, 400, buffer_take(&body));
        return false;
    }
    return true;
}

static void read_call(const struct engine *engine, const struct request *request, struct asked *asked) {
    if (asked->call == CALL_LIST || asked->call == CALL_OTHER || !read_body(asked, request)) {
        return;
    }
    if (asked->call == CALL_GENERATE) {
        read_completion(engine, asked);
    } else if (asked->door == DOOR_SIDECAR) {
        read_sidecar_adapter(asked);
    } else {
        read_engine_adapter(asked);
    }
}

void engine_read(const struct engine *engine, const struct request *request, struct asked *ret_asked) {
    *ret_asked = (struct asked){.call = CALL_OTHER, .door = request->door};
    const struct route *route = NULL;
    if (!is_allowed(engine, request)) {
        refuse(ret_asked, 401, xstrdup("{\"error\":\"Unauthorized\"}"));
        route = NULL;
    } else {
        route = find_route(engine, request, ret_asked);
    }
    if (route != NULL) {
        ret_asked->call = route->call;
        read_call(engine, request, ret_asked);
    }
    ret_asked->name = ret_asked->name != NULL ? ret_asked->name : xstrdup("");
    /* What is asked of a door without a body to name it: the path says it. */
    ret_asked->path = ret_asked->path != NULL ? ret_asked->path : xstrdup(request->path);
}

void asked_release(struct asked *asked) {
    free(asked->refusal);
    free(asked->name);
    free(asked->path);
    free(asked->prompt);
    json_decref(asked->body);
    *asked = (struct asked){0};
}
