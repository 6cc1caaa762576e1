#include "pages.h"

#include "words.h"

#include <string.h>

/* ---- lists ---- */

/* In lists of thousands all but two numbers of a card are the same each time. */
static void make_card(const char *owner, const char *name, const char *root, const char *parent, struct held *held) {
    struct buffer head = BUFFER_INIT, tail = BUFFER_INIT;
    buffer_append_text(&head, "{\"id\":");
    json_append_string(&head, name, strlen(name));
    buffer_append_text(&head, ",\"object\":\"model\",\"created\":");
    buffer_printf(&tail, ",\"owned_by\":\"%s\",\"root\":", owner);
    json_append_string(&tail, root, strlen(root));
    buffer_append_text(&tail, ",\"parent\":");
    if (parent != NULL) {
        json_append_string(&tail, parent, strlen(parent));
        buffer_append_text(&tail, ",\"max_model_len\":null");
    } else {
        buffer_append_text(&tail, "null,\"max_model_len\":1024");
    }
    held->card_head = buffer_take(&head);
    held->card_tail = buffer_take(&tail);
}

static void append_card(struct buffer *out, const struct engine *engine, const struct held *held, int64_t wall_s, uint64_t *turn) {
    buffer_append_text(out, held->card_head);
    buffer_printf(out, "%lld", (long long)wall_s);
    buffer_append_text(out, held->card_tail);
    if (engine->kind == KIND_VLLM) {
        *turn = *turn * 6364136223846793005u + 1442695040888963407u; /* Knuth's linear congruential generator */
        buffer_printf(out, ",\"permission\":[{\"id\":\"modelperm-%016llx\",\"object\":\"model_permission\",\"created\":%lld",
                      (unsigned long long)*turn, (long long)wall_s);
        buffer_append_text(out, ",\"allow_create_engine\":false,\"allow_sampling\":true,\"allow_logprobs\":true,"
                                "\"allow_search_indices\":false,\"allow_view\":true,\"allow_fine_tuning\":false,"
                                "\"organization\":\"*\",\"group\":null,\"is_blocking\":false}]");
    }
    buffer_append_char(out, '}');
}

void pages_list(const struct engine *engine, int64_t wall_s, struct buffer *out) {
    const char *base = engine->settings.base_model;
    const char *owner = engine->kind == KIND_SGLANG ? "sglang" : "vllm";
    uint64_t turn = (uint64_t)wall_s;
    cleanup_free char *base_root = engine->kind == KIND_SGLANG ? xstrdup(base) : xasprintf("/models/%s", base);
    struct held base_card = {0};
    make_card(owner, base, base_root, NULL, &base_card);
    buffer_append_text(out, "{\"object\":\"list\",\"data\":[");
    append_card(out, engine, &base_card, wall_s, &turn);
    free(base_card.card_head);
    free(base_card.card_tail);
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&engine->adapters, &at)) != NULL;) {
        struct held *held = entry->value;
        if (held->card_head == NULL) {
            make_card(owner, entry->key, engine->settings.root != NULL ? engine->settings.root : held->root, base, held);
        }
        buffer_append_char(out, ',');
        append_card(out, engine, held, wall_s, &turn);
    }
    buffer_append_text(out, "]}");
}

void pages_metrics(const struct engine *engine, int64_t wall_s, struct buffer *out) {
    if (engine->kind == KIND_SGLANG) {
        buffer_printf(out, "sglang:num_running_reqs{model_name=\"%s\"} 0.0\n", engine->settings.base_model);
        return;
    }
    buffer_printf(out, "vllm:num_requests_running{engine=\"0\",model_name=\"%s\"} 0.0\n", engine->settings.base_model);
    buffer_printf(out, "vllm:num_requests_waiting{engine=\"0\",model_name=\"%s\"} 0.0\n", engine->settings.base_model);
    /* vLLM names each of them in both. */
    const char *names = engine->asked_for != NULL ? engine->asked_for : "";
    buffer_printf(out,
                  "vllm:lora_requests_info{max_lora=\"%lld\",running_lora_adapters=\"%s\",waiting_lora_adapters=\"%s\"} %lld.0\n",
                  (long long)engine->settings.max_loras, names, names, (long long)wall_s);
}

