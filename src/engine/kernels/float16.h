/* Half precision (IEEE 754 binary16) and bfloat16 to float, exactly, NaN and subnormals included. */
#ifndef DAVIT_ENGINE_KERNELS_FLOAT16_H
#define DAVIT_ENGINE_KERNELS_FLOAT16_H

#include <stdint.h>
#include <string.h>

static inline float float_from_bits(uint32_t bits) {
    float value = 0;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline float float_from_bfloat16(uint16_t brain) {
    return float_from_bits((uint32_t)brain << 16);
}

static inline float float_from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1f;
    uint32_t fraction = half & 0x3ff;
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24 */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign != 0 ? -magnitude : magnitude;
    }
    exponent = exponent == 0x1f ? 0xff : exponent + 112;
    return float_from_bits(sign | exponent << 23 | fraction << 13);
}

#endif
