// A program that runs one planted fault on a GPU, for compute-sanitizer to find: planted FAULT. Exit status 0 if the
// launch went through, 1 if CUDA reported an error, 2 if there is no such fault.
#include <cstdio>
#include <cstring>

#include "testing/planted.cuh"

using namespace fp16engine::gpu;

int main(int count, char** arguments) {
    const char* const fault = count == 2 ? arguments[1] : "";
    constexpr int kBlocks = 2, kElements = kBlocks * kBlock;
    float *x = nullptr, *y = nullptr;
    cudaMalloc(reinterpret_cast<void**>(&x), kElements * sizeof(float));
    cudaMalloc(reinterpret_cast<void**>(&y), kElements * sizeof(float));
    const bool unset = std::strcmp(fault, "unset") == 0;  // a kernel without a fault reads what nobody wrote
    if (!unset) cudaMemset(x, 0, kElements * sizeof(float));
    if (unset || std::strcmp(fault, "nothing") == 0) {
        planted_nothing<<<kBlocks, kBlock>>>(x, y);
    } else if (std::strcmp(fault, "bounds") == 0) {
        planted_bounds<<<kBlocks, kBlock>>>(x, y);
    } else if (std::strcmp(fault, "race") == 0) {
        planted_race<<<kBlocks, kBlock>>>(x, y);
    } else if (std::strcmp(fault, "divergent_barrier") == 0) {
        planted_divergent_barrier<<<kBlocks, kBlock>>>(x, y);
    } else {
        std::fprintf(stderr, "fault must be nothing, unset, bounds, race or divergent_barrier, got '%s'\n", fault);
        return 2;
    }
    const cudaError_t status = cudaDeviceSynchronize();
    if (status != cudaSuccess) std::fprintf(stderr, "%s\n", cudaGetErrorString(status));
    cudaFree(x);
    cudaFree(y);
    return status == cudaSuccess ? 0 : 1;
}
