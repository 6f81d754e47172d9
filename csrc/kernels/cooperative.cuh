// Kernels whose blocks wait for each other: all of them are on the device at once (FP16_LAUNCH_COOPERATIVE).
#pragma once
#if defined(__CUDACC__)
#include <cooperative_groups.h>
#else
#include "simt/cooperative.h"
#endif

#include "kernels/device.cuh"

namespace fp16engine::gpu {

// Until every thread of the grid is here; each then sees what the others wrote before. Blocks are one-dimensional.
__device__ __forceinline__ void grid_barrier() {
#if defined(__CUDACC__)
    cooperative_groups::this_grid().sync();
#else
    __syncthreads();
    if (threadIdx.x == 0) simt::wait_for_grid();
    __syncthreads();
#endif
}

}  // namespace fp16engine::gpu
