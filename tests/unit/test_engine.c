/* The engine with its threads: answers do not depend on company, adapters come and go under running requests, and everything ends.
 */
#include "engine_support.h"

#include "engine/engine.h"
#include "engine/tokenizer/tokenizer.h"

#include <math.h>
#include <pthread.h>

#define TOKENS_MAX 64

/* What one request got. */
struct answer {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int tokens[TOKENS_MAX];
    float logprobs[TOKENS_MAX];
    int count;
    int finishes;
    struct engine_event last;
};

static void on_event(void *arg, const struct engine_event *event) {
    struct answer *answer = arg;
    pthread_mutex_lock(&answer->lock);
    if (event->token >= 0 && answer->count < TOKENS_MAX) {
        answer->tokens[answer->count] = event->token;
        answer->logprobs[answer->count++] = event->logprob;
    }
    answer->last = *event;
    answer->finishes += event->finish != ENGINE_FINISH_NONE ? 1 : 0;
    pthread_cond_broadcast(&answer->changed);
    pthread_mutex_unlock(&answer->lock);
}

static void answer_init(struct answer *answer) {
    *answer = (struct answer){0};
    pthread_mutex_init(&answer->lock, NULL);
    pthread_cond_init(&answer->changed, NULL);
}

/* Until it finished, or has so many tokens. */
static void answer_wait(struct answer *answer, int tokens) {
    pthread_mutex_lock(&answer->lock);
    while (answer->finishes == 0 && answer->count < tokens) {
        pthread_cond_wait(&answer->changed, &answer->lock);
    }
    pthread_mutex_unlock(&answer->lock);
}

static struct engine_options default_options(void) {
    return (struct engine_options){.threads = 1,
                                   .max_num_seqs = 8,
                                   .max_num_queued = 64,
                                   .max_num_batched_tokens = 64,
                                   .max_loras = 4,
                                   .max_cpu_loras = 4,
                                   .max_lora_rank = 16};
}

