/* The sidecar's service against a fake engine that answers as vLLM 0.32 does, both on loopback. */
#include "runtime/service.h"

#include "base/file.h"
#include "base/json.h"
#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "http_peer.h"

/* ---- the engine ---- */

struct fake_engine {
    struct http_server *server;
    int port;
    struct map roots;    /* name -> root (owned) */
    const char *key;     /* NULL = none wanted */
    bool is_sick;        /* /health says 500 */
    bool has_no_routes;  /* started without VLLM_ALLOW_RUNTIME_LORA_UPDATING */
    const char *refusal; /* of every load, with status 500 */
    bool holds;          /* loads wait for release() */
    struct http_request *held;
    atomic_int loads;
    atomic_int unloads;
};

struct house {
    struct loop_thread loop;
    struct service service;
    char *endpoint;
    int port;
    struct fake_engine engine;
    char folder[64]; /* a good adapter */
};

static struct house house;

static void engine_error(struct http_request *request, int status, const char *type, const char *format, ...) DAVIT_PRINTF(4, 5);
static void engine_error(struct http_request *request, int status, const char *type, const char *format, ...) {
    char message[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    cleanup_json json_t *error =
        json_pack("{s:{s:s,s:s,s:n,s:i}}", "error", "message", message, "type", type, "param", "code", status);
    cleanup_free char *text = json_text(error);
    http_reply(request, status, "application/json", text, strlen(text));
}

static void engine_list(struct fake_engine *engine, struct http_request *request) {
    cleanup_json json_t *list =
        json_pack("{s:s,s:[{s:s,s:s,s:n}]}", "object", "list", "data", "id", "base", "root", "/models/base", "parent");
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&engine->roots, &at)) != NULL;) {
        json_array_append_new(json_object_get(list, "data"),
                              json_pack("{s:s,s:s,s:s}", "id", entry->key, "root", (const char *)entry->value, "parent", "base"));
    }
    cleanup_free char *text = json_text(list);
    http_reply(request, 200, "application/json", text, strlen(text));
}

static void engine_load(struct fake_engine *engine, struct http_request *request) {
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    cleanup_json json_t *asked = json_parse(body, len, NULL);
    const char *name = json_string_at(asked, "lora_name", "");
    const char *path = json_string_at(asked, "lora_path", "");
    if (engine->refusal != NULL) {
        engine_error(request, 500, "InternalServerError", "%s", engine->refusal);
    } else if (map_get(&engine->roots, name) != NULL) {
        engine_error(
            request, 400, "InvalidUserInput",
            "The lora adapter '%s' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.",
            name);
    } else if (strncmp(path, "/missing", 8) == 0) {
        engine_error(request, 404, "NotFoundError", "Loading lora failed: No adapter found for %s", path);
    } else {
        cleanup_free char *text = xasprintf("Success: LoRA adapter '%s' added successfully.", name);
        map_set(&engine->roots, name, xstrdup(path));
        http_reply(request, 200, NULL, text, strlen(text));
    }
}

static void engine_unload(struct fake_engine *engine, struct http_request *request) {
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    cleanup_json json_t *asked = json_parse(body, len, NULL);
    const char *name = json_string_at(asked, "lora_name", "");
    char *root = map_remove(&engine->roots, name);
    if (root == NULL) {
        engine_error(request, 404, "NotFoundError", "The lora adapter '%s' cannot be found.", name);
        return;
    }
    free(root);
    http_reply(request, 200, NULL, "Success: removed.", 17);
}

static void forget_held(void *arg) {
    ((struct fake_engine *)arg)->held = NULL;
}

static void engine_on_request(void *arg, struct http_request *request) {
    struct fake_engine *engine = arg;
    const char *path = http_request_head(request)->path;
    const char *key = http_fields_get(&http_request_head(request)->fields, "Authorization");
    if (strcmp(path, "/health") == 0) {
        http_reply(request, engine->is_sick ? 500 : 200, NULL, "", 0);
    } else if (strcmp(path, "/metrics") == 0) {
        http_reply(request, engine->is_sick ? 500 : 200, "text/plain", "vllm:num_requests_running 3\n", 28);
    } else if (engine->key != NULL && (key == NULL || strcmp(key, engine->key) != 0)) {
        http_reply(request, 401, "application/json", "{\"error\":\"Unauthorized\"}", 24);
    } else if (strcmp(path, "/v1/models") == 0) {
        engine_list(engine, request);
    } else if (engine->has_no_routes) {
        http_reply(request, 404, "application/json", "{\"detail\":\"Not Found\"}", 22);
    } else if (strcmp(path, "/v1/unload_lora_adapter") == 0) {
        atomic_fetch_add(&engine->unloads, 1);
        engine_unload(engine, request);
    } else if (engine->holds) {
        engine->held = request;
        http_request_on_gone(request, forget_held, engine);
        atomic_fetch_add(&engine->loads, 1);
    } else {
        atomic_fetch_add(&engine->loads, 1);
        engine_load(engine, request);
    }
}

