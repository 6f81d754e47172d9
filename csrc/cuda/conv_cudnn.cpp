// Convolutions by cuDNN's graph interface: a plan per shape, pass and policy, kept for the life of the process (a
// captured step refers to it).
#include "cuda/products.h"

#include <array>
#include <map>
#include <mutex>

#include "cuda/cudnn_graph.h"
#include "cuda/library.h"
#include "cuda/ops.h"
#include "cuda/runtime.h"

namespace fp16engine::gpu {
namespace {

constexpr size_t kTimedPlans = 8;

void open_cudnn() {
    if (!cudnn_frontend::cudnn_dlhandle) cudnn_frontend::cudnn_dlhandle = library_handle(Library::cudnn);
}

cudnnHandle_t handle() {
    static std::map<int, cudnnHandle_t> handles;  // one per device, given back with the process
    open_cudnn();
    cudnnHandle_t& instance = handles[current_device()];
    if (!instance) {
        const cudnnStatus_t status = cudnn_frontend::detail::create_handle(&instance);
        if (status != CUDNN_STATUS_SUCCESS) {
            instance = nullptr;
            throw std::runtime_error("cudnnCreate: status " + std::to_string(status) + ", " +
                                     cudnn_frontend::detail::get_last_error_string_());
        }
    }
    return instance;
}

// One convolution as asked for.
struct Convolution {
    ConvShape shape;
    ConvPass pass;
    DType dtype;
    Compute compute;
    bool bias;
    int64_t alignment;

    std::array<int64_t, 22> key() const {
        std::array<int64_t, 22> result{};
        const auto geometry = shape.key();
        const std::array<int64_t, 6> rest = {current_device(), int64_t(pass), int64_t(dtype),
                                             int64_t(compute), bias,          alignment};
        std::copy(rest.begin(), rest.end(), std::copy(geometry.begin(), geometry.end(), result.begin()));
        return result;
    }

    std::string describe() const {
        static const char* const computes[] = {"float32", "tf32", "float16"};
        return shape.describe() + " " + name(pass) + (bias ? " + bias" : "") + ", " + fp16engine::name(dtype) +
               " accumulated in " + computes[static_cast<int>(compute)];
    }
};

namespace fe = cudnn_frontend;
using Pointers = std::unordered_map<int64_t, void*>;

struct Plan {
    std::shared_ptr<cudnn::Graph> graph;
    cudnn::Choice choice;

