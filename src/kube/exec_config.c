#include "kube/exec_config.h"

#include "base/file.h"
#include "kube/base64.h"

#include <stdio.h>
#include <string.h>

#define CA_BYTES_MAX (4 * 1024 * 1024)

static char **new_list(size_t count) {
    return xcalloc(count + 1, sizeof(char *));
}

static void free_list(char **list) {
    for (char **at = list; at != NULL && *at != NULL; at++) {
        explicit_bzero(*at, strlen(*at));
        free(*at);
    }
    free(list);
}

void exec_config_free(struct kube_exec *exec) {
    if (exec == NULL) {
        return;
    }
    free(exec->api_version);
    free(exec->command);
    free_list(exec->arguments);
    free_list(exec->environment);
    free(exec->install_hint);
    json_decref(exec->cluster);
    free(exec);
}

static int check_exec(const char *path, const json_t *section, struct error *err) {
    const char *version = json_string_at(section, "apiVersion", "");
    if (strcmp(version, "client.authentication.k8s.io/v1") != 0 && strcmp(version, "client.authentication.k8s.io/v1beta1") != 0) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "%s: \"exec\": expected apiVersion client.authentication.k8s.io/v1 or v1beta1, found \"%s\"", path,
                         version);
    }
    if (json_string_at(section, "command", "")[0] == '\0') {
        return error_set(err, ERROR_INVALID, "%s: \"exec\" names no \"command\"", path);
    }
    if (strcmp(json_string_at(section, "interactiveMode", ""), "Always") == 0) {
        return error_set(err, ERROR_UNSUPPORTED, "%s: \"exec\": interactiveMode Always: there is nobody to ask here", path);
    }
    return 0;
}

/* What a plugin with provideClusterInfo is told (client.authentication.k8s.io, Cluster). */
static json_t *cluster_info(const struct kube_config *config, const json_t *cluster) {
    json_t *info = json_pack("{s:s, s:b}", "server", config->server, "insecure-skip-tls-verify", config->is_unverified);
    static const char *const copied[] = {"tls-server-name", "certificate-authority-data", "proxy-url"};
    for (size_t i = 0; i < ARRAY_LEN(copied); i++) {
        json_t *value = json_object_get(cluster, copied[i]);
        if (value != NULL) {
            json_object_set(info, copied[i], value);
        }
    }
    cleanup_buffer struct buffer pem = BUFFER_INIT;
    if (config->ca_file != NULL && file_read(config->ca_file, CA_BYTES_MAX, &pem, NULL) == 0) {
        cleanup_buffer struct buffer encoded = BUFFER_INIT;
        base64_encode(pem.data, pem.len, &encoded);
        json_object_set_new(info, "certificate-authority-data", json_string(buffer_text(&encoded)));
    }
    size_t index = 0;
    json_t *extension = NULL;
    json_array_foreach(json_object_get(cluster, "extensions"), index, extension) {
        if (strcmp(json_string_at(extension, "name", ""), "client.authentication.k8s.io/exec") == 0) {
            json_object_set(info, "config", json_object_get(extension, "extension"));
        }
    }
    return info;
}

int exec_config_read(const char *path, const json_t *user, const json_t *cluster, struct kube_config *config, struct error *err) {
    const json_t *section = json_object_get(user, "exec");
    if (!json_is_object(section)) {
        return 0;
    }
    if (check_exec(path, section, err) < 0) {
        return -1;
    }
    const json_t *arguments = json_object_get(section, "args");
    const json_t *environment = json_object_get(section, "env");
    const char *hint = json_string_at(section, "installHint", "");
    const char *command = json_string_at(section, "command", "");
    struct kube_exec *exec = xcalloc(1, sizeof(*exec));
    config->exec = exec;
    exec->api_version = xstrdup(json_string_at(section, "apiVersion", ""));
    exec->command = strchr(command, '/') != NULL ? kube_config_resolve(path, command) : xstrdup(command);
    exec->install_hint = hint[0] != '\0' ? xstrdup(hint) : NULL;
    exec->arguments = new_list(json_array_size(arguments));
    exec->environment = new_list(json_array_size(environment));
    for (size_t i = 0; i < json_array_size(arguments); i++) {
        const char *text = json_string_value(json_array_get(arguments, i));
        exec->arguments[i] = xstrdup(text != NULL ? text : "");
    }
    for (size_t i = 0; i < json_array_size(environment); i++) {
        const json_t *entry = json_array_get(environment, i);
        exec->environment[i] = xasprintf("%s=%s", json_string_at(entry, "name", ""), json_string_at(entry, "value", ""));
    }
    if (json_is_true(json_object_get(section, "provideClusterInfo"))) {
        exec->cluster = cluster_info(config, cluster);
    }
    return 0;
}
