// Depthwise convolution: output channel k reads input channel k / multiplier alone; multiplier = K / C is usually 1.
//   y[n,oh,ow,k] = fl(sum over (kh,kw) of x[n,ih,iw,c] * w[k,kh,kw] + b[k])
//   dx[n,h,w,c]  = fl(sum over (kh,kw,k) of dy[n,oh,ow,k] * w[k,kh,kw])
//   dw[k,kh,kw]  = fl(sum over (n,oh,ow) of dy[n,oh,ow,k] * x[n,ih,iw,c])
// with ih = oh * stride_h - top + kh, and zeros outside the image and between strides; db is a plain sum (reduce.cuh).
// y and dx: one thread per pixel and group of channels, weights in shared memory, terms in index order; float, or
// binary16 partial sums in the documented order.
// dw, float: slices of pixels, their number given by the shape alone, four interleaved sums of each, then the slices'
// sums, all in a fixed order and one cooperative launch, which makes dx on its way to the barrier. Binary16, two
// kernels: a thread per block of 32 pixels, then a warp merges block sums.
// No atomics: the same bits in every run.
// Bytes per element: x once from memory and kh * kw times from the cache, y once; dw reads x and dy likewise.
#pragma once
#include "kernels/cooperative.cuh"
#include "kernels/strict_dot.cuh"
#include "kernels/wide.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

struct DepthwiseShape {
    int N, H, W, C, K, R, S, OH, OW, stride_h, stride_w, top, left, multiplier;

    __host__ __device__ int taps() const { return R * S; }
    __host__ __device__ int outputs() const { return N * OH * OW; }  // pixels of y
};

constexpr int kDepthwiseChannels = 64;  // channels of a block
constexpr int kStagedTaps = 49;         // 7 x 7: 12.25 KiB; larger kernels are read from the cache
constexpr int kDepthwiseLevels = 12;    // 4095 blocks of 32 terms
constexpr int kTapGroup = 9;            // taps a thread sums at once in the weight gradient

using StagedWeights = Shared<float, kStagedTaps * kDepthwiseChannels>;

struct DepthwisePlace {
    int n, row, column;
};

__device__ __forceinline__ DepthwisePlace depthwise_place(int pixel, int rows, int columns) {
    const int line = pixel / columns;
    return {line / rows, line % rows, pixel - line * columns};
}

// w (K, taps): the weights of the block's channels, (taps, kDepthwiseChannels)
template <class T>
__device__ __forceinline__ void stage_weights(StagedWeights& staged, Ptr<const T> w, int first, int channels,
                                              int taps) {
    for (int i = static_cast<int>(threadIdx.x); i < taps * kDepthwiseChannels; i += kBlock) {
        const int channel = i / taps, tap = i - channel * taps;
        if (first + channel < channels)
            staged[tap * kDepthwiseChannels + channel] =
                as_float(w[static_cast<int64_t>(first + channel) * taps + tap]);
    }
}

// Sums of kWidth neighbouring channels.
template <int kWidth, bool kHalf>
struct ChannelSums {
    DotSum<kHalf, kDepthwiseLevels> sums[kWidth];
    int terms = 0;

    __device__ __forceinline__ void multiply_add(const float (&a)[kWidth], const float (&b)[kWidth]) {
        for (int j = 0; j < kWidth; j++) {
            if constexpr (kHalf)
                sums[j].multiply_add(__float2half_rn(a[j]), __float2half_rn(b[j]));
            else
                sums[j].multiply_add(a[j], b[j]);
        }
        if (kHalf && ++terms % kStrictBlock == 0) end_block();
    }
    __device__ __forceinline__ void finish(float (&total)[kWidth]) {
        if (kHalf && terms % kStrictBlock != 0) end_block();
        for (int j = 0; j < kWidth; j++) total[j] = sums[j].total();
    }

private:
    __device__ __forceinline__ void end_block() {
        for (int j = 0; j < kWidth; j++) sums[j].end_block();
    }
};

// What one pixel of the output of a tap reads: x at (ih, iw), or 0 outside the image.
template <class T>
__device__ __forceinline__ float tapped(Ptr<const T> x, const DepthwiseShape& s, const DepthwisePlace& at, int r, int c,
                                        int channel) {
    const int ih = at.row * s.stride_h - s.top + r, iw = at.column * s.stride_w - s.left + c;
    if (ih < 0 || ih >= s.H || iw < 0 || iw >= s.W) return 0.0f;
    return as_float(x[((static_cast<int64_t>(at.n) * s.H + ih) * s.W + iw) * s.C + channel]);
}

