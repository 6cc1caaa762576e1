/* davit chat: asks models through the gateway, once or line by line, and shows the answers as they come. */
#include "cli/cli.h"
#include "cli/command.h"

#include "base/clock.h"
#include "cli/chat_client.h"
#include "cli/printable.h"
#include "cluster/up/instance.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define LINE_BYTES_MAX (256 * 1024)
#define MODELS_NAMED_MAX 20
#define MAX_TOKENS_DEFAULT 512
#define TEMPERATURE_MAX 2.0
#define INTERRUPTED 130 /* as a shell says it: 128 + SIGINT */

/* A model that is asked, and what was said to it and by it. */
struct partner {
    char *model;
    json_t *messages;
};

struct chat {
    struct chat_settings settings;
    struct option_strings models; /* as given */
    const char *url;
    const char *dir;
    const char *api_key;
    struct chat_client client;
    struct partner partners[OPTION_STRINGS_MAX];
    size_t partner_count;
    bool has_colour;
    bool has_keyboard;
};

static const char *dim(const struct chat *chat) {
    return chat->has_colour ? "\033[2m" : "";
}

static const char *bold(const struct chat *chat) {
    return chat->has_colour ? "\033[1m" : "";
}

static const char *plain(const struct chat *chat) {
    return chat->has_colour ? "\033[0m" : "";
}

static void add_partner(struct chat *chat, const char *model) {
    chat->partners[chat->partner_count++] = (struct partner){.model = xstrdup(model), .messages = json_array()};
}

static void release_partners(struct chat *chat, size_t kept) {
    while (chat->partner_count > kept) {
        struct partner *partner = &chat->partners[--chat->partner_count];
        free(partner->model);
        json_decref(partner->messages);
    }
}

/* ---- what can be asked for ---- */

static int list_models(const struct chat *chat, struct error *err) {
    cleanup_json json_t *models = NULL;
    if (chat_client_models(&chat->client, &models, err) < 0) {
        return -1;
    }
    const json_t *data = json_object_get(models, "data");
    if (json_array_size(data) == 0) {
        (void)printf("no model can be asked at %s yet; `davit get adapters` and `kubectl get pods` show what there is\n",
                     chat->client.url);
        return 0;
    }
    (void)printf("Models that can be asked at %s:\n\n", chat->client.url);
    for (size_t i = 0; i < json_array_size(data); i++) {
        const json_t *model = json_array_get(data, i);
        const char *parent = json_string_at(model, "parent", NULL);
        (void)printf("  %-24s %s%s\n", json_string_at(model, "id", "?"), parent != NULL ? "adapter of " : "base model",
                     parent != NULL ? parent : "");
    }
    return 0;
}

/* Appends what may be asked when `model` cannot. */
static void suggest_models(const struct chat *chat, const char *model, struct buffer *out) {
    cleanup_json json_t *models = NULL;
    struct error err = {0};
    if (chat_client_models(&chat->client, &models, &err) < 0) {
        return;
    }
    const json_t *data = json_object_get(models, "data");
    size_t count = json_array_size(data);
    cleanup_buffer struct buffer names = BUFFER_INIT;
    for (size_t i = 0; i < count; i++) {
        const char *id = json_string_at(json_array_get(data, i), "id", "");
        if (strcmp(id, model) == 0) {
            return; /* it was something else */
        }
        if (i < MODELS_NAMED_MAX) {
            buffer_printf(&names, "%s%s", i > 0 ? ", " : "", id);
        }
    }
    if (count == 0) {
        buffer_append_text(out, "\n  no model can be asked yet; `davit get adapters` and `kubectl get pods` show what there is");
    } else if (count > MODELS_NAMED_MAX) {
        buffer_printf(out, "\n  models that can be asked: %s and %zu more; `davit chat` lists them", names.data,
                      count - MODELS_NAMED_MAX);
    } else {
        buffer_printf(out, "\n  models that can be asked: %s", names.data);
    }
}

