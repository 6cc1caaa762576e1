/* Puts another name in place of the "model" of an answer, as its bytes pass: an engine that was asked under a name of its
 * own (gateway/route.h) answers under it, and the client is to see the name that it asked for. Pure.
 *
 * Of a JSON answer, or of the data of each server-sent event, only a member "model" whose value is `from` changes, at the top or in
 * the top's member "response" (the events of /v1/responses); every other byte passes as it came, at once. Held back is nothing but
 * such a value that is not complete yet, at most MODEL_RENAME_HELD_BYTES_MAX. What is not JSON passes unchanged. */
#ifndef DAVIT_GATEWAY_MODEL_RENAME_H
#define DAVIT_GATEWAY_MODEL_RENAME_H

#include "base/buffer.h"

#define MODEL_RENAME_HELD_BYTES_MAX 8192

enum model_rename_form { MODEL_RENAME_JSON, MODEL_RENAME_EVENTS };

struct model_rename {
    enum model_rename_form form;
    const char *from; /* borrowed, decoded */
    const char *to;
    struct buffer held; /* the value so far, with its opening quote */
    bool is_holding;
    /* events */
    unsigned line_bytes; /* of "data:" that were seen at the start of the line */
    bool is_data;        /* behind "data:" */
    bool is_other_line;
    /* JSON */
    unsigned depth;
    bool is_object;   /* the outermost value is one */
    bool in_response; /* at depth 2 and below: in the object that is the top's "response" */
    bool in_string;
    bool is_escaped;
    bool expects_key;
    bool is_key;
    bool is_model; /* the member whose value is next is "model" */
    bool is_response;
    char key[9];
    unsigned key_bytes;
};

void model_rename_init(struct model_rename *rename, enum model_rename_form form, const char *from, const char *to);
/* Takes bytes; appends to `out` what may be passed on now. */
void model_rename_push(struct model_rename *rename, const char *bytes, size_t len, struct buffer *out);
/* The answer ended: appends what is left. */
void model_rename_finish(struct model_rename *rename, struct buffer *out);
void model_rename_release(struct model_rename *rename);

#endif
