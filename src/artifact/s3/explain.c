#include "artifact/s3/explain.h"

#include <string.h>

static const struct {
    const char *code;
    enum error_code error;
    const char *hint; /* NULL = its own words say it */
} meanings[] = {
    {"NoSuchBucket", ERROR_NOT_FOUND, "there is no such bucket"},
    {"NoSuchKey", ERROR_NOT_FOUND, "there is no such object"},
    {"AccessDenied", ERROR_DENIED,
     "it needs s3:ListBucket on the bucket and s3:GetObject on the objects; without s3:ListBucket what does not exist is denied "
     "too"},
    {"AllAccessDisabled", ERROR_DENIED, NULL},
    {"AccountProblem", ERROR_DENIED, NULL},
    {"InvalidObjectState", ERROR_DENIED, "the object is archived: restore it first"},
    {"InvalidAccessKeyId", ERROR_UNAUTHORIZED, "the server does not know this access key"},
    {"XAdminUserNotFound", ERROR_UNAUTHORIZED, "the server does not know this access key"}, /* as versitygw says it */
    {"SignatureDoesNotMatch", ERROR_UNAUTHORIZED, "the secret access key does not belong to the access key"},
    {"ExpiredToken", ERROR_UNAUTHORIZED, "the session token has expired"},
    {"ExpiredTokenException", ERROR_UNAUTHORIZED, "the session token has expired"},
    {"TokenRefreshRequired", ERROR_UNAUTHORIZED, "the session token has expired"},
    {"InvalidToken", ERROR_UNAUTHORIZED, "the session token is not valid, or belongs to other keys"},
    {"RequestExpired", ERROR_UNAUTHORIZED, "the clock of this machine differs from the server's"},
    {"RequestTimeTooSkewed", ERROR_UNAUTHORIZED, "the clock of this machine differs from the server's by more than 15 minutes"},
    {"AuthorizationHeaderMalformed", ERROR_UNAUTHORIZED, "is aws_region the bucket's region?"},
    {"MissingSecurityHeader", ERROR_UNAUTHORIZED, NULL},
    {"PermanentRedirect", ERROR_INVALID, "the bucket is elsewhere: give aws_region, or the endpoint that serves it"},
    {"TemporaryRedirect", ERROR_UNAVAILABLE, NULL},
    {"InvalidBucketName", ERROR_INVALID, "the server has no buckets of such names"},
    {"PreconditionFailed", ERROR_CONFLICT, "it was changed while it was read"},
    {"SlowDown", ERROR_UNAVAILABLE, "there were too many requests"},
    {"RequestTimeout", ERROR_UNAVAILABLE, NULL},
    {"InternalError", ERROR_UNAVAILABLE, NULL},
    {"ServiceUnavailable", ERROR_UNAVAILABLE, NULL},
};

/* An answer to HEAD has no words, nor has a proxy's. */
static const struct {
    int status;
    const char *code;
} of_status[] = {{403, "AccessDenied"},      {404, "NoSuchKey"},         {412, "PreconditionFailed"},
                 {301, "PermanentRedirect"}, {307, "TemporaryRedirect"}, {408, "RequestTimeout"}};

static enum error_code code_of_status(int status) {
    return status >= 500 || status == 429 ? ERROR_UNAVAILABLE
           : status == 401                ? ERROR_UNAUTHORIZED
           : status == 404                ? ERROR_NOT_FOUND
           : status == 403                ? ERROR_DENIED
                                          : ERROR_INVALID;
}

static bool holds(const char *text, const char *secret) {
    return secret != NULL && strstr(text, secret) != NULL;
}

/* The server's own words, unless they repeat what is secret. */
static const char *words_of(const struct s3_refusal *refusal, const struct aws_keys *keys) {
    bool is_secret = holds(refusal->message, keys->access_key) || holds(refusal->message, keys->secret_key) ||
                     holds(refusal->message, keys->session_token);
    return is_secret ? "" : refusal->message;
}

int s3_explain(int status, const struct s3_refusal *refusal, const struct s3_question *question, struct error *err) {
    const char *code = refusal->code;
    enum error_code error = code_of_status(status);
    const char *hint = NULL;
    for (size_t i = 0; i < ARRAY_LEN(of_status) && *code == '\0'; i++) {
        code = of_status[i].status == status ? of_status[i].code : code;
    }
    if (question->is_listing && refusal->code[0] == '\0' && status == 404) {
        code = "NoSuchBucket";
    }
    for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
        if (strcmp(code, meanings[i].code) == 0) {
            error = meanings[i].error;
            hint = meanings[i].hint;
        }
    }
    const char *words = words_of(refusal, question->keys);
    bool is_about_us = error == ERROR_UNAUTHORIZED || error == ERROR_DENIED;
    cleanup_free char *as = !is_about_us                         ? xstrdup("")
                            : question->keys->access_key == NULL ? xasprintf(" without credentials (%s)", question->origin)
                                                                 : xasprintf(" with the keys of %s", question->origin);
    return error_set(err, error, "%s: HTTP %d%s%s%s%s%s%s%s", question->shown, status, refusal->code[0] != '\0' ? " " : "",
                     refusal->code, as, hint != NULL ? ": " : "", hint != NULL ? hint : "", *words != '\0' ? ": " : "", words);
}

bool s3_is_expiry(int status, const struct s3_refusal *refusal) {
    static const char *const codes[] = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken",
                                        "InvalidAccessKeyId"};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (strcmp(refusal->code, codes[i]) == 0) {
            return true;
        }
    }
    return status == 401;
}
