#include "controller/controller.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "controller/objects.h"
#include "controller/routes.h"
#include "controller/secrets.h"
#include "controller/serve.h"
#include "controller/world.h"
#include "kube/lease.h"

#include <signal.h>
#include <string.h>

#define STOP_MS 2000
#define REST_MS 5000

void controller_wake(struct controller *controller, const char *key, int64_t delay_ms) {
    work_queue_add(controller->queue, key, delay_ms);
}

/* ---- who waits for an engine ---- */

static void set_waiting(struct binding *binding, bool is_waiting) {
    struct pod *pod = binding->pod;
    if (binding->is_waiting == is_waiting) {
        return;
    }
    binding->is_waiting = is_waiting;
    if (is_waiting) {
        TAILQ_INSERT_TAIL(&pod->waiting, binding, in_waiting);
    } else {
        TAILQ_REMOVE(&pod->waiting, binding, in_waiting);
    }
}

static void set_queued(struct controller *controller, struct pod *pod, bool is_queued) {
    if (pod->is_queued == is_queued) {
        return;
    }
    pod->is_queued = is_queued;
    if (is_queued) {
        TAILQ_INSERT_TAIL(&controller->waiting, pod, in_waiting);
    } else {
        TAILQ_REMOVE(&controller->waiting, pod, in_waiting);
    }
}

/* Wakes the first that waits for the pod; the pod stays in turn while more of them wait. */
static void serve_pod(struct controller *controller, struct pod *pod) {
    struct binding *binding = TAILQ_FIRST(&pod->waiting);
    set_queued(controller, pod, false);
    if (binding != NULL && pod->operation_count < POD_OPERATIONS_MAX) {
        set_waiting(binding, false);
        controller_wake(controller, binding->adapter->key, 0);
    }
    set_queued(controller, pod, !TAILQ_EMPTY(&pod->waiting) && pod->operation_count < POD_OPERATIONS_MAX);
}

void controller_pod_is_free(struct controller *controller, struct pod *pod) {
    if (controller->operations < OPERATIONS_MAX) {
        serve_pod(controller, pod);
    } else {
        set_queued(controller, pod, !TAILQ_EMPTY(&pod->waiting));
    }
}

/* A waiter that was woken and found nothing to do passes its turn on. */
static void pass_on(struct controller *controller) {
    struct pod *pod = TAILQ_FIRST(&controller->waiting);
    if (pod != NULL && controller->operations < OPERATIONS_MAX) {
        serve_pod(controller, pod);
    }
}

/* ---- one adapter ---- */

static void apply_to_pod(struct controller *controller, struct adapter *adapter, const struct world_view *view,
                         const struct plan *plan, size_t at) {
    struct pod *pod = view->pods[at];
    bool is_concerned = plan->is_wanted[at] || plan->is_polled[at]; /* its list is news for this adapter */
    struct binding *binding = is_concerned ? world_bind(adapter, pod) : world_binding(adapter, pod);
    pod->is_awaited |= plan->is_polled[at];
    if (pod->facts.is_ready) { /* one that does not answer is asked at its own pace, however many plans wait for it */
        bool is_soon = (plan->is_polled[at] || !pod->is_observed) && pod->failures == 0;
        observe_soon(pod, is_soon ? 0 : controller->options->poll_period_ms);
    }
    if (binding == NULL) {
        return;
    }
    struct hold *hold = binding->hold;
    hold_meet(hold, pod->start);
    hold->is_wanted = plan->is_wanted[at];
    world_count(binding);
    set_waiting(binding, plan->is_waiting[at]);
    binding->is_draining = plan->is_gauged[at];
    if (binding->is_draining) {
        gauge_soon(pod);
    }
    if (plan->is_waiting[at] && pod->operation_count < POD_OPERATIONS_MAX) { /* it is the whole that is busy */
        set_queued(controller, pod, true);
    }
    if (!is_concerned && !binding->is_waiting) {
        world_unbind_blank(binding);
    }
}

/* Whether any change of the pods that match may concern the adapter: it looks for pods, or wants them all. */
static bool is_seeking(const struct adapter *adapter, const struct world_view *view, const struct plan *plan) {
    const struct plan_input *input = &view->input;
    int good = 0;
    if (adapter->spec.replicas < 0 || adapter->spec.is_deleting) {
        return true;
    }
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        good += plan->is_wanted[i] && pod->is_ready && !pod->is_unreachable && !plan_has_failed(input, pod->hold) &&
                pod->hold->state != HOLD_CONFLICT;
    }
    return good < adapter->spec.replicas;
}

