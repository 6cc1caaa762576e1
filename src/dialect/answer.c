/* Answers to load and unload, classified. Statuses differ between versions (a rank that is too high is 400 in old and 500 in new
 * releases of vLLM), so the constant parts of messages decide first. */
#include "dialect/dialect.h"

#include <ctype.h>
#include <string.h>

/* ---- the engine's words ---- */

static void copy_clean(const char *text, size_t len, char *out, size_t room) {
    struct buffer quoted = BUFFER_INIT;
    size_t taken = len < 4 * room ? len : 4 * room;
    json_append_string(&quoted, text, taken); /* invalid UTF-8 becomes U+FFFD */
    json_t *value = json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    const char *clean = json_string_value(value);
    size_t clean_len = json_string_length(value);
    size_t at = 0;
    for (size_t i = 0; i < clean_len && at + 1 < room; i++) {
        unsigned char byte = (unsigned char)clean[i];
        out[at++] = byte < 0x20 || byte == 0x7f ? ' ' : (char)byte;
    }
    if (at + 1 == room && at < clean_len) { /* cut: not within a character */
        while (at > 0 && ((unsigned char)clean[at] & 0xc0) == 0x80) {
            at--;
        }
    }
    while (at > 0 && out[at - 1] == ' ') {
        at--;
    }
    out[at] = '\0';
    json_decref(value);
    buffer_release(&quoted);
}

static const json_t *message_in(const json_t *body) {
    static const char *const members[] = {"error.message", "error", "message", "error_message", "detail"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const json_t *value = json_at(body, members[i]);
        if (json_is_string(value)) {
            return value;
        }
    }
    /* FastAPI's validation errors: {"detail":[{"msg":...}]} */
    return json_at(json_array_get(json_at(body, "detail"), 0), "msg");
}

void dialect_error_message(const char *body, size_t len, char *ret_message, size_t room) {
    json_t *parsed = len > 0 ? json_parse(body, len, NULL) : NULL;
    const json_t *message = json_is_object(parsed) ? message_in(parsed) : parsed;
    if (json_is_string(message)) {
        copy_clean(json_string_value(message), json_string_length(message), ret_message, room);
    } else {
        copy_clean(body, len, ret_message, room);
    }
    json_decref(parsed);
}

/* ---- outcomes ---- */

struct phrase {
    const char *text; /* lower case; both must occur */
    const char *also; /* or NULL */
    enum dialect_outcome outcome;
};

static const struct phrase load_phrases[] = {
    {"already", "loaded", DIALECT_ALREADY_LOADED}, /* vLLM; some releases wrote "beenloaded" */
    {"already exists", NULL, DIALECT_ALREADY_LOADED},
    {"lora is not enabled", NULL, DIALECT_DISABLED},
    {"enable-lora", NULL, DIALECT_DISABLED},
    {"conflicts with a served base model", NULL, DIALECT_PERMANENT},
    {"no adapter found", NULL, DIALECT_PERMANENT},
    {"lora rank", NULL, DIALECT_PERMANENT},
    {"max_lora_rank", NULL, DIALECT_PERMANENT},
    {"support dora", NULL, DIALECT_PERMANENT},
    {"modules_to_save", NULL, DIALECT_PERMANENT},
    {"adapter bias", NULL, DIALECT_PERMANENT},
    {"target modules", NULL, DIALECT_PERMANENT},
    {"contain tensors", NULL, DIALECT_PERMANENT},
    {"missing required configuration", NULL, DIALECT_PERMANENT},
    {"unsupported lora weight", NULL, DIALECT_PERMANENT},
    {"vocabulary size", NULL, DIALECT_PERMANENT},
    {"deserializing header", NULL, DIALECT_PERMANENT},
    {"expecting property name", NULL, DIALECT_PERMANENT},
    {"lora path", "not found", DIALECT_PERMANENT},
    {"unsupported url scheme", NULL, DIALECT_PERMANENT},
    {"artifact not found", NULL, DIALECT_PERMANENT},
    {"permission denied", NULL, DIALECT_FAILED}, /* the store's; the right may be given at any time */
    {"invalid lora_name", NULL, DIALECT_PERMANENT},
    {"lora name must", NULL, DIALECT_PERMANENT},
    {"trying to evict lru lora", NULL, DIALECT_BUSY},
    {"max_loras_per_batch", NULL, DIALECT_BUSY},
    {"which is the limit", NULL, DIALECT_BUSY}, /* Davit's engine, with 503 and Retry-After */
    {"waiting already", NULL, DIALECT_BUSY},
};

