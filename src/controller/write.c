/* Writes to the API: at most one of each kind under way per adapter; the answer goes into the cache, so that the next plan does not
 * see the past. */
#include "adapter/names.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "controller/world.h"

#include <string.h>

#define RETRY_FIRST_MS 200
#define RETRY_LAST_MS 30000
#define WRITES_PER_CALL 2 /* under way for each call that may run at once: the next is ready when one ends */

struct write {
    struct controller *controller;
    struct adapter *adapter;
    enum plan_write kind;
    bool is_create;
    bool releases;
    int64_t generation;     /* of the adapter, when it was worded */
    struct kube_call *call; /* of several slices each has its own */
    uint64_t status;        /* digest of the patch, of a status */
    struct write *next;
};

static const char *name_of(enum plan_write kind) {
    return kind == WRITE_FINALIZER ? "finalizer" : kind == WRITE_SERVICE ? "service" : kind == WRITE_SLICE ? "slice" : "status";
}

static struct watch_cache *cache_of(const struct write *write) {
    switch (write->kind) {
    case WRITE_SERVICE:
        return write->controller->services_cache;
    case WRITE_SLICE:
        return write->controller->slices_cache;
    default:
        return write->controller->adapters_cache;
    }
}

static void unlink_write(struct write *write) {
    struct write **at = &write->adapter->writes;
    while (*at != write) {
        at = &(*at)->next;
    }
    *at = write->next;
    write->controller->writes--;
    write->adapter->writes_running = 0;
    for (const struct write *left = write->adapter->writes; left != NULL; left = left->next) {
        write->adapter->writes_running |= (unsigned)left->kind;
    }
}

/* ---- whose turn it is ---- */

static bool has_room(const struct controller *controller) {
    return controller->writes + controller->called < WRITES_PER_CALL * controller->options->calls_max;
}

bool write_take_turn(struct controller *controller, struct adapter *adapter) {
    if (adapter->is_called || (TAILQ_EMPTY(&controller->unwritten) && has_room(controller))) {
        write_leave_queue(controller, adapter);
        return true;
    }
    if (!adapter->is_unwritten) {
        adapter->is_unwritten = true;
        TAILQ_INSERT_TAIL(&controller->unwritten, adapter, in_unwritten);
    }
    return false;
}

void write_leave_queue(struct controller *controller, struct adapter *adapter) {
    if (adapter->is_unwritten) {
        TAILQ_REMOVE(&controller->unwritten, adapter, in_unwritten);
    }
    controller->called -= adapter->is_called;
    adapter->is_unwritten = false;
    adapter->is_called = false;
}

void write_pass_on(struct controller *controller) {
    struct adapter *first = NULL;
    while ((first = TAILQ_FIRST(&controller->unwritten)) != NULL && has_room(controller)) {
        write_leave_queue(controller, first);
        first->is_called = true;
        controller->called++;
        controller_wake(controller, first->key, 0);
    }
}

/* ---- one write ---- */

static uint64_t digest_of_text(const char *text) {
    struct hash hash = hash_bytes(text, strlen(text));
    uint64_t digest = 0;
    memcpy(&digest, hash.bytes, sizeof(digest));
    return digest | 1; /* never 0 */
}

static uint64_t digest_of(const json_t *status) {
    cleanup_free char *text = json_text(status);
    return digest_of_text(text);
}

/* The patch as it would change the object of this version. A CRD that lacks members of ours prunes them, and then the same patch
 * would be due for ever: it is not sent again to an object that it left as it is. */
static uint64_t digest_on(uint64_t status, const json_t *object) {
    cleanup_free char *both = xasprintf("%s %llx", kube_resource_version(object), (unsigned long long)status);
    return digest_of_text(both);
}

/* Somebody was faster, or the API is away: nothing that the object's reader could do about it. */
static bool is_passing(const struct error *err) {
    return err->code == ERROR_CONFLICT || err->code == ERROR_EXISTS || err->code == ERROR_NOT_FOUND ||
           err->code == ERROR_UNAVAILABLE || err->code == ERROR_TIMEOUT;
}

static void note_failure(struct write *write, const struct error *err) {
    struct adapter *adapter = write->adapter;
    int doublings = adapter->write_failures < 8 ? adapter->write_failures : 8;
    int64_t delay_ms = (int64_t)RETRY_FIRST_MS << doublings;
    adapter->write_failures++;
    adapter->write_after_ms = clock_now_ms() + (delay_ms < RETRY_LAST_MS ? delay_ms : RETRY_LAST_MS);
    if (!is_passing(err)) {
        log_warn("adapter %s: %s", adapter->key, err->message);
    }
    if (!is_passing(err) && (write->kind == WRITE_SERVICE || write->kind == WRITE_SLICE)) {
        free(adapter->write_failure);
        adapter->write_failure = xstrdup(err->message);
    }
}

/* The watch was faster, or it is of an object that is gone. */
static bool is_known(void *arg, const struct kube_glance *answer) {
    const struct write *write = arg;
    return write->releases || watch_cache_knows(cache_of(write), answer);
}

