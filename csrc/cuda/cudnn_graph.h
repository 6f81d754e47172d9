// cuDNN graphs: how a convolution becomes one, which engines a policy allows, and which plans are left. The module and
// the check that runs without a GPU (csrc/testing/cudnn_plans.cpp) build their graphs here, so what the check finds
// holds for the module. Includes cudnn_frontend, a minute of compile time: one source of a program may include this.
#pragma once
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#include <cudnn_frontend.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cuda/conv_shape.h"
#include "cuda/products.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // set before the first call
}

namespace fp16engine::gpu::cudnn {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

class Graph : public fe::graph::Graph {
public:
    // Whether the filters leave a plan; it is not built.
    bool allows(int64_t index) { return plans.check_support_at_index(index).is_good(); }
};

// --- what a policy asks for -----------------------------------------------------------------------------------------

inline fe::DataType_t stored(DType dtype) {
    return dtype == DType::float16 ? fe::DataType_t::HALF : fe::DataType_t::FLOAT;
}

inline fe::DataType_t accumulated(Compute compute) {
    return compute == Compute::float16 ? fe::DataType_t::HALF : fe::DataType_t::FLOAT;
}

// Engines whose sums are not those of the policy: atomics, partial sums in a smaller type, transformed inputs, rounded
// inputs.
inline std::vector<fe::NumericalNote_t> forbidden(DType dtype, Compute compute) {
    using Note = fe::NumericalNote_t;
    std::vector<Note> notes = {Note::NONDETERMINISTIC, Note::REDUCED_PRECISION_REDUCTION, Note::WINOGRAD, Note::FFT};
    if (compute != Compute::tf32) notes.push_back(Note::DOWN_CONVERT_INPUTS);
    // Tensor cores multiply float32 only as TF32.
    if (dtype == DType::float32 && compute == Compute::float32) notes.push_back(Note::TENSOR_CORE);
    return notes;
}

// An empty graph of a policy. Sums stay in registers of the accumulator's type; the rest of an epilogue is float32.
inline std::shared_ptr<Graph> empty_graph(DType dtype, Compute compute, int compute_capability) {
    auto graph = std::make_shared<Graph>();
    graph->set_io_data_type(stored(dtype))
        .set_intermediate_data_type(accumulated(compute))
        .set_compute_data_type(accumulated(compute));
    graph->set_sm_version(compute_capability);
    return graph;
}

inline fe::graph::Pointwise_attributes pointwise(fe::PointwiseMode_t mode) {
    return fe::graph::Pointwise_attributes().set_mode(mode).set_compute_data_type(fe::DataType_t::FLOAT);
}

// --- convolutions ---------------------------------------------------------------------------------------------------

// Names of the tensors of a convolution graph; y stands for dy, x for dx and w for dw in the backward passes.
enum ConvTensor : int64_t { kX = 1, kW = 2, kY = 3, kBias = 4 };

using Extents = std::vector<int64_t>;

// An (n, h, w, c) array as cuDNN describes it: extents in the order n, c, h, w, strides as they are.
inline Extents nhwc_extents(int64_t n, int64_t h, int64_t w, int64_t c) { return {n, c, h, w}; }
inline Extents nhwc_strides(int64_t, int64_t h, int64_t w, int64_t c) { return {h * w * c, 1, w * c, c}; }

// `alignment`: of all pointers, in bytes.
inline std::shared_ptr<Graph> conv_graph(const ConvShape& s, ConvPass pass, DType dtype, Compute compute, bool bias,
                                         int64_t alignment, int compute_capability) {
    const auto graph = empty_graph(dtype, compute, compute_capability);
    const auto describe = [&](int64_t name, int64_t n, int64_t h, int64_t w, int64_t c) {
        return fe::graph::Tensor_attributes()
            .set_uid(name)
            .set_dim(nhwc_extents(n, h, w, c))
            .set_stride(nhwc_strides(n, h, w, c))
            .set_data_type(stored(dtype))
            .set_alignment(alignment);
    };
    const auto x = describe(kX, s.N, s.H, s.W, s.C), w = describe(kW, s.K, s.R, s.S, s.C / s.groups),
               y = describe(kY, s.N, s.OH, s.OW, s.K);
    const auto with_geometry = [&](auto attributes) {
        return attributes.set_pre_padding({s.top, s.left})
            .set_post_padding({s.bottom, s.right})
            .set_stride({s.stride_h, s.stride_w})
            .set_dilation({1, 1});
    };
    const auto output = [&](const Tensor& tensor, const fe::graph::Tensor_attributes& as) {
        tensor->set_output(true)
            .set_uid(as.get_uid())
            .set_dim(as.get_dim())
            .set_stride(as.get_stride())
            .set_data_type(as.get_data_type())
            .set_alignment(alignment);
    };
    if (pass == ConvPass::forward) {
        Tensor sum =
            graph->conv_fprop(graph->tensor(x), graph->tensor(w), with_geometry(fe::graph::Conv_fprop_attributes()));
        if (bias)
            sum = graph->pointwise(sum, graph->tensor(describe(kBias, 1, 1, 1, s.K)),
                                   pointwise(fe::PointwiseMode_t::ADD));
        output(sum, y);
    } else if (pass == ConvPass::data_gradient) {
        output(graph->conv_dgrad(graph->tensor(y), graph->tensor(w), with_geometry(fe::graph::Conv_dgrad_attributes())),
               x);
    } else {
        output(graph->conv_wgrad(graph->tensor(y), graph->tensor(x), with_geometry(fe::graph::Conv_wgrad_attributes())),
               w);
    }
    return graph;
}

// --- plans ----------------------------------------------------------------------------------------------------------

struct Choice {
    int64_t index, workspace;
    std::string engine;
    bool compiled_at_run_time;
};

struct Plans {
    std::vector<Choice> choices;  // built, in the order of the heuristic
    std::string reason;           // why there are none
};

inline std::string one_line(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

// Builds the first `most` plans that the notes and the workspace limit leave. The handle is null where the graph knows
// the properties of a device instead.
inline Plans build_plans(Graph& graph, cudnnHandle_t handle, const std::vector<fe::NumericalNote_t>& notes,
                         int64_t workspace_limit, size_t most) {
    Plans result;
    fe::error_t status = graph.validate();
    if (status.is_good()) status = graph.build_operation_graph(handle);
    if (status.is_good()) status = graph.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK});
    if (status.is_bad()) {
        result.reason = one_line(status.get_message());
        return result;
    }
    graph.deselect_numeric_notes(notes);
    graph.deselect_workspace_greater_than(workspace_limit);
    for (int64_t i = 0; i < graph.get_execution_plan_count() && result.choices.size() < most; i++) {
        status = graph.build_plan_at_index(i);
        if (status.is_bad()) {
            result.reason = one_line(status.get_message());
            continue;
        }
        Choice choice{i, 0, "", false};
        std::vector<fe::BehaviorNote_t> behaviour;
        if (graph.get_workspace_size_plan_at_index(i, choice.workspace).is_bad() || choice.workspace > workspace_limit)
            continue;
        (void)graph.get_plan_name_at_index(i, choice.engine);
        (void)graph.get_behavior_notes_for_plan_at_index(i, behaviour);
        choice.compiled_at_run_time =
            std::find(behaviour.begin(), behaviour.end(), fe::BehaviorNote_t::RUNTIME_COMPILATION) != behaviour.end();
        result.choices.push_back(choice);
    }
    return result;
}

// Bound of one convolution's or product's device memory.
constexpr int64_t kWorkspaceLimit = int64_t{256} << 20;

}  // namespace fp16engine::gpu::cudnn
