#include "cluster/api/credentials.h"

#include "base/file.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#define TOKEN_BYTES 32
#define TOKEN_FILE_BYTES_MAX 4096
#define CA_BYTES_MAX (64 * 1024)

static int make_token(const char *path, char **ret_token, struct error *err) {
    unsigned char bytes[TOKEN_BYTES];
    char token[TOKEN_BYTES * 2 + 2];
    if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
        return error_set(err, ERROR_IO, "no random bytes for a token");
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        (void)snprintf(token + i * 2, 3, "%02x", bytes[i]);
    }
    token[TOKEN_BYTES * 2] = '\n';
    if (file_replace(path, token, TOKEN_BYTES * 2 + 1, 0600, err) < 0) {
        return -1;
    }
    *ret_token = xstrndup(token, TOKEN_BYTES * 2);
    return 0;
}

int credentials_load_token(const char *path, char **ret_token, struct error *err) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct error read_err = {0};
    if (file_read(path, TOKEN_FILE_BYTES_MAX, &text, &read_err) < 0) {
        if (read_err.code == ERROR_NOT_FOUND) {
            return make_token(path, ret_token, err);
        }
        *err = read_err;
        return error_wrap(err, "token file");
    }
    const char *token = buffer_text(&text);
    size_t len = strcspn(token, " \t\r\n");
    if (len < 16) {
        return error_set(err, ERROR_INVALID, "token file %s: the token has %zu characters, expected at least 16", path, len);
    }
    *ret_token = xstrndup(token, len);
    return 0;
}

int credentials_write_kubeconfig(const char *path, const char *pki, const char *address, int port, const char *token,
                                 struct error *err) {
    cleanup_free char *ca_path = path_join(pki, "ca.crt");
    cleanup_buffer struct buffer ca = BUFFER_INIT;
    if (file_read(ca_path, CA_BYTES_MAX, &ca, err) < 0) {
        return error_wrap(err, "kubeconfig");
    }
    cleanup_free char *encoded = xmalloc(ca.len / 3 * 4 + 8);
    EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)ca.data, (int)ca.len);
    const char *host = strcmp(address, "0.0.0.0") == 0 ? "127.0.0.1" : strcmp(address, "::") == 0 ? "::1" : address;
    bool is_ipv6 = strchr(host, ':') != NULL;
    cleanup_buffer struct buffer out = BUFFER_INIT;
    buffer_printf(&out,
                  "apiVersion: v1\nkind: Config\ncurrent-context: davit\nclusters:\n- name: davit\n  cluster:\n    server: "
                  "https://%s%s%s:%d\n"
                  "    certificate-authority-data: %s\ncontexts:\n- name: davit\n  context:\n    cluster: davit\n    user: davit\n "
                  "   namespace: default\n"
                  "users:\n- name: davit\n  user:\n    token: %s\n",
                  is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", port, encoded, token);
    return file_replace(path, out.data, out.len, 0600, err);
}
