// Many tensors in one launch: a table of them travels as a kernel argument, and every block works on one slice of one
// tensor.
#pragma once
#include "kernels/device.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

// 64 bytes each. A kernel's arguments are at most 32764 bytes where every driver can take them (CUDA 12.1 and driver
// 530 brought it, CUDA 13 asks for a later one), else 4096: all parameters of ResNet-56, 222, are one launch.
#if defined(__CUDACC__) && CUDART_VERSION < 13000
constexpr int kTableTensors = 56, kArgumentBytes = 4096;
#else
constexpr int kTableTensors = 448, kArgumentBytes = 32764;
#endif

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
