/* What the engine's unit tests share: fixtures, goldens, and a model that is stepped by hand. */
#ifndef DAVIT_TESTS_UNIT_ENGINE_SUPPORT_H
#define DAVIT_TESTS_UNIT_ENGINE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "engine/model/forward.h"

#include <stdio.h>
#include <string.h>

/* A path below the repository's root; the caller frees. */
static inline char *source_path(const char *relative) {
    const char *root = getenv("DAVIT_SOURCE_DIR");
    if (root == NULL) {
        fail_msg("DAVIT_SOURCE_DIR is not set: it names the root of the repository");
    }
    return path_join(root, relative);
}

/* The 135M model, or NULL with a line that says what is skipped. */
static inline const char *real_model_path(void) {
    const char *path = getenv("DAVIT_TEST_MODEL");
    if (path == NULL || path[0] == '\0') {
        print_message("skipped: DAVIT_TEST_MODEL does not name the SmolLM2-135M-Instruct GGUF (scripts/fetch-model)\n");
        return NULL;
    }
    return path;
}

/* A JSON document of the repository, in which strings may hold U+0000. */
static inline json_t *load_json(const char *relative) {
    cleanup_free char *path = source_path(relative);
    json_error_t cause;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &cause);
    if (root == NULL) {
        fail_msg("%s: %s", path, cause.text);
    }
    return root;
}

/* The integers of a JSON array; the caller frees. */
static inline int *int_array(const json_t *array, size_t *ret_count) {
    *ret_count = json_array_size(array);
    int *values = xcalloc(*ret_count, sizeof(*values));
    for (size_t i = 0; i < *ret_count; i++) {
        values[i] = (int)json_integer_value(json_array_get(array, i));
    }
    return values;
}

static inline bool has_int(const json_t *array, size_t value) {
    for (size_t i = 0; i < json_array_size(array); i++) {
        if ((size_t)json_integer_value(json_array_get(array, i)) == value) {
            return true;
        }
    }
    return false;
}

#define STEPPER_ROWS 256
#define STEPPER_CONTEXT 256
#define STEPPER_LOGITS 64

/* A model with room for a few sequences, stepped by hand. */
struct stepper {
    struct model *model;
    struct pool *pool;
    struct kv_cache cache;
    struct forward *forward;
};

/* What is computed, and with what. */
struct arithmetic {
    const char *kernels; /* NULL = the fastest */
    bool rounds_activations;
};

static inline void stepper_init_with(struct stepper *stepper, const char *path, int threads, struct arithmetic arithmetic) {
    struct error err = {0};
    *stepper = (struct stepper){0};
    if (model_load(path, &stepper->model, &err) < 0 || pool_new(threads, &stepper->pool, &err) < 0 ||
        kv_cache_init(&stepper->cache, &stepper->model->config, 4 * STEPPER_CONTEXT / KV_BLOCK_TOKENS, &err) < 0) {
        fail_msg("%s", err.message);
    }
    const struct forward_options options = {.model = stepper->model,
                                            .kernels = kernels_find(arithmetic.kernels),
                                            .pool = stepper->pool,
                                            .cache = &stepper->cache,
                                            .max_rows = STEPPER_ROWS,
                                            .max_logits = STEPPER_LOGITS,
                                            .max_context = STEPPER_CONTEXT,
                                            .max_rank = 64,
                                            .rounds_activations = arithmetic.rounds_activations};
    if (forward_new(&options, &stepper->forward, &err) < 0) {
        fail_msg("%s", err.message);
    }
}

static inline void stepper_init(struct stepper *stepper, const char *path, int threads, const char *kernels) {
    stepper_init_with(stepper, path, threads, (struct arithmetic){.kernels = kernels});
}

static inline void stepper_release(struct stepper *stepper) {
    forward_free(stepper->forward);
    kv_cache_release(&stepper->cache);
    pool_free(stepper->pool);
    model_free(stepper->model);
}

static inline struct lora_adapter *stepper_load(const struct stepper *stepper, const char *relative) {
    cleanup_free char *path = source_path(relative);
    struct error err = {0};
    struct lora_adapter *adapter = NULL;
    if (lora_load(stepper->model, path, 64, &adapter, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return adapter;
}

/* Tokens [first, first + count) of one sequence in one step; gives the logits of the last. */
static inline const float *stepper_run(struct stepper *stepper, const struct lora_adapter *adapter, const int *blocks,
                                       const int *tokens, size_t first, size_t count) {
    struct forward_row rows[STEPPER_ROWS];
    assert_true(count <= STEPPER_ROWS && first + count <= STEPPER_CONTEXT);
    for (size_t i = 0; i < count; i++) {
        rows[i] = (struct forward_row){.token = tokens[first + i],
                                       .position = first + i,
                                       .blocks = blocks,
                                       .adapter = adapter,
                                       .wants_logits = i + 1 == count};
    }
    forward_run(stepper->forward, rows, count);
    return forward_logits(stepper->forward, 0);
}

static inline int best_of(const float *logits, size_t count) {
    size_t best = 0;
    for (size_t i = 1; i < count; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return (int)best;
}

#endif
