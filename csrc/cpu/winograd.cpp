// Winograd convolution: blocks of tile rows are transformed, multiplied point by point with transformed weights, and
// transformed back while they are in a core's cache. Where the weights are the larger side, all tiles are one block and
// the tasks are panels of channels. Blocks, panels and lanes of sums follow from the shape, so results do not depend on
// the number of threads.
#include <algorithm>

#include "cpu/conv.h"
#include "cpu/ops.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

constexpr int64_t kPanel = 64;             // channels
constexpr int64_t kLane = 16;              // floats of a vector
constexpr int64_t kSkew = 16;              // floats between planes, so that they do not share the sets of a cache
constexpr int64_t kBlockFloats = 1 << 18;  // transformed tiles of a task: a share of a second-level cache
constexpr int64_t kSumsFloats = 1 << 21;   // weight gradients waiting to be summed
constexpr int64_t kMinTiles = 64;
constexpr int64_t kMaxLanes = 16, kSlices = 16;

int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }

struct Channels {
    int64_t count, padded, panels;
    explicit Channels(int64_t n) : count(n), padded(round_up(n, kLane)), panels(pieces(n, kPanel)) {}
    int64_t width(int64_t panel) const { return std::min(kPanel, padded - panel * kPanel); }
};

template <class T>
struct Images {
    T* data;
    int64_t H, W;
    Channels channels;
    T* image(int64_t n) const { return data + n * H * W * channels.count; }
};

// The tiles that cover outputs (N, H, W), in rows of one image each.
struct Tiles {
    int64_t size, across, down, rows;
    Tiles(int64_t N, int64_t H, int64_t W, int64_t size)
        : size(size), across(pieces(W, size)), down(pieces(H, size)), rows(N * down) {}
    int64_t count() const { return rows * across; }
    int64_t image(int64_t row) const { return row / down; }
    int64_t line(int64_t row) const { return row % down * size; }
};

// Transformed tiles of some rows; see TilePlanes.
class PlaneBuffer {
public:
    PlaneBuffer(int64_t planes, int64_t channels, int64_t tiles)
        : block_(tiles * kLane), plane_(channels * tiles + kSkew), floats_(planes * plane_) {}
    TilePlanes from(int64_t tile) const { return {floats_.get() + tile * kLane, plane_, block_}; }
    float* at(int64_t plane, int64_t channel) const {
        return floats_.get() + plane * plane_ + channel / kLane * block_;
    }
    int64_t block() const { return block_; }

private:
    int64_t block_, plane_;
    Scratch floats_;
};

// The panels of (inputs, outputs) channels that weights fall into.
template <class T>
class Panels {
public:
    Panels(const WinogradTransforms<T>& transforms, const Channels& inputs, const Channels& outputs)
        : transforms_(transforms), inputs_(inputs), outputs_(outputs) {}

    int64_t planes() const { return transforms_.points * transforms_.points; }
    int64_t floats() const { return planes() * (kPanel * kPanel + kSkew); }  // room for one
    int64_t count() const { return inputs_.panels * outputs_.panels; }

    // flipped: `first` of the stored weights are inputs, not outputs.
    WeightPanel get(int64_t input, int64_t output, bool flipped) const {
        const int64_t in = inputs_.width(input), out = outputs_.width(output);
        return {flipped ? inputs_.count : outputs_.count,
                flipped ? outputs_.count : inputs_.count,
                input * kPanel,
                in,
                output * kPanel,
                out,
                in * out + kSkew};
    }

private:
    const WinogradTransforms<T>& transforms_;
    const Channels &inputs_, &outputs_;
};

// F(2x2) where it needs no more products than F(4x4): on images of up to 2x2, and of 5x5 or 6x6.
template <class T>
const WinogradTransforms<T>& transforms_for(int64_t H, int64_t W) {
    const WinogradKernels& kernel = kernels().winograd;
    const auto products = [&](const WinogradTransforms<T>& f) {
        return pieces(H, f.outputs) * pieces(W, f.outputs) * f.points * f.points;
    };
    return products(kernel.two(T{})) <= products(kernel.four(T{})) ? kernel.two(T{}) : kernel.four(T{});
}

