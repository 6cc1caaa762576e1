/* POST /v1/load_lora_adapter and /v1/unload_lora_adapter, and what Amazon SageMaker calls them: POST /adapters and DELETE
 * /adapters/NAME. As vLLM 0.32 answers them. */
#include "adapter/artifact_url.h"
#include "engine/api/api_internal.h"

#include <string.h>

#define ADAPTER_NAME_BYTES_MAX 253

struct adapter_request {
    const char *name;
    const char *path;
    bool in_place;
};

static const struct field_spec load_fields[] = {
    {"lora_name", FIELD_STRING, offsetof(struct adapter_request, name), true},
    {"lora_path", FIELD_STRING, offsetof(struct adapter_request, path), true},
    {"load_inplace", FIELD_BOOL, offsetof(struct adapter_request, in_place), false},
    {NULL, FIELD_ANY, 0, false},
};
static const struct field_spec unload_fields[] = {
    {"lora_name", FIELD_STRING, offsetof(struct adapter_request, name), true},
    {NULL, FIELD_ANY, 0, false},
};

static const struct field_spec register_fields[] = {
    {"name", FIELD_STRING, offsetof(struct adapter_request, name), true},
    {"src", FIELD_STRING, offsetof(struct adapter_request, path), true},
    {NULL, FIELD_ANY, 0, false},
};

/* A way to ask for a load or an unload. */
struct wording {
    bool is_unload;
    const struct field_spec *fields; /* NULL: the path names the adapter */
    const char *before;              /* the name in the answer that it is done */
    const char *after;
};

static const struct wording load_wording = {false, load_fields, "Success: LoRA adapter '", "' added successfully."};
static const struct wording unload_wording = {true, unload_fields, "Success: LoRA adapter '", "' removed successfully."};
static const struct wording register_wording = {false, register_fields, "Adapter ", " registered"};
static const struct wording unregister_wording = {true, NULL, "Adapter ", " unregistered"};

/* A request that waits for the adapter thread. */
struct pending {
    struct http_request *http; /* NULL once the client has gone: the work is done all the same */
    const struct wording *wording;
    char *name;
    char *path;
};

static void pending_free(struct pending *pending) {
    free(pending->name);
    free(pending->path);
    free(pending);
}

static void on_dropped(void *arg) {
    pending_free(arg);
}

static void on_client_gone(void *arg) {
    struct pending *pending = arg;
    pending->http = NULL;
}

static void reply_result(struct pending *pending, const struct error *err) {
    if (err == NULL) {
        cleanup_free char *text = xasprintf("%s%s%s", pending->wording->before, pending->name, pending->wording->after);
        http_reply(pending->http, 200, NULL, text, strlen(text));
        return;
    }
    struct api_error error = {0};
    if (pending->wording->is_unload) {
        (void)api_error_from_unload(&error, err, pending->name);
    } else {
        (void)api_error_from_load(&error, err, pending->name, pending->path);
    }
    api_reply_error(pending->http, &error);
    api_error_release(&error);
}

static void on_done(void *arg, const struct error *err) {
    struct pending *pending = arg;
    if (pending->http != NULL) {
        reply_result(pending, err);
    }
    pending_free(pending);
}

static void submit(struct api *api, struct http_request *http, const struct adapter_request *request,
                   const struct wording *wording) {
    struct pending *pending = xcalloc(1, sizeof(*pending));
    pending->http = http;
    pending->wording = wording;
    pending->name = xstrdup(request->name);
    pending->path = request->path != NULL ? artifact_shown_url(request->path) : NULL;
    struct adapter_job job = {
        .is_unload = wording->is_unload,
        .in_place = request->in_place,
        .name = pending->name,
        .path = request->path,
        .on_done = on_done,
        .on_dropped = on_dropped,
        .arg = pending,
    };
    struct error err = {0};
    if (adapter_loads_submit(api->loads, &job, &err) < 0) {
        on_done(pending, &err);
        return;
    }
    http_request_on_gone(http, on_client_gone, pending);
}

static int check_load(const struct api *api, const struct adapter_request *request, struct api_error *error) {
    if (*request->name == '\0' || *request->path == '\0') {
        return api_error_set(error, 400, "InvalidUserInput", NULL, "Both 'lora_name' and 'lora_path' must be provided.");
    }
    size_t len = strlen(request->name);
    if (len > ADAPTER_NAME_BYTES_MAX) {
        return api_error_set(error, 400, "InvalidUserInput", "lora_name", "'lora_name' has %zu bytes, at most %d are allowed.", len,
                             ADAPTER_NAME_BYTES_MAX);
    }
    if (api_is_served_name(api, request->name)) { /* vLLM accepts it, and the base model answers in its place */
        return api_error_set(error, 400, "InvalidUserInput", "lora_name",
                             "The lora adapter name '%s' conflicts with a served base model.", request->name);
    }
    return 0;
}

static int check_unload(const struct adapter_request *request, struct api_error *error) {
    return *request->name != '\0'
               ? 0
               : api_error_set(error, 400, "InvalidUserInput", NULL, "'lora_name' needs to be provided to unload a LoRA adapter.");
}

static int read_request(const struct api *api, const json_t *document, const struct wording *wording,
                        struct adapter_request *request, struct api_error *error) {
    struct schema_errors errors = {0};
    if (wording->fields != NULL) {
        fields_read(document, wording->fields, request, &errors);
    }
    int result = schema_errors_finish(&errors, error);
    schema_errors_release(&errors);
    if (result < 0) {
        return -1;
    }
    return wording->is_unload ? check_unload(request, error) : check_load(api, request, error);
}

/* `document` is NULL where the path names the adapter. */
static void start(struct api *api, struct http_request *http, const json_t *document, const struct wording *wording) {
    static const char folder[] = "/adapters/";
    struct adapter_request request = {0};
    struct api_error error = {0};
    if (document == NULL) {
        request.name = http_request_head(http)->path + sizeof(folder) - 1;
    }
    if (read_request(api, document, wording, &request, &error) < 0) {
        api_reply_error(http, &error);
    } else {
        submit(api, http, &request, wording);
    }
    api_error_release(&error);
}

static void start_with_body(struct api *api, struct http_request *http, const struct wording *wording) {
    cleanup_json json_t *document = api_take_document(api, http);
    if (document != NULL) {
        start(api, http, document, wording);
    }
}

void api_load_adapter(struct api *api, struct http_request *http) {
    start_with_body(api, http, &load_wording);
}

void api_unload_adapter(struct api *api, struct http_request *http) {
    start_with_body(api, http, &unload_wording);
}

void api_register_adapter(struct api *api, struct http_request *http) {
    start_with_body(api, http, &register_wording);
}

void api_unregister_adapter(struct api *api, struct http_request *http) {
    start(api, http, NULL, &unregister_wording);
}

void api_free_loads(struct api *api) {
    if (api->loads != NULL) {
        adapter_loads_free(api->loads);
        api->loads = NULL;
    }
    lora_resolver_free(api->resolver);
    api->resolver = NULL;
}
