/* Polls: GET /v1/models of each pod once per period, each on its own timer with a deadline of its own, so that one pod never waits
 * for another. A list that says what the last one said costs no more than a scan of its bytes. */
#include "base/clock.h"
#include "base/log.h"
#include "controller/redact.h"
#include "controller/secrets.h"
#include "controller/world.h"

#include <string.h>

#define POLL_TIMEOUT_MS 5000
#define CONNECT_TIMEOUT_MS 3000
#define BODY_BYTES_MAX (64u << 20)
#define RETRY_FIRST_MS 100 /* a pod that is Ready and does not answer yet is asked again soon */
#define KEYS_MAX 8
/* A pod that is Ready and does not answer keeps its endpoints for a moment: the sidecar alone may be restarting. */
#define LOST_MS 10000
#define LOST_FAILURES 3

/* ---- whom the pod concerns ---- */

/* Calls visit(arg, adapter) for each until it returns false. */
static void each_concerned(const struct pod *pod, bool (*visit)(void *arg, struct adapter *adapter), void *arg) {
    struct binding *binding = NULL;
    LIST_FOREACH(binding, &pod->bindings, in_pod) {
        if (!visit(arg, binding->adapter)) {
            return;
        }
    }
    for (size_t i = 0; i < pod->selection_count; i++) {
        struct adapter *adapter = NULL;
        LIST_FOREACH(adapter, &pod->selections[i]->seeking, in_seeking) {
            if (!visit(arg, adapter)) {
                return;
            }
        }
    }
}

static bool concerns_nobody(const struct pod *pod) {
    for (size_t i = 0; i < pod->selection_count; i++) {
        if (!LIST_EMPTY(&pod->selections[i]->seeking)) {
            return false;
        }
    }
    return LIST_EMPTY(&pod->bindings);
}

/* ---- the engine's key ---- */

struct keys {
    const struct controller *controller;
    bool has_read; /* one was read for this poll: it is sent with what there is */
    const char *found[KEYS_MAX];
    const struct adapter *of[KEYS_MAX];
    size_t count;
    const struct adapter *lacking; /* one whose key has to be read first */
};

static bool add_key(void *arg, struct adapter *adapter) {
    struct keys *keys = arg;
    const char *key = world_api_key(keys->controller, adapter);
    for (size_t i = 0; key != NULL && i < keys->count; i++) {
        key = strcmp(keys->found[i], key) == 0 ? NULL : key;
    }
    if (key != NULL) {
        keys->of[keys->count] = adapter;
        keys->found[keys->count++] = key;
    }
    /* One that could not be read a moment ago is not waited for: the others' keys open the engine as well. */
    const struct model_adapter *spec = &adapter->spec;
    bool is_lacking = !keys->has_read && spec->api_key_secret_name[0] != '\0' &&
                      !secrets_was_asked(keys->controller->secrets, spec->namespace, spec->api_key_secret_name);
    keys->lacking = is_lacking ? adapter : NULL;
    return keys->count < KEYS_MAX && !is_lacking;
}

/* ---- what a list says ---- */

static bool is_same_card(const struct dialect_model *a, const struct dialect_model *b) {
    if (a == NULL || b == NULL) {
        return a == b;
    }
    return strcmp(a->root, b->root) == 0 && (a->parent == NULL) == (b->parent == NULL);
}

/* Also by a name with a tag, whosever that is. */
static void wake_named(struct pod *pod, const char *name) {
    size_t len = 0;
    (void)engine_name_split(name, &len);
    cleanup_free char *key = xasprintf("%s/%.*s", pod->facts.namespace, (int)len, name);
    struct adapter *adapter = world_adapter(pod->controller, key);
    if (adapter != NULL && (world_binding(adapter, pod) != NULL || selection_has(pod, adapter->selection))) {
        (void)world_bind(adapter, pod); /* also of one that looks for no pods: what it did not ask for has to go */
        controller_wake(pod->controller, key, 0);
    }
}

/* Adapters whose card came, went or changed. */
static void wake_changed(struct pod *pod, const struct map *before, const struct map *after) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(after, &at)) != NULL;) {
        if (!is_same_card(map_get(before, entry->key), entry->value)) {
            wake_named(pod, entry->key);
        }
    }
    for (size_t at = 0; (entry = map_next(before, &at)) != NULL;) {
        if (map_get(after, entry->key) == NULL) {
            wake_named(pod, entry->key);
        }
    }
}

/* The list is the first since something was done to the pod: it may be as it was, and that be the news. */
static void wake_contradicted(struct pod *pod) {
    struct binding *binding = NULL;
    LIST_FOREACH(binding, &pod->bindings, in_pod) {
        cleanup_free char *name = world_engine_name(binding);
        bool is_listed = map_get(&pod->listed, name) != NULL;
        if (is_listed != (binding->hold->state == HOLD_LOADED)) {
            controller_wake(pod->controller, binding->adapter->key, 0);
        }
    }
}

