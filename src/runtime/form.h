/* Bodies that are JSON objects of known members, and what is said of bad ones: FastAPI's 422 for models that forbid unknown fields,
 * as aibrix_runtime 0.8 answers it. Pure. */
#ifndef DAVIT_RUNTIME_FORM_H
#define DAVIT_RUNTIME_FORM_H

#include "base/json.h"

enum form_type { FORM_STRING, FORM_STRINGS, FORM_OBJECT, FORM_BOOL, FORM_INT };

struct form_field {
    const char *name; /* an empty row ends the list */
    enum form_type type;
    bool is_required; /* else it may be null or absent */
};

struct form {
    const char *model; /* as in the reference's error locations; NULL = they have none */
    struct form_field fields[8];
};

/* Which of the forms the body has, the first that fits; or the body of a 422 answer, appended to `detail`, and -1. What credentials
 * hold is not repeated there. *ret_body is of the caller's. */
int form_parse(const struct form *forms, size_t count, const char *bytes, size_t len, json_t **ret_body,
               struct buffer *detail) DAVIT_MUST_USE;

#endif
