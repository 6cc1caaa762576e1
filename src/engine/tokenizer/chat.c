#include "engine/tokenizer/tokenizer.h"

#include <string.h>

/* The chat template of SmolLM2-Instruct: ChatML with this system message where the conversation brings none. */
#define DEFAULT_SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

static void render_message(const char *role, const char *content, size_t len, struct buffer *out) {
    buffer_append_text(out, "<|im_start|>");
    buffer_append_text(out, role);
    buffer_append_text(out, "\n");
    buffer_append(out, content, len);
    buffer_append_text(out, "<|im_end|>\n");
}

void tokenizer_render_chat(const struct chat_message *messages, size_t count, bool add_generation_prompt, struct buffer *out) {
    if (count > 0 && strcmp(messages[0].role, "system") != 0) {
        render_message("system", DEFAULT_SYSTEM, sizeof(DEFAULT_SYSTEM) - 1, out);
    }
    for (size_t i = 0; i < count; i++) {
        render_message(messages[i].role, messages[i].content, messages[i].content_len, out);
    }
    if (add_generation_prompt) {
        buffer_append_text(out, "<|im_start|>assistant\n");
    }
}
