#include "kube/events.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/map.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WAITING_MAX 1000
#define RECORDS_MAX 1000
#define SAME_EVENT_MS (10 * 60 * 1000)
#define MESSAGE_BYTES 1024

/* One Event object: made at first, patched when the same thing happens again. */
struct record {
    char *key;
    char *event; /* as it is made, in JSON: a document would be four times as large; NULL once it was made */
    char *namespace, *name;
    int count;
    char last_text[CLOCK_RFC3339_BYTES]; /* lastTimestamp */
    int64_t last_ms;
    bool is_created;
    bool is_waiting;
    struct record *next; /* while it waits */
};

struct event_recorder {
    struct kube_client *client;
    char *component;
    struct map records;   /* hash of involved object, type, reason and message -> struct record; in order of first sight */
    struct record *first; /* waiting to be written */
    struct record *last;
    int waiting;
    struct record *writing;
    struct kube_call *call;
};

struct event_recorder *event_recorder_new(struct kube_client *client, const char *component) {
    struct event_recorder *recorder = xcalloc(1, sizeof(*recorder));
    recorder->client = client;
    recorder->component = xstrdup(component);
    return recorder;
}

static void release_event(struct record *record) {
    free(take_pointer(record->event));
    free(take_pointer(record->namespace));
    free(take_pointer(record->name));
}

static void record_free(struct record *record) {
    release_event(record);
    free(record->key);
    free(record);
}

void event_recorder_free(struct event_recorder *recorder) {
    if (recorder == NULL) {
        return;
    }
    kube_call_cancel(recorder->call);
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&recorder->records, &at)) != NULL;) {
        record_free(entry->value);
    }
    map_release(&recorder->records);
    free(recorder->component);
    free(recorder);
}

/* ---- writing ---- */

static struct record *pop_waiting(struct event_recorder *recorder) {
    struct record *record = recorder->first;
    recorder->first = record->next;
    if (recorder->first == NULL) {
        recorder->last = NULL;
    }
    record->next = NULL;
    record->is_waiting = false;
    recorder->waiting--;
    return record;
}

static void push_waiting(struct event_recorder *recorder, struct record *record) {
    if (record->is_waiting) {
        return; /* the newest count goes out with it */
    }
    if (recorder->waiting >= WAITING_MAX) {
        struct record *dropped = pop_waiting(recorder);
        log_debug("event dropped, %d wait already: %s/%s", WAITING_MAX, dropped->namespace, dropped->name);
    }
    if (recorder->last != NULL) {
        recorder->last->next = record;
    } else {
        recorder->first = record;
    }
    recorder->last = record;
    record->is_waiting = true;
    recorder->waiting++;
}

static void write_next(struct event_recorder *recorder);

/* Nothing of what is answered is of use. */
static bool is_known(void *arg, const struct kube_glance *answer) {
    (void)arg, (void)answer;
    return true;
}

static void on_written(void *arg, json_t *object, const struct error *err) {
    struct event_recorder *recorder = arg;
    struct record *record = recorder->writing;
    (void)object;
    recorder->call = NULL;
    recorder->writing = NULL;
    if (err == NULL) {
        record->is_created = true;
        free(take_pointer(record->event)); /* from now on it is patched */
    } else {
        log_debug("event: %s", err->message);
        if (err->code == ERROR_NOT_FOUND) {
            record->is_created = false; /* it expired; the next occurrence makes it again */
        }
    }
    write_next(recorder);
}

/* Of one that expired while it waited nothing is kept to make it again: the next occurrence does. */
static struct record *next_to_write(struct event_recorder *recorder) {
    while (recorder->first != NULL) {
        struct record *record = pop_waiting(recorder);
        if (record->is_created || record->event != NULL) {
            return record;
        }
    }
    return NULL;
}

