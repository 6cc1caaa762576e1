#include "base/file.h"
#include "kube/base64.h"
#include "kube/config.h"
#include "kube/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char folder[] = "/tmp/davit-test-XXXXXX";
static char path[128];

static int make_folder(void **state) {
    (void)state;
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof(path), "%s/config", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    (void)unlink(path);
    return rmdir(folder);
}

static int load(const char *text, struct kube_config *config, struct error *err) {
    assert_int_equal(file_replace(path, text, strlen(text), 0600, NULL), 0);
    return kube_config_load(path, config, err);
}

#define HEAD                                                                                                                       \
    "apiVersion: v1\nkind: Config\ncurrent-context: two\ncontexts:\n- name: one\n  context: {cluster: c, user: u}\n"               \
    "- name: two\n  context: {cluster: c, user: u, namespace: apps}\n"

/* base64 of "-----BEGIN X-----" */
#define PEM "LS0tLS1CRUdJTiBYLS0tLS0="

static void test_token_and_inline_data(void **state) {
    (void)state;
    struct kube_config config;
    struct error err;
    assert_int_equal(
        load(HEAD "clusters:\n- name: c\n  cluster:\n    server: https://127.0.0.1:6443/\n    certificate-authority-data: " PEM "\n"
                  "    tls-server-name: api.example\n    proxy-url: socks5://p:1\n"
                  "users:\n- name: u\n  user: {token: abc, client-certificate-data: " PEM ", client-key-data: " PEM "}\n",
             &config, &err),
        0);
    assert_string_equal(config.server, "https://127.0.0.1:6443");
    assert_string_equal(config.namespace, "apps");
    assert_string_equal(config.token, "abc");
    assert_string_equal(config.tls_server_name, "api.example");
    assert_string_equal(config.proxy_url, "socks5://p:1");
    /* What stands in the file stays in memory. */
    assert_string_equal(config.ca_pem, "-----BEGIN X-----");
    assert_string_equal(config.client_cert_pem, "-----BEGIN X-----");
    assert_string_equal(config.client_key_pem, "-----BEGIN X-----");
    assert_null(config.ca_file);
    assert_null(config.client_key_file);
    assert_false(config.is_unverified);
    kube_config_release(&config);
}

static void test_exec_section(void **state) {
    (void)state;
    struct kube_config config;
    struct error err;
    assert_int_equal(
        load(HEAD "clusters: [{name: c, cluster: {server: 'https://h', insecure-skip-tls-verify: true, extensions: [{name: "
                  "client.authentication.k8s.io/exec, extension: {audience: me}}]}}]\n"
                  "users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: bin/get, args: [a, "
                  "b c], env: [{name: N, value: v}], provideClusterInfo: true, interactiveMode: Never, installHint: see x}}}]\n",
             &config, &err),
        0);
    cleanup_free char *command = path_join(folder, "bin/get"); /* relative to the kubeconfig, since it has a slash */
    assert_string_equal(config.exec->command, command);
    assert_string_equal(config.exec->arguments[1], "b c");
    assert_null(config.exec->arguments[2]);
    assert_string_equal(config.exec->environment[0], "N=v");
    assert_string_equal(config.exec->install_hint, "see x");
    assert_string_equal(json_string_at(config.exec->cluster, "server", ""), "https://h");
    assert_string_equal(json_string_at(config.exec->cluster, "config.audience", ""), "me");
    assert_true(config.is_unverified);
    kube_config_release(&config);
}

static void test_relative_files(void **state) {
    (void)state;
    struct kube_config config;
    struct error err;
    assert_int_equal(load(HEAD "clusters: [{name: c, cluster: {server: 'http://h', certificate-authority: pki/ca.crt}}]\n"
                               "users: [{name: u, user: {client-certificate: /abs/c.crt, client-key: c.key, tokenFile: tok}}]\n",
                          &config, &err),
                     0);
    cleanup_free char *ca = path_join(folder, "pki/ca.crt");
    cleanup_free char *token = path_join(folder, "tok");
    assert_string_equal(config.ca_file, ca);
    assert_string_equal(config.client_cert_file, "/abs/c.crt");
    assert_string_equal(config.token_file, token);
    assert_null(config.token);
    kube_config_release(&config);
}

#define CLUSTER "clusters: [{name: c, cluster: {server: 'https://h'}}]\n"
#define USER(text) "users: [{name: u, user: {" text "}}]\n"