static struct engine *start(struct engine_options options) {
    cleanup_free char *path = source_path("tests/fixtures/tiny/model.gguf");
    struct engine *engine = NULL;
    struct error err = {0};
    options.model_path = path;
    if (engine_new(&options, &engine, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return engine;
}

static int load(struct engine *engine, const char *name, const char *folder, bool in_place, struct error *err) {
    cleanup_free char *tiny = source_path("tests/fixtures/tiny");
    cleanup_free char *path = path_join(tiny, folder);
    return engine_load_adapter(engine, name, path, NULL, in_place, err);
}

static void must_load(struct engine *engine, const char *name, const char *folder) {
    struct error err = {0};
    if (load(engine, name, folder, false, &err) < 0) {
        fail_msg("%s", err.message);
    }
}

static struct engine_request default_request(const char *adapter, const int *prompt, size_t prompt_len, struct answer *answer) {
    return (struct engine_request){.adapter = adapter,
                                   .prompt = prompt,
                                   .prompt_len = prompt_len,
                                   .max_tokens = 12,
                                   .top_p = 1,
                                   .logprobs = 2,
                                   .ignore_eos = true,
                                   .on_event = on_event,
                                   .arg = answer};
}

static uint64_t submit(struct engine *engine, const struct engine_request *request) {
    struct error err = {0};
    uint64_t id = 0;
    if (engine_submit(engine, request, &id, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return id;
}

/* ---- a request alone and in company ---- */

#define REQUESTS 10
#define PROMPT_MAX 40

struct job {
    const char *adapter;
    int prompt[PROMPT_MAX];
    size_t prompt_len;
    bool is_sampled;
};

static void make_jobs(struct job *jobs) {
    static const char *const adapters[] = {NULL, "a", "b", "c"};
    for (size_t i = 0; i < REQUESTS; i++) {
        jobs[i] = (struct job){.adapter = adapters[i % 4], .prompt_len = 1 + i * 13 % PROMPT_MAX, .is_sampled = i % 3 == 2};
        for (size_t j = 0; j < jobs[i].prompt_len; j++) {
            jobs[i].prompt[j] = (int)(3 + (i * 101 + j * 37) % 500);
        }
    }
}

static void run_jobs(struct engine *engine, const struct job *jobs, const size_t *order, bool one_by_one, struct answer *answers) {
    for (size_t i = 0; i < REQUESTS; i++) {
        const struct job *job = &jobs[order[i]];
        struct answer *answer = &answers[order[i]];
        struct engine_request request = default_request(job->adapter, job->prompt, job->prompt_len, answer);
        request.temperature = job->is_sampled ? 0.8 : 0;
        request.top_k = 40;
        request.has_seed = true;
        request.seed = order[i];
        answer_init(answer);
        (void)submit(engine, &request);
        if (one_by_one) {
            answer_wait(answer, TOKENS_MAX + 1);
        }
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        answer_wait(&answers[i], TOKENS_MAX + 1);
        assert_int_equal(answers[i].finishes, 1);
        assert_int_equal(answers[i].last.finish, ENGINE_FINISH_LENGTH);
        assert_int_equal(answers[i].count, 12);
    }
}

static struct engine *start_with_adapters(struct engine_options options) {
    struct engine *engine = start(options);
    must_load(engine, "a", "adapter-a");
    must_load(engine, "b", "adapter-b");
    must_load(engine, "c", "adapter-c");
    return engine;
}

static void check_company(const char *activations) {
    static const struct {
        int threads;
        int max_num_seqs;
        int max_num_batched_tokens;
        int max_loras;
    } cases[] = {
        {1, 8, 64, 4}, {1, 8, 8, 4}, {2, 8, 9, 2}, {3, 3, 3, 1}, {2, 8, 256, 4}, {3, 8, 11, 4},
    };
    struct engine_options options = default_options();
    struct job jobs[REQUESTS];
    struct answer alone[REQUESTS];
    struct answer found[REQUESTS];
    size_t order[REQUESTS];
    uint64_t seed = 12345;
    make_jobs(jobs);
    for (size_t i = 0; i < REQUESTS; i++) {
        order[i] = i;
    }
    options.activations = activations;
    struct engine *engine = start_with_adapters(options);
    assert_string_equal(engine_model_info(engine)->activations, activations);
    run_jobs(engine, jobs, order, true, alone);
    engine_free(engine);
    for (size_t at = 0; at < ARRAY_LEN(cases); at++) {
        options.threads = cases[at].threads;
        options.max_num_seqs = cases[at].max_num_seqs;
        options.max_num_batched_tokens = cases[at].max_num_batched_tokens;
        options.max_loras = cases[at].max_loras;
        engine = start_with_adapters(options);
        for (size_t i = REQUESTS - 1; i > 0; i--) { /* another order of arrival each time */
            seed = seed * 6364136223846793005U + 1;
            size_t other = (size_t)(seed >> 33) % (i + 1);
            size_t saved = order[i];
            order[i] = order[other];
            order[other] = saved;
        }
        run_jobs(engine, jobs, order, false, found);
        for (size_t i = 0; i < REQUESTS; i++) {
            assert_memory_equal(found[i].tokens, alone[i].tokens, sizeof(found[i].tokens));
            assert_memory_equal(found[i].logprobs, alone[i].logprobs, sizeof(found[i].logprobs));
        }
        engine_free(engine);
    }
}

static void test_company_changes_nothing(void **state) {
    (void)state;
    check_company("f32");
}

static void test_company_changes_nothing_int8(void **state) {
    (void)state;
    check_company("int8");
}

/* ---- adapters ---- */

static void test_adapter_registry(void **state) {
    struct engine *engine = start(default_options());
    struct error err = {0};
    struct engine_stats stats;
    size_t count = 0;
    (void)state;
    must_load(engine, "x", "adapter-a");
    assert_true(load(engine, "x", "adapter-b", false, &err) < 0);
    assert_int_equal(err.code, ERROR_EXISTS);
    assert_non_null(strstr(err.message, "has already been loaded"));
    assert_int_equal(load(engine, "x", "adapter-b", true, &err), 0);
    assert_true(load(engine, "y", "bad/dora", false, &err) < 0);
    assert_false(engine_has_adapter(engine, "y"));
    assert_true(load(engine, "x", "bad/dora", true, &err) < 0); /* nothing changes on failure */
    must_load(engine, "y", "adapter-a");
    must_load(engine, "z", "adapter-c");
    must_load(engine, "w", "adapter-d");
    assert_true(load(engine, "v", "adapter-d", false, &err) < 0);
    assert_int_equal(err.code, ERROR_LIMIT);
    struct engine_adapter_info *list = engine_adapters(engine, &count);
    assert_int_equal(count, 4);
    assert_string_equal(list[0].name, "x");
    assert_int_equal(list[0].rank, 8);
    assert_string_equal(list[1].name, "y");
    assert_int_equal(list[1].rank, 4);
    assert_non_null(strstr(list[1].path, "adapter-a"));
    assert_true(list[1].bytes > 0 && list[1].loaded_wall_ms > 0);
    engine_adapters_free(list, count);
    assert_int_equal(engine_unload_adapter(engine, "y", &err), 0);
    assert_false(engine_has_adapter(engine, "y"));
    assert_true(engine_unload_adapter(engine, "y", &err) < 0);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_string_equal(err.message, "The lora adapter 'y' cannot be found.");
    engine_stats(engine, &stats);
    assert_int_equal(stats.adapter_load_failures_total, 4);
    assert_true(stats.adapter_bytes > 0);
    engine_free(engine);
}

/* A request keeps the weights it began with when its adapter is replaced and unloaded under it. */
static void test_change_under_request(void **state) {
    const int prompt[] = {5, 6, 7};
    struct answer expected;
    struct answer found;
    struct answer after;
    struct error err = {0};
    uint64_t id = 0;
    (void)state;
    struct engine *engine = start(default_options());
    must_load(engine, "x", "adapter-b");
    struct engine_request request = default_request("x", prompt, 3, &expected);
    request.max_tokens = TOKENS_MAX;
    answer_init(&expected);
    answer_init(&found);
    answer_init(&after);
    (void)submit(engine, &request);
    answer_wait(&expected, TOKENS_MAX + 1);
    request.arg = &found;
    (void)submit(engine, &request);
    answer_wait(&found, 2);
    assert_int_equal(load(engine, "x", "adapter-c", true, &err), 0);
    request.arg = &after;
    (void)submit(engine, &request);
    assert_int_equal(engine_unload_adapter(engine, "x", &err), 0);
    assert_true(engine_submit(engine, &request, &id, &err) < 0);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    answer_wait(&found, TOKENS_MAX + 1);
    answer_wait(&after, TOKENS_MAX + 1);
    assert_memory_equal(found.tokens, expected.tokens, sizeof(found.tokens));
    assert_memory_equal(found.logprobs, expected.logprobs, sizeof(found.logprobs));
    assert_memory_not_equal(after.logprobs, expected.logprobs, sizeof(after.logprobs));
    engine_free(engine);
}

struct churn {
    struct engine *engine;
    int rounds;
};

static void *churn_main(void *arg) {
    struct churn *churn = arg;
    struct error err = {0};
    for (int i = 0; i < churn->rounds; i++) {
        if (load(churn->engine, "churned", i % 2 == 0 ? "adapter-a" : "adapter-d", false, &err) < 0 ||
            engine_unload_adapter(churn->engine, "churned", &err) < 0) {
            return churn;
        }
    }
    return NULL;
}

static void test_load_beside_traffic(void **state) {
    struct job jobs[REQUESTS];
    struct answer alone[REQUESTS];
    struct answer found[REQUESTS];
    size_t order[REQUESTS];
    struct engine_options options = default_options();
    pthread_t thread;
    void *failed = NULL;
    (void)state;
    make_jobs(jobs);
    for (size_t i = 0; i < REQUESTS; i++) {
        order[i] = i;
    }
    options.threads = 2;
    struct engine *engine = start_with_adapters(options);
    run_jobs(engine, jobs, order, true, alone);
    struct churn churn = {.engine = engine, .rounds = 20};
    assert_int_equal(pthread_create(&thread, NULL, churn_main, &churn), 0);
    run_jobs(engine, jobs, order, false, found);
    pthread_join(thread, &failed);
    assert_null(failed);
    for (size_t i = 0; i < REQUESTS; i++) {
        assert_memory_equal(found[i].logprobs, alone[i].logprobs, sizeof(found[i].logprobs));
    }
    engine_free(engine);
}

/* ---- keys and values used again ---- */

#define LONG_PROMPT 75

/* A prompt of 75 tokens, of which 64 fill blocks; `cached` is how many must have been found. */
static void ask(struct engine *engine, const char *adapter, size_t prompt_len, int cached, struct answer *answer) {
    int prompt[LONG_PROMPT];
    for (size_t i = 0; i < LONG_PROMPT; i++) {
        prompt[i] = (int)(3 + i * 53 % 500);
    }
    struct engine_request request = default_request(adapter, prompt, prompt_len, answer);
    answer_init(answer);
    (void)submit(engine, &request);
    answer_wait(answer, TOKENS_MAX + 1);
    assert_int_equal(answer->last.prompt_tokens, prompt_len);
    assert_int_equal(answer->last.cached_tokens, cached);
}

static void assert_same(const struct answer *found, const struct answer *expected) {
    assert_memory_equal(found->tokens, expected->tokens, sizeof(found->tokens));
    assert_memory_equal(found->logprobs, expected->logprobs, sizeof(found->logprobs));
}

static void test_reuse_changes_nothing(void **state) {
    static const char *const adapters[] = {NULL, "a", "b"};
    struct answer alone[ARRAY_LEN(adapters)];
    struct answer found;
    struct engine_stats stats;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(adapters); i++) {
        struct engine *fresh = start_with_adapters(default_options());
        ask(fresh, adapters[i], LONG_PROMPT, 0, &alone[i]);
        engine_free(fresh);
    }
    struct engine *engine = start_with_adapters(default_options());
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(adapters); i++) {
            ask(engine, adapters[i], LONG_PROMPT, round == 0 ? 0 : 64, &found);
            assert_same(&found, &alone[i]);
        }
    }
    ask(engine, "a", 64, 48, &found); /* the last token is computed */
    ask(engine, "c", 64, 0, &found);
    engine_stats(engine, &stats);
    assert_int_equal(stats.prefix_cache_queries_total, 9 * LONG_PROMPT + 2 * 64);
    assert_int_equal(stats.prefix_cache_hits_total, 6 * 64 + 48);
    assert_int_equal(stats.prompt_tokens_total, 9 * LONG_PROMPT + 2 * 64);
    assert_true(stats.kv_cache_usage == 0);
    engine_free(engine);
}

/* What was generated is found by the next turn of a conversation. */
static void test_reuse_of_answer(void **state) {
    int prompt[LONG_PROMPT];
    struct answer first;
    struct answer again;
    struct answer alone;
    (void)state;
    struct engine *engine = start(default_options());
    ask(engine, NULL, 30, 0, &first); /* 12 more, of which 11 are computed: 41 */
    for (size_t i = 0; i < 30; i++) {
        prompt[i] = (int)(3 + i * 53 % 500);
    }
    memcpy(prompt + 30, first.tokens, 12 * sizeof(*prompt));
    struct engine_request request = default_request(NULL, prompt, 42, &again);
    answer_init(&again);
    (void)submit(engine, &request);
    answer_wait(&again, TOKENS_MAX + 1);
    assert_int_equal(again.last.cached_tokens, 32);
    engine_free(engine);
    engine = start(default_options());
    request.arg = &alone;
    answer_init(&alone);
    (void)submit(engine, &request);
    answer_wait(&alone, TOKENS_MAX + 1);
    assert_int_equal(alone.last.cached_tokens, 0);
    assert_same(&again, &alone);
    engine_free(engine);
}

/* Other weights under the same name never meet the old keys and values; the same weights under another name do. */
static void test_reuse_follows_weights(void **state) {
    struct answer as_a;
    struct answer as_b;
    struct answer found;
    struct error err = {0};
    (void)state;
    struct engine *engine = start(default_options());
    must_load(engine, "x", "adapter-a");
    ask(engine, "x", LONG_PROMPT, 0, &as_a);
    assert_int_equal(load(engine, "x", "adapter-b", true, &err), 0);
    ask(engine, "x", LONG_PROMPT, 0, &as_b);
    assert_memory_not_equal(as_a.logprobs, as_b.logprobs, sizeof(as_a.logprobs));
    assert_int_equal(engine_unload_adapter(engine, "x", &err), 0);
    must_load(engine, "x", "adapter-c");
    ask(engine, "x", LONG_PROMPT, 0, &found);
    must_load(engine, "y", "adapter-a");
    ask(engine, "y", LONG_PROMPT, 64, &found);
    assert_same(&found, &as_a);
    assert_int_equal(load(engine, "x", "adapter-b", true, &err), 0);
    ask(engine, "x", LONG_PROMPT, 64, &found);
    assert_same(&found, &as_b);
    engine_free(engine);
}

/* A cache with room for little more than one request: content is lost and found again, and answers stay the same. */
static void test_reuse_in_little_room(void **state) {
    struct job jobs[REQUESTS];
    struct answer alone[REQUESTS];
    struct answer found[REQUESTS];
    size_t order[REQUESTS];
    struct engine_options options = default_options();
    (void)state;
    make_jobs(jobs);
    for (size_t i = 0; i < REQUESTS; i++) {
        order[i] = i;
    }
    struct engine *engine = start_with_adapters(options);
    run_jobs(engine, jobs, order, true, alone);
    engine_free(engine);
    options.max_model_len = 64;
    options.kv_cache_bytes = (size_t)6 * 2 * 2 * KV_BLOCK_TOKENS * 2 * 16 * sizeof(float); /* 6 blocks of the tiny model */
    engine = start_with_adapters(options);
    for (int round = 0; round < 10; round++) {
        run_jobs(engine, jobs, order, round % 2 == 0, found);
        for (size_t i = 0; i < REQUESTS; i++) {
            assert_same(&found[i], &alone[i]);
        }
    }
    engine_free(engine);
}

/* ---- endings ---- */

/* Holds the scheduler at a request's first token until the test opens the gate, so that what runs meanwhile does not depend on
 * speed. */
struct gate {
    struct answer *answer;
    bool is_open;
};

static void on_gated_event(void *arg, const struct engine_event *event) {
    struct gate *gate = arg;
    on_event(gate->answer, event);
    pthread_mutex_lock(&gate->answer->lock);
    while (!gate->is_open) {
        pthread_cond_wait(&gate->answer->changed, &gate->answer->lock);
    }
    pthread_mutex_unlock(&gate->answer->lock);
}

static void gate_open(struct gate *gate) {
    pthread_mutex_lock(&gate->answer->lock);
    gate->is_open = true;
    pthread_cond_broadcast(&gate->answer->changed);
    pthread_mutex_unlock(&gate->answer->lock);
}

static void test_cancel_and_queue(void **state) {
    const int prompt[] = {5, 6, 7};
    struct engine_options options = default_options();
    struct answer answers[3];
    struct error err = {0};
    struct engine_stats stats;
    uint64_t refused = 0;
    (void)state;
    options.max_num_seqs = 1;
    options.max_num_queued = 1;
    options.max_model_len = 128;
    struct engine *engine = start(options);
    for (size_t i = 0; i < 3; i++) {
        answer_init(&answers[i]);
    }
    struct gate gate = {.answer = &answers[0]};
    struct engine_request request = default_request(NULL, prompt, 3, &answers[0]);
    request.max_tokens = 125;
    request.on_event = on_gated_event;
    request.arg = &gate;
    uint64_t running = submit(engine, &request);
    answer_wait(&answers[0], 1);
    request.on_event = on_event;
    request.arg = &answers[1];
    uint64_t waiting = submit(engine, &request);
    request.arg = &answers[2];
    if (engine_submit(engine, &request, &refused, &err) == 0) {
        fail_msg("a third request was accepted where one runs and one waits");
    }
    assert_int_equal(err.code, ERROR_BUSY);
    engine_cancel(engine, waiting);
    engine_cancel(engine, running);
    engine_cancel(engine, running);
    engine_cancel(engine, 9999);
    gate_open(&gate);
    answer_wait(&answers[1], TOKENS_MAX + 1);
    answer_wait(&answers[0], TOKENS_MAX + 1);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(answers[i].last.finish, ENGINE_FINISH_ABORT);
        assert_int_equal(answers[i].last.token, -1);
        assert_int_equal(answers[i].finishes, 1);
    }
    assert_int_equal(answers[0].count, 1);
    engine_stats(engine, &stats);
    assert_int_equal(stats.requests_running + stats.requests_waiting, 0);
    assert_true(stats.kv_cache_usage == 0);
    engine_free(engine);
    assert_int_equal(answers[2].finishes, 0); /* nothing is called back on failure */
}

