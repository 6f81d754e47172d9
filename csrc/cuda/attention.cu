// Launches the fused attention of kernels/attention.cuh.
#include "kernels/attention.cuh"

#include <cmath>

#include "cuda/ops.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {
namespace {

// q (B, H, Sq, D), k (B, H, Sk, D), or (B, Sq, H * D) and (B, Sk, H * D), or `packed`: q (B, Sq, 3 * H * D); probs (B,
// H, Sq, Sk)
AttentionShape attention_shape(const ArrayView& q, bool packed, const ArrayView& probs, bool causal,
                               const ArrayView& lengths) {
    const int64_t heads = probs.shape[1], row = packed ? q.dim(-1) / 3 : q.dim(-1);
    const bool side_by_side = q.ndim == 3;
    const int64_t width = side_by_side && heads ? row / heads : row;
    AttentionShape s{};
    s.queries = static_cast<int>(probs.shape[2]);
    s.keys = static_cast<int>(probs.shape[3]);
    s.width = static_cast<int>(width);
    s.scale = width ? static_cast<float>(std::pow(static_cast<double>(width), -0.5)) : 1.0f;
    s.heads = static_cast<int>(heads);
    s.stride = static_cast<int>(q.dim(-1));
    s.y_stride = static_cast<int>(row);
    s.causal = causal;
    s.padded = static_cast<bool>(lengths);
    return s;
}

// Blocks of kTile of so many rows over all batches and heads.
unsigned tiles_of(const ArrayView& probs, int rows) {
    return static_cast<unsigned>(probs.shape[0] * probs.shape[1] * ceil_divide(rows, kTile));
}

// The queries, keys and values of one kind of arrays, or their gradients.
template <class T>
struct Triple {
    Ptr<T> q, k, v;
};

// The three arrays; k and v are absent where all lie side by side in q, with so many elements of each in a row.
template <class T>
Triple<T> triple(const ArrayView& q, const ArrayView& k, const ArrayView& v, int row) {
    const auto first = pointer<T>(q);
    if (k) return {first, pointer<T>(k), pointer<T>(v)};
    return {first, first + row, first + 2 * row};
}

}  // namespace

void attention_forward(const ArrayView& q, const ArrayView& k, const ArrayView& v, const ArrayView& y,
                       const ArrayView& probs, bool causal, const ArrayView& lengths, bool half_accumulator) {
    const AttentionShape s = attention_shape(q, !k, probs, causal, lengths);
    const unsigned blocks = tiles_of(probs, s.queries);
    if (blocks == 0) return;
    with_storage("q", q.dtype, [&](auto type) {
        with_flag(half_accumulator, [&](auto half) {
            using T = decltype(type);
            constexpr bool kHalf = decltype(half)::value && sizeof(T) == 2;  // the binding's check says so
            const Triple<const T> in = triple<const T>(q, k, v, s.y_stride);
            const auto ys = pointer<T>(y), ps = pointer<T>(probs);
            const auto ls = pointer<const int64_t>(lengths);
            FP16_LAUNCH((attention_forward_kernel<T, kHalf>), blocks, kBlock, in.q, in.k, in.v, ls, ys, ps, s);
        });
    });
}

void attention_backward(const ArrayView& q, const ArrayView& k, const ArrayView& v, const ArrayView& probs,
                        const ArrayView& dy, const ArrayView& dq, const ArrayView& dk, const ArrayView& dv,
                        bool half_accumulator) {
    const AttentionShape s = attention_shape(q, !k, probs, false, {});
    const unsigned query_blocks = tiles_of(probs, s.queries), key_blocks = tiles_of(probs, s.keys);
    if (query_blocks == 0 && key_blocks == 0) return;
    with_storage("q", q.dtype, [&](auto type) {
        with_flag(half_accumulator, [&](auto half) {
            using T = decltype(type);
            constexpr bool kHalf = decltype(half)::value && sizeof(T) == 2;  // the binding's check says so
            const Triple<const T> in = triple<const T>(q, k, v, s.y_stride);
            const Triple<T> out = triple<T>(dq, dk, dv, s.y_stride);
            const auto ps = pointer<const T>(probs), dys = pointer<const T>(dy);
            if (query_blocks == key_blocks && s.queries <= kTile && s.keys <= kTile) {
                FP16_LAUNCH((attention_gradient_kernel<T, kHalf>), query_blocks, kBlock, in.q, in.k, in.v, ps, dys,
                            out.q, out.k, out.v, s);
                return;
            }
            const Workspace workspace(probs.size() + 1);
            const Ptr<float> ds = workspace.get();
            if (query_blocks)
                FP16_LAUNCH((attention_query_gradient_kernel<T, kHalf>), query_blocks, kBlock, in.k, in.v, ps, dys, ds,
                            out.q, s);
            if (key_blocks)
                FP16_LAUNCH((attention_key_gradient_kernel<T, kHalf>), key_blocks, kBlock, in.q, ps, dys, ds, out.k,
                            out.v, s);
        });
    });
}

}  // namespace fp16engine::gpu
