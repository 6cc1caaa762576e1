#include "controller/controller.h"

#include "base/clock.h"
#include "base/log.h"
#include "controller/serve.h"
#include "controller/world.h"

#include <signal.h>
#include <string.h>

#define STOP_MS 2000

void controller_wake(struct controller *controller, const char *key, int64_t delay_ms) {
    work_queue_add(controller->queue, key, delay_ms);
}

void controller_pod_is_free(struct controller *controller, struct pod *pod) {
    struct map_entry *entry = NULL;
    size_t at = 0;
    if (pod->waiting.count > 0 && (entry = map_next(&pod->waiting, &at)) != NULL) {
        cleanup_free char *key = xstrdup(entry->key);
        map_remove(&pod->waiting, key);
        controller_wake(controller, key, 0);
    }
}

/* ---- one adapter ---- */

static void apply_to_pod(struct controller *controller, struct adapter *adapter, const struct world_view *view,
                         const struct plan *plan, size_t at) {
    struct pod *pod = view->pods[at];
    struct hold *hold = world_hold(adapter, pod);
    bool counted = plan->is_wanted[at] || hold->state == HOLD_LOADED || hold->state == HOLD_MAYBE;
    hold->is_wanted = plan->is_wanted[at];
    pod->adapters += counted - hold->is_counted;
    hold->is_counted = counted;
    pod->is_awaited |= plan->is_polled[at];
    if (view->views[at].is_ready && (plan->is_polled[at] || !pod->is_observed)) {
        observe_soon(pod, 0);
    } else if (view->views[at].is_ready) {
        observe_soon(pod, controller->options->poll_period_ms);
    }
    /* It waits for the pod when it has something to do there and too much else runs. */
    if (plan->waits_for_pod && pod->operation_count >= POD_OPERATIONS_MAX && hold->running == HOLD_IDLE) {
        map_set(&pod->waiting, adapter->key, adapter->key);
    }
}

static void apply(struct controller *controller, struct adapter *adapter, const struct world_view *view, const struct plan *plan) {
    write_plan(controller, adapter, plan);
    for (size_t i = 0; i < plan->action_count; i++) {
        struct pod *pod = view->pods[plan->actions[i].pod];
        if (controller->calls >= CALLS_MAX) {
            controller_wake(controller, adapter->key, 50);
        } else {
            act_start(controller, adapter, pod, plan->actions[i].kind);
        }
    }
    for (size_t i = 0; i < view->input.pod_count; i++) {
        apply_to_pod(controller, adapter, view, plan, i);
    }
    if (plan->look_again_ms != PLAN_NEVER) {
        int64_t delay_ms = plan->look_again_ms - clock_now_ms();
        controller_wake(controller, adapter->key, delay_ms > 1 ? delay_ms : 1);
    }
}

/* Each waiter that was woken and found nothing to do passes the pod on. */
static void pass_on(struct controller *controller) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&controller->pods, &at)) != NULL;) {
        struct pod *pod = entry->value;
        if (pod->operation_count < POD_OPERATIONS_MAX) {
            controller_pod_is_free(controller, pod);
        }
    }
}

static void on_key(void *arg, const char *key) {
    struct controller *controller = arg;
    cleanup_free char *own_key = xstrdup(key);
    if (!controller->is_stopping) {
        struct adapter *adapter = world_refresh_adapter(controller, own_key);
        metric_add(controller->count.reconciles, NULL, 1);
        if (adapter != NULL) {
            struct world_view view;
            struct plan plan;
            world_view_take(controller, adapter, &view);
            plan_adapter(&view.input, &plan);
            apply(controller, adapter, &view, &plan);
            plan_release(&plan);
            world_view_release(&view);
        }
        pass_on(controller);
    }
    work_queue_done(controller->queue, own_key);
}

/* ---- changes ---- */

static bool is_synced(const struct controller *controller) {
    return watch_cache_is_synced(controller->adapters_cache) && watch_cache_is_synced(controller->pods_cache) &&
           watch_cache_is_synced(controller->services_cache) && watch_cache_is_synced(controller->slices_cache);
}

static void wake_object(struct controller *controller, const json_t *object) {
    cleanup_free char *key = world_key(object);
    if (is_synced(controller)) { /* a plan on half a world would undo what it cannot see */
        controller_wake(controller, key, 0);
    }
}

static void on_adapter(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    (void)change;
    wake_object(arg, new_object != NULL ? new_object : old_object);
}

