#include <cmath>
#include <cstring>

#include "cpu/ops.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {

void dropout(const ArrayView& x, const ArrayView& y, double p, uint64_t seed, uint64_t offset) {
    const double threshold = std::ceil(p * 0x1p32);  // word * 2^-32 >= p, in integers
    if (threshold >= 0x1p32) {
        std::memset(y.data, 0, static_cast<size_t>(y.size() * item_size(y.dtype)));
        return;
    }
    const float scale = static_cast<float>(1.0 / (1.0 - p));
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        parallel_slices(x.size(), 1 << 14, [&](int64_t begin, int64_t end) {
            kernels().dropout(T{}).dropout(x.as<T>() + begin, end - begin, offset + static_cast<uint64_t>(begin) / 4,
                                           seed, static_cast<uint32_t>(threshold), scale, y.as<T>() + begin);
        });
    });
}

}  // namespace fp16engine::cpu
