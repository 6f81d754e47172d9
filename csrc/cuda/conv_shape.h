// Geometry of a 2-D convolution on the GPU.
#pragma once
#include <array>
#include <cstdint>
#include <string>

namespace fp16engine::gpu {

enum class ConvPass { forward, data_gradient, weight_gradient };

inline const char* name(ConvPass pass) {
    return pass == ConvPass::forward         ? "forward"
           : pass == ConvPass::data_gradient ? "data gradient"
                                             : "weight gradient";
}

// x (N, H, W, C), w (K, R, S, C / groups), y (N, OH, OW, K); pads: zeros around x.
struct ConvShape {
    int64_t N, H, W, C, K, R, S, OH, OW, stride_h, stride_w, top, bottom, left, right, groups;

    std::array<int64_t, 16> key() const {
        return {N, H, W, C, K, R, S, OH, OW, stride_h, stride_w, top, bottom, left, right, groups};
    }

    std::string describe() const {
        const auto text = [](int64_t n) { return std::to_string(n); };
        return text(R) + "x" + text(S) + "/" + text(stride_h) + (stride_w != stride_h ? "," + text(stride_w) : "") +
               " " + text(C) + "->" + text(K) + " at " + text(H) + "x" + text(W) +
               (groups > 1 ? " groups " + text(groups) : "") + " batch " + text(N);
    }
};

}  // namespace fp16engine::gpu
