/* Answers by which an engine says that it does not have the adapter it was asked for: the route is stale, and another endpoint may
 * have it. Pure. */
#ifndef DAVIT_GATEWAY_STALE_ANSWER_H
#define DAVIT_GATEWAY_STALE_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

/* Whether an answer with this status may be one: its body is to be looked at. */
bool stale_answer_may_be(int status);
bool stale_answer_is(int status, const char *body, size_t len);

enum stale_event { STALE_EVENT_INCOMPLETE, STALE_EVENT_YES, STALE_EVENT_NO };

/* SGLang answers 200 to whoever wants a stream, and says in its first event that it does not have the adapter. `bytes`: the stream
 * from its beginning. */
enum stale_event stale_answer_in_events(const char *bytes, size_t len);

#endif
