#include "cli/plan_gather.h"

#include "cli/plan_engines.h"
#include "controller/secrets.h"

#include <signal.h>
#include <string.h>

#define CALLS_MAX 8

enum phase { PHASE_OBJECTS, PHASE_SECRETS, PHASE_ENGINES };

/* ---- lists ---- */

struct plan_room *plan_gather_room(const struct plan_gather *gather, const char *namespace) {
    for (size_t i = 0; i < gather->room_count; i++) {
        if (strcmp(gather->rooms[i].namespace, namespace) == 0) {
            return &gather->rooms[i];
        }
    }
    return NULL;
}

json_t *plan_gather_find(const struct api_list *list, const char *name, size_t *ret_index) {
    for (size_t i = 0; i < json_array_size(list->items); i++) {
        json_t *object = json_array_get(list->items, i);
        if (strcmp(kube_name(object), name) == 0) {
            if (ret_index != NULL) {
                *ret_index = i;
            }
            return object;
        }
    }
    return NULL;
}

static void on_list_end(void *arg) {
    plan_gather_end_one(arg);
}

static void start_list(struct plan_gather *gather, struct api_list *list, const struct kube_resource *resource,
                       const char *namespace) {
    *list = (struct api_list){
        .client = gather->client, .resource = resource, .namespace = namespace, .on_end = on_list_end, .arg = gather};
    gather->open++;
    api_list_start(list);
}

static void on_namespace(void *arg, json_t *object, const struct error *err) {
    struct plan_room *room = arg;
    (void)object;
    room->is_missing = err != NULL && err->code == ERROR_NOT_FOUND; /* without leave to look, the lists have to do */
    plan_gather_end_one(room->gather);
}

static void start_room(struct plan_gather *gather, struct plan_room *room) {
    struct kube_request request = {
        .verb = KUBE_GET, .resource = &kube_namespaces, .name = room->namespace, .on_done = on_namespace, .arg = room};
    gather->open++;
    (void)kube_start(gather->client, &request);
    start_list(gather, &room->adapters, &kube_model_adapters, room->namespace);
    start_list(gather, &room->pods, &kube_pods, room->namespace);
    start_list(gather, &room->services, &kube_services, room->namespace);
    start_list(gather, &room->slices, &kube_endpoint_slices, room->namespace);
}

static void make_rooms(struct plan_gather *gather) {
    size_t count = json_array_size(gather->files);
    gather->rooms = xcalloc(count + 1, sizeof(*gather->rooms));
    for (size_t i = 0; i < count; i++) {
        const char *namespace = kube_namespace(json_array_get(gather->files, i));
        if (plan_gather_room(gather, namespace) == NULL) {
            gather->rooms[gather->room_count++] = (struct plan_room){.gather = gather, .namespace = xstrdup(namespace)};
        }
    }
}

static void make_wanted(struct plan_gather *gather) {
    for (size_t i = 0; i < json_array_size(gather->files); i++) {
        const json_t *file = json_array_get(gather->files, i);
        const struct plan_room *room = plan_gather_room(gather, kube_namespace(file));
        const json_t *existing = plan_gather_find(&room->adapters, kube_name(file), NULL);
        json_array_append_new(gather->wanted, preview_object(file, existing));
    }
}

/* ---- one after the other ---- */

static void begin_phase(struct plan_gather *gather) {
    if (gather->phase == PHASE_OBJECTS) {
        start_list(gather, &gather->nodes, &kube_nodes, NULL);
        for (size_t i = 0; i < gather->room_count; i++) {
            start_room(gather, &gather->rooms[i]);
        }
    } else if (gather->phase == PHASE_SECRETS) {
        make_wanted(gather);
        plan_engines_choose(gather);
        if (!gather->options->is_offline) {
            plan_engines_read_keys(gather);
        }
    } else if (gather->phase == PHASE_ENGINES && !gather->options->is_offline) {
        plan_engines_ask(gather);
    }
}

void plan_gather_end_one(struct plan_gather *gather) {
    gather->open--;
    while (gather->open == 0 && gather->phase < PHASE_ENGINES) {
        gather->phase++;
        begin_phase(gather);
    }
    if (gather->open == 0) {
        loop_stop(gather->loop);
    }
}

static void on_interrupt(void *arg, int number) {
    (void)number;
    struct plan_gather *gather = arg;
    gather->was_interrupted = true;
    loop_stop(gather->loop);
}

/* Everything but nodes must have been readable. */
static int check(const struct plan_gather *gather, struct error *err) {
    if (gather->was_interrupted) {
        return error_set(err, ERROR_TIMEOUT, "interrupted");
    }
    for (size_t r = 0; r < gather->room_count; r++) {
        const struct plan_room *room = &gather->rooms[r];
        const struct api_list *lists[] = {&room->adapters, &room->pods, &room->services, &room->slices};
        for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
            if (lists[i]->has_failed) {
                *err = lists[i]->err;
                return -1;
            }
        }
        if (room->is_missing) {
            return error_set(err, ERROR_NOT_FOUND, "there is no namespace \"%s\"", room->namespace);
        }
    }
    return 0;
}

int plan_gather_run(struct plan_gather *gather, const struct plan_gather_options *options, const json_t *files, struct error *err) {
    static const int signals[] = {SIGINT, SIGTERM, 0};
    *gather = (struct plan_gather){.options = options, .files = files, .wanted = json_array(), .loop = loop_new()};
    gather->transfers = transfers_new(gather->loop);
    gather->client = kube_client_new(gather->loop, gather->transfers, options->config, "davit-plan", CALLS_MAX);
    gather->secrets = secrets_new(gather->client);
    loop_on_signals(gather->loop, signals, on_interrupt, gather);
    make_rooms(gather);
    begin_phase(gather);
    loop_run(gather->loop);
    plan_engines_note(gather);
    return check(gather, err);
}

void plan_gather_release(struct plan_gather *gather) {
    if (gather->loop == NULL) {
        return;
    }
    for (size_t r = 0; r < gather->room_count; r++) {
        struct plan_room *room = &gather->rooms[r];
        for (size_t i = 0; i < room->pod_count; i++) {
            dialect_models_release(&room->engines[i].models);
            free(room->engines[i].failure);
        }
        json_decref(room->adapters.items);
        json_decref(room->pods.items);
        json_decref(room->services.items);
        json_decref(room->slices.items);
        free(room->views);
        free(room->engines);
        free(room->namespace);
    }
    json_decref(gather->nodes.items);
    json_decref(gather->wanted);
    free(gather->rooms);
    secrets_free(gather->secrets);
    kube_client_free(gather->client);
    transfers_free(gather->transfers);
    loop_free(gather->loop);
}
