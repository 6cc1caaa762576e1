#include "cluster/node/launch.h"

#include "base/map.h"
#include "base/process.h"
#include "kube/base64.h"
#include "kube/client.h"

#include <string.h>

#define REASON_CONFIG "CreateContainerConfigError"
#define REASON_CREATE "CreateContainerError"

/* What a process inherits from the node: where programs and libraries are found, who we are, proxies and certificates, and the
 * sanitizers' own settings. Everything else comes from the pod. */
static const char *const inherited[] = {
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ASAN_OPTIONS",
    "UBSAN_OPTIONS",
    "LSAN_OPTIONS",
    "TSAN_OPTIONS",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "REQUESTS_CA_BUNDLE",
};

struct environment {
    struct map values; /* name -> char * */
};

static void set_variable(struct environment *environment, const char *name, const char *value) {
    free(map_set(&environment->values, name, xstrdup(value)));
}

static void environment_release(struct environment *environment) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&environment->values, &at)) != NULL;) {
        free(entry->value);
    }
    map_release(&environment->values);
}

static char *expand(const struct environment *environment, const char *text) {
    struct buffer out = BUFFER_INIT;
    buffer_append_text(&out, "");
    while (*text != '\0') {
        if (text[0] == '$' && text[1] == '$') {
            buffer_append_char(&out, '$');
            text += 2;
            continue;
        }
        const char *end = text[0] == '$' && text[1] == '(' ? strchr(text, ')') : NULL;
        cleanup_free char *name = end != NULL ? xstrndup(text + 2, (size_t)(end - text) - 2) : NULL;
        const char *value = name != NULL ? map_get(&environment->values, name) : NULL;
        if (value != NULL) {
            buffer_append_text(&out, value);
            text = end + 1;
        } else {
            buffer_append_char(&out, *text++);
        }
    }
    return buffer_take(&out);
}

/* ---- values from elsewhere ---- */

/* The member at metadata.labels['x'] or metadata.annotations['x']; NULL when `path` is not of that form. */
static const char *subscripted_member(const json_t *pod, const char *path) {
    static const char *const members[] = {"labels", "annotations"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        cleanup_free char *start = xasprintf("metadata.%s['", members[i]);
        size_t len = strlen(path);
        size_t start_len = strlen(start);
        if (strncmp(path, start, start_len) == 0 && len > start_len + 2 && strcmp(path + len - 2, "']") == 0) {
            cleanup_free char *key = xstrndup(path + start_len, len - start_len - 2);
            const char *value =
                json_string_value(json_object_get(json_object_get(json_object_get(pod, "metadata"), members[i]), key));
            return value != NULL ? value : "";
        }
    }
    return NULL;
}

static const char *field_value(const struct launch_input *input, const char *path) {
    if (strcmp(path, "status.podIP") == 0 || strcmp(path, "status.podIPs") == 0) {
        return input->pod_ip;
    }
    if (strcmp(path, "status.hostIP") == 0 || strcmp(path, "status.hostIPs") == 0) {
        return "127.0.0.1";
    }
    if (strcmp(path, "spec.nodeName") == 0) {
        return input->node_name;
    }
    if (strcmp(path, "spec.serviceAccountName") == 0) {
        return json_string_at(input->pod, path, "default");
    }
    if (strcmp(path, "metadata.name") == 0 || strcmp(path, "metadata.namespace") == 0 || strcmp(path, "metadata.uid") == 0) {
        return json_string_at(input->pod, path, "");
    }
    return subscripted_member(input->pod, path);
}

int64_t quantity_milli(const char *text) {
    static const struct {
        const char *suffix;
        double milli;
    } units[] = {{"", 1e3},
                 {"m", 1},
                 {"k", 1e6},
                 {"M", 1e9},
                 {"G", 1e12},
                 {"Ki", 1024e3},
                 {"Mi", 1048576e3},
                 {"Gi", 1073741824e3},
                 {"Ti", 1099511627776e3}};
    char *end = NULL;
    double number = strtod(text, &end);
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (end != text && strcmp(end, units[i].suffix) == 0 && number >= 0 && number * units[i].milli < 9e18) {
            return (int64_t)(number * units[i].milli + 0.5);
        }
    }
    return -1;
}

/* Rounded up to whole units of the divisor, as the kubelet does (500m CPU with divisor 1 is 1). */
static char *resource_value(const struct launch_input *input, const json_t *reference) {
    const char *name = json_string_at(reference, "resource", "");
    const json_t *quantity = json_at(json_object_get(input->container, "resources"), name);
    bool is_cpu = strcmp(name, "limits.cpu") == 0 || strcmp(name, "requests.cpu") == 0;
    cleanup_free char *number = json_is_integer(quantity) ? xasprintf("%lld", (long long)json_integer_value(quantity)) : NULL;
    const char *text = json_is_string(quantity) ? json_string_value(quantity) : number;
    int64_t milli = text != NULL ? quantity_milli(text) : is_cpu ? (int64_t)input->cpus * 1000 : -1;
    int64_t divisor = quantity_milli(json_string_at(reference, "divisor", "1"));
    divisor = divisor > 0 ? divisor : 1000;
    return milli < 0 ? NULL : xasprintf("%lld", (long long)((milli + divisor - 1) / divisor));
}

