#include "engine/tokenizer/tokenizer.h"

#include "engine/format/gguf.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/split.h"

#include <stdint.h>
#include <string.h>

#define VOCAB_MAX (1u << 22)
#define TOKEN_TYPE_CONTROL 3 /* llama.cpp, LLAMA_TOKEN_TYPE_CONTROL */

struct special {
    const char *text;
    size_t len;
    int id;
};

struct tokenizer {
    int vocab_size;
    int bos;
    int eos;
    bool adds_bos;
    char *bytes;       /* what every token stands for, one after the other */
    size_t *offsets;   /* vocab_size + 1 */
    bool *is_special;  /* by id */
    int byte_ids[256]; /* -1: the vocabulary has no token for the byte, which is then dropped, as Hugging Face and llama.cpp do */
    uint64_t shares[256]; /* what a byte of text adds to the number of tokens at the least, in units of 2^-32 */
    struct special *specials;
    size_t special_count;
    bool special_starts[256];
    struct bpe bpe;
    struct split *split;
};

/* ---- GPT-2's alphabet: every byte is written as a printable character ---- */

/* Bytes that stand for themselves; the others are U+0100, U+0101, ... in order (openai/gpt-2, encoder.py, bytes_to_unicode). */
static bool is_plain_byte(int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

struct alphabet {
    int byte_of[512]; /* by code point, -1 = none */
};

static void alphabet_init(struct alphabet *alphabet) {
    int next = 256;
    memset(alphabet->byte_of, 0xff, sizeof(alphabet->byte_of));
    for (int byte = 0; byte < 256; byte++) {
        alphabet->byte_of[is_plain_byte(byte) ? byte : next++] = byte;
    }
}

/* Writes the bytes that `text` stands for; false when it holds a character that is not of the alphabet. */
static bool alphabet_decode(const struct alphabet *alphabet, struct gguf_string text, char *out, size_t *ret_len) {
    size_t count = 0;
    for (size_t at = 0; at < text.len;) {
        int len = utf8_sequence_len(text.bytes + at, text.len - at);
        const unsigned char *bytes = (const unsigned char *)text.bytes + at;
        int code = len == 1 ? bytes[0] : len == 2 ? (bytes[0] & 0x1f) << 6 | (bytes[1] & 0x3f) : -1;
        if (code < 0 || code >= (int)ARRAY_LEN(alphabet->byte_of) || alphabet->byte_of[code] < 0) {
            return false;
        }
        out[count++] = (char)alphabet->byte_of[code];
        at += (size_t)len;
    }
    *ret_len = count;
    return true;
}

/* ---- building ---- */

/* Token ids by the text of the vocabulary; only needed while building. Open addressing. */
struct text_index {
    struct gguf_string *texts; /* by id; borrowed from the GGUF */
    int *slots;
    size_t mask;
};

static size_t text_hash(const char *bytes, size_t len) {
    uint64_t hash = 1469598103934665603U;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211U;
    }
    return (size_t)(hash ^ hash >> 32);
}

static int *text_slot(const struct text_index *index, const char *bytes, size_t len) {
    size_t slot = text_hash(bytes, len) & index->mask;
    for (; index->slots[slot] >= 0; slot = (slot + 1) & index->mask) {
        const struct gguf_string *text = &index->texts[index->slots[slot]];
        if (text->len == len && memcmp(text->bytes, bytes, len) == 0) {
            break;
        }
    }
    return &index->slots[slot];
}

static void text_index_init(struct text_index *index, struct gguf_array tokens) {
    size_t slot_count = 16;
    while (slot_count < tokens.count * 2) {
        slot_count *= 2;
    }
    size_t count = tokens.count;
    index->texts = xcalloc(count, sizeof(*index->texts));
    index->slots = xmalloc(slot_count * sizeof(*index->slots));
    index->mask = slot_count - 1;
    memset(index->slots, 0xff, slot_count * sizeof(*index->slots));
    for (size_t id = 0; id < count; id++) {
        index->texts[id] = gguf_array_next_string(&tokens);
        int *slot = text_slot(index, index->texts[id].bytes, index->texts[id].len);
        *slot = *slot >= 0 ? *slot : (int)id;
    }
}

