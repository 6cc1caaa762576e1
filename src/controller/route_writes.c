#include "controller/route_writes.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"

#include <string.h>

#define RETRY_FIRST_MS 200
#define RETRY_LAST_MS 300000
#define PAUSE_FIRST_MS 1000
#define PAUSE_LAST_MS 60000

/* A key that is written, or has failed. */
struct record {
    struct route_writes *writes;
    char *key;
    struct kube_call *call;
    const struct kube_resource *resource;
    enum kube_verb verb;
    int failures; /* in a row */
    int64_t retry_at_ms;
    char *told;    /* the last failure that was news; NULL = none */
    char *deleted; /* uid of what was deleted and may still be in the cache; NULL = nothing */
};

struct route_writes {
    struct route_writes_setup setup;
    struct map records;
    int running;
    int pauses; /* in a row */
    int64_t paused_until_ms;
};

static int64_t doubled(int64_t first_ms, int times, int64_t last_ms) {
    int64_t delay_ms = first_ms << (times < 12 ? times : 12);
    return delay_ms < last_ms ? delay_ms : last_ms;
}

/* ---- records ---- */

static struct record *record_of(struct route_writes *writes, const char *key) {
    struct record *record = map_get(&writes->records, key);
    if (record == NULL) {
        record = xcalloc(1, sizeof(*record));
        *record = (struct record){.writes = writes, .key = xstrdup(key)};
        map_set(&writes->records, key, record);
    }
    return record;
}

static void free_record(struct record *record) {
    map_remove(&record->writes->records, record->key);
    if (record->call != NULL) {
        kube_call_cancel(record->call);
    }
    free(record->told);
    free(record->deleted);
    free(record->key);
    free(record);
}

void route_writes_forget(struct route_writes *writes, const char *key) {
    struct record *record = map_get(&writes->records, key);
    if (record != NULL && record->call == NULL) {
        free_record(record);
    }
}

void route_writes_forget_all(struct route_writes *writes) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&writes->records, &at)) != NULL;) {
        route_writes_forget(writes, entry->key);
    }
}

/* ---- failures ---- */

/* Somebody was faster, or the API refuses this one object: the others go on. */
static bool is_of_one(const struct record *record, const struct error *err) {
    return err->code == ERROR_CONFLICT || err->code == ERROR_EXISTS || err->code == ERROR_INVALID || err->code == ERROR_LIMIT ||
           (err->code == ERROR_NOT_FOUND && record->verb != KUBE_CREATE);
}

/* Nothing that anybody could do about it: it passes. */
static bool is_passing(const struct record *record, const struct error *err) {
    return err->code == ERROR_CONFLICT || err->code == ERROR_EXISTS || err->code == ERROR_UNAVAILABLE ||
           err->code == ERROR_TIMEOUT || (err->code == ERROR_NOT_FOUND && record->verb != KUBE_CREATE);
}

static void back_off(struct record *record, const struct error *err) {
    struct route_writes *writes = record->writes;
    int64_t now_ms = clock_now_ms();
    if (is_of_one(record, err)) {
        record->retry_at_ms = now_ms + doubled(RETRY_FIRST_MS, record->failures++, RETRY_LAST_MS);
    } else if (now_ms >= writes->paused_until_ms) { /* else it is of the same moment */
        writes->paused_until_ms = now_ms + doubled(PAUSE_FIRST_MS, writes->pauses++, PAUSE_LAST_MS);
        log_warn("routes wait %lld ms: %s", (long long)(writes->paused_until_ms - now_ms), err->message);
    }
}

static bool note_news(struct record *record, const struct error *err) {
    if (is_passing(record, err) || (record->told != NULL && strcmp(record->told, err->message) == 0)) {
        return false;
    }
    free(record->told);
    record->told = xstrdup(err->message);
    return true;
}

/* ---- writes ---- */

static void on_done(void *arg, json_t *object, const struct error *err) {
    struct record *record = arg;
    struct route_writes *writes = record->writes;
    cleanup_free char *key = xstrdup(record->key);
    struct route_written written = {.key = key, .resource = record->resource, .err = err};
    record->call = NULL;
    writes->running--;
    if (err != NULL) {
        free(take_pointer(record->deleted));
        written.is_news = note_news(record, err);
        written.may_be_gone = err->code == ERROR_NOT_FOUND && record->verb == KUBE_CREATE;
        back_off(record, err);
    } else {
        writes->pauses = 0;
        if (record->verb != KUBE_DELETE) {
            written.object = object;
            free_record(record);
        }
    }
    writes->setup.on_written(writes->setup.arg, &written);
}

void route_writes_start(struct route_writes *writes, const struct route_write *write) {
    struct record *record = record_of(writes, write->key);
    const char *labels[] = {write->resource == &kube_http_routes ? "route" : "grant", NULL};
    bool is_delete = write->body == NULL;
    cleanup_json json_t *delete_options = is_delete ? json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "DeleteOptions",
                                                                "preconditions", "uid", kube_uid(write->found))
                                                    : NULL;
    free(record->deleted);
    record->deleted = is_delete ? xstrdup(kube_uid(write->found)) : NULL;
    record->verb = is_delete ? KUBE_DELETE : write->found == NULL ? KUBE_CREATE : KUBE_PATCH_MERGE;
    record->resource = write->resource;
    struct kube_request request = {.verb = record->verb,
                                   .resource = write->resource,
                                   .namespace = write->namespace,
                                   .name = write->found != NULL ? kube_name(write->found) : NULL,
                                   .body = is_delete ? delete_options : write->body,
                                   .on_done = on_done,
                                   .arg = record};
    writes->running++;
    metric_add(writes->setup.count, labels, 1);
    record->call = kube_start(writes->setup.kube, &request);
}

/* ---- what is known of a key ---- */

int route_writes_running(const struct route_writes *writes) {
    return writes->running;
}

bool route_writes_is_running(const struct route_writes *writes, const char *key) {
    const struct record *record = map_get(&writes->records, key);
    return record != NULL && record->call != NULL;
}

int64_t route_writes_due_ms(const struct route_writes *writes, const char *key) {
    const struct record *record = map_get(&writes->records, key);
    return record != NULL && record->retry_at_ms > writes->paused_until_ms ? record->retry_at_ms : writes->paused_until_ms;
}

bool route_writes_has_deleted(const struct route_writes *writes, const char *key, const json_t *found) {
    const struct record *record = map_get(&writes->records, key);
    return record != NULL && record->deleted != NULL && found != NULL && strcmp(record->deleted, kube_uid(found)) == 0;
}

/* ---- life ---- */

struct route_writes *route_writes_new(const struct route_writes_setup *setup) {
    struct route_writes *writes = xcalloc(1, sizeof(*writes));
    *writes = (struct route_writes){.setup = *setup, .records = MAP_INIT};
    return writes;
}

void route_writes_free(struct route_writes *writes) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&writes->records, &at)) != NULL;) {
        free_record(entry->value);
    }
    map_release(&writes->records);
    free(writes);
}
