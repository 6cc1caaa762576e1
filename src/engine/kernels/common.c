#include "engine/kernels/kernels.h"

#include <math.h>

void kernels_rmsnorm(const float *x, const float *weight, size_t count, float epsilon, float *out) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    float scale = (float)(1.0 / sqrt(sum / (double)count + (double)epsilon));
    for (size_t i = 0; i < count; i++) {
        out[i] = x[i] * scale * weight[i];
    }
}

void kernels_rope(float *x, size_t heads, size_t head_size, const float *cosines, const float *sines) {
    size_t half = head_size / 2;
    for (size_t head = 0; head < heads; head++, x += head_size) {
        for (size_t i = 0; i < half; i++) {
            float low = x[i];
            float high = x[i + half];
            x[i] = low * cosines[i] - high * sines[i];
            x[i + half] = high * cosines[i] + low * sines[i];
        }
    }
}

void kernels_softmax(float *x, size_t count) {
    float maximum = x[0];
    float sum = 0;
    for (size_t i = 1; i < count; i++) {
        maximum = x[i] > maximum ? x[i] : maximum;
    }
    for (size_t i = 0; i < count; i++) {
        x[i] = expf(x[i] - maximum);
        sum += x[i];
    }
    for (size_t i = 0; i < count; i++) {
        x[i] /= sum;
    }
}

void kernels_swiglu(float *gate, const float *up, size_t count) {
    for (size_t i = 0; i < count; i++) {
        gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
    }
}
