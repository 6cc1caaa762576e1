/* What every subcommand does with its command line, in one way: parse the options, print the help, complain about wrong usage, set
 * up the log. */
#ifndef DAVIT_CLI_COMMAND_H
#define DAVIT_CLI_COMMAND_H

#include "base/options.h"

struct command {
    const char *name;        /* "gateway" */
    const char *arguments;   /* behind "davit gateway " in the usage line */
    const char *description; /* for --help */
    const struct option_spec *options;
    const char *const *log_level; /* the target of --log-level; NULL = the command has none and logs warnings only */
    int arguments_max;            /* positional arguments that it takes; -1 = any number */
};

#define COMMAND_GO_ON (-1)

/* COMMAND_GO_ON with *ret_arguments set (they are argv[1] and so on), or the exit status: 0 after --help, 2 after wrong usage,
 * which was said on standard error. */
int command_parse(const struct command *command, int argc, char **argv, int *ret_arguments) DAVIT_MUST_USE;
/* Says what is wrong with the usage and where help is; returns 2. */
int command_misused(const char *name, const struct error *err);
/* Says what failed; returns 1. */
int command_failed(const char *name, const struct error *err);

#endif
