// Rows of K values, each worked on by a team of kTeam threads: a warp or a block of kBlock.
#pragma once
#include "kernels/strict_sum.cuh"
#include "kernels/wide.cuh"

namespace fp16engine::gpu {

// kWidth elements move at once; kHeld such groups per thread stay in registers, 0: they are read again at every pass.
template <int kTeam_, int kWidth_, int kHeld_>
struct RowPlan {
    static constexpr int kTeam = kTeam_, kWidth = kWidth_, kHeld = kHeld_;
    static constexpr bool kIsHeld = kHeld > 0;
    static constexpr int kTeams = kBlock / kTeam;  // rows of a block
    static constexpr int64_t kMost = int64_t{1} * kTeam * kWidth * kHeld;
};

using WarpParts = Shared<float, kBlock / kWarpSize>;

// ---- device helpers -----------------------------------------------------------------------------------------------

template <class Plan>
__device__ __forceinline__ int team_thread() {
    return static_cast<int>(threadIdx.x) % Plan::kTeam;
}
template <class Plan>
__device__ __forceinline__ int64_t first_row() {
    return static_cast<int64_t>(blockIdx.x) * Plan::kTeams + threadIdx.x / Plan::kTeam;
}
template <class Plan>
__device__ __forceinline__ int64_t row_step() {
    return static_cast<int64_t>(gridDim.x) * Plan::kTeams;
}

// The sum over the team, the same in each of its threads: lanes by halving distance, warps in order.
template <class Plan>
__device__ __forceinline__ float team_sum(float v, WarpParts& part) {
    if constexpr (Plan::kTeam == kWarpSize)
        return warp_sum(v);
    else
        return block_sum(v, part);
}

template <class Plan>
__device__ __forceinline__ float team_max(float v, WarpParts& part) {
    v = warp_max(v);
    if constexpr (Plan::kTeam != kWarpSize) {
        __syncthreads();  // the previous use of `part` is over
        if (threadIdx.x % kWarpSize == 0) part[static_cast<int>(threadIdx.x) / kWarpSize] = v;
        __syncthreads();
        for (int warp = 0; warp < kBlock / kWarpSize; warp++) v = fmaxf(v, part[warp]);
    }
    return v;
}

// body(group, first element) for this thread's groups of a row of K; group counts them
template <class Plan, class Body>
__device__ __forceinline__ void each_group(int64_t K, Body body) {
    const int64_t first = static_cast<int64_t>(team_thread<Plan>()) * Plan::kWidth;
    constexpr int64_t kStep = int64_t{1} * Plan::kTeam * Plan::kWidth;
    if constexpr (Plan::kIsHeld) {
        for (int i = 0; i < Plan::kHeld; i++)
            if (first + i * kStep < K) body(i, first + i * kStep);
    } else {
        for (int64_t k = first; k < K; k += kStep) body(0, k);
    }
}

// The values that a thread has of a row: loaded once, or at every pass where the plan holds none.
template <class T, class Plan>
class RowValues {
public:
    __device__ __forceinline__ RowValues(Ptr<const T> row, int64_t K) : row_(row), K_(K) {
        if constexpr (Plan::kIsHeld) each_group<Plan>(K, [&](int i, int64_t k) { load_floats(row + k, held_[i]); });
    }

    // body(first element, values); what it writes to values is there at the next pass if the plan holds them.
    template <class Body>
    __device__ __forceinline__ void each(Body body) {
        each_group<Plan>(K_, [&](int i, int64_t k) {
            if constexpr (!Plan::kIsHeld) load_floats(row_ + k, held_[i]);
            body(k, held_[i]);
        });
    }

private:
    Ptr<const T> row_;
    int64_t K_;
    float held_[Plan::kIsHeld ? Plan::kHeld : 1][Plan::kWidth];
};

// The same for two rows side by side; body(group, first element, values of a, values of b).
template <class T, class Plan>
class RowPair {
public:
    __device__ __forceinline__ RowPair(Ptr<const T> a, Ptr<const T> b, int64_t K) : a_(a), b_(b), K_(K) {
        if constexpr (Plan::kIsHeld) each_group<Plan>(K, [&](int i, int64_t k) { load(i, k); });
    }

    template <class Body>
    __device__ __forceinline__ void each(Body body) {
        each_group<Plan>(K_, [&](int i, int64_t k) {
            if constexpr (!Plan::kIsHeld) load(i, k);
            body(i, k, held_a_[i], held_b_[i]);
        });
    }

private:
    __device__ __forceinline__ void load(int i, int64_t k) {
        load_floats(a_ + k, held_a_[i]);
        load_floats(b_ + k, held_b_[i]);
    }

    Ptr<const T> a_, b_;
    int64_t K_;
    float held_a_[Plan::kIsHeld ? Plan::kHeld : 1][Plan::kWidth],
        held_b_[Plan::kIsHeld ? Plan::kHeld : 1][Plan::kWidth];
};

}  // namespace fp16engine::gpu
