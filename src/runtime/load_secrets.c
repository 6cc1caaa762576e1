#include "runtime/load_secrets.h"

#include "base/file.h"

#include <dirent.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* A Secret's name: a DNS subdomain (RFC 1123), so nothing that leads elsewhere. */
static bool is_secret_name(const char *name) {
    size_t len = strlen(name);
    return len > 0 && len <= 253 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == len && name[0] != '.' &&
           name[0] != '-';
}

/* Sets a value; keys are the same whatever their case, as sources compare them. */
static int set(json_t *values, const char *key, const json_t *value, struct error *err) {
    const char *known;
    json_t *unused;
    void *next;
    json_object_foreach_safe(values, next, known, unused) {
        if (strcasecmp(known, key) == 0) {
            json_object_del(values, known);
        }
    }
    if (json_object_size(values) >= ARTIFACT_SECRETS_MAX) {
        return error_set(err, ERROR_LIMIT, "credentials and additional_config hold more than %d keys", ARTIFACT_SECRETS_MAX);
    }
    if (json_c_string(value) == NULL) {
        return error_set(err, ERROR_INVALID, "the value of \"%.128s\" is no text", key);
    }
    json_object_set(values, key, (json_t *)value);
    return 0;
}

static int merge(json_t *values, const json_t *more, struct error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)more, key, value) {
        if (set(values, key, value, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int read_value(json_t *values, const char *path, const char *key, struct error *err) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read(path, LOAD_SECRET_BYTES_MAX, &text, err) < 0) {
        return -1;
    }
    cleanup_json json_t *value = json_stringn(buffer_text(&text), text.len);
    int result = set(values, key, value, err);
    if (text.data != NULL) {
        explicit_bzero(text.data, text.len);
    }
    return result;
}

static bool is_regular(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

/* Kubernetes mounts a Secret as files that lead to ..data/; what begins with ".." is its own. */
static int read_folder(json_t *values, const char *folder, DIR *entries, struct error *err) {
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        cleanup_free char *path = path_join(folder, entry->d_name);
        bool is_own = strcmp(entry->d_name, ".") == 0 || strncmp(entry->d_name, "..", 2) == 0;
        if (!is_own && is_regular(path) && read_value(values, path, entry->d_name, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int read_mount(json_t *values, const char *root, const char *name, struct error *err) {
    if (!is_secret_name(name)) {
        return error_set(err, ERROR_INVALID, "credentials_secret: expected the name of a Secret");
    }
    cleanup_free char *path = path_join(root, name);
    if (is_regular(path)) {
        return read_value(values, path, "default", err);
    }
    DIR *entries = opendir(path);
    if (entries == NULL) {
        return error_set_errno(err, "credentials_secret: %s", path);
    }
    int result = read_folder(values, path, entries, err);
    (void)closedir(entries);
    return result;
}

int load_secrets_read(const json_t *body, const char *root, struct load_secrets *ret, struct error *err) {
    cleanup_json json_t *values = json_object();
    const json_t *given = json_object_get(body, "credentials");
    const char *name = json_string_at(body, "credentials_secret", "");
    int result = 0;
    if (json_object_size(given) > 0) {
        result = merge(values, given, err);
    } else if (*name != '\0') {
        result = read_mount(values, root, name, err);
    }
    if (result < 0 || merge(values, json_object_get(body, "additional_config"), err) < 0) {
        return -1;
    }
    *ret = (struct load_secrets){.values = take_pointer(values)};
    const char *key;
    json_t *value;
    json_object_foreach(ret->values, key, value) {
        ret->list.items[ret->list.count++] = (struct artifact_secret){key, json_string_value(value)};
    }
    return 0;
}

void load_secrets_release(struct load_secrets *secrets) {
    json_decref(secrets->values);
    *secrets = (struct load_secrets){0};
}
