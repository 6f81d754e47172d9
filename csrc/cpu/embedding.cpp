// Rows of tables and their scattered sums.
#include <cstring>
#include <utility>
#include <vector>

#include "cpu/ops.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

void expect_ids(const ArrayView& ids, int64_t rows) {
    const int64_t* const id = ids.as<int64_t>();
    for (int64_t i = 0; i < ids.size(); i++)
        expect(id[i] >= 0 && id[i] < rows,
               "ids must be a row in [0, " + std::to_string(rows) + "), got " + std::to_string(id[i]));
}

}  // namespace

void take_rows(const ArrayView& table, const ArrayView& ids, const ArrayView& y) {
    const int64_t rows = table.shape[0], bytes = rows ? table.size() / rows * item_size(table.dtype) : 0;
    expect_ids(ids, rows);
    parallel_slices(ids.size(), std::max<int64_t>(1, 65536 / std::max<int64_t>(1, bytes)),
                    [&](int64_t begin, int64_t end) {
                        for (int64_t i = begin; i < end; i++)
                            std::memcpy(y.as<char>() + i * bytes, table.as<char>() + ids.as<int64_t>()[i] * bytes,
                                        static_cast<size_t>(bytes));
                    });
}

void scatter_rows(const ArrayView& ids, const ArrayView& dy, const ArrayView& dtable, bool half_accumulator) {
    const int64_t rows = dtable.shape[0], K = rows ? dtable.size() / rows : 0, uses = ids.size();
    expect_ids(ids, rows);
    std::memset(dtable.data, 0, static_cast<size_t>(dtable.size() * item_size(dtable.dtype)));
    // Sorted by row, then by index: each row is summed by one task, in the order of `ids`.
    std::vector<std::pair<int64_t, int64_t>> sorted(uses);
    for (int64_t i = 0; i < uses; i++) sorted[i] = {ids.as<int64_t>()[i], i};
    std::sort(sorted.begin(), sorted.end());
    std::vector<int64_t> order(uses), starts;
    for (int64_t i = 0; i < uses; i++) {
        order[i] = sorted[i].second;
        if (i == 0 || sorted[i].first != sorted[i - 1].first) starts.push_back(i);
    }
    const int64_t used = static_cast<int64_t>(starts.size());
    starts.push_back(uses);
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        parallel_slices(used, std::max<int64_t>(1, 4096 / std::max<int64_t>(1, K)), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++)
                kernels().embedding(T{}).sum_of_rows(dy.as<T>(), K, &order[starts[i]], starts[i + 1] - starts[i],
                                                     half_accumulator, dtable.as<T>() + sorted[starts[i]].first * K);
        });
    });
}

}  // namespace fp16engine::cpu
