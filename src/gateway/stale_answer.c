#include "gateway/stale_answer.h"

#include "base/buffer.h"
#include "dialect/dialect.h"
#include "gateway/sse_gate.h"

#include <string.h>

#define STATUS_OF_SGLANG 400

/* vLLM and Davit's engine; SGLang (not registered, never loaded). */
static const struct {
    int status;
    const char *phrase;
} answers[] = {
    {404, "does not exist"},
    {STATUS_OF_SGLANG, "requested LoRA adapters are not loaded"},
    {STATUS_OF_SGLANG, "LoRA adapter that has never been loaded"},
};

bool stale_answer_may_be(int status) {
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        if (answers[i].status == status) {
            return true;
        }
    }
    return false;
}

bool stale_answer_is(int status, const char *body, size_t len) {
    char message[512];
    dialect_error_message(body, len, message, sizeof(message));
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        if (answers[i].status == status && strstr(message, answers[i].phrase) != NULL) {
            return true;
        }
    }
    return false;
}

/* The rest of the line when it is one of data, NULL else. */
static const char *data_of(const char *line) {
    return strncmp(line, "data:", 5) == 0 ? line + 5 : NULL;
}

enum stale_event stale_answer_in_events(const char *bytes, size_t len) {
    cleanup_buffer struct buffer events = BUFFER_INIT;
    struct sse_gate gate = {.held = BUFFER_INIT};
    sse_gate_push(&gate, bytes, len, &events);
    sse_gate_release(&gate);
    for (const char *line = buffer_text(&events); *line != '\0'; line += strcspn(line, "\n"), line += *line != '\0') {
        const char *data = data_of(line);
        size_t data_len = data != NULL ? strcspn(data, "\r\n") : 0;
        if (data != NULL) { /* only an error is worth a look: what is generated may quote one */
            cleanup_json json_t *value = json_parse(data, data_len, NULL);
            bool is_error = json_is_object(json_object_get(value, "error")) || json_is_string(json_object_get(value, "error"));
            return is_error && stale_answer_is(STATUS_OF_SGLANG, data, data_len) ? STALE_EVENT_YES : STALE_EVENT_NO;
        }
    }
    return STALE_EVENT_INCOMPLETE;
}
