#include "kube/config.h"

#include "base/file.h"
#include "kube/base64.h"
#include "kube/exec_config.h"
#include "kube/yaml.h"

#include <stdio.h>
#include <string.h>

#define KUBECONFIG_BYTES_MAX (4 * 1024 * 1024)
#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"

static void replace(char **slot, char *text) {
    free(*slot);
    *slot = text;
}

/* The member `what` ("cluster", "user", "context") of the entry called `name` in the list `lists`. Borrowed. */
static const json_t *named_entry(const json_t *root, const char *list, const char *what, const char *name) {
    size_t index = 0;
    json_t *entry = NULL;
    json_array_foreach(json_object_get(root, list), index, entry) {
        if (strcmp(json_string_at(entry, "name", ""), name) == 0) {
            return json_object_get(entry, what);
        }
    }
    return NULL;
}

char *kube_config_resolve(const char *config_path, const char *path) {
    const char *slash = strrchr(config_path, '/');
    if (path[0] == '/' || slash == NULL) {
        return xstrdup(path);
    }
    return xasprintf("%.*s/%s", (int)(slash - config_path), config_path, path);
}

/* Fills *file from member `name` (a path), or *pem from `<name>-data` (inline, which wins as in client-go). */
static int read_file_or_data(const char *config_path, const json_t *section, const char *name, char **file, char **pem,
                             struct error *err) {
    cleanup_free char *data_name = xasprintf("%s-data", name);
    const char *data = json_string_value(json_object_get(section, data_name));
    const char *path = json_string_value(json_object_get(section, name));
    if (data == NULL || data[0] == '\0') {
        if (path != NULL && path[0] != '\0') {
            replace(file, kube_config_resolve(config_path, path));
        }
        return 0;
    }
    cleanup_buffer struct buffer bytes = BUFFER_INIT;
    if (base64_decode(data, &bytes, err) < 0) {
        return error_wrap(err, "%s: %s", config_path, data_name);
    }
    if (strlen(buffer_text(&bytes)) != bytes.len || strstr(buffer_text(&bytes), "-----BEGIN") == NULL) {
        return error_set(err, ERROR_INVALID, "%s: %s: PEM text was expected", config_path, data_name);
    }
    replace(pem, buffer_take(&bytes));
    return 0;
}

/* What we cannot do must not be skipped silently: it would look like a wrong credential. */
static int refuse_unsupported(const char *path, const json_t *section, const char *const *members, struct error *err) {
    for (; *members != NULL; members++) {
        const json_t *value = json_object_get(section, *members);
        if (value != NULL && !json_is_null(value) && !json_is_false(value)) {
            return error_set(err, ERROR_UNSUPPORTED,
                             "%s: \"%s\" is not supported; use a certificate authority, client certificates or a token", path,
                             *members);
        }
    }
    return 0;
}

static char *text_or_null(const json_t *section, const char *name) {
    const char *text = json_string_value(json_object_get(section, name));
    return text != NULL && text[0] != '\0' ? xstrdup(text) : NULL;
}

static int read_cluster(struct kube_config *config, const char *path, const json_t *cluster, struct error *err) {
    const char *server = json_string_at(cluster, "server", "");
    if (strncmp(server, "https://", 8) != 0 && strncmp(server, "http://", 7) != 0) {
        return error_set(err, ERROR_INVALID, "%s: the cluster's \"server\" is missing or no http(s) URL", path);
    }
    size_t len = strlen(server);
    while (len > 0 && server[len - 1] == '/') {
        len--;
    }
    replace(&config->server, xstrndup(server, len));
    replace(&config->tls_server_name, text_or_null(cluster, "tls-server-name"));
    replace(&config->proxy_url, text_or_null(cluster, "proxy-url"));
    config->is_unverified = json_is_true(json_object_get(cluster, "insecure-skip-tls-verify"));
    if (read_file_or_data(path, cluster, "certificate-authority", &config->ca_file, &config->ca_pem, err) < 0) {
        return -1;
    }
    if (config->is_unverified && (config->ca_file != NULL || config->ca_pem != NULL)) {
        return error_set(err, ERROR_INVALID,
                         "%s: the cluster has both \"insecure-skip-tls-verify\" and a certificate authority; expected one of them",
                         path);
    }
    return 0;
}

static int read_token(struct kube_config *config, const char *path, const json_t *user, struct error *err) {
    const char *token = json_string_at(user, "token", NULL);
    const char *token_file = json_string_at(user, "tokenFile", NULL);
    if (token != NULL && token[0] != '\0') {
        if (strpbrk(token, "\r\n") != NULL) {
            return error_set(err, ERROR_INVALID, "%s: the user's \"token\" holds a line break", path);
        }
        replace(&config->token, xstrdup(token));
    }
    if (token_file != NULL && token_file[0] != '\0') {
        replace(&config->token_file, kube_config_resolve(path, token_file));
    }
    return 0;
}

static int read_user(struct kube_config *config, const char *path, const json_t *user, struct error *err) {
    static const char *const unsupported[] = {"auth-provider", "username", "password", "as", NULL};
    if (refuse_unsupported(path, user, unsupported, err) < 0 ||
        read_file_or_data(path, user, "client-certificate", &config->client_cert_file, &config->client_cert_pem, err) < 0 ||
        read_file_or_data(path, user, "client-key", &config->client_key_file, &config->client_key_pem, err) < 0) {
        return -1;
    }
    return read_token(config, path, user, err);
}

