// Values moved as they are: copies between arrays with strides, and constants.
//   move  to[i] = from[i] for every index i, byte by byte: transposes, slices, joins, paddings, broadcasts (stride 0).
//   fill  x[i] = one value.
// Nothing is computed, so nothing is rounded. Bytes: each element read once and written once.
#pragma once
#include "kernels/divide.cuh"

namespace fp16engine::gpu {

constexpr int kMoveAxes = 8;

// How an index runs through both arrays: extents and strides in units, innermost axis first.
struct MoveAxes {
    int count = 0;
    int64_t extent[kMoveAxes], from[kMoveAxes], to[kMoveAxes];
    Divider divider[kMoveAxes];  // of extents below 2^31
};

// ---- device helpers -------------------------------------------------------------------------------------------------

struct MoveOffsets {
    int64_t from, to;
};

// kSmall: fewer than 2^31 units, whose index is divided by multiplication.
template <bool kSmall>
__device__ __forceinline__ MoveOffsets move_offsets(const MoveAxes& axes, int64_t index) {
    MoveOffsets offsets = {0, 0};
    unsigned small = static_cast<unsigned>(index);
    for (int d = 0; d < axes.count; d++) {
        int64_t at;
        if (kSmall) {
            at = axes.divider[d].split(small);
        } else {
            at = index % axes.extent[d];
            index /= axes.extent[d];
        }
        offsets.from += at * axes.from[d];
        offsets.to += at * axes.to[d];
    }
    return offsets;
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// from and to: the offsets of index 0, in units of 1 to 16 bytes; n units.
template <class Unit, bool kSmall>
__global__ void __launch_bounds__(kBlock)
    move_kernel(Ptr<const Unit> from, Ptr<Unit> to, const __grid_constant__ MoveAxes axes, int64_t n) {
    for (int64_t i = grid_thread(); i < n; i += grid_threads()) {
        const MoveOffsets offsets = move_offsets<kSmall>(axes, i);
        move_bytes<static_cast<int>(sizeof(Unit))>(&to[offsets.to], &from[offsets.from]);
    }
}

// x (n,)
template <class Unit>
__global__ void __launch_bounds__(kBlock) fill_kernel(Ptr<Unit> x, int64_t n, const Unit value) {
    for (int64_t i = grid_thread(); i < n; i += grid_threads())
        move_bytes<static_cast<int>(sizeof(Unit))>(&x[i], &value);
}

}  // namespace fp16engine::gpu