static void test_free_aborts(void **state) {
    const int prompt[] = {5, 6, 7};
    struct engine_options options = default_options();
    struct answer answers[4];
    (void)state;
    options.max_num_seqs = 2;
    options.max_model_len = 256;
    struct engine *engine = start(options);
    for (size_t i = 0; i < 4; i++) {
        answer_init(&answers[i]);
        struct engine_request request = default_request(NULL, prompt, 3, &answers[i]);
        request.max_tokens = 250;
        (void)submit(engine, &request);
    }
    engine_free(engine);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(answers[i].finishes, 1);
    }
    assert_int_equal(answers[3].last.finish, ENGINE_FINISH_ABORT);
}

static void test_stops(void **state) {
    const int prompt[] = {5, 6, 7};
    struct answer plain;
    struct answer stopped;
    struct answer later;
    struct engine_stats stats;
    (void)state;
    struct engine *engine = start(default_options());
    struct engine_request request = default_request(NULL, prompt, 3, &plain);
    answer_init(&plain);
    answer_init(&stopped);
    answer_init(&later);
    (void)submit(engine, &request);
    answer_wait(&plain, TOKENS_MAX + 1);
    assert_int_equal(plain.last.prompt_tokens, 3);
    assert_int_equal(plain.last.generated_tokens, 12);
    assert_int_equal(plain.last.top_count, 2);
    assert_true(plain.last.top[0].token == plain.last.token && plain.last.top[0].logprob == plain.last.logprob);
    assert_true(isfinite(plain.last.logprob) && plain.last.logprob <= 0 && plain.last.top[1].logprob <= plain.last.top[0].logprob);
    request.arg = &stopped;
    request.stop_tokens = &plain.tokens[3];
    request.stop_token_count = 1;
    (void)submit(engine, &request);
    answer_wait(&stopped, TOKENS_MAX + 1);
    assert_int_equal(stopped.last.finish, ENGINE_FINISH_STOP);
    assert_int_equal(stopped.last.stop_token, plain.tokens[3]);
    assert_true(stopped.count <= 4);
    request.arg = &later;
    request.min_tokens = 8;
    (void)submit(engine, &request);
    answer_wait(&later, TOKENS_MAX + 1);
    assert_true(later.count >= 8);
    engine_stats(engine, &stats);
    assert_int_equal(stats.generation_tokens_total, plain.count + stopped.count + later.count);
    assert_int_equal(stats.prompt_tokens_total, 9);
    engine_free(engine);
}