/* Service or EndpointSlice: of the adapter of the same name, if there is one. */
static void on_resource(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct controller *controller = arg;
    const json_t *object = new_object != NULL ? new_object : old_object;
    (void)change;
    if (controller->adapters_cache != NULL &&
        watch_cache_get(controller->adapters_cache, kube_namespace(object), kube_name(object)) != NULL) {
        wake_object(controller, object);
    }
}

static bool is_same_view(const struct pod_facts *a, const struct pod_facts *b) {
    return a->is_ready == b->is_ready && a->is_gone == b->is_gone && strcmp(a->ip, b->ip) == 0 && strcmp(a->uid, b->uid) == 0 &&
           strcmp(a->node, b->node) == 0 && json_equal((json_t *)a->labels, (json_t *)b->labels);
}

static void on_pod(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct controller *controller = arg;
    if (change == WATCH_DELETED) {
        cleanup_free char *key = world_key(old_object);
        world_remove_pod(controller, key);
        return;
    }
    cleanup_free char *key = world_key(new_object);
    struct pod *pod = world_pod(controller, key);
    struct pod_facts old_facts = {0};
    cleanup_free char *old_start = NULL;
    cleanup_json json_t *kept = NULL;
    bool is_new = pod == NULL;
    if (!is_new) {
        kept = json_incref(pod->object);
        old_facts = pod->facts;
        old_start = xstrdup(pod->start);
        if (!json_equal((json_t *)old_facts.labels, json_at(new_object, "metadata.labels"))) {
            world_wake_concerned(controller, pod); /* those that matched the old labels */
        }
    }
    pod = world_update_pod(controller, new_object);
    if (is_new || strcmp(old_start, pod->start) != 0 || !is_same_view(&old_facts, &pod->facts)) { /* heartbeats wake nobody */
        if (pod->facts.is_ready) {
            observe_soon(pod, 0);
        }
        world_wake_concerned(controller, pod);
    }
}

static void on_synced(void *arg) {
    struct controller *controller = arg;
    if (controller->slices_cache == NULL || !is_synced(controller)) {
        return;
    }
    log_info("synced: %zu adapters, %zu pods", watch_cache_count(controller->adapters_cache),
             watch_cache_count(controller->pods_cache));
    json_t *object = NULL;
    for (size_t at = 0; (object = watch_cache_next(controller->adapters_cache, &at)) != NULL;) {
        wake_object(controller, object);
    }
}

static struct watch_cache *watch(struct controller *controller, const struct kube_resource *resource,
                                 void (*on_change)(void *, enum watch_change, json_t *, json_t *)) {
    struct watch_cache_options options = {.client = controller->kube,
                                          .resource = resource,
                                          .namespace = controller->options->namespace,
                                          .on_change = on_change,
                                          .on_synced = on_synced,
                                          .arg = controller};
    return watch_cache_new(&options);
}

/* ---- life ---- */

static void on_signal(void *arg, int number) {
    struct controller *controller = arg;
    log_info("signal %d: stopping", number);
    controller->is_stopping = true;
}

struct stopper {
    struct controller *controller;
    struct timer timer;
    int64_t since_ms;
};

/* What is being written is finished; what runs on engines is left to the next start, which lists before it acts. */
static void on_stop_timer(void *arg) {
    struct stopper *stopper = arg;
    struct controller *controller = stopper->controller;
    if (controller->is_stopping) {
        stopper->since_ms = stopper->since_ms != 0 ? stopper->since_ms : clock_now_ms();
        if (controller->writes == 0 || clock_now_ms() - stopper->since_ms > STOP_MS) {
            loop_stop(controller->loop);
            return;
        }
    }
    timer_set(&stopper->timer, 100);
}