/* One key of a ConfigMap or Secret. *ret_value stays NULL when the reference is optional and leads nowhere. */
static enum launch_result key_value(const struct launch_input *input, const json_t *reference, bool is_secret, char **ret_value,
                                    struct error *err) {
    const char *kind = is_secret ? "secret" : "configmap";
    const char *name = json_string_at(reference, "name", "");
    const char *key = json_string_at(reference, "key", "");
    bool is_optional = json_bool_at(reference, "optional", false);
    bool is_known = true;
    const json_t *source = input->find_source(input->arg, is_secret, kube_namespace(input->pod), name, &is_known);
    if (source == NULL && !is_known) {
        return LAUNCH_NOT_YET;
    }
    const char *text = json_string_value(json_object_get(json_object_get(source, "data"), key));
    if (text == NULL && is_optional) {
        return LAUNCH_READY;
    }
    if (source == NULL) {
        error_set(err, ERROR_NOT_FOUND, "%s \"%s\" not found", kind, name);
        return LAUNCH_FAILED;
    }
    if (text == NULL) {
        error_set(err, ERROR_NOT_FOUND, "%s \"%s\" has no key \"%s\"", kind, name, key);
        return LAUNCH_FAILED;
    }
    struct buffer value = BUFFER_INIT;
    buffer_append_text(&value, "");
    if (!is_secret) {
        buffer_append_text(&value, text);
    } else if (base64_decode(text, &value, err) < 0) {
        buffer_release(&value);
        error_wrap(err, "secret \"%s\" key \"%s\"", name, key);
        return LAUNCH_FAILED;
    }
    *ret_value = buffer_take(&value);
    return LAUNCH_READY;
}

static enum launch_result value_from(const struct launch_input *input, const char *name, const json_t *from, char **ret_value,
                                     struct error *err) {
    const json_t *reference = NULL;
    if ((reference = json_object_get(from, "fieldRef")) != NULL) {
        const char *value = field_value(input, json_string_at(reference, "fieldPath", ""));
        *ret_value = value != NULL ? xstrdup(value) : NULL;
    } else if ((reference = json_object_get(from, "resourceFieldRef")) != NULL) {
        *ret_value = resource_value(input, reference);
    } else if ((reference = json_object_get(from, "configMapKeyRef")) != NULL) {
        return key_value(input, reference, false, ret_value, err);
    } else if ((reference = json_object_get(from, "secretKeyRef")) != NULL) {
        return key_value(input, reference, true, ret_value, err);
    }
    if (*ret_value == NULL) {
        error_set(err, ERROR_UNSUPPORTED, "env \"%s\": its valueFrom is not known to davit node", name);
        return LAUNCH_FAILED;
    }
    return LAUNCH_READY;
}

/* ---- the environment ---- */

static enum launch_result add_sources(const struct launch_input *input, struct environment *environment, struct error *err) {
    size_t index = 0;
    json_t *from = NULL;
    json_array_foreach(json_object_get(input->container, "envFrom"), index, from) {
        const json_t *reference = json_object_get(from, "secretRef");
        bool is_secret = reference != NULL;
        reference = is_secret ? reference : json_object_get(from, "configMapRef");
        const char *name = json_string_at(reference, "name", "");
        bool is_known = true;
        const json_t *source = input->find_source(input->arg, is_secret, kube_namespace(input->pod), name, &is_known);
        if (source == NULL && !is_known) {
            return LAUNCH_NOT_YET;
        }
        if (source == NULL && !json_bool_at(reference, "optional", false)) {
            error_set(err, ERROR_NOT_FOUND, "%s \"%s\" not found", is_secret ? "secret" : "configmap", name);
            return LAUNCH_FAILED;
        }
        const char *key = NULL;
        json_t *value = NULL;
        json_object_foreach(json_object_get(source, "data"), key, value) {
            cleanup_free char *variable = xasprintf("%s%s", json_string_at(from, "prefix", ""), key);
            cleanup_buffer struct buffer decoded = BUFFER_INIT;
            if (is_secret && base64_decode(json_string_value(value), &decoded, err) < 0) {
                return LAUNCH_FAILED;
            }
            set_variable(environment, variable, is_secret ? buffer_text(&decoded) : json_string_value(value));
        }
    }
    return LAUNCH_READY;
}

