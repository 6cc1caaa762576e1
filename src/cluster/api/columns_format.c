#include "base/buffer.h"
#include "base/clock.h"
#include "cluster/api/columns.h"

#include <string.h>

static void two_units(char out[32], int64_t big, const char *big_unit, int64_t small, const char *small_unit) {
    if (small == 0) {
        (void)snprintf(out, 32, "%lld%s", (long long)big, big_unit);
    } else {
        (void)snprintf(out, 32, "%lld%s%lld%s", (long long)big, big_unit, (long long)small, small_unit);
    }
}

void columns_format_duration(int64_t duration_ms, char out[32]) {
    int64_t seconds = duration_ms / 1000;
    if (seconds < -1) {
        (void)snprintf(out, 32, "<invalid>");
        return;
    }
    seconds = seconds < 0 ? 0 : seconds;
    int64_t minutes = seconds / 60;
    int64_t hours = minutes / 60;
    if (seconds < 120) {
        (void)snprintf(out, 32, "%llds", (long long)seconds);
    } else if (minutes < 10) {
        two_units(out, minutes, "m", seconds % 60, "s");
    } else if (minutes < 180) {
        (void)snprintf(out, 32, "%lldm", (long long)minutes);
    } else if (hours < 8) {
        two_units(out, hours, "h", minutes % 60, "m");
    } else if (hours < 48) {
        (void)snprintf(out, 32, "%lldh", (long long)hours);
    } else if (hours < 24 * 8) {
        two_units(out, hours / 24, "d", hours % 24, "h");
    } else if (hours < 24 * 365 * 2) {
        (void)snprintf(out, 32, "%lldd", (long long)(hours / 24));
    } else if (hours < 24 * 365 * 8) {
        two_units(out, hours / 24 / 365, "y", (hours / 24) % 365, "d");
    } else {
        (void)snprintf(out, 32, "%lldy", (long long)(hours / 24 / 365));
    }
}

json_t *columns_since(const char *time, int64_t now_ms) {
    int64_t then_ms = 0;
    if (time == NULL || clock_parse_rfc3339(time, &then_ms) < 0) {
        return json_string("<unknown>");
    }
    char text[32];
    columns_format_duration(now_ms - then_ms, text);
    return json_string(text);
}

json_t *columns_age(const json_t *object, int64_t now_ms) {
    return columns_since(json_string_at(object, "metadata.creationTimestamp", NULL), now_ms);
}

json_t *columns_labels(const json_t *labels) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)labels, key, value) {
        buffer_printf(&text, "%s%s=%s", text.len > 0 ? "," : "", key, json_is_string(value) ? json_string_value(value) : "");
    }
    return json_string(text.len > 0 ? text.data : "<none>");
}

void cell_text(json_t *cells, const char *text) {
    json_array_append_new(cells, json_string(text));
}

void cell_text_or(json_t *cells, const char *text, const char *when_empty) {
    cell_text(cells, text != NULL && *text != '\0' ? text : when_empty);
}

void cell_int(json_t *cells, int64_t number) {
    json_array_append_new(cells, json_integer(number));
}
