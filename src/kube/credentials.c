#include "kube/credentials.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "kube/exec_plugin.h"

#include <string.h>

#define TOKEN_BYTES_MAX (64 * 1024)
#define TOKEN_REREAD_MS 60000
#define PAUSE_AFTER_FAILURE_MS 1000
#define EXPIRY_SLACK_MS 10000 /* one that ends within this time is renewed before it is used */

struct credentials {
    struct loop *loop;
    const struct kube_config *config;
    void (*on_change)(void *arg, const struct error *err);
    void *arg;
    uint64_t generation;
    char *file_token;
    int64_t token_read_ms;
    /* of the exec plugin */
    struct exec_credential printed;
    bool has_printed;
    struct exec_run *run;
    struct timer pause; /* after a failure */
};

static void run_plugin(void *arg);

struct credentials *credentials_new(struct loop *loop, const struct kube_config *config,
                                    void (*on_change)(void *arg, const struct error *err), void *arg) {
    struct credentials *credentials = xcalloc(1, sizeof(*credentials));
    credentials->loop = loop;
    credentials->config = config;
    credentials->on_change = on_change;
    credentials->arg = arg;
    timer_init(&credentials->pause, loop, run_plugin, credentials);
    return credentials;
}

void credentials_free(struct credentials *credentials) {
    if (credentials == NULL) {
        return;
    }
    exec_run_cancel(credentials->run);
    exec_credential_release(&credentials->printed);
    timer_release(&credentials->pause);
    if (credentials->file_token != NULL) {
        explicit_bzero(credentials->file_token, strlen(credentials->file_token));
        free(credentials->file_token);
    }
    free(credentials);
}

/* ---- a token file ---- */

/* A file that cannot be read keeps the token that was read before: rotation replaces the file, and for a moment it may be missing.
 */
static void read_token_file(struct credentials *credentials) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct error err;
    if (file_read(credentials->config->token_file, TOKEN_BYTES_MAX, &text, &err) < 0) {
        log_debug("token file: %s", err.message);
        return;
    }
    char *token = xstrndup(buffer_text(&text), strcspn(buffer_text(&text), " \r\n"));
    credentials->generation += credentials->file_token == NULL || strcmp(credentials->file_token, token) != 0;
    credentials->token_read_ms = clock_now_ms();
    if (credentials->file_token != NULL) {
        explicit_bzero(credentials->file_token, strlen(credentials->file_token));
        free(credentials->file_token);
    }
    credentials->file_token = token;
}

/* ---- an exec plugin ---- */

static void on_printed(void *arg, struct exec_credential *credential, const struct error *err) {
    struct credentials *credentials = arg;
    credentials->run = NULL;
    if (err != NULL) {
        struct error refused;
        error_set(&refused, ERROR_UNAUTHORIZED, "credentials: %s", err->message);
        timer_set(&credentials->pause, PAUSE_AFTER_FAILURE_MS);
        credentials->on_change(credentials->arg, &refused);
        return;
    }
    exec_credential_release(&credentials->printed);
    credentials->printed = *credential;
    credentials->has_printed = true;
    credentials->generation++;
    credentials->on_change(credentials->arg, NULL);
}

static void run_plugin(void *arg) {
    struct credentials *credentials = arg;
    if (credentials->run == NULL) {
        credentials->run = exec_run_start(credentials->loop, credentials->config->exec, on_printed, credentials);
    }
}

static bool is_exec_needed(const struct credentials *credentials) {
    const struct kube_config *config = credentials->config;
    if (config->exec == NULL || config->token != NULL || config->token_file != NULL) {
        return false;
    }
    return !credentials->has_printed || clock_wall_ms() >= credentials->printed.expires_wall_ms - EXPIRY_SLACK_MS;
}

/* ---- what is presented ---- */

bool credentials_peek(struct credentials *credentials, struct presented *ret_presented) {
    const struct kube_config *config = credentials->config;
    if (is_exec_needed(credentials)) {
        if (!timer_is_set(&credentials->pause)) {
            run_plugin(credentials);
        }
        return false;
    }
    if (config->token_file != NULL &&
        (credentials->file_token == NULL || clock_now_ms() - credentials->token_read_ms >= TOKEN_REREAD_MS)) {
        read_token_file(credentials);
    }
    *ret_presented = (struct presented){
        .token = config->token_file != NULL ? credentials->file_token : config->token,
        .client_cert_file = config->client_cert_file,
        .client_cert_pem = config->client_cert_pem,
        .client_key_file = config->client_key_file,
        .client_key_pem = config->client_key_pem,
        .generation = credentials->generation,
    };
    if (credentials->has_printed && ret_presented->token == NULL) {
        ret_presented->token = credentials->printed.token;
    }
    if (credentials->printed.client_cert_pem != NULL) {
        ret_presented->client_cert_pem = credentials->printed.client_cert_pem;
        ret_presented->client_key_pem = credentials->printed.client_key_pem;
    }
    return true;
}

bool credentials_refused(struct credentials *credentials, uint64_t generation) {
    if (generation != credentials->generation) {
        return true;
    }
    if (credentials->config->token_file != NULL) {
        read_token_file(credentials);
        return generation != credentials->generation;
    }
    if (credentials->config->token == NULL && credentials->config->exec != NULL) {
        credentials->has_printed = false;
        return true;
    }
    return false;
}
