#include "cli/plan_gather.h"

#include "adapter/model_adapter.h"
#include "controller/pod_facts.h"
#include "controller/publish.h"
#include "controller/redact.h"
#include "controller/secrets.h"

#include <signal.h>
#include <string.h>

#define CALLS_MAX 8
#define ENGINE_BODY_BYTES_MAX (4u << 20)

enum phase { PHASE_OBJECTS, PHASE_SECRETS, PHASE_ENGINES };

static void end_one(struct plan_gather *gather);

/* ---- lists ---- */

struct plan_room *plan_gather_room(const struct plan_gather *gather, const char *namespace) {
    for (size_t i = 0; i < gather->room_count; i++) {
        if (strcmp(gather->rooms[i].namespace, namespace) == 0) {
            return &gather->rooms[i];
        }
    }
    return NULL;
}

json_t *plan_gather_find(const struct api_list *list, const char *name, size_t *ret_index) {
    for (size_t i = 0; i < json_array_size(list->items); i++) {
        json_t *object = json_array_get(list->items, i);
        if (strcmp(kube_name(object), name) == 0) {
            if (ret_index != NULL) {
                *ret_index = i;
            }
            return object;
        }
    }
    return NULL;
}

static void on_list_end(void *arg) {
    end_one(arg);
}

static void start_list(struct plan_gather *gather, struct api_list *list, const struct kube_resource *resource,
                       const char *namespace) {
    *list = (struct api_list){
        .client = gather->client, .resource = resource, .namespace = namespace, .on_end = on_list_end, .arg = gather};
    gather->open++;
    api_list_start(list);
}

static void on_namespace(void *arg, json_t *object, const struct error *err) {
    struct plan_room *room = arg;
    (void)object;
    room->is_missing = err != NULL && err->code == ERROR_NOT_FOUND; /* without leave to look, the lists have to do */
    end_one(room->gather);
}

static void start_room(struct plan_gather *gather, struct plan_room *room) {
    struct kube_request request = {
        .verb = KUBE_GET, .resource = &kube_namespaces, .name = room->namespace, .on_done = on_namespace, .arg = room};
    gather->open++;
    (void)kube_start(gather->client, &request);
    start_list(gather, &room->adapters, &kube_model_adapters, room->namespace);
    start_list(gather, &room->pods, &kube_pods, room->namespace);
    start_list(gather, &room->services, &kube_services, room->namespace);
    start_list(gather, &room->slices, &kube_endpoint_slices, room->namespace);
}

static void make_rooms(struct plan_gather *gather) {
    size_t count = json_array_size(gather->files);
    gather->rooms = xcalloc(count + 1, sizeof(*gather->rooms));
    for (size_t i = 0; i < count; i++) {
        const char *namespace = kube_namespace(json_array_get(gather->files, i));
        if (plan_gather_room(gather, namespace) == NULL) {
            gather->rooms[gather->room_count++] = (struct plan_room){.gather = gather, .namespace = xstrdup(namespace)};
        }
    }
}

/* ---- which engines are asked ---- */

static bool has_row(const json_t *object, const char *pod) {
    const json_t *loads = json_at(object, "status.loads");
    for (size_t i = 0; i < json_array_size(loads); i++) {
        if (strcmp(json_string_at(json_array_get(loads, i), "pod", ""), pod) == 0) {
            return true;
        }
    }
    return false;
}

static void mark_concerned(struct plan_room *room, const json_t *wanted) {
    const json_t *existing = plan_gather_find(&room->adapters, kube_name(wanted), NULL);
    struct model_adapter spec;
    bool is_valid = model_adapter_read(wanted, &spec, NULL) == 0;
    for (size_t i = 0; i < room->pod_count; i++) {
        struct pod_facts facts;
        pod_facts_read(room->views[i].object, &facts);
        bool matches = is_valid && selector_matches(spec.selector, facts.labels);
        if (facts.is_ready && (matches || has_row(existing, facts.name)) && room->engines[i].adapter == NULL) {
            room->engines[i].adapter = wanted;
        }
    }
    model_adapter_release(&spec);
}

static void make_wanted(struct plan_gather *gather) {
    for (size_t i = 0; i < json_array_size(gather->files); i++) {
        const json_t *file = json_array_get(gather->files, i);
        const struct plan_room *room = plan_gather_room(gather, kube_namespace(file));
        const json_t *existing = plan_gather_find(&room->adapters, kube_name(file), NULL);
        json_array_append_new(gather->wanted, preview_object(file, existing));
    }
}

