/* vllm:lora_requests_info{max_lora="4",running_lora_adapters="a,b",waiting_lora_adapters="c"} 1.795e+09
 *
 * The value is when that was so. vLLM keeps a series for each combination of names that ever was: the newest one counts. */
#include "dialect/dialect.h"

#include <math.h>
#include <string.h>

#define NAMES_BYTES_MAX 65536
#define TIME_MAX 3e9 /* seconds since 1970; what is above is a sum over several processes */

static const char family[] = "vllm:lora_requests_info";
static const char running_family[] = "vllm:num_requests_running";

/* ---- one line ---- */

struct text {
    const char *at, *end;
};

static bool take(struct text *text, char c) {
    bool is_it = text->at < text->end && *text->at == c;
    text->at += is_it;
    return is_it;
}

static void skip_blanks(struct text *text) {
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\t')) {
        text->at++;
    }
}

static bool starts_with(const struct text *text, const char *word) {
    size_t len = strlen(word);
    return (size_t)(text->end - text->at) > len && memcmp(text->at, word, len) == 0 &&
           (text->at[len] == '{' || text->at[len] == ' ');
}

static bool is_label(const char *name, size_t len, const char *wanted) {
    return strlen(wanted) == len && memcmp(name, wanted, len) == 0;
}

/* A quoted value; `out` NULL = it is passed over. */
static bool take_value(struct text *text, struct buffer *out) {
    if (!take(text, '"')) {
        return false;
    }
    while (text->at < text->end && *text->at != '"') {
        text->at += *text->at == '\\';
        if (text->at == text->end || (out != NULL && out->len >= NAMES_BYTES_MAX)) {
            return false;
        }
        if (out != NULL) {
            buffer_append_char(out, *text->at);
        }
        text->at++;
    }
    return take(text, '"');
}

/* The labels with names go to `out` (may be NULL), a comma behind each. False when they are not as they should be. */
static bool take_labels(struct text *text, struct buffer *out) {
    bool has_running = false, has_waiting = false;
    if (!take(text, '{')) {
        return false;
    }
    while (!take(text, '}')) {
        skip_blanks(text);
        const char *name = text->at;
        while (text->at < text->end && *text->at != '=' && *text->at != '}') {
            text->at++;
        }
        size_t len = (size_t)(text->at - name);
        bool is_running = is_label(name, len, "running_lora_adapters"), is_waiting = is_label(name, len, "waiting_lora_adapters");
        struct buffer *names = is_running || is_waiting ? out : NULL;
        if (!take(text, '=') || !take_value(text, names)) {
            return false;
        }
        if (names != NULL) {
            buffer_append_char(names, ',');
        }
        has_running |= is_running;
        has_waiting |= is_waiting;
        (void)take(text, ',');
        skip_blanks(text);
    }
    return has_running && has_waiting;
}

/* A time stamp may stand behind the value. */
static bool take_number(struct text *text, double *ret_number) {
    char digits[40];
    size_t len = 0;
    skip_blanks(text);
    while (text->at < text->end && *text->at != ' ' && *text->at != '\t' && *text->at != '\r' && len + 1 < sizeof(digits)) {
        digits[len++] = *text->at++;
    }
    digits[len] = '\0';
    char *end = NULL;
    *ret_number = strtod(digits, &end);
    return len > 0 && *end == '\0' && isfinite(*ret_number) && *ret_number >= 0 && *ret_number < TIME_MAX;
}

/* ---- the page ---- */

/* The newest series of the family. False when there is none, or one that cannot be read. */
static bool find_newest(const char *page, size_t len, struct text *ret_newest) {
    struct text rest = {page, page + len};
    double newest = -1;
    int engines = 0;
    while (rest.at < rest.end) {
        const char *end = memchr(rest.at, '\n', (size_t)(rest.end - rest.at));
        struct text line = {rest.at, end != NULL ? end : rest.end};
        rest.at = end != NULL ? end + 1 : rest.end;
        engines += starts_with(&line, running_family);
        if (engines > 1) {
            return false;
        }
        if (!starts_with(&line, family)) {
            continue;
        }
        line.at += strlen(family);
        struct text labels = line;
        double number = 0;
        if (end == NULL || !take_labels(&line, NULL) || !take_number(&line, &number)) {
            return false; /* it may be the newest */
        }
        if (number > newest) {
            newest = number;
            *ret_newest = labels;
        } else if (number == newest) {
            return false; /* either may be the later one */
        }
    }
    return newest >= 0;
}

bool dialect_read_gauge(const char *page, size_t len, struct dialect_gauge *ret_gauge) {
    struct text newest;
    struct buffer names = BUFFER_INIT;
    *ret_gauge = (struct dialect_gauge){0};
    if (!find_newest(page, len, &newest)) {
        return false;
    }
    buffer_append_char(&names, ',');
    if (!take_labels(&newest, &names)) {
        buffer_release(&names);
        return false;
    }
    ret_gauge->names = buffer_take(&names);
    return true;
}

bool dialect_gauge_names(const struct dialect_gauge *gauge, const char *adapter) {
    size_t len = strlen(adapter);
    for (const char *at = gauge->names; len > 0 && (at = strstr(at, adapter)) != NULL; at++) {
        if (at[-1] == ',' && at[len] == ',') {
            return true;
        }
    }
    return false;
}

void dialect_gauge_release(struct dialect_gauge *gauge) {
    free(take_pointer(gauge->names));
}
