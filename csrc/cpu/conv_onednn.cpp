// Convolution by oneDNN's float32 primitives, a few images at a time: a task converts its images to float tiles that
// stay in its core's cache, runs a one-thread primitive, and rounds the result once. Memory traffic is that of the
// stored type, and results do not depend on the number of threads. Weight gradients are summed over a fixed number of
// lanes, in order.
#include "cpu/conv.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "common/fork.h"
#include "cpu/packed_product.h"

#if defined(FP16ENGINE_ONEDNN)
#include <oneapi/dnnl/dnnl.hpp>
#if defined(_OPENMP)
#include <omp.h>
#endif
#endif

namespace fp16engine::cpu {

#if !defined(FP16ENGINE_ONEDNN)

bool conv_onednn_available() { return false; }
std::string onednn_version() { return ""; }
std::string onednn_isa() { return ""; }
bool conv_onednn_forward(const ConvShape&, const ArrayView&, const ArrayView&, const ArrayView&, const ArrayView&) {
    return false;
}
bool conv_onednn_backward(const ConvShape&, const ArrayView&, const ArrayView&, const ArrayView&,
                          const ConvGradients&) {
    return false;
}
std::vector<std::string> conv_onednn_implementations() { return {}; }

#else

namespace {

using dnnl::memory;

constexpr int64_t kTileBytes = 256 << 10;  // float images of one task: a share of a second-level cache
constexpr int64_t kLaneBytes = 16 << 20;   // float weight gradients waiting to be summed
constexpr int64_t kMinLanes = 2, kMaxLanes = 16;

enum class Pass { forward, data, weights };

const dnnl::engine& engine() {
    static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
    return cpu;
}

dnnl::stream& stream() {
    thread_local dnnl::stream current(engine());
    return current;
}

// Primitives keep the number of threads they were created for. Ours run inside a task of our own pool, so oneDNN's
// OpenMP must start none, neither where a primitive is made nor where it runs; the setting is one of the calling
// thread.
class OneThread {
public:
#if defined(_OPENMP)
    OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
    ~OneThread() { omp_set_num_threads(before_); }

private:
    int before_;
#endif
};

memory::dims weight_dims(const ConvShape& s) {
    if (s.groups == 1) return {s.K, s.C, s.R, s.S};
    return {s.groups, s.group_outputs(), s.group_inputs(), s.R, s.S};
}

// Our layout (K, R, S, C / groups) as strides of oneDNN's logical axes.
memory::desc stored_weights(const ConvShape& s) {
    const int64_t Cg = s.group_inputs(), filter = s.R * s.S * Cg;
    if (s.groups == 1) return {weight_dims(s), memory::data_type::f32, memory::dims{filter, 1, s.S * Cg, Cg}};
    return {weight_dims(s), memory::data_type::f32, memory::dims{s.group_outputs() * filter, filter, 1, s.S * Cg, Cg}};
}

// Every primitive is made under the plans' lock, which a fork waits for: oneDNN's own cache has a lock that a fork
// would leave taken in the child.
struct Plan {
    dnnl::primitive primitive;
    dnnl::primitive reorder;  // of the weights: from the stored layout, or for a gradient to it
    memory::desc images, weights, outputs, scratchpad, reorder_scratchpad;
    std::string implementation;
    bool reference = false;

    template <class Descriptor>
    void take(const Descriptor& d) {
        scratchpad = d.scratchpad_desc();
        implementation = d.impl_info_str();
        reference = implementation.rfind("ref", 0) == 0;
    }

