/* What a fake engine says that changes nothing: lists, metrics, completions. */
#ifndef DAVIT_TESTS_FAKE_ENGINE_PAGES_H
#define DAVIT_TESTS_FAKE_ENGINE_PAGES_H

#include "engine.h"

void pages_list(const struct engine *engine, int64_t wall_s, struct buffer *out);
void pages_metrics(const struct engine *engine, int64_t wall_s, struct buffer *out);
/* One token and its alternatives, which hang on the prompt and on what the adapter was loaded from. */
void pages_completion(const struct engine *engine, const struct asked *asked, int64_t wall_s, struct answer *answer);

#endif