static void text_index_release(struct text_index *index) {
    free(index->texts);
    free(index->slots);
}

/* What each token stands for, and which are special. */
static int build_vocabulary(struct tokenizer *tokenizer, const struct text_index *index, const struct gguf_array *types,
                            struct error *err) {
    struct alphabet alphabet;
    size_t total = 0;
    size_t count = (size_t)tokenizer->vocab_size;
    alphabet_init(&alphabet);
    memset(tokenizer->byte_ids, 0xff, sizeof(tokenizer->byte_ids));
    for (size_t id = 0; id < count; id++) {
        total += index->texts[id].len;
    }
    tokenizer->bytes = xmalloc(total);
    tokenizer->offsets = xcalloc(count + 1, sizeof(*tokenizer->offsets));
    tokenizer->is_special = xcalloc(count, sizeof(*tokenizer->is_special));
    tokenizer->specials = xcalloc(count, sizeof(*tokenizer->specials));
    for (size_t id = 0; id < count; id++) {
        struct gguf_string text = index->texts[id];
        char *out = tokenizer->bytes + tokenizer->offsets[id];
        size_t len = text.len;
        if (gguf_array_int32(types, id) == TOKEN_TYPE_CONTROL && len > 0) {
            memcpy(out, text.bytes, len);
            tokenizer->is_special[id] = true;
            tokenizer->special_starts[(unsigned char)text.bytes[0]] = true;
            tokenizer->specials[tokenizer->special_count++] = (struct special){.text = out, .len = len, .id = (int)id};
        } else if (!alphabet_decode(&alphabet, text, out, &len)) {
            return error_set(err, ERROR_INVALID, "tokenizer.ggml.tokens: token %zu holds a character outside the GPT-2 alphabet",
                             id);
        } else if (len == 1) {
            tokenizer->byte_ids[(unsigned char)out[0]] = (int)id;
        }
        tokenizer->offsets[id + 1] = tokenizer->offsets[id] + len;
    }
    return 0;
}

/* No token that holds a byte is longer than the longest that does, so each such byte is at least 1 / its length of a token; a byte
 * that is dropped adds nothing. */
static void build_shares(struct tokenizer *tokenizer) {
    size_t longest[256] = {0};
    for (size_t id = 0; id < (size_t)tokenizer->vocab_size; id++) {
        size_t len = tokenizer->offsets[id + 1] - tokenizer->offsets[id];
        for (size_t at = tokenizer->offsets[id]; at < tokenizer->offsets[id + 1]; at++) {
            unsigned char byte = (unsigned char)tokenizer->bytes[at];
            longest[byte] = len > longest[byte] ? len : longest[byte];
        }
    }
    for (size_t byte = 0; byte < 256; byte++) {
        tokenizer->shares[byte] = tokenizer->byte_ids[byte] >= 0 ? ((uint64_t)1 << 32) / longest[byte] : 0;
    }
}

/* A merge is "left right", both in the alphabet, which has no space. */
static int build_merges(struct tokenizer *tokenizer, const struct text_index *index, struct gguf_array merges, struct error *err) {
    cleanup_buffer struct buffer joined = BUFFER_INIT;
    size_t count = merges.count;
    bpe_init(&tokenizer->bpe, count);
    for (size_t rank = 0; rank < count; rank++) {
        struct gguf_string merge = gguf_array_next_string(&merges);
        const char *space = merge.len > 1 ? memchr(merge.bytes + 1, ' ', merge.len - 1) : NULL;
        if (space == NULL) {
            return error_set(err, ERROR_INVALID, "tokenizer.ggml.merges: entry %zu is not a pair", rank);
        }
        size_t left_len = (size_t)(space - merge.bytes);
        buffer_clear(&joined);
        buffer_append(&joined, merge.bytes, left_len);
        buffer_append(&joined, space + 1, merge.len - left_len - 1);
        int left = *text_slot(index, merge.bytes, left_len);
        int right = *text_slot(index, space + 1, merge.len - left_len - 1);
        int merged = *text_slot(index, joined.data, joined.len);
        if (left < 0 || right < 0 || merged < 0) {
            return error_set(err, ERROR_INVALID, "tokenizer.ggml.merges: entry %zu names a token that the vocabulary lacks", rank);
        }
        bpe_add(&tokenizer->bpe, left, right, (uint32_t)rank, merged);
    }
    return 0;
}

