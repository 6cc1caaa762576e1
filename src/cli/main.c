/* davit: one program, several roles. */
#include "cli/cli.h"

#include <signal.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"up", cli_up, "start everything on this machine: API server, node, controller, gateway"},
    {"status", cli_status, "what runs here, and how to reach it"},
    {"down", cli_down, "stop what `davit up` started, pods included; keeps the objects"},
    {"get", cli_get, "the adapters and where they are loaded"},
    {"chat", cli_chat, "ask models through the gateway"},
    {"check", cli_check, "what an adapter is, and which engines would refuse it"},
    {"plan", cli_plan, "what applying a file would do, and to which pods, without doing it"},
    {"pull", cli_pull, "fetch an adapter from a hub, an object store or a web server"},
    {"cache", cli_cache, "what is kept of fetched adapters: ls, verify, prune"},
    {"engine", cli_engine, "CPU inference server that speaks vLLM's dialect: one base model, many LoRA adapters"},
    {"runtime", cli_runtime, "sidecar of an engine pod: fetches adapters and hands them to the engine"},
    {"controller", cli_controller, "places, loads, proves and publishes ModelAdapters"},
    {"gateway", cli_gateway, "OpenAI-compatible entry: picks an engine by the model of a request"},
    {"apiserver", cli_apiserver, "embedded Kubernetes-compatible API"},
    {"node", cli_node, "runs Deployments and Pods as local processes"},
};

static void print_help(FILE *out) {
    (void)fprintf(
        out,
        "Usage: davit COMMAND [OPTION...]\n\nLoads LoRA adapters into running LLM engines and serves them by name.\n\nCommands:\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        (void)fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].help);
    }
    (void)fprintf(out, "\n`davit COMMAND --help` shows the options of one. `davit --version` shows the version.\n");
}

/* Levenshtein's distance of short words. */
static size_t distance(const char *a, const char *b) {
    enum { WORD_MAX = 32 };
    size_t a_len = strlen(a);
    size_t b_len = strlen(b);
    size_t row[WORD_MAX + 1];
    if (a_len > WORD_MAX || b_len > WORD_MAX) {
        return WORD_MAX;
    }
    for (size_t j = 0; j <= b_len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b_len];
}

static int unknown_command(const char *name) {
    const char *close = NULL;
    size_t best = 3;
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        size_t away = strncmp(commands[i].name, name, strlen(name)) == 0 ? 1 : distance(name, commands[i].name);
        if (away < best) {
            best = away;
            close = commands[i].name;
        }
    }
    (void)fprintf(stderr, "davit: unknown command \"%s\"%s%s%s; `davit --help` lists them\n", name,
                  close != NULL ? " (did you mean " : "", close != NULL ? close : "", close != NULL ? "?)" : "");
    return 2;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        (void)printf("davit %s\n", DAVIT_VERSION);
        return 0;
    }
    /* A peer that goes away is an error of a write, not the end of the process. Programs that a role starts get the default back.
     */
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    return unknown_command(name);
}
