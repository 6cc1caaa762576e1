/* What the API server shows a node when it asks for the output of a container. It is derived from the token that both have, so that
 * whoever listens on the node's port after its end is not shown what opens the API. */
#ifndef DAVIT_CLUSTER_NODE_LOG_TOKEN_H
#define DAVIT_CLUSTER_NODE_LOG_TOKEN_H

#include "base/hash.h"

void log_token_make(const char *token, char ret_text[HASH_HEX_BYTES]);

#endif
