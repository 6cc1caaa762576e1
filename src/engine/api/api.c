#include "engine/api/api_internal.h"

#include "base/clock.h"
#include "base/hash.h"

#include <string.h>

/* A body is read on the loop, ten milliseconds a megabyte, so one that cannot fit the context is refused by its length: text has
 * fewer than 64 bytes a token, each an escape of six in JSON at the most. */
#define BODY_BYTES_PER_TOKEN (6 * 64)
#define BODY_BYTES_BESIDE (1024 * 1024)
#define BODY_BYTES_MAX (8 * 1024 * 1024)
#define CONNECTIONS_MAX 4096
/* JSON values of a body beside the token ids of a prompt: messages, their parts, tools, what nobody knows. */
#define OTHER_VALUES_MAX 65536

/* ---- answers ---- */

void api_reply_json(struct http_request *http, int status, const struct buffer *body) {
    http_reply(http, status, "application/json", buffer_text(body), body->len);
}

void api_reply_error(struct http_request *http, const struct api_error *error) {
    cleanup_buffer struct buffer body = BUFFER_INIT;
    api_error_body(error, &body);
    if (error->status == 503) {
        http_reply_field(http, "Retry-After", "1");
    }
    api_reply_json(http, error->status, &body);
}

static void reply_text(struct http_request *http, int status, const char *json) {
    http_reply(http, status, "application/json", json, strlen(json));
}

json_t *api_take_document(const struct api *api, struct http_request *http) {
    size_t len = 0;
    const char *body = http_request_body(http, &len);
    struct api_error error = {0};
    json_t *document = NULL;
    const char *type = http_fields_get(&http_request_head(http)->fields, "Content-Type");
    size_t values_max = OTHER_VALUES_MAX + (size_t)engine_model_info(api->options.engine)->max_model_len;
    if (fields_parse_body(type, body, len, values_max, &document, &error) < 0) {
        api_reply_error(http, &error);
    }
    api_error_release(&error);
    return document;
}

/* Protocol errors that the HTTP server found, in the same shape as all others. */
static const char *on_protocol_error(void *arg, const struct error *err, struct buffer *body) {
    (void)arg;
    struct api_error error = {0};
    int status = err->http_status != 0 ? err->http_status : error_code_http_status(err->code);
    (void)api_error_set(&error, status, http_reason_phrase(status), NULL, "%s", err->message);
    api_error_body(&error, body);
    api_error_release(&error);
    return "application/json";
}

/* ---- the model of a request ---- */

