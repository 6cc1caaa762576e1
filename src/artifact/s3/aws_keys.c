/* Identities that are changed for keys: what is asked, of whom, and what they answer. */
#include "artifact/s3/aws_key_cache.h"

#include "artifact/exchange.h"
#include "artifact/s3/xml.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "io/http.h"

#include <openssl/crypto.h>
#include <string.h>

#define TOKEN_BYTES_MAX (64u * 1024)
#define ANSWER_BYTES_MAX (64u * 1024)
#define ANSWER_VALUES_MAX 64
#define STS_TIMEOUT_MS 10000
#define CONTAINER_TIMEOUT_MS 2000
#define MACHINE_TIMEOUT_MS 1000
#define WAIT_MS 20               /* between looks whether another thread has them */
#define EARLY_MS (5 * 60 * 1000) /* keys are not begun with shortly before they end */

/* ---- answers ---- */

static int64_t until_of(const char *expiration) {
    int64_t until_ms = INT64_MAX;
    return expiration != NULL && clock_parse_rfc3339(expiration, &until_ms) == 0 ? until_ms : INT64_MAX;
}

/* They become parts of header fields. */
static bool is_visible(const char *text) {
    for (; *text != '\0'; text++) {
        if (*text <= 0x20 || *text >= 0x7f) {
            return false;
        }
    }
    return true;
}

static int check_keys(const struct aws_keys *keys, struct error *err) {
    bool is_fine = is_visible(keys->access_key) && is_visible(keys->secret_key) &&
                   (keys->session_token == NULL || is_visible(keys->session_token));
    return is_fine ? 0 : error_set(err, ERROR_INVALID, "the answer's keys are none: expected visible characters");
}

int aws_keys_parse(const char *text, size_t len, struct aws_keys *ret, int64_t *ret_until_ms, struct error *err) {
    cleanup_json json_t *answer = json_parse_bounded(text, len, ANSWER_VALUES_MAX, NULL);
    const char *access_key = json_string_at(answer, "AccessKeyId", "");
    const char *secret_key = json_string_at(answer, "SecretAccessKey", "");
    const char *token = json_string_at(answer, "Token", "");
    if (*access_key == '\0' || *secret_key == '\0') {
        return error_set(err, ERROR_INVALID, "expected {\"AccessKeyId\":...,\"SecretAccessKey\":...}");
    }
    struct aws_keys keys = {(char *)access_key, (char *)secret_key, *token != '\0' ? (char *)token : NULL};
    if (check_keys(&keys, err) < 0) {
        return -1;
    }
    *ret_until_ms = until_of(json_string_at(answer, "Expiration", NULL));
    aws_keys_copy(&keys, ret);
    return 0;
}

static int read_answer(const struct aws_identity *identity, const struct artifact_reply *reply, struct aws_keys *ret,
                       int64_t *ret_until_ms, struct error *err) {
    const char *text = buffer_text(&reply->body);
    if (identity->kind != AWS_WEB_IDENTITY) {
        return aws_keys_parse(text, reply->body.len, ret, ret_until_ms, err);
    }
    char *expiration = NULL;
    struct aws_keys keys = {0};
    if (s3_xml_assumed_role(text, reply->body.len, &keys.access_key, &keys.secret_key, &keys.session_token, &expiration, err) < 0) {
        return -1;
    }
    *ret_until_ms = until_of(expiration);
    free(expiration);
    if (check_keys(&keys, err) < 0) {
        aws_keys_release(&keys);
        return -1;
    }
    *ret = keys;
    return 0;
}

static int refuse(const struct aws_identity *identity, const struct artifact_reply *reply, struct error *err) {
    struct s3_refusal refusal;
    s3_xml_refusal(buffer_text(&reply->body), reply->body.len, &refusal);
    enum error_code code = reply->status >= 500 || reply->status == 429 ? ERROR_UNAVAILABLE : ERROR_UNAUTHORIZED;
    /* The message of STS may repeat what it was sent; its code does not. */
    return error_set(err, code, "%s: no keys: HTTP %d%s%s", identity->origin, reply->status, refusal.code[0] != '\0' ? " " : "",
                     refusal.code);
}

/* ---- questions ---- */