// Rows [begin, end) of the tiles of zero-padded images; v holds them from row `first` on.
template <class T>
void transform_images(const WinogradTransforms<T>& f, const Tiles& tiles, const Images<const T>& x, int64_t top,
                      int64_t left, int64_t first, int64_t begin, int64_t end, const PlaneBuffer& v) {
    const Scratch columns((tiles.across * f.outputs + 2) * f.points * kLane);
    for (int64_t row = begin; row < end; row++)
        f.images(x.image(tiles.image(row)), {x.H, x.W, x.channels.count, tiles.line(row) - top, -left, tiles.across},
                 columns.get(), v.from((row - first) * tiles.across));
}

// Tile rows of one task: transformed, they fill a share of the cache; fewer than 64 tiles would wait for the weights.
int64_t block_rows(const Tiles& tiles, int64_t planes, int64_t channels) {
    const int64_t count = std::clamp(kBlockFloats / (planes * channels), kMinTiles, 2 * kMinTiles);
    return std::clamp<int64_t>(count / tiles.across, 1, tiles.rows);
}

// y = x * w + bias: the forward pass and, flipped, the data gradient.
template <class T>
void convolve(int64_t N, const Images<const T>& x, int64_t top, int64_t left, const T* w, bool flipped,
              const float* bias, const Images<T>& y) {
    const WinogradTransforms<T>& f = transforms_for<T>(y.H, y.W);
    const WinogradKernels& kernel = kernels().winograd;
    const Tiles tiles(N, y.H, y.W, f.outputs);
    const Panels<T> panels(f, x.channels, y.channels);
    const int64_t C = x.channels.padded, planes = panels.planes();
    const bool one_block = tiles.count() <= y.channels.padded;
    const int64_t height = one_block ? tiles.rows : block_rows(tiles, planes, C + y.channels.width(0));
    const int64_t slice = one_block ? pieces(height, kSlices) : height;

    const Scratch shared(one_block ? 0 : panels.count() * panels.floats());
    const auto transform_weights = [&](int64_t input, int64_t output, float* to) {
        f.weights(w, panels.get(input, output, flipped), flipped, to);
    };
    if (!one_block)
        parallel_for(panels.count(), [&](int64_t task, int) {
            transform_weights(task % x.channels.panels, task / x.channels.panels,
                              shared.get() + task * panels.floats());
        });
    // The one block runs outside a task, so that its own loops are parallel.
    parallel_for(pieces(tiles.rows, height), [&](int64_t block, int) {
        const int64_t first = block * height, rows = std::min(height, tiles.rows - first);
        const PlaneBuffer v(planes, C, height * tiles.across);
        parallel_slices(rows, slice, [&](int64_t begin, int64_t end) {
            transform_images(f, tiles, x, top, left, first, first + begin, first + end, v);
        });
        parallel_for(y.channels.panels, [&](int64_t output, int) {
            const PlaneBuffer m(planes, y.channels.width(output), height * tiles.across);
            const Scratch own(one_block ? panels.floats() : 0);
            for (int64_t input = 0; input < x.channels.panels; input++) {
                const WeightPanel panel = panels.get(input, output, flipped);
                if (one_block) transform_weights(input, output, own.get());
                const float* const u =
                    one_block ? own.get() : shared.get() + (output * x.channels.panels + input) * panels.floats();
                for (int64_t plane = 0; plane < planes; plane++)
                    kernel.tile_products(v.at(plane, panel.first_input), v.block(), panel.inputs,
                                         u + plane * panel.plane, panel.outputs, input > 0, m.at(plane, 0), m.block(),
                                         rows * tiles.across);
            }
            const int64_t k = output * kPanel, count = std::min(kPanel, y.channels.count - k);
            for (int64_t row = first; row < first + rows; row++)
                f.results(m.from((row - first) * tiles.across),
                          {y.H, y.W, y.channels.count, tiles.line(row), 0, tiles.across}, bias ? bias + k : nullptr,
                          count, y.image(tiles.image(row)) + k);
        });
    });
}

