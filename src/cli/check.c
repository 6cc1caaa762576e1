/* davit check: what an adapter is, and which engines would refuse it. */
#include "cli/check_base.h"

#include "adapter/peft.h"
#include "base/file.h"
#include "base/hash.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/printable.h"

#include <string.h>

#define WEIGHTS_BYTES_MAX ((size_t)8 << 30)
#define MAX_RANK_DEFAULT 16 /* of vLLM and of davit engine */

struct check {
    const char *folder;
    json_t *config;
    struct buffer weights_file;
    struct safetensors weights;
    struct check_base base;
};

static void check_release(struct check *check) {
    json_decref(check->config);
    buffer_release(&check->weights_file);
    safetensors_release(&check->weights);
    check_base_release(&check->base);
}

static int read_config(struct check *check, struct error *err) {
    cleanup_free char *path = path_join(check->folder, PEFT_CONFIG_FILE);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read(path, PEFT_CONFIG_BYTES_MAX, &text, err) < 0) {
        return -1;
    }
    check->config = json_parse(buffer_text(&text), text.len, err);
    if (check->config == NULL) {
        return error_wrap(err, "%s", path);
    }
    return json_is_object(check->config) ? 0 : error_set(err, ERROR_INVALID, "%s: expected a JSON object", path);
}

static int read_weights(struct check *check, struct error *err) {
    cleanup_free char *path = path_join(check->folder, PEFT_WEIGHTS_FILE);
    size_t header_len = 0;
    if (file_read(path, WEIGHTS_BYTES_MAX, &check->weights_file, err) < 0) {
        return -1;
    }
    size_t len = check->weights_file.len;
    const char *header = buffer_text(&check->weights_file) + SAFETENSORS_PREFIX_BYTES;
    if (safetensors_header_len(buffer_text(&check->weights_file), len, len, &header_len, err) < 0 ||
        safetensors_parse(header, header_len, len - SAFETENSORS_PREFIX_BYTES - header_len, &check->weights, err) < 0) {
        return error_wrap(err, "%s", path);
    }
    return 0;
}

/* ---- what it is ---- */

static void print_line(const char *name, const char *format, ...) DAVIT_PRINTF(2, 3);
static void print_line(const char *name, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    cleanup_buffer struct buffer line = BUFFER_INIT;
    printable_append_line(&line, text);
    (void)printf("  %-10s %s\n", name, buffer_text(&line));
}

static void print_adapter(const struct check *check) {
    char digest[HASH_HEX_BYTES];
    struct hash hash = hash_bytes(check->weights_file.data, check->weights_file.len);
    hash_hex(&hash, digest);
    cleanup_buffer struct buffer modules = BUFFER_INIT;
    size_t layers = adapter_modules(&check->weights, &modules);
    const json_t *alpha = json_object_get(check->config, "lora_alpha");
    (void)printf("adapter %s\n", check->folder);
    print_line("rank", "%lld, lora_alpha %g", (long long)json_int_at(check->config, "r", 0), json_number_value(alpha));
    print_line("modules", "%s in %zu layers", buffer_text(&modules), layers);
    print_line("weights", "%zu tensors, first %s, %.1f MB", check->weights.count,
               check->weights.count > 0 ? check->weights.tensors[0].type_name : "-", (double)check->weights_file.len / 1e6);
    print_line("digest", "sha256:%s", digest);
    print_line("trained on", "%s", json_string_at(check->config, "base_model_name_or_path", "(not said)"));
}

static void print_base(const char *path, const struct check_base *base) {
    (void)printf("base %s\n", path);
    print_line("kind", "%s, %s", base->architecture, base->format);
    print_line("shape", "%zu layers, hidden %zu, feed-forward %zu, attention %zu, key-value %zu, %zu tokens", base->shape.layers,
               base->shape.hidden, base->shape.inner, base->shape.attention, base->shape.key_value, base->shape.vocab);
}

/* ---- what engines would say ---- */

static void print_lines(const char *mark, const struct buffer *lines) {
    for (const char *at = buffer_text(lines); *at != '\0';) {
        const char *end = strchr(at, '\n');
        cleanup_free char *text = xstrndup(at, (size_t)(end - at));
        cleanup_buffer struct buffer line = BUFFER_INIT;
        printable_append_line(&line, text);
        (void)printf("    %s %s\n", mark, buffer_text(&line));
        at = end + 1;
    }
}