static void on_done(void *arg, json_t *object, const struct error *err) {
    struct write *write = arg;
    struct adapter *adapter = write->adapter;
    unlink_write(write);
    if (write->kind == WRITE_SLICE) {
        adapter->slice_written_ms = clock_now_ms();
    }
    /* An API that takes no status must not keep adapters from being served; one that is away for a moment is waited for. */
    if (write->kind == WRITE_STATUS && (err == NULL || !is_passing(err) || err->code == ERROR_NOT_FOUND)) {
        adapter->told_generation = write->generation;
    }
    if (err != NULL) {
        note_failure(write, err);
    } else {
        adapter->write_failures = 0;
        if (write->kind == WRITE_SERVICE || write->kind == WRITE_SLICE) {
            free(take_pointer(adapter->write_failure));
        }
        /* The answer to the last finalizer's removal is an object that does not exist any more. */
        adapter->is_released |= write->releases;
        if (!write->releases) {
            watch_cache_note_write(cache_of(write), object);
        }
        if (write->kind == WRITE_STATUS) {
            adapter->status_digest = digest_on(write->status, object);
        }
        if (write->kind == WRITE_SERVICE || write->kind == WRITE_SLICE) {
            (void)world_note_resource(write->controller, object, write->kind == WRITE_SLICE);
        }
    }
    controller_wake(write->controller, adapter->key, 0);
    write_pass_on(write->controller);
    free(write);
}

static void start_write(struct controller *controller, struct adapter *adapter, enum plan_write kind, const char *name,
                        const json_t *body, bool is_create, bool releases) {
    static const struct {
        enum plan_write kind;
        const struct kube_resource *resource;
        const char *subresource;
    } targets[] = {{WRITE_FINALIZER, &kube_model_adapters, NULL},
                   {WRITE_SERVICE, &kube_services, NULL},
                   {WRITE_SLICE, &kube_endpoint_slices, NULL},
                   {WRITE_STATUS, &kube_model_adapters, "status"}};
    size_t at = 0;
    while (targets[at].kind != kind) {
        at++;
    }
    cleanup_free char *text = json_text(body);
    struct write *write = xcalloc(1, sizeof(*write));
    *write = (struct write){.controller = controller,
                            .adapter = adapter,
                            .kind = kind,
                            .is_create = is_create,
                            .releases = releases,
                            .generation = adapter->spec.generation,
                            .status = kind == WRITE_STATUS ? digest_of_text(text) : 0,
                            .next = adapter->writes};
    adapter->writes = write;
    adapter->writes_running |= (unsigned)kind;
    controller->writes++;
    const char *labels[] = {name_of(kind), NULL};
    metric_add(controller->count.writes, labels, 1);
    struct kube_request request = {.verb = is_create ? KUBE_CREATE : KUBE_PATCH_MERGE,
                                   .resource = targets[at].resource,
                                   .namespace = adapter->spec.namespace,
                                   .name = is_create ? NULL : name,
                                   .subresource = targets[at].subresource,
                                   .body = body,
                                   .body_text = text,
                                   .is_known = is_known,
                                   .on_done = on_done,
                                   .arg = write};
    write->call = kube_start(controller->kube, &request);
}

void write_plan(struct controller *controller, struct adapter *adapter, const struct plan *plan) {
    const char *name = adapter->spec.name;
    if (plan->service != NULL) {
        start_write(controller, adapter, WRITE_SERVICE, name, plan->service, world_service(controller, adapter) == NULL, false);
    }
    for (size_t i = 0; i < plan->slice_count; i++) {
        const struct plan_slice *slice = &plan->slices[i];
        adapter->slice_written_ms = clock_now_ms();
        start_write(controller, adapter, WRITE_SLICE, slice->name, slice->body, slice->is_create, false);
    }
    bool is_told = plan->status != NULL && adapter->status_digest != 0 &&
                   digest_on(digest_of(plan->status), adapter->object) == adapter->status_digest;
    if (plan->status != NULL && !is_told) {
        adapter->status_written_ms = clock_now_ms();
        start_write(controller, adapter, WRITE_STATUS, name, plan->status, false, false);
    } else if ((plan->due & WRITE_STATUS) != 0 && adapter->told_generation != adapter->spec.generation) {
        adapter->told_generation = adapter->spec.generation; /* it says so already */
        controller_wake(controller, adapter->key, 0);
    }
    if (plan->finalizers != NULL) {
        start_write(controller, adapter, WRITE_FINALIZER, name, plan->finalizers, false, plan->releases);
    }
    for (size_t i = 0; i < plan->event_count && (!is_told || plan->releases); i++) {
        event_record(controller->events, adapter->object, plan->events[i].type, plan->events[i].reason, "%s",
                     plan->events[i].message);
    }
}

void write_cancel(struct controller *controller, struct adapter *adapter) {
    while (adapter->writes != NULL) {
        struct write *write = adapter->writes;
        adapter->writes = write->next;
        kube_call_cancel(write->call);
        controller->writes--;
        free(write);
    }
}
