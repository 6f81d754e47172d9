// Many tensors in one launch: a table of them travels as a kernel argument, and every block works on one slice of one
// tensor.
#pragma once
#include "kernels/device.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

constexpr int kTableTensors = 56;  // 64 bytes each: a kernel's arguments are at most 4096 bytes

template <class Entry>
struct TensorTable {
    Entry entries[kTableTensors];
    int first_slice[kTableTensors + 1];  // slices of the tensors before
    int count;

    // The tensor that slice belongs to: the last one that starts at it or before.
    __device__ __forceinline__ int find(int slice) const {
        int low = 0, high = count;
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            if (first_slice[middle] <= slice)
                low = middle;
            else
                high = middle;
        }
        return low;
    }
};

}  // namespace fp16engine::gpu
