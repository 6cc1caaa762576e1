#include "cluster/up/restart.h"

static const int64_t delays_ms[] = {0, 250, 500, 1000, 2000, 5000};
#define DELAY_COUNT ((int)(sizeof(delays_ms) / sizeof(delays_ms[0])))

void restart_started(struct restart *restart, int64_t now_ms) {
    restart->started_ms = now_ms;
}

int64_t restart_ended(struct restart *restart, int64_t now_ms) {
    if (now_ms - restart->started_ms >= RESTART_RESET_MS) {
        restart->failures = 0;
    }
    int64_t delay_ms = delays_ms[restart->failures < DELAY_COUNT ? restart->failures : DELAY_COUNT - 1];
    restart->failures++;
    restart->total++;
    return delay_ms;
}
