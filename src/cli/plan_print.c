#include "cli/plan_print.h"

#include "cli/printable.h"
#include "cli/table.h"
#include "kube/client.h"

#include <string.h>

/* ---- for programs ---- */

static json_t *step_json(const struct preview_step *step) {
    json_t *object = json_pack("{s:s}", "action", preview_action_name(step->action));
    if (step->pod != NULL) {
        json_object_set_new(object, "pod", plan_text(step->pod));
    }
    if (step->detail[0] != '\0') {
        json_object_set_new(object, "detail", plan_text(step->detail));
    }
    return object;
}

json_t *plan_print_json(const struct preview *preview, const json_t *notes) {
    const json_t *object = preview->object, *status = json_at(object, "status");
    json_t *steps = json_array();
    for (size_t i = 0; i < preview->step_count; i++) {
        json_array_append_new(steps, step_json(&preview->steps[i]));
    }
    json_t *pods = json_is_array(json_at(status, "instances")) ? json_incref(json_at(status, "instances")) : json_array();
    return json_pack("{s:s, s:s, s:s, s:o, s:{s:s, s:I, s:I, s:o}, s:O, s:O}", "namespace", kube_namespace(object), "name",
                     kube_name(object), "revision", json_string_at(status, "revision", ""), "steps", steps, "result", "phase",
                     json_string_at(status, "phase", ""), "ready", (json_int_t)json_int_at(status, "readyReplicas", 0), "desired",
                     (json_int_t)json_int_at(status, "desiredReplicas", 0), "pods", pods, "blocked", preview->blocked, "notes",
                     notes);
}

/* ---- for people ---- */

static void append_line(struct buffer *out, const char *label, const char *format, ...) DAVIT_PRINTF(3, 4);
static void append_line(struct buffer *out, const char *label, const char *format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    buffer_printf(out, "  %s: ", label);
    printable_append_line(out, text);
    buffer_append_char(out, '\n');
}

static void append_steps(struct buffer *out, const json_t *steps) {
    static const char *const headings[] = {"  STEP", "ACTION", "POD", "WHAT", NULL};
    struct table table;
    table_init(&table, headings);
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i);
        table_addf(&table, "  %zu", i + 1);
        table_add(&table, json_string_at(step, "action", ""));
        table_add(&table, json_string_at(step, "pod", ""));
        table_add(&table, json_string_at(step, "detail", ""));
    }
    table_render(&table, out);
    table_release(&table);
}

void plan_print_text(const json_t *plan, struct buffer *out) {
    const json_t *steps = json_at(plan, "steps"), *blocked = json_at(plan, "blocked"), *notes = json_at(plan, "notes");
    buffer_append_text(out, "ModelAdapter ");
    printable_append_line(out, json_string_at(plan, "namespace", ""));
    buffer_append_char(out, '/');
    printable_append_line(out, json_string_at(plan, "name", ""));
    buffer_append_text(out, json_array_size(steps) > 0 ? "\n" : ": nothing to do\n");
    if (json_array_size(steps) > 0) {
        append_steps(out, steps);
    }
    append_line(out, json_array_size(steps) > 0 ? "then" : "now", "%s, ready on %lld of %lld",
                json_string_at(plan, "result.phase", ""), (long long)json_int_at(plan, "result.ready", 0),
                (long long)json_int_at(plan, "result.desired", 0));
    for (size_t i = 0; i < json_array_size(blocked); i++) {
        const json_t *item = json_array_get(blocked, i);
        const char *pod = json_string_at(item, "pod", ""), *message = json_string_at(item, "message", "");
        append_line(out, "but", "%s%s%s%s%s%.1500s", pod[0] != '\0' ? "pod " : "", pod, pod[0] != '\0' ? ": " : "",
                    json_string_at(item, "reason", ""), message[0] != '\0' ? ": " : "", message);
    }
    for (size_t i = 0; i < json_array_size(notes); i++) {
        append_line(out, "note", "%s", json_string_value(json_array_get(notes, i)));
    }
}
