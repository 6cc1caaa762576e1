/* When a role that ended is started again. Pure: the clock is an argument. */
#ifndef DAVIT_CLUSTER_UP_RESTART_H
#define DAVIT_CLUSTER_UP_RESTART_H

#include <stdint.h>

/* A role that ran this long begins again without delay. */
#define RESTART_RESET_MS 10000

struct restart {
    int64_t started_ms;
    int failures; /* in a row */
    int total;    /* restarts since the supervisor began */
};

void restart_started(struct restart *restart, int64_t now_ms);
/* The role ended: how long to wait before the next start. 0, 0.25, 0.5, 1, 2, 5, 5 ... s. */
int64_t restart_ended(struct restart *restart, int64_t now_ms);

#endif
