/* bench_engine MODEL [ADAPTER_FOLDER]: what the CPU engine does in a second, in-process, with both kinds of activations side by
 * side.
 *
 * Tables for docs/benchmarks.md go to standard output. The cases of a table are measured in turn, several times over, and of each
 * the best is kept. With one thread the second is one of this process on a processor, which others cannot take away; with more it
 * is one of the wall, and ratios count more than numbers. */
#include "engine/engine.h"
#include "base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define ROUNDS 3
#define TOGETHER 4
#define DECODED 65 /* tokens of an answer; the first is the prefill's */
#define SHORT_PROMPT 8
#define LONG_PROMPT 128
#define ADAPTER "adapter"

enum measure { DECODE_ONE, DECODE_TOGETHER, DECODE_ADAPTERS, PREFILL, MEASURE_COUNT };

static const char *const titles[MEASURE_COUNT] = {"decode, 1 request", "decode, 4 together", "the same, an adapter on every row",
                                                  "prefill of 128 tokens"};
static const char *const activations[] = {"f32", "int8"};

static clockid_t clock_id = CLOCK_MONOTONIC;

static int64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(clock_id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const struct error *err) {
    (void)fprintf(stderr, "bench_engine: %s\n", err->message);
    exit(1);
}

/* ---- one request ---- */

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t first_ns;
    int64_t last_ns;
    int count;
    bool is_finished;
};

static void on_event(void *arg, const struct engine_event *event) {
    struct answer *answer = arg;
    pthread_mutex_lock(&answer->lock);
    if (event->token >= 0) {
        answer->last_ns = now_ns();
        answer->first_ns = answer->count++ == 0 ? answer->last_ns : answer->first_ns;
    }
    answer->is_finished |= event->finish != ENGINE_FINISH_NONE;
    pthread_cond_signal(&answer->changed);
    pthread_mutex_unlock(&answer->lock);
}

static void answer_wait(struct answer *answer) {
    pthread_mutex_lock(&answer->lock);
    while (!answer->is_finished) {
        pthread_cond_wait(&answer->changed, &answer->lock);
    }
    pthread_mutex_unlock(&answer->lock);
    pthread_mutex_destroy(&answer->lock);
    pthread_cond_destroy(&answer->changed);
}

/* Every prompt is another one: nothing is found in the KV cache. */
static void submit(struct engine *engine, const char *adapter, size_t prompt_len, int max_tokens, struct answer *answer) {
    static int last;
    struct error err = {0};
    int prompt[LONG_PROMPT];
    uint64_t id = 0;
    last++;
    for (size_t i = 0; i < prompt_len; i++) {
        prompt[i] = 1000 + (int)((unsigned)last * 977u + (unsigned)i * 131u) % 30000;
    }
    *answer = (struct answer){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    const struct engine_request request = {.adapter = adapter,
                                           .prompt = prompt,
                                           .prompt_len = prompt_len,
                                           .max_tokens = max_tokens,
                                           .top_p = 1,
                                           .logprobs = -1,
                                           .ignore_eos = true,
                                           .on_event = on_event,
                                           .arg = answer};
    if (engine_submit(engine, &request, &id, &err) < 0) {
        fail(&err);
    }
}

/* ---- measures, in tokens a second ---- */

static double decode(struct engine *engine, const char *adapter, size_t requests) {
    struct answer answers[TOGETHER];
    double rate = 0;
    for (size_t i = 0; i < requests; i++) {
        submit(engine, adapter, SHORT_PROMPT, DECODED, &answers[i]);
    }
    for (size_t i = 0; i < requests; i++) {
        answer_wait(&answers[i]);
        rate += (double)(answers[i].count - 1) * 1e9 / (double)(answers[i].last_ns - answers[i].first_ns);
    }
    return rate;
}

static double prefill(struct engine *engine) {
    struct answer answer;
    int64_t began_ns = now_ns();
    submit(engine, NULL, LONG_PROMPT, 1, &answer);
    answer_wait(&answer);
    return LONG_PROMPT * 1e9 / (double)(answer.first_ns - began_ns);
}

static double measure(struct engine *engine, enum measure what) {
    switch (what) {
    case DECODE_ONE:
        return decode(engine, NULL, 1);
    case DECODE_TOGETHER:
        return decode(engine, NULL, TOGETHER);
    case DECODE_ADAPTERS:
        return decode(engine, ADAPTER, TOGETHER);
    default:
        return prefill(engine);
    }
}

/* ---- tables ---- */

static struct engine *start(const char *model, const char *folder, int threads, const char *kind) {
    const struct engine_options options = {.model_path = model,
                                           .threads = threads,
                                           .max_num_seqs = TOGETHER,
                                           .max_num_queued = TOGETHER,
                                           .max_num_batched_tokens = 64,
                                           .max_loras = 1,
                                           .max_cpu_loras = 1,
                                           .max_lora_rank = 64,
                                           .activations = kind};
    struct engine *engine = NULL;
    struct error err = {0};
    if (engine_new(&options, &engine, &err) < 0 ||
        (folder != NULL && engine_load_adapter(engine, ADAPTER, folder, NULL, false, &err) < 0)) {
        fail(&err);
    }
    return engine;
}

static void print_table(const char *model, const char *folder, int threads) {
    struct engine *engines[ARRAY_LEN(activations)];
    double best[ARRAY_LEN(activations)][MEASURE_COUNT] = {{0}};
    clock_id = threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    for (size_t i = 0; i < ARRAY_LEN(activations); i++) {
        engines[i] = start(model, folder, threads, activations[i]);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (enum measure what = 0; what < MEASURE_COUNT; what++) {
            for (size_t i = 0; i < ARRAY_LEN(activations) && (what != DECODE_ADAPTERS || folder != NULL); i++) {
                double rate = measure(engines[i], what);
                best[i][what] = rate > best[i][what] ? rate : best[i][what];
            }
        }
    }
    printf("\nkernels %s, %d thread%s, tokens/s:\n\n| | f32 | int8 | ratio |\n|---|---|---|---|\n",
           engine_model_info(engines[0])->kernels, threads, threads == 1 ? "" : "s");
    for (enum measure what = 0; what < MEASURE_COUNT; what++) {
        if (best[0][what] > 0) {
            printf("| %s | %.0f | %.0f | %.2f |\n", titles[what], best[0][what], best[1][what], best[1][what] / best[0][what]);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(activations); i++) {
        engine_free(engines[i]);
    }
}

int main(int argc, char **argv) {
    static const int threads[] = {1, 2};
    if (argc < 2 || argc > 3) {
        (void)fprintf(stderr, "usage: bench_engine MODEL [ADAPTER_FOLDER]\n");
        return 2;
    }
    (void)log_init("bench", "warn");
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        print_table(argv[1], argc > 2 ? argv[2] : NULL, threads[i]);
        (void)fflush(stdout);
    }
    return 0;
}
