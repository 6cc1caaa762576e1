#include "engine/engine.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/batch/engine_private.h"
#include "engine/tokenizer/tokenizer.h"

#include <string.h>

#define DEFAULT_KV_TOKENS_PER_SEQUENCE 1024
#define ADAPTERS_MAX 1000000
#define SEQUENCES_MAX 65536
#define ACTIVATIONS_F32 "f32"
#define ACTIVATIONS_INT8 "int8"
#define BATCHED_TOKENS_MAX (1 << 20)

/* ---- start ---- */

/* One of the names that are known, and static from then on. */
static int complete_activations(struct engine_options *options, struct error *err) {
    static const char *const names[] = {ACTIVATIONS_F32, ACTIVATIONS_INT8};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (options->activations == NULL || strcmp(options->activations, names[i]) == 0) {
            options->activations = names[i];
            return 0;
        }
    }
    return error_set(err, ERROR_INVALID, "activations is \"%s\", neither \"f32\" nor \"int8\"", options->activations);
}

/* Called with the model loaded: what the options leave open follows from it. */
static int complete_options(struct engine *engine, struct error *err) {
    struct engine_options *options = &engine->options;
    size_t context = engine->model->config.context;
    if (options->max_model_len == 0) {
        options->max_model_len = (int)context;
    }
    const struct {
        const char *name;
        int value;
        int minimum;
        int maximum;
    } ranges[] = {
        {"max_model_len", options->max_model_len, 2, (int)context},
        {"max_num_seqs", options->max_num_seqs, 1, SEQUENCES_MAX},
        {"max_num_queued", options->max_num_queued, 0, INT32_MAX},
        {"max_num_batched_tokens", options->max_num_batched_tokens, options->max_num_seqs, BATCHED_TOKENS_MAX},
        {"max_loras", options->max_loras, 1, ADAPTERS_MAX},
        {"max_cpu_loras", options->max_cpu_loras, 1, ADAPTERS_MAX},
        {"max_lora_rank", options->max_lora_rank, 1, 4096},
    };
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        if (ranges[i].value < ranges[i].minimum || ranges[i].value > ranges[i].maximum) {
            return error_set(err, ERROR_INVALID, "%s is %d, not within %d and %d", ranges[i].name, ranges[i].value,
                             ranges[i].minimum, ranges[i].maximum);
        }
    }
    return 0;
}

static int make_cache(struct engine *engine, struct error *err) {
    const struct engine_options *options = &engine->options;
    size_t longest = kv_cache_blocks_for((size_t)options->max_model_len);
    size_t block_bytes = kv_cache_block_bytes(&engine->model->config);
    size_t blocks = options->kv_cache_bytes / block_bytes;
    if (options->kv_cache_bytes == 0) {
        blocks = (size_t)options->max_num_seqs * kv_cache_blocks_for(DEFAULT_KV_TOKENS_PER_SEQUENCE);
        blocks = blocks > longest ? blocks : longest;
    }
    if (blocks < longest) {
        return error_set(err, ERROR_INVALID, "kv_cache_bytes is %zu; one request of max_model_len %d needs %zu",
                         options->kv_cache_bytes, options->max_model_len, longest * block_bytes);
    }
    return kv_cache_init(&engine->cache, &engine->model->config, blocks, err);
}

static int make_forward(struct engine *engine, const struct kernels *kernels, struct error *err) {
    const struct engine_options *options = &engine->options;
    const struct forward_options forward = {.model = engine->model,
                                            .kernels = kernels,
                                            .pool = engine->pool,
                                            .cache = &engine->cache,
                                            .max_rows = (size_t)options->max_num_batched_tokens,
                                            .max_logits = (size_t)options->max_num_seqs,
                                            .max_context = (size_t)options->max_model_len,
                                            .max_rank = (size_t)options->max_lora_rank,
                                            .rounds_activations = strcmp(options->activations, ACTIVATIONS_INT8) == 0};
    size_t vocab = engine->model->config.vocab;
    engine->rows = xcalloc(forward.max_rows, sizeof(*engine->rows));
    engine->step = xcalloc(forward.max_logits, sizeof(*engine->step));
    engine->scratch = (struct sampler_scratch){.weights = xcalloc(vocab, sizeof(float)), .order = xcalloc(vocab, sizeof(int))};
    return forward_new(&forward, &engine->forward, err);
}

static void fill_info(struct engine *engine, const struct kernels *kernels) {
    engine->info = (struct engine_model_info){.path = engine->model_path,
                                              .architecture = "llama",
                                              .max_model_len = engine->options.max_model_len,
                                              .vocab_size = (int)engine->model->config.vocab,
                                              .weight_bytes = engine->model->weight_bytes,
                                              .kernels = kernels->name,
                                              .activations = engine->options.activations};
}