static void register_metrics(struct controller *controller) {
    static const double seconds[] = {0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100};
    const struct {
        struct metric **target;
        struct metric_spec spec;
    } rows[] = {
        {&controller->count.reconciles, {.name = "davit_controller_reconciles_total", .help = "Plans made."}},
        {&controller->count.loads,
         {.name = "davit_controller_loads_total", .help = "Adapters loaded into engines.", .label_names = {"engine"}}},
        {&controller->count.load_failures,
         {.name = "davit_controller_load_failures_total", .help = "Loads that failed.", .label_names = {"reason"}}},
        {&controller->count.load_seconds,
         {.name = "davit_controller_load_seconds",
          .help = "Time of a load, fetching included.",
          .type = METRIC_HISTOGRAM,
          .label_names = {"engine"},
          .buckets = seconds,
          .bucket_count = ARRAY_LEN(seconds)}},
        {&controller->count.unloads, {.name = "davit_controller_unloads_total", .help = "Unloads asked for."}},
        {&controller->count.proofs, {.name = "davit_controller_proof_requests_total", .help = "One-token requests sent."}},
        {&controller->count.polls, {.name = "davit_controller_polls_total", .help = "Lists of models asked for."}},
        {&controller->count.poll_failures,
         {.name = "davit_controller_poll_failures_total", .help = "Lists that were not answered."}},
        {&controller->count.writes,
         {.name = "davit_controller_writes_total", .help = "Writes to the Kubernetes API, events aside.", .label_names = {"kind"}}},
        {&controller->count.adapters,
         {.name = "davit_controller_adapters", .help = "ModelAdapters by phase.", .type = METRIC_GAUGE, .label_names = {"phase"}}},
        {&controller->count.queue_depth,
         {.name = "davit_controller_queue_depth",
          .help = "Adapters that are due or will be looked at again.",
          .type = METRIC_GAUGE}},
    };
    controller->metrics = metrics_new();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        *rows[i].target = metrics_register(controller->metrics, &rows[i].spec);
    }
}

static int count_adapters(const struct controller *controller, const char *phase) {
    int count = 0;
    json_t *object = NULL;
    for (size_t at = 0; (object = watch_cache_next(controller->adapters_cache, &at)) != NULL;) {
        count += strcmp(json_string_at(object, "status.phase", "Pending"), phase) == 0;
    }
    return count;
}

static void render_metrics(void *arg, struct buffer *out) {
    struct controller *controller = arg;
    static const char *const phases[] = {"Pending", "Scheduled", "Bound", "ResourceCreated", "Running", "Failed"};
    for (size_t i = 0; i < ARRAY_LEN(phases); i++) {
        const char *labels[] = {phases[i], NULL};
        metric_set(controller->count.adapters, labels, count_adapters(controller, phases[i]));
    }
    metric_set(controller->count.queue_depth, NULL, work_queue_depth(controller->queue));
    metrics_render(controller->metrics, out);
}

static bool is_ready(void *arg) {
    return is_synced(arg);
}

static void start(struct controller *controller, const struct kube_config *config) {
    controller->transfers = transfers_new(controller->loop);
    controller->kube =
        kube_client_new(controller->loop, controller->transfers, config, "davit-controller", controller->options->calls_max);
    controller->queue = work_queue_new(controller->loop, 1, on_key, controller);
    controller->events = event_recorder_new(controller->kube, "model-adapter-controller");
    controller->adapters_cache = watch(controller, &kube_model_adapters, on_adapter);
    controller->pods_cache = watch(controller, &kube_pods, on_pod);
    controller->services_cache = watch(controller, &kube_services, on_resource);
    controller->slices_cache = watch(controller, &kube_endpoint_slices, on_resource);
}

static void release(struct controller *controller) {
    world_free(controller);
    watch_cache_free(controller->adapters_cache);
    watch_cache_free(controller->pods_cache);
    watch_cache_free(controller->services_cache);
    watch_cache_free(controller->slices_cache);
    event_recorder_free(controller->events);
    work_queue_free(controller->queue);
    kube_client_free(controller->kube);
    transfers_free(controller->transfers);
    metrics_free(controller->metrics);
}

int controller_run(const struct controller_options *options, struct error *err) {
    static const int signals[] = {SIGTERM, SIGINT, 0};
    struct controller controller = {.options = options};
    struct kube_config config;
    if (kube_config_load(options->kubeconfig, &config, err) < 0) {
        return -1;
    }
    controller.loop = loop_new();
    register_metrics(&controller);
    struct serve_options serve = {.loop = controller.loop,
                                  .addresses = {options->metrics_address, options->health_address},
                                  .render_metrics = render_metrics,
                                  .is_ready = is_ready,
                                  .arg = &controller};
    struct stopper stopper = {.controller = &controller};
    timer_init(&stopper.timer, controller.loop, on_stop_timer, &stopper);
    start(&controller, &config);
    struct serve *page = NULL;
    int result = serve_new(&serve, &page, err);
    if (result == 0) {
        loop_on_signals(controller.loop, signals, on_signal, &controller);
        timer_set(&stopper.timer, 100);
        loop_run(controller.loop);
    }
    serve_free(page);
    timer_release(&stopper.timer);
    release(&controller);
    loop_free(controller.loop);
    kube_config_release(&config);
    return result;
}
