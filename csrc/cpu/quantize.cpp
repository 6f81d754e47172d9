// Rounding of arrays to block floating point.
#include "common/block_grid.h"
#include "cpu/ops.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements of one task, unless a block has more

// A contiguous piece of the array: its first element, and its rows where they are `columns` long.
struct Piece {
    int64_t start, rows, columns;
};

}  // namespace

void quantize(const ArrayView& x, const ArrayView& y, int64_t outer, int64_t length, int64_t inner,
              int64_t block_length, int64_t block_inner, int64_t mantissa, int64_t exponent_bits, bool stochastic,
              uint64_t seed, uint64_t offset) {
    if (x.size() == 0) return;
    const BlockGrid grid = {static_cast<int>(mantissa), lowest_block_exponent(mantissa, exponent_bits),
                            highest_block_exponent(exponent_bits)};
    const float* const from = x.as<float>();
    float* const to = y.as<float>();
    const auto run = [&](const Piece& piece, int64_t tile_rows, int64_t tile_columns, bool down_columns) {
        const int64_t n = piece.rows * piece.columns, lead = piece.start % 4;
        const Scratch scratch(stochastic ? round_up(lead + n, 64) : 0);
        const float* const thresholds = stochastic ? scratch.get() + lead : nullptr;
        if (stochastic)
            kernels().quantize.thresholds(offset + static_cast<uint64_t>(piece.start) / 4, seed, lead + n,
                                          scratch.get());
        const float* const source = from + piece.start;
        if (down_columns)
            kernels().quantize.columns(source, piece.rows, piece.columns, tile_rows, grid, thresholds,
                                       to + piece.start);
        else
            kernels().quantize.tiles(source, piece.rows, piece.columns, tile_rows, tile_columns, grid, thresholds,
                                     to + piece.start);
    };
    if (inner == 1 && block_inner == 1 && length <= kGrain) {  // whole rows, several to a task
        parallel_slices(outer, std::max<int64_t>(1, kGrain / length), [&](int64_t begin, int64_t end) {
            run({begin * length, end - begin, length}, 1, block_length, false);
        });
        return;
    }
    // Pieces of whole blocks along `length`.
    const int64_t chunk = round_up(std::max<int64_t>(1, kGrain / inner), block_length);
    const int64_t chunks = (length + chunk - 1) / chunk;
    parallel_for(outer * chunks, [&](int64_t task, int) {
        const int64_t first = task % chunks * chunk, count = std::min(chunk, length - first);
        const int64_t start = (task / chunks * length + first) * inner;
        if (inner == 1 && block_inner == 1)
            run({start, 1, count}, 1, block_length, false);
        else
            run({start, count, inner}, block_length, block_inner, block_inner == 1);
    });
}

}  // namespace fp16engine::cpu
