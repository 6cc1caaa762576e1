/* The engine's metrics page as the sidecar shows it: every line as it came, then copies of what AIBrix has names of its own for
 * (aibrix:queue_size and the like), whatever the engine calls it. Pure. */
#ifndef DAVIT_RUNTIME_ENGINE_METRICS_H
#define DAVIT_RUNTIME_ENGINE_METRICS_H

#include "base/buffer.h"

void engine_metrics_append(struct buffer *out, const char *page, size_t len);

#endif
