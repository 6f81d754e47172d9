// Launches the kernels of kernels/embedding.cuh.
#include "kernels/embedding.cuh"

#include <algorithm>
#include <climits>

#include "cuda/ops.h"
#include "cuda/structs.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {
namespace {

// The same bytes as units of one type.
template <class Unit>
ArrayView in_units(const ArrayView& view) {
    ArrayView units = view;
    units.ndim = 1;
    units.shape[0] = view.size() * item_size(view.dtype) / static_cast<int64_t>(sizeof(Unit));
    return units;
}

template <class Unit>
void take_units(const ArrayView& table, const ArrayView& ids, const ArrayView& y, int64_t bytes) {
    const auto source = pointer<const Unit>(in_units<Unit>(table));
    const auto target = pointer<Unit>(in_units<Unit>(y));
    const auto id = pointer<const int64_t>(ids);
    const int64_t n = ids.size(), width = bytes / static_cast<int64_t>(sizeof(Unit)), rows = table.shape[0];
    if (n * width <= INT_MAX) {  // a division of 32 bits is several times cheaper
        const auto small_n = static_cast<unsigned>(n), small_width = static_cast<unsigned>(width);
        FP16_LAUNCH((take_rows_kernel<Unit, unsigned>), grid_for(n * width), kBlock, source, id, target, small_n,
                    small_width, rows);
    } else {
        FP16_LAUNCH((take_rows_kernel<Unit, int64_t>), grid_for(n * width), kBlock, source, id, target, n, width, rows);
    }
}

}  // namespace

void take_rows(const ArrayView& table, const ArrayView& ids, const ArrayView& y) {
    const int64_t rows = table.shape[0], bytes = rows ? table.size() / rows * item_size(table.dtype) : 0;
    if (y.size() == 0) return;
    const auto fits = [&](int64_t unit) { return bytes % unit == 0 && aligned(table, unit) && aligned(y, unit); };
    if (fits(16))
        take_units<uint4>(table, ids, y, bytes);
    else if (fits(4))
        take_units<unsigned>(table, ids, y, bytes);
    else if (fits(2))
        take_units<unsigned short>(table, ids, y, bytes);
    else
        take_units<unsigned char>(table, ids, y, bytes);
}

void scatter_rows(const ArrayView& ids, const ArrayView& dy, const ArrayView& dtable, bool half_accumulator) {
    const int64_t R = dtable.shape[0], K = R ? dtable.size() / R : 0, uses = ids.size();
    expect(R > 0 || uses == 0, "dtable must have a row to add to, got " + dtable.describe());
    if (dtable.size() == 0) return;
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        const auto launch = [&](auto width, auto half) {
            constexpr int kWidth = decltype(width)::value;
            constexpr bool kHalf = decltype(half)::value;
            const int64_t groups = ceil_divide(K, kWidth);
            const int lanes = static_cast<int>(std::min<int64_t>(groups, kBlock)), rows = kBlock / lanes;
            const Dim3 grid(static_cast<unsigned>(ceil_divide(R, rows)),
                            static_cast<unsigned>(ceil_divide(groups, lanes)));
            const auto id = pointer<const int64_t>(ids);
            const auto terms = pointer<const T>(dy);
            const auto sums = pointer<T>(dtable);
            FP16_LAUNCH((scatter_rows_kernel<T, kWidth, kHalf>), grid, kBlock, id, terms, sums, uses, R, K, rows,
                        lanes);
        };
        with_flag(half_accumulator, [&](auto half) {
            with_width<T>(by_vectors(K, {&dy, &dtable}), [&](auto width) { launch(width, half); });
        });
    });
}

}  // namespace fp16engine::gpu
