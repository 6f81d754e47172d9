// The one product of attention that carries a scale: dq = fl(s * scale), s the unrounded sums of ds @ k.
#include "cpu/ops.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {

void scaled_product(const ArrayView& a, const ArrayView& b, const ArrayView& c, double scale, int64_t accumulator) {
    const int64_t M = a.dim(-2), K = a.dim(-1), N = b.dim(-1);
    if (c.size() == 0) return;
    const int64_t batch = c.size() / (M * N);
    const float factor = static_cast<float>(scale);
    with_storage("a", a.dtype, [&](auto type) {
        using T = decltype(type);
        constexpr int64_t kTile = 64;
        for_item_tiles(batch, M, N, K, kTile, accumulator,
                       [&](int64_t item, int64_t m0, int64_t rows, int64_t n0, int64_t columns, float* work) {
                           const auto pack_a = [&](int64_t i0, int64_t m, int64_t k0, int64_t k, float* tile) {
                               for (int64_t i = 0; i < m; i++)
                                   to_floats(a.as<T>() + (item * M + i0 + i) * K + k0, tile + i * k, k);
                               return TileStrides{k, 1};
                           };
                           const auto pack_b = [&](int64_t k0, int64_t k, int64_t j0, int64_t n, float* panels) {
                               return pack_rows(b.as<T>() + (item * K + k0) * N + j0, N, k, n, panels);
                           };
                           const auto store = [&](int64_t i0, int64_t m, int64_t j0, int64_t n, int64_t ld,
                                                  float* tile) {
                               for (int64_t i = 0; i < m; i++) {
                                   for (int64_t j = 0; j < n; j++) tile[i * ld + j] *= factor;
                                   from_floats(tile + i * ld, c.as<T>() + (item * M + i0 + i) * N + j0, n);
                               }
                           };
                           product_tile(m0, rows, n0, columns, K, accumulator, pack_a, pack_b, work, store);
                       });
    });
}

}  // namespace fp16engine::cpu
