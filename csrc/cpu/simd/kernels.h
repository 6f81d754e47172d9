// The table of inner loops, one per instruction set. The sources of this folder are compiled once for each;
// dispatch.cpp picks a table at run time. Loops work on one thread's slice: they never allocate, never start threads
// and use no standard library templates, whose merged copies could carry an instruction this machine lacks.
#pragma once
#include <cstdint>

#include "common/bfloat16.h"
#include "common/limits.h"
#include "common/step_scalars.h"

namespace fp16engine {
struct Rectifier;
}

namespace fp16engine::cpu {

// A family's loops for arrays stored as T: half, float or bfloat16; arithmetic is in float registers.
template <template <class> class Family>
struct ByStorage {
    Family<half> of_half;
    Family<float> of_float;
    Family<bfloat16> of_bfloat16;

    const Family<half>& operator()(half) const { return of_half; }
    const Family<bfloat16>& operator()(bfloat16) const { return of_bfloat16; }
    const Family<float>& operator()(float) const { return of_float; }
};

struct ConvertKernels {
    void (*half_to_float)(const half* x, float* y, int64_t n);
    void (*float_to_half)(const float* x, half* y, int64_t n);
    void (*bfloat16_to_float)(const bfloat16* x, float* y, int64_t n);
    void (*float_to_bfloat16)(const float* x, bfloat16* y, int64_t n);
};

struct SumKernels {
    void (*accumulate)(const float* x, float* y, int64_t n);                // y += x
    void (*columns)(const float* x, int64_t rows, int64_t C, float* sums);  // sums += column sums
    void (*rows)(const float* terms, int64_t rows, int64_t K, float* sums);
    // rows <= 16; terms are added times `scale` (a power of two) and, if halved, as StrictSum does for averages
    void (*strict_rows)(const float* terms, int64_t rows, int64_t K, bool products, bool halved, float scale,
                        float* sums);
};

template <class T>
struct BatchNormKernels {
    // Column sums of x (rows, C) and of the squared distances from this slice's own means, both overwritten.
    void (*slice_moments)(const T* x, int64_t rows, int64_t C, float* sum, float* squares);
    // y = ((x - mean) * inv_std) * gamma + beta, + residual unless it is nullptr, within the rectifier's bounds.
    void (*normalize)(const T* x, const T* residual, int64_t rows, int64_t C, const float* mean, const float* inv_std,
                      const float* gamma, const float* beta, const Rectifier& rectifier, T* y);
    // Column sums of dy and of dy * xhat, both overwritten; dy is masked where the recomputed y is at a
    // bound of the rectifier.
    void (*backward_sums)(const T* x, const T* dy, int64_t rows, int64_t C, const float* mean, const float* inv_std,
                          const float* gamma, const float* beta, const Rectifier& rectifier, float* dbeta,
                          float* dgamma);
    // dx = scale * (dy - dbeta_mean - xhat * dgamma_mean), scale = gamma * inv_std; + pending_grad unless it is
    // nullptr.
    void (*backward_input)(const T* x, const T* dy, const T* pending_grad, int64_t rows, int64_t C, const float* mean,
                           const float* inv_std, const float* gamma, const float* beta, const Rectifier& rectifier,
                           const float* dbeta_mean, const float* dgamma_mean, T* dx);
    // The strict forms: one binary16 accumulator per column and block of 32 rows; `sums` gets the block sums in order.
    void (*largest)(const T* x, int64_t rows, int64_t C, float* largest);
    void (*strict_block_sums)(const T* x, const T* dy, int64_t rows, int64_t C, const float* mean, const float* inv_std,
                              const float* gamma, const float* beta, int quantity, const Rectifier& rectifier,
                              float* sums);
};

enum class Binary { add, sub, mul, div };
enum class Unary { relu, relu6, gelu, tanh, exp, log, sqrt, neg };

// One side of a binary operation on rows: an array, or the constant where there is none.
template <class T>
struct Operand {
    const T* data;
    float constant = 0;
    int64_t row = 0;      // distance from row to row, in elements
    bool varies = false;  // along the columns too; otherwise one value per row
};

template <class T>
struct ElementwiseKernels {
    // y (rows, n) contiguous; at least one operand varies along the columns.
    void (*binary)(Binary op, const Operand<T>& a, const Operand<T>& b, int64_t rows, int64_t n, T* y);
    void (*unary)(Unary op, const T* x, T* y, int64_t n);
    // saved: x of gelu and log, y of the others
    void (*unary_backward)(Unary op, const T* saved, const T* dy, T* dx, int64_t n);
    void (*powers)(const T* x, float exponent, T* y, int64_t n);
};

enum class Reduction { sum, mean, max };

template <class T>
struct ReduceKernels {
    // totals (rows,), overwritten, of the rows of x (rows, n). A mean is a sum here.
    void (*row_totals)(Reduction op, const T* x, int64_t rows, int64_t n, float* totals);
    // totals (n,) takes in the columns of x (rows, n), whose rows lie `stride` apart.
    void (*column_totals)(Reduction op, const T* x, int64_t rows, int64_t stride, int64_t n, float* totals);
    // counts (n,) += the number of elements in each column equal to its maximum y; then dx = share at those, else
    // 0.
    void (*count_maxima)(const T* x, int64_t rows, int64_t stride, int64_t n, const T* y, float* counts);
    void (*share_maxima)(const T* x, int64_t rows, int64_t stride, int64_t n, const T* y, const float* share, T* dx);
    // The same along one row.
    float (*count_row_maxima)(const T* x, int64_t n, T y);
    void (*share_row_maxima)(const T* x, int64_t n, T y, float share, T* dx);
};

// Sums of blocks of 32 terms with binary16 accumulators.
struct StrictKernels {
    // Blocks [first, last) of rows of n terms; every row starts a new block.
    void (*row_blocks)(const half* x, int64_t n, int64_t first, int64_t last, float* sums);
    void (*column_blocks)(const half* x, int64_t rows, int64_t stride, int64_t n, float* sums, int64_t sums_stride);
};

// The packed product's b (k, n) as floats in panels: columns j to j + kPanel lie at j * k, row after row; the last
// panel is 16 wide where that is enough. Columns from n on are zero.
constexpr int64_t kPanel = 32;
template <class T>
struct PackKernels {
    // Rows first to first + count from b, stored as (count, n) with rows `stride` apart.
    void (*rows)(const T* b, int64_t stride, int64_t first, int64_t count, int64_t k, int64_t n, float* panels);
    // All of b, stored as (n, k) with rows `stride` apart.
    void (*columns)(const T* b, int64_t stride, int64_t k, int64_t n, float* panels);
};

// The direct convolution: rows of its left operand lie in float images, where those of neighbouring pixels overlap. c
// is of one panel, (m, width).
struct DirectKernels {
    // c += the sums over q < count, p < length of rows[i][runs[q] + p] * panel[q * length + p]
    void (*multiply_runs)(const float* const* rows, int64_t m, const int64_t* runs, int64_t count, int64_t length,
                          const float* panel, int64_t width, float* c);
    // c += the sums over p < count of pixels[p][offset + i] * panel[p]
    void (*multiply_pixels)(const float* const* pixels, int64_t count, int64_t offset, int64_t m, const float* panel,
                            int64_t width, float* c);
};
template <class T>
struct StoreKernels {
    // y (m, n), rows `stride` apart = c (m, width) + bias (width,) unless it is nullptr
    void (*rows)(const float* c, int64_t width, int64_t m, int64_t n, const float* bias, T* y, int64_t stride);
};

struct GemmKernels {
    // c (m, n) += a (m, k) * b (k, n), float accumulators; n a multiple of 16, b in panels; a[i * row + p * step] is
    // element (i, p).
    void (*multiply)(const float* a, int64_t row, int64_t step, const float* b, float* c, int64_t m, int64_t n,
                     int64_t k);
    // c = the block sum of k <= 32 products, each step fl16(acc + a * b).
    void (*multiply_half_block)(const float* a, int64_t row, int64_t step, const float* b, float* c, int64_t m,
                                int64_t n, int64_t k);
    // c = fl16((a + b * weight) * scale), elementwise; both factors are powers of two.
    void (*add_half)(const float* a, const float* b, float* c, int64_t n, float weight, float scale);
};

// Loops along one row of K values; `terms` are what a sum adds up. See softmax.cpp and layer_norm.cpp for the formulas.
template <class T>
struct SoftmaxKernels {
    float (*row_max)(const T* x, int64_t K);
    void (*exp_terms)(const T* x, int64_t K, float max, float* terms);
    void (*product_terms)(const T* a, const T* b, int64_t K, float* terms);
    void (*softmax_row)(const float* terms, int64_t K, float sum, T* y);
    void (*softmax_gradient_row)(const T* y, const T* dy, int64_t K, float sum, T* dx);
    void (*log_softmax_row)(const T* x, int64_t K, float max, float log_sum, T* y);
    void (*log_softmax_gradient_row)(const T* y, const T* dy, int64_t K, float sum, T* dx);
    void (*cross_entropy_gradient_row)(const float* terms, int64_t K, float sum, int64_t label, float on, float off,
                                       float scale, T* dx);
};

template <class T>
struct LayerNormKernels {
    void (*squared_distances)(const T* x, int64_t K, float mean, float* terms);
    void (*normalize_row)(const T* x, int64_t K, float mean, float inv_std, const float* gamma, const float* beta,
                          T* y);
    void (*gradient_terms)(const T* x, const T* dy, int64_t K, float mean, float inv_std, const float* gamma,
                           float* scaled, float* weighted);
    void (*gradient_row)(const T* x, const float* scaled, int64_t K, float mean, float inv_std, float offset,
                         float slope, T* dx);
    // Column sums of dy and dy * xhat over the rows, overwritten; half_accumulator: one block of at most 32 rows.
    void (*column_sums)(const T* x, const T* dy, int64_t rows, int64_t K, const float* mean, const float* inv_std,
                        bool half_accumulator, float* dbeta, float* dgamma);
};

// Windows of (kh, kw) taps over an image (H, W, C), giving (OH, OW, C).
struct PoolShape {
    int64_t H, W, C, OH, OW, kh, kw, stride_h, stride_w, top, left;
};

// One row of pixels of one image.
template <class T>
struct PoolKernels {
    void (*max_row)(const T* image, const PoolShape& s, int64_t oh, T* y, uint8_t* index);
    void (*max_gradient_row)(const uint8_t* index, const T* dy, const PoolShape& s, int64_t ih, bool half_accumulator,
                             T* dx);
    void (*avg_row)(const T* image, const PoolShape& s, int64_t oh, bool half_accumulator, T* y);
    void (*avg_gradient_row)(const T* dy, const PoolShape& s, int64_t ih, bool half_accumulator, T* dx);
};

// Windows along one row of a depthwise convolution: output o reads `taps` pixels of C channels from pixel o * step on,
// in each of `lines` lines. Pixels before `before` and from `before` + `width` on are left out. Weights are floats
// (lines * taps, ld), ld a multiple of 16; pixels of the other side lie `distance` elements apart.
struct DepthwiseRow {
    int64_t C, lines, taps, step, outputs, ld, distance, before, width;
};

template <class T>
struct DepthwiseKernels {
    // y = the sums of pixels times weights, + bias (ld,) unless it is nullptr
    void (*weigh_row)(const T* const* lines, const DepthwiseRow& row, const float* w, const float* bias, T* y);
    // dw += the sums of pixels times dy
    void (*weight_gradient_row)(const T* const* lines, const DepthwiseRow& row, const T* dy, float* dw);
};

template <class T>
struct EmbeddingKernels {
    // y (K,) = sum of the rows x[order[j]], in that order.
    void (*sum_of_rows)(const T* x, int64_t K, const int64_t* order, int64_t count, bool half_accumulator, T* y);
};

template <class T>
struct DropoutKernels {
    // y = x * scale where the element's Philox word >= threshold, else +0.
    void (*dropout)(const T* x, int64_t n, uint64_t counter, uint64_t key, uint32_t threshold, float scale, T* y);
};

// A block floating point format: bits of a magnitude, and the exponents a block may have.
struct BlockGrid {
    int mantissa, lowest, highest;
};

// Rounding of x (rows, columns) to blocks, see quantize.cpp; `thresholds`, one per element, make it stochastic.
struct QuantizeKernels {
    // A block is a tile of tile_rows x tile_columns, smaller at the edges; a run along a row is a tile of one row.
    void (*tiles)(const float* x, int64_t rows, int64_t columns, int64_t tile_rows, int64_t tile_columns,
                  const BlockGrid& grid, const float* thresholds, float* y);
    // A block is a run of `block` rows in one column.
    void (*columns)(const float* x, int64_t rows, int64_t columns, int64_t block, const BlockGrid& grid,
                    const float* thresholds, float* y);
    // n thresholds, rounded up to whole groups of 64, from `counter` on.
    void (*thresholds)(uint64_t counter, uint64_t key, int64_t n, float* thresholds);
};

// Constants of an optimizer; `rest` is 1 - its neighbour, from double.
struct SgdStep {
    float momentum;
    bool nesterov;
};
struct AdamStep {
    float beta1, rest1, beta2, rest2, eps;
    bool decoupled, native;
};
struct RmspropStep {
    float alpha, rest, eps, momentum;
    bool native;
};

// Elements first to first + n - 1 of a tensor, `first` a multiple of kRandomBlock; the pointers are those of element
// `first`. T stores parameter and gradient, W the weight (a master, or the parameter itself) and its state.
constexpr int64_t kRandomBlock = 128;
template <class T, class W>
struct UpdateSlice {
    T* param;
    const T* grad;
    W* weight;
    W* compensation;  // of Rounding::kahan
    int64_t first, n;
    Rounding rounding;
    float decay;
    uint32_t index;  // of the parameter in its optimizer
    StepScalars step;
    int64_t* counts;  // (kUpdateCounts,), added to, or nullptr
};

// One rule by the storage of parameter and weight. A state that the rule is to do without is nullptr.
template <class Step>
struct UpdateKernels {
    template <class T, class W>
    using Run = void (*)(const UpdateSlice<T, W>& slice, W* first, W* second, const Step& s);
    Run<half, half> of_half;
    Run<half, float> of_half_master;
    Run<float, float> of_float;
    Run<bfloat16, bfloat16> of_bfloat16;
    Run<bfloat16, float> of_bfloat16_master;