/* What went wrong and what to do next. */
static void explain(const struct chat *chat, const char *model, const struct error *err) {
    cleanup_buffer struct buffer next = BUFFER_INIT;
    if (err->http_status == 0 && chat->url != NULL) {
        buffer_append_text(
            &next, "\n  is --url the gateway's? `davit status` shows the one of this machine, `davit up --detach` starts it");
    } else if (err->http_status == 0) {
        buffer_append_text(&next, "\n  `davit status` shows what runs here, `davit up --detach` starts it");
    } else if (err->http_status == 401) {
        buffer_append_text(&next, "\n  give the key with --api-key or OPENAI_API_KEY");
    } else if (model != NULL && err->http_status < 500) {
        suggest_models(chat, model, &next);
    }
    cleanup_buffer struct buffer message = BUFFER_INIT;
    printable_append(&message, err->message, strlen(err->message));
    (void)fprintf(stderr, "davit chat: %s%s%s%s\n", model != NULL ? model : "", model != NULL ? ": " : "", buffer_text(&message),
                  buffer_text(&next));
}

/* ---- one question ---- */

static void on_text(void *arg, const char *text, size_t len) {
    (void)arg;
    cleanup_buffer struct buffer shown = BUFFER_INIT;
    printable_append(&shown, text, len);
    (void)fwrite(buffer_text(&shown), 1, shown.len, stdout);
    (void)fflush(stdout);
}

static void close_answer(const struct chat *chat, const struct chat_answer *answer, int64_t asked_ns) {
    cleanup_buffer struct buffer line = BUFFER_INIT;
    chat_answer_describe(answer, asked_ns, &line);
    bool is_line_open = answer->text.len > 0 && answer->text.data[answer->text.len - 1] != '\n';
    (void)printf("%s    %s%s%s\n", is_line_open ? "\n" : "", dim(chat), line.data, plain(chat));
    (void)fflush(stdout);
}

/* Asks one model and keeps what was said. 1: interrupted. */
static int ask(const struct chat *chat, struct partner *partner, const char *question) {
    struct error err = {0};
    struct chat_answer answer;
    chat_answer_init(&answer);
    size_t said_before = json_array_size(partner->messages);
    json_array_append_new(partner->messages, chat_message("user", question));
    cleanup_free char *body = chat_request_body(&chat->settings, partner->model, partner->messages);
    int64_t asked_ns = clock_now_ns();
    int result = chat_client_ask(&chat->client, body, &answer, on_text, NULL, &err);
    if (answer.pieces > 0 || result == 0) {
        close_answer(chat, &answer, asked_ns);
    }
    if (result < 0) {
        explain(chat, partner->model, &err);
        json_array_remove(partner->messages, said_before);
    } else {
        json_array_append_new(partner->messages, chat_message("assistant", buffer_text(&answer.text)));
    }
    chat_answer_release(&answer);
    return result;
}

/* All models, one after another. The exit status. */
static int ask_all(struct chat *chat, const char *question, bool has_headings) {
    int status = 0;
    for (size_t i = 0; i < chat->partner_count; i++) {
        if (has_headings) {
            (void)printf("\n%s[%s]%s\n", bold(chat), chat->partners[i].model, plain(chat));
            (void)fflush(stdout);
        }
        int result = ask(chat, &chat->partners[i], question);
        if (result > 0) {
            return INTERRUPTED;
        }
        status = result < 0 ? 1 : status;
    }
    return status;
}

static int ask_once(struct chat *chat, const char *question) {
    (void)printf("%s\n", question);
    return ask_all(chat, question, true);
}

/* ---- a conversation ---- */

static void reset(struct chat *chat) {
    for (size_t i = 0; i < chat->partner_count; i++) {
        json_array_clear(chat->partners[i].messages);
    }
}

static void list_or_explain(const struct chat *chat) {
    struct error err = {0};
    if (list_models(chat, &err) < 0) {
        explain(chat, NULL, &err);
    }
}