static void write_next(struct event_recorder *recorder) {
    struct record *record = recorder->call == NULL ? next_to_write(recorder) : NULL;
    if (record == NULL) {
        return;
    }
    cleanup_json json_t *event = record->event != NULL ? json_loads(record->event, 0, NULL) : NULL;
    cleanup_json json_t *news = json_pack("{s:i, s:s}", "count", record->count, "lastTimestamp", record->last_text);
    if (event != NULL) {
        json_object_update(event, news);
    }
    recorder->writing = record;
    recorder->call = kube_start(recorder->client, &(struct kube_request){
                                                      .verb = record->is_created ? KUBE_PATCH_MERGE : KUBE_CREATE,
                                                      .resource = &kube_events,
                                                      .namespace = record->namespace,
                                                      .name = record->is_created ? record->name : NULL,
                                                      .body = record->is_created ? news : event,
                                                      .is_known = is_known,
                                                      .on_done = on_written,
                                                      .arg = recorder,
                                                  });
}

/* ---- recording ---- */

static void make_event(const struct event_recorder *recorder, const json_t *about, const char *type, const char *reason,
                       const char *message, const char *now_text, struct record *record) {
    const char *namespace = kube_namespace(about)[0] != '\0' ? kube_namespace(about) : "default";
    char *name = xasprintf("%.200s.%016llx", kube_name(about), (unsigned long long)clock_wall_ms() << 20 | arc4random() >> 12);
    json_t *involved = json_pack("{s:s, s:s, s:s, s:s, s:s}", "apiVersion", json_string_at(about, "apiVersion", ""), "kind",
                                 json_string_at(about, "kind", ""), "name", kube_name(about), "uid", kube_uid(about),
                                 "resourceVersion", kube_resource_version(about));
    if (kube_namespace(about)[0] != '\0') {
        json_object_set_new(involved, "namespace", json_string(kube_namespace(about)));
    }
    cleanup_json json_t *event =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:o, s:s, s:s, s:s, s:{s:s}, s:s, s:s, s:s}", "apiVersion", "v1", "kind", "Event",
                  "metadata", "name", name, "namespace", namespace, "involvedObject", involved, "reason", reason, "type", type,
                  "message", message, "source", "component", recorder->component, "reportingComponent", recorder->component,
                  "reportingInstance", "", "firstTimestamp", now_text);
    release_event(record);
    record->namespace = xstrdup(namespace);
    record->name = name;
    record->event = json_text(event);
    record->is_created = false;
    record->count = 0;
}

/* Forgets the oldest record that is not being written, so that memory stays bounded. */
static void forget_oldest(struct event_recorder *recorder) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&recorder->records, &at)) != NULL;) {
        struct record *record = entry->value;
        if (!record->is_waiting && record != recorder->writing) {
            map_remove(&recorder->records, record->key);
            record_free(record);
            return;
        }
    }
}

/* Cuts at `limit` without cutting a UTF-8 sequence in two. */
static void cut_text(char *text, size_t limit) {
    if (strlen(text) < limit) {
        return;
    }
    size_t end = limit - 1;
    while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80) {
        end--;
    }
    text[end] = '\0';
}

static void hash_event(const json_t *about, const char *type, const char *reason, const char *message, char *ret_hex) {
    cleanup_free char *text =
        xasprintf("%s %s/%s %s %s %s", kube_uid(about), kube_namespace(about), kube_name(about), type, reason, message);
    struct hash hash = hash_bytes(text, strlen(text));
    hash_hex(&hash, ret_hex);
}

void event_record(struct event_recorder *recorder, const json_t *about, const char *type, const char *reason, const char *format,
                  ...) {
    char message[MESSAGE_BYTES + 8];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    cut_text(message, MESSAGE_BYTES);
    char now_text[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(clock_wall_ms(), now_text);
    int64_t now_ms = clock_now_ms();
    char key[HASH_HEX_BYTES];
    hash_event(about, type, reason, message, key);
    struct record *record = map_get(&recorder->records, key);
    bool is_known = record != NULL && (record->is_created || record->event != NULL);
    bool is_again = is_known && now_ms - record->last_ms < SAME_EVENT_MS;
    if (record == NULL) {
        if (recorder->records.count >= RECORDS_MAX) {
            forget_oldest(recorder);
        }
        record = xcalloc(1, sizeof(*record));
        record->key = xstrdup(key);
        map_set(&recorder->records, key, record);
    }
    if (!is_again) {
        make_event(recorder, about, type, reason, message, now_text, record);
    }
    record->count++;
    memcpy(record->last_text, now_text, sizeof(now_text));
    record->last_ms = now_ms;
    push_waiting(recorder, record);
    write_next(recorder);
}
