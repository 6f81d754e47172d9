// Launches the kernels of kernels/move.cuh.
#include "kernels/move.cuh"

#include <algorithm>
#include <cstring>

#include "cuda/ops.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {
namespace {

// Axes in bytes, innermost first, those that both arrays walk as one merged.
struct Walk {
    int count = 0;
    int64_t extent[kMoveAxes], from[kMoveAxes], to[kMoveAxes];

    void push(int64_t n, int64_t from_stride, int64_t to_stride) {
        if (n == 1) return;
        const int last = count - 1;
        if (count && from_stride == from[last] * extent[last] && to_stride == to[last] * extent[last]) {
            extent[last] *= n;
            return;
        }
        extent[count] = n;
        from[count] = from_stride;
        to[count] = to_stride;
        count++;
    }

    int64_t size() const {
        int64_t n = 1;
        for (int d = 0; d < count; d++) n *= extent[d];
        return n;
    }
};

// The array's lowest offset and extent in units: what a kernel may touch.
template <class Unit>
Ptr<Unit> unit_pointer(uintptr_t address, const int64_t* extent, const int64_t* stride, int count) {
    auto* const first = reinterpret_cast<Unit*>(address);
#if defined(__CUDACC__)
    (void)extent, (void)stride, (void)count;
    return first;
#else
    int64_t low = 0, high = 0;
    for (int d = 0; d < count; d++) (stride[d] < 0 ? low : high) += (extent[d] - 1) * stride[d];
    return Ptr<Unit>(first + low, high - low + 1) + -low;
#endif
}

template <class Unit>
void move_units(const Walk& walk, uintptr_t source, uintptr_t target) {
    constexpr auto kBytes = static_cast<int64_t>(sizeof(Unit));
    MoveAxes axes;
    axes.count = walk.count;
    for (int d = 0; d < walk.count; d++) {
        axes.extent[d] = walk.extent[d];
        axes.from[d] = walk.from[d] / kBytes;
        axes.to[d] = walk.to[d] / kBytes;
    }
    const int64_t n = walk.size();
    if (n < kMaxIndices)
        for (int d = 0; d < walk.count; d++) axes.divider[d] = Divider(walk.extent[d]);
    const auto from = Ptr<const Unit>(unit_pointer<Unit>(source, axes.extent, axes.from, axes.count));
    const auto to = unit_pointer<Unit>(target, axes.extent, axes.to, axes.count);
    with_flag(n < kMaxIndices, [&](auto small) {
        constexpr bool kSmall = decltype(small)::value;
        FP16_LAUNCH((move_kernel<Unit, kSmall>), grid_for(n), kBlock, from, to, axes, n);
    });
}

template <class Unit>
void fill_units(const ArrayView& x, int64_t units, const void* pattern) {
    Unit value;
    std::memcpy(&value, pattern, sizeof value);
    ArrayView view = x;
    view.ndim = 1;
    view.shape[0] = units;
    const auto xs = pointer<Unit>(view);
    FP16_LAUNCH((fill_kernel<Unit>), grid_for(units), kBlock, xs, units, value);
}

}  // namespace

void move(uintptr_t source, uintptr_t target, int64_t item, const std::vector<int64_t>& shape,
          const std::vector<int64_t>& source_strides, const std::vector<int64_t>& target_strides) {
    Walk walk;
    for (size_t back = shape.size(); back-- > 0;) {
        if (shape[back] == 0) return;
        walk.push(shape[back], source_strides[back], target_strides[back]);
    }
    // Whole runs of the innermost axis move in the widest units that divide every offset.
    const bool runs = walk.count && walk.from[0] == item && walk.to[0] == item;
    const auto fits = [&](int64_t unit) {
        int64_t rest = static_cast<int64_t>((source | target) % static_cast<uintptr_t>(unit));
        rest |= walk.extent[0] * item % unit;
        for (int d = 1; d < walk.count; d++) rest |= walk.from[d] % unit | walk.to[d] % unit;
        return rest == 0;
    };
    int64_t unit = item;
    if (runs)
        for (const int64_t wider : {int64_t{16}, int64_t{4}})
            if (wider > item && fits(wider)) {
                unit = wider;
                walk.extent[0] = walk.extent[0] * item / wider;
                walk.from[0] = walk.to[0] = wider;
                break;
            }
    switch (unit) {
        case 16:
            return move_units<uint4>(walk, source, target);
        case 8:
            return move_units<uint64_t>(walk, source, target);
        case 4:
            return move_units<unsigned>(walk, source, target);
        case 2:
            return move_units<unsigned short>(walk, source, target);
        case 1:
            return move_units<unsigned char>(walk, source, target);
        default:
            fail("item must be 1, 2, 4 or 8 bytes, got " + std::to_string(item));
    }
}

void fill(const ArrayView& x, uint64_t bits) {
    const int64_t item = item_size(x.dtype), bytes = x.size() * item;
    if (bytes == 0) return;
    if (bits == 0) return set_zero(x.data, static_cast<size_t>(bytes));
    unsigned char pattern[16];
    for (int64_t i = 0; i < 16; i += item) std::memcpy(pattern + i, &bits, static_cast<size_t>(item));
    if (aligned(x) && bytes % 16 == 0) return fill_units<uint4>(x, bytes / 16, pattern);
    switch (item) {
        case 8:
            return fill_units<uint64_t>(x, x.size(), pattern);
        case 4:
            return fill_units<unsigned>(x, x.size(), pattern);
        case 2:
            return fill_units<unsigned short>(x, x.size(), pattern);
        default:
            return fill_units<unsigned char>(x, x.size(), pattern);
    }
}

}  // namespace fp16engine::gpu
