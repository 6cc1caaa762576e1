#include "artifact/hub/explain.h"

#include "base/alloc.h"
#include "base/buffer.h"

#include <string.h>

#define MESSAGE_BYTES_MAX 200

static const char how_to_give_a_token[] =
    "a token with the right to read it (huggingface_token in the adapter's Secret, or HF_TOKEN)";

/* ": <what the hub says>", in visible ASCII; "" when it says nothing or repeats the token. */
static char *hubs_words(const struct hub_refusal *refusal) {
    const char *message = refusal->message != NULL ? refusal->message : "";
    const char *token = refusal->identity->token;
    if (*message == '\0' || (token != NULL && strstr(message, token) != NULL)) {
        return xstrdup("");
    }
    cleanup_buffer struct buffer out = BUFFER_INIT;
    buffer_append_text(&out, ": ");
    for (size_t i = 0; i < MESSAGE_BYTES_MAX && message[i] != '\0'; i++) {
        buffer_append_char(&out, message[i] >= 0x20 && message[i] < 0x7f ? message[i] : '?');
    }
    return buffer_take(&out);
}

/* ---- one function a meaning ---- */

static void repo_not_found(const struct hub_refusal *refusal, struct error *err) {
    const struct hub_identity *identity = refusal->identity;
    if (identity->token == NULL) {
        (void)error_set(err, ERROR_UNAUTHORIZED,
                        "%s shows no model \"%s\" to whom it does not know: either there is none, or it is private and needs %s",
                        identity->endpoint, refusal->place->repo, how_to_give_a_token);
        return;
    }
    (void)error_set(err, ERROR_NOT_FOUND, "%s has no model \"%s\" that the owner of the token (%s) may see", identity->endpoint,
                    refusal->place->repo, identity->origin);
}

static void gated_repo(const struct hub_refusal *refusal, struct error *err) {
    const struct hub_identity *identity = refusal->identity;
    if (identity->token == NULL) {
        (void)error_set(err, ERROR_UNAUTHORIZED, "model \"%s\" is gated: accept its terms at %s/%s, and give %s",
                        refusal->place->repo, identity->endpoint, refusal->place->repo, how_to_give_a_token);
        return;
    }
    cleanup_free char *words = hubs_words(refusal);
    (void)error_set(err, ERROR_DENIED,
                    "model \"%s\" is gated, and the owner of the token (%s) has not been let in yet: accept its terms at %s/%s%s",
                    refusal->place->repo, identity->origin, identity->endpoint, refusal->place->repo, words);
}

static void revision_not_found(const struct hub_refusal *refusal, struct error *err) {
    (void)error_set(err, ERROR_NOT_FOUND, "model \"%s\" has no branch, tag or commit \"%s\"", refusal->place->repo,
                    refusal->commit != NULL ? refusal->commit : refusal->place->revision);
}

static void entry_not_found(const struct hub_refusal *refusal, struct error *err) {
    (void)error_set(err, ERROR_NOT_FOUND, "model \"%s\" has no \"%s\" at %s", refusal->place->repo, refusal->what,
                    refusal->commit != NULL ? refusal->commit : refusal->place->revision);
}

static void bad_token(const struct hub_refusal *refusal, struct error *err) {
    (void)error_set(err, ERROR_UNAUTHORIZED, "%s does not know the token (%s): it is misspelt, expired or revoked",
                    refusal->identity->endpoint, refusal->identity->origin != NULL ? refusal->identity->origin : "none was sent");
}

static void denied(const struct hub_refusal *refusal, struct error *err) {
    cleanup_free char *words = hubs_words(refusal);
    const struct hub_identity *identity = refusal->identity;
    (void)error_set(err, ERROR_DENIED, "%s refuses model \"%s\" to %s%s%s", identity->endpoint, refusal->place->repo,
                    identity->token != NULL ? "the token of " : "whoever has no token",
                    identity->token != NULL ? identity->origin : "", words);
}

static void too_many(const struct hub_refusal *refusal, struct error *err) {
    (void)error_set(err, ERROR_UNAVAILABLE, "%s says that there were too many requests%s", refusal->identity->endpoint,
                    refusal->identity->token == NULL ? "; with a token more are allowed" : "");
}

static void elsewhere(const struct hub_refusal *refusal, struct error *err) {
    bool is_expired = refusal->status == 401 || refusal->status == 403;
    (void)error_set(err, ERROR_UNAVAILABLE, "the store that %s sent us to for \"%s\" of model \"%s\" answered %d%s",
                    refusal->identity->endpoint, refusal->what, refusal->place->repo, refusal->status,
                    is_expired ? ": the signed URL has expired" : "");
}

static void other(const struct hub_refusal *refusal, struct error *err) {
    cleanup_free char *words = hubs_words(refusal);
    bool is_passing = refusal->status >= 500 || refusal->status == 408;
    (void)error_set(err,
                    refusal->status < 400 ? ERROR_INVALID
                    : is_passing          ? ERROR_UNAVAILABLE
                                          : error_code_from_http_status(refusal->status),
                    "%s answered %d about model \"%s\"%s", refusal->identity->endpoint, refusal->status, refusal->place->repo,
                    words);
}

/* ---- which one ---- */

/* The first row that fits counts. */
static const struct {
    int status; /* 0 = any */
    const char *code;
    const char *message; /* NULL = any */
    void (*explain)(const struct hub_refusal *refusal, struct error *err);
} meanings[] = {
    {0, "RepoNotFound", NULL, repo_not_found},
    {0, "GatedRepo", NULL, gated_repo},
    {0, "RevisionNotFound", NULL, revision_not_found},
    {0, "EntryNotFound", NULL, entry_not_found},
    {401, NULL, "Invalid credentials", bad_token},
    {401, NULL, NULL, repo_not_found},
    {403, NULL, NULL, denied},
    {404, NULL, NULL, repo_not_found},
    {429, NULL, NULL, too_many},
};

void hub_explain(const struct hub_refusal *refusal, struct error *err) {
    if (refusal->is_elsewhere && refusal->code == NULL) { /* with a code it is another hub, as mirrors lead to */
        elsewhere(refusal, err);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
        bool is_code = meanings[i].code == NULL || (refusal->code != NULL && strcmp(refusal->code, meanings[i].code) == 0);
        bool is_message = meanings[i].message == NULL || (refusal->message != NULL && strncmp(refusal->message, meanings[i].message,
                                                                                              strlen(meanings[i].message)) == 0);
        if ((meanings[i].status == 0 || meanings[i].status == refusal->status) && is_code && is_message) {
            meanings[i].explain(refusal, err);
            return;
        }
    }
    other(refusal, err);
}
