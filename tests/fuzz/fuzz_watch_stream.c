/* libFuzzer target: the stream of a watch. However it is cut, it says the same. */
#include "kube/watch_stream.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything that the stream says, as text; the last line tells how it ended. */
static char *read_in_pieces(const char *bytes, size_t size, size_t piece_max) {
    struct buffer said = BUFFER_INIT;
    struct watch_stream stream;
    enum watch_step step = WATCH_STEP_AGAIN;
    watch_stream_init(&stream);
    for (size_t at = 0; at < size && step != WATCH_STEP_FAILED;) {
        size_t len = size - at < piece_max ? size - at : piece_max;
        size_t used = 0;
        struct watch_event event = {0};
        struct error err = {0};
        step = watch_stream_read(&stream, bytes + at, len, &used, &event, &err);
        if (step == WATCH_STEP_FAILED) {
            buffer_append_text(&said, err.message[0] != '\0' ? "failed" : "");
            if (err.message[0] == '\0') {
                abort(); /* a refusal says why */
            }
            break;
        }
        if (used > len || (used == 0 && len > 0)) {
            abort(); /* it goes on, and takes no more than there is */
        }
        if (step == WATCH_STEP_EVENT) {
            cleanup_free char *text = json_text(event.object);
            buffer_printf(&said, "%d %s\n", (int)event.type, text);
            json_decref(event.object);
        }
        at += used;
    }
    watch_stream_release(&stream);
    return buffer_take(&said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_free char *whole = read_in_pieces((const char *)data, size, size);
    cleanup_free char *bytes = read_in_pieces((const char *)data, size, 1);
    cleanup_free char *pieces = read_in_pieces((const char *)data, size, 7);
    if (strcmp(whole, bytes) != 0 || strcmp(whole, pieces) != 0) {
        abort();
    }
    return 0;
}