static int start(struct engine *engine, struct error *err) {
    const struct kernels *kernels = kernels_find(NULL);
    int64_t began_ms = clock_now_ms();
    if (complete_activations(&engine->options, err) < 0) {
        return -1;
    }
    if (model_load(engine->model_path, &engine->model, err) < 0) {
        return -1;
    }
    if (tokenizer_new(engine->model->gguf, &engine->tokenizer, err) < 0) {
        return error_wrap(err, "model %s", engine->model_path);
    }
    if (complete_options(engine, err) < 0 || pool_new(engine->options.threads, &engine->pool, err) < 0 ||
        make_cache(engine, err) < 0 || make_forward(engine, kernels, err) < 0) {
        return -1;
    }
    fill_info(engine, kernels);
    batch_init(&engine->batch, &engine->cache, (size_t)engine->options.max_num_seqs, (size_t)engine->options.max_loras);
    registry_init(&engine->registry, (size_t)engine->options.max_cpu_loras);
    if (pthread_create(&engine->thread, NULL, scheduler_main, engine) != 0) {
        return error_set(err, ERROR_IO, "cannot start the scheduler thread");
    }
    engine->has_thread = true;
    (void)pthread_setname_np(engine->thread, "scheduler");
    log_info("model %s loaded weight_bytes=%zu kv_cache_bytes=%zu kernels=%s activations=%s took_ms=%lld", engine->model_path,
             engine->info.weight_bytes, engine->cache.bytes, kernels->name, engine->options.activations,
             (long long)(clock_now_ms() - began_ms));
    return 0;
}

int engine_new(const struct engine_options *options, struct engine **ret_engine, struct error *err) {
    struct engine *engine = xcalloc(1, sizeof(*engine));
    engine->options = *options;
    engine->model_path = xstrdup(options->model_path);
    engine->options.model_path = engine->model_path;
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->wake, NULL);
    if (start(engine, err) < 0) {
        engine_free(engine);
        return -1;
    }
    *ret_engine = engine;
    return 0;
}

void engine_free(struct engine *engine) {
    if (engine == NULL) {
        return;
    }
    if (engine->has_thread) {
        pthread_mutex_lock(&engine->lock);
        engine->is_stopping = true;
        pthread_cond_signal(&engine->wake);
        pthread_mutex_unlock(&engine->lock);
        pthread_join(engine->thread, NULL);
    }
    registry_release(&engine->registry);
    batch_release(&engine->batch);
    forward_free(engine->forward);
    kv_cache_release(&engine->cache);
    pool_free(engine->pool);
    tokenizer_free(engine->tokenizer);
    model_free(engine->model);
    free(engine->scratch.weights);
    free(engine->scratch.order);
    free(engine->step);
    free(engine->rows);
    free(engine->model_path);
    pthread_cond_destroy(&engine->wake);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

const struct engine_model_info *engine_model_info(const struct engine *engine) {
    return &engine->info;
}

const struct tokenizer *engine_tokenizer(const struct engine *engine) {
    return engine->tokenizer;
}

/* ---- adapters ---- */

static int check_room(struct engine *engine, const char *name, bool in_place, struct error *err) {
    pthread_mutex_lock(&engine->lock);
    int result = registry_check(&engine->registry, name, in_place, err);
    pthread_mutex_unlock(&engine->lock);
    return result;
}

/* The disk is read without the lock, so the name and the room are checked again before the adapter is put in. */
static int load_adapter(struct engine *engine, const char *name, const char *path, const char *folder, bool in_place,
                        struct error *err) {
    struct lora_adapter *weights = NULL;
    int64_t began_ns = clock_now_ns();
    if (name[0] == '\0') {
        return error_set(err, ERROR_INVALID, "an adapter needs a name");
    }
    if (check_room(engine, name, in_place, err) < 0 ||
        lora_load(engine->model, folder, engine->options.max_lora_rank, &weights, err) < 0) {
        return -1;
    }
    struct resident *resident = xcalloc(1, sizeof(*resident));
    *resident = (struct resident){.references = 1,
                                  .name = xstrdup(name),
                                  .path = xstrdup(path),
                                  .weights = weights,
                                  .load_seconds = (double)(clock_now_ns() - began_ns) / 1e9,
                                  .loaded_wall_ms = clock_wall_ms()};
    pthread_mutex_lock(&engine->lock);
    int result = registry_check(&engine->registry, name, in_place, err);
    if (result == 0) {
        registry_put(&engine->registry, resident);
    } else {
        resident_unref(resident);
    }
    pthread_mutex_unlock(&engine->lock);
    return result;
}

int engine_load_adapter(struct engine *engine, const char *name, const char *path, const char *folder, bool in_place,
                        struct error *err) {
    int result = load_adapter(engine, name, path, folder != NULL ? folder : path, in_place, err);
    if (result < 0) {
        pthread_mutex_lock(&engine->lock);
        engine->stats.adapter_load_failures_total++;
        pthread_mutex_unlock(&engine->lock);
    }
    return result;
}

int engine_unload_adapter(struct engine *engine, const char *name, struct error *err) {
    pthread_mutex_lock(&engine->lock);
    int result = registry_remove(&engine->registry, name, err);
    pthread_mutex_unlock(&engine->lock);
    return result;
}

struct engine_adapter_info *engine_adapters(struct engine *engine, size_t *ret_count) {
    const struct map_entry *entry = NULL;
    size_t count = 0;
    pthread_mutex_lock(&engine->lock);
    struct engine_adapter_info *list = xcalloc(engine->registry.residents.count, sizeof(*list));
    for (size_t at = 0; (entry = map_next(&engine->registry.residents, &at)) != NULL;) {
        const struct resident *resident = entry->value;
        list[count++] = (struct engine_adapter_info){.name = xstrdup(resident->name),
                                                     .path = xstrdup(resident->path),
                                                     .content = resident->weights->content,
                                                     .rank = resident->weights->rank,
                                                     .bytes = resident->weights->bytes,
                                                     .load_seconds = resident->load_seconds,
                                                     .loaded_wall_ms = resident->loaded_wall_ms,
                                                     .requests_total = resident->requests_total,
                                                     .generated_tokens_total = resident->generated_tokens_total,
                                                     .running = resident->running,
                                                     .waiting = resident->waiting};
    }
    pthread_mutex_unlock(&engine->lock);
    *ret_count = count;
    return list;
}

void engine_adapters_free(struct engine_adapter_info *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(list[i].name);
        free(list[i].path);
    }
    free(list);
}

