/* The file of `davit plan`: which ModelAdapters it has. */
#ifndef DAVIT_CLI_PLAN_FILE_H
#define DAVIT_CLI_PLAN_FILE_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"

#define PLAN_FILE_BYTES_MAX ((size_t)16 << 20)
#define PLAN_FILE_ADAPTERS_MAX 1000

struct plan_file {
    json_t *adapters;      /* array of ModelAdapters, each with metadata.namespace */
    struct buffer skipped; /* a line for each document that is none */
};

/* The whole of a file, or of standard input ("-"). */
int plan_file_read(const char *path, struct buffer *out, struct error *err) DAVIT_MUST_USE;
/* YAML or JSON, several documents or Lists. `only`: the namespace that was asked for, NULL = none; `fallback`: of objects that name
 * none. ERROR_INVALID names the document. Release in either case. Pure. */
int plan_file_parse(const struct buffer *text, const char *only, const char *fallback, struct plan_file *ret_file,
                    struct error *err) DAVIT_MUST_USE;
void plan_file_release(struct plan_file *file);

#endif