static int read_settings(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *err) {
    struct gguf_string model;
    struct gguf_string rule;
    uint64_t bos = 0;
    uint64_t eos = 0;
    if (gguf_get_string(gguf, "tokenizer.ggml.model", &model, err) < 0 ||
        gguf_get_string(gguf, "tokenizer.ggml.pre", &rule, err) < 0) {
        return -1;
    }
    if (model.len != 4 || memcmp(model.bytes, "gpt2", 4) != 0) {
        return error_set(err, ERROR_UNSUPPORTED, "tokenizer model \"%.*s\" (tokenizer.ggml.model) is not supported; \"gpt2\" is",
                         model.len < 64 ? (int)model.len : 64, model.bytes);
    }
    uint64_t last = (uint64_t)tokenizer->vocab_size - 1;
    if (split_new(rule.bytes, rule.len, &tokenizer->split, err) < 0 ||
        gguf_get_uint(gguf, "tokenizer.ggml.bos_token_id", last, &bos, err) < 0 ||
        gguf_get_uint(gguf, "tokenizer.ggml.eos_token_id", last, &eos, err) < 0) {
        return -1;
    }
    tokenizer->bos = (int)bos;
    tokenizer->eos = (int)eos;
    return gguf_has(gguf, "tokenizer.ggml.add_bos_token")
               ? gguf_get_bool(gguf, "tokenizer.ggml.add_bos_token", &tokenizer->adds_bos, err)
               : 0;
}

int tokenizer_new(const struct gguf *gguf, struct tokenizer **ret_tokenizer, struct error *err) {
    struct gguf_array tokens;
    struct gguf_array types;
    struct gguf_array merges;
    if (gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, err) < 0 ||
        gguf_get_array(gguf, "tokenizer.ggml.token_type", GGUF_INT32, &types, err) < 0 ||
        gguf_get_array(gguf, "tokenizer.ggml.merges", GGUF_STRING, &merges, err) < 0) {
        return -1;
    }
    if (tokens.count == 0 || tokens.count > VOCAB_MAX || types.count != tokens.count || merges.count > VOCAB_MAX) {
        return error_set(err, ERROR_INVALID,
                         "tokenizer: %zu tokens, %zu token types, %zu merges; 1 to %u tokens and as many types are expected",
                         tokens.count, types.count, merges.count, VOCAB_MAX);
    }
    struct tokenizer *tokenizer = xcalloc(1, sizeof(*tokenizer));
    struct text_index index;
    tokenizer->vocab_size = (int)tokens.count;
    text_index_init(&index, tokens);
    int result = read_settings(tokenizer, gguf, err);
    result = result < 0 ? result : build_vocabulary(tokenizer, &index, &types, err);
    result = result < 0 ? result : build_merges(tokenizer, &index, merges, err);
    if (result == 0) {
        build_shares(tokenizer);
    }
    text_index_release(&index);
    if (result < 0) {
        tokenizer_free(tokenizer);
        return -1;
    }
    *ret_tokenizer = tokenizer;
    return 0;
}

void tokenizer_free(struct tokenizer *tokenizer) {
    if (tokenizer == NULL) {
        return;
    }
    split_free(tokenizer->split);
    bpe_release(&tokenizer->bpe);
    free(tokenizer->specials);
    free(tokenizer->is_special);
    free(tokenizer->offsets);
    free(tokenizer->bytes);
    free(tokenizer);
}

/* ---- text to ids ---- */

void token_list_release(struct token_list *list) {
    free(list->ids);
    *list = (struct token_list){0};
}

static void token_list_reserve(struct token_list *list, size_t more) {
    if (list->capacity - list->count < more) {
        list->capacity = list->count + more > 2 * list->capacity ? list->count + more : 2 * list->capacity;
        list->ids = xrealloc(list->ids, list->capacity * sizeof(*list->ids));
    }
}