static const struct phrase unload_phrases[] = {
    {"cannot be found", NULL, DIALECT_NOT_LOADED},
    {"does not exist", NULL, DIALECT_NOT_LOADED},
    {"lora adapter", "not found", DIALECT_NOT_LOADED},
};

/* What our sidecar says in "reason" of an artifact, which decides before its words and its status do: an engine that was not asked
 * is not unreachable, and a store that wants a key is no engine that wants one. */
static const struct {
    const char *reason;
    enum dialect_outcome outcome;
} artifact_reasons[] = {
    {"ArtifactNotFound", DIALECT_PERMANENT},     {"ArtifactInvalid", DIALECT_PERMANENT},
    {"ArtifactChanged", DIALECT_PERMANENT},      {"ArtifactTooLarge", DIALECT_PERMANENT},
    {"ArtifactUnsupported", DIALECT_PERMANENT},  {"ArtifactUnauthorized", DIALECT_UNAUTHORIZED},
    {"ArtifactForbidden", DIALECT_UNAUTHORIZED}, {"ArtifactUnavailable", DIALECT_FAILED},
    {"ArtifactTimeout", DIALECT_FAILED},         {"DiskError", DIALECT_FAILED},
};

static bool is_about_artifact(const json_t *body, struct dialect_answer *answer) {
    const char *reason = json_string_at(body, "reason", "");
    for (size_t i = 0; i < ARRAY_LEN(artifact_reasons); i++) {
        if (strcmp(artifact_reasons[i].reason, reason) == 0) {
            answer->reason = artifact_reasons[i].reason;
            answer->outcome = artifact_reasons[i].outcome;
            return true;
        }
    }
    return false;
}

static bool is_route_missing(int status, const char *message) {
    /* FastAPI's own body for an unmatched route. An adapter that is missing has an error object and other words. */
    return (status == 404 && strcasecmp(message, "not found") == 0) || status == 405;
}

static const struct phrase *find_phrase(const struct phrase *phrases, size_t count, const char *message) {
    for (size_t i = 0; i < count; i++) {
        if (strcasestr(message, phrases[i].text) != NULL &&
            (phrases[i].also == NULL || strcasestr(message, phrases[i].also) != NULL)) {
            return &phrases[i];
        }
    }
    return NULL;
}

static bool is_refused_by_flag(const char *body, size_t len) {
    json_t *parsed = len > 0 ? json_parse(body, len, NULL) : NULL;
    bool is_refused = json_is_false(json_at(parsed, "success")); /* SGLang says it in the body, too */
    json_decref(parsed);
    return is_refused;
}

/* What a status means when no phrase decided. */
static enum dialect_outcome outcome_of_status(enum dialect dialect, int status, const char *message) {
    switch (status) {
    case 401:
    case 403:
        return DIALECT_UNAUTHORIZED;
    case 429:
        return DIALECT_BUSY;
    case 503:
        return strcasestr(message, "busy") != NULL ? DIALECT_BUSY : DIALECT_UNREACHABLE;
    case 0:
    case 408:
    case 502:
    case 504:
        return DIALECT_UNREACHABLE;
    case 501:
        return dialect == DIALECT_SIDECAR ? DIALECT_PERMANENT : DIALECT_DISABLED;
    default:
        /* SGLang answers 400 to every refusal, also to those that pass. */
        return status >= 400 && status < 500 && dialect != DIALECT_SGLANG ? DIALECT_PERMANENT : DIALECT_FAILED;
    }
}

static bool read_answer(int status, const char *body, size_t len, struct dialect_answer *answer) {
    *answer = (struct dialect_answer){.outcome = DIALECT_DONE, .reason = dialect_outcome_name(DIALECT_DONE)};
    if (status >= 200 && status < 300 && !is_refused_by_flag(body, len)) {
        return true;
    }
    dialect_error_message(body, len, answer->message, sizeof(answer->message));
    if (answer->message[0] == '\0') {
        snprintf(answer->message, sizeof(answer->message), status > 0 ? "status %d" : "no answer", status);
    }
    return false;
}