static void list_engines(struct plan_gather *gather) {
    for (size_t r = 0; r < gather->room_count; r++) {
        struct plan_room *room = &gather->rooms[r];
        room->pod_count = json_array_size(room->pods.items);
        room->views = xcalloc(room->pod_count + 1, sizeof(*room->views));
        room->engines = xcalloc(room->pod_count + 1, sizeof(*room->engines));
        for (size_t i = 0; i < room->pod_count; i++) {
            room->views[i].object = json_array_get(room->pods.items, i);
            room->engines[i].gather = gather;
        }
        for (size_t i = 0; i < json_array_size(gather->wanted); i++) {
            const json_t *wanted = json_array_get(gather->wanted, i);
            if (strcmp(kube_namespace(wanted), room->namespace) == 0) {
                mark_concerned(room, wanted);
            }
        }
    }
}

/* ---- keys ---- */

static void on_secret(void *arg, const json_t *values, const struct error *err) {
    (void)values;
    (void)err; /* asked without a key, the engine says what is missing */
    end_one(arg);
}

static void read_secrets(struct plan_gather *gather) {
    for (size_t i = 0; i < json_array_size(gather->wanted); i++) {
        const json_t *wanted = json_array_get(gather->wanted, i);
        const char *name = json_string_at(wanted, "spec.apiKeySecretRef.name", "");
        if (name[0] != '\0') {
            gather->open++;
            (void)secrets_fetch(gather->secrets, kube_namespace(wanted), name, on_secret, gather);
        }
    }
}

static const char *key_of(struct plan_gather *gather, const json_t *wanted) {
    struct model_adapter spec;
    bool is_valid = model_adapter_read(wanted, &spec, NULL) == 0;
    const char *key = is_valid ? spec.api_key : NULL;
    if (is_valid && spec.api_key_secret_name[0] != '\0') {
        const json_t *values = secrets_peek(gather->secrets, spec.namespace, spec.api_key_secret_name);
        key = json_string_value(json_object_get(values, spec.api_key_secret_key));
    }
    model_adapter_release(&spec);
    return key != NULL && key[0] != '\0' ? key : NULL;
}

/* ---- engines ---- */

static void on_answer(void *arg, const struct transfer_response *response, const struct error *err) {
    struct plan_engine *engine = arg;
    struct error refused = {0};
    if (err != NULL) {
        engine->failure = xstrdup(err->message);
    } else if (response->status != 200) {
        char words[200];
        const char *key = key_of(engine->gather, engine->adapter);
        cleanup_free char *body = xstrndup(response->body, response->body_len);
        redact_text(body, strlen(body), key);
        dialect_error_message(body, strlen(body), words, sizeof(words));
        engine->failure = xasprintf("GET /v1/models: status %d: %s", response->status, words);
    } else if (dialect_parse_models(response->body, response->body_len, &engine->models, &refused) < 0) {
        engine->failure = xstrdup(refused.message);
    } else {
        engine->is_asked = true;
    }
    end_one(engine->gather);
}

static void ask_engine(struct plan_gather *gather, struct plan_engine *engine, const json_t *pod) {
    struct pod_facts facts;
    pod_facts_read(pod, &facts);
    bool uses_sidecar = gather->options->enable_sidecar && facts.has_sidecar;
    bool is_ipv6 = strchr(facts.ip, ':') != NULL;
    const char *key = key_of(gather, engine->adapter);
    struct dialect_request list;
    dialect_list(uses_sidecar ? DIALECT_SIDECAR : facts.engine, &list);
    cleanup_free char *url = xasprintf("http://%s%s%s:%d%s", is_ipv6 ? "[" : "", facts.ip, is_ipv6 ? "]" : "",
                                       uses_sidecar ? facts.sidecar_port : facts.engine_port, list.path);
    cleanup_free char *authorization = key != NULL ? xasprintf("Authorization: Bearer %s", key) : NULL;
    const char *headers[] = {authorization, NULL};
    struct transfer_request request = {.method = list.method,
                                       .url = url,
                                       .headers = headers,
                                       .connect_timeout_ms = gather->options->timeout_ms,
                                       .timeout_ms = gather->options->timeout_ms,
                                       .body_bytes_max = ENGINE_BODY_BYTES_MAX,
                                       .on_done = on_answer,
                                       .arg = engine};
    gather->open++;
    (void)transfer_start(gather->transfers, &request);
    dialect_request_release(&list);
}

