#include "artifact/pace.h"

#define PAUSE_PART 10
#define STEP_MS_MAX 2000 /* steps come every second: what is longer went to a slow disk, or to a machine that slept */

void pace_init(struct pace *pace, int64_t window_ms, int64_t now_ms) {
    *pace = (struct pace){.window_ms = window_ms, .last_ms = now_ms};
}

bool pace_is_fine(struct pace *pace, int64_t now_ms, uint64_t bytes, bool is_waiting) {
    int64_t step_ms = now_ms - pace->last_ms;
    step_ms = step_ms < STEP_MS_MAX ? step_ms : STEP_MS_MAX;
    *(pace->is_waiting ? &pace->waited_ms : &pace->paused_ms) += step_ms;
    pace->last_ms = now_ms;
    pace->is_waiting = is_waiting;
    if (pace->waited_ms + pace->paused_ms / PAUSE_PART < pace->window_ms) {
        return true;
    }
    pace->bytes_received = bytes - pace->bytes_before;
    pace->spent_ms = pace->waited_ms + pace->paused_ms;
    pace->bytes_before = bytes;
    pace->waited_ms = pace->paused_ms = 0;
    return pace->bytes_received >= (uint64_t)pace->window_ms * PACE_BYTES_PER_S_MIN / 1000;
}
