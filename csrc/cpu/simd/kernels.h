// The table of inner loops, one per instruction set. kernels.cpp is compiled once for each; dispatch.cpp picks one at run time.
// Loops work on one thread's slice: they never allocate, never start threads and use no standard library templates,
// whose merged copies could carry an instruction this machine lacks.
#pragma once
#include <cstdint>

#include "common/half.h"

namespace fp16engine::cpu {

// Loops over arrays stored as T (half or float); arithmetic is in float registers.
template <class T>
struct NormKernels {
    // Column sums of x (rows, C) and of the squared distances from this slice's own means, both overwritten.
    void (*slice_moments)(const T* x, int64_t rows, int64_t C, float* sum, float* squares);
    // y = ((x - mean) * inv_std) * gamma + beta, then max(y, 0) if relu.
    void (*normalize)(const T* x, int64_t rows, int64_t C, const float* mean, const float* inv_std, const float* gamma,
                      const float* beta, bool relu, T* y);
    // Column sums of dy and of dy * xhat, both overwritten; dy is masked where the recomputed y is not positive if relu.
    void (*backward_sums)(const T* x, const T* dy, int64_t rows, int64_t C, const float* mean, const float* inv_std,
                          const float* gamma, const float* beta, bool relu, float* dbeta, float* dgamma);
    // dx = scale * (dy - dbeta_mean - xhat * dgamma_mean), scale = gamma * inv_std.
    void (*backward_input)(const T* x, const T* dy, int64_t rows, int64_t C, const float* mean, const float* inv_std,
                           const float* gamma, const float* beta, bool relu, const float* dbeta_mean,
                           const float* dgamma_mean, T* dx);
    // The strict forms: one binary16 accumulator per column and block of 32 rows; `sums` gets the block sums in order.
    void (*strict_block_sums)(const T* x, const T* dy, int64_t rows, int64_t C, const float* mean, const float* inv_std,
                              const float* gamma, const float* beta, int quantity, bool relu, float* sums);
};

struct GemmKernels {
    // c (m, n) += a (m, k) * b (k, n), float accumulators; n a multiple of 16; a[i * row + p * step] is element (i, p).
    void (*multiply)(const float* a, int64_t row, int64_t step, const float* b, float* c, int64_t m, int64_t n, int64_t k);
    // c = the block sum of k <= 32 products, each step fl16(acc + a * b).
    void (*multiply_half_block)(const float* a, int64_t row, int64_t step, const float* b, float* c, int64_t m, int64_t n,
                                int64_t k);
    // c = fl16(a + b), elementwise.
    void (*add_half)(const float* a, const float* b, float* c, int64_t n);
};

struct Kernels {
    const char* isa;
    void (*half_to_float)(const half* x, float* y, int64_t n);
    void (*float_to_half)(const float* x, half* y, int64_t n);
    void (*accumulate)(const float* x, float* y, int64_t n);                        // y += x
    void (*column_sums)(const float* x, int64_t rows, int64_t C, float* sums);      // sums += column sums
    GemmKernels gemm;
    NormKernels<half> norm_half;
    NormKernels<float> norm_float;

    const NormKernels<half>& norm(half) const { return norm_half; }
    const NormKernels<float>& norm(float) const { return norm_float; }
};

const Kernels& kernels();                   // the table in use
const char* select_isa(const char* isa);    // "auto", "avx512", "avx2" or "portable"; returns the one in use or nullptr

}  // namespace fp16engine::cpu
