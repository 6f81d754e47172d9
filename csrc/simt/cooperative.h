// Grids whose blocks run at the same time and may wait for each other: a host thread for each block.
#pragma once
#include <functional>

#include "simt/machine.h"

namespace simt {

// Runs `body` once per thread of the grid; rethrows the first error of any thread as simt::Error. A barrier that not
// every block reaches is one.
void launch_cooperative(Dim3 grid, Dim3 size, const std::function<void()>& body);

// Runs one block of a grid on this host thread.
void run_block(Dim3 index, Dim3 grid, Dim3 size, size_t dynamic_shared_bytes, const std::function<void()>& body);

// Called by one thread of a block for all of it: until every block of the grid has called.
void wait_for_grid();

}  // namespace simt
