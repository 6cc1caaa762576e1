/* The sidecar's service against a fake engine that answers as vLLM 0.32 does, both on loopback. */
#include "runtime/service.h"

#include "base/file.h"
#include "base/json.h"
#include "base/map.h"

#include <ftw.h>
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
    char *cache;
    char *secrets; /* where Secrets are mounted */
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

/* ---- a web server with an adapter ---- */

struct web {
    struct http_server *server;
    int port;
    const char *key; /* Authorization; NULL = none wanted */
    const char *etag;
    const char *config;
    bool holds; /* the weights wait for let_go() */
    struct http_request *held;
    atomic_int requests;
    atomic_int weights; /* GETs of them */
};

static struct web web;

static const char adapter_config[] = "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":2,\"target_modules\":[\"q_proj\"]}";

/* A safetensors file of one tensor; `file` has room for 256 bytes. */
static size_t make_weights(char *file) {
    static const char header[] = "{\"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":"
                                 "[1,1],\"data_offsets\":[0,4]}}";
    memset(file, 0, 256);
    file[0] = (char)(sizeof(header) - 1);
    memcpy(file + 8, header, sizeof(header) - 1);
    return 8 + sizeof(header) - 1 + 4;
}

static void web_send(struct web *from, struct http_request *request, bool is_config) {
    char weights[256];
    size_t len = make_weights(weights);
    cleanup_free char *etag = xasprintf("\"%s-%d\"", from->etag, is_config);
    http_reply_field(request, "ETag", etag);
    http_reply(request, 200, "application/octet-stream", is_config ? from->config : weights,
               is_config ? strlen(from->config) : len);
}

static void web_forget(void *arg) {
    ((struct web *)arg)->held = NULL;
}

static void web_on_request(void *arg, struct http_request *request) {
    struct web *from = arg;
    const struct http_head *head = http_request_head(request);
    const char *key = http_fields_get(&head->fields, "Authorization");
    bool is_config = strcmp(head->path, "/sql/adapter_config.json") == 0;
    bool is_weights = strcmp(head->path, "/sql/adapter_model.safetensors") == 0;
    atomic_fetch_add(&from->requests, 1);
    if (from->key != NULL && (key == NULL || strcmp(key, from->key) != 0)) {
        http_reply(request, key == NULL ? 401 : 403, NULL, "", 0);
    } else if (!is_config && !is_weights) {
        http_reply(request, 404, NULL, "", 0);
    } else if (is_weights && strcmp(head->method, "GET") == 0) {
        atomic_fetch_add(&from->weights, 1);
        if (from->holds) {
            from->held = request;
            http_request_on_gone(request, web_forget, from);
        } else {
            web_send(from, request, false);
        }
    } else {
        web_send(from, request, is_config);
    }
}

static void web_let_go(void *arg) {
    struct web *from = arg;
    struct http_request *request = from->held;
    from->holds = false;
    from->held = NULL;
    web_send(from, request, false);
}

/* ---- the house ---- */

static void write_file(const char *folder, const char *name, const void *bytes, size_t len) {
    cleanup_free char *path = path_join(folder, name);
    struct error err;
    assert_int_equal(file_replace(path, bytes, len, 0644, &err), 0);
}

/* A folder with a config and a safetensors file of one tensor. */
static void make_adapter(const char *folder) {
    char weights[256];
    size_t len = make_weights(weights);
    write_file(folder, "adapter_config.json", adapter_config, sizeof(adapter_config) - 1);
    write_file(folder, "adapter_model.safetensors", weights, len);
}