/* ---- completions ---- */

/* FNV-1a: cheap, and any two names differ. */
static uint64_t mix(uint64_t hash, const char *text) {
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    }
    return hash;
}

/* Twelve bits of the hash each, so that two adapters of tens of thousands do not look alike by chance. */
static double logprob_of(uint64_t hash, size_t token) {
    return -0.5 - (double)token - (double)(hash >> (12 * token) & 0xfff) / 4096;
}

static void append_logprobs(const struct engine *engine, const struct asked *asked, const struct held *held, struct buffer *out) {
    static const char *const tokens[] = {"-", ",", " a", " the", " is"};
    uint64_t hash = mix(14695981039346656037u, asked->prompt != NULL ? asked->prompt : "");
    if (held != NULL && !engine->settings.no_effect) {
        hash = mix(mix(hash, asked->name), held->root);
    }
    buffer_printf(out, "{\"text_offset\":[0],\"token_logprobs\":[%.17g],\"tokens\":[\"-\"],\"top_logprobs\":[{",
                  logprob_of(hash, 0));
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
        buffer_printf(out, "%s\"%s\":%.17g", i > 0 ? "," : "", tokens[i], logprob_of(hash, i));
    }
    buffer_append_text(out, "}]}");
}

static void answer_unknown(const struct engine *engine, const struct asked *asked, struct answer *answer) {
    struct buffer message = BUFFER_INIT;
    if (engine->kind == KIND_SGLANG) {
        buffer_printf(&message, "Got LoRA adapter that has never been loaded: %s", asked->name);
        answer->status = 400;
        words_flat(&answer->body, 400, "BadRequestError", message.data);
    } else {
        buffer_printf(&message, "The model `%s` does not exist. Valid aliases: %s.", asked->name, engine->settings.base_model);
        answer->status = 404;
        words_nested(&answer->body, 404, "NotFoundError", "model", message.data);
    }
    buffer_release(&message);
}

void pages_completion(const struct engine *engine, const struct asked *asked, int64_t wall_s, struct answer *answer) {
    struct buffer *out = &answer->body;
    const struct held *held = asked->name[0] != '\0' ? map_get(&engine->adapters, asked->name) : NULL;
    answer->content_type = "application/json";
    if (asked->name[0] != '\0' && held == NULL) {
        answer_unknown(engine, asked, answer);
        return;
    }
    bool has_logprobs = json_is_integer(json_at(asked->body, "logprobs")) && !engine->settings.no_logprobs;
    answer->status = 200;
    buffer_printf(out, "{\"id\":\"cmpl-%016llx\",\"object\":\"text_completion\",\"created\":%lld,\"model\":",
                  (unsigned long long)mix(14695981039346656037u, asked->prompt != NULL ? asked->prompt : ""), (long long)wall_s);
    const char *model = json_string_at(asked->body, "model", engine->settings.base_model);
    json_append_string(out, model, strlen(model));
    buffer_append_text(out, ",\"choices\":[{\"index\":0,\"text\":\"-\",\"logprobs\":");
    if (has_logprobs) {
        append_logprobs(engine, asked, held, out);
    } else {
        buffer_append_text(out, "null");
    }
    buffer_append_text(out, ",\"finish_reason\":\"length\",\"stop_reason\":null,\"token_ids\":null,\"prompt_logprobs\":null,"
                            "\"prompt_token_ids\":null,\"routed_experts\":null}],\"service_tier\":null,"
                            "\"system_fingerprint\":\"vllm-0.32.0-e99a68a3\",\"usage\":{\"prompt_tokens\":1,\"total_tokens\":2,"
                            "\"completion_tokens\":1,\"prompt_tokens_details\":null,\"completion_tokens_details\":null},"
                            "\"kv_transfer_params\":null,\"ec_transfer_params\":null,\"metrics\":null}");
}
