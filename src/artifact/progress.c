#include "artifact/artifact.h"

int artifact_progress_check(const struct artifact_progress *progress, struct error *err) {
    return progress != NULL && atomic_load(&progress->is_cancelled) ? error_set(err, ERROR_TIMEOUT, "the fetch was cancelled") : 0;
}
