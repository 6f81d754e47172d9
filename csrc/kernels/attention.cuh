// Scaled dot-product attention for short sequences, every (batch, head) by itself; q (Sq, D), k and v (Sk, D):
//   qs = fl(q * scale);  scores = fl(qs @ k^T);  y = fl(probs @ v)
//   probs = fl(e / sum(e)),  e = exp(scores - max), over the keys j <= i alone if causal, and j < length of the batch
//   item if there are lengths; without a key to read, probs = 0
//   dp = fl(dy @ v^T);  ds = fl(probs * (dp - sum(dp * probs)));  dv = fl(probs^T @ dy)
//   dq = fl((ds @ k) * scale);  dk = fl(ds^T @ qs)
// A block takes 32 queries (or 32 keys, for dk and dv), so scores, dp and ds of a row stay in shared memory as they are
// stored. Dot products go through tiles of 32 x 32 outputs and steps of 32 terms, four outputs a thread.
// Accumulators: float, terms in index order, or binary16 in the documented order, a step being its block of 32. Sums
// along a row: float by lanes, then a fixed tree, or binary16 in the documented order. No atomics: the same bits in
// every run.
// Bytes: forward reads q, and k and v once per 32 queries (from the cache), writes y and probs; backward reads q, k, v,
// probs and dy, keeps ds in a workspace (in the block where one has all queries and keys), writes dq, dk, dv.
#pragma once
#include "common/limits.h"
#include "kernels/strict_dot.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

constexpr int kTile = 32;            // rows and columns of an output tile, terms of a step
constexpr int kAttentionLevels = 3;  // 128 terms are four blocks of 32

// x at one (batch, head): of (B, H, rows, D), or of (B, rows, H * D) where heads lie side by side, or queries, keys and
// values do: (B, rows, 3 * H * D)
struct AttentionShape {
    int queries, keys, width, heads;
    int stride, y_stride;  // elements from one row to the next: of q k v and their gradients, of y and dy
    float scale;
    bool causal, padded;

    // Where row `first` of an item, a batch and a head, begins in an array with so many rows.
    __device__ __forceinline__ int64_t start(int64_t item, int rows, int first, int row_stride) const {
        const int64_t batch = item / heads, head = item % heads;
        const int64_t base = row_stride == width ? item * rows * width : batch * rows * row_stride + head * width;
        return base + static_cast<int64_t>(first) * row_stride;
    }
};

__device__ __forceinline__ float operand(float v, float) { return v; }
__device__ __forceinline__ __half operand(float v, __half) { return __float2half_rn(v); }

// One step's operands, (kTile, kTile) each, terms along a row. The padding keeps rows on vectors and lanes off each
// other's banks.
template <bool kHalf>
struct TileStage {
    using S = Operand<kHalf>;
    static constexpr int kRow = kTile + Vec<S>::N;
    Shared<S, kTile * kRow> a, b;
};

// Fills a stage's operand with get(row, term). Neighbouring lanes take neighbouring terms, or rows where memory runs
// along rows.
template <bool kHalf, bool kAlongRows, class Get>
__device__ __forceinline__ void fill_operand(Shared<Operand<kHalf>, kTile * TileStage<kHalf>::kRow>& to, int rows,
                                             int terms, Get get) {
    for (int i = static_cast<int>(threadIdx.x); i < kTile * kTile; i += kBlock) {
        const int row = kAlongRows ? i % kTile : i / kTile, term = kAlongRows ? i / kTile : i % kTile;
        const float v = row < rows && term < terms ? get(row, term) : 0.0f;
        to[row * TileStage<kHalf>::kRow + term] = operand(v, Operand<kHalf>{});
    }
}