static void apply(struct controller *controller, struct adapter *adapter, const struct world_view *view, const struct plan *plan) {
    routes_consider(controller->routes, adapter->key);
    for (size_t i = 0; i < plan->action_count; i++) {
        struct pod *pod = view->pods[plan->actions[i].pod];
        struct binding *binding = world_bind(adapter, pod);
        hold_meet(binding->hold, pod->start);
        act_start(controller, binding, plan->actions[i].kind, view->input.pods[plan->actions[i].pod].tag);
    }
    for (size_t i = 0; i < view->input.pod_count; i++) {
        apply_to_pod(controller, adapter, view, plan, i);
    }
    if (plan->look_again_ms != PLAN_NEVER) {
        int64_t delay_ms = plan->look_again_ms - clock_now_ms();
        controller_wake(controller, adapter->key, delay_ms > 1 ? delay_ms : 1);
    }
}

/* Of an adapter whose status says that every pod has it. It is said without waiting for a turn: once the turn came, the engine
 * might have it again, and nobody would have read that it was away. */
static bool is_loss(const struct adapter *adapter, const struct world_view *view, const struct plan *plan) {
    return view->input.seen.is_fully_loaded && plan->is_status_urgent && !adapter->spec.is_deleting;
}

static void word_and_write(struct controller *controller, struct adapter *adapter, const struct world_view *view,
                           struct plan *plan) {
    struct plan_objects objects;
    world_objects_take(controller, adapter, plan->due, &objects);
    plan_words(&view->input, &objects, plan);
    world_objects_release(&objects);
    if (plan->is_published) {
        adapter->digest = plan->digest;
    }
    write_plan(controller, adapter, plan);
}

static void plan_and_apply(struct controller *controller, struct adapter *adapter) {
    struct world_view view;
    struct plan plan;
    bool had_all = adapter->is_seeking;
    world_view_take(controller, adapter, &view);
    plan_adapter(&view.input, &plan);
    selection_seek(adapter, is_seeking(adapter, &view, &plan));
    if (adapter->is_seeking && !had_all) { /* planned among the pods it has; now among all, before anything is done or said */
        plan_release(&plan);
        world_view_release(&view);
        world_view_take(controller, adapter, &view);
        plan_adapter(&view.input, &plan);
    }
    if (plan.due == 0 && plan.finalizers == NULL) {
        write_leave_queue(controller, adapter);
    } else if (write_take_turn(controller, adapter) || is_loss(adapter, &view, &plan)) {
        word_and_write(controller, adapter, &view, &plan);
    }
    apply(controller, adapter, &view, &plan);
    plan_release(&plan);
    world_view_release(&view);
}

static bool may_act(const struct controller *controller) {
    return !controller->is_stopping && controller->is_started && (controller->lease == NULL || lease_is_held(controller->lease));
}

/* Much of a controller's life nothing changes. */
static void on_rest(void *arg) {
    struct controller *controller = arg;
    if (controller->turns == controller->turns_then) {
        memory_give_back();
    } else {
        controller->turns_then = controller->turns;
        timer_set(&controller->rest, REST_MS);
    }
}

static void on_key(void *arg, const char *key) {
    struct controller *controller = arg;
    controller->turns++;
    if (!timer_is_set(&controller->rest)) {
        timer_set(&controller->rest, REST_MS);
    }
    cleanup_free char *own_key = xstrdup(key);
    if (may_act(controller)) {
        struct adapter *adapter = world_refresh_adapter(controller, own_key);
        metric_add(controller->count.reconciles, NULL, 1);
        if (adapter != NULL) {
            plan_and_apply(controller, adapter);
        } else {
            routes_consider(controller->routes, own_key);
        }
        pass_on(controller);
        write_pass_on(controller);
    }
    work_queue_done(controller->queue, own_key);
}

/* ---- changes ---- */

static bool is_synced(const struct controller *controller) {
    return watch_cache_is_synced(controller->adapters_cache) && watch_cache_is_synced(controller->pods_cache) &&
           watch_cache_is_synced(controller->services_cache) && watch_cache_is_synced(controller->slices_cache);
}

/* Everything is looked at; before that, a plan on half a world would undo what it cannot see. */
static void wake_all(struct controller *controller) {
    json_t *object = NULL;
    for (size_t at = 0; (object = watch_cache_next(controller->adapters_cache, &at)) != NULL;) {
        cleanup_free char *key = world_key(object);
        controller_wake(controller, key, 0);
    }
}

static void on_route_released(void *arg, const char *key) {
    controller_wake(arg, key, 0);
}

static void keep_routes(struct controller *controller) {
    const struct controller_options *options = controller->options;
    struct routes_setup setup = {.objects = options->routes,
                                 .namespace = options->namespace,
                                 .kube = controller->kube,
                                 .events = controller->events,
                                 .is_withdrawn = options->has_engine_names,
                                 .writes = controller->count.writes,
                                 .adapters = controller->adapters_cache,
                                 .services = controller->services_cache,
                                 .slices = controller->slices_cache,
                                 .on_released = on_route_released,
                                 .arg = controller};
    controller->routes = options->has_routes ? routes_new(&setup) : NULL;
}