static bool print_verdict(enum engine_kind kind, const struct verdict *verdict) {
    bool is_refused = verdict->refusals.len > 0;
    (void)printf("  %-7s %s\n", engine_kind_name(kind),
                 is_refused                ? "would refuse it"
                 : verdict->doubts.len > 0 ? "would load it, but may not compute it as it was trained:"
                                           : "would load it");
    print_lines("-", &verdict->refusals);
    print_lines("?", &verdict->doubts);
    return !is_refused;
}

static int parse_engine(const char *name, enum engine_kind *ret_kind) {
    for (unsigned kind = 0; kind < ENGINE_KINDS; kind++) {
        if (strcasecmp(name, engine_kind_name((enum engine_kind)kind)) == 0) {
            *ret_kind = (enum engine_kind)kind;
            return 0;
        }
    }
    return -1;
}

static int run(struct check *check, const char *base_path, enum engine_kind only, int max_rank, struct error *err) {
    struct verdict verdicts[ENGINE_KINDS];
    if (read_config(check, err) < 0 || read_weights(check, err) < 0 || check_base_read(base_path, &check->base, err) < 0) {
        return command_failed("check", err);
    }
    const struct adapter_description adapter = {.config = check->config, .weights = &check->weights};
    verdicts_of(&adapter, &check->base.shape, max_rank, verdicts);
    if (check->base.refusal != NULL) {
        buffer_printf(&verdicts[ENGINE_DAVIT].refusals, "%s\n", check->base.refusal);
    }
    print_adapter(check);
    print_base(base_path, &check->base);
    (void)printf("engines, started with --max-lora-rank %d\n", max_rank);
    bool all_take_it = true;
    for (unsigned kind = 0; kind < ENGINE_KINDS; kind++) {
        if (only == ENGINE_KINDS || only == (enum engine_kind)kind) {
            all_take_it &= print_verdict((enum engine_kind)kind, &verdicts[kind]);
        }
        verdict_release(&verdicts[kind]);
    }
    return all_take_it ? 0 : 1;
}

int cli_check(int argc, char **argv) {
    const char *base = NULL, *engine = NULL;
    int64_t max_rank = MAX_RANK_DEFAULT;
    const struct option_spec table[] = {
        {.name = "base",
         .type = OPTION_STRING,
         .target = &base,
         .value_name = "MODEL",
         .help = "the base model: a GGUF file, or a Hugging Face folder with config.json"},
        {.name = "engine",
         .type = OPTION_STRING,
         .target = &engine,
         .value_name = "KIND",
         .help = "only this: davit, vllm or sglang"},
        {.name = "max-lora-rank",
         .type = OPTION_INT,
         .target = &max_rank,
         .value_name = "N",
         .help = "what the engine is started with (default 16)",
         .minimum = 1,
         .maximum = PEFT_RANK_MAX},
        {0},
    };
    const struct command command = {
        .name = "check",
        .arguments = "ADAPTER --base MODEL [options]",
        .description = "Says what the adapter in the folder ADAPTER is, and what each kind of engine would refuse and why.\n"
                       "Exit status: 0 when all would load it, 1 when one would refuse it or it cannot be read.",
        .options = table,
        .arguments_max = 1};
    struct error err = {0};
    enum engine_kind only = ENGINE_KINDS;
    int arguments = 0;
    int status = command_parse(&command, argc, argv, &arguments);
    if (status != COMMAND_GO_ON) {
        return status;
    }
    if (arguments != 1 || base == NULL) {
        error_set(&err, ERROR_INVALID, "expected the folder of an adapter and --base MODEL");
        return command_misused("check", &err);
    }
    if (engine != NULL && parse_engine(engine, &only) < 0) {
        error_set(&err, ERROR_INVALID, "--engine: expected davit, vllm or sglang, found \"%s\"", engine);
        return command_misused("check", &err);
    }
    struct check check = {.folder = argv[1], .weights_file = BUFFER_INIT};
    int result = run(&check, base, only, (int)max_rank, &err);
    check_release(&check);
    return result;
}