static int read_document(struct kube_config *config, const char *path, const json_t *root, struct error *err) {
    const char *current = json_string_at(root, "current-context", "");
    if (current[0] == '\0') {
        return error_set(err, ERROR_INVALID, "%s: no \"current-context\"", path);
    }
    const json_t *context = named_entry(root, "contexts", "context", current);
    if (context == NULL) {
        return error_set(err, ERROR_INVALID, "%s: no context \"%s\", which \"current-context\" names", path, current);
    }
    const char *cluster_name = json_string_at(context, "cluster", "");
    const char *user_name = json_string_at(context, "user", "");
    const json_t *cluster = named_entry(root, "clusters", "cluster", cluster_name);
    const json_t *user = named_entry(root, "users", "user", user_name);
    if (cluster == NULL) {
        return error_set(err, ERROR_INVALID, "%s: no cluster \"%s\", which context \"%s\" names", path, cluster_name, current);
    }
    if (user == NULL && user_name[0] != '\0') {
        return error_set(err, ERROR_INVALID, "%s: no user \"%s\", which context \"%s\" names", path, user_name, current);
    }
    const char *namespace = json_string_at(context, "namespace", "");
    replace(&config->namespace, xstrdup(namespace[0] != '\0' ? namespace : "default"));
    if (read_cluster(config, path, cluster, err) < 0) {
        return -1;
    }
    if (user == NULL) {
        return 0;
    }
    return read_user(config, path, user, err) < 0 ? -1 : exec_config_read(path, user, cluster, config, err);
}

static int load_file(struct kube_config *config, const char *path, struct error *err) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read(path, KUBECONFIG_BYTES_MAX, &text, err) < 0) {
        return error_wrap(err, "kubeconfig");
    }
    cleanup_json json_t *documents = yaml_parse_all(buffer_text(&text), text.len, err);
    if (documents == NULL) {
        return error_wrap(err, "%s", path);
    }
    const json_t *root = json_array_get(documents, 0);
    if (!json_is_object(root)) {
        return error_set(err, ERROR_INVALID, "%s: not a kubeconfig: a mapping was expected", path);
    }
    return read_document(config, path, root, err);
}

static int load_service_account(struct kube_config *config, const char *host, const char *port, struct error *err) {
    cleanup_buffer struct buffer namespace = BUFFER_INIT;
    if (file_read(SERVICE_ACCOUNT "/namespace", 1024, &namespace, err) < 0) {
        return error_wrap(err, "service account");
    }
    bool is_ipv6 = strchr(host, ':') != NULL;
    replace(&config->server, xasprintf("https://%s%s%s:%s", is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", port));
    replace(&config->namespace, xstrndup(buffer_text(&namespace), strcspn(buffer_text(&namespace), " \r\n")));
    replace(&config->ca_file, xstrdup(SERVICE_ACCOUNT "/ca.crt"));
    replace(&config->token_file, xstrdup(SERVICE_ACCOUNT "/token"));
    return 0;
}

/* The first existing file of $KUBECONFIG, which may be a list; its first file when none exists. NULL when the variable is not set.
 */
static char *path_of_environment(void) {
    const char *list = getenv("KUBECONFIG");
    if (list == NULL || list[0] == '\0') {
        return NULL;
    }
    for (const char *at = list; *at != '\0'; at += strspn(at, ":")) {
        size_t len = strcspn(at, ":");
        cleanup_free char *path = xstrndup(at, len);
        if (len > 0 && access(path, F_OK) == 0) {
            return take_pointer(path);
        }
        at += len;
    }
    return xstrndup(list, strcspn(list, ":"));
}

static int load(struct kube_config *config, const char *path, struct error *err) {
    if (path != NULL) {
        return load_file(config, path, err);
    }
    cleanup_free char *from_environment = path_of_environment();
    if (from_environment != NULL) {
        return load_file(config, from_environment, err);
    }
    const char *host = getenv("KUBERNETES_SERVICE_HOST");
    const char *port = getenv("KUBERNETES_SERVICE_PORT");
    if (host != NULL && access(SERVICE_ACCOUNT "/token", F_OK) == 0) {
        return load_service_account(config, host, port != NULL ? port : "443", err);
    }
    const char *home = getenv("HOME");
    if (home == NULL) {
        return error_set(err, ERROR_NOT_FOUND, "no kubeconfig: give --kubeconfig or set KUBECONFIG");
    }
    cleanup_free char *in_home = path_join(home, ".kube/config");
    return load_file(config, in_home, err);
}

int kube_config_load(const char *path, struct kube_config *ret_config, struct error *err) {
    struct kube_config config = {0};
    if (load(&config, path, err) < 0) {
        kube_config_release(&config);
        return -1;
    }
    *ret_config = config;
    return 0;
}

static void free_secret(char *text) {
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}

void kube_config_release(struct kube_config *config) {
    free(config->server);
    free(config->namespace);
    free(config->ca_file);
    free(config->ca_pem);
    free(config->client_cert_file);
    free(config->client_cert_pem);
    free(config->client_key_file);
    free_secret(config->client_key_pem);
    free(config->tls_server_name);
    free(config->proxy_url);
    free_secret(config->token);
    free(config->token_file);
    exec_config_free(config->exec);
    *config = (struct kube_config){0};
}