static void read_list(struct pod *pod, struct dialect_models *models, uint64_t digest) {
    struct map listed = MAP_INIT;
    pod->is_davit = pod->lists_tags = false;
    for (size_t i = 0; i < models->count; i++) {
        size_t len = 0;
        map_set(&listed, models->items[i].id, &models->items[i]);
        pod->is_davit |= models->items[i].is_davit;
        pod->lists_tags |= engine_name_split(models->items[i].id, &len)[0] != '\0';
    }
    wake_changed(pod, &pod->listed, &listed);
    map_release(&pod->listed);
    dialect_models_release(&pod->models);
    pod->listed = listed;
    pod->models = *models;
    pod->list_digest = digest;
}

static void wake_bound(struct pod *pod) {
    struct binding *binding = NULL;
    LIST_FOREACH(binding, &pod->bindings, in_pod) {
        controller_wake(pod->controller, binding->adapter->key, 0);
    }
}

static void note_list(struct pod *pod) {
    bool wakes_bound = !pod->is_observed || pod->is_answering || pod->failure != NULL;
    bool is_back = pod->is_lost; /* those who look for a pod may take it again */
    pod->is_observed = true;
    pod->asked_ms = pod->poll_started_ms;
    free(pod->observed_start);
    pod->observed_start = take_pointer(pod->poll_start);
    free(take_pointer(pod->failure));
    pod->failures = 0;
    pod->is_lost = false;
    if (is_back) {
        world_wake_concerned(pod->controller, pod);
    } else if (wakes_bound) {
        wake_bound(pod);
    } else if (pod->must_compare) {
        wake_contradicted(pod);
    }
}

/* Apart from numbers: libcurl tells after how many milliseconds it gave up. */
static bool says_the_same(const char *a, const char *b) {
    static const char digits[] = "0123456789";
    for (;; a++, b++) {
        a += strspn(a, digits);
        b += strspn(b, digits);
        if (*a != *b || *a == '\0') {
            return *a == *b;
        }
    }
}

/* Told when it is another than before, and once more when the pod is lost: a failure that stays is no news, and no write. */
static void note_failure(struct pod *pod, const char *message) {
    int64_t now_ms = clock_now_ms();
    bool was_lost = pod->is_lost;
    bool is_new = pod->failure == NULL || !says_the_same(pod->failure, message);
    if (is_new) {
        free(pod->failure);
        pod->failure = xstrdup(message);
    }
    pod->failing_since_ms = pod->failures++ == 0 ? now_ms : pod->failing_since_ms;
    pod->is_lost = pod->failures >= LOST_FAILURES && now_ms - pod->failing_since_ms >= LOST_MS;
    metric_add(pod->controller->count.poll_failures, NULL, 1);
    if (is_new || pod->is_lost != was_lost) {
        log_debug("poll of pod %s failed: %s", pod->key, message);
        wake_bound(pod);
    }
}

static void take_answer(struct pod *pod, const struct transfer_response *response) {
    struct dialect_models models;
    struct error err = {0};
    uint64_t digest = dialect_models_digest(response->body, response->body_len);
    if (digest != 0 && digest == pod->list_digest) {
        note_list(pod);
    } else if (dialect_parse_models(response->body, response->body_len, &models, &err) < 0) {
        note_failure(pod, err.message);
    } else {
        read_list(pod, &models, digest);
        note_list(pod);
    }
}

/* ---- polls ---- */

/* The next one's turn; and this one may have been changed since it was read. */
static void refuse_key(struct pod *pod) {
    pod->key_turn++;
    if (pod->poll_secret != NULL) {
        secrets_forget(pod->controller->secrets, pod->facts.namespace, pod->poll_secret);
    }
}

static void take_refusal(struct pod *pod, const struct transfer_response *response) {
    char words[200];
    bool is_for_key = response->status == 401 || response->status == 403;
    if (is_for_key && pod->poll_key == NULL && concerns_nobody(pod)) {
        return; /* nobody's key was there to ask with: that says nothing against the pod */
    }
    cleanup_free char *body = xstrndup(response->body, response->body_len);
    redact_text(body, strlen(body), pod->poll_key);
    dialect_error_message(body, strlen(body), words, sizeof(words));
    if (is_for_key) {
        refuse_key(pod);
    }
    cleanup_free char *message = xasprintf("GET /v1/models: status %d: %s", response->status, words);
    note_failure(pod, message);
}

