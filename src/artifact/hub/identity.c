#include "artifact/hub/identity.h"

#include "artifact/hub/url.h"
#include "base/alloc.h"
#include "base/file.h"

#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

static const char *set_or_null(const char *value) {
    return value != NULL && *value != '\0' ? value : NULL;
}

static bool is_true(const char *value) {
    static const char *const words[] = {"1", "on", "yes", "true"};
    for (size_t i = 0; value != NULL && i < ARRAY_LEN(words); i++) {
        if (strcasecmp(value, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* The first of some variables that is set. */
static const char *first_set(hub_environment *environment, const char *const *names, const char **ret_name) {
    for (; *names != NULL; names++) {
        const char *value = set_or_null(environment(*names));
        if (value != NULL) {
            *ret_name = *names;
            return value;
        }
    }
    return NULL;
}

bool hub_is_offline(hub_environment *environment) {
    return is_true(environment("HF_HUB_OFFLINE")) || is_true(environment("TRANSFORMERS_OFFLINE"));
}

/* "~/x" as the shell reads it: the hub's tools do so too. */
static char *expand(hub_environment *environment, const char *path) {
    const char *home = path[0] == '~' && (path[1] == '/' || path[1] == '\0') ? set_or_null(environment("HOME")) : NULL;
    return home != NULL ? xasprintf("%s%s", home, path + 1) : xstrdup(path);
}

char *hub_home(hub_environment *environment) {
    const char *home = set_or_null(environment("HF_HOME"));
    const char *cache = set_or_null(environment("XDG_CACHE_HOME"));
    const char *user = set_or_null(environment("HOME"));
    if (home != NULL) {
        return expand(environment, home);
    }
    if (cache != NULL) {
        cleanup_free char *folder = expand(environment, cache);
        return path_join(folder, "huggingface");
    }
    return user != NULL ? path_join(user, ".cache/huggingface") : NULL;
}

char *hub_cache_root(hub_environment *environment) {
    static const char *const names[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", NULL};
    const char *name;
    const char *folder = first_set(environment, names, &name);
    if (folder != NULL) {
        return expand(environment, folder);
    }
    cleanup_free char *home = hub_home(environment);
    return home != NULL ? path_join(home, "hub") : NULL;
}

/* ---- token ---- */

/* Takes a token without the white space around it; "" is none. */
static int take_token(struct hub_identity *identity, const char *text, const char *origin, struct error *err) {
    static const char space[] = " \t\r\n";
    text += strspn(text, space);
    size_t len = strlen(text);
    while (len > 0 && strchr(space, text[len - 1]) != NULL) {
        len--;
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] <= 0x20 || (unsigned char)text[i] >= 0x7f) {
            return error_set(err, ERROR_INVALID,
                             "%s: expected a token of visible ASCII characters, found another one at position %zu", origin, i + 1);
        }
    }
    if (len > HUB_TOKEN_BYTES_MAX) {
        return error_set(err, ERROR_INVALID, "%s: a token of %zu bytes, at most %d are allowed", origin, len, HUB_TOKEN_BYTES_MAX);
    }
    if (len > 0) {
        identity->token = xstrndup(text, len);
        identity->origin = xstrdup(origin);
    }
    return 0;
}

static int read_token_file(struct hub_identity *identity, hub_environment *environment, struct error *err) {
    const char *given = set_or_null(environment("HF_TOKEN_PATH"));
    cleanup_free char *home = given == NULL ? hub_home(environment) : NULL;
    cleanup_free char *path = given != NULL ? expand(environment, given) : home != NULL ? path_join(home, "token") : NULL;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct error problem;
    if (path == NULL) {
        return 0;
    }
    if (file_read(path, (size_t)2 * HUB_TOKEN_BYTES_MAX, &text, &problem) < 0) {
        if (problem.code == ERROR_NOT_FOUND) {
            return 0; /* nobody has logged in */
        }
        return error_set(err, problem.code == ERROR_LIMIT ? ERROR_INVALID : ERROR_UNAUTHORIZED, "the hub's token: %s",
                         problem.message);
    }
    cleanup_free char *origin = xasprintf("the file %s", path);
    int result = strlen(buffer_text(&text)) == text.len
                     ? take_token(identity, buffer_text(&text), origin, err)
                     : error_set(err, ERROR_INVALID, "%s: expected a token, found a file with U+0000 in it", origin);
    if (text.data != NULL) {
        OPENSSL_cleanse(text.data, text.len);
    }
    return result;
}

static int find_token(struct hub_identity *identity, const struct artifact_secrets *secrets, hub_environment *environment,
                      struct error *err) {
    static const char *const keys[] = {"huggingface_token", "hf_token", "hugging_face_hub_token", NULL};
    static const char *const names[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", NULL};
    for (size_t i = 0; secrets != NULL && keys[i] != NULL; i++) {
        const char *const one[] = {keys[i], NULL};
        const char *value = artifact_secret(secrets, one);
        if (value != NULL) {
            cleanup_free char *origin = xasprintf("the adapter's %s", keys[i]);
            return take_token(identity, value, origin, err);
        }
    }
    if (!identity->is_endpoint_ours || is_true(environment("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) {
        return 0;
    }
    const char *name;
    const char *value = first_set(environment, names, &name);
    return value != NULL ? take_token(identity, value, name, err) : read_token_file(identity, environment, err);
}

static int find_endpoint(struct hub_identity *identity, const struct artifact_secrets *secrets, hub_environment *environment,
                         struct error *err) {
    static const char *const keys[] = {"hf_endpoint", NULL};
    const char *given = secrets != NULL ? artifact_secret(secrets, keys) : NULL;
    const char *ours = set_or_null(environment("HF_ENDPOINT"));
    identity->is_endpoint_ours = given == NULL;
    identity->endpoint = given != NULL  ? hub_endpoint_parse(given, "the adapter's hf_endpoint", err)
                         : ours != NULL ? hub_endpoint_parse(ours, "HF_ENDPOINT", err)
                                        : xstrdup(HUB_ENDPOINT_DEFAULT);
    return identity->endpoint != NULL ? 0 : -1;
}

int hub_identity_find(const struct artifact_secrets *secrets, hub_environment *environment, struct hub_identity *ret,
                      struct error *err) {
    struct hub_identity identity = {0};
    if (find_endpoint(&identity, secrets, environment, err) < 0 || find_token(&identity, secrets, environment, err) < 0) {
        hub_identity_release(&identity);
        return -1;
    }
    *ret = identity;
    return 0;
}

void hub_identity_release(struct hub_identity *identity) {
    if (identity->token != NULL) {
        OPENSSL_cleanse(identity->token, strlen(identity->token));
    }
    free(identity->token);
    free(identity->origin);
    free(identity->endpoint);
    *identity = (struct hub_identity){0};
}
