/* The shape of a base model as its file or folder tells it: a GGUF, or a Hugging Face folder with config.json. */
#ifndef DAVIT_CLI_CHECK_BASE_H
#define DAVIT_CLI_CHECK_BASE_H

#include "adapter/verdict.h"

struct check_base {
    char *architecture; /* "llama", "qwen2"; owned */
    const char *format; /* "GGUF" or "Hugging Face" */
    char *refusal;      /* why davit engine would not serve it, NULL when it would; owned */
    struct base_shape shape;
};

/* ERROR_NOT_FOUND or ERROR_INVALID when nothing of it can be read. Release on success. */
int check_base_read(const char *path, struct check_base *ret_base, struct error *err) DAVIT_MUST_USE;
void check_base_release(struct check_base *base);

#endif
