// A batch gathered by index, each image flipped, shifted, rotated and brightened at random (common/augmentation.h).
//   y[b] = augmented(data[index[b]]), from Philox words of (seed, index[b], epoch) alone
// Registers are float, no sum is longer than four terms, and a value is rounded once, at the store. A block's first
// thread draws for its image; each thread then takes one value after the other. No order depends on the launch: the
// same bits in every run, for every batch size.
// Bytes per element: data read once (rotated: four times, three of them from the cache), y written once.
#pragma once
#include "common/augmentation.h"
#include "kernels/device.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

struct AugmentShape {
    int64_t R;  // images of `data`
    int B, H, W, C;
};

// What the first thread of a block has drawn.
struct SharedDraw {
    Shared<int, 4> integers;
    Shared<float, 3> floats;

    __device__ __forceinline__ void put(const AugmentationDraw& d) {
        integers[0] = d.flip_lr;
        integers[1] = d.flip_ud;
        integers[2] = d.down;
        integers[3] = d.across;
        floats[0] = d.sine;
        floats[1] = d.cosine;
        floats[2] = d.change;
    }
    __device__ __forceinline__ AugmentationDraw get() {
        return {integers[0] != 0, integers[1] != 0, integers[2], integers[3], floats[0], floats[1], floats[2]};
    }
};

// ---- kernels --------------------------------------------------------------------------------------------------------

// data (R, H, W, C), index (B,), y (B, H, W, C); blockIdx: image, part of it. The epoch is read from `clock` () where
// it is there. An index outside the data gives NaN: a kernel cannot raise.
template <class T>
__global__ void __launch_bounds__(kBlock)
    augment_kernel(Ptr<const T> data, Ptr<const int64_t> index, Ptr<const int64_t> clock, Ptr<T> y, Augmentation a,
                   AugmentShape s, uint64_t seed, unsigned epoch) {
    __shared__ SharedDraw drawn;
    const int image = static_cast<int>(blockIdx.x);
    const int64_t id = index[image], size = static_cast<int64_t>(s.H) * s.W * s.C;
    const bool known = id >= 0 && id < s.R;
    if (threadIdx.x == 0)
        drawn.put(augmentation_draw(a, seed, static_cast<uint64_t>(id), clock ? static_cast<unsigned>(*clock) : epoch));
    __syncthreads();
    const AugmentationDraw draw = drawn.get();
    const Ptr<const T> from = data + (known ? id : 0) * size;
    const int row_size = s.W * s.C;
    for (int64_t i = static_cast<int64_t>(blockIdx.y) * kBlock + threadIdx.x; i < size;
         i += static_cast<int64_t>(gridDim.y) * kBlock) {
        const int row = static_cast<int>(i / row_size), rest = static_cast<int>(i % row_size), column = rest / s.C,
                  channel = rest % s.C;
        const AugmentationSource source = augmentation_source(a, draw, s.H, s.W, row, column);
        const float value = augmentation_value(a, draw, source, s.H, s.W, [&](int r, int c) {
            return as_float(from[(static_cast<int64_t>(r) * s.W + c) * s.C + channel]);
        });
        put(y[image * size + i], known ? value : __int_as_float(0x7fc00000));
    }
}

}  // namespace fp16engine::gpu
