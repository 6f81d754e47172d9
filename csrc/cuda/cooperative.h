// How a launcher starts a kernel whose blocks wait for each other (kernels/cooperative.cuh).
#pragma once
#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "cuda/launch.h"
#include "kernels/cooperative.cuh"

namespace fp16engine::gpu {

#if defined(__CUDACC__)
// Blocks of `threads` threads that the current device holds at once.
int64_t resident_blocks(const void* kernel, int threads);

template <class... Parameters, class... Arguments>
void launch_cooperative(const char* name, void (*kernel)(Parameters...), int64_t blocks, int threads,
                        Arguments&&... arguments) {
    cudaLaunchAttribute together{};
    together.id = cudaLaunchAttributeCooperative;
    together.val.cooperative = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid_of(std::min(blocks, resident_blocks(reinterpret_cast<const void*>(kernel), threads)));
    config.blockDim = static_cast<unsigned>(threads);
    config.stream = current_stream();
    config.attrs = &together;
    config.numAttrs = 1;
    check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name, __FILE__, __LINE__);
}

// `blocks` blocks, or as many as the device holds at once.
#define FP16_LAUNCH_COOPERATIVE(kernel, blocks, threads, ...) \
    ::fp16engine::gpu::launch_cooperative(#kernel, kernel, (blocks), (threads), __VA_ARGS__)
#else
constexpr int64_t kResident = 2;  // blocks of a simulated multiprocessor

#define FP16_LAUNCH_COOPERATIVE(kernel, blocks, threads, ...)                                                         \
    do {                                                                                                              \
        const Dim3 blocks_(grid_of(std::min<int64_t>((blocks), kResident * multiprocessors()))), threads_((threads)); \
        ::simt::check_launch(blocks_, threads_);                                                                      \
        ::simt::perform(#kernel " (cooperative)", true,                                                               \
                        [=] { ::simt::launch_cooperative(blocks_, threads_, [=] { kernel(__VA_ARGS__); }); });        \
    } while (0)
#endif

}  // namespace fp16engine::gpu