static void release_held(void *arg) {
    struct fake_engine *engine = arg;
    engine->holds = false;
    engine_load(engine, engine->held);
    engine->held = NULL;
}

/* ---- the house ---- */

static void write_file(const char *folder, const char *name, const void *bytes, size_t len) {
    cleanup_free char *path = path_join(folder, name);
    struct error err;
    assert_int_equal(file_replace(path, bytes, len, 0644, &err), 0);
}

/* A folder with a config and a safetensors file of one tensor. */
static void make_adapter(const char *folder) {
    static const char config[] = "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":2,\"target_modules\":[\"q_proj\"]}";
    static const char header[] = "{\"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":"
                                 "[1,1],\"data_offsets\":[0,4]}}";
    char file[8 + sizeof(header) - 1 + 4] = {0};
    file[0] = (char)(sizeof(header) - 1);
    memcpy(file + 8, header, sizeof(header) - 1);
    assert_true(sizeof(header) - 1 < 256);
    write_file(folder, "adapter_config.json", config, sizeof(config) - 1);
    write_file(folder, "adapter_model.safetensors", file, sizeof(file));
}

static int build(void **state) {
    (void)state;
    struct error err = {0};
    memset(&house, 0, sizeof(house));
    (void)snprintf(house.folder, sizeof(house.folder), "/tmp/davit-runtime-XXXXXX");
    assert_non_null(mkdtemp(house.folder));
    make_adapter(house.folder);
    house.loop.loop = loop_new();
    house.engine.server = http_server_new(&(struct http_server_options){.loop = house.loop.loop,
                                                                        .body_bytes_max = 1024 * 1024,
                                                                        .connections_max = 100,
                                                                        .on_request = engine_on_request,
                                                                        .arg = &house.engine});
    assert_int_equal(http_server_listen(house.engine.server, "127.0.0.1", 0, &house.engine.port, &err), 0);
    house.endpoint = xasprintf("http://127.0.0.1:%d", house.engine.port);
    service_init(&house.service, house.loop.loop, DIALECT_VLLM, house.endpoint);
    assert_int_equal(service_listen(&house.service, "127.0.0.1", 0, &house.port, &err), 0);
    loop_thread_start(&house.loop);
    return 0;
}

static int clear(void **state) {
    (void)state;
    loop_thread_stop(&house.loop);
    service_release(&house.service);
    http_server_free(house.engine.server);
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&house.engine.roots, &at)) != NULL;) {
        free(entry->value);
    }
    map_release(&house.engine.roots);
    loop_free(house.loop.loop);
    free(house.endpoint);
    static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors", ""};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        cleanup_free char *path = path_join(house.folder, files[i]);
        (void)remove(path);
    }
    return 0;
}

static void expect(const char *path, const char *fields, const char *request_body, int status, const char *part) {
    cleanup_buffer struct buffer body = BUFFER_INIT;
    int found = exchange(house.port, path, fields, request_body, &body);
    if (found != status || strstr(buffer_text(&body), part) == NULL) {
        fail_msg("%s %s: %d %s, expected %d with %s", path, request_body, found, buffer_text(&body), status, part);
    }
}

static void expect_load(const char *name, const char *url, int status, const char *part) {
    cleanup_free char *body = xasprintf("{\"lora_name\":\"%s\",\"artifact_url\":\"%s\"}", name, url);
    expect("/v1/lora_adapter/load", "", body, status, part);
}

/* ---- tests ---- */

