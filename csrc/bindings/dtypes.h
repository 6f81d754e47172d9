// The dtypes that this module's arrays may have: bfloat16 is the processor's alone.
#pragma once
#include "common/array_view.h"

namespace fp16engine {

#if defined(FP16ENGINE_BFLOAT16)
constexpr bool kHasBfloat16 = true;
constexpr char kFloats[] = "float16, bfloat16 or float32";
constexpr char kDTypes[] = "float16, bfloat16, float32, uint8, int32 or int64";
#else
constexpr bool kHasBfloat16 = false;
constexpr char kFloats[] = "float16 or float32";
constexpr char kDTypes[] = "float16, float32, uint8, int32 or int64";
#endif

}  // namespace fp16engine
