#include "cli/command.h"

#include "base/log.h"
#include "cli/printable.h"

#include <string.h>

int command_misused(const char *name, const struct error *err) {
    (void)fprintf(stderr, "davit %s: %s; `davit %s --help` lists the options\n", name, err->message, name);
    return 2;
}

int command_failed(const char *name, const struct error *err) {
    cleanup_buffer struct buffer message = BUFFER_INIT;
    printable_append(&message, err->message, strlen(err->message)); /* it may repeat what a server said */
    (void)fprintf(stderr, "davit %s: %s\n", name, buffer_text(&message));
    return 1;
}

static int start_log(const struct command *command, struct error *err) {
    const char *level = command->log_level != NULL ? *command->log_level : "warn";
    if (log_init(command->name, level) < 0) {
        return error_set(err, ERROR_INVALID, "--log-level: expected debug, info, warn or error, found \"%s\"", level);
    }
    return 0;
}

int command_parse(const struct command *command, int argc, char **argv, int *ret_arguments) {
    struct error err = {0};
    bool wants_help = false;
    int count = options_parse(command->options, argc, argv, &wants_help, &err);
    if (wants_help) {
        cleanup_free char *usage = xasprintf("davit %s %s", command->name, command->arguments);
        options_print_help(command->options, usage, command->description, stdout);
        return 0;
    }
    if (count >= 0 && command->arguments_max >= 0 && count > command->arguments_max) {
        count = error_set(&err, ERROR_INVALID, "unexpected argument \"%s\"", argv[command->arguments_max + 1]);
    }
    if (count < 0 || start_log(command, &err) < 0) {
        return command_misused(command->name, &err);
    }
    *ret_arguments = count;
    return COMMAND_GO_ON;
}