struct encoding {
    const struct tokenizer *tokenizer;
    struct token_list *out;
    size_t limit; /* of out->count */
    struct error *err;
};

static int too_many(const struct encoding *encoding) {
    return error_set(encoding->err, ERROR_LIMIT, "the text has more than %zu tokens", encoding->limit);
}

static int check_limit(const struct encoding *encoding) {
    return encoding->out->count <= encoding->limit ? 0 : too_many(encoding);
}

/* Whether the text has more than `limit` tokens however it is merged: found out without merging, since a long piece takes its time
 * and memory. */
static bool cannot_fit(const struct tokenizer *tokenizer, const char *text, size_t len, size_t limit) {
    uint64_t shares = 0;
    for (size_t i = 0; i < len; i++) {
        shares += tokenizer->shares[(unsigned char)text[i]];
    }
    return shares >> 32 > limit;
}

static int encode_piece(void *arg, const char *piece, size_t len) {
    struct encoding *encoding = arg;
    struct token_list *out = encoding->out;
    size_t count = 0;
    token_list_reserve(out, len);
    int *ids = out->ids + out->count;
    for (size_t i = 0; i < len; i++) {
        int id = encoding->tokenizer->byte_ids[(unsigned char)piece[i]];
        if (id >= 0) {
            ids[count++] = id;
        }
    }
    out->count += bpe_apply(&encoding->tokenizer->bpe, ids, count);
    return check_limit(encoding);
}

/* The longest special token at the start of the text. */
static const struct special *match_special(const struct tokenizer *tokenizer, const char *text, size_t len) {
    const struct special *best = NULL;
    if (!tokenizer->special_starts[(unsigned char)text[0]]) {
        return NULL;
    }
    for (size_t i = 0; i < tokenizer->special_count; i++) {
        const struct special *special = &tokenizer->specials[i];
        if (special->len <= len && memcmp(special->text, text, special->len) == 0 && (best == NULL || special->len > best->len)) {
            best = special;
        }
    }
    return best;
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t len, bool parse_special, size_t limit,
                     struct token_list *out, struct error *err) {
    struct encoding encoding = {.tokenizer = tokenizer, .out = out, .err = err};
    size_t start = 0;
    if (__builtin_add_overflow(out->count, limit, &encoding.limit)) {
        encoding.limit = SIZE_MAX;
    }
    if (cannot_fit(tokenizer, text, len, limit)) {
        return too_many(&encoding);
    }
    for (size_t at = 0; parse_special && at < len;) {
        const struct special *special = match_special(tokenizer, text + at, len - at);
        if (special == NULL) {
            at++;
            continue;
        }
        if (split_each(tokenizer->split, text + start, at - start, encode_piece, &encoding) < 0) {
            return -1;
        }
        token_list_reserve(out, 1);
        out->ids[out->count++] = special->id;
        if (check_limit(&encoding) < 0) {
            return -1;
        }
        at += special->len;
        start = at;
    }
    return split_each(tokenizer->split, text + start, len - start, encode_piece, &encoding);
}

/* ---- ids to text ---- */

void tokenizer_decode_append(const struct tokenizer *tokenizer, int token, bool skip_special, struct buffer *out) {
    if (token < 0 || token >= tokenizer->vocab_size || (skip_special && tokenizer->is_special[token])) {
        return;
    }
    buffer_append(out, tokenizer->bytes + tokenizer->offsets[token], tokenizer->offsets[token + 1] - tokenizer->offsets[token]);
}

size_t tokenizer_complete_utf8(const char *text, size_t len) {
    size_t at = 0;
    for (int sequence = 0; at < len && (sequence = utf8_sequence_len(text + at, len - at)) >= 0;) {
        at += sequence > 0 ? (size_t)sequence : 1; /* what can never become a character need not be waited for */
    }
    return at;
}

int tokenizer_vocab_size(const struct tokenizer *tokenizer) {
    return tokenizer->vocab_size;
}

int tokenizer_bos(const struct tokenizer *tokenizer) {
    return tokenizer->bos;
}

int tokenizer_eos(const struct tokenizer *tokenizer) {
    return tokenizer->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *tokenizer) {
    return tokenizer->adds_bos;
}
