/* Credentials that change: token files, exec plugins, a 401; and an API that says when to come back. */
#include "base/file.h"
#include "fake_api.h"
#include "kube/exec_plugin.h"

#include <stdio.h>

struct world {
    struct fake_api api;
    char folder[64];
    char *plugin; /* a script */
    char *token_file;
    const char *accepted; /* the token that is not answered with 401 */
    int busy_answers;     /* 429 with Retry-After, so many times */
    const char *retry_after;
    int requests;
    struct buffer tokens; /* as presented, in order */
    int done;
    int wanted;
    struct error err;
};

static void on_request(void *arg, struct http_request *request) {
    struct world *world = arg;
    const char *value = http_fields_get(&http_request_head(request)->fields, "authorization");
    value = value != NULL ? value + strlen("Bearer ") : "none";
    world->requests++;
    buffer_printf(&world->tokens, "%s ", value);
    if (world->busy_answers > 0) {
        world->busy_answers--;
        http_reply_field(request, "Retry-After", world->retry_after);
        fake_api_reply(request, 429, "{\"reason\":\"TooManyRequests\",\"message\":\"busy\"}");
    } else if (strcmp(value, world->accepted) != 0) {
        fake_api_reply(request, 401, "{\"reason\":\"Unauthorized\",\"message\":\"who are you\"}");
    } else {
        fake_api_reply(request, 200, "{\"kind\":\"Pod\"}");
    }
}

