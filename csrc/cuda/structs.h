// Structs of common/ in device memory: arrays uint8 of their bytes.
#pragma once
#include <string>

#include "common/step_control.h"
#include "cuda/launch.h"

namespace fp16engine::gpu {

// Bytes that hold `count` structs, or any number of them where count is 0.
template <class Struct>
Ptr<Struct> structs(const char* argument, const ArrayView& view, int64_t count) {
    expect_dtype(argument, view, DType::uint8);
    constexpr auto kBytes = static_cast<int64_t>(sizeof(Struct));
    const int64_t bytes = view.size();
    expect(bytes > 0 && bytes % kBytes == 0 && (count == 0 || bytes == count * kBytes),
           std::string(argument) + " must be structs of " + std::to_string(kBytes) + " bytes, got " + view.describe());
#if defined(__CUDACC__)
    return static_cast<Struct*>(view.data);
#else
    return Ptr<Struct>(static_cast<Struct*>(view.data), bytes / kBytes);
#endif
}

inline Ptr<StepControl> control_block(const ArrayView& control) { return structs<StepControl>("control", control, 1); }

}  // namespace fp16engine::gpu
