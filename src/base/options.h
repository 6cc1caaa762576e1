/* Command-line options as a table: spelling, environment variable, type, help. `--name value`, `--name=value`, and for flags
 * `--name` alone or `--no-name`; with a short name also `-n value`, `-nvalue`, `-n=value`, and `-n` alone for a flag. Values come
 * from the command line, else from the environment variable, else stay as they were. An unknown option, a missing value or a value
 * of the wrong type is an error that names the option and, where one is close, the option that was perhaps meant. */
#ifndef DAVIT_BASE_OPTIONS_H
#define DAVIT_BASE_OPTIONS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum option_type {
    OPTION_FLAG,     /* bool */
    OPTION_STRING,   /* const char *, borrowed from argv or the environment */
    OPTION_INT,      /* int64_t within [minimum, maximum] */
    OPTION_FLOAT,    /* double */
    OPTION_DURATION, /* int64_t milliseconds, from "1m30s", "500ms", "2h" (as Go writes durations) */
    OPTION_STRINGS,  /* struct option_strings: may be given several times */
    OPTION_IGNORED,  /* accepted with a warning; takes a value like OPTION_STRING when `takes_value` */
};

#define OPTION_STRINGS_MAX 64

struct option_strings {
    const char *values[OPTION_STRINGS_MAX];
    size_t count;
};

struct option_spec {
    const char *name; /* without dashes; a trailing empty row ends the table */
    const char *env;  /* NULL = none */
    enum option_type type;
    void *target;
    const char *value_name; /* for --help, e.g. "N", "PATH" */
    const char *help;
    int64_t minimum; /* OPTION_INT; both 0 = any */
    int64_t maximum;
    bool takes_value; /* OPTION_IGNORED */
    char short_name;  /* 'n' for -n; 0 = none */
};

/* Fills the targets. Positional arguments are moved to the front of argv[1..]; returns their number. `--help` and `-h` set
 * *ret_help and stop. Ignored options that were given are logged as warnings. */
int options_parse(const struct option_spec *table, int argc, char **argv, bool *ret_help, struct error *err) DAVIT_MUST_USE;
/* "Usage: <usage>", the description, and a line an option. */
void options_print_help(const struct option_spec *table, const char *usage, const char *description, FILE *out);

#endif