static void world_init(struct world *world) {
    *world = (struct world){.accepted = "t1"};
    fake_api_init(&world->api, on_request, world);
    (void)snprintf(world->folder, sizeof(world->folder), "/tmp/davit-test-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    world->plugin = path_join(world->folder, "plugin");
    world->token_file = path_join(world->folder, "token");
    free(world->api.config.token);
    world->api.config.token = NULL;
}

static void write_file(const char *path, const char *text) {
    assert_int_equal(file_replace(path, text, strlen(text), 0700, NULL), 0);
}

/* A plugin that says t1, t2, ... and writes down that it ran. `extra`: further members of its status. */
static void write_plugin(struct world *world, const char *extra) {
    cleanup_free char *script =
        xasprintf("#!/bin/sh\nn=$(cat %s/runs 2>/dev/null || echo 0)\nn=$((n + 1))\necho $n >%s/runs\nprintf '%%s' "
                  "\"$KUBERNETES_EXEC_INFO\" >%s/info\n"
                  "test \"$1\" = login || exit 3\n"
                  "echo \"{\\\"apiVersion\\\": \\\"client.authentication.k8s.io/v1\\\", \\\"kind\\\": \\\"ExecCredential\\\", "
                  "\\\"status\\\": {\\\"token\\\": \\\"$PREFIX$n\\\"%s}}\"\n",
                  world->folder, world->folder, world->folder, extra);
    write_file(world->plugin, script);
}

static void use_plugin(struct world *world, const char *extra) {
    write_plugin(world, extra);
    struct kube_exec *exec = xcalloc(1, sizeof(*exec));
    exec->api_version = xstrdup("client.authentication.k8s.io/v1");
    exec->command = xstrdup(world->plugin);
    exec->arguments = xcalloc(2, sizeof(char *));
    exec->arguments[0] = xstrdup("login");
    exec->environment = xcalloc(2, sizeof(char *));
    exec->environment[0] = xstrdup("PREFIX=t");
    exec->cluster = json_pack("{s:s}", "server", "https://h");
    world->api.config.exec = exec;
}

static void world_release(struct world *world) {
    static const char *const names[] = {"plugin", "token", "runs", "info"};
    fake_api_release(&world->api);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        cleanup_free char *path = path_join(world->folder, names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(world->folder), 0);
    free(world->plugin);
    free(world->token_file);
    buffer_release(&world->tokens);
}

static char *read_text(const struct world *world, const char *name) {
    struct buffer text = BUFFER_INIT;
    cleanup_free char *path = path_join(world->folder, name);
    (void)!file_read(path, 10000, &text, NULL);
    return buffer_take(&text);
}

static void on_done(void *arg, json_t *object, const struct error *err) {
    struct world *world = arg;
    (void)object;
    world->done++;
    world->err = err != NULL ? *err : (struct error){0};
}

static bool is_done(void *arg) {
    struct world *world = arg;
    return world->done >= world->wanted;
}

static void start(struct world *world) {
    kube_start(world->api.client, &(struct kube_request){.verb = KUBE_GET,
                                                         .resource = &kube_pods,
                                                         .namespace = "d",
                                                         .name = "p",
                                                         .timeout_ms = 5000,
                                                         .on_done = on_done,
                                                         .arg = world});
}

/* Starts so many calls at once and runs until all were answered. */
static void call(struct world *world, int count) {
    world->done = 0;
    world->wanted = count;
    for (int i = 0; i < count; i++) {
        start(world);
    }
    fake_api_run_until(&world->api, is_done, world);
}

static void assert_tokens(struct world *world, const char *expected) {
    assert_string_equal(buffer_text(&world->tokens), expected);
}

/* ---- token files ---- */

static void test_token_file_is_read_again_after_401(void **state) {
    (void)state;
    struct world world;
    world_init(&world);
    world.api.config.token_file = xstrdup(world.token_file);
    write_file(world.token_file, "t1\n");
    call(&world, 1);
    assert_int_equal(world.err.code, ERROR_NONE);
    write_file(world.token_file, "t2\n");
    call(&world, 1); /* the old one is good yet */
    assert_int_equal(world.err.code, ERROR_NONE);
    world.accepted = "t2";
    call(&world, 1);
    assert_int_equal(world.err.code, ERROR_NONE);
    world.accepted = "t3"; /* nothing new in the file: no second try */
    call(&world, 1);
    assert_int_equal(world.err.code, ERROR_UNAUTHORIZED);
    assert_int_equal(unlink(world.token_file), 0); /* missing for a moment */
    world.accepted = "t2";
    call(&world, 1);
    assert_int_equal(world.err.code, ERROR_NONE);
    assert_tokens(&world, "t1 t1 t1 t2 t2 t2 ");
    world_release(&world);
}

/* ---- exec plugins ---- */

static void test_plugin_runs_once(void **state) {
    (void)state;
    struct world world;
    world_init(&world);
    use_plugin(&world, "");
    call(&world, 6);
    assert_int_equal(world.err.code, ERROR_NONE);
    call(&world, 1);
    cleanup_free char *runs = read_text(&world, "runs");
    cleanup_free char *info = read_text(&world, "info");
    assert_string_equal(runs, "1\n");
    assert_non_null(strstr(info, "\"apiVersion\":\"client.authentication.k8s.io/v1\""));
    assert_non_null(strstr(info, "\"server\":\"https://h\""));
    assert_non_null(strstr(info, "\"interactive\":false"));
    /* 401: once more with what it prints now, for all that were out */
    world.accepted = "t2";
    call(&world, 3);
    assert_int_equal(world.err.code, ERROR_NONE);
    cleanup_free char *later = read_text(&world, "runs");
    assert_string_equal(later, "2\n");
    world.accepted = "never";
    call(&world, 1);
    assert_int_equal(world.err.code, ERROR_UNAUTHORIZED);
    assert_non_null(strstr(world.err.message, "who are you"));
    world_release(&world);
}

static void test_expired_credentials_are_renewed_before_use(void **state) {
    (void)state;
    struct world world;
    world_init(&world);
    use_plugin(&world, ", \\\"expirationTimestamp\\\": \\\"$(date -u -d '+11 seconds' +%Y-%m-%dT%H:%M:%SZ)\\\"");
    call(&world, 1);
    assert_int_equal(world.err.code, ERROR_NONE);
    world.accepted = "t2";
    world.err.code = ERROR_UNAUTHORIZED;
    int64_t deadline_ms = clock_now_ms() + 9000;
    /* Ten seconds before the end it runs again, without a 401. */
    while (clock_now_ms() < deadline_ms && strstr(buffer_text(&world.tokens), "t2") == NULL) {
        world.accepted = strstr(buffer_text(&world.tokens), "t2") == NULL ? "t1" : "t2";
        call(&world, 1);
    }
    assert_non_null(strstr(buffer_text(&world.tokens), "t1 t2"));
    world_release(&world);
}

static void test_plugin_that_fails(void **state) {
    (void)state;
    static const struct {
        const char *script;
        const char *says;
    } cases[] = {
        {"#!/bin/sh\nexit 7\n", "exit code 7"},
        {"#!/bin/sh\nkill -9 $$\n", "signal 9"},
        {"#!/bin/sh\necho secret-thing\n", "expected an ExecCredential"},
        {"#!/bin/sh\nhead -c 2000000 /dev/zero\n", "more than"},
        {"no script at all", "cannot be started"},
        {NULL, "cannot be started"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world world;
        world_init(&world);
        use_plugin(&world, "");
        if (cases[i].script != NULL) {
            write_file(world.plugin, cases[i].script);
        } else {
            assert_int_equal(unlink(world.plugin), 0);
        }
        call(&world, 5); /* more than run at once: all that wait are told */
        assert_int_equal(world.err.code, ERROR_UNAUTHORIZED);
        assert_non_null(strstr(world.err.message, cases[i].says));
        assert_non_null(strstr(world.err.message, world.plugin));
        assert_null(strstr(world.err.message, "secret"));
        assert_int_equal(world.requests, 0);
        write_plugin(&world, ""); /* it is mended: the next call succeeds, after a pause */
        call(&world, 1);
        assert_int_equal(world.err.code, ERROR_NONE);
        world_release(&world);
    }
}

static void test_what_a_plugin_may_print(void **state) {
    (void)state;
#define V1 "client.authentication.k8s.io/v1"
#define CREDENTIAL(version, status) "{\"apiVersion\":\"" version "\",\"kind\":\"ExecCredential\",\"status\":" status "}"
    static const struct {
        const char *text;
        const char *says; /* NULL = taken */
    } cases[] = {
        {CREDENTIAL(V1, "{\"token\":\"x\",\"expirationTimestamp\":\"2026-11-25T10:00:00Z\"}"), NULL},
        {CREDENTIAL(V1, "{\"clientCertificateData\":\"c\",\"clientKeyData\":\"k\"}"), NULL},
        {CREDENTIAL(V1, "{\"clientCertificateData\":\"c\"}"), "together"},
        {CREDENTIAL(V1, "{}"), "neither"},
        {CREDENTIAL(V1 "beta1", "{\"token\":\"x\"}"), "expected apiVersion"},
        {CREDENTIAL(V1, "{\"token\":\"x\\ny\"}"), "line break"},
        {CREDENTIAL(V1, "{\"token\":\"x\",\"expirationTimestamp\":\"soon\"}"), "no time"},
        {"{\"kind\":\"Status\"}", "expected an ExecCredential"},
        {"", "expected an ExecCredential"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct exec_credential credential = {0};
        struct error err = {0};
        int result = exec_credential_parse(cases[i].text, strlen(cases[i].text), V1, &credential, &err);
        assert_int_equal(result, cases[i].says == NULL ? 0 : -1);
        if (result < 0) {
            assert_non_null(strstr(err.message, cases[i].says));
        }
        exec_credential_release(&credential);
    }
}

static void test_client_may_be_freed_while_the_plugin_runs(void **state) {
    (void)state;
    struct world world;
    world_init(&world);
    use_plugin(&world, "");
    write_file(world.plugin, "#!/bin/sh\nexec sleep 100\n");
    start(&world);
    world_release(&world); /* no callback, and the sleeper is gone */
    assert_int_equal(world.done, 0);
}

/* ---- Retry-After ---- */

static void test_comes_back_when_told(void **state) {
    (void)state;
    struct world world;
    world_init(&world);
    world.api.config.token = xstrdup("t1");
    world.busy_answers = 1;
    world.retry_after = "1";
    int64_t started_ms = clock_now_ms();
    call(&world, 1);
    assert_int_equal(world.err.code, ERROR_NONE);
    assert_int_equal(world.requests, 2);
    assert_true(clock_now_ms() - started_ms >= 1000);
    /* Not longer than the call may take. */
    world.busy_answers = 1;
    world.retry_after = "60";
    call(&world, 1);
    assert_int_equal(world.err.code, ERROR_BUSY);
    assert_int_equal(world.err.http_status, 429);
    assert_int_equal(world.requests, 3);
    world_release(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_file_is_read_again_after_401),
        cmocka_unit_test(test_plugin_runs_once),
        cmocka_unit_test(test_expired_credentials_are_renewed_before_use),
        cmocka_unit_test(test_plugin_that_fails),
        cmocka_unit_test(test_what_a_plugin_may_print),
        cmocka_unit_test(test_client_may_be_freed_while_the_plugin_runs),
        cmocka_unit_test(test_comes_back_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