/* *state: the token that callers must show, NULL = none. */
static int build(void **state) {
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
    web = (struct web){.etag = "v1", .config = adapter_config};
    web.server = http_server_new(&(struct http_server_options){
        .loop = house.loop.loop, .body_bytes_max = 1024, .connections_max = 100, .on_request = web_on_request, .arg = &web});
    assert_int_equal(http_server_listen(web.server, "127.0.0.1", 0, &web.port, &err), 0);
    house.endpoint = xasprintf("http://127.0.0.1:%d", house.engine.port);
    house.cache = xasprintf("%s-cache", house.folder);
    house.secrets = xasprintf("%s-secrets", house.folder);
    const struct service_options options = {.dialect = DIALECT_VLLM,
                                            .endpoint = house.endpoint,
                                            .artifacts.cache = house.cache,
                                            .secrets_root = house.secrets,
                                            .token = *state};
    assert_int_equal(service_init(&house.service, house.loop.loop, &options, &err), 0);
    assert_int_equal(service_listen(&house.service, "127.0.0.1", 0, &house.port, &err), 0);
    loop_thread_start(&house.loop);
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

static int clear(void **state) {
    *state = NULL;
    loop_thread_stop(&house.loop);
    service_release(&house.service);
    http_server_free(house.engine.server);
    http_server_free(web.server);
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&house.engine.roots, &at)) != NULL;) {
        free(entry->value);
    }
    map_release(&house.engine.roots);
    loop_free(house.loop.loop);
    free(house.endpoint);
    char *const folders[] = {xstrdup(house.folder), house.cache, house.secrets};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        (void)nftw(folders[i], remove_one, 16, FTW_DEPTH | FTW_PHYS);
        free(folders[i]);
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
    /* A folder of one is nothing that any engine knows: it is fetched here. */
    expect("/v1/lora_adapter/load", "", "{\"lora_name\":\"hub\",\"lora_path\":\"hf://org/repo/../x\"}", 400,
           "expected a folder of the repository");
    expect("/v1/lora_adapter/load", "", "{\"lora_name\":\"hub\",\"lora_path\":\"ftp://b/k\"}", 400, "Unsupported URL scheme: ftp.");
}

