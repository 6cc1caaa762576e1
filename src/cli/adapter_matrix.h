/* Which adapter is on which pod, and how it is there: from ModelAdapters and pods as the API lists them. Pure. */
#ifndef DAVIT_CLI_ADAPTER_MATRIX_H
#define DAVIT_CLI_ADAPTER_MATRIX_H

#include "base/json.h"

/* {"adapters": [{"namespace", "name", "baseModel", "phase", "ready", "desired", "reason", "message",
 *                "loads": [{"pod", "state", "revision", "loadMillis", "reason", "message"}]}]}, a new reference.
 * The loads are those of the adapter's status, then "Starting" for the pods that its selector matches and that are not ready yet.
 * reason and message are those of the condition Ready, and there only while it is not True. `adapters`: an array of ModelAdapters.
 * `pods`: an array of pods, NULL when they could not be listed. */
json_t *adapter_matrix_build(const json_t *adapters, const json_t *pods);
/* The table, a row a load (an adapter without loads has one too), and a line that sums it up. */
void adapter_matrix_render(const json_t *matrix, bool with_namespace, struct buffer *out);

#endif