static void start_acting(struct controller *controller) {
    bool leads = controller->lease == NULL || lease_is_held(controller->lease);
    if (leads && !controller->is_started && is_synced(controller)) {
        controller->is_started = true;
        log_info("acting on %zu adapters and %zu pods", watch_cache_count(controller->adapters_cache),
                 watch_cache_count(controller->pods_cache));
        json_t *object = NULL;
        for (size_t at = 0; (object = watch_cache_next(controller->pods_cache, &at)) != NULL;) {
            world_update_pod(controller, object);
        }
        keep_routes(controller);
        memory_give_back(); /* what starting took and is not needed again */
        wake_all(controller);
    }
}

static void on_adapter(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct controller *controller = arg;
    (void)change;
    if (controller->is_started) {
        cleanup_free char *key = world_key(new_object != NULL ? new_object : old_object);
        controller_wake(controller, key, 0);
    }
}

static void on_resource(struct controller *controller, const json_t *object, bool is_slice) {
    struct adapter *adapter = controller->is_started ? world_note_resource(controller, object, is_slice) : NULL;
    if (adapter != NULL) {
        controller_wake(controller, adapter->key, 0);
    }
}

static void on_service(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    (void)change;
    on_resource(arg, new_object != NULL ? new_object : old_object, false);
}

static void on_slice(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    (void)change;
    on_resource(arg, new_object != NULL ? new_object : old_object, true);
}

static void on_pod(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct controller *controller = arg;
    if (!controller->is_started) {
        return;
    }
    if (change == WATCH_DELETED) {
        cleanup_free char *key = world_key(old_object);
        world_remove_pod(controller, key);
    } else {
        world_update_pod(controller, new_object);
    }
}

static void on_node(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct controller *controller = arg;
    json_t *before = json_at(old_object, "metadata.labels"), *after = json_at(new_object, "metadata.labels");
    /* Not what goes: its pods follow. */
    if (controller->is_started && change != WATCH_DELETED && !json_equal(before, after)) { /* most changes are heartbeats */
        world_note_node(controller, kube_name(new_object));
    }
}

static void on_synced(void *arg) {
    struct controller *controller = arg;
    if (controller->slices_cache != NULL) {
        start_acting(controller);
    }
}

static struct watch_cache *watch(struct controller *controller, const struct kube_resource *resource,
                                 json_t *(*reduce)(const json_t *),
                                 void (*on_change)(void *, enum watch_change, json_t *, json_t *)) {
    struct watch_cache_options options = {.client = controller->kube,
                                          .resource = resource,
                                          .namespace = resource->is_namespaced ? controller->options->namespace : NULL,
                                          .reduce = reduce,
                                          .on_change = on_change,
                                          .on_synced = on_synced,
                                          .arg = controller};
    return watch_cache_new(&options);
}

/* ---- leadership ---- */

static void on_leading(void *arg) {
    struct controller *controller = arg;
    log_info("leading as %s", lease_identity(controller->lease));
    start_acting(controller);
}

/* What was under way is of no use to the next leader, and what this process believes would have to be forgotten: it ends. */
static void on_lost(void *arg) {
    struct controller *controller = arg;
    const char *holder = lease_holder(controller->lease);
    bool is_another = strcmp(holder, lease_identity(controller->lease)) != 0;
    log_error("leading ends: %s%s%s", is_another ? "the lease is held by \"" : "the lease was not renewed in time",
              is_another ? holder : "", is_another ? "\" now" : "");
    controller->has_lost = true;
    loop_stop(controller->loop);
}

