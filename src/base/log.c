#include "base/log.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static enum log_level current_level = LOG_LEVEL_INFO;
static const char *current_role = "davit";

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char *const level_labels[] = {"DEBUG", "INFO", "WARN", "ERROR"};

int log_init(const char *role, const char *level_name) {
    current_role = role;
    if (level_name == NULL) {
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(level_name, level_names[i]) == 0) {
            current_level = (enum log_level)i;
            return 0;
        }
    }
    return -1;
}

/* Copies the message with control characters made visible; returns the new length. */
static size_t escape_into(char *out, size_t room, const char *text) {
    size_t len = 0;
    for (; *text != '\0' && len + 5 < room; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte >= 0x20 && byte != 0x7f) {
            out[len++] = (char)byte;
        } else {
            len += (size_t)snprintf(out + len, room - len, "\\x%02x", byte);
        }
    }
    return len;
}

void log_write(enum log_level level, const char *format, ...) {
    if (level < current_level) {
        return;
    }
    char message[2048];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);

    char line[4096];
    char when[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339_ms(clock_wall_ms(), when);
    size_t len = (size_t)snprintf(line, sizeof(line), "%s %s %s ", when, level_labels[level], current_role);
    len += escape_into(line + len, sizeof(line) - len - 1, message);
    line[len++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written;
}
