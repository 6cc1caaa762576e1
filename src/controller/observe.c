/* Polls: GET /v1/models of each pod once per period, each on its own timer with a deadline of its own, so that one pod never waits
 * for another. */
#include "base/clock.h"
#include "base/log.h"
#include "controller/world.h"

#include <string.h>

#define POLL_TIMEOUT_MS 5000
#define CONNECT_TIMEOUT_MS 3000
#define BODY_BYTES_MAX (64u << 20)
#define RETRY_FIRST_MS 100 /* a pod that is Ready and does not answer yet is asked again soon */

/* The keys that adapters give for this pod's engine; the turn moves on when one is refused. Borrowed; NULL = ask without. */
static const char *poll_key(const struct pod *pod) {
    const char *keys[8];
    int count = 0;
    struct map_entry *entry = NULL;
    for (size_t at = 0; count < (int)ARRAY_LEN(keys) && (entry = map_next(&pod->controller->adapters, &at)) != NULL;) {
        const struct adapter *adapter = entry->value;
        if (adapter->spec.api_key == NULL || !world_concerns(adapter, pod)) {
            continue;
        }
        bool is_new = true;
        for (int i = 0; i < count; i++) {
            is_new = is_new && strcmp(keys[i], adapter->spec.api_key) != 0;
        }
        if (is_new) {
            keys[count++] = adapter->spec.api_key;
        }
    }
    return count > 0 ? keys[pod->key_turn % count] : NULL;
}

static bool is_wanted(const struct pod *pod) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&pod->controller->adapters, &at)) != NULL;) {
        if (world_concerns(entry->value, pod)) {
            return true;
        }
    }
    return false;
}

static bool is_same_card(const struct dialect_model *a, const struct dialect_model *b) {
    if (a == NULL || b == NULL) {
        return a == b;
    }
    return strcmp(a->root, b->root) == 0 && (a->parent == NULL) == (b->parent == NULL);
}

/* Takes the list over and wakes the adapters whose card changed. */
static void take_list(struct pod *pod, struct dialect_models *models) {
    struct map listed = MAP_INIT;
    for (size_t i = 0; i < models->count; i++) {
        map_set(&listed, models->items[i].id, &models->items[i]);
    }
    bool wakes_all = !pod->is_observed || pod->is_answering || pod->failure != NULL;
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&pod->controller->adapters, &at)) != NULL;) {
        struct adapter *adapter = entry->value;
        const char *name = adapter->spec.name;
        bool is_changed = wakes_all || !is_same_card(map_get(&pod->listed, name), map_get(&listed, name));
        /* A list may change nothing and yet be the first since a load: a card that is missing then was never there. */
        struct hold *hold = is_changed ? NULL : map_get(&adapter->holds, pod->key);
        bool is_missing = hold != NULL && hold->state == HOLD_LOADED && map_get(&listed, name) == NULL;
        if ((is_changed || is_missing) && world_concerns(adapter, pod)) {
            controller_wake(pod->controller, adapter->key, 0);
        }
    }
    map_release(&pod->listed);
    dialect_models_release(&pod->models);
    pod->listed = listed;
    pod->models = *models;
    pod->is_observed = true;
    pod->asked_ms = pod->poll_started_ms;
    free(pod->observed_start);
    pod->observed_start = take_pointer(pod->poll_start);
    free(take_pointer(pod->failure));
    pod->failures = 0;
}

static void note_failure(struct pod *pod, const char *message) {
    bool is_new = pod->failure == NULL;
    free(pod->failure);
    pod->failure = xstrdup(message);
    pod->failing_since_ms = pod->failures++ == 0 ? clock_now_ms() : pod->failing_since_ms;
    metric_add(pod->controller->count.poll_failures, NULL, 1);
    /* Once when it begins, and for as long as it is being decided whether the pod is lost. */
    if (is_new || pod->failures < 20) {
        log_debug("poll of pod %s failed: %s", pod->key, message);
        world_wake_concerned(pod->controller, pod);
    }
}

static void on_poll_done(void *arg, const struct transfer_response *response, const struct error *err) {
    struct pod *pod = arg;
    struct dialect_models models;
    struct error local = {0};
    pod->poll = NULL;
    pod->controller->calls--;
    metric_add(pod->controller->count.polls, NULL, 1);
    if (err != NULL) {
        note_failure(pod, err->message);
    } else if (response->status != 200) {
        char words[200];
        dialect_error_message(response->body, response->body_len, words, sizeof(words));
        pod->key_turn += response->status == 401 || response->status == 403;
        cleanup_free char *message = xasprintf("GET /v1/models: status %d: %s", response->status, words);
        note_failure(pod, message);
    } else if (dialect_parse_models(response->body, response->body_len, &models, &local) < 0) {
        note_failure(pod, local.message);
    } else if (pod->poll_start != NULL && strcmp(pod->poll_start, pod->start) == 0) {
        take_list(pod, &models);
    } else {
        dialect_models_release(&models); /* of an engine that has been replaced meanwhile */
        observe_soon(pod, 0);
        return;
    }
    int64_t period_ms = pod->controller->options->poll_period_ms;
    int64_t delay_ms = pod->failures > 0 && pod->failures < 8 ? (int64_t)RETRY_FIRST_MS << pod->failures : period_ms;
    observe_soon(pod, pod->is_awaited ? RETRY_FIRST_MS : delay_ms < period_ms ? delay_ms : period_ms);
}

static void start_poll(struct pod *pod) {
    struct controller *controller = pod->controller;
    bool uses_sidecar = world_uses_sidecar(controller, pod);
    struct dialect_request list;
    dialect_list(world_dialect(controller, pod), &list);
    cleanup_free char *url = act_url(pod, uses_sidecar ? pod->facts.sidecar_port : pod->facts.engine_port, list.path);
    const char *key = poll_key(pod);
    cleanup_free char *authorization = key != NULL ? xasprintf("Authorization: Bearer %s", key) : NULL;
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
    controller->calls++;
    pod->poll = transfer_start(controller->transfers, &request);
    dialect_request_release(&list);
}

static void on_timer(void *arg) {
    struct pod *pod = arg;
    if (pod->poll != NULL || pod->controller->is_stopping || !pod->facts.is_ready || !is_wanted(pod)) {
        return; /* the next event about the pod or an adapter starts it again */
    }
    if (pod->controller->calls >= CALLS_MAX) {
        timer_set(&pod->poll_timer, 50);
        return;
    }
    start_poll(pod);
}

void observe_soon(struct pod *pod, int64_t delay_ms) {
    if (pod->poll_timer.event == NULL) {
        timer_init(&pod->poll_timer, pod->controller->loop, on_timer, pod);
    }
    if (pod->poll == NULL && (delay_ms == 0 || !timer_is_set(&pod->poll_timer))) {
        timer_set(&pod->poll_timer, delay_ms);
    }
}

void observe_release(struct pod *pod) {
    if (pod->poll != NULL) {
        transfer_cancel(pod->poll);
        pod->poll = NULL;
        pod->controller->calls--;
    }
    if (pod->poll_timer.event != NULL) {
        timer_release(&pod->poll_timer);
    }
}