static void test_refused_requests(void **state) {
    const int prompt[] = {5, 6, 7};
    const int outside[] = {5, 512000};
    static const int no_token[] = {-1};
    struct answer answer;
    struct engine *engine = start(default_options());
    struct engine_request good = default_request(NULL, prompt, 3, &answer);
    struct engine_request cases[10];
    static const char *const phrases[] = {
        "no tokens", "max_tokens is 0", "maximum context length", "prompt token 1", "temperature", "top_p",
        "min_p",     "logprobs",        "stop token -1",          "min_tokens"};
    (void)state;
    answer_init(&answer);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cases[i] = good;
    }
    cases[0].prompt_len = 0;
    cases[1].max_tokens = 0;
    cases[2].max_tokens = INT32_MAX;
    cases[3].prompt = outside;
    cases[3].prompt_len = 2;
    cases[4].temperature = NAN;
    cases[5].top_p = 0;
    cases[6].min_p = 2;
    cases[7].logprobs = ENGINE_LOGPROBS_MAX + 1;
    cases[8].stop_tokens = no_token;
    cases[8].stop_token_count = 1;
    cases[9].min_tokens = 13;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        uint64_t id = 0;
        assert_true(engine_submit(engine, &cases[i], &id, &err) < 0);
        assert_int_equal(err.code, ERROR_INVALID);
        if (strstr(err.message, phrases[i]) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", err.message, phrases[i]);
        }
    }
    engine_free(engine);
    assert_int_equal(answer.finishes, 0);
}