static void test_loads_and_unloads(void **state) {
    (void)state;
    cleanup_free char *url = xasprintf("file://%s", house.folder);
    cleanup_free char *answer =
        xasprintf("{\"status\":\"success\",\"message\":\"Successfully loaded adapter sql from %s\",\"local_path\":\"%s\","
                  "\"engine_response\":{\"message\":\"Success: LoRA adapter 'sql' added successfully.\"}}",
                  url, house.folder);
    expect_load("sql", url, 200, answer);
    expect("/v1/models", "", NULL, 200, house.folder);
    /* Again: the same root is what was wanted. */
    expect_load("sql", house.folder, 200, "\"status\":\"success\"");
    assert_int_equal(atomic_load(&house.engine.unloads), 0);
    /* Another root is replaced. */
    expect_load("sql", "/elsewhere/sql", 200, "\"local_path\":\"/elsewhere/sql\"");
    assert_int_equal(atomic_load(&house.engine.unloads), 1);
    expect("/v1/models", "", NULL, 200, "\"root\":\"/elsewhere/sql\"");
    cleanup_free char *direct = xasprintf("{\"lora_name\":\"d\",\"lora_path\":\"%s\"}", house.folder);
    cleanup_free char *said = xasprintf("Success: LoRA adapter 'd' loaded successfully from '%s'.", house.folder);
    expect("/v1/lora_adapter/load", "", direct, 200, said);
    expect("/v1/lora_adapter/load", "", "{\"lora_name\":\"hub\",\"lora_path\":\"org/repo\"}", 200, "from 'org/repo'");
    expect("/v1/lora_adapter/unload", "", "{\"lora_name\":\"d\",\"lora_int_id\":1}", 200,
           "Success: LoRA adapter 'd' unloaded successfully.");
    expect("/v1/lora_adapter/unload", "", "{\"lora_name\":\"d\",\"lora_int_id\":1}", 404, "LoRA adapter 'd' not found");
    expect("/v1/lora_adapter/unload", "", "{\"lora_name\":\"sql\"}", 200, "Successfully unloaded adapter sql");
    expect("/v1/lora_adapter/unload", "", "{\"lora_name\":\"sql\"}", 200, "Successfully unloaded adapter sql");
    expect("/metrics", "", NULL, 200, "davit_runtime_load_seconds_count{outcome=\"loaded\"} 5");
}

static void test_a_repository_in_the_direct_form(void **state) {
    (void)state;
    expect("/v1/lora_adapter/load", "", "{\"lora_name\":\"hub\",\"lora_path\":\"huggingface://org/repo\"}", 200, "from 'org/repo'");
    expect("/v1/models", "", NULL, 200, "\"root\":\"org/repo\""); /* what the engine was given */
    expect("/v1/lora_adapter/load", "", "{\"lora_name\":\"hub\",\"lora_path\":\"s3://b/k\"}", 400, "Unsupported URL scheme: s3.");
}

static void test_revisions_are_kept(void **state) {
    (void)state;
    cleanup_free char *body = xasprintf("{\"lora_name\":\"a\",\"artifact_url\":\"%s\"}", house.folder);
    expect("/v1/lora_adapter/load", "X-Davit-Revision: 0123456789abcdef\r\nX-Request-Id: r-1\r\n", body, 200, "success");
    expect("/metrics", "", NULL, 200, "davit_runtime_adapter_info{lora_name=\"a\",revision=\"0123456789abcdef\"} 1");
    /* The newest is the one; a refused load changes nothing, nor does what is no revision. */
    expect("/v1/lora_adapter/load", "X-Davit-Revision: ffffffffffffffff\r\n", body, 200, "success");
    expect("/v1/lora_adapter/load", "X-Davit-Revision: 1111111111111111\r\n",
           "{\"lora_name\":\"a\",\"artifact_url\":\"/missing/a\"}", 404, "");
    expect("/metrics", "", NULL, 200, "davit_runtime_adapter_info{lora_name=\"a\",revision=\"ffffffffffffffff\"} 1");
    static const char *const bad[] = {"x", "0123456789ABCDEF", "0123456789abcdef0", "\"\\"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        cleanup_free char *field = xasprintf("X-Davit-Revision: %s\r\n", bad[i]);
        cleanup_free char *other = xasprintf("{\"lora_name\":\"b\",\"artifact_url\":\"%s\"}", house.folder);
        expect("/v1/lora_adapter/load", field, other, 200, "success");
    }
    cleanup_buffer struct buffer page = BUFFER_INIT;
    assert_int_equal(exchange(house.port, "/metrics", "", NULL, &page), 200);
    assert_null(strstr(page.data, "lora_name=\"b\""));
    expect("/v1/lora_adapter/unload", "", "{\"lora_name\":\"a\"}", 200, "success");
    assert_int_equal(exchange(house.port, "/metrics", "", NULL, &page), 200);
    assert_null(strstr(page.data, "lora_name=\"a\""));
}