    void take_reorder(const memory::desc& from, const memory::desc& to, const dnnl::primitive_attr& attributes) {
        const dnnl::reorder::primitive_desc d(engine(), from, engine(), to, attributes);
        reorder = dnnl::reorder(d);
        reorder_scratchpad = d.scratchpad_desc();
    }
};

Plan make_plan(const ConvShape& s, Pass pass) {
    const OneThread scope;
    using dnnl::algorithm;
    const auto f32 = memory::data_type::f32;
    const memory::desc x({s.N, s.C, s.H, s.W}, f32, memory::format_tag::nhwc),
        y({s.N, s.K, s.OH, s.OW}, f32, memory::format_tag::nhwc);
    const memory::desc w(weight_dims(s), f32, memory::format_tag::any), b({s.K}, f32, memory::format_tag::a);
    const memory::dims strides = {s.stride_h, s.stride_w}, before = {s.top, s.left}, after = {s.bottom, s.right};
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    Plan plan;
    plan.images = x;
    plan.outputs = y;
    const dnnl::convolution_forward::primitive_desc forward(engine(), dnnl::prop_kind::forward_training,
                                                            algorithm::convolution_direct, x, w, b, y, strides, before,
                                                            after, attributes);
    if (pass == Pass::forward) {
        plan.primitive = dnnl::convolution_forward(forward);
        plan.weights = forward.weights_desc();
        plan.take(forward);
    } else if (pass == Pass::data) {
        const dnnl::convolution_backward_data::primitive_desc d(engine(), algorithm::convolution_direct, x, w, y,
                                                                strides, before, after, forward, attributes);
        plan.primitive = dnnl::convolution_backward_data(d);
        plan.weights = d.weights_desc();
        plan.take(d);
    } else {
        const dnnl::convolution_backward_weights::primitive_desc d(engine(), algorithm::convolution_direct, x, w, y,
                                                                   strides, before, after, forward, attributes);
        plan.primitive = dnnl::convolution_backward_weights(d);
        plan.weights = d.diff_weights_desc();
        plan.take(d);
    }
    if (pass == Pass::weights)
        plan.take_reorder(plan.weights, stored_weights(s), attributes);
    else
        plan.take_reorder(stored_weights(s), plan.weights, attributes);
    return plan;
}

std::mutex plans_guard;
[[maybe_unused]] const bool fork_is_safe = [] {
    hold_across_fork(ForkLock::plans, plans_guard);
    return true;
}();

struct PlanCache {
    std::map<std::array<int64_t, 17>, std::unique_ptr<Plan> > plans;
    std::vector<std::string> implementations;
};

PlanCache& cache() {
    static PlanCache* instance = new PlanCache;  // outlives oneDNN's own statics
    return *instance;
}

const Plan& plan_for(ConvShape s, int64_t images, Pass pass) {
    s.N = images;
    const std::array<int64_t, 17> key = {s.N,
                                         s.H,
                                         s.W,
                                         s.C,
                                         s.K,
                                         s.R,
                                         s.S,
                                         s.OH,
                                         s.OW,
                                         s.stride_h,
                                         s.stride_w,
                                         s.top,
                                         s.bottom,
                                         s.left,
                                         s.right,
                                         s.groups,
                                         static_cast<int64_t>(pass)};
    PlanCache& c = cache();
    const std::lock_guard<std::mutex> lock(plans_guard);
    std::unique_ptr<Plan>& plan = c.plans[key];
    if (!plan) {
        plan = std::make_unique<Plan>(make_plan(s, pass));
        static const char* const passes[] = {"forward", "data gradient", "weight gradient"};
        const std::string line = s.describe() + " " + passes[static_cast<int>(pass)] + ": " +
                                 (plan->reference ? "implicit product (oneDNN has only " + plan->implementation + ")"
                                                  : plan->implementation);
        if (std::find(c.implementations.begin(), c.implementations.end(), line) == c.implementations.end())
            c.implementations.push_back(line);
    }
    return *plan;
}

int64_t floats_of(const memory::desc& d) { return static_cast<int64_t>(d.get_size() / sizeof(float)) + 16; }

int64_t images_per_task(const ConvShape& s, int64_t bytes) {
    const int64_t image = (s.image_inputs() + s.image_outputs()) * static_cast<int64_t>(sizeof(float));
    return std::max<int64_t>(1, std::min(s.N, bytes / std::max<int64_t>(image, 1)));
}

void reorder(const Plan& plan, const memory::desc& from, float* source, const memory::desc& to, float* target) {
    const OneThread scope;
    const Scratch scratchpad(floats_of(plan.reorder_scratchpad));
    plan.reorder.execute(stream(),
                         {{DNNL_ARG_FROM, memory(from, engine(), source)},
                          {DNNL_ARG_TO, memory(to, engine(), target)},
                          {DNNL_ARG_SCRATCHPAD, memory(plan.reorder_scratchpad, engine(), scratchpad.get())}});
    stream().wait();
}

// The stored array itself where it is float already, else a float tile filled from it.
const float* input_tile(const float* stored, int64_t, float*) { return stored; }
const float* input_tile(const half* stored, int64_t n, float* tile) {
    to_floats(stored, tile, n);
    return tile;
}
float* output_tile(float* stored, float*) { return stored; }
float* output_tile(half*, float* tile) { return tile; }
void finish_tile(const float*, float*, int64_t) {}
void finish_tile(const float* tile, half* stored, int64_t n) { from_floats(tile, stored, n); }
template <class T>
constexpr int64_t tile_floats(int64_t n) {
    return sizeof(T) == sizeof(float) ? 0 : n;
}

// Float weights in the layout a plan wants.
template <class T>
class PackedWeights {
public:
    PackedWeights(const ConvShape& s, const T* w, const Plan& plan)
        : packed_(floats_of(plan.weights)), desc_(plan.weights) {
        const Scratch floats(tile_floats<T>(s.weights()));
        reorder(plan, stored_weights(s), const_cast<float*>(input_tile(w, s.weights(), floats.get())), desc_,
                packed_.get());
    }
    memory get() const { return memory(desc_, engine(), packed_.get()); }

private:
    Scratch packed_;
    memory::desc desc_;
};

// The tasks of a batch: `images` each, the last one fewer, with the plans for both.
struct Split {
    int64_t images, tasks, tail;
    Split(const ConvShape& s, int64_t bytes)
        : images(images_per_task(s, bytes)), tasks((s.N + images - 1) / images), tail(s.N - (tasks - 1) * images) {}
    int64_t count(int64_t task) const { return task + 1 == tasks ? tail : images; }
};

memory view(const memory::desc& desc, const float* data) { return memory(desc, engine(), const_cast<float*>(data)); }

template <class T>
void forward(const ConvShape& s, const T* x, const T* w, const T* bias, T* y, const Split& split) {
    const Plan* const plans[] = {&plan_for(s, split.images, Pass::forward), &plan_for(s, split.tail, Pass::forward)};
    const PackedWeights<T> weights(s, w, *plans[0]), tail_weights(s, w, *plans[1]);
    const Scratch bias_floats(s.K);
    if (bias)
        to_floats(bias, bias_floats.get(), s.K);
    else
        std::fill(bias_floats.get(), bias_floats.get() + s.K, 0.0f);
    const memory bias_memory(memory::desc({s.K}, memory::data_type::f32, memory::format_tag::a), engine(),
                             bias_floats.get());
    parallel_for(split.tasks, [&](int64_t task, int) {
        const OneThread scope;
        const int64_t n = split.count(task), first = task * split.images;
        const bool last = task + 1 == split.tasks;
        const Plan& plan = *plans[last];
        const int64_t in = n * s.image_inputs(), out = n * s.image_outputs();
        const Scratch scratch(tile_floats<T>(in + out) + floats_of(plan.scratchpad));
        float* const out_tile = output_tile(y + first * s.image_outputs(), scratch.get() + tile_floats<T>(in));
        plan.primitive.execute(
            stream(), {{DNNL_ARG_SRC, view(plan.images, input_tile(x + first * s.image_inputs(), in, scratch.get()))},
                       {DNNL_ARG_WEIGHTS, (last ? tail_weights : weights).get()},
                       {DNNL_ARG_BIAS, bias_memory},
                       {DNNL_ARG_DST, view(plan.outputs, out_tile)},
                       {DNNL_ARG_SCRATCHPAD, view(plan.scratchpad, scratch.get() + tile_floats<T>(in + out))}});
        stream().wait();
        finish_tile(out_tile, y + first * s.image_outputs(), out);
    });
}

template <class T>
class Backward {
public:
    Backward(const ConvShape& s, const T* x, const T* w, const T* dy, const ConvGradients& gradients,
             const Split& split)
        : s_(s),
          x_(x),
          w_(w),
          dy_(dy),
          dx_(gradients.dx.as<T>()),
          dw_(gradients.dw.as<T>()),
          db_(gradients.db.as<T>()),
          split_(split) {}