static void test_what_is_wrong_is_named(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum error_code code;
        const char *says;
    } cases[] = {
        {"- 1\n", ERROR_INVALID, "a mapping was expected"},
        {"a: [1\n", ERROR_INVALID, "not valid YAML"},
        {"kind: Config\n", ERROR_INVALID, "current-context"},
        {"current-context: x\n", ERROR_INVALID, "no context \"x\""},
        {HEAD, ERROR_INVALID, "no cluster \"c\""},
        {HEAD "clusters: [{name: c, cluster: {server: 'http://h'}}]\n", ERROR_INVALID, "no user \"u\""},
        {HEAD "clusters: [{name: c, cluster: {server: h}}]\nusers: [{name: u, user: {}}]\n", ERROR_INVALID, "\"server\""},
        {HEAD
         "clusters: [{name: c, cluster: {server: 'https://h', insecure-skip-tls-verify: true, certificate-authority: x}}]\n" USER(
             ""),
         ERROR_INVALID, "one of them"},
        {HEAD CLUSTER USER("exec: {command: aws}"), ERROR_UNSUPPORTED, "found \"\""},
        {HEAD CLUSTER USER("exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: a}"), ERROR_UNSUPPORTED, "v1alpha1"},
        {HEAD CLUSTER USER("exec: {apiVersion: client.authentication.k8s.io/v1}"), ERROR_INVALID, "command"},
        {HEAD CLUSTER USER("exec: {apiVersion: client.authentication.k8s.io/v1, command: a, interactiveMode: Always}"),
         ERROR_UNSUPPORTED, "interactiveMode"},
        {HEAD CLUSTER USER("username: a"), ERROR_UNSUPPORTED, "username"},
        {HEAD "clusters: [{name: c, cluster: {server: 'https://h', certificate-authority-data: '!!'}}]\n" USER(""), ERROR_INVALID,
         "certificate-authority-data"},
        {HEAD CLUSTER USER("client-key-data: SGVsbG8="), ERROR_INVALID, "PEM text was expected"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kube_config config;
        struct error err = {0};
        assert_int_equal(load(cases[i].text, &config, &err), -1);
        assert_int_equal(err.code, cases[i].code);
        assert_non_null(strstr(err.message, cases[i].says));
        assert_non_null(strstr(err.message, path));
    }
    struct kube_config config;
    struct error err;
    assert_int_equal(kube_config_load("/nowhere/config", &config, &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
}

static void test_yaml_types(void **state) {
    (void)state;
    static const char text[] = "a: 1\nb: '1'\nc: yes\nd: true\ne: ~\nf: 1.5\ng: [x, -2]\nh: {i: ''}\nj: 127.0.0.1\nk: 1e3\nl: "
                               ".\nn: |\n  x\n  y\n---\n---\nz: 1\n";
    struct error err;
    cleanup_json json_t *documents = yaml_parse_all(text, strlen(text), &err);
    assert_non_null(documents);
    assert_int_equal(json_array_size(documents), 2);
    cleanup_free char *first = json_text(json_array_get(documents, 0));
    assert_string_equal(first, "{\"a\":1,\"b\":\"1\",\"c\":\"yes\",\"d\":true,\"e\":null,\"f\":1.5,\"g\":[\"x\",-2],\"h\":{\"i\":"
                               "\"\"},\"j\":\"127.0.0.1\","
                               "\"k\":1000.0,\"l\":\".\",\"n\":\"x\\ny\\n\"}");
}

static void test_yaml_bombs(void **state) {
    (void)state;
    static const char twice[] = "a: 1\na: 2\n";
    struct error err;
    assert_null(yaml_parse_all(twice, strlen(twice), &err));
    assert_non_null(strstr(err.message, "twice"));
    struct buffer bomb = BUFFER_INIT;
    buffer_append_text(&bomb, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 12; i++) {
        buffer_printf(&bomb, "a%d: &a%d [", i, i);
        for (int j = 0; j < 10; j++) {
            buffer_printf(&bomb, "*a%d%s", i - 1, j < 9 ? ", " : "]\n");
        }
    }
    assert_null(yaml_parse_all(bomb.data, bomb.len, &err));
    assert_int_equal(err.code, ERROR_LIMIT);
    buffer_release(&bomb);
}

static void test_base64(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *bytes; /* NULL = refused */
    } cases[] = {{"", ""},    {"TQ==", "M"}, {"TWE=", "Ma"}, {"TWFu", "Man"}, {"TWFu\nTQ==\n", "ManM"},
                 {"TQ", "M"}, {"T", NULL},   {"TQ=", NULL},  {"T=Q=", NULL},  {"T-_=", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_buffer struct buffer out = BUFFER_INIT;
        struct error err;
        int result = base64_decode(cases[i].text, &out, &err);
        assert_int_equal(result, cases[i].bytes != NULL ? 0 : -1);
        if (result == 0) {
            assert_string_equal(buffer_text(&out), cases[i].bytes);
        }
    }
    for (size_t i = 1; i < 4; i++) {
        cleanup_buffer struct buffer out = BUFFER_INIT;
        base64_encode(cases[i].bytes, strlen(cases[i].bytes), &out);
        assert_string_equal(buffer_text(&out), cases[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_and_inline_data),
        cmocka_unit_test(test_exec_section),
        cmocka_unit_test(test_relative_files),
        cmocka_unit_test(test_what_is_wrong_is_named),
        cmocka_unit_test(test_yaml_types),
        cmocka_unit_test(test_yaml_bombs),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
