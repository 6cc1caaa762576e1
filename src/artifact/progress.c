#include "artifact/artifact.h"

int artifact_progress_check(const struct artifact_progress *progress, struct error *err) {
    return progress != NULL && atomic_load(&progress->is_cancelled) ? error_set(err, ERROR_TIMEOUT, "the fetch was cancelled") : 0;
}

unsigned artifact_percent(uint64_t done, uint64_t total) {
    return total == 0 ? 0 : done >= total ? 100 : (unsigned)((double)done * 100 / (double)total);
}
