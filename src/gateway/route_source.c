#include "gateway/route_source.h"

#include "adapter/names.h"
#include "base/clock.h"
#include "base/log.h"
#include "gateway/route_table.h"
#include "kube/watch_cache.h"

#include <string.h>

struct route_source {
    struct route_source_options options;
    struct route_table *table;
    struct watch_cache *adapters;
    struct watch_cache *slices;
    struct watch_cache *pods;
    struct timer rebuild;
    int64_t built_ms; /* when the last snapshot was built */
    bool has_built;
    size_t hidden_count;
};

static bool is_synced(const struct route_source *source) {
    return watch_cache_is_synced(source->adapters) && watch_cache_is_synced(source->slices) && watch_cache_is_synced(source->pods);
}

static void count_models(const struct route_source *source, const struct route_snapshot *snapshot) {
    double bases = 0;
    double adapters = 0;
    for (size_t i = 0; i < snapshot->count; i++) {
        if (snapshot->models[i]->endpoint_count > 0) {
            *(snapshot->models[i]->is_adapter ? &adapters : &bases) += 1;
        }
    }
    metric_set(source->options.metrics->models, (const char *[]){"base"}, bases);
    metric_set(source->options.metrics->models, (const char *[]){"adapter"}, adapters);
}

static void tell_hidden(struct route_source *source) {
    size_t count = 0;
    const struct route_hidden *hidden = route_table_hidden(source->table, &count);
    bool has_changed = count != source->hidden_count;
    for (size_t i = 0; i < count; i++) {
        has_changed = has_changed || hidden[i].is_new;
        if (hidden[i].is_new && strcmp(hidden[i].by, ROUTE_HIDDEN_BY_BASE) == 0) {
            log_warn("adapter %s/%s cannot be asked for: a base model has its name", hidden[i].namespace, hidden[i].name);
        } else if (hidden[i].is_new) {
            log_warn("adapter %s/%s cannot be asked for: %s/%s is older and has the name", hidden[i].namespace, hidden[i].name,
                     hidden[i].by, hidden[i].name);
        }
    }
    source->hidden_count = count;
    if (!has_changed) {
        return;
    }
    metric_clear(source->options.metrics->hidden);
    for (size_t i = 0; i < count; i++) {
        metric_set(source->options.metrics->hidden, (const char *[]){hidden[i].namespace, hidden[i].name}, 1);
    }
}

static void on_rebuild(void *arg) {
    struct route_source *source = arg;
    if (!is_synced(source)) {
        return; /* on_synced comes again */
    }
    int64_t before_ns = clock_now_ns();
    struct route_snapshot *snapshot = route_table_build(source->table);
    metric_observe(source->options.metrics->rebuilds, NULL, (double)(clock_now_ns() - before_ns) / 1e9);
    count_models(source, snapshot);
    tell_hidden(source);
    if (!source->has_built) {
        log_info("routes read: %zu names", snapshot->count);
    }
    source->has_built = true;
    source->built_ms = loop_now_ms(kube_client_loop(source->options.client));
    source->options.on_snapshot(source->options.arg, snapshot);
}

static void schedule(struct route_source *source) {
    if (timer_is_set(&source->rebuild)) {
        return;
    }
    int64_t due_ms = source->built_ms + ROUTE_REBUILD_INTERVAL_MS - loop_now_ms(kube_client_loop(source->options.client));
    timer_set(&source->rebuild, !source->has_built || due_ms < 0 ? 0 : due_ms);
}

static void on_synced(void *arg) {
    schedule(arg);
}

typedef bool set_object(struct route_table *table, const char *namespace, const char *name, const json_t *object);

static void on_change(struct route_source *source, set_object *set, json_t *old_object, json_t *new_object) {
    const json_t *either = new_object != NULL ? new_object : old_object;
    if (set(source->table, kube_namespace(either), kube_name(either), new_object)) {
        schedule(source);
    }
}

static void on_pod(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    (void)change;
    on_change(arg, route_table_set_pod, old_object, new_object);
}

static void on_slice(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    (void)change;
    on_change(arg, route_table_set_slice, old_object, new_object);
}

static void on_adapter(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    (void)change;
    on_change(arg, route_table_set_adapter, old_object, new_object);
}

struct route_source *route_source_new(const struct route_source_options *options) {
    struct route_source *source = xcalloc(1, sizeof(*source));
    source->options = *options;
    source->table = route_table_new();
    timer_init(&source->rebuild, kube_client_loop(options->client), on_rebuild, source);
    struct watch_cache_options watch = {
        .client = options->client, .namespace = options->namespace, .on_synced = on_synced, .arg = source};
    watch.resource = &kube_model_adapters;
    watch.on_change = on_adapter;
    source->adapters = watch_cache_new(&watch);
    watch.resource = &kube_endpoint_slices;
    watch.label_selector = LABEL_SERVICE_NAME;
    watch.on_change = on_slice;
    source->slices = watch_cache_new(&watch);
    watch.resource = &kube_pods;
    watch.label_selector = LABEL_MODEL_NAME;
    watch.on_change = on_pod;
    source->pods = watch_cache_new(&watch);
    return source;
}

void route_source_free(struct route_source *source) {
    if (source == NULL) {
        return;
    }
    timer_release(&source->rebuild);
    watch_cache_free(source->adapters);
    watch_cache_free(source->slices);
    watch_cache_free(source->pods);
    route_table_free(source->table);
    free(source);
}