static void test_the_engines_metrics_are_on_the_page(void **state) {
    (void)state;
    expect("/metrics", "", NULL, 200, "\nvllm:num_requests_running 3\n");
    house.engine.is_sick = true;
    cleanup_buffer struct buffer page = BUFFER_INIT;
    assert_int_equal(exchange(house.port, "/metrics/", "", NULL, &page), 200);
    assert_null(strstr(page.data, "vllm:"));
    assert_non_null(strstr(page.data, "davit_runtime_loads_running 0"));
}

static void test_errors_keep_their_meaning(void **state) {
    (void)state;
    expect_load("a", "s3://bucket/key", 400, "Unsupported URL scheme: s3.");
    expect_load("a", "huggingface://o/r", 400, "Unsupported URL scheme: huggingface.");
    expect_load("a", "ftp://x/y", 400, "Unsupported URL scheme: ftp.");
    expect_load("a", "relative/path", 400, "Unsupported URL scheme: .");
    expect_load("../x", "/x", 400, "Invalid lora_name: must match ^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$");
    expect_load("a", "/missing/adapter", 404, "Engine error: ");
    expect("/v1/lora_adapter/load", "", "{\"lora_name\":\"a\",\"lora_path\":\"/missing/x\"}", 404, "\"type\":\"NotFoundError\"");
    assert_int_equal(atomic_load(&house.engine.loads), 2); /* only the two that nobody but the engine can judge */
    expect("/v1/lora_adapter/load", "", "{\"lora_name\":\"x\"}", 422, "Field required");
    expect("/v1/lora_adapter/load", "", "nonsense", 422, "json_invalid");
    expect("/nope", "", NULL, 404, "Not Found");
    expect("/healthz", "", "{}", 405, "Method Not Allowed");
    house.engine.refusal = "LoRA rank 64 is greater than max_lora_rank 16.";
    expect_load("a", house.folder, 400, "LoRA rank 64 is greater than max_lora_rank 16."); /* 500 there, and permanent */
    house.engine.refusal = "CUDA out of memory";
    expect_load("a", house.folder, 500, "CUDA out of memory");
    house.engine.refusal = NULL;
    house.engine.has_no_routes = true;
    expect_load("a", house.folder, 501, "VLLM_ALLOW_RUNTIME_LORA_UPDATING");
}

static void test_the_folder_is_checked_first(void **state) {
    (void)state;
    static const char *const broken_headers[] = {"", "\x05\0\0\0\0\0\0\0{}", "\xff\xff\xff\xff\xff\xff\xff\x7f{}"};
    for (size_t i = 0; i < ARRAY_LEN(broken_headers); i++) {
        write_file(house.folder, "adapter_model.safetensors", broken_headers[i], i == 0 ? 0 : 10);
        expect_load("a", house.folder, 400, "adapter_model.safetensors");
    }
    make_adapter(house.folder);
    write_file(house.folder, "adapter_config.json", "{", 1);
    expect_load("a", house.folder, 400, "adapter_config.json");
    cleanup_free char *config = path_join(house.folder, "adapter_config.json");
    assert_int_equal(remove(config), 0);
    expect_load("a", house.folder, 404, "Artifact not found: ");
    make_adapter(house.folder);
    expect_load("a", config, 400, "is not a folder");
    assert_int_equal(atomic_load(&house.engine.loads), 0);
    /* What only the engine can judge goes there. */
    static const char dora[] =
        "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":2,\"target_modules\":[\"q_proj\"],\"use_dora\":true}";
    write_file(house.folder, "adapter_config.json", dora, sizeof(dora) - 1);
    expect_load("a", house.folder, 200, "success");
}

static void test_the_key_is_passed_through(void **state) {
    (void)state;
    house.engine.key = "Bearer sesame";
    cleanup_free char *body = xasprintf("{\"lora_name\":\"a\",\"artifact_url\":\"%s\"}", house.folder);
    expect("/v1/lora_adapter/load", "", body, 401, "Unauthorized");
    expect("/v1/lora_adapter/load", "Authorization: Bearer wrong\r\n", body, 401, "Unauthorized");
    expect("/v1/lora_adapter/load", "Authorization: Bearer sesame\r\n", body, 200, "success");
    expect("/v1/lora_adapter/load", "", body, 401, "Unauthorized"); /* none is kept */
    expect("/v1/models", "", NULL, 401, "Unauthorized");
    expect("/ready", "", NULL, 200, "{\"status\":\"ready\"}");
}