// dw: every lane of sums takes the blocks of tiles that are its own, in order, and the lanes are added in order.
template <class T>
void weight_gradient(int64_t N, const Images<const T>& x, int64_t top, int64_t left, const Images<const T>& dy, T* dw) {
    const WinogradTransforms<T>& f = transforms_for<T>(dy.H, dy.W);
    const WinogradKernels& kernel = kernels().winograd;
    const Tiles tiles(N, dy.H, dy.W, f.outputs);
    const Panels<T> panels(f, x.channels, dy.channels);
    const int64_t C = x.channels.padded, K = dy.channels.padded, planes = panels.planes();
    const int64_t pairs = panels.count(), sums_floats = pairs * panels.floats();

    // Tiles that take no more room than the sums make one block; else there are blocks in lanes, or, where one lane
    // gives as many tasks, in turn.
    int64_t lanes = 1;
    while (lanes < kMaxLanes && 2 * lanes * sums_floats <= kSumsFloats) lanes *= 2;
    int64_t height =
        std::clamp<int64_t>(std::max(C * K, kBlockFloats / planes) / (C + K) / tiles.across, 1, tiles.rows);
    if (height == tiles.rows || pairs >= lanes)
        lanes = 1;
    else
        height = block_rows(tiles, planes, C + K);
    const int64_t blocks = pieces(tiles.rows, height);
    lanes = std::min(lanes, blocks);
    const int64_t slice = lanes == 1 ? pieces(height, kSlices) : height;

    const Scratch sums(blocks == 1 ? 0 : lanes * sums_floats);
    parallel_for(lanes, [&](int64_t lane, int) {
        const PlaneBuffer v(planes, C, height * tiles.across), gradients(planes, K, height * tiles.across);
        for (int64_t block = lane; block < blocks; block += lanes) {
            const int64_t first = block * height, rows = std::min(height, tiles.rows - first);
            parallel_slices(rows, slice, [&](int64_t begin, int64_t end) {
                transform_images(f, tiles, x, top, left, first, first + begin, first + end, v);
                for (int64_t row = first + begin; row < first + end; row++)
                    f.gradients(dy.image(tiles.image(row)),
                                {dy.H, dy.W, dy.channels.count, tiles.line(row), 0, tiles.across},
                                gradients.from((row - first) * tiles.across));
            });
            parallel_for(pairs, [&](int64_t pair, int) {
                const WeightPanel panel = panels.get(pair % x.channels.panels, pair / x.channels.panels, false);
                const Scratch own(blocks == 1 ? panels.floats() : 0);
                float* const u = blocks == 1 ? own.get() : sums.get() + lane * sums_floats + pair * panels.floats();
                for (int64_t plane = 0; plane < planes; plane++)
                    kernel.channel_products(gradients.at(plane, panel.first_output), gradients.block(), panel.outputs,
                                            v.at(plane, panel.first_input), v.block(), panel.inputs,
                                            rows * tiles.across, block != lane, u + plane * panel.plane);
                if (blocks == 1) f.weight_gradient(u, panel, dw);
            });
        }
    });
    if (blocks == 1) return;
    parallel_for(pairs, [&](int64_t pair, int) {
        const WeightPanel panel = panels.get(pair % x.channels.panels, pair / x.channels.panels, false);
        float* const u = sums.get() + pair * panels.floats();
        for (int64_t lane = 1; lane < lanes; lane++)
            kernels().sums.accumulate(u + lane * sums_floats, u, planes * panel.plane);
        f.weight_gradient(u, panel, dw);
    });
}

}  // namespace

void conv_winograd_forward(const ConvShape& s, const ArrayView& x, const ArrayView& w, const ArrayView& bias,
                           const ArrayView& y) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const Scratch offsets(s.K);
        if (bias) to_floats(bias.as<T>(), offsets.get(), s.K);
        convolve<T>(s.N, {x.as<T>(), s.H, s.W, Channels(s.C)}, s.top, s.left, w.as<T>(), false,
                    bias ? offsets.get() : nullptr, {y.as<T>(), s.OH, s.OW, Channels(s.K)});
    });
}

void conv_winograd_backward(const ConvShape& s, const ArrayView& x, const ArrayView& w, const ArrayView& dy,
                            const ConvGradients& gradients) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const Images<const T> images = {x.as<T>(), s.H, s.W, Channels(s.C)},
                              outputs = {dy.as<T>(), s.OH, s.OW, Channels(s.K)};
        if (gradients.dx)
            convolve<T>(s.N, outputs, 2 - s.top, 2 - s.left, w.as<T>(), true, nullptr,
                        {gradients.dx.as<T>(), s.H, s.W, Channels(s.C)});
        if (gradients.dw) weight_gradient<T>(s.N, images, s.top, s.left, outputs, gradients.dw.as<T>());
    });
    if (gradients.db) reduce("sum", dy, gradients.db, 1, s.N * s.OH * s.OW, s.K, false);
}

}  // namespace fp16engine::cpu