/* Visible ASCII that fits: it goes back in a header field. Of anything else it is as if it were not said. */
static void read_version(const json_t *body, struct dialect_answer *answer) {
    const char *version = json_string_at(body, "version", "");
    size_t len = strlen(version);
    for (size_t i = 0; i < len; i++) {
        if (version[i] <= 0x20 || version[i] >= 0x7f) {
            return;
        }
    }
    if (len < sizeof(answer->version)) {
        memcpy(answer->version, version, len + 1);
    }
}

/* Whether that decides: what only a sidecar answers. */
static bool read_sidecars_answer(int status, const char *body, size_t len, struct dialect_answer *answer) {
    cleanup_json json_t *parsed = len > 0 ? json_parse(body, len, NULL) : NULL;
    if (status == 202) {
        answer->outcome = DIALECT_PENDING;
        answer->reason = dialect_outcome_name(DIALECT_PENDING);
        snprintf(answer->message, sizeof(answer->message), "downloading");
        if (json_string_length(json_at(parsed, "message")) > 0) {
            dialect_error_message(body, len, answer->message, sizeof(answer->message));
        }
        return true;
    }
    if (status == 200) {
        read_version(parsed, answer);
        return false;
    }
    return status >= 400 && is_about_artifact(parsed, answer);
}

void dialect_classify_load(enum dialect dialect, int status, const char *body, size_t len, struct dialect_answer *ret_answer) {
    bool is_good = read_answer(status, body, len, ret_answer);
    if ((dialect == DIALECT_SIDECAR && read_sidecars_answer(status, body, len, ret_answer)) || is_good) {
        return;
    }
    const struct phrase *phrase = find_phrase(load_phrases, ARRAY_LEN(load_phrases), ret_answer->message);
    if (status == 401 || status == 429 || status == 0) {
        ret_answer->outcome = outcome_of_status(dialect, status, ret_answer->message);
    } else if (is_route_missing(status, ret_answer->message)) {
        ret_answer->outcome = DIALECT_DISABLED;
    } else if (phrase != NULL) {
        ret_answer->outcome = phrase->outcome;
    } else if (status == 409) {
        ret_answer->outcome = DIALECT_ALREADY_LOADED;
    } else {
        ret_answer->outcome = outcome_of_status(dialect, status, ret_answer->message);
    }
    ret_answer->reason = dialect_outcome_name(ret_answer->outcome);
}

void dialect_classify_unload(enum dialect dialect, int status, const char *body, size_t len, struct dialect_answer *ret_answer) {
    if (read_answer(status, body, len, ret_answer)) {
        return;
    }
    const struct phrase *phrase = find_phrase(unload_phrases, ARRAY_LEN(unload_phrases), ret_answer->message);
    if (is_route_missing(status, ret_answer->message)) {
        ret_answer->outcome = DIALECT_DISABLED;
    } else if (phrase != NULL || status == 404) {
        ret_answer->outcome = DIALECT_NOT_LOADED;
    } else {
        ret_answer->outcome = outcome_of_status(dialect, status, ret_answer->message);
        if (ret_answer->outcome == DIALECT_PERMANENT) {
            ret_answer->outcome = DIALECT_FAILED; /* what is loaded has to go: it is asked again */
        }
    }
    ret_answer->reason = dialect_outcome_name(ret_answer->outcome);
}

const char *dialect_outcome_name(enum dialect_outcome outcome) {
    static const char *const names[] = {
        [DIALECT_DONE] = "Loaded",
        [DIALECT_PENDING] = "Downloading",
        [DIALECT_ALREADY_LOADED] = "AlreadyLoaded",
        [DIALECT_NOT_LOADED] = "NotLoaded",
        [DIALECT_BUSY] = "EngineBusy",
        [DIALECT_UNREACHABLE] = "EngineUnreachable",
        [DIALECT_UNAUTHORIZED] = "EngineUnauthorized",
        [DIALECT_DISABLED] = "RuntimeLoraDisabled",
        [DIALECT_PERMANENT] = "AdapterRefused",
        [DIALECT_FAILED] = "EngineError",
    };
    return names[outcome];
}
