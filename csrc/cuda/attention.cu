// Launches the fused attention of kernels/attention.cuh.
#include "kernels/attention.cuh"

#include <cmath>

#include "cuda/ops.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {
namespace {

// Checks q (B, H, Sq, D), k and v (B, H, Sk, D), probs (B, H, Sq, Sk), y like q, lengths (B,) or none.
AttentionShape attention_shape(const ArrayView& q, const ArrayView& k, const ArrayView& v, const ArrayView& y,
                               const ArrayView& probs, bool causal, const ArrayView& lengths, bool half_accumulator) {
    expect(q.ndim == 4, "q must be (B, H, S, D), got " + q.describe());
    expect(k.ndim == 4, "k must be (B, H, S, D), got " + k.describe());
    const int64_t B = q.shape[0], H = q.shape[1], queries = q.shape[2], keys = k.shape[2], width = q.shape[3];
    expect_shape("k", k, {B, H, keys, width});
    expect_shape("v", v, {B, H, keys, width});
    expect_shape("y", y, {B, H, queries, width});
    expect_shape("probs", probs, {B, H, queries, keys});
    for (const ArrayView* view : {&k, &v, &y, &probs}) expect_dtype("attention", *view, q.dtype);
    expect_half_terms("q", q, half_accumulator);
    expect(queries <= kMostAttended && keys <= kMostAttended && width <= kMostAttended,
           "sequences and heads must be at most " + std::to_string(kMostAttended) + ", got q " + q.describe() +
               " and k " + k.describe());
    AttentionShape s{};
    s.queries = static_cast<int>(queries);
    s.keys = static_cast<int>(keys);
    s.width = static_cast<int>(width);
    s.scale = width ? static_cast<float>(std::pow(static_cast<double>(width), -0.5)) : 1.0f;
    s.heads = static_cast<int>(H);
    s.causal = causal;
    s.padded = static_cast<bool>(lengths);
    if (lengths) {
        expect_dtype("lengths", lengths, DType::int64);
        expect_shape("lengths", lengths, {B});
    }
    return s;
}

// Blocks of kTile rows over all batches and heads.
unsigned tiles_of(const ArrayView& x) {
    return static_cast<unsigned>(x.shape[0] * x.shape[1] * ceil_divide(x.shape[2], kTile));
}

}  // namespace

void attention_forward(const ArrayView& q, const ArrayView& k, const ArrayView& v, const ArrayView& y,
                       const ArrayView& probs, bool causal, const ArrayView& lengths, bool half_accumulator) {
    const AttentionShape s = attention_shape(q, k, v, y, probs, causal, lengths, half_accumulator);
    const unsigned blocks = tiles_of(q);
    if (blocks == 0) return;
    with_storage("q", q.dtype, [&](auto type) {
        with_flag(half_accumulator, [&](auto half) {
            using T = decltype(type);
            constexpr bool kHalf = decltype(half)::value && sizeof(T) == 2;  // checked above
            const auto qs = pointer<const T>(q), ks = pointer<const T>(k), vs = pointer<const T>(v);
            const auto ys = pointer<T>(y), ps = pointer<T>(probs);
            const auto ls = pointer<const int64_t>(lengths);
            FP16_LAUNCH((attention_forward_kernel<T, kHalf>), blocks, kBlock, qs, ks, vs, ls, ys, ps, s);
        });
    });
}

void attention_backward(const ArrayView& q, const ArrayView& k, const ArrayView& v, const ArrayView& probs,
                        const ArrayView& dy, const ArrayView& dq, const ArrayView& dk, const ArrayView& dv,
                        bool half_accumulator) {
    const AttentionShape s = attention_shape(q, k, v, dy, probs, false, {}, half_accumulator);
    const AttentionShape same = attention_shape(dq, dk, dv, dy, probs, false, {}, half_accumulator);
    expect(same.queries == s.queries && same.keys == s.keys && same.width == s.width && dq.dtype == q.dtype,
           "dq must be of the shape of q " + q.describe() + ", got " + dq.describe());
    const unsigned query_blocks = tiles_of(q), key_blocks = tiles_of(k);
    if (query_blocks == 0 && key_blocks == 0) return;
    const Workspace workspace(probs.size() + 1);
    const Ptr<float> ds = workspace.get();
    with_storage("q", q.dtype, [&](auto type) {
        with_flag(half_accumulator, [&](auto half) {
            using T = decltype(type);
            constexpr bool kHalf = decltype(half)::value && sizeof(T) == 2;  // checked above
            const auto qs = pointer<const T>(q), ks = pointer<const T>(k), vs = pointer<const T>(v),
                       ps = pointer<const T>(probs), dys = pointer<const T>(dy);
            const auto dqs = pointer<T>(dq), dks = pointer<T>(dk), dvs = pointer<T>(dv);
            if (query_blocks)
                FP16_LAUNCH((attention_query_gradient_kernel<T, kHalf>), query_blocks, kBlock, ks, vs, ps, dys, ds, dqs,
                            s);
            if (key_blocks)
                FP16_LAUNCH((attention_key_gradient_kernel<T, kHalf>), key_blocks, kBlock, qs, ps, dys, ds, dks, dvs,
                            s);
        });
    });
}

}  // namespace fp16engine::gpu
