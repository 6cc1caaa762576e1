/* What happened at the engines, in order: a bounded ring of loads, unloads and generations. */
#ifndef DAVIT_TESTS_FAKE_ENGINE_EVENT_LOG_H
#define DAVIT_TESTS_FAKE_ENGINE_EVENT_LOG_H

#include "base/buffer.h"
#include "settings.h"

struct event_entry {
    double began_s, ended_s; /* CLOCK_MONOTONIC: arrival of the request, and its answer */
    const char *address;     /* borrowed; lives as long as the process */
    enum call call;
    int status; /* 0 = cut without an answer */
    char name[64];
    char path[96]; /* load: what was asked for; cut short */
};

struct event_log {
    struct event_entry *entries;
    size_t capacity;
    uint64_t next; /* number of the next entry; the oldest that is kept is next - capacity */
};

void event_log_init(struct event_log *log, size_t capacity);
void event_log_release(struct event_log *log);
void event_log_add(struct event_log *log, const struct event_entry *entry);
/* {"next": N, "lost": K, "events": [{"began", "ended", "address", "call", "status", "name", "path"}]} of those numbered `from` and
 * later; "path" of loads alone. */
void event_log_render(const struct event_log *log, uint64_t from, struct buffer *out);

#endif