    void run(Pointers& pointers, const cudnn::Choice& as) const {
        fe::error_t status = graph->execute_plan_at_index(
            handle(), pointers, library_workspace(static_cast<size_t>(as.workspace)), as.index);
        if (status.is_bad()) throw std::runtime_error("cuDNN: " + cudnn::one_line(status.get_message()));
    }
};

struct Cache {
    std::mutex guard;
    std::map<std::array<int64_t, 22>, Plan> plans;
    std::vector<std::string> implementations;
};

Cache& cache() {
    static Cache* const instance = new Cache;  // outlives the library's own statics
    return *instance;
}

Plan make_plan(const Convolution& c, Pointers& pointers) {
    const bool tune = autotune() && !capturing();
    Plan plan;
    plan.graph = cudnn::conv_graph(c.shape, c.pass, c.dtype, c.compute, c.bias, c.alignment, compute_capability());
    const cudnn::Plans found = cudnn::build_plans(*plan.graph, handle(), cudnn::forbidden(c.dtype, c.compute),
                                                  cudnn::kWorkspaceLimit, tune ? kTimedPlans : 1);
    expect(!found.choices.empty(), "conv2d: cuDNN has no plan for " + c.describe() + " (" + found.reason + ")");
    plan.choice = found.choices[0];
    if (found.choices.size() > 1) {
        const int best = quickest(static_cast<int>(found.choices.size()),
                                  [&](int i) { plan.run(pointers, found.choices[static_cast<size_t>(i)]); });
        plan.choice = found.choices[static_cast<size_t>(best)];
    }
    return plan;
}

void run(const Convolution& c, Pointers pointers) {
    Cache& cached = cache();
    const std::lock_guard<std::mutex> lock(cached.guard);
    cudnn_frontend::detail::set_stream(handle(), current_stream());
    const auto key = c.key();
    auto found = cached.plans.find(key);
    if (found == cached.plans.end()) {
        found = cached.plans.emplace(key, make_plan(c, pointers)).first;
        const cudnn::Choice& choice = found->second.choice;
        cached.implementations.push_back(c.describe() + ": " + choice.engine + ", workspace " +
                                         std::to_string(choice.workspace));
    }
    found->second.run(pointers, found->second.choice);
}

// The alignment all of them share, at most the 16 bytes that engines ask for.
int64_t shared_alignment(std::initializer_list<const void*> pointers) {
    uintptr_t bits = 16;
    for (const void* pointer : pointers) bits |= reinterpret_cast<uintptr_t>(pointer);
    return static_cast<int64_t>(bits & (~bits + 1));
}

ConvShape conv_shape(const ArrayView& x, const ArrayView& w, int64_t stride_h, int64_t stride_w, const Pads& pads,
                     int64_t groups) {
    const int64_t C = x.shape[3], K = w.shape[0], R = w.shape[1], S = w.shape[2];
    const int64_t OH = (x.shape[1] + pads[0] + pads[1] - R) / stride_h + 1,
                  OW = (x.shape[2] + pads[2] + pads[3] - S) / stride_w + 1;
    return {x.shape[0], x.shape[1], x.shape[2], C,       K,       R,       S,       OH,
            OW,         stride_h,   stride_w,   pads[0], pads[1], pads[2], pads[3], groups};
}

void set_zero(const ArrayView& a) {
    if (a && a.size() > 0)
        FP16_CHECK(cudaMemsetAsync(a.data, 0, static_cast<size_t>(a.size() * item_size(a.dtype)), current_stream()));
}

}  // namespace

void conv2d_forward(const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y, int64_t stride_h,
                    int64_t stride_w, const Pads& pads, int64_t groups, bool half_accumulator, bool tf32) {
    const ConvShape shape = conv_shape(x, w, stride_h, stride_w, pads, groups);
    const Compute compute = compute_type(x.dtype, half_accumulator, tf32);
    if (y.size() == 0) return;
    expect(x.size() > 0 && w.size() > 0, "x must have at least one element, got " + x.describe());
    Pointers pointers = {{cudnn::kX, x.data}, {cudnn::kW, w.data}, {cudnn::kY, y.data}};
    if (bias) pointers[cudnn::kBias] = bias.data;
    run({shape, ConvPass::forward, x.dtype, compute, static_cast<bool>(bias),
         shared_alignment({x.data, w.data, y.data, bias.data})},
        std::move(pointers));
}

void conv2d_backward(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx,
                     const ArrayView& dw, const ArrayView& db, int64_t stride_h, int64_t stride_w, const Pads& pads,
                     int64_t groups, bool half_accumulator, bool tf32) {
    const ConvShape shape = conv_shape(x, w, stride_h, stride_w, pads, groups);
    const Compute compute = compute_type(x.dtype, half_accumulator, tf32);
    const bool empty = dy.size() == 0 || x.size() == 0;  // sums of nothing
    if (dx) {
        if (empty)
            set_zero(dx);
        else
            run({shape, ConvPass::data_gradient, x.dtype, compute, false, shared_alignment({dx.data, w.data, dy.data})},
                {{cudnn::kX, dx.data}, {cudnn::kW, w.data}, {cudnn::kY, dy.data}});
    }
    if (dw) {
        if (empty)
            set_zero(dw);
        else
            run({shape, ConvPass::weight_gradient, x.dtype, compute, false,
                 shared_alignment({x.data, dw.data, dy.data})},
                {{cudnn::kX, x.data}, {cudnn::kW, dw.data}, {cudnn::kY, dy.data}});
    }
    if (db) {
        if (empty)
            set_zero(db);
        else
            reduce("sum", dy, db, 1, shape.N * shape.OH * shape.OW, shape.K, half_accumulator);
    }
}

std::vector<std::string> conv2d_implementations() {
    const std::lock_guard<std::mutex> lock(cache().guard);
    return cache().implementations;
}

size_t cudnn_version() {
    open_cudnn();
    return cudnn_frontend::detail::get_backend_version();
}

std::string cudnn_device_properties() {
    open_cudnn();
    std::vector<uint8_t> text;
    fe::DeviceProperties properties;
    fe::error_t status = properties.set_device_id(current_device()).build();
    if (status.is_good()) status = properties.serialize(text);
    if (status.is_bad()) throw std::runtime_error("cuDNN: " + cudnn::one_line(status.get_message()));
    return {text.begin(), text.end()};
}

}  // namespace fp16engine::gpu
