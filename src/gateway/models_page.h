/* GET /v1/models: what can be asked for now, in vLLM's shape. Pure. */
#ifndef DAVIT_GATEWAY_MODELS_PAGE_H
#define DAVIT_GATEWAY_MODELS_PAGE_H

#include "base/buffer.h"
#include "gateway/route.h"

/* {"object":"list","data":[...]}: base models, then adapters, each by name; those without an endpoint are left out. */
void models_page_list(const struct route_snapshot *snapshot, struct buffer *out);
/* One card. */
void models_page_card(const struct route_model *model, struct buffer *out);

#endif