// partial (slices, taps, K) of one slice: channels and taps from `first` and `first_tap` on
template <class T>
__device__ __forceinline__ void depthwise_slice(Ptr<const T> x, Ptr<const T> dy, Ptr<float> partial,
                                                const DepthwiseShape& s, int per_slice, int slice, int first,
                                                int first_tap) {
    constexpr int kRows = kBlock / kDepthwiseChannels;
    __shared__ Shared<float, kTapGroup * kBlock> sums;  // (kTapGroup, kRows, kDepthwiseChannels)
    const int lane = static_cast<int>(threadIdx.x) % kDepthwiseChannels,
              row = static_cast<int>(threadIdx.x) / kDepthwiseChannels;
    const int k = first + lane, taps = s.taps();
    const int64_t begin = static_cast<int64_t>(slice) * per_slice;
    const int64_t end = begin + per_slice < s.outputs() ? begin + per_slice : s.outputs();
    float sum[kTapGroup] = {};
    for (int64_t pixel = begin + row; pixel < end && k < s.K; pixel += kRows) {
        const DepthwisePlace at = depthwise_place(static_cast<int>(pixel), s.OH, s.OW);
        const float gradient = as_float(dy[pixel * s.K + k]);
        int r = first_tap / s.S, c = first_tap - r * s.S;
        for (int t = 0; t < kTapGroup; t++) {
            if (first_tap + t < taps) sum[t] = __fmaf_rn(gradient, tapped<T>(x, s, at, r, c, k / s.multiplier), sum[t]);
            if (++c == s.S) {
                c = 0;
                r++;
            }
        }
    }
    __syncthreads();  // the previous use of `sums` is over
    for (int t = 0; t < kTapGroup; t++) sums[(t * kRows + row) * kDepthwiseChannels + lane] = sum[t];
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kTapGroup * kDepthwiseChannels; i += kBlock) {
        const int t = i / kDepthwiseChannels, channel = i % kDepthwiseChannels;
        if (first_tap + t >= taps || first + channel >= s.K) continue;
        float total = 0.0f;
        for (int j = 0; j < kRows; j++) total = __fadd_rn(total, sums[(t * kRows + j) * kDepthwiseChannels + channel]);
        partial[(static_cast<int64_t>(slice) * taps + first_tap + t) * s.K + first + channel] = total;
    }
}

// 32 outputs of dw (K, taps) from `begin` on, from partial (slices, taps, K)
template <class T>
__device__ __forceinline__ void depthwise_add_slices(Ptr<const float> partial, Ptr<T> dw, int slices, int taps, int K,
                                                     int64_t begin) {
    constexpr int kRows = kBlock / kWarpSize;
    __shared__ Shared<float, kBlock> sums;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize, row = static_cast<int>(threadIdx.x) / kWarpSize;
    const int64_t outputs = static_cast<int64_t>(taps) * K, i = begin + lane;
    float sum = 0.0f;
    for (int slice = row; slice < slices && i < outputs; slice += kRows)
        sum = __fadd_rn(sum, partial[slice * outputs + i]);
    __syncthreads();  // the previous use of `sums` is over
    sums[row * kWarpSize + lane] = sum;
    __syncthreads();
    if (row > 0 || i >= outputs) return;
    float total = 0.0f;
    for (int j = 0; j < kRows; j++) total = __fadd_rn(total, sums[j * kWarpSize + lane]);
    put(dw[i % K * taps + i / K], total);
}