static void test_revisions_are_kept(void **state) {
    (void)state;
    cleanup_free char *body = xasprintf("{\"lora_name\":\"a\",\"artifact_url\":\"%s\"}", house.folder);
    expect("/v1/lora_adapter/load", "X-Davit-Revision: 0123456789abcdef01234567\r\nX-Request-Id: r-1\r\n", body, 200, "success");
    expect("/metrics", "", NULL, 200, "davit_runtime_adapter_info{lora_name=\"a\",revision=\"0123456789abcdef01234567\"} 1");
    /* The newest is the one; a refused load changes nothing, nor does what is no revision. */
    expect("/v1/lora_adapter/load", "X-Davit-Revision: ffffffffffffffffffffffff\r\n", body, 200, "success");
    expect("/v1/lora_adapter/load", "X-Davit-Revision: 111111111111111111111111\r\n",
           "{\"lora_name\":\"a\",\"artifact_url\":\"/missing/a\"}", 404, "");
    expect("/metrics", "", NULL, 200, "davit_runtime_adapter_info{lora_name=\"a\",revision=\"ffffffffffffffffffffffff\"} 1");
    static const char *const bad[] = {"x", "0123456789ABCDEF01234567", "0123456789abcdef012345670", "\"\\"};
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
        expect_load("a", house.folder, i < 2 ? 400 : 413, "adapter_model.safetensors");
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

/* ---- what is fetched ---- */

/* The body of a load of the web server's adapter; `more`: further members. */
static char *web_body(const char *name, const char *more) {
    return xasprintf("{\"lora_name\":\"%s\",\"artifact_url\":\"http://127.0.0.1:%d/sql\"%s}", name, web.port, more);
}

static void expect_web(const char *name, const char *fields, const char *more, int status, const char *part) {
    cleanup_free char *body = web_body(name, more);
    expect("/v1/lora_adapter/load", fields, body, status, part);
}

static bool page_has(const char *text) {
    cleanup_buffer struct buffer page = BUFFER_INIT;
    assert_int_equal(exchange(house.port, "/metrics", "", NULL, &page), 200);
    return strstr(page.data, text) != NULL;
}

static void test_fetches_once_and_says_what(void **state) {
    (void)state;
    cleanup_buffer struct buffer body = BUFFER_INIT;
    cleanup_free char *request = web_body("sql", "");
    assert_int_equal(exchange(house.port, "/v1/lora_adapter/load", "", request, &body), 200);
    cleanup_json json_t *answer = json_parse(body.data, body.len, NULL);
    const char *path = json_string_at(answer, "local_path", "");
    cleanup_free char *version = xasprintf("X-Davit-Version: %s\r\n", json_string_at(answer, "version", ""));
    cleanup_free char *digest = xasprintf("X-Davit-Digest: %s\r\n", json_string_at(answer, "digest", ""));
    assert_int_equal(strncmp(path, house.cache, strlen(house.cache)), 0);
    assert_int_equal(strlen(digest), strlen("X-Davit-Digest: \r\n") + 64);
    expect("/v1/models", "", NULL, 200, path);
    /* The same under another name, and just that version, are there already. */
    expect_web("other", version, "", 200, path);
    expect_web("third", digest, "", 200, path);
    assert_int_equal(atomic_load(&web.weights), 1);
    expect("/metrics", "", NULL, 200, "davit_runtime_cache_hits_total 2\n");
    expect("/metrics", "", NULL, 200, "davit_runtime_download_seconds_count{outcome=\"fetched\"} 1\n");
    char weights[256];
    cleanup_free char *cached = xasprintf("davit_runtime_cache_bytes %zu\n", sizeof(adapter_config) - 1 + make_weights(weights));
    wait_until(page_has(cached));
    expect_web("sql", "X-Davit-Digest: 0000000000000000000000000000000000000000000000000000000000000000\r\n", "", 400,
               "expected weights with SHA-256 0000");
    expect_web("sql", "X-Davit-Digest: 00\r\n", "", 400, "expected 64 hexadecimal digits");
    web.etag = "v2";
    expect_web("third", "X-Davit-Version: 0000\r\n", "", 412, "\"reason\":\"ArtifactChanged\"");
    expect_web("third", version, "", 200, path); /* the cache has it still */
    expect_web("sql", "X-Davit-Source-Revision: main\r\n", "", 501, "\"reason\":\"ArtifactUnsupported\"");
    /* What nobody has loaded may go; what is loaded may not. */
    expect("/v1/lora_adapter/unload", "", "{\"lora_name\":\"sql\"}", 200, "success");
}

static bool is_web_held(void) {
    return atomic_load(&web.weights) > 0;
}

static void test_a_caller_need_not_wait(void **state) {
    (void)state;
    web.holds = true;
    expect_web("sql", "Prefer: respond-async, wait=0\r\n", "", 202, "\"lora_name\":\"sql\"");
    wait_until(is_web_held());
    expect_web("sql", "Prefer: wait=0\r\n", "", 202, "{\"status\":\"downloading\",\"message\":\"downloading");
    assert_int_equal(jobs_now(), 1);
    expect("/metrics", "", NULL, 200, "davit_runtime_downloads_running 1\n");
    loop_thread_do(&house.loop, web_let_go, &web);
    expect_web("sql", "", "", 200, "success");
    assert_int_equal(atomic_load(&web.weights), 1);
    assert_int_equal(atomic_load(&house.engine.loads), 1);
    expect_web("sql", "Prefer: wait=20\r\n", "", 200, "success");
}

static void test_a_failure_that_nobody_heard_is_told(void **state) {
    (void)state;
    web.config = "{\"peft_type\":\"LORA\"";
    web.holds = true;
    expect_web("sql", "Prefer: wait=0\r\n", "", 202, "lora_name");
    wait_until(is_web_held());
    loop_thread_do(&house.loop, web_let_go, &web);
    wait_until(jobs_now() == 0);
    int requests = atomic_load(&web.requests);
    expect_web("sql", "Prefer: wait=0\r\n", "", 400, "\"reason\":\"ArtifactInvalid\"");
    assert_int_equal(atomic_load(&web.requests), requests);
    web.config = adapter_config;
    expect_web("sql", "", "", 200, "success"); /* once */
    assert_int_equal(jobs_now(), 0);
}

#define CALLERS 50

static void test_many_callers_and_one_download(void **state) {
    (void)state;
    struct client clients[CALLERS];
    cleanup_free char *same = web_body("sql", "");
    web.holds = true;
    for (int i = 0; i < CALLERS; i++) {
        client_open(&clients[i], house.port);
        client_post(&clients[i], "/v1/lora_adapter/load", "", same);
    }
    wait_until(is_web_held());
    wait_until(requests_now() == CALLERS);
    assert_int_equal(jobs_now(), 1);
    client_close(&clients[0]); /* whoever leaves takes nothing along */
    wait_until(requests_now() == CALLERS - 1);
    loop_thread_do(&house.loop, web_let_go, &web);
    for (int i = 1; i < CALLERS; i++) {
        cleanup_buffer struct buffer body = BUFFER_INIT;
        assert_int_equal(client_read_head(&clients[i]), 200);
        assert_int_equal(client_read_body(&clients[i], &body), 1);
        assert_non_null(strstr(body.data, house.cache));
        client_close(&clients[i]);
    }
    assert_int_equal(atomic_load(&web.weights), 1);
    assert_int_equal(atomic_load(&house.engine.loads), 1);
}

static void test_errors_of_a_source_keep_their_meaning(void **state) {
    (void)state;
    cleanup_free char *missing =
        xasprintf("{\"lora_name\":\"a\",\"artifact_url\":\"http://127.0.0.1:%d/none?sig=s3cret\"}", web.port);
    cleanup_buffer struct buffer body = BUFFER_INIT;
    assert_int_equal(exchange(house.port, "/v1/lora_adapter/load", "", missing, &body), 404);
    assert_non_null(strstr(body.data, "Artifact not found: "));
    assert_non_null(strstr(body.data, "\"reason\":\"ArtifactNotFound\""));
    assert_null(strstr(body.data, "s3cret"));
    web.key = "Bearer t";
    expect_web("a", "", "", 401, "\"reason\":\"ArtifactUnauthorized\"");
    expect_web("a", "", ",\"credentials\":{\"token\":\"s3cret\"}", 403, "\"reason\":\"ArtifactForbidden\"");
    expect_web("a", "", ",\"credentials\":{\"headers\":\"s3cret\"}", 400, "\\\"headers\\\": expected a JSON object");
    assert_int_equal(atomic_load(&house.engine.loads), 0);
}

static void make_folder(const char *name) {
    cleanup_free char *path = path_join(house.secrets, name);
    assert_int_equal(file_make_dirs(path, 0700, NULL), 0);
}

static void test_credentials_of_all_kinds(void **state) {
    (void)state;
    web.key = "Bearer t";
    expect_web("a", "", ",\"credentials\":{\"token\":\"t\"}", 200, "success");
    expect_web("a", "", ",\"additional_config\":{\"token\":\"t\"}", 200, "success");
    expect_web("a", "", ",\"credentials\":{\"TOKEN\":\"x\"},\"additional_config\":{\"token\":\"t\"}", 200, "success");
    make_folder("web/..data");
    cleanup_free char *folder = path_join(house.secrets, "web");
    write_file(folder, "token", "t\n", 2);
    write_file(house.secrets, "plain", "{\"Authorization\":\"Bearer t\"}", 28);
    expect_web("a", "", ",\"credentials_secret\":\"web\"", 200, "success");
    expect_web("a", "", ",\"credentials_secret\":\"web\",\"credentials\":{}", 200, "success");
    expect_web("a", "", ",\"credentials_secret\":\"web\",\"credentials\":{\"token\":\"x\"}", 403, "ArtifactForbidden");
    expect_web("a", "", ",\"credentials_secret\":\"none\"", 404, "\"reason\":\"SecretNotFound\"");
    static const char *const bad[] = {"../secrets/web", "..", ".", "/etc", "web/", "WEB", "a\\u0000b"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        cleanup_free char *more = xasprintf(",\"credentials_secret\":\"%s\"", bad[i]);
        cleanup_free char *body = web_body("a", more);
        cleanup_buffer struct buffer answer = BUFFER_INIT;
        int status = exchange(house.port, "/v1/lora_adapter/load", "", body, &answer);
        if (status != 400 && status != 401) {
            fail_msg("%s: %d %s", bad[i], status, answer.data);
        }
    }
}

static void test_who_has_no_token_is_refused(void **state) {
    (void)state;
    static const char shown[] = "Authorization: Bearer sesame\r\n";
    static const char beside[] = "X-Davit-Authorization: Bearer sesame\r\nAuthorization: Bearer engines\r\n";
    cleanup_free char *body = xasprintf("{\"lora_name\":\"a\",\"artifact_url\":\"%s\"}", house.folder);
    expect("/v1/lora_adapter/load", "", body, 401, "Unauthorized");
    expect("/v1/lora_adapter/load", "Authorization: Bearer sesam\r\n", body, 401, "Unauthorized");
    expect("/v1/lora_adapter/load", "Authorization: Basic sesame\r\n", body, 401, "Unauthorized");
    expect("/v1/models", "", NULL, 401, "Unauthorized");
    expect("/nope", "", NULL, 401, "Unauthorized");
    expect("/healthz", "", NULL, 200, "ok");
    expect("/ready", "", NULL, 200, "ready");
    expect("/metrics", "", NULL, 200, "davit_runtime_loads_running");
    expect("/v1/lora_adapter/load", shown, body, 200, "success");
    house.engine.key = "Bearer engines";
    expect("/v1/models", shown, NULL, 401, "Unauthorized"); /* the engine's word: ours is not shown to it */
    expect("/v1/models", beside, NULL, 200, "base");
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
        cmocka_unit_test_setup_teardown(test_fetches_once_and_says_what, build, clear),
        cmocka_unit_test_setup_teardown(test_a_caller_need_not_wait, build, clear),
        cmocka_unit_test_setup_teardown(test_a_failure_that_nobody_heard_is_told, build, clear),
        cmocka_unit_test_setup_teardown(test_many_callers_and_one_download, build, clear),
        cmocka_unit_test_setup_teardown(test_errors_of_a_source_keep_their_meaning, build, clear),
        cmocka_unit_test_setup_teardown(test_credentials_of_all_kinds, build, clear),
        cmocka_unit_test_prestate_setup_teardown(test_who_has_no_token_is_refused, build, clear, (char[]){"sesame"}),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