    void run() {
        std::unique_ptr<PackedWeights<T> > weights[2];
        for (int last = 0; last < 2; last++) {
            const int64_t images = last ? split_.tail : split_.images;
            if (dx_) {
                data_[last] = &plan_for(s_, images, Pass::data);
                weights[last] = std::make_unique<PackedWeights<T> >(s_, w_, *data_[last]);
            }
            if (dw_) weights_[last] = &plan_for(s_, images, Pass::weights);
        }
        // A tail plan may want another layout; its gradient is summed in the stored layout then.
        same_layout_ = !dw_ || weights_[0]->weights == weights_[1]->weights;
        width_ = dw_ ? std::max(floats_of(weights_[0]->weights), floats_of(weights_[1]->weights)) : 0;
        const int64_t lane_bytes = std::max<int64_t>(width_ * static_cast<int64_t>(sizeof(float)), 1);
        const int64_t lanes = std::min(split_.tasks, std::max(kMinLanes, std::min(kMaxLanes, kLaneBytes / lane_bytes)));
        const Scratch sums(lanes * (width_ + s_.K));
        std::fill(sums.get(), sums.get() + lanes * (width_ + s_.K), 0.0f);
        parallel_for(lanes, [&](int64_t lane, int) {
            const OneThread scope;
            const Scratch partial(width_);
            for (int64_t task = lane; task < split_.tasks; task += lanes)
                run_task(task, weights, sums.get() + lane * (width_ + s_.K), partial.get());
        });
        for (int64_t lane = 1; lane < lanes; lane++)
            kernels().sums.accumulate(sums.get() + lane * (width_ + s_.K), sums.get(), width_ + s_.K);
        if (db_) from_floats(sums.get() + width_, db_, s_.K);
        if (dw_) finish_weights(sums.get());
    }

private:
    void run_task(int64_t task, const std::unique_ptr<PackedWeights<T> > (&weights)[2], float* sums, float* partial) {
        const bool last = task + 1 == split_.tasks;
        const int64_t n = split_.count(task), first = task * split_.images;
        const int64_t in = n * s_.image_inputs(), out = n * s_.image_outputs();
        const int64_t pad =
            std::max(dx_ ? floats_of(data_[last]->scratchpad) : 0, dw_ ? floats_of(weights_[last]->scratchpad) : 0);
        const Scratch scratch(tile_floats<T>(in + out) + pad);
        float* const in_tile = scratch.get();
        float* const scratchpad = scratch.get() + tile_floats<T>(in + out);
        const float* const dy = input_tile(dy_ + first * s_.image_outputs(), out, scratch.get() + tile_floats<T>(in));
        if (db_) kernels().sums.columns(dy, n * s_.OH * s_.OW, s_.K, sums + width_);
        if (dw_) {
            const Plan& plan = *weights_[last];
            plan.primitive.execute(
                stream(), {{DNNL_ARG_SRC, view(plan.images, input_tile(x_ + first * s_.image_inputs(), in, in_tile))},
                           {DNNL_ARG_DIFF_DST, view(plan.outputs, dy)},
                           {DNNL_ARG_DIFF_WEIGHTS, view(plan.weights, partial)},
                           {DNNL_ARG_SCRATCHPAD, view(plan.scratchpad, scratchpad)}});
            stream().wait();
            add_partial(plan, partial, sums);
        }
        if (dx_) {
            const Plan& plan = *data_[last];
            float* const dx = output_tile(dx_ + first * s_.image_inputs(), in_tile);
            plan.primitive.execute(stream(), {{DNNL_ARG_DIFF_DST, view(plan.outputs, dy)},
                                              {DNNL_ARG_WEIGHTS, weights[last]->get()},
                                              {DNNL_ARG_DIFF_SRC, view(plan.images, dx)},
                                              {DNNL_ARG_SCRATCHPAD, view(plan.scratchpad, scratchpad)}});
            stream().wait();
            finish_tile(dx, dx_ + first * s_.image_inputs(), in);
        }
    }

