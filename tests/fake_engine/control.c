#include "control.h"

#include "words.h"

#include <string.h>

static void reply(struct http_request *request, int status, const struct buffer *body) {
    http_reply(request, status, "application/json", body->data, body->len);
}

static void reply_error(struct http_request *request, int status, const char *message) {
    cleanup_buffer struct buffer body = BUFFER_INIT;
    words_plain(&body, message);
    reply(request, status, &body);
}

/* ---- orders ---- */

struct order {
    const json_t *body;
    int (*carry_out)(struct served *served, const json_t *body, struct error *err);
};

static int order_faults(struct served *served, const json_t *body, struct error *err) {
    return served_set(served, json_at(body, "settings"), err);
}

static int order_restart(struct served *served, const json_t *body, struct error *err) {
    (void)body;
    (void)err;
    served_restart(served);
    return 0;
}

static int order_forget(struct served *served, const json_t *body, struct error *err) {
    const json_t *names = json_at(body, "names");
    (void)err;
    if (names == NULL) {
        engine_forget_all(&served->engine);
    }
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name != NULL) {
            (void)engine_forget(&served->engine, name);
        }
    }
    return 0;
}

static int carry_out(struct fakes *fakes, const struct order *order, struct error *err) {
    const json_t *addresses = json_at(order->body, "addresses");
    struct map_entry *entry = NULL;
    if (addresses == NULL) {
        for (size_t at = 0; (entry = map_next(&fakes->by_address, &at)) != NULL;) {
            if (order->carry_out(entry->value, order->body, err) < 0) {
                return -1;
            }
        }
    }
    for (size_t i = 0; i < json_array_size(addresses); i++) {
        const char *address = json_string_value(json_array_get(addresses, i));
        struct served *served = address != NULL ? map_get(&fakes->by_address, address) : NULL;
        if (served == NULL) {
            return error_set(err, ERROR_NOT_FOUND, "no engine at %s", address != NULL ? address : "(not a string)");
        }
        if (order->carry_out(served, order->body, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void take_order(struct fakes *fakes, struct http_request *request, struct order *order) {
    struct error err = {0};
    size_t len = 0;
    const char *text = http_request_body(request, &len);
    cleanup_json json_t *body = json_parse(text, len, &err);
    order->body = body;
    if (body == NULL || carry_out(fakes, order, &err) < 0) {
        reply_error(request, err.code == ERROR_NOT_FOUND ? 404 : 400, err.message);
        return;
    }
    http_reply(request, 200, "application/json", "{}", 2);
}

/* ---- reports ---- */

static void append_calls(struct buffer *out, const char *name, const int64_t counts[CALL_COUNT]) {
    buffer_printf(out, "\"%s\":{", name);
    for (size_t i = 0; i < CALL_COUNT; i++) {
        buffer_printf(out, "%s\"%s\":%lld", i > 0 ? "," : "", call_name((enum call)i), (long long)counts[i]);
    }
    buffer_append_text(out, "},");
}

static void append_counts(struct buffer *out, const struct counts *counts, size_t adapters) {
    buffer_append_char(out, '{');
    append_calls(out, "requests", counts->requests);
    append_calls(out, "refused", counts->refused);
    buffer_printf(out, "\"cut\":%lld,\"loads_running_most\":%lld,\"starts\":%lld,\"adapters\":%zu}", (long long)counts->cut,
                  (long long)counts->loads_running_most, (long long)counts->starts, adapters);
}

static void report_engines(struct fakes *fakes, struct buffer *out) {
    struct map_entry *entry = NULL;
    const char *comma = "";
    buffer_append_text(out, "{\"engines\":{");
    for (size_t at = 0; (entry = map_next(&fakes->by_address, &at)) != NULL; comma = ",") {
        const struct served *served = entry->value;
        buffer_printf(out, "%s\"%s\":", comma, entry->key);
        append_counts(out, &served->counts, served->engine.adapters.count);
    }
    buffer_append_text(out, "}}");
}

static void report_totals(struct fakes *fakes, struct buffer *out) {
    struct map_entry *entry = NULL;
    struct counts sum = {0};
    size_t adapters = 0;
    for (size_t at = 0; (entry = map_next(&fakes->by_address, &at)) != NULL;) {
        const struct served *served = entry->value;
        for (size_t i = 0; i < CALL_COUNT; i++) {
            sum.requests[i] += served->counts.requests[i];
            sum.refused[i] += served->counts.refused[i];
        }
        sum.cut += served->counts.cut;
        sum.starts += served->counts.starts;
        if (served->counts.loads_running_most > sum.loads_running_most) {
            sum.loads_running_most = served->counts.loads_running_most;
        }
        adapters += served->engine.adapters.count;
    }
    append_counts(out, &sum, adapters);
}

static int report_adapters(struct fakes *fakes, const char *query, struct buffer *out) {
    cleanup_free char *address = http_query_get(query, "address");
    const struct served *served = address != NULL ? map_get(&fakes->by_address, address) : NULL;
    struct map_entry *entry = NULL;
    const char *comma = "";
    if (served == NULL) {
        return -1;
    }
    buffer_append_text(out, "{\"adapters\":{");
    for (size_t at = 0; (entry = map_next(&served->engine.adapters, &at)) != NULL; comma = ",") {
        const struct held *held = entry->value;
        buffer_append_text(out, comma);
        json_append_string(out, entry->key, strlen(entry->key));
        buffer_append_char(out, ':');
        json_append_string(out, held->root, strlen(held->root));
    }
    buffer_append_text(out, "}}");
    return 0;
}

static void report(struct fakes *fakes, struct http_request *request) {
    const struct http_head *head = http_request_head(request);
    cleanup_buffer struct buffer out = BUFFER_INIT;
    int result = 0;
    if (strcmp(head->path, "/_fake/engines") == 0) {
        report_engines(fakes, &out);
    } else if (strcmp(head->path, "/_fake/totals") == 0) {
        report_totals(fakes, &out);
    } else if (strcmp(head->path, "/_fake/log") == 0) {
        cleanup_free char *from = http_query_get(head->query, "from");
        event_log_render(&fakes->log, from != NULL ? strtoull(from, NULL, 10) : 0, &out);
    } else {
        result = strcmp(head->path, "/_fake/adapters") == 0 ? report_adapters(fakes, head->query, &out) : -1;
    }
    if (result < 0) {
        reply_error(request, 404, "no such page, or no engine at that address");
    } else {
        reply(request, 200, &out);
    }
}

void control_on_request(void *arg, struct http_request *request) {
    static const struct {
        const char *path;
        int (*carry_out)(struct served *served, const json_t *body, struct error *err);
    } orders[] = {{"/_fake/faults", order_faults}, {"/_fake/forget", order_forget}, {"/_fake/restart", order_restart}};
    const struct http_head *head = http_request_head(request);
    if (strcmp(head->method, "POST") != 0) {
        report(arg, request);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        if (strcmp(orders[i].path, head->path) == 0) {
            struct order order = {.carry_out = orders[i].carry_out};
            take_order(arg, request, &order);
            return;
        }
    }
    reply_error(request, 404, "no such order");
}