    Run<half, half> operator()(half, half) const { return of_half; }
    Run<half, float> operator()(half, float) const { return of_half_master; }
    Run<float, float> operator()(float, float) const { return of_float; }
    Run<bfloat16, bfloat16> operator()(bfloat16, bfloat16) const { return of_bfloat16; }
    Run<bfloat16, float> operator()(bfloat16, float) const { return of_bfloat16_master; }
};

template <class T>
struct ClipKernels {
    float (*largest)(const T* x, int64_t n);  // |x|
    float (*squares)(const T* x, int64_t n, float unit);
    void (*scale)(T* x, int64_t n, float unit, float factor);
};

template <class T>
struct RangeKernels {
    void (*counts)(const T* x, int64_t n, int64_t* found);  // found (kRangeColumns,) += the counts; n < 2^31
    bool (*all_finite)(const T* x, int64_t n);
};

// A row of tiles of an image (H, W, C): the first line and column of its first tile, which may lie outside.
struct TileRow {
    int64_t H, W, C, first_line, first_column, tiles;
};

// One plane of floats per point: value (point, channel block, tile, lane) of sixteen lanes.
struct TilePlanes {
    float* data;
    int64_t plane, block;  // from point to point, from channel block to channel block
};

// The part of 3x3 weights (first, 3, 3, last) that joins some input to some output channels, whole lanes of each; those
// past the sizes are zero. Its planes lie `plane` apart.
struct WeightPanel {
    int64_t first_size, last_size, first_input, inputs, first_output, outputs, plane;
};

// Transforms of tiles of `outputs` x `outputs` from and to `points` x `points` values; see winograd.cpp.
template <class T>
struct WinogradTransforms {
    int64_t outputs, points;
    // columns: room for (tiles * outputs + 2) * points * 16 floats
    void (*images)(const T* image, const TileRow& row, float* columns, const TilePlanes& v);
    void (*gradients)(const T* image, const TileRow& row, const TilePlanes& v);
    void (*results)(const TilePlanes& m, const TileRow& row, const float* bias, int64_t n, T* image);
    void (*weights)(const T* w, const WeightPanel& panel, bool flipped, float* u);
    void (*weight_gradient)(const float* u, const WeightPanel& panel, T* dw);
};

struct WinogradKernels {
    ByStorage<WinogradTransforms> two, four;  // outputs a side
    // The products at one point: of a panel's tiles and weights, and of its gradients and tiles.
    void (*tile_products)(const float* v, int64_t block, int64_t inputs, const float* u, int64_t outputs, bool add,
                          float* m, int64_t m_block, int64_t tiles);
    void (*channel_products)(const float* w, int64_t w_block, int64_t outputs, const float* v, int64_t v_block,
                             int64_t inputs, int64_t tiles, bool add, float* u);
};

struct PeakKernels {
    float (*multiply_adds)(int64_t steps);  // on registers alone
    int64_t flops;                          // of a step
};

struct Kernels {
    const char* isa;
    const UpdateKernels<AdamStep>& adam;
    const ByStorage<BatchNormKernels>& batch_norm;
    const ByStorage<ClipKernels>& clip;
    const ConvertKernels& convert;
    const ByStorage<DepthwiseKernels>& depthwise;
    const DirectKernels& direct;
    const ByStorage<DropoutKernels>& dropout;
    const ByStorage<ElementwiseKernels>& elementwise;
    const ByStorage<EmbeddingKernels>& embedding;
    const GemmKernels& gemm;
    const ByStorage<LayerNormKernels>& layer_norm;
    const ByStorage<PackKernels>& pack;
    const PeakKernels& peak;
    const ByStorage<PoolKernels>& pool;
    const QuantizeKernels& quantize;
    const ByStorage<RangeKernels>& range;
    const ByStorage<ReduceKernels>& reduce;
    const UpdateKernels<RmspropStep>& rmsprop;
    const UpdateKernels<SgdStep>& sgd;
    const ByStorage<SoftmaxKernels>& softmax;
    const ByStorage<StoreKernels>& store;
    const StrictKernels& strict;
    const SumKernels& sums;
    const WinogradKernels& winograd;
};

const Kernels& kernels();                 // the table in use
const char* select_isa(const char* isa);  // "auto", "avx512", "avx2" or "portable"; returns the one in use or nullptr

}  // namespace fp16engine::cpu
