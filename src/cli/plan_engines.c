#include "cli/plan_engines.h"

#include "adapter/model_adapter.h"
#include "controller/pod_facts.h"
#include "controller/redact.h"
#include "controller/secrets.h"

#include <string.h>

#define BODY_BYTES_MAX (4u << 20)

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

void plan_engines_choose(struct plan_gather *gather) {
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
    plan_gather_end_one(arg);
}

void plan_engines_read_keys(struct plan_gather *gather) {
    for (size_t i = 0; i < json_array_size(gather->wanted); i++) {
        struct model_adapter spec;
        bool is_valid = model_adapter_read(json_array_get(gather->wanted, i), &spec, NULL) == 0;
        if (is_valid && spec.api_key_secret_name[0] != '\0') {
            gather->open++;
            (void)secrets_fetch(gather->secrets, spec.namespace, spec.api_key_secret_name, on_secret, gather);
        }
        model_adapter_release(&spec);
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
    plan_gather_end_one(engine->gather);
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
                                       .body_bytes_max = BODY_BYTES_MAX,
                                       .on_done = on_answer,
                                       .arg = engine};
    gather->open++;
    (void)transfer_start(gather->transfers, &request);
    dialect_request_release(&list);
}

void plan_engines_ask(struct plan_gather *gather) {
    for (size_t r = 0; r < gather->room_count; r++) {
        struct plan_room *room = &gather->rooms[r];
        for (size_t i = 0; i < room->pod_count; i++) {
            if (room->engines[i].adapter != NULL) {
                ask_engine(gather, &room->engines[i], room->views[i].object);
            }
        }
    }
}

void plan_engines_note(struct plan_gather *gather) {
    for (size_t r = 0; r < gather->room_count; r++) {
        struct plan_room *room = &gather->rooms[r];
        for (size_t i = 0; i < room->pod_count; i++) {
            room->views[i].models = room->engines[i].is_asked ? &room->engines[i].models : NULL;
        }
    }
}
