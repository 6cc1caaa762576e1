#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t read_ns(clockid_t clock) {
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clock_now_ns(void) {
    return read_ns(CLOCK_MONOTONIC);
}

int64_t clock_now_ms(void) {
    return clock_now_ns() / 1000000;
}

int64_t clock_boot_ms(void) {
    return read_ns(CLOCK_BOOTTIME) / 1000000;
}

int64_t clock_wall_ms(void) {
    return read_ns(CLOCK_REALTIME) / 1000000;
}

static void format_time(int64_t wall_ms, char out[CLOCK_RFC3339_BYTES], const char *fraction) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    (void)gmtime_r(&seconds, &parts);
    size_t len = strftime(out, CLOCK_RFC3339_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(out + len, CLOCK_RFC3339_BYTES - len, "%sZ", fraction);
}

void clock_format_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_BYTES]) {
    format_time(wall_ms, out, "");
}

void clock_format_rfc3339_ms(int64_t wall_ms, char out[CLOCK_RFC3339_BYTES]) {
    char fraction[8];
    (void)snprintf(fraction, sizeof(fraction), ".%03u", (unsigned)(wall_ms % 1000) % 1000);
    format_time(wall_ms, out, fraction);
}

/* Seconds east of UTC from "Z", "+hh:mm" or "-hh:mm"; -1 when it is none of them. */
static int parse_offset(const char *text, int64_t *ret_seconds) {
    int hours = 0;
    int minutes = 0;
    int used = 0;
    char sign[2] = "";
    if (strcmp(text, "Z") == 0 || strcmp(text, "z") == 0) {
        *ret_seconds = 0;
        return 0;
    }
    if (sscanf(text, "%1[+-]%2d:%2d%n", sign, &hours, &minutes, &used) != 3 || text[used] != '\0') { /* NOLINT(cert-err34-c) */
        return -1;
    }
    *ret_seconds = (sign[0] == '-' ? -1 : 1) * ((int64_t)hours * 3600 + (int64_t)minutes * 60);
    return 0;
}

int clock_parse_rfc3339(const char *text, int64_t *ret_wall_ms) {
    struct tm parts = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
    if (rest == NULL) {
        return -1;
    }
    int64_t milliseconds = 0;
    if (*rest == '.') {
        int64_t scale = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++) {
            milliseconds += (*rest - '0') * scale;
            scale /= 10;
        }
    }
    int64_t offset = 0;
    if (parse_offset(rest, &offset) < 0) {
        return -1;
    }
    *ret_wall_ms = ((int64_t)timegm(&parts) - offset) * 1000 + milliseconds;
    return 0;
}
