// Softmax along one row of K values, its logarithm and the cross entropy. Terms of a sum are first written to a float
// buffer.
#include "cpu/simd/columns.h"
#include "cpu/simd/math.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

// NaN may be passed over: it meets the result again in x - max.
template <class T>
FP16_KERNEL float row_max(const T* x, int64_t K) {
    f32x16 best = -kInfinity;
    int64_t k = 0;
    for (; k + kLanes <= K; k += kLanes) {
        const f32x16 value = load(x + k);
        best = select(value > best, value, best);
    }
    float lanes[2 * kLanes];
    store(lanes, best);
    const int tail = static_cast<int>(K - k);
    store(lanes + kLanes, load(x + k, tail));
    float result = lanes[0];
    for (int i = 1; i < kLanes + tail; i++) result = lanes[i] > result ? lanes[i] : result;
    return result;
}

// terms = exp(x - max)
template <class T>
FP16_KERNEL void exp_terms(const T* x, int64_t K, float max, float* terms) {
    for_column_blocks(K, [&](int64_t k, auto lanes) { lanes.put(terms + k, vexp(lanes.get(x + k) - max)); });
}

// terms = a * b
template <class T>
FP16_KERNEL void product_terms(const T* a, const T* b, int64_t K, float* terms) {
    for_column_blocks(K, [&](int64_t k, auto lanes) { lanes.put(terms + k, lanes.get(a + k) * lanes.get(b + k)); });
}

// y = terms / sum
template <class T>
FP16_KERNEL void softmax_row(const float* terms, int64_t K, float sum, T* y) {
    for_column_blocks(K, [&](int64_t k, auto lanes) { lanes.put(y + k, lanes.get(terms + k) / sum); });
}

// dx = y * (dy - sum)
template <class T>
FP16_KERNEL void softmax_gradient_row(const T* y, const T* dy, int64_t K, float sum, T* dx) {
    for_column_blocks(K,
                      [&](int64_t k, auto lanes) { lanes.put(dx + k, lanes.get(y + k) * (lanes.get(dy + k) - sum)); });
}

// y = (x - max) - log_sum
template <class T>
FP16_KERNEL void log_softmax_row(const T* x, int64_t K, float max, float log_sum, T* y) {
    for_column_blocks(K, [&](int64_t k, auto lanes) { lanes.put(y + k, (lanes.get(x + k) - max) - log_sum); });
}

// dx = dy - exp(y) * sum
template <class T>
FP16_KERNEL void log_softmax_gradient_row(const T* y, const T* dy, int64_t K, float sum, T* dx) {
    for_column_blocks(
        K, [&](int64_t k, auto lanes) { lanes.put(dx + k, lanes.get(dy + k) - vexp(lanes.get(y + k)) * sum); });
}

// dx = (terms / sum - (`on` at the label, else `off`)) * scale
template <class T>
FP16_KERNEL void cross_entropy_gradient_row(const float* terms, int64_t K, float sum, int64_t label, float on,
                                            float off, float scale, T* dx) {
    for_column_blocks(K, [&](int64_t k, auto lanes) { lanes.put(dx + k, (lanes.get(terms + k) / sum - off) * scale); });
    store(dx + label, f32x16((terms[label] / sum - on) * scale), 1);
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<SoftmaxKernels> softmax_kernels = {
    {row_max<half>, exp_terms<half>, product_terms<half>, softmax_row<half>, softmax_gradient_row<half>,
     log_softmax_row<half>, log_softmax_gradient_row<half>, cross_entropy_gradient_row<half>},
    {row_max<float>, exp_terms<float>, product_terms<float>, softmax_row<float>, softmax_gradient_row<float>,
     log_softmax_row<float>, log_softmax_gradient_row<float>, cross_entropy_gradient_row<float>},
    {row_max<bfloat16>, exp_terms<bfloat16>, product_terms<bfloat16>, softmax_row<bfloat16>,
     softmax_gradient_row<bfloat16>, log_softmax_row<bfloat16>, log_softmax_gradient_row<bfloat16>,
     cross_entropy_gradient_row<bfloat16>}};

}  // namespace fp16engine::cpu::FP16_ISA
