#include "cli/plan_notes.h"

#include "adapter/artifact_url.h"
#include "controller/pod_facts.h"

#include <string.h>

#define NOTED_PODS_MAX 10

static void add_note(json_t *notes, const char *format, ...) DAVIT_PRINTF(2, 3);
static void add_note(json_t *notes, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    json_array_append_new(notes, plan_text(text));
}

static void note_believed(const struct plan_room *room, const json_t *believed, json_t *notes) {
    size_t count = json_array_size(believed);
    for (size_t i = 0; i < count && i < NOTED_PODS_MAX; i++) {
        const char *name = json_string_value(json_array_get(believed, i));
        size_t at = 0;
        bool is_known = plan_gather_find(&room->pods, name, &at) != NULL;
        const char *failure = is_known ? room->engines[at].failure : NULL;
        add_note(notes, "pod %s could not be asked what it holds, so the adapter's status is believed: %.600s", name,
                 failure != NULL ? failure : "it is not known why");
    }
    if (count > NOTED_PODS_MAX) {
        add_note(notes, "%zu more pods could not be asked", count - NOTED_PODS_MAX);
    }
}

/* The preview takes for granted that what failed before succeeds now. */
static void note_failures(const json_t *existing, const struct preview *preview, json_t *notes) {
    const json_t *loads = json_at(existing, "status.loads");
    size_t noted = 0;
    for (size_t i = 0; i < json_array_size(loads) && noted < NOTED_PODS_MAX; i++) {
        const json_t *row = json_array_get(loads, i);
        const char *pod = json_string_at(row, "pod", "");
        bool is_tried = false;
        for (size_t k = 0; k < preview->step_count && !is_tried; k++) {
            const struct preview_step *step = &preview->steps[k];
            is_tried = (step->action == PREVIEW_LOAD || step->action == PREVIEW_PROVE) && strcmp(step->pod, pod) == 0;
        }
        if (is_tried && strcmp(json_string_at(row, "state", ""), "Failed") == 0) {
            add_note(notes, "on pod %s it failed until now, and may again: %s: %.600s", pod, json_string_at(row, "reason", ""),
                     json_string_at(row, "message", ""));
            noted++;
        }
    }
}

static bool is_davits(const struct dialect_models *models) {
    bool is_davit = false;
    for (size_t i = 0; i < models->count; i++) {
        is_davit |= models->items[i].is_davit;
    }
    return is_davit;
}

/* Whether the controller would refuse to ask the pod's engine, which has no sidecar to fetch for it, for what is at the URL. */
static bool is_unsupported(const struct plan_room *room, const json_t *adapter, const char *name, struct error *err) {
    size_t at = 0;
    const json_t *pod = plan_gather_find(&room->pods, name, &at);
    const struct plan_engine *engine = pod != NULL ? &room->engines[at] : NULL;
    if (engine == NULL || !engine->is_asked || engine->failure != NULL) {
        return false; /* it may be Davit's, which takes every URL */
    }
    struct pod_facts facts;
    cleanup_free char *path = NULL;
    pod_facts_read(pod, &facts);
    return !(room->gather->options->enable_sidecar && facts.has_sidecar) &&
           artifact_engine_path(json_string_at(adapter, "spec.artifactURL", ""), json_string_at(adapter, "spec.revision", ""),
                                is_davits(&engine->models), &path, err) < 0;
}

static void note_unsupported(const struct plan_room *room, const struct preview *preview, json_t *notes) {
    size_t noted = 0;
    for (size_t i = 0; i < preview->step_count && noted < NOTED_PODS_MAX; i++) {
        const struct preview_step *step = &preview->steps[i];
        struct error err = {0};
        if (step->action == PREVIEW_LOAD && is_unsupported(room, preview->object, step->pod, &err)) {
            add_note(notes, "pod %s would not be asked to load it: UnsupportedArtifact: %.600s", step->pod, err.message);
            noted++;
        }
    }
}

json_t *plan_notes(const struct plan_room *room, const json_t *existing, const struct preview *preview, bool is_offline) {
    json_t *notes = json_array();
    note_failures(existing, preview, notes);
    note_unsupported(room, preview, notes);
    if (is_offline && json_array_size(preview->believed) > 0) {
        add_note(notes, "no engine was asked what it holds (--offline): the adapter's status is believed");
    } else {
        note_believed(room, preview->believed, notes);
    }
    if (preview->is_example) {
        add_note(notes, "other pods are as good: the uid that the API gives the new object decides, so these are an example");
    }
    if (preview->is_cut) {
        add_note(notes, "the plan goes on; this is its beginning");
    }
    return notes;
}