bool api_is_served_name(const struct api *api, const char *name) {
    for (size_t i = 0; i < api->options.served_name_count; i++) {
        if (strcmp(api->options.served_names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static int no_such_model(const struct api *api, const char *model, struct api_error *error) {
    cleanup_buffer struct buffer names = BUFFER_INIT;
    for (size_t i = 0; i < api->options.served_name_count; i++) {
        buffer_printf(&names, "%s%s", i > 0 ? ", " : "", api->options.served_names[i]);
    }
    return api_error_set(error, 404, "NotFoundError", "model", "The model `%s` does not exist. Valid aliases: %s.", model,
                         buffer_text(&names));
}

int api_find_model(struct api *api, const char *model, const char **ret_adapter, struct api_error *error) {
    if (*model == '\0' || api_is_served_name(api, model)) {
        *ret_adapter = NULL;
        return 0;
    }
    if (engine_has_adapter(api->options.engine, model)) {
        *ret_adapter = model;
        return 0;
    }
    return no_such_model(api, model, error);
}

int api_error_from_lookup(const struct api *api, const char *model, const struct error *cause, struct api_error *error) {
    switch (cause->code) {
    case ERROR_NOT_FOUND:
    case ERROR_UNAUTHORIZED: /* what a source does not show is not there for whoever asks for it by guessing */
    case ERROR_DENIED:
        return no_such_model(api, model, error);
    case ERROR_BUSY:
    case ERROR_UNAVAILABLE:
    case ERROR_TIMEOUT:
        return api_error_set(error, 503, "ServiceUnavailableError", "model", "LoRA adapter '%s' cannot be loaded now: %s", model,
                             cause->message);
    default: /* vLLM's words; max_cpu_loras is named in the cause's */
        return api_error_set(error, 400, "BadRequestError", "model", "LoRA adapter '%s' was found but could not be loaded: %s",
                             model, cause->message);
    }
}

/* ---- small routes ---- */

static void get_health(struct api *api, struct http_request *http) {
    (void)api;
    http_reply(http, 200, NULL, "", 0);
}

static void get_version(struct api *api, struct http_request *http) {
    cleanup_free char *body = xasprintf("{\"version\":\"%s\"}", api->options.version);
    reply_text(http, 200, body);
}

static void get_load(struct api *api, struct http_request *http) {
    cleanup_free char *body = xasprintf("{\"server_load\":%d}", api->generations);
    reply_text(http, 200, body);
}

static void get_metrics(struct api *api, struct http_request *http) {
    cleanup_buffer struct buffer page = BUFFER_INIT;
    engine_metrics_render(api->metrics, api->options.engine, &page);
    http_reply(http, 200, METRICS_CONTENT_TYPE, buffer_text(&page), page.len);
}

/* ---- routing ---- */

static const struct route {
    const char *method;
    const char *path; /* with a slash at its end: of everything below it */
    void (*handle)(struct api *api, struct http_request *http);
    bool is_lora; /* exists only with runtime_lora */
} routes[] = {
    {"POST", "/v1/completions", api_completions, false},
    {"POST", "/v1/chat/completions", api_chat_completions, false},
    {"GET", "/v1/models", api_models, false},
    {"POST", "/v1/load_lora_adapter", api_load_adapter, true},
    {"POST", "/v1/unload_lora_adapter", api_unload_adapter, true},
    {"POST", "/adapters", api_register_adapter, true},
    {"DELETE", "/adapters/", api_unregister_adapter, true},
    {"GET", "/health", get_health, false},
    {"GET", "/ping", get_health, false},
    {"POST", "/ping", get_health, false},
    {"GET", "/version", get_version, false},
    {"GET", "/load", get_load, false},
    {"GET", "/metrics", get_metrics, false},
    {"POST", "/tokenize", api_tokenize, false},
    {"POST", "/detokenize", api_detokenize, false},
};

static bool is_of_route(const struct route *route, const char *path) {
    size_t len = strlen(route->path);
    return route->path[len - 1] == '/' ? strncmp(path, route->path, len) == 0 && path[len] != '\0' : strcmp(path, route->path) == 0;
}

static const struct route *find_route(const struct api *api, const struct http_head *head, const char **ret_allow) {
    *ret_allow = NULL;
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (!is_of_route(&routes[i], head->path) || (routes[i].is_lora && !api->options.runtime_lora)) {
            continue;
        }
        if (strcmp(routes[i].method, head->method) == 0) {
            return &routes[i];
        }
        *ret_allow = routes[i].method;
    }
    return NULL;
}

/* Compares digests without an early exit, so that the time taken tells nothing about the key. */
static bool same_hash(const struct hash *a, const struct hash *b) {
    unsigned char difference = 0;
    for (size_t i = 0; i < HASH_BYTES; i++) {
        difference |= a->bytes[i] ^ b->bytes[i];
    }
    return difference == 0;
}

/* vLLM leaves /adapters open to whoever has no key. */
static bool needs_key(const struct http_head *head) {
    static const char *const guarded[] = {"/v1", "/adapters"};
    for (size_t i = 0; i < ARRAY_LEN(guarded); i++) {
        if (strncmp(head->path, guarded[i], strlen(guarded[i])) == 0) {
            return strcmp(head->method, "OPTIONS") != 0;
        }
    }
    return false;
}

static bool is_allowed(const struct api *api, const struct http_head *head) {
    if (api->options.api_key_count == 0 || !needs_key(head)) {
        return true;
    }
    static const char scheme[] = "bearer ";
    const char *value = http_fields_get(&head->fields, "Authorization");
    if (value == NULL || strncasecmp(value, scheme, sizeof(scheme) - 1) != 0) {
        return false;
    }
    const char *key = value + sizeof(scheme) - 1;
    struct hash given = hash_bytes(key, strlen(key));
    bool allowed = false;
    for (size_t i = 0; i < api->options.api_key_count; i++) {
        allowed |= same_hash(&given, &api->key_hashes[i]);
    }
    return allowed;
}

static void on_request(void *arg, struct http_request *http) {
    struct api *api = arg;
    const struct http_head *head = http_request_head(http);
    http_reply_field(http, "Server", api->server_name);
    if (!is_allowed(api, head)) {
        reply_text(http, 401, "{\"error\":\"Unauthorized\"}");
        return;
    }
    const char *allow = NULL;
    const struct route *route = find_route(api, head, &allow);
    if (route != NULL) {
        route->handle(api, http);
    } else if (allow != NULL) {
        http_reply_field(http, "Allow", allow);
        reply_text(http, 405, "{\"detail\":\"Method Not Allowed\"}");
    } else {
        reply_text(http, 404, "{\"detail\":\"Not Found\"}");
    }
}

/* ---- life ---- */

static size_t body_bytes_max(const struct engine *engine) {
    size_t bytes = BODY_BYTES_BESIDE + BODY_BYTES_PER_TOKEN * (size_t)engine_model_info(engine)->max_model_len;
    return bytes < BODY_BYTES_MAX ? bytes : BODY_BYTES_MAX;
}

static int load_for_resolver(void *arg, const struct adapter_job *job, struct error *err) {
    return adapter_loads_submit(arg, job, err);
}

static struct lora_resolver *make_resolver(struct api *api) {
    struct lora_resolver_options options = {
        .base = api->options.resolver_base, .load = load_for_resolver, .load_arg = api->loads, .now_ms = clock_now_ms};
    return lora_resolver_new(&options);
}

struct api *api_new(const struct api_options *options) {
    struct api *api = xcalloc(1, sizeof(*api));
    api->options = *options;
    api->fingerprint = xasprintf("davit-%s", options->version);
    api->server_name = xasprintf("davit/%s", options->version);
    api->key_hashes = xcalloc(options->api_key_count + 1, sizeof(*api->key_hashes));
    for (size_t i = 0; i < options->api_key_count; i++) {
        api->key_hashes[i] = hash_bytes(options->api_keys[i], strlen(options->api_keys[i]));
    }
    struct engine_metrics_options metrics_options = {
        .model_name = options->served_names[0],
        .max_loras = options->max_loras,
        .max_cpu_loras = options->max_cpu_loras,
        .max_lora_rank = options->max_lora_rank,
        .version = options->version,
    };
    api->metrics = engine_metrics_new(&metrics_options);
    api->inbox = inbox_new(options->loop, api_on_event, api);
    if (options->runtime_lora) {
        api->loads = adapter_loads_new(options->loop, options->engine, options->artifacts);
    }
    api->resolver = options->runtime_lora && options->resolver_base != NULL ? make_resolver(api) : NULL;
    struct http_server_options server_options = {
        .loop = options->loop,
        .body_bytes_max = body_bytes_max(options->engine),
        .connections_max = CONNECTIONS_MAX,
        .on_request = on_request,
        .on_error = on_protocol_error,
        .arg = api,
    };
    api->server = http_server_new(&server_options);
    return api;
}

int api_listen(struct api *api, const char *address, int port, int *ret_port, struct error *err) {
    return http_server_listen(api->server, address, port, ret_port, err);
}

void api_drain(struct api *api) {
    http_server_drain(api->server);
}

int api_open_requests(const struct api *api) {
    return http_server_open_requests(api->server);
}

void api_stop(struct api *api) {
    http_server_free(api->server);
    api->server = NULL;
    api_free_loads(api);
}

void api_free(struct api *api) {
    inbox_deliver(api->inbox);
    inbox_free(api->inbox);
    engine_metrics_free(api->metrics);
    free(api->key_hashes);
    free(api->server_name);
    free(api->fingerprint);
    free(api);
}
