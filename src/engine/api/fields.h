/* Reading the members of a JSON request into a struct by a table, with vLLM's schema errors (FastAPI's, as vLLM words them). Pure.
 * Members that are not in the table are ignored. */
#ifndef DAVIT_ENGINE_API_FIELDS_H
#define DAVIT_ENGINE_API_FIELDS_H

#include "base/json.h"
#include "engine/api/api_error.h"

enum field_type {
    FIELD_STRING, /* const char *, borrowed from the document; U+0000 in it is an error */
    FIELD_TEXT,   /* const json_t *, borrowed, a string of whatever characters */
    FIELD_BOOL,   /* bool */
    FIELD_INT,    /* int64_t */
    FIELD_FLOAT,  /* double */
    FIELD_ANY,    /* const json_t *, borrowed; null counts as absent */
};

struct field_spec {
    const char *name; /* NULL ends the table */
    enum field_type type;
    size_t offset;
    bool required; /* absent or null is an error; otherwise the target stays as it was */
};

/* Parses a request body; `content_type` is the header's value or NULL. One that may hold more than `values_max` values is refused
 * unread. */
int fields_parse_body(const char *content_type, const char *body, size_t len, size_t values_max, json_t **ret_document,
                      struct api_error *error) DAVIT_MUST_USE;
void fields_read(const json_t *object, const struct field_spec *table, void *target, struct schema_errors *errors);
/* How vLLM shows a value in a schema error: "<dict of 2 items>", "5", "text". */
void fields_describe(const json_t *value, struct buffer *out);

#endif