// dx (N, H, W, C) of kDepthwiseChannels channels from `first` on: one of `pieces` pieces of the pixels, from w (K, R,
// S, 1) and dy (N, OH, OW, K)
template <class T, int kWidth, bool kHalf>
__device__ __forceinline__ void depthwise_data_piece(Ptr<const T> w, Ptr<const T> dy, Ptr<T> dx,
                                                     const DepthwiseShape& s, int first, int piece, int pieces) {
    __shared__ StagedWeights staged;
    constexpr int kLanes = kDepthwiseChannels / kWidth, kPixels = kBlock / kLanes;
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    const int taps = s.taps(), channel = first + lane * kWidth;
    const bool in_shared = taps <= kStagedTaps && s.multiplier == 1;
    if (in_shared) {
        __syncthreads();  // the previous use of `staged` is over
        stage_weights<T>(staged, w, first, s.C, taps);
        __syncthreads();
    }
    if (channel >= s.C) return;
    const int step = pieces * kPixels, pixels = s.N * s.H * s.W;
    for (int64_t pixel = static_cast<int64_t>(piece) * kPixels + static_cast<int>(threadIdx.x) / kLanes; pixel < pixels;
         pixel += step) {
        const DepthwisePlace at = depthwise_place(static_cast<int>(pixel), s.H, s.W);
        ChannelSums<kWidth, kHalf> sums;
        for (int r = 0; r < s.R; r++) {
            const int up = at.row + s.top - r, oh = up / s.stride_h;
            const bool row_there = up >= 0 && oh * s.stride_h == up && oh < s.OH;
            for (int c = 0; c < s.S; c++) {
                const int across = at.column + s.left - c, ow = across / s.stride_w, tap = r * s.S + c;
                const bool there = row_there && across >= 0 && ow * s.stride_w == across && ow < s.OW;
                for (int m = 0; m < s.multiplier; m++) {
                    const int k = channel * s.multiplier + m;
                    float v[kWidth] = {}, weight[kWidth];
                    if (there)
                        load_floats<kWidth, T>(dy + (((static_cast<int64_t>(at.n) * s.OH + oh) * s.OW + ow) * s.K + k),
                                               v);
                    for (int j = 0; j < kWidth; j++)
                        weight[j] = in_shared ? static_cast<float>(staged[tap * kDepthwiseChannels + lane * kWidth + j])
                                              : as_float(w[static_cast<int64_t>(k + j) * taps + tap]);
                    sums.multiply_add(v, weight);
                }
            }
        }
        float total[kWidth];
        sums.finish(total);
        store_floats<kWidth, T>(dx + (pixel * s.C + channel), total);
    }
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// x (N, H, W, C), w (K, R, S, 1), bias (K,) or absent, y (N, OH, OW, K). A block takes kDepthwiseChannels channels from
// blockIdx.y on; kWidth > 1 only where the multiplier is 1.
template <class T, int kWidth, bool kHalf>
__global__ void __launch_bounds__(kBlock)
    depthwise_forward_kernel(Ptr<const T> x, Ptr<const T> w, Ptr<const T> bias, Ptr<T> y, DepthwiseShape s) {
    __shared__ StagedWeights staged;
    constexpr int kLanes = kDepthwiseChannels / kWidth, kPixels = kBlock / kLanes;
    const int first = static_cast<int>(blockIdx.y) * kDepthwiseChannels, lane = static_cast<int>(threadIdx.x) % kLanes;
    const int taps = s.taps(), channel = first + lane * kWidth;
    const bool in_shared = taps <= kStagedTaps;
    if (in_shared) {
        stage_weights<T>(staged, w, first, s.K, taps);
        __syncthreads();
    }
    if (channel >= s.K) return;
    const int step = static_cast<int>(gridDim.x) * kPixels, pixels = s.outputs();
    for (int64_t pixel = static_cast<int64_t>(blockIdx.x) * kPixels + static_cast<int>(threadIdx.x) / kLanes;
         pixel < pixels; pixel += step) {
        const DepthwisePlace at = depthwise_place(static_cast<int>(pixel), s.OH, s.OW);
        ChannelSums<kWidth, kHalf> sums;
        for (int r = 0; r < s.R; r++) {
            const int ih = at.row * s.stride_h - s.top + r;
            for (int c = 0; c < s.S; c++) {
                const int iw = at.column * s.stride_w - s.left + c, tap = r * s.S + c;
                float v[kWidth] = {}, weight[kWidth];
                if (ih >= 0 && ih < s.H && iw >= 0 && iw < s.W)
                    load_floats<kWidth, T>(
                        x + (((static_cast<int64_t>(at.n) * s.H + ih) * s.W + iw) * s.C + channel / s.multiplier), v);
                for (int j = 0; j < kWidth; j++)
                    weight[j] = in_shared ? static_cast<float>(staged[tap * kDepthwiseChannels + lane * kWidth + j])
                                          : as_float(w[static_cast<int64_t>(channel + j) * taps + tap]);
                sums.multiply_add(v, weight);
            }
        }
        float total[kWidth];
        sums.finish(total);
        for (int j = 0; j < kWidth && bias; j++) {
            total[j] = __fadd_rn(
                total[j], as_float(bias[channel + j]));  // binary16: the store rounds this sum of two halves once
        }
        store_floats<kWidth, T>(y + (pixel * s.K + channel), total);
    }
}

// w (K, R, S, 1), dy (N, OH, OW, K), dx (N, H, W, C): kDepthwiseChannels channels from blockIdx.y on
template <class T, int kWidth, bool kHalf>
__global__ void __launch_bounds__(kBlock)
    depthwise_data_gradient_kernel(Ptr<const T> w, Ptr<const T> dy, Ptr<T> dx, DepthwiseShape s) {
    depthwise_data_piece<T, kWidth, kHalf>(w, dy, dx, s, static_cast<int>(blockIdx.y) * kDepthwiseChannels,
                                           static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x));
}

