/* Whether an engine still has requests of adapters that are about to be unloaded: its page of metrics is asked for while something
 * drains there, one request at a time. No answer, or one that does not say, ends no drain. */
#include "base/clock.h"
#include "base/log.h"
#include "controller/world.h"

#define GAUGE_PERIOD_MS 500
#define GAUGE_UNKNOWN_MS 2000 /* after a page that did not say */
#define GAUGE_TIMEOUT_MS 2000
#define PAGE_BYTES_MAX (4u << 20)

static bool is_any_draining(const struct pod *pod) {
    const struct binding *binding = NULL;
    LIST_FOREACH(binding, &pod->bindings, in_pod) {
        if (binding->is_draining) {
            return true;
        }
    }
    return false;
}

static void note_gauge(struct pod *pod, const struct dialect_gauge *gauge) {
    struct binding *binding = NULL;
    LIST_FOREACH(binding, &pod->bindings, in_pod) {
        cleanup_free char *name = world_engine_name(binding);
        if (binding->is_draining && !dialect_gauge_names(gauge, name)) {
            binding->is_draining = false;
            binding->idle_ms = pod->gauge_started_ms;
            controller_wake(pod->controller, binding->adapter->key, 0);
        }
    }
}

static void on_done(void *arg, const struct transfer_response *response, const struct error *err) {
    struct pod *pod = arg;
    struct dialect_gauge gauge;
    pod->gauge = NULL;
    pod->controller->polls--;
    bool is_known = err == NULL && response->status == 200 && dialect_read_gauge(response->body, response->body_len, &gauge);
    if (is_known) {
        note_gauge(pod, &gauge);
        dialect_gauge_release(&gauge);
    } else {
        log_debug("pod %s does not say of which adapters it has requests: %s", pod->key,
                  err != NULL ? err->message : "no such gauge");
    }
    if (is_any_draining(pod)) {
        timer_set(&pod->gauge_timer, is_known ? GAUGE_PERIOD_MS : GAUGE_UNKNOWN_MS);
    }
}

/* The engine itself, as proofs: the sidecar's page is of the sidecar. */
static void send_gauge(struct pod *pod) {
    cleanup_free char *url = act_url(pod, pod->facts.engine_port, DIALECT_GAUGE_PATH);
    cleanup_free char *authorization = pod->poll_key != NULL ? xasprintf("Authorization: Bearer %s", pod->poll_key) : NULL;
    const char *headers[] = {authorization, NULL};
    struct transfer_request request = {.method = "GET",
                                       .url = url,
                                       .headers = headers,
                                       .timeout_ms = GAUGE_TIMEOUT_MS,
                                       .body_bytes_max = PAGE_BYTES_MAX,
                                       .on_done = on_done,
                                       .arg = pod};
    pod->gauge_started_ms = clock_now_ms();
    pod->controller->polls++;
    pod->gauge = transfer_start(pod->controller->transfers, &request);
}

static void on_timer(void *arg) {
    struct pod *pod = arg;
    if (pod->gauge != NULL || pod->controller->is_stopping || pod->facts.ip[0] == '\0' || !is_any_draining(pod)) {
        return; /* the next plan of what drains starts it again */
    }
    if (pod->controller->polls >= POLLS_MAX) {
        timer_set(&pod->gauge_timer, 50);
        return;
    }
    send_gauge(pod);
}

void gauge_soon(struct pod *pod) {
    if (pod->facts.engine == DIALECT_SGLANG) {
        return; /* it has no such gauge */
    }
    if (pod->gauge_timer.event == NULL) {
        timer_init(&pod->gauge_timer, pod->controller->loop, on_timer, pod);
    }
    if (pod->gauge == NULL && !timer_is_set(&pod->gauge_timer)) {
        int64_t next_ms = pod->gauge_started_ms != 0 ? pod->gauge_started_ms + GAUGE_PERIOD_MS - clock_now_ms() : 0;
        timer_set(&pod->gauge_timer, next_ms > 0 ? next_ms : 0);
    }
}

void gauge_cancel(struct pod *pod) {
    if (pod->gauge != NULL) {
        transfer_cancel(take_pointer(pod->gauge));
        pod->controller->polls--;
    }
}

void gauge_release(struct pod *pod) {
    gauge_cancel(pod);
    if (pod->gauge_timer.event != NULL) {
        timer_release(&pod->gauge_timer);
    }
}