bool engine_has_adapter(struct engine *engine, const char *name) {
    pthread_mutex_lock(&engine->lock);
    bool has = registry_find(&engine->registry, name) != NULL;
    pthread_mutex_unlock(&engine->lock);
    return has;
}

/* ---- generation ---- */

/* With the lock. */
static int enqueue(struct engine *engine, const struct engine_request *request, uint64_t *ret_id, struct error *err) {
    struct resident *resident = NULL;
    if (request->adapter != NULL && request->adapter[0] != '\0') {
        resident = registry_find(&engine->registry, request->adapter);
        if (resident == NULL) {
            return error_set(err, ERROR_NOT_FOUND, "The lora adapter '%s' cannot be found.", request->adapter);
        }
    }
    /* What can run at once does not count as queued. */
    size_t present = engine->batch.running_count + engine->batch.waiting_count;
    if (present >= (size_t)engine->options.max_num_seqs + (size_t)engine->options.max_num_queued) {
        return error_set(err, ERROR_BUSY, "%zu requests run and %zu wait, which is the limit (max_num_queued)",
                         engine->batch.running_count, engine->batch.waiting_count);
    }
    uint64_t id = ++engine->last_id;
    struct sequence *sequence = sequence_new(request, id, (uint64_t)clock_now_ns() ^ id << 32);
    if (resident != NULL) {
        resident->requests_total++;
        sequence->resident = resident_ref(resident);
    }
    batch_enqueue(&engine->batch, sequence);
    pthread_cond_signal(&engine->wake);
    *ret_id = id;
    return 0;
}

int engine_submit(struct engine *engine, const struct engine_request *request, uint64_t *ret_id, struct error *err) {
    const struct sequence_limits limits = {.vocab_size = engine->info.vocab_size, .max_model_len = engine->options.max_model_len};
    if (sequence_check(request, &limits, err) < 0) {
        return -1;
    }
    pthread_mutex_lock(&engine->lock);
    int result = enqueue(engine, request, ret_id, err);
    pthread_mutex_unlock(&engine->lock);
    return result;
}

void engine_cancel(struct engine *engine, uint64_t id) {
    pthread_mutex_lock(&engine->lock);
    struct sequence *sequence = batch_find(&engine->batch, id);
    if (sequence != NULL) {
        sequence->is_cancelled = true;
        pthread_cond_signal(&engine->wake);
    }
    pthread_mutex_unlock(&engine->lock);
}

/* ---- numbers ---- */

void engine_stats(struct engine *engine, struct engine_stats *ret_stats) {
    const struct map_entry *entry = NULL;
    pthread_mutex_lock(&engine->lock);
    struct engine_stats stats = engine->stats;
    stats.requests_running = (int)engine->batch.running_count;
    stats.requests_waiting = (int)engine->batch.waiting_count;
    stats.prefix_cache_queries_total = engine->batch.prefix_queries;
    stats.prefix_cache_hits_total = engine->batch.prefix_hits;
    stats.kv_cache_bytes = engine->cache.bytes;
    stats.kv_cache_usage = 1.0 - (double)engine->cache.free_count / (double)engine->cache.block_count;
    for (size_t at = 0; (entry = map_next(&engine->registry.residents, &at)) != NULL;) {
        stats.adapter_bytes += ((const struct resident *)entry->value)->weights->bytes;
    }
    pthread_mutex_unlock(&engine->lock);
    *ret_stats = stats;
}