// put(row, column, sum) for the rows x columns sums over `depth` terms of a(row, term) * b(column, term); rows and
// columns are at most kTile. The whole block calls it; what a and b read has to be there, and may be overwritten after
// the next barrier.
template <bool kHalf, bool kAAlongRows, bool kBAlongRows, class A, class B, class Put>
__device__ __forceinline__ void tile_product(TileStage<kHalf>& stage, int rows, int columns, int depth, A a, B b,
                                             Put put_sum) {
    using S = Operand<kHalf>;
    constexpr int kRow = TileStage<kHalf>::kRow, N = Vec<S>::N, kSide = kTile / 2;  // 16 x 16 threads
    const int row = static_cast<int>(threadIdx.x) / kSide, column = static_cast<int>(threadIdx.x) % kSide;
    DotSum<kHalf, kAttentionLevels> sums[2][2];
    for (int first = 0; first < depth; first += kTile) {
        const int terms = depth - first < kTile ? depth - first : kTile;
        __syncthreads();  // the stage's previous use is over
        fill_operand<kHalf, kAAlongRows>(stage.a, rows, terms, [&](int i, int term) { return a(i, first + term); });
        fill_operand<kHalf, kBAlongRows>(stage.b, columns, terms, [&](int i, int term) { return b(i, first + term); });
        __syncthreads();
        for (int term = 0; term < terms; term += N) {
            Vec<S> left[2], right[2];
            for (int i = 0; i < 2; i++) left[i] = load_shared(stage.a, (row + i * kSide) * kRow + term);
            for (int j = 0; j < 2; j++) right[j] = load_shared(stage.b, (column + j * kSide) * kRow + term);
            for (int t = 0; t < N; t++) {
                if (kHalf && term + t >= terms) break;  // a sum of -0 would not survive a term of 0
                for (int i = 0; i < 2; i++)
                    for (int j = 0; j < 2; j++) sums[i][j].multiply_add(left[i].values[t], right[j].values[t]);
            }
        }
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 2; j++) sums[i][j].end_block();
    }
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) {
            const int r = row + i * kSide, c = column + j * kSide;
            if (r < rows && c < columns) put_sum(r, c, sums[i][j].total());
        }
    }
}

// Rows of scores, dp or ds as stored, (kTile, kMaxAttended)
using RowStage = Shared<float, kTile * kMaxAttended>;

// The sum of term(0), ..., term(count - 1) by a warp, the same in every lane; add(sum, i) adds term i to a binary16
// sum.
template <bool kHalf, class Term, class Add>
__device__ __forceinline__ float row_sum(int count, Term term, Add add) {
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    if constexpr (kHalf) {
        const auto block = [&](int64_t i) {
            const int begin = static_cast<int>(i) * kStrictBlock,
                      end = begin + kStrictBlock < count ? begin + kStrictBlock : count;
            __half sum = zero_half();
            for (int j = begin; j < end; j++) sum = add(sum, j);
            return __half2float(sum);
        };
        return strict_fold<false>((count + kStrictBlock - 1) / kStrictBlock, block).sum();
    } else {
        float sum = 0.0f;
        for (int j = lane; j < count; j += kWarpSize) sum = __fadd_rn(sum, term(j));
        return warp_sum(sum);
    }
}

// ds of the queries from `first` on into `gradients`, as stored, and dq of them; keep(row, j, g) hears of every ds.
template <class T, bool kHalf, class Keep>
__device__ __forceinline__ void query_gradient(TileStage<kHalf>& stage, RowStage& gradients, int64_t item, int first,
                                               Ptr<const T> k, Ptr<const T> v, Ptr<const T> probs, Ptr<const T> dy,
                                               Ptr<T> dq, const AttentionShape& s, Keep keep) {
    const int rows = s.queries - first < kTile ? s.queries - first : kTile;
    dy = dy + s.start(item, s.queries, first, s.y_stride);
    dq = dq + s.start(item, s.queries, first, s.stride);
    probs = probs + (item * s.queries + first) * s.keys;
    k = k + s.start(item, s.keys, 0, s.stride);
    v = v + s.start(item, s.keys, 0, s.stride);

    for (int key = 0; key < s.keys; key += kTile) {
        const auto incoming = [&](int row, int term) { return as_float(dy[row * s.y_stride + term]); };
        const auto values = [&](int column, int term) { return as_float(v[(key + column) * s.stride + term]); };
        const int columns = s.keys - key < kTile ? s.keys - key : kTile;
        tile_product<kHalf, false, false>(
            stage, rows, columns, s.width, incoming, values,
            [&](int row, int column, float sum) { gradients[row * kMaxAttended + key + column] = rounded<T>(sum); });
    }
    __syncthreads();

    const int warp = static_cast<int>(threadIdx.x / kWarpSize), lane = static_cast<int>(threadIdx.x % kWarpSize);
    for (int row = warp; row < rows; row += kBlock / kWarpSize) {
        const int base = row * kMaxAttended, at = row * s.keys;
        const float sum = row_sum<kHalf>(
            s.keys, [&](int j) { return __fmul_rn(gradients[base + j], as_float(probs[at + j])); },
            [&](__half part, int j) {
                return __hfma(__float2half_rn(gradients[base + j]), __float2half_rn(as_float(probs[at + j])), part);
            });
        __syncwarp();
        for (int j = lane; j < s.keys; j += kWarpSize) {
            const float g = rounded<T>(__fmul_rn(as_float(probs[at + j]), __fsub_rn(gradients[base + j], sum)));
            gradients[base + j] = g;
            keep(row, j, g);
        }
    }

    for (int column = 0; column < s.width; column += kTile) {
        const auto weights = [&](int row, int term) {
            return static_cast<float>(gradients[row * kMaxAttended + term]);
        };
        const auto keys = [&](int c, int term) { return as_float(k[term * s.stride + column + c]); };
        const int columns = s.width - column < kTile ? s.width - column : kTile;
        tile_product<kHalf, false, true>(stage, rows, columns, s.keys, weights, keys, [&](int row, int c, float sum) {
            put(dq[row * s.stride + column + c], __fmul_rn(sum, s.scale));
        });
    }
}