/* The conversation with the first model goes on with another one. */
static void change_model(struct chat *chat, const char *name) {
    if (*name == '\0') {
        list_or_explain(chat);
        return;
    }
    release_partners(chat, 1);
    free(chat->partners[0].model);
    chat->partners[0].model = xstrdup(name);
}

/* A line that starts with a slash. False: the conversation ends. */
static bool obey(struct chat *chat, const char *line) {
    if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0) {
        return false;
    }
    if (strcmp(line, "/reset") == 0) {
        reset(chat);
    } else if (strcmp(line, "/model") == 0 || strncmp(line, "/model ", 7) == 0) {
        const char *name = line + 6;
        change_model(chat, name + strspn(name, " "));
    } else {
        (void)fprintf(
            stderr,
            "davit chat: %s is not known; /reset forgets what was said, /model lists the models, /model NAME asks another, "
            "/quit ends\n",
            line);
    }
    return true;
}

/* 1: a line, without its end and without spaces around it. 0: the end of the input. */
static int read_line(char *line, size_t room, const char **ret_line) {
    if (fgets(line, (int)room, stdin) == NULL) {
        return 0;
    }
    size_t len = strlen(line);
    if (len + 1 == room && line[len - 1] != '\n') {
        int byte = 0;
        while ((byte = getchar()) != '\n' && byte != EOF) {
        }
        (void)fprintf(stderr, "davit chat: a line is longer than %d bytes\n", LINE_BYTES_MAX);
        len = 0;
    }
    while (len > 0 && strchr(" \t\r\n", line[len - 1]) != NULL) {
        len--;
    }
    line[len] = '\0';
    *ret_line = line + strspn(line, " \t");
    return 1;
}

static int converse(struct chat *chat) {
    cleanup_free char *room = xmalloc(LINE_BYTES_MAX);
    const char *line = NULL;
    int status = 0;
    if (chat->has_keyboard) {
        (void)printf("%s/reset forgets what was said, /model NAME asks another model, /quit ends%s\n", dim(chat), plain(chat));
    }
    for (;;) {
        if (chat->has_keyboard) {
            (void)printf("\n%s%s>%s ", bold(chat), chat->partner_count == 1 ? chat->partners[0].model : "all", plain(chat));
            (void)fflush(stdout);
        }
        if (read_line(room, LINE_BYTES_MAX, &line) == 0) {
            break;
        }
        if (*line == '/') {
            if (!obey(chat, line)) {
                return status;
            }
        } else if (*line != '\0') {
            status = ask_all(chat, line, chat->partner_count > 1);
            status = status == INTERRUPTED ? 0 : status; /* the answer was stopped, not the conversation */
        }
    }
    (void)printf("%s", chat->has_keyboard ? "\n" : "");
    return status;
}

/* ---- the command ---- */

static int find_gateway(const struct chat *chat, char **ret_url, struct error *err) {
    cleanup_free char *directory = NULL;
    struct instance instance = {0};
    if (chat->url != NULL) {
        *ret_url = xstrdup(chat->url);
        return 0;
    }
    if (instance_directory(chat->dir, &directory, err) < 0) {
        return -1;
    }
    if (instance_read(directory, &instance, err) < 0 && err->code != ERROR_NOT_FOUND) {
        return -1;
    }
    for (size_t i = 0; i < instance.role_count; i++) {
        if (strcmp(instance.roles[i].name, "gateway") == 0 && process_is_alive(&instance.roles[i].process)) {
            *ret_url = xasprintf("http://127.0.0.1:%d", instance.gateway_port);
            return 0;
        }
    }
    return error_set(err, ERROR_UNAVAILABLE,
                     "no gateway runs in %s; `davit up --detach` starts everything, or name another gateway with --url", directory);
}

