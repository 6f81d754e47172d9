// Matrix products of stored halves or floats; the accumulator is the policy's, the result is rounded once, after the
// bias.
#include "cpu/ops.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

struct Matrix {
    int64_t rows, columns;
    bool transposed;  // stored as (columns, rows)
};

template <class T>
const float* pack_b_tile(const T* b, const Matrix& shape, int64_t k0, int64_t k, int64_t n0, int64_t n, float* panels) {
    if (shape.transposed) return pack_columns(b + n0 * shape.rows + k0, shape.rows, k, n, panels);
    return pack_rows(b + k0 * shape.columns + n0, shape.columns, k, n, panels);
}

template <class T>
TileStrides pack_a_tile(const T* a, const Matrix& shape, int64_t m0, int64_t m, int64_t k0, int64_t k, float* tile) {
    if (shape.transposed) {
        rows_to_floats(a + k0 * shape.rows + m0, shape.rows, k, m, tile);
        return {1, m};
    }
    rows_to_floats(a + m0 * shape.columns + k0, shape.columns, m, k, tile);
    return {k, 1};
}

template <class T>
void matmul_typed(const T* a, const Matrix& a_shape, const T* b, const Matrix& b_shape, const T* bias, T* c,
                  int64_t batch, int64_t accumulator) {
    const int64_t M = a_shape.rows, K = a_shape.columns, N = b_shape.columns;
    const Scratch biases(bias ? round_up(N, 16) : 0);
    if (bias) to_floats(bias, biases.get(), N);
    // run(pack_a, pack_b, store) for one product of the batch
    const auto with_item = [&](int64_t item, const auto& run) {
        const T* const a_item = a + item * M * K;
        const T* const b_item = b + item * K * N;
        T* const c_item = c + item * M * N;
        const auto pack_a = [&](int64_t i0, int64_t m, int64_t k0, int64_t k, float* to) {
            return pack_a_tile(a_item, a_shape, i0, m, k0, k, to);
        };
        const auto pack_b = [&](int64_t k0, int64_t k, int64_t j0, int64_t n, float* to) {
            return pack_b_tile(b_item, b_shape, k0, k, j0, n, to);
        };
        const auto store = [&](int64_t i0, int64_t m, int64_t j0, int64_t n, int64_t ld, float* from) {
            kernels().store(T{}).rows(from, ld, m, n, bias ? biases.get() + j0 : nullptr, c_item + i0 * N + j0, N);
        };
        run(pack_a, pack_b, store);
    };
    if (batch == 1)
        return with_item(0, [&](const auto& pack_a, const auto& pack_b, const auto& store) {
            packed_product(M, N, K, accumulator, pack_a, pack_b, store);
        });
    const int64_t tile = accumulator ? 64 : 128;
    for_item_tiles(batch, M, N, K, tile, accumulator,
                   [&](int64_t item, int64_t m0, int64_t m, int64_t n0, int64_t n, float* work) {
                       with_item(item, [&](const auto& pack_a, const auto& pack_b, const auto& store) {
                           product_tile(m0, m, n0, n, K, accumulator, pack_a, pack_b, work, store);
                       });
                   });
}

}  // namespace

void matmul(const ArrayView& a, const ArrayView& b, const ArrayView& bias, const ArrayView& c, bool transpose_a,
            bool transpose_b, int64_t accumulator) {
    const Matrix a_shape = {a.dim(transpose_a ? -1 : -2), a.dim(transpose_a ? -2 : -1), transpose_a};
    const Matrix b_shape = {b.dim(transpose_b ? -1 : -2), b.dim(transpose_b ? -2 : -1), transpose_b};
    const int64_t per_item = a_shape.rows * b_shape.columns;
    if (c.size() == 0) return;
    with_storage("a", a.dtype, [&](auto type) {
        using T = decltype(type);
        matmul_typed(a.as<T>(), a_shape, b.as<T>(), b_shape, bias.as<T>(), c.as<T>(), c.size() / per_item, accumulator);
    });
}

void linear_weight_gradient(const ArrayView& x, const ArrayView& dy, const ArrayView& dw, const ArrayView& db,
                            int64_t accumulator) {
    matmul(dy, x, {}, dw, true, false, accumulator);
    if (db) reduce("sum", dy, db, 1, dy.dim(0), dy.dim(1), accumulator == kHalfSums);
}

}  // namespace fp16engine::cpu