// dk and dv of the keys from `first` on; ds(key, query) is of a key counted from `first`.
template <class T, bool kHalf, class Gradients>
__device__ __forceinline__ void key_gradient(TileStage<kHalf>& stage, int64_t item, int first, Ptr<const T> q,
                                             Ptr<const T> probs, Ptr<const T> dy, Ptr<T> dk, Ptr<T> dv,
                                             const AttentionShape& s, Gradients ds) {
    const int rows = s.keys - first < kTile ? s.keys - first : kTile;
    q = q + s.start(item, s.queries, 0, s.stride);
    dy = dy + s.start(item, s.queries, 0, s.y_stride);
    probs = probs + (item * s.queries * s.keys + first);
    dk = dk + s.start(item, s.keys, first, s.stride);
    dv = dv + s.start(item, s.keys, first, s.stride);

    for (int column = 0; column < s.width; column += kTile) {
        const int columns = s.width - column < kTile ? s.width - column : kTile;
        const auto scaled = [&](int c, int term) {
            return rounded<T>(__fmul_rn(as_float(q[term * s.stride + column + c]), s.scale));
        };
        tile_product<kHalf, true, true>(stage, rows, columns, s.queries, ds, scaled,
                                        [&](int row, int c, float sum) { put(dk[row * s.stride + column + c], sum); });
        const auto weights = [&](int row, int term) { return as_float(probs[term * s.keys + row]); };
        const auto incoming = [&](int c, int term) { return as_float(dy[term * s.y_stride + column + c]); };
        tile_product<kHalf, true, true>(stage, rows, columns, s.queries, weights, incoming,
                                        [&](int row, int c, float sum) { put(dv[row * s.stride + column + c], sum); });
    }
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// q y of `queries` rows, k v of `keys` rows, probs (B * H, queries, keys), lengths (B,) if padded; one block per 32
// queries
template <class T, bool kHalf>
__global__ void __launch_bounds__(kBlock)
    attention_forward_kernel(Ptr<const T> q, Ptr<const T> k, Ptr<const T> v, Ptr<const int64_t> lengths, Ptr<T> y,
                             Ptr<T> probs, AttentionShape s) {
    __shared__ TileStage<kHalf> stage;
    __shared__ RowStage scores;
    const int tiles = (s.queries + kTile - 1) / kTile, first = static_cast<int>(blockIdx.x) % tiles * kTile;
    const int64_t item = blockIdx.x / tiles, query = item * s.queries + first;
    const int rows = s.queries - first < kTile ? s.queries - first : kTile;
    q = q + s.start(item, s.queries, first, s.stride);
    y = y + s.start(item, s.queries, first, s.y_stride);
    probs = probs + query * s.keys;
    k = k + s.start(item, s.keys, 0, s.stride);
    v = v + s.start(item, s.keys, 0, s.stride);

    for (int key = 0; key < s.keys; key += kTile) {
        const auto scaled = [&](int row, int term) {
            return rounded<T>(__fmul_rn(as_float(q[row * s.stride + term]), s.scale));
        };
        const auto keys = [&](int column, int term) { return as_float(k[(key + column) * s.stride + term]); };
        const int columns = s.keys - key < kTile ? s.keys - key : kTile;
        tile_product<kHalf, false, false>(
            stage, rows, columns, s.width, scaled, keys,
            [&](int row, int column, float sum) { scores[row * kMaxAttended + key + column] = rounded<T>(sum); });
    }
    __syncthreads();

    const int64_t length = s.padded ? lengths[item / s.heads] : s.keys;
    const int known = length < 0 ? 0 : length < s.keys ? static_cast<int>(length) : s.keys;
    const int warp = static_cast<int>(threadIdx.x / kWarpSize), lane = static_cast<int>(threadIdx.x % kWarpSize);
    for (int row = warp; row < rows; row += kBlock / kWarpSize) {
        const int base = row * kMaxAttended, seen = s.causal && first + row + 1 < known ? first + row + 1 : known;
        float most = __int_as_float(static_cast<int>(0xff800000u));
        for (int j = lane; j < seen; j += kWarpSize) most = fmaxf(most, scores[base + j]);
        most = warp_max(most);
        for (int j = lane; j < s.keys; j += kWarpSize)
            scores[base + j] = j < seen ? expf(scores[base + j] - most) : 0.0f;
        __syncwarp();
        const float sum = row_sum<kHalf>(
            s.keys, [&](int j) { return static_cast<float>(scores[base + j]); },
            [&](__half part, int j) { return __float2half_rn(__fadd_rn(__half2float(part), scores[base + j])); });
        __syncwarp();
        for (int j = lane; j < s.keys; j += kWarpSize) {
            const float p = seen ? rounded<T>(__fdiv_rn(scores[base + j], sum)) : 0.0f;
            scores[base + j] = p;
            put(probs[row * s.keys + j], p);
        }
    }

    for (int column = 0; column < s.width; column += kTile) {
        const auto weights = [&](int row, int term) { return static_cast<float>(scores[row * kMaxAttended + term]); };
        const auto values = [&](int c, int term) { return as_float(v[term * s.stride + column + c]); };
        const int columns = s.width - column < kTile ? s.width - column : kTile;
        tile_product<kHalf, false, true>(stage, rows, columns, s.keys, weights, values, [&](int row, int c, float sum) {
            put(y[row * s.y_stride + column + c], sum);
        });
    }
}

// dy dq of `queries` rows, probs ds (B * H, queries, keys); one block per 32 queries. ds holds values of T.
template <class T, bool kHalf>
__global__ void __launch_bounds__(kBlock)
    attention_query_gradient_kernel(Ptr<const T> k, Ptr<const T> v, Ptr<const T> probs, Ptr<const T> dy, Ptr<float> ds,
                                    Ptr<T> dq, AttentionShape s) {
    __shared__ TileStage<kHalf> stage;
    __shared__ RowStage gradients;
    const int tiles = (s.queries + kTile - 1) / kTile, first = static_cast<int>(blockIdx.x) % tiles * kTile;
    const int64_t item = blockIdx.x / tiles;
    ds = ds + (item * s.queries + first) * s.keys;
    query_gradient<T, kHalf>(stage, gradients, item, first, k, v, probs, dy, dq, s,
                             [&](int row, int j, float g) { ds[row * s.keys + j] = g; });
}

// q dy of `queries` rows, probs ds (B * H, queries, keys), dk dv of `keys` rows; one block per 32 keys
template <class T, bool kHalf>
__global__ void __launch_bounds__(kBlock)
    attention_key_gradient_kernel(Ptr<const T> q, Ptr<const T> probs, Ptr<const T> dy, Ptr<const float> ds, Ptr<T> dk,
                                  Ptr<T> dv, AttentionShape s) {
    __shared__ TileStage<kHalf> stage;
    const int tiles = (s.keys + kTile - 1) / kTile, first = static_cast<int>(blockIdx.x) % tiles * kTile;
    const int64_t item = blockIdx.x / tiles;
    ds = ds + (item * s.queries * s.keys + first);
    key_gradient<T, kHalf>(stage, item, first, q, probs, dy, dk, dv, s,
                           [&](int row, int term) { return static_cast<float>(ds[term * s.keys + row]); });
}

// Both, where at most 32 queries read at most 32 keys: one block per (batch, head), and ds stays in it
template <class T, bool kHalf>
__global__ void __launch_bounds__(kBlock)
    attention_gradient_kernel(Ptr<const T> q, Ptr<const T> k, Ptr<const T> v, Ptr<const T> probs, Ptr<const T> dy,
                              Ptr<T> dq, Ptr<T> dk, Ptr<T> dv, AttentionShape s) {
    __shared__ TileStage<kHalf> stage;
    __shared__ RowStage gradients;
    const int64_t item = blockIdx.x;
    query_gradient<T, kHalf>(stage, gradients, item, 0, k, v, probs, dy, dq, s, [](int, int, float) {});
    key_gradient<T, kHalf>(stage, item, 0, q, probs, dy, dk, dv, s,
                           [&](int row, int term) { return static_cast<float>(gradients[term * kMaxAttended + row]); });
}

}  // namespace fp16engine::gpu
