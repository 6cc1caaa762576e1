#include "base/json_cursor.h"
#include "dialect/dialect.h"

#include <string.h>

#define MODELS_MAX 100000

void dialect_models_release(struct dialect_models *models) {
    for (size_t i = 0; i < models->count; i++) {
        free((char *)models->items[i].id);
    }
    free(models->items);
    *models = (struct dialect_models){0};
}

/* An adapter names its parent. Engines that name none (vLLM's Rust frontend, AIBrix's mock engine) still list the base first, and
 * give a context length to base models only. */
static const char *parent_of(const json_t *card, size_t at) {
    const char *parent = json_string_at(card, "parent", NULL);
    if (parent != NULL) {
        return parent;
    }
    bool is_base = at == 0 || json_is_integer(json_at(card, "max_model_len"));
    return is_base ? NULL : "";
}

/* The card's texts, one behind the other: a list may hold thousands. 0, or -1 when it has no id. */
static int read_card(const json_t *card, size_t at, struct dialect_model *ret_model) {
    const char *id = json_string_at(card, "id", NULL), *root = json_string_at(card, "root", ""), *parent = parent_of(card, at);
    if (id == NULL) {
        return -1;
    }
    size_t id_bytes = strlen(id) + 1, root_bytes = strlen(root) + 1, parent_bytes = parent != NULL ? strlen(parent) + 1 : 0;
    char *texts = xmalloc(id_bytes + root_bytes + parent_bytes);
    memcpy(texts, id, id_bytes);
    memcpy(texts + id_bytes, root, root_bytes);
    if (parent != NULL) {
        memcpy(texts + id_bytes + root_bytes, parent, parent_bytes);
    }
    *ret_model = (struct dialect_model){.id = texts,
                                        .root = texts + id_bytes,
                                        .parent = parent != NULL ? texts + id_bytes + root_bytes : NULL,
                                        .is_davit = strcmp(json_string_at(card, "owned_by", ""), "davit") == 0};
    return 0;
}

/* Card by card, so that a long list is never in memory as JSON values. false: it is not as it should be, which parse_whole says. */
static bool read_cards(struct json_cursor *cursor, struct dialect_models *models) {
    size_t room = 0;
    if (!json_cursor_take(cursor, '[')) {
        return false;
    }
    for (bool is_empty = json_cursor_take(cursor, ']'); !is_empty;) {
        json_cursor_blanks(cursor);
        const char *begin = cursor->at;
        struct error err;
        bool is_card = models->count < MODELS_MAX && json_cursor_skip(cursor);
        cleanup_json json_t *card = is_card ? json_parse(begin, (size_t)(cursor->at - begin), &err) : NULL;
        if (models->count == room) {
            room = room > 0 ? 2 * room : 16;
            models->items = xrealloc(models->items, room * sizeof(*models->items));
        }
        if (card == NULL || read_card(card, models->count, &models->items[models->count]) < 0) {
            return false;
        }
        models->count++;
        if (!json_cursor_take(cursor, ',')) {
            return json_cursor_take(cursor, ']');
        }
    }
    return true;
}

static bool parse_cards(const char *body, size_t len, struct dialect_models *models) {
    struct json_cursor cursor = {body, body + len};
    struct json_span key;
    bool has_data = false;
    if (!json_cursor_take(&cursor, '{')) {
        return false;
    }
    for (size_t count = 0; json_cursor_member(&cursor, count, &key); count++) {
        bool is_data = json_span_is(&key, "data");
        if (key.text == NULL || (is_data && has_data) || !(is_data ? read_cards(&cursor, models) : json_cursor_skip(&cursor))) {
            return false;
        }
        has_data |= is_data;
    }
    bool is_over = json_cursor_take(&cursor, '}');
    json_cursor_blanks(&cursor);
    return is_over && has_data && cursor.at == cursor.end;
}

