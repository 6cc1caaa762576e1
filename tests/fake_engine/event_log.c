#include "event_log.h"

#include "base/json.h"

#include <string.h>

void event_log_init(struct event_log *log, size_t capacity) {
    *log = (struct event_log){.entries = xcalloc(capacity, sizeof(*log->entries)), .capacity = capacity};
}

void event_log_release(struct event_log *log) {
    free(log->entries);
    *log = (struct event_log){0};
}

void event_log_add(struct event_log *log, const struct event_entry *entry) {
    log->entries[log->next++ % log->capacity] = *entry;
}

void event_log_render(const struct event_log *log, uint64_t from, struct buffer *out) {
    uint64_t oldest = log->next > log->capacity ? log->next - log->capacity : 0;
    uint64_t at = from > oldest ? from : oldest;
    buffer_printf(out, "{\"next\":%llu,\"lost\":%llu,\"events\":[", (unsigned long long)log->next,
                  (unsigned long long)(at > from ? at - from : 0));
    for (const char *comma = ""; at < log->next; at++, comma = ",") {
        const struct event_entry *entry = &log->entries[at % log->capacity];
        buffer_printf(out, "%s{\"began\":%.6f,\"ended\":%.6f,\"address\":\"%s\",\"call\":\"%s\",\"status\":%d,\"name\":", comma,
                      entry->began_s, entry->ended_s, entry->address, call_name(entry->call), entry->status);
        json_append_string(out, entry->name, strlen(entry->name));
        if (entry->path[0] != '\0') {
            buffer_append_text(out, ",\"path\":");
            json_append_string(out, entry->path, strlen(entry->path));
        }
        buffer_append_char(out, '}');
    }
    buffer_append_text(out, "]}");
}