static void ask_engines(struct plan_gather *gather) {
    for (size_t r = 0; r < gather->room_count; r++) {
        struct plan_room *room = &gather->rooms[r];
        for (size_t i = 0; i < room->pod_count; i++) {
            if (room->engines[i].adapter != NULL) {
                ask_engine(gather, &room->engines[i], room->views[i].object);
            }
        }
    }
}

/* ---- one after the other ---- */

static void begin_phase(struct plan_gather *gather) {
    if (gather->phase == PHASE_OBJECTS) {
        start_list(gather, &gather->nodes, &kube_nodes, NULL);
        for (size_t i = 0; i < gather->room_count; i++) {
            start_room(gather, &gather->rooms[i]);
        }
    } else if (gather->phase == PHASE_SECRETS) {
        make_wanted(gather);
        list_engines(gather);
        if (!gather->options->is_offline) {
            read_secrets(gather);
        }
    } else if (gather->phase == PHASE_ENGINES && !gather->options->is_offline) {
        ask_engines(gather);
    }
}

static void end_one(struct plan_gather *gather) {
    gather->open--;
    while (gather->open == 0 && gather->phase < PHASE_ENGINES) {
        gather->phase++;
        begin_phase(gather);
    }
    if (gather->open == 0) {
        loop_stop(gather->loop);
    }
}

static void on_interrupt(void *arg, int number) {
    (void)number;
    struct plan_gather *gather = arg;
    gather->was_interrupted = true;
    loop_stop(gather->loop);
}

/* Everything but nodes must have been readable. */
static int check(const struct plan_gather *gather, struct error *err) {
    if (gather->was_interrupted) {
        return error_set(err, ERROR_TIMEOUT, "interrupted");
    }
    for (size_t r = 0; r < gather->room_count; r++) {
        const struct plan_room *room = &gather->rooms[r];
        const struct api_list *lists[] = {&room->adapters, &room->pods, &room->services, &room->slices};
        for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
            if (lists[i]->has_failed) {
                *err = lists[i]->err;
                return -1;
            }
        }
        if (room->is_missing) {
            return error_set(err, ERROR_NOT_FOUND, "there is no namespace \"%s\"", room->namespace);
        }
    }
    return 0;
}

static void note_models(struct plan_gather *gather) {
    for (size_t r = 0; r < gather->room_count; r++) {
        struct plan_room *room = &gather->rooms[r];
        for (size_t i = 0; i < room->pod_count; i++) {
            room->views[i].models = room->engines[i].is_asked ? &room->engines[i].models : NULL;
        }
    }
}

int plan_gather_run(struct plan_gather *gather, const struct plan_gather_options *options, const json_t *files, struct error *err) {
    static const int signals[] = {SIGINT, SIGTERM, 0};
    *gather = (struct plan_gather){.options = options, .files = files, .wanted = json_array(), .loop = loop_new()};
    gather->transfers = transfers_new(gather->loop);
    gather->client = kube_client_new(gather->loop, gather->transfers, options->config, "davit-plan", CALLS_MAX);
    gather->secrets = secrets_new(gather->client);
    loop_on_signals(gather->loop, signals, on_interrupt, gather);
    make_rooms(gather);
    begin_phase(gather);
    loop_run(gather->loop);
    note_models(gather);
    return check(gather, err);
}

void plan_gather_release(struct plan_gather *gather) {
    if (gather->loop == NULL) {
        return;
    }
    for (size_t r = 0; r < gather->room_count; r++) {
        struct plan_room *room = &gather->rooms[r];
        for (size_t i = 0; i < room->pod_count; i++) {
            dialect_models_release(&room->engines[i].models);
            free(room->engines[i].failure);
        }
        json_decref(room->adapters.items);
        json_decref(room->pods.items);
        json_decref(room->services.items);
        json_decref(room->slices.items);
        free(room->views);
        free(room->engines);
        free(room->namespace);
    }
    json_decref(gather->nodes.items);
    json_decref(gather->wanted);
    free(gather->rooms);
    secrets_free(gather->secrets);
    kube_client_free(gather->client);
    transfers_free(gather->transfers);
    loop_free(gather->loop);
}
