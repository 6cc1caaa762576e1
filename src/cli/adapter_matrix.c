#include "cli/adapter_matrix.h"

#include "adapter/model_adapter.h"
#include "base/map.h"
#include "cli/table.h"

#include <string.h>

#define REASON_BYTES_SHOWN 120

/* ---- building ---- */

static const json_t *condition_of(const json_t *object, const char *type) {
    const json_t *conditions = json_at(object, "status.conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *condition = json_array_get(conditions, i);
        if (strcmp(json_string_at(condition, "type", ""), type) == 0) {
            return condition;
        }
    }
    return NULL;
}

static bool is_true(const json_t *condition) {
    return strcmp(json_string_at(condition, "status", ""), "True") == 0;
}

static bool is_starting(const json_t *pod) {
    const char *phase = json_string_at(pod, "status.phase", "Pending");
    bool has_ended = strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0;
    return !has_ended && json_at(pod, "metadata.deletionTimestamp") == NULL && !is_true(condition_of(pod, "Ready"));
}

static bool has_load_on(const json_t *loads, const char *pod) {
    for (size_t i = 0; i < json_array_size(loads); i++) {
        if (strcmp(json_string_at(json_array_get(loads, i), "pod", ""), pod) == 0) {
            return true;
        }
    }
    return false;
}

static void add_starting_pods(const struct model_adapter *adapter, const json_t *pods, json_t *loads) {
    size_t count = json_array_size(pods);
    for (size_t i = 0; i < count; i++) {
        const json_t *pod = json_array_get(pods, i);
        const char *name = json_string_at(pod, "metadata.name", "");
        bool is_ours = strcmp(json_string_at(pod, "metadata.namespace", ""), adapter->namespace) == 0;
        if (is_ours && is_starting(pod) && selector_matches(adapter->selector, json_at(pod, "metadata.labels")) &&
            !has_load_on(loads, name)) {
            json_array_append_new(loads, json_pack("{s:s, s:s, s:s}", "pod", name, "state", "Starting", "reason", "PodNotReady"));
        }
    }
}

static json_t *row_of(const json_t *object, const json_t *pods) {
    struct model_adapter adapter = {0};
    bool is_valid = model_adapter_read(object, &adapter, NULL) == 0;
    const json_t *given = json_at(object, "status.loads");
    json_t *loads = json_is_array(given) ? json_copy((json_t *)given) : json_array();
    if (is_valid) {
        add_starting_pods(&adapter, pods, loads);
    }
    const json_t *ready = condition_of(object, "Ready");
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "namespace", json_string_at(object, "metadata.namespace", ""), "name",
                            json_string_at(object, "metadata.name", ""), "baseModel", json_string_at(object, "spec.baseModel", ""),
                            "phase", json_string_at(object, "status.phase", "Pending"), "ready",
                            (json_int_t)json_int_at(object, "status.readyReplicas", 0), "desired",
                            (json_int_t)json_int_at(object, "status.desiredReplicas", 0));
    if (!is_true(ready)) {
        json_object_set_new(row, "reason", json_string(json_string_at(ready, "reason", "NotSeen")));
        json_object_set_new(row, "message", json_string(json_string_at(ready, "message", "no controller has looked at it yet")));
    }
    json_object_set_new(row, "loads", loads);
    model_adapter_release(&adapter);
    return row;
}

json_t *adapter_matrix_build(const json_t *adapters, const json_t *pods) {
    json_t *rows = json_array();
    for (size_t i = 0; i < json_array_size(adapters); i++) {
        json_array_append_new(rows, row_of(json_array_get(adapters, i), pods));
    }
    return json_pack("{s:o}", "adapters", rows);
}

/* ---- rendering ---- */

struct totals {
    size_t adapters, ready_adapters, loads, ready_loads, failed_loads;
    int64_t least_ms, most_ms; /* -1 = no load time is known */
    struct map pods;
};

static bool is_state(const json_t *load, const char *state) {
    return strcmp(json_string_at(load, "state", ""), state) == 0;
}

static void count_load(struct totals *totals, const json_t *load) {
    int64_t load_ms = json_int_at(load, "loadMillis", -1);
    totals->loads++;
    totals->ready_loads += is_state(load, "Ready");
    totals->failed_loads += is_state(load, "Failed");
    (void)map_set(&totals->pods, json_string_at(load, "pod", ""), totals);
    if (load_ms >= 0) {
        totals->least_ms = totals->least_ms < 0 || load_ms < totals->least_ms ? load_ms : totals->least_ms;
        totals->most_ms = load_ms > totals->most_ms ? load_ms : totals->most_ms;
    }
}

