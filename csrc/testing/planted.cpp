#include "testing/planted.h"

#include <map>

#include "cuda/cooperative.h"
#include "cuda/launch.h"
#include "testing/planted.cuh"

namespace fp16engine::gpu {
namespace {

using Kernel = void (*)(Ptr<const float>, Ptr<float>);

const std::map<std::string, Kernel>& kernels() {
    static const std::map<std::string, Kernel> table = {
        {"nothing", planted_nothing},
        {"race", planted_race},
        {"warp race", planted_warp_race},
        {"early reuse", planted_early_reuse},
        {"bounds", planted_bounds},
        {"shared bounds", planted_shared_bounds},
        {"divergent barrier", planted_divergent_barrier},
        {"divergent shuffle", planted_divergent_shuffle},
        {"misaligned", planted_misaligned},
        {"unwritten", planted_unwritten},
    };
    return table;
}

}  // namespace

std::vector<std::string> planted_faults() {
    std::vector<std::string> names = {"other block", "grid barrier", "skipped grid barrier"};
    for (const auto& entry : kernels()) names.push_back(entry.first);
    return names;
}

void launch_planted(const std::string& fault, const ArrayView& x, const ArrayView& y) {
    expect_dtype("x", x, DType::float32);
    expect_dtype("y", y, DType::float32);
    expect(x.size() == y.size() && x.size() % kBlock == 0,
           "x must be a multiple of 256 elements, as y is, got " + x.describe());
    const auto blocks = static_cast<unsigned>(x.size() / kBlock);
    const auto xs = pointer<const float>(x);
    const auto ys = pointer<float>(y);
    const Workspace workspace(blocks);
    const auto pieces = workspace.get();
    if (fault == "other block") {
        FP16_LAUNCH(planted_other_block, blocks, kBlock, xs, ys, pieces);
        return;
    }
    const bool skips = fault == "skipped grid barrier";
    if (skips || fault == "grid barrier") {
        FP16_LAUNCH_COOPERATIVE(planted_grid_barrier, blocks, kBlock, xs, ys, pieces, skips);
        return;
    }
    const auto found = kernels().find(fault);
    expect(found != kernels().end(), "fault must be one of planted_faults(), got '" + fault + "'");
    const Kernel kernel = found->second;
    FP16_LAUNCH(kernel, blocks, kBlock, xs, ys);
}

}  // namespace fp16engine::gpu
