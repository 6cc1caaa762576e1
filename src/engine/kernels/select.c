#include "engine/kernels/rows.h"

#include "base/alloc.h"

#include <string.h>

static bool always(void) {
    return true;
}

#if defined(__x86_64__)
/* F16C came before AVX2 on every processor that has AVX2, and clang 14 cannot ask for it. */
static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

/* Fastest first. */
static const struct {
    const struct kernels *kernels;
    bool (*is_available)(void);
} table[] = {
#if defined(__x86_64__)
    {&kernels_avx2, has_avx2},
#endif
    {&kernels_generic, always},
};

const struct kernels *kernels_find(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].is_available() && (name == NULL || strcmp(name, table[i].kernels->name) == 0)) {
            return table[i].kernels;
        }
    }
    return NULL;
}

bool kernels_supports(unsigned type) {
    return type == TENSOR_F32 || type == TENSOR_Q4_1 || type == TENSOR_Q8_0;
}

bool kernels_is_quantised(enum tensor_type type) {
    return type == TENSOR_Q4_1 || type == TENSOR_Q8_0;
}
