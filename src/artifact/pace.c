#include "artifact/pace.h"

#define STEP_MS_MAX 2000 /* steps come every second: what is longer went to a slow disk, or to a machine that slept */

void pace_init(struct pace *pace, int64_t window_ms, int64_t now_ms) {
    *pace = (struct pace){.window_ms = window_ms, .last_ms = now_ms};
}

bool pace_is_fine(struct pace *pace, int64_t now_ms, uint64_t bytes, bool is_waiting) {
    int64_t step_ms = now_ms - pace->last_ms;
    if (pace->is_waiting) {
        pace->waited_ms += step_ms < STEP_MS_MAX ? step_ms : STEP_MS_MAX;
    }
    pace->last_ms = now_ms;
    pace->is_waiting = is_waiting;
    if (pace->waited_ms < pace->window_ms) {
        return true;
    }
    pace->bytes_received = bytes - pace->bytes_before;
    bool is_fine = pace->bytes_received >= (uint64_t)pace->waited_ms * PACE_BYTES_PER_S_MIN / 1000;
    pace->bytes_before = bytes;
    pace->waited_ms = 0;
    return is_fine;
}