static void on_poll_done(void *arg, const struct transfer_response *response, const struct error *err) {
    struct pod *pod = arg;
    pod->poll = NULL;
    pod->controller->polls--;
    metric_add(pod->controller->count.polls, NULL, 1);
    if (err != NULL) {
        note_failure(pod, err->message);
    } else if (response->status != 200) {
        take_refusal(pod, response);
    } else {
        take_answer(pod, response);
    }
    int64_t period_ms = pod->controller->options->poll_period_ms;
    int64_t delay_ms = pod->failures > 0 && pod->failures < 8 ? (int64_t)RETRY_FIRST_MS << pod->failures : period_ms;
    observe_soon(pod, pod->is_awaited && pod->failures == 0 ? RETRY_FIRST_MS : delay_ms < period_ms ? delay_ms : period_ms);
}

static void forget_key(struct pod *pod) {
    free(take_pointer(pod->poll_key));
    free(take_pointer(pod->poll_secret));
}

static void remember_key(struct pod *pod, const char *key, const struct adapter *of) {
    forget_key(pod);
    if (key != NULL) {
        pod->poll_key = xstrdup(key);
        pod->poll_secret = xstrdup(of->spec.api_key_secret_name);
    }
}

static void send_poll(struct pod *pod) {
    struct controller *controller = pod->controller;
    bool uses_sidecar = world_uses_sidecar(controller, pod);
    struct dialect_request list;
    dialect_list(world_dialect(controller, pod), &list);
    cleanup_free char *url = act_url(pod, uses_sidecar ? pod->facts.sidecar_port : pod->facts.engine_port, list.path);
    cleanup_free char *authorization = pod->poll_key != NULL ? xasprintf("Authorization: Bearer %s", pod->poll_key) : NULL;
    const char *headers[] = {authorization, NULL};
    struct transfer_request request = {.method = list.method,
                                       .url = url,
                                       .headers = headers,
                                       .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                       .timeout_ms = POLL_TIMEOUT_MS,
                                       .body_bytes_max = BODY_BYTES_MAX,
                                       .on_done = on_poll_done,
                                       .arg = pod};
    free(pod->poll_start);
    pod->poll_start = xstrdup(pod->start);
    pod->poll_started_ms = clock_now_ms();
    pod->is_answering = pod->is_awaited;
    pod->is_awaited = false; /* whoever waits from now on waits for a list that is asked for later */
    pod->must_compare = pod->has_changed;
    pod->has_changed = false;
    controller->polls++;
    pod->poll = transfer_start(controller->transfers, &request);
    dialect_request_release(&list);
}

static void start_poll(struct pod *pod, bool has_read_key);

static void on_key(void *arg, const json_t *values, const struct error *err) {
    struct pod *pod = arg;
    (void)values;
    pod->key_wait = NULL;
    if (err != NULL) {
        log_debug("key for pod %s: %s", pod->key, err->message);
    }
    start_poll(pod, true);
}

static void start_poll(struct pod *pod, bool has_read_key) {
    struct keys keys = {.controller = pod->controller, .has_read = has_read_key};
    each_concerned(pod, add_key, &keys);
    if (keys.lacking != NULL) {
        const struct model_adapter *spec = &keys.lacking->spec;
        pod->key_wait = secrets_fetch(pod->controller->secrets, spec->namespace, spec->api_key_secret_name, on_key, pod);
    } else {
        size_t turn = keys.count > 0 ? (size_t)pod->key_turn % keys.count : 0;
        remember_key(pod, keys.found[turn], keys.of[turn]);
        send_poll(pod);
    }
}

static void on_timer(void *arg) {
    struct pod *pod = arg;
    if (pod->poll != NULL || pod->key_wait != NULL || pod->controller->is_stopping || !pod->facts.is_ready ||
        !world_is_polled(pod)) {
        return; /* the next event about the pod or an adapter starts it again */
    }
    if (pod->controller->polls >= POLLS_MAX) {
        timer_set(&pod->poll_timer, 50);
        return;
    }
    start_poll(pod, false);
}

void observe_soon(struct pod *pod, int64_t delay_ms) {
    if (pod->poll_timer.event == NULL) {
        timer_init(&pod->poll_timer, pod->controller->loop, on_timer, pod);
    }
    if (pod->poll == NULL && pod->key_wait == NULL && (delay_ms == 0 || !timer_is_set(&pod->poll_timer))) {
        timer_set(&pod->poll_timer, delay_ms);
    }
}

void observe_cancel(struct pod *pod) {
    if (pod->poll != NULL) {
        transfer_cancel(take_pointer(pod->poll));
        pod->controller->polls--;
        pod->is_awaited |= pod->is_answering;
        pod->has_changed |= pod->must_compare;
    }
}

void observe_release(struct pod *pod) {
    if (pod->key_wait != NULL) {
        secrets_cancel(take_pointer(pod->key_wait));
    }
    observe_cancel(pod);
    if (pod->poll_timer.event != NULL) {
        timer_release(&pod->poll_timer);
    }
    forget_key(pod);
}