// x (N, H, W, C), w (K, taps), dy (N, OH, OW, K), dx (N, H, W, C) or absent, dw (K, taps). First dx, which waits for
// nothing, and partial (slices, taps, K): float sums over slices of `per_slice` pixels, a block taking a slice of
// kDepthwiseChannels channels and kTapGroup taps at a time. Then, once all are there, 32 outputs a block at a time,
// eight threads each, slices i, i + 8, ... by thread i. kWidth > 1 only where the multiplier is 1.
template <class T, int kWidth>
__global__ void __launch_bounds__(kBlock)
    depthwise_backward_kernel(Ptr<const T> x, Ptr<const T> w, Ptr<const T> dy, Ptr<float> partial, Ptr<T> dx, Ptr<T> dw,
                              DepthwiseShape s, int per_slice, int slices) {
    const int taps = s.taps(), tiles = (s.K + kDepthwiseChannels - 1) / kDepthwiseChannels,
              groups = (taps + kTapGroup - 1) / kTapGroup;
    if (dx) {
        const int blocks = static_cast<int>(gridDim.x), chunks = (s.C + kDepthwiseChannels - 1) / kDepthwiseChannels,
                  pieces = blocks < chunks ? 1 : blocks / chunks;
        for (int i = static_cast<int>(blockIdx.x); i < chunks * pieces; i += blocks)
            depthwise_data_piece<T, kWidth, false>(w, dy, dx, s, i % chunks * kDepthwiseChannels, i / chunks, pieces);
    }
    for (int64_t i = blockIdx.x; i < int64_t{slices} * tiles * groups; i += gridDim.x) {
        const int64_t tile = i / slices;
        depthwise_slice<T>(x, dy, partial, s, per_slice, static_cast<int>(i % slices),
                           static_cast<int>(tile % tiles) * kDepthwiseChannels,
                           static_cast<int>(tile / tiles) * kTapGroup);
    }
    grid_barrier();
    const int64_t outputs = static_cast<int64_t>(taps) * s.K;
    for (int64_t i = blockIdx.x; i * kWarpSize < outputs; i += gridDim.x)
        depthwise_add_slices<T>(partial, dw, slices, taps, s.K, i * kWarpSize);
}

// x (N, H, W, C), dy (N, OH, OW, K), partial (blocks, taps, K): binary16 sums of 32 pixels
template <class T>
__global__ void __launch_bounds__(kBlock)
    depthwise_strict_block_kernel(Ptr<const T> x, Ptr<const T> dy, Ptr<float> partial, DepthwiseShape s) {
    const int taps = s.taps(), pixels = s.outputs();
    const int64_t outputs = static_cast<int64_t>(taps) * s.K, blocks = (pixels + kStrictBlock - 1) / kStrictBlock;
    for (int64_t i = grid_thread(); i < blocks * outputs; i += grid_threads()) {
        const int64_t block = i / outputs;
        const int output = static_cast<int>(i - block * outputs), tap = output / s.K, k = output - tap * s.K;
        const int begin = static_cast<int>(block) * kStrictBlock;
        const int end = pixels - begin < kStrictBlock ? pixels : begin + kStrictBlock;
        __half sum = zero_half();
        for (int pixel = begin; pixel < end; pixel++) {
            const DepthwisePlace at = depthwise_place(pixel, s.OH, s.OW);
            const float gradient = as_float(dy[static_cast<int64_t>(pixel) * s.K + k]);
            const float seen = tapped<T>(x, s, at, tap / s.S, tap % s.S, k / s.multiplier);
            sum = __hfma(__float2half_rn(gradient), __float2half_rn(seen), sum);
        }
        partial[i] = __half2float(sum);
    }
}

// partial (blocks, taps, K), dw (K, taps): a warp per output
template <class T>
__global__ void __launch_bounds__(kBlock)
    depthwise_strict_merge_kernel(Ptr<const float> partial, Ptr<T> dw, int64_t blocks, int taps, int K) {
    const int64_t outputs = static_cast<int64_t>(taps) * K, warps = grid_threads() / kWarpSize;
    for (int64_t i = grid_thread() / kWarpSize; i < outputs; i += warps) {
        const float sum = strict_fold<false>(blocks, [&](int64_t block) { return partial[block * outputs + i]; }).sum();
        if (threadIdx.x % kWarpSize == 0) put(dw[i % K * taps + i / K], sum);
    }
}

}  // namespace fp16engine::gpu
