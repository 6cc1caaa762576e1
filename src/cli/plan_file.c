#include "cli/plan_file.h"

#include "adapter/names.h"
#include "adapter/syntax.h"
#include "base/file.h"
#include "cli/printable.h"
#include "kube/yaml.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int read_input(struct buffer *out, struct error *err) {
    char chunk[65536];
    for (;;) {
        ssize_t len = read(STDIN_FILENO, chunk, sizeof(chunk));
        if (len < 0 && errno == EINTR) {
            continue;
        }
        if (len < 0) {
            return error_set_errno(err, "standard input");
        }
        if (len == 0) {
            return 0;
        }
        if (out->len + (size_t)len > PLAN_FILE_BYTES_MAX) {
            return error_set(err, ERROR_LIMIT, "standard input: larger than %zu bytes", PLAN_FILE_BYTES_MAX);
        }
        buffer_append(out, chunk, (size_t)len);
    }
}

int plan_file_read(const char *path, struct buffer *out, struct error *err) {
    return strcmp(path, "-") == 0 ? read_input(out, err) : file_read(path, PLAN_FILE_BYTES_MAX, out, err);
}

static bool is_there(const json_t *adapters, const char *namespace, const char *name) {
    for (size_t i = 0; i < json_array_size(adapters); i++) {
        const json_t *metadata = json_object_get(json_array_get(adapters, i), "metadata");
        if (strcmp(json_string_at(metadata, "namespace", ""), namespace) == 0 &&
            strcmp(json_string_at(metadata, "name", ""), name) == 0) {
            return true;
        }
    }
    return false;
}

/* A member that kubectl merges into what is stored; it may be absent. */
static int check_object(const json_t *document, const char *name, const char *path, struct error *err) {
    const json_t *value = json_at(document, path);
    return value == NULL || json_is_object(value)
               ? 0
               : error_set(err, ERROR_INVALID, "ModelAdapter %s: %s: expected an object", name, path);
}

static bool is_namespace(const char *text) {
    return syntax_is_subdomain(text) && strchr(text, '.') == NULL && strlen(text) <= 63;
}

static int check_adapter(const json_t *document, const char *name, const char *namespace, const char *only, struct error *err) {
    static const char *const objects[] = {"spec", "metadata.labels", "metadata.annotations"};
    if (name[0] == '\0') {
        return error_set(err, ERROR_INVALID, "a ModelAdapter without metadata.name");
    }
    if (!is_namespace(namespace)) {
        return error_set(err, ERROR_INVALID, "ModelAdapter %s: \"%s\" is no name of a namespace", name, namespace);
    }
    if (only != NULL && strcmp(namespace, only) != 0) {
        return error_set(err, ERROR_INVALID, "ModelAdapter %s: metadata.namespace: expected \"%s\" (--namespace), found \"%s\"",
                         name, only, namespace);
    }
    for (size_t i = 0; i < ARRAY_LEN(objects); i++) {
        if (check_object(document, name, objects[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int add_adapter(struct plan_file *file, const json_t *document, const char *only, const char *fallback, struct error *err) {
    const char *name = json_string_at(document, "metadata.name", "");
    const char *given = json_string_at(document, "metadata.namespace", "");
    const char *namespace = given[0] != '\0' ? given : only != NULL ? only : fallback;
    if (check_adapter(document, name, namespace, only, err) < 0) {
        return -1;
    }
    if (is_there(file->adapters, namespace, name)) {
        return error_set(err, ERROR_INVALID, "ModelAdapter %s/%s is there twice", namespace, name);
    }
    if (json_array_size(file->adapters) == PLAN_FILE_ADAPTERS_MAX) {
        return error_set(err, ERROR_LIMIT, "more than %d ModelAdapters", PLAN_FILE_ADAPTERS_MAX);
    }
    json_t *adapter = json_deep_copy(document);
    json_object_set_new(json_object_get(adapter, "metadata"), "namespace", json_string(namespace));
    json_array_append_new(file->adapters, adapter);
    return 0;
}

static bool is_list(const char *kind) {
    size_t len = strlen(kind);
    return len >= 4 && strcmp(kind + len - 4, "List") == 0;
}

static int add_document(struct plan_file *file, const json_t *document, const char *only, const char *fallback, struct error *err) {
    const char *kind = json_string_at(document, "kind", ""), *version = json_string_at(document, "apiVersion", "");
    if (kind[0] == '\0' || version[0] == '\0') {
        return error_set(err, ERROR_INVALID, "a document without apiVersion and kind");
    }
    if (is_list(kind) && json_is_array(json_object_get(document, "items"))) {
        const json_t *items = json_object_get(document, "items");
        for (size_t i = 0; i < json_array_size(items); i++) {
            if (add_document(file, json_array_get(items, i), only, fallback, err) < 0) {
                return -1;
            }
        }
        return 0;
    }
    if (strcmp(kind, MODEL_ADAPTER_KIND) == 0 && strcmp(version, MODEL_ADAPTER_API_VERSION) == 0) {
        return add_adapter(file, document, only, fallback, err);
    }
    cleanup_free char *line = xasprintf("%s %s (%s) is no ModelAdapter of " MODEL_ADAPTER_API_VERSION ": skipped", kind,
                                        json_string_at(document, "metadata.name", "without a name"), version);
    printable_append_line(&file->skipped, line);
    buffer_append_char(&file->skipped, '\n');
    return 0;
}

int plan_file_parse(const struct buffer *text, const char *only, const char *fallback, struct plan_file *ret_file,
                    struct error *err) {
    *ret_file = (struct plan_file){.adapters = json_array(), .skipped = BUFFER_INIT};
    cleanup_json json_t *documents = yaml_parse_all(buffer_text(text), text->len, err);
    if (documents == NULL) {
        return -1;
    }
    for (size_t i = 0; i < json_array_size(documents); i++) {
        if (add_document(ret_file, json_array_get(documents, i), only, fallback, err) < 0) {
            return error_wrap(err, "document %zu", i + 1);
        }
    }
    return 0;
}

void plan_file_release(struct plan_file *file) {
    json_decref(file->adapters);
    buffer_release(&file->skipped);
}