    void add_partial(const Plan& plan, float* partial, float* sums) const {
        if (same_layout_) {
            kernels().sums.accumulate(partial, sums, floats_of(plan.weights) - 16);
            return;
        }
        const Scratch stored(s_.weights());
        reorder(plan, plan.weights, partial, stored_weights(s_), stored.get());
        kernels().sums.accumulate(stored.get(), sums, s_.weights());
    }

    void finish_weights(float* sum) const {
        if (!same_layout_) {
            from_floats(sum, dw_, s_.weights());
            return;
        }
        const Scratch stored(s_.weights());
        reorder(*weights_[0], weights_[0]->weights, sum, stored_weights(s_), stored.get());
        from_floats(stored.get(), dw_, s_.weights());
    }

    const ConvShape& s_;
    const T *x_, *w_, *dy_;
    T *dx_, *dw_, *db_;
    Split split_;
    const Plan *data_[2] = {}, *weights_[2] = {};
    bool same_layout_ = true;
    int64_t width_ = 0;
};

}  // namespace

bool conv_onednn_available() { return true; }

std::string onednn_isa() {
    switch (dnnl::get_effective_cpu_isa()) {
        case dnnl::cpu_isa::sse41:
            return "sse41";
        case dnnl::cpu_isa::avx:
            return "avx";
        case dnnl::cpu_isa::avx2:
            return "avx2";
        case dnnl::cpu_isa::avx2_vnni:
            return "avx2_vnni";
        case dnnl::cpu_isa::avx2_vnni_2:
            return "avx2_vnni_2";
        case dnnl::cpu_isa::avx512_core:
            return "avx512_core";
        case dnnl::cpu_isa::avx512_core_vnni:
            return "avx512_core_vnni";
        case dnnl::cpu_isa::avx512_core_bf16:
            return "avx512_core_bf16";
        case dnnl::cpu_isa::avx512_core_fp16:
            return "avx512_core_fp16";
        case dnnl::cpu_isa::avx512_core_amx:
            return "avx512_core_amx";
        case dnnl::cpu_isa::avx512_core_amx_fp16:
            return "avx512_core_amx_fp16";
        default:
            return std::to_string(static_cast<int>(dnnl::get_effective_cpu_isa()));
    }
}

std::string onednn_version() {
    const dnnl_version_t* v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

bool conv_onednn_forward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& bias,
                         const ArrayView& y) {
    const Split split(shape, kTileBytes);
    if (plan_for(shape, split.images, Pass::forward).reference) return false;
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        forward(shape, x.as<T>(), w.as<T>(), bias.as<T>(), y.as<T>(), split);
    });
    return true;
}

bool conv_onednn_backward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& dy,
                          const ConvGradients& gradients) {
    // Large weights are paid once per task, so tasks grow with them.
    const Split split(shape, std::max<int64_t>(kTileBytes, shape.weights() * static_cast<int64_t>(sizeof(float))));
    if (gradients.dx && plan_for(shape, split.images, Pass::data).reference) return false;
    if (gradients.dw && plan_for(shape, split.images, Pass::weights).reference) return false;
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        Backward<T>(shape, x.as<T>(), w.as<T>(), dy.as<T>(), gradients, split).run();
    });
    return true;
}

std::vector<std::string> conv_onednn_implementations() {
    PlanCache& c = cache();
    const std::lock_guard<std::mutex> lock(plans_guard);
    return c.implementations;
}

#endif

}  // namespace fp16engine::cpu