static enum launch_result add_variables(const struct launch_input *input, struct environment *environment, struct error *err) {
    size_t index = 0;
    json_t *item = NULL;
    json_array_foreach(json_object_get(input->container, "env"), index, item) {
        const char *name = json_string_at(item, "name", "");
        const json_t *from = json_object_get(item, "valueFrom");
        cleanup_free char *value = NULL;
        if (name[0] == '\0' || strchr(name, '=') != NULL) {
            error_set(err, ERROR_INVALID, "env \"%s\": not a name of a variable", name);
            return LAUNCH_FAILED;
        }
        if (json_is_object(from)) {
            enum launch_result result = value_from(input, name, from, &value, err);
            if (result != LAUNCH_READY) {
                return result;
            }
        } else {
            value = expand(environment, json_string_at(item, "value", ""));
        }
        if (value != NULL) {
            set_variable(environment, name, value);
        }
    }
    return LAUNCH_READY;
}

static char **environment_vector(const struct environment *environment) {
    char **vector = xcalloc(environment->values.count + 1, sizeof(*vector));
    struct map_entry *entry = NULL;
    size_t count = 0;
    for (size_t at = 0; (entry = map_next(&environment->values, &at)) != NULL;) {
        vector[count++] = xasprintf("%s=%s", entry->key, (const char *)entry->value);
    }
    return vector;
}

/* The container's CPU limit for davit engine, which would read it from a cgroup that a process has not got. */
static void add_thread_count(const struct launch_input *input, struct environment *environment) {
    cleanup_json json_t *limit = json_pack("{s:s}", "resource", "limits.cpu");
    cleanup_free char *cpus = resource_value(input, limit); /* the machine's when there is no limit */
    if (cpus != NULL && strtol(cpus, NULL, 10) >= 1 && strtol(cpus, NULL, 10) < input->cpus) {
        set_variable(environment, "DAVIT_THREADS", cpus);
    }
}

static enum launch_result make_environment(const struct launch_input *input, struct environment *environment, struct error *err) {
    for (size_t i = 0; i < ARRAY_LEN(inherited); i++) {
        const char *value = getenv(inherited[i]);
        if (value != NULL) {
            set_variable(environment, inherited[i], value);
        }
    }
    set_variable(environment, "HOSTNAME", kube_name(input->pod));
    set_variable(environment, "POD_IP", input->pod_ip);
    add_thread_count(input, environment);
    enum launch_result result = add_sources(input, environment, err);
    return result == LAUNCH_READY ? add_variables(input, environment, err) : result;
}

/* ---- the command ---- */

static void free_vector(char **vector) {
    for (char **at = vector; at != NULL && *at != NULL; at++) {
        free(*at);
    }
    free(vector);
}

static char **make_arguments(const struct environment *environment, const json_t *command, const json_t *args) {
    char **vector = xcalloc(json_array_size(command) + json_array_size(args) + 1, sizeof(*vector));
    size_t count = 0;
    size_t index = 0;
    json_t *word = NULL;
    json_array_foreach(command, index, word) {
        vector[count++] = expand(environment, json_is_string(word) ? json_string_value(word) : "");
    }
    json_array_foreach(args, index, word) {
        vector[count++] = expand(environment, json_is_string(word) ? json_string_value(word) : "");
    }
    return vector;
}

enum launch_result launch_prepare(const struct launch_input *input, struct launch *ret_launch, const char **ret_reason,
                                  struct error *err) {
    const json_t *command = json_object_get(input->container, "command");
    const char *container = json_string_at(input->container, "name", "");
    *ret_reason = REASON_CREATE;
    if (json_array_size(command) == 0) {
        error_set(err, ERROR_INVALID,
                  "container \"%s\" has no command: images are not pulled on this node, so the manifest must name a command that "
                  "exists on this "
                  "machine",
                  container);
        return LAUNCH_FAILED;
    }
    struct environment environment = {MAP_INIT};
    enum launch_result result = make_environment(input, &environment, err);
    struct launch launch = {0};
    if (result != LAUNCH_READY) {
        *ret_reason = REASON_CONFIG;
    } else {
        launch.folder = json_string_at(input->container, "workingDir", NULL);
        launch.arguments = make_arguments(&environment, command, json_object_get(input->container, "args"));
        launch.environment = environment_vector(&environment);
        launch.program = process_find_program(launch.arguments[0], map_get(&environment.values, "PATH"), launch.folder);
        if (launch.program == NULL) {
            error_set(
                err, ERROR_NOT_FOUND,
                "container \"%s\": command \"%s\" does not exist on this machine or may not be executed; images are not pulled",
                container, launch.arguments[0]);
            result = LAUNCH_FAILED;
        }
    }
    environment_release(&environment);
    if (result != LAUNCH_READY) {
        launch_release(&launch);
        return result;
    }
    *ret_launch = launch;
    return LAUNCH_READY;
}

void launch_release(struct launch *launch) {
    free(launch->program);
    free_vector(launch->arguments);
    free_vector(launch->environment);
    *launch = (struct launch){0};
}