static int campaign(struct controller *controller, const struct kube_config *config, struct error *err) {
    const struct controller_options *options = controller->options;
    struct lease_options lease = {.client = controller->kube,
                                  .namespace = options->lease_namespace != NULL ? options->lease_namespace : config->namespace,
                                  .name = options->lease_name,
                                  .duration_ms = options->lease_duration_ms,
                                  .renew_deadline_ms = options->renew_deadline_ms,
                                  .retry_period_ms = options->retry_period_ms,
                                  .on_started = on_leading,
                                  .on_stopped = on_lost,
                                  .arg = controller};
    controller->lease = lease_new(&lease, err);
    if (controller->lease == NULL) {
        return -1;
    }
    kube_client_guard_writes(controller->kube, lease_may_send, controller->lease);
    log_info("waiting to lead by Lease %s/%s", lease.namespace, lease.name);
    return 0;
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

static void on_released(void *arg) {
    loop_stop(((struct controller *)arg)->loop);
}

/* What is being written is finished; what runs on engines is left to the next start, which lists before it acts. */
static void on_stop_timer(void *arg) {
    struct stopper *stopper = arg;
    struct controller *controller = stopper->controller;
    if (controller->is_stopping) {
        stopper->since_ms = stopper->since_ms != 0 ? stopper->since_ms : clock_now_ms();
        if (controller->writes + routes_stop(controller->routes) == 0 || clock_now_ms() - stopper->since_ms > STOP_MS) {
            if (controller->lease != NULL) {
                lease_release(controller->lease, on_released, controller);
            } else {
                loop_stop(controller->loop);
            }
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
        {&controller->count.leader,
         {.name = "davit_controller_leader", .help = "1 while this process acts, 0 while it waits to lead.", .type = METRIC_GAUGE}},
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

static void render_metrics(void *arg, struct buffer *out) {
    struct controller *controller = arg;
    static const char *const phases[] = {"Pending", "Scheduled", "Bound", "ResourceCreated", "Running", "Failed", "Scaled"};
    int counts[ARRAY_LEN(phases)] = {0};
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&controller->adapters, &at)) != NULL;) {
        const struct adapter *adapter = entry->value;
        struct objects_seen seen;
        objects_read_seen(adapter->object, &seen);
        for (size_t i = 0; i < ARRAY_LEN(phases); i++) {
            counts[i] += strcmp(seen.phase[0] != '\0' ? seen.phase : "Pending", phases[i]) == 0;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(phases); i++) {
        const char *labels[] = {phases[i], NULL};
        metric_set(controller->count.adapters, labels, counts[i]);
    }
    metric_set(controller->count.leader, NULL, controller->lease == NULL || lease_is_held(controller->lease));
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
    controller->secrets = secrets_new(controller->kube);
    timer_init(&controller->rest, controller->loop, on_rest, controller);
    TAILQ_INIT(&controller->waiting);
    TAILQ_INIT(&controller->unwritten);
    controller->adapters_cache = watch(controller, &kube_model_adapters, objects_reduce_adapter, on_adapter);
    controller->pods_cache = watch(controller, &kube_pods, pod_facts_reduce, on_pod);
    controller->services_cache = watch(controller, &kube_services, objects_reduce_packed, on_service);
    controller->nodes_cache = watch(controller, &kube_nodes, objects_reduce_node, on_node);
    controller->slices_cache = watch(controller, &kube_endpoint_slices, objects_reduce_packed, on_slice);
}

static void release(struct controller *controller) {
    routes_free(controller->routes);
    world_free(controller);
    if (controller->lease != NULL) {
        lease_free(controller->lease);
    }
    watch_cache_free(controller->adapters_cache);
    watch_cache_free(controller->pods_cache);
    watch_cache_free(controller->services_cache);
    watch_cache_free(controller->slices_cache);
    watch_cache_free(controller->nodes_cache);
    secrets_free(controller->secrets);
    event_recorder_free(controller->events);
    work_queue_free(controller->queue);
    timer_release(&controller->rest);
    kube_client_free(controller->kube);
    transfers_free(controller->transfers);
    metrics_free(controller->metrics);
}

static void fill_nonce(char *out, size_t room) {
    for (size_t i = 0; i + 1 < room; i++) {
        out[i] = "0123456789abcdef"[arc4random_uniform(16)];
    }
    out[room - 1] = '\0';
}

int controller_run(const struct controller_options *options, struct error *err) {
    static const int signals[] = {SIGTERM, SIGINT, 0};
    struct controller controller = {.options = options};
    struct kube_config config;
    if (kube_config_load(options->kubeconfig, &config, err) < 0) {
        return -1;
    }
    controller.loop = loop_new();
    fill_nonce(controller.nonce, sizeof(controller.nonce));
    register_metrics(&controller);
    struct serve_options serve = {.loop = controller.loop,
                                  .addresses = {options->metrics_address, options->health_address},
                                  .render_metrics = render_metrics,
                                  .is_ready = is_ready,
                                  .arg = &controller};
    struct stopper stopper = {.controller = &controller};
    timer_init(&stopper.timer, controller.loop, on_stop_timer, &stopper);
    start(&controller, &config);
    loop_on_signals(controller.loop, signals, on_signal, &controller); /* before anybody can read that it is here */
    struct serve *page = NULL;
    int result = serve_new(&serve, &page, err);
    if (result == 0 && options->elects_leader) {
        result = campaign(&controller, &config, err);
    }
    if (result == 0) {
        timer_set(&stopper.timer, 100);
        loop_run(controller.loop);
        if (controller.has_lost) {
            result = error_set(err, ERROR_CONFLICT, "the lease was lost: another controller leads now, or may");
        }
    }
    serve_free(page);
    timer_release(&stopper.timer);
    release(&controller);
    loop_free(controller.loop);
    kube_config_release(&config);
    return result;
}
