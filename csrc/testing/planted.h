// Launches the kernels of planted.cuh by name.
#pragma once
#include <string>
#include <vector>

#include "common/array_view.h"

namespace fp16engine::gpu {

std::vector<std::string> planted_faults();

// x, y (n,) float32, n a multiple of 256: a block of the grid for each 256 elements.
void launch_planted(const std::string& fault, const ArrayView& x, const ArrayView& y);

}  // namespace fp16engine::gpu