static void test_refused_options(void **state) {
    cleanup_free char *path = source_path("tests/fixtures/tiny/model.gguf");
    struct engine_options cases[6];
    static const char *const phrases[] = {"compute threads", "max_num_batched_tokens is 2", "max_model_len", "kv_cache_bytes",
                                          "/nowhere",        "activations is \"int4\""};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cases[i] = default_options();
        cases[i].model_path = path;
    }
    cases[0].threads = 0;
    cases[1].max_num_batched_tokens = 2;
    cases[2].max_model_len = 1 << 30;
    cases[3].kv_cache_bytes = 1;
    cases[4].model_path = "/nowhere/model.gguf";
    cases[5].activations = "int4";
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct engine *engine = NULL;
        struct error err = {0};
        assert_true(engine_new(&cases[i], &engine, &err) < 0);
        if (strstr(err.message, phrases[i]) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", err.message, phrases[i]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_company_changes_nothing),
        cmocka_unit_test(test_company_changes_nothing_int8),
        cmocka_unit_test(test_adapter_registry),
        cmocka_unit_test(test_change_under_request),
        cmocka_unit_test(test_load_beside_traffic),
        cmocka_unit_test(test_reuse_changes_nothing),
        cmocka_unit_test(test_reuse_of_answer),
        cmocka_unit_test(test_reuse_follows_weights),
        cmocka_unit_test(test_reuse_in_little_room),
        cmocka_unit_test(test_cancel_and_queue),
        cmocka_unit_test(test_free_aborts),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_refused_requests),
        cmocka_unit_test(test_refused_options),
    };
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
