// Structs of common/ in device memory: arrays uint8 of their bytes.
#pragma once
#include "common/step_control.h"
#include "cuda/launch.h"

namespace fp16engine::gpu {

template <class Struct>
Ptr<Struct> structs(const ArrayView& view) {
#if defined(__CUDACC__)
    return static_cast<Struct*>(view.data);
#else
    return Ptr<Struct>(static_cast<Struct*>(view.data), view.size() / static_cast<int64_t>(sizeof(Struct)));
#endif
}

inline Ptr<StepControl> control_block(const ArrayView& control) { return structs<StepControl>(control); }

}  // namespace fp16engine::gpu
