// Kernels with one fault each, of the kind a GPU answers with wrong numbers now and then, and one without any. The
// simulator must stop at the first and run the other: python_tests/simt/test_faults.py. x and y have kBlock elements
// per block of the grid.
#pragma once
#include "kernels/cooperative.cuh"
#include "kernels/device.cuh"

namespace fp16engine::gpu {

// ---- kernels
// ---------------------------------------------------------------------------------------------------------

// y[i] = x of the next thread of the block, doubled in a register that goes round the warp: every rule is kept.
__global__ void planted_nothing(Ptr<const float> x, Ptr<float> y) {
    __shared__ Shared<float, kBlock> shared;
    const int t = static_cast<int>(threadIdx.x);
    shared[t] = x[grid_thread()];
    __syncthreads();
    const float next = shared[(t + 1) % kBlock];
    __syncthreads();
    shared[t] = next;
    __syncwarp();
    const int lane = t % kWarpSize;
    const float same = shared[t - lane + (lane + 1) % kWarpSize];
    y[grid_thread()] = __fadd_rn(__shfl_sync(kFullWarp, same, (lane + kWarpSize - 1) % kWarpSize), next);
}

// No barrier between a write and another warp's read.
__global__ void planted_race(Ptr<const float> x, Ptr<float> y) {
    __shared__ Shared<float, kBlock> shared;
    const int t = static_cast<int>(threadIdx.x);
    shared[t] = x[grid_thread()];
    y[grid_thread()] = shared[(t + kWarpSize) % kBlock];
}

// Lanes of a warp are not in step since Volta: reading a neighbour's value wants __syncwarp.
__global__ void planted_warp_race(Ptr<const float> x, Ptr<float> y) {
    __shared__ Shared<float, kBlock> shared;
    const int t = static_cast<int>(threadIdx.x);
    shared[t] = x[grid_thread()];
    y[grid_thread()] = shared[t ^ 1];
}

// The array is used again before everyone has read it.
__global__ void planted_early_reuse(Ptr<const float> x, Ptr<float> y) {
    __shared__ Shared<float, kBlock> shared;
    const int t = static_cast<int>(threadIdx.x);
    shared[t] = x[grid_thread()];
    __syncthreads();
    const float next = shared[(t + kWarpSize) % kBlock];
    shared[t] = next;
    y[grid_thread()] = next;
}

// The last thread of the grid writes behind the array.
__global__ void planted_bounds(Ptr<const float> x, Ptr<float> y) { y[grid_thread() + 1] = x[grid_thread()]; }

__global__ void planted_shared_bounds(Ptr<const float> x, Ptr<float> y) {
    __shared__ Shared<float, kBlock> shared;
    shared[static_cast<int>(threadIdx.x) + 1] = x[grid_thread()];
    y[grid_thread()] = 0.0f;
}

// Half of the block does not come to the barrier.
__global__ void planted_divergent_barrier(Ptr<const float> x, Ptr<float> y) {
    if (threadIdx.x < kBlock / 2) __syncthreads();
    y[grid_thread()] = x[grid_thread()];
}

// A shuffle that names lanes which have left.
__global__ void planted_divergent_shuffle(Ptr<const float> x, Ptr<float> y) {
    if (threadIdx.x % kWarpSize == 0) return;
    y[grid_thread()] = __shfl_xor_sync(kFullWarp, x[grid_thread()], 1);
}

// Sixteen bytes from an address that is a multiple of four only.
__global__ void planted_misaligned(Ptr<const float> x, Ptr<float> y) {
    y[grid_thread()] = load_vector<float>(x + 1).values[0];
}

// A block reads what the next block writes in the same launch; pieces has one element per block.
__global__ void planted_other_block(Ptr<const float> x, Ptr<float> y, Ptr<float> pieces) {
    if (threadIdx.x == 0) pieces[blockIdx.x] = x[grid_thread()];
    __syncthreads();
    y[grid_thread()] = pieces[(blockIdx.x + 1) % gridDim.x];
}

// The same in a cooperative launch, with a barrier of the grid between, which one block skips.
__global__ void planted_grid_barrier(Ptr<const float> x, Ptr<float> y, Ptr<float> pieces, bool skips) {
    if (threadIdx.x == 0) pieces[blockIdx.x] = x[grid_thread()];
    if (!skips || blockIdx.x != 1) grid_barrier();
    y[grid_thread()] = pieces[(blockIdx.x + 1) % gridDim.x];
}

// Nobody has written what is read.
__global__ void planted_unwritten(Ptr<const float> x, Ptr<float> y) {
    __shared__ Shared<float, kBlock> shared;
    if (threadIdx.x == 0) shared[0] = x[grid_thread()];
    __syncthreads();
    y[grid_thread()] = shared[1];
}

}  // namespace fp16engine::gpu