static int run(struct chat *chat, const char *question) {
    struct error err = {0};
    if (chat->models.count == 0) {
        if (list_models(chat, &err) < 0) {
            explain(chat, NULL, &err);
            return 1;
        }
        (void)printf("\nChoose with --model, once or several times: davit chat --model NAME \"your question\"\n");
        return question != NULL ? 2 : 0;
    }
    for (size_t i = 0; i < chat->models.count; i++) {
        add_partner(chat, chat->models.values[i]);
    }
    int status = question != NULL ? ask_once(chat, question) : converse(chat);
    release_partners(chat, 0);
    return status;
}

static char *join_words(char **words, int count) {
    struct buffer text = BUFFER_INIT;
    for (int i = 0; i < count; i++) {
        buffer_printf(&text, "%s%s", i > 0 ? " " : "", words[i]);
    }
    return count > 0 ? buffer_take(&text) : NULL;
}

static int check_temperature(double temperature, bool is_given, struct error *err) {
    if (is_given && !(temperature >= 0 && temperature <= TEMPERATURE_MAX)) {
        return error_set(err, ERROR_INVALID, "--temperature: %g is not between 0 and %g", temperature, TEMPERATURE_MAX);
    }
    return 0;
}

int cli_chat(int argc, char **argv) {
    struct chat chat = {.settings = {.max_tokens = MAX_TOKENS_DEFAULT, .temperature = NAN}};
    const struct option_spec table[] = {
        {.name = "model",
         .type = OPTION_STRINGS,
         .target = &chat.models,
         .value_name = "NAME",
         .help = "base model or adapter; give it several times to compare answers"},
        {.name = "system", .type = OPTION_STRING, .target = &chat.settings.system, .value_name = "TEXT", .help = "system message"},
        {.name = "max-tokens",
         .type = OPTION_INT,
         .target = &chat.settings.max_tokens,
         .value_name = "N",
         .help = "the longest answer (default 512)",
         .minimum = 1,
         .maximum = INT32_MAX},
        {.name = "temperature",
         .type = OPTION_FLOAT,
         .target = &chat.settings.temperature,
         .value_name = "T",
         .help = "0 = always the likeliest token (default: the engine's)"},
        {.name = "url",
         .type = OPTION_STRING,
         .target = &chat.url,
         .value_name = "URL",
         .help = "gateway (default: the one of this machine)"},
        {.name = "dir",
         .env = "DAVIT_DIR",
         .type = OPTION_STRING,
         .target = &chat.dir,
         .value_name = "DIR",
         .help = "state directory (default $XDG_STATE_HOME/davit, else ~/.local/state/davit)"},
        {.name = "api-key",
         .env = "OPENAI_API_KEY",
         .type = OPTION_STRING,
         .target = &chat.api_key,
         .value_name = "KEY",
         .help = "sent as a bearer token"},
        {0},
    };
    const struct command command = {
        .name = "chat",
        .arguments = "--model NAME [--model NAME2 ...] [QUESTION]",
        .description =
            "Asks models through the gateway and shows the answers as they come. Without a question: a conversation, line by "
            "line\n(/reset, /model NAME, /quit). Without --model: what can be asked for.",
        .options = table,
        .log_level = NULL,
        .arguments_max = -1,
    };
    struct error err = {0};
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    bool has_temperature = !isnan(chat.settings.temperature);
    if (check_temperature(chat.settings.temperature, has_temperature, &err) < 0) {
        return command_misused("chat", &err);
    }
    chat.settings.temperature = has_temperature ? chat.settings.temperature : -1;
    const char *no_color = getenv("NO_COLOR");
    chat.has_colour = isatty(STDOUT_FILENO) && (no_color == NULL || *no_color == '\0');
    chat.has_keyboard = isatty(STDIN_FILENO);
    cleanup_free char *question = join_words(argv + 1, arguments);
    cleanup_free char *url = NULL;
    if (find_gateway(&chat, &url, &err) < 0) {
        return command_failed("chat", &err);
    }
    chat_client_init(&chat.client, url, chat.api_key);
    status = run(&chat, question);
    chat_client_release(&chat.client);
    return status;
}
