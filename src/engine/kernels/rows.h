/* The rows of the kernel table, and the parts of them that multiply integers; see kernels.h. */
#ifndef DAVIT_ENGINE_KERNELS_ROWS_H
#define DAVIT_ENGINE_KERNELS_ROWS_H

#include "engine/kernels/kernels.h"

/* Of amounts below this nothing is left to round. */
#define QUANTISE_LEAST 1e-30f

extern const struct kernels kernels_generic;
void generic_quantise(const float *x, size_t columns, const struct quantised *out, size_t row);
void generic_matmul_quantised(const struct matmul *work, size_t first, size_t last);
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
void avx2_quantise(const float *x, size_t columns, const struct quantised *out, size_t row);
/* Rows of Q4_1 by eights from `first` on; gives the row at which fewer are left. */
size_t avx2_matmul_q4_1_tiles(const struct matmul *work, size_t first, size_t last, float *scratch);
void avx2_matmul_quantised(const struct matmul *work, size_t first, size_t last, float *scratch);
#endif

#endif