static void count(struct totals *totals, const json_t *rows) {
    *totals = (struct totals){.least_ms = -1, .most_ms = -1, .pods = MAP_INIT};
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const json_t *loads = json_object_get(row, "loads");
        totals->adapters++;
        totals->ready_adapters += json_object_get(row, "reason") == NULL;
        for (size_t k = 0; k < json_array_size(loads); k++) {
            count_load(totals, json_array_get(loads, k));
        }
    }
}

static void append_duration(struct buffer *out, int64_t ms) {
    if (ms < 1000) {
        buffer_printf(out, "%lld ms", (long long)ms);
    } else {
        buffer_printf(out, "%.1f s", (double)ms / 1000);
    }
}

static void add_duration(struct table *table, int64_t ms) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (ms >= 0) {
        append_duration(&text, ms);
    }
    table_add(table, buffer_text(&text));
}

/* "LoadFailed: rank 64 exceeds ...", cut. */
static void add_reason(struct table *table, const json_t *of) {
    const char *message = json_string_at(of, "message", "");
    cleanup_buffer struct buffer text = BUFFER_INIT;
    buffer_printf(&text, "%s%s%s", json_string_at(of, "reason", ""), *message != '\0' ? ": " : "", message);
    if (text.len > REASON_BYTES_SHOWN) {
        size_t len = REASON_BYTES_SHOWN;
        while (len > 0 && ((unsigned char)text.data[len] & 0xC0) == 0x80) {
            len--; /* not inside of a character */
        }
        text.data[len] = '\0';
        text.len = len;
        buffer_append_text(&text, "...");
    }
    table_add(table, buffer_text(&text));
}

static void add_adapter_cells(struct table *table, const json_t *row, bool with_namespace) {
    if (with_namespace) {
        table_add(table, json_string_at(row, "namespace", ""));
    }
    table_add(table, json_string_at(row, "name", ""));
    table_add(table, json_string_at(row, "baseModel", ""));
    table_add(table, json_string_at(row, "phase", ""));
    table_addf(table, "%lld/%lld", (long long)json_int_at(row, "ready", 0), (long long)json_int_at(row, "desired", 0));
}

static void add_rows(struct table *table, const json_t *row, bool with_namespace, bool with_reason) {
    const json_t *loads = json_object_get(row, "loads");
    size_t row_count = json_array_size(loads) > 0 ? json_array_size(loads) : 1;
    for (size_t i = 0; i < row_count; i++) {
        const json_t *load = json_array_get(loads, i); /* NULL: there is none */
        add_adapter_cells(table, row, with_namespace);
        table_add(table, json_string_at(load, "pod", ""));
        table_add(table, json_string_at(load, "state", ""));
        table_add(table, json_string_at(load, "revision", ""));
        add_duration(table, json_int_at(load, "loadMillis", -1));
        if (with_reason && load != NULL && is_state(load, "Ready")) {
            table_add(table, "");
        } else if (with_reason) {
            add_reason(table, load != NULL ? load : row);
        }
    }
}

static const char *plural(size_t number) {
    return number == 1 ? "" : "s";
}

static void append_summary(const struct totals *totals, struct buffer *out) {
    buffer_printf(out, "\n%zu adapter%s, %zu ready; %zu load%s on %zu pod%s, %zu ready", totals->adapters, plural(totals->adapters),
                  totals->ready_adapters, totals->loads, plural(totals->loads), totals->pods.count, plural(totals->pods.count),
                  totals->ready_loads);
    if (totals->failed_loads > 0) {
        buffer_printf(out, ", %zu failed", totals->failed_loads);
    }
    if (totals->most_ms >= 0) {
        buffer_append_text(out, "; loaded in ");
        append_duration(out, totals->least_ms);
        if (totals->most_ms > totals->least_ms) {
            buffer_append_text(out, " to ");
            append_duration(out, totals->most_ms);
        }
    }
    buffer_append_char(out, '\n');
}

void adapter_matrix_render(const json_t *matrix, bool with_namespace, struct buffer *out) {
    const json_t *rows = json_object_get(matrix, "adapters");
    struct totals totals;
    count(&totals, rows);
    bool with_reason = totals.ready_loads < totals.loads || totals.ready_adapters < totals.adapters;
    const char *headings[TABLE_COLUMNS_MAX] = {"NAMESPACE", "ADAPTER", "BASE",     "PHASE",    "READY",
                                               "POD",       "STATE",   "REVISION", "LOAD-TIME"};
    headings[9] = with_reason ? "REASON" : NULL;
    struct table table;
    table_init(&table, with_namespace ? headings : headings + 1);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        add_rows(&table, json_array_get(rows, i), with_namespace, with_reason);
    }
    table_render(&table, out);
    append_summary(&totals, out);
    table_release(&table);
    map_release(&totals.pods);
}
