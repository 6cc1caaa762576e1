/* The rows of the kernel table; see kernels.h. */
#ifndef DAVIT_ENGINE_KERNELS_ROWS_H
#define DAVIT_ENGINE_KERNELS_ROWS_H

#include "engine/kernels/kernels.h"

extern const struct kernels kernels_generic;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
#endif

#endif
