// What a batch norm applies last, as bounds of its values: nothing, ReLU or ReLU6.
#pragma once
#include <limits>
#include <string>

#include "common/check.h"

namespace fp16engine {

struct Rectifier {
    // Values at or beyond a bound become it. No comparison with NaN, the ceiling that is none, is true.
    float floor = -std::numeric_limits<float>::infinity(), ceiling = std::numeric_limits<float>::quiet_NaN();

    explicit Rectifier(const std::string& activation) {
        if (activation == "none") return;
        if (activation != "relu" && activation != "relu6")
            fail("activation must be none, relu or relu6, got '" + activation + "'");
        floor = 0.0f;
        if (activation == "relu6") ceiling = 6.0f;
    }

    bool any() const { return floor == 0.0f; }

    // The least value that is stored as the ceiling: in binary16 half a gap below 6, a tie that goes to the even side.
    float ceiling_reached(bool half) const { return half ? ceiling - 0x1p-9f : ceiling; }
};

}  // namespace fp16engine
