/* The subcommands of `davit`. Each parses its own arguments (argv[0] is the subcommand's name), prints its own help with
 * --help, says on standard error what went wrong and what to do next, and returns the process's exit status: 0 done, 1 failed,
 * 2 wrong usage. The table of them, in the order of `davit --help`, is in main.c. */
#ifndef DAVIT_CLI_CLI_H
#define DAVIT_CLI_CLI_H

#include "base/options.h"

#ifndef DAVIT_VERSION
#define DAVIT_VERSION "0.1.0"
#endif

/* One machine. */
int cli_up(int argc, char **argv);
int cli_down(int argc, char **argv);
int cli_status(int argc, char **argv);

/* A person's tools. */
int cli_get(int argc, char **argv);
int cli_chat(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_plan(int argc, char **argv); /* its exit status: 1 = something would be done, 2 = it failed */
int cli_pull(int argc, char **argv);
int cli_cache(int argc, char **argv);

/* The roles. */
int cli_engine(int argc, char **argv);
int cli_runtime(int argc, char **argv);
int cli_controller(int argc, char **argv);
int cli_gateway(int argc, char **argv);
int cli_apiserver(int argc, char **argv);
int cli_node(int argc, char **argv);

#endif