static int parse_whole(const char *body, size_t len, struct dialect_models *models, struct error *err) {
    cleanup_json json_t *parsed = json_parse(body, len, err);
    if (parsed == NULL) {
        return error_wrap(err, "list of models");
    }
    const json_t *data = json_at(parsed, "data");
    size_t count = json_array_size(data);
    if (!json_is_array(data) || count > MODELS_MAX) {
        return error_set(err, ERROR_INVALID, "list of models: expected an object with an array \"data\" of at most %d", MODELS_MAX);
    }
    models->items = xcalloc(count > 0 ? count : 1, sizeof(*models->items));
    for (; models->count < count; models->count++) {
        if (read_card(json_array_get(data, models->count), models->count, &models->items[models->count]) < 0) {
            return error_set(err, ERROR_INVALID, "list of models: data[%zu] has no id", models->count);
        }
    }
    return 0;
}

int dialect_parse_models(const char *body, size_t len, struct dialect_models *ret_models, struct error *err) {
    struct dialect_models models = {0};
    if (!parse_cards(body, len, &models)) {
        dialect_models_release(&models);
        if (parse_whole(body, len, &models, err) < 0) {
            dialect_models_release(&models);
            return -1;
        }
    }
    *ret_models = models;
    return 0;
}

/* ---- the digest ---- */

#define CARD_DEPTH 3 /* {"data": [ { */

struct scan {
    const char *at, *end;
    int depth;
    bool is_key;     /* the next string in a card is a member's name */
    bool is_counted; /* the value that comes is part of the digest */
    uint64_t hash;
};

static void add_bytes(struct scan *scan, const char *bytes, size_t len) {
    for (const char *end = bytes + len; bytes < end; bytes++) { /* FNV-1a */
        scan->hash = (scan->hash ^ (unsigned char)*bytes) * 1099511628211u;
    }
}

static bool is_counted_name(const char *name, size_t len) {
    static const char *const names[] = {"id", "root", "parent", "owned_by", "max_model_len"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0) {
            return true;
        }
    }
    return false;
}

/* At the quote that opens a string. false: it does not end, or is a member's name written with escapes. */
static bool scan_string(struct scan *scan) {
    const char *begin = ++scan->at;
    bool has_escape = false;
    for (;; scan->at++) {
        scan->at = memchr(scan->at, '"', (size_t)(scan->end - scan->at));
        if (scan->at == NULL) {
            return false;
        }
        size_t backslashes = 0;
        while (scan->at - backslashes > begin && scan->at[-1 - (ptrdiff_t)backslashes] == '\\') {
            backslashes++;
        }
        has_escape |= backslashes > 0;
        if (backslashes % 2 == 0) {
            break;
        }
    }
    size_t len = (size_t)(scan->at - begin);
    bool is_name = scan->depth == CARD_DEPTH && scan->is_key;
    if (is_name && (has_escape || memchr(begin, '\\', len) != NULL)) {
        return false;
    }
    if (is_name) {
        scan->is_counted = is_counted_name(begin, len);
    }
    if (scan->depth == CARD_DEPTH && scan->is_counted) {
        add_bytes(scan, begin - 1, len + 2); /* with its quotes */
    }
    scan->at++;
    return true;
}

uint64_t dialect_models_digest(const char *body, size_t len) {
    struct scan scan = {.at = body, .end = body + len, .hash = 14695981039346656037u};
    while (scan.at < scan.end) {
        char c = *scan.at;
        if (c == '"') {
            if (!scan_string(&scan)) {
                return 0;
            }
            continue;
        }
        if (c == '{' || c == '[') {
            scan.depth++;
            scan.is_key = c == '{' && scan.depth == CARD_DEPTH;
            scan.is_counted &= scan.depth != CARD_DEPTH;
        } else if (c == '}' || c == ']') {
            if (scan.depth-- == CARD_DEPTH) {
                add_bytes(&scan, "}", 1);
            }
        } else if (scan.depth == CARD_DEPTH && (c == ',' || c == ':')) {
            scan.is_key = c == ',';
        } else if (scan.depth == CARD_DEPTH && scan.is_counted && !scan.is_key && c > ' ') {
            add_bytes(&scan, &c, 1); /* null, a number */
        }
        scan.at++;
    }
    return scan.depth == 0 && scan.hash != 0 ? scan.hash : 0;
}