/* The first line of a file; the caller forgets it. */
static int read_token(const char *path, char **ret, struct error *err) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read(path, TOKEN_BYTES_MAX, &text, err) < 0) {
        return -1;
    }
    char *token = xstrndup(buffer_text(&text), strcspn(buffer_text(&text), "\r\n"));
    if (text.data != NULL) {
        OPENSSL_cleanse(text.data, text.len);
    }
    if (*token == '\0' || !is_visible(token)) {
        OPENSSL_cleanse(token, strlen(token));
        free(token);
        return error_set(err, ERROR_UNAUTHORIZED, "%s: expected a token of visible characters in one line", path);
    }
    *ret = token;
    return 0;
}

static void append_form(struct buffer *form, const char *name, const char *value) {
    buffer_printf(form, "&%s=", name);
    http_append_percent_encoded(form, value);
}

static int ask_sts(const struct aws_identity *identity, struct artifact_request *request, struct error *err) {
    char *token = NULL;
    if (read_token(identity->token_file, &token, err) < 0) { /* Kubernetes replaces it: read each time */
        return error_wrap(err, "%s", identity->origin);
    }
    request->method = xstrdup("POST");
    request->url = xstrdup(identity->url);
    request->timeout_ms = STS_TIMEOUT_MS;
    artifact_request_header(request, "Content-Type: application/x-www-form-urlencoded");
    buffer_append_text(&request->body, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15");
    append_form(&request->body, "RoleArn", identity->role_arn);
    append_form(&request->body, "RoleSessionName", identity->session_name);
    append_form(&request->body, "WebIdentityToken", token);
    OPENSSL_cleanse(token, strlen(token));
    free(token);
    return 0;
}

static int ask_container(const struct aws_identity *identity, struct artifact_request *request, struct error *err) {
    char *token = NULL;
    request->url = xstrdup(identity->url);
    request->timeout_ms = CONTAINER_TIMEOUT_MS;
    if (identity->token_file != NULL && read_token(identity->token_file, &token, err) < 0) {
        return error_wrap(err, "%s", identity->origin);
    }
    const char *shown = token != NULL ? token : identity->authorization;
    if (shown != NULL) {
        artifact_request_secret_header(request, "Authorization: %s", shown);
    }
    if (token != NULL) {
        OPENSSL_cleanse(token, strlen(token));
        free(token);
    }
    return 0;
}

/* One exchange with the machine's metadata service. Returns the answer's text when it is a 200; NULL with *err. */
static char *ask_machine_for(struct artifact_http *http, const struct aws_identity *identity, const char *path, const char *token,
                             struct error *err) {
    struct artifact_request request = {.is_operators = true,
                                       .is_redirect_final = true,
                                       .is_one_try = true,
                                       .timeout_ms = MACHINE_TIMEOUT_MS,
                                       .body_bytes_max = ANSWER_BYTES_MAX};
    struct artifact_reply reply = {0};
    char *text = NULL;
    request.url = xasprintf("%s/latest/%s", identity->url, path);
    if (token == NULL) {
        request.method = xstrdup("PUT");
        artifact_request_header(&request, "x-aws-ec2-metadata-token-ttl-seconds: 300");
    } else {
        artifact_request_secret_header(&request, "x-aws-ec2-metadata-token: %s", token);
    }
    if (artifact_http_ask(http, &request, &reply, err) < 0) {
        (void)error_wrap(err, "%s", identity->origin);
    } else if (reply.status != 200) {
        (void)refuse(identity, &reply, err);
    } else {
        text = xstrndup(buffer_text(&reply.body), reply.body.len);
    }
    artifact_reply_release(&reply);
    artifact_request_release(&request);
    return text;
}

/* IMDSv2: a token, the role's name, its keys. */
static int ask_machine(struct artifact_http *http, const struct aws_identity *identity, struct artifact_reply *ret,
                       struct error *err) {
    cleanup_free char *token = ask_machine_for(http, identity, "api/token", NULL, err);
    if (token == NULL) {
        return -1;
    }
    if (!is_visible(token)) {
        return error_set(err, ERROR_INVALID, "%s: expected a token of visible characters", identity->origin);
    }
    cleanup_free char *names = ask_machine_for(http, identity, "meta-data/iam/security-credentials/", token, err);
    if (names == NULL) {
        return -1;
    }
    names[strcspn(names, "\r\n")] = '\0';
    cleanup_buffer struct buffer path = BUFFER_INIT;
    buffer_append_text(&path, "meta-data/iam/security-credentials/");
    http_append_percent_encoded(&path, names);
    char *text = ask_machine_for(http, identity, buffer_text(&path), token, err);
    if (text == NULL) {
        return -1;
    }
    ret->status = 200;
    buffer_append_text(&ret->body, text);
    OPENSSL_cleanse(text, strlen(text));
    free(text);
    return 0;
}

static int ask(struct artifact_http *http, const struct aws_identity *identity, struct artifact_reply *ret, struct error *err) {
    struct artifact_request request = {.is_operators = true, .is_redirect_final = true, .body_bytes_max = ANSWER_BYTES_MAX};
    if (identity->kind == AWS_MACHINE) {
        return ask_machine(http, identity, ret, err);
    }
    int result = identity->kind == AWS_WEB_IDENTITY ? ask_sts(identity, &request, err) : ask_container(identity, &request, err);
    if (result == 0 && artifact_http_ask(http, &request, ret, err) < 0) {
        result = error_wrap(err, "%s", identity->origin);
    }
    artifact_request_release(&request);
    return result;
}

/* ---- keys ---- */

/* Those of a short life are used for most of it. */
static void keep(const struct aws_identity *identity, const struct aws_keys *keys, int64_t until_ms) {
    if (until_ms == INT64_MAX) {
        return;
    }
    int64_t lifetime_ms = until_ms - clock_wall_ms();
    int64_t early_ms = lifetime_ms / 4 < EARLY_MS ? lifetime_ms / 4 : EARLY_MS;
    if (lifetime_ms > 0) {
        aws_key_cache_put(identity, keys, clock_boot_ms() + lifetime_ms - early_ms);
    }
}

static int ask_for_keys(struct artifact_http *http, const struct aws_identity *identity, struct aws_keys *ret, struct error *err) {
    struct artifact_reply reply = {0};
    int64_t until_ms = INT64_MAX;
    if (ask(http, identity, &reply, err) < 0) {
        artifact_reply_release(&reply);
        return -1;
    }
    int result = reply.status != 200 ? refuse(identity, &reply, err) : read_answer(identity, &reply, ret, &until_ms, err);
    if (result < 0 && reply.status == 200) {
        (void)error_wrap(err, "%s", identity->origin);
    }
    if (reply.body.data != NULL) {
        OPENSSL_cleanse(reply.body.data, reply.body.len);
    }
    artifact_reply_release(&reply);
    if (result == 0) {
        keep(identity, ret, until_ms);
    }
    return result;
}

/* Twenty adapters that are loaded at once are one question to STS, which counts them. */
static int ask_or_wait(struct artifact_http *http, const struct aws_identity *identity, struct aws_keys *ret, struct error *err) {
    const bool never = false;
    uint64_t ticket = 0;
    enum aws_key_turn turn = AWS_KEY_WAIT;
    while ((turn = aws_key_turn_begin(identity, &ticket, err)) == AWS_KEY_WAIT) {
        if (exchange_run(http, &never, WAIT_MS, err) < 0) {
            return -1;
        }
        if (aws_key_cache_get(identity, clock_boot_ms(), ret)) {
            return 0;
        }
    }
    if (turn == AWS_KEY_FAILED) {
        return -1;
    }
    struct error failure = {0};
    int result = ask_for_keys(http, identity, ret, &failure);
    bool is_own = failure.code == ERROR_TIMEOUT; /* this fetch's time is over, or it was cancelled */
    aws_key_turn_end(identity, result < 0 && !is_own ? &failure : NULL);
    if (result < 0 && err != NULL) {
        *err = failure;
    }
    return result;
}

int aws_identity_keys(struct artifact_http *http, const struct aws_identity *identity, struct aws_keys *ret, struct error *err) {
    *ret = (struct aws_keys){0};
    if (identity->kind == AWS_NOBODY) {
        return 0;
    }
    if (identity->kind == AWS_KEYS) {
        aws_keys_copy(&identity->keys, ret);
        return 0;
    }
    if (aws_key_cache_get(identity, clock_boot_ms(), ret)) {
        return 0;
    }
    return ask_or_wait(http, identity, ret, err);
}

bool aws_identity_drop(const struct aws_identity *identity, const struct aws_keys *keys) {
    if (identity->kind == AWS_NOBODY || identity->kind == AWS_KEYS || keys->access_key == NULL) {
        return false;
    }
    aws_key_cache_drop(identity, keys);
    return true;
}
