/* Whether a download comes at a pace that is worth waiting for. Time counts while somebody is asked for bytes; pauses between tries
 * count a tenth, for a server that has us come back later again and again; what this process itself took is not the server's. Pure.
 */
#ifndef DAVIT_ARTIFACT_PACE_H
#define DAVIT_ARTIFACT_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_BYTES_PER_S_MIN 4096 /* 15 MB in the hour that a fetch has by default */

struct pace {
    int64_t window_ms;
    int64_t last_ms; /* of the last step */
    int64_t waited_ms;
    int64_t paused_ms;
    uint64_t bytes_before; /* the window */
    /* Of the last whole window: */
    uint64_t bytes_received;
    int64_t spent_ms;
    bool is_waiting;
};

void pace_init(struct pace *pace, int64_t window_ms, int64_t now_ms);
/* Once a second and more often. `bytes` came so far; is_waiting: for some that were asked for. False: in a whole window fewer came
 * than PACE_BYTES_PER_S_MIN. */
bool pace_is_fine(struct pace *pace, int64_t now_ms, uint64_t bytes, bool is_waiting);

#endif
