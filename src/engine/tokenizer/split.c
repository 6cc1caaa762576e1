#include "engine/tokenizer/split.h"

#include <stdint.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* White space as the GPT-2 pattern of the regex crate and of llama.cpp understands it; PCRE2's \s differs at U+180E. */
#define W "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

/* One pattern a rule. `smollm` is "each digit alone, then GPT-2's pattern" (llama.cpp, src/llama-vocab.cpp,
 * LLAMA_VOCAB_PRE_TYPE_SMOLLM) put into one. */
static const struct {
    const char *name;
    const char *pattern;
} rules[] = {
    {"smollm", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+|\\p{N}| ?[^" W "\\p{L}\\p{N}]+|[" W "]+(?=\\p{N})|[" W "]+(?![^" W "])|[" W "]+"},
};

struct split {
    pcre2_code *code;
};

int split_new(const char *rule, size_t rule_len, struct split **ret_split, struct error *err) {
    const char *pattern = NULL;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (strlen(rules[i].name) == rule_len && memcmp(rules[i].name, rule, rule_len) == 0) {
            pattern = rules[i].pattern;
        }
    }
    if (pattern == NULL) {
        return error_set(err, ERROR_UNSUPPORTED, "split rule \"%.*s\" (tokenizer.ggml.pre) is not supported; \"smollm\" is",
                         rule_len < 64 ? (int)rule_len : 64, rule);
    }
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
    if (compiled == NULL) {
        return error_set(err, ERROR_INTERNAL, "the split pattern does not compile: PCRE2 error %d at offset %zu", code,
                         (size_t)offset);
    }
    (void)pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE); /* where there is no JIT the interpreter does the same */
    *ret_split = xcalloc(1, sizeof(**ret_split));
    (*ret_split)->code = compiled;
    return 0;
}

void split_free(struct split *split) {
    if (split != NULL) {
        pcre2_code_free(split->code);
        free(split);
    }
}

/* RFC 3629, section 4: the range of the second byte by the first. */
static int sequence_need(unsigned char first, unsigned char *ret_low, unsigned char *ret_high) {
    *ret_low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    *ret_high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xc2 && first <= 0xdf) {
        return 2;
    }
    if (first >= 0xe0 && first <= 0xef) {
        return 3;
    }
    return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

int utf8_sequence_len(const char *text, size_t len) {
    const unsigned char *bytes = (const unsigned char *)text;
    unsigned char low = 0;
    unsigned char high = 0;
    if (len == 0) {
        return -1;
    }
    int need = sequence_need(bytes[0], &low, &high);
    for (int i = 1; i < need; i++) {
        if ((size_t)i >= len) {
            return -1;
        }
        if (bytes[i] < low || bytes[i] > high) {
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return need;
}

/* Pieces of valid UTF-8; what the pattern does not match (nothing, by its construction) comes as one piece. */
static int split_valid(const struct split *split, pcre2_match_data *match, const char *text, size_t len, split_fn *fn, void *arg) {
    size_t at = 0;
    while (at < len) {
        int result = pcre2_match(split->code, (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK, match, NULL);
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(match);
        size_t end = result > 0 && range[0] == at && range[1] > at ? range[1] : len;
        int called = fn(arg, text + at, end - at);
        if (called < 0) {
            return called;
        }
        at = end;
    }
    return 0;
}

int split_each(const struct split *split, const char *text, size_t len, split_fn *fn, void *arg) {
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    int result = 0;
    size_t at = 0;
    if (match == NULL) {
        abort(); /* a few bytes: as xmalloc does */
    }
    while (result >= 0 && at < len) {
        size_t end = at;
        for (int sequence = 0; end < len && (sequence = utf8_sequence_len(text + end, len - end)) > 0;) {
            end += (size_t)sequence;
        }
        result = end > at ? split_valid(split, match, text + at, end - at, fn, arg) : fn(arg, text + at, 1);
        at = end > at ? end : at + 1;
    }
    pcre2_match_data_free(match);
    return result;
}
