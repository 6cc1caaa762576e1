/* Error answers in vLLM's shapes (vllm/entrypoints, version 0.32). Pure. */
#ifndef DAVIT_ENGINE_API_API_ERROR_H
#define DAVIT_ENGINE_API_API_ERROR_H

#include "base/buffer.h"
#include "base/error.h"

struct api_error {
    int status;
    const char *type; /* static: "BadRequestError", "NotFoundError", ... */
    char param[64];   /* "" = null */
    struct buffer message;
};

void api_error_release(struct api_error *error);
/* Sets all of it; returns -1, so that `return api_error_set(...)` reads well. `param` NULL = null. */
int api_error_set(struct api_error *error, int status, const char *type, const char *param, const char *format, ...)
    DAVIT_PRINTF(5, 6);
/* {"error":{"message":...,"type":...,"param":...,"code":...}} */
void api_error_body(const struct api_error *error, struct buffer *out);

/* The answer to an engine's error for a generation: busy 503, unknown adapter 404, bad request 400, else 500. */
int api_error_from_engine(struct api_error *error, const struct error *cause);
/* The answers to load and unload. `name` and `path` as requested. */
int api_error_from_load(struct api_error *error, const struct error *cause, const char *name, const char *path);
int api_error_from_unload(struct api_error *error, const struct error *cause, const char *name);

/* ---- schema errors: "1 validation error:\n  {'type': ..., 'loc': 'body.x', 'msg': ..., 'input': '...'}" ---- */

#define SCHEMA_ERRORS_MAX 10

struct schema_errors {
    struct buffer lines;
    int count;
    char first_location[64];
};
void schema_errors_release(struct schema_errors *errors);
/* `location`: "body.lora_name"; `input`: what was found, already as text. Beyond SCHEMA_ERRORS_MAX they are only counted. */
void schema_errors_add(struct schema_errors *errors, const char *type, const char *location, const char *message,
                       const char *input);
/* -1 and *error set when there were any, else 0. */
int schema_errors_finish(const struct schema_errors *errors, struct api_error *error);

/* A double as Python prints it: "-1.0", "0.7", "1e+30". */
void append_python_float(struct buffer *out, double value);

#endif