static void test_readiness_is_the_engines(void **state) {
    (void)state;
    expect("/healthz", "", NULL, 200, "{\"status\":\"ok\"}");
    expect("/ready", "", NULL, 200, "{\"status\":\"ready\"}");
    house.engine.is_sick = true;
    expect("/ready", "", NULL, 503, "{\"status\":\"not ready\"}");
    expect("/healthz", "", NULL, 200, "{\"status\":\"ok\"}");
}

static void free_engine(void *arg) {
    (void)arg;
    http_server_free(house.engine.server);
    house.engine.server = NULL;
}

static void new_engine(void *arg) {
    (void)arg;
    house.engine.server = http_server_new(&(struct http_server_options){.loop = house.loop.loop,
                                                                        .body_bytes_max = 1024,
                                                                        .connections_max = 10,
                                                                        .on_request = engine_on_request,
                                                                        .arg = &house.engine});
}

static void test_without_an_engine(void **state) {
    (void)state;
    loop_thread_do(&house.loop, free_engine, NULL);
    expect("/ready", "", NULL, 503, "not ready");
    expect("/v1/models", "", NULL, 502, "\"object\":\"error\"");
    expect_load("a", house.folder, 502, "Engine error: ");
    expect("/v1/lora_adapter/unload", "", "{\"lora_name\":\"a\"}", 502, "Engine error: ");
    loop_thread_do(&house.loop, new_engine, NULL);
}

static size_t jobs_seen;
static int requests_seen;

static void look(void *arg) {
    (void)arg;
    jobs_seen = loader_running(house.service.loader);
    requests_seen = http_server_open_requests(house.service.server);
}

static bool is_held(void) {
    return atomic_load(&house.engine.loads) == 1;
}

static size_t jobs_now(void) {
    loop_thread_do(&house.loop, look, NULL);
    return jobs_seen;
}

static int requests_now(void) {
    loop_thread_do(&house.loop, look, NULL);
    return requests_seen;
}

/* Three ask for the same, one for another path, one leaves: one load at a time, and the same answer to those who share. */
static void test_one_at_a_time_and_shared(void **state) {
    (void)state;
    struct client clients[5];
    cleanup_free char *same = xasprintf("{\"lora_name\":\"a\",\"artifact_url\":\"%s\"}", house.folder);
    static const char other[] = "{\"lora_name\":\"a\",\"artifact_url\":\"/elsewhere\"}";
    house.engine.holds = true;
    for (int i = 0; i < 4; i++) {
        client_open(&clients[i], house.port);
        client_post(&clients[i], "/v1/lora_adapter/load", "", same);
    }
    wait_until(is_held());
    /* The four have all arrived when a fifth that has to wait makes a second job... */
    wait_until(requests_now() == 4);
    assert_int_equal(jobs_now(), 1);
    client_open(&clients[4], house.port);
    client_post(&clients[4], "/v1/lora_adapter/load", "", other);
    wait_until(jobs_now() == 2);
    assert_int_equal(atomic_load(&house.engine.loads), 1);
    client_close(&clients[3]);
    wait_until(requests_now() == 4);
    loop_thread_do(&house.loop, release_held, &house.engine);
    cleanup_buffer struct buffer body = BUFFER_INIT;
    for (int i = 0; i < 5; i++) {
        if (i == 3) {
            continue;
        }
        buffer_clear(&body);
        assert_int_equal(client_read_head(&clients[i]), 200);
        assert_int_equal(client_read_body(&clients[i], &body), 1);
        assert_non_null(strstr(body.data, i < 4 ? house.folder : "/elsewhere"));
        client_close(&clients[i]);
    }
    /* one; then "already loaded", unload, load */
    assert_int_equal(atomic_load(&house.engine.loads), 3);
    assert_int_equal(atomic_load(&house.engine.unloads), 1);
    assert_int_equal(jobs_now(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_loads_and_unloads, build, clear),
        cmocka_unit_test_setup_teardown(test_a_repository_in_the_direct_form, build, clear),
        cmocka_unit_test_setup_teardown(test_revisions_are_kept, build, clear),
        cmocka_unit_test_setup_teardown(test_the_engines_metrics_are_on_the_page, build, clear),
        cmocka_unit_test_setup_teardown(test_errors_keep_their_meaning, build, clear),
        cmocka_unit_test_setup_teardown(test_the_folder_is_checked_first, build, clear),
        cmocka_unit_test_setup_teardown(test_the_key_is_passed_through, build, clear),
        cmocka_unit_test_setup_teardown(test_readiness_is_the_engines, build, clear),
        cmocka_unit_test_setup_teardown(test_without_an_engine, build, clear),
        cmocka_unit_test_setup_teardown(test_one_at_a_time_and_shared, build, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
