// Plans cuDNN graphs for GPUs that are not here: reads one JSON request a line, {"device": {properties}, "sm": 90,
// "graph": ...}, and answers each with a line {"plans", "allowed", "workspace", "engine", "compiled", "reason"}; with
// "describe": true, nothing is planned and the answer is the graph itself: {"nodes", "tensors"}.
// Arguments: libraries to open, in order, cuDNN last. benchmarks/check_cudnn_plans.py builds, feeds and reads it.
#include <dlfcn.h>

#include <cstdio>
#include <iostream>
#include <map>

#include "cuda/cudnn_graph.h"

namespace {

namespace gpu = fp16engine::gpu;
namespace cudnn = fp16engine::gpu::cudnn;
namespace fe = cudnn_frontend;
using cudnn::Extents;
using cudnn::Graph;
using cudnn::Tensor;
using fp16engine::DType;
using nlohmann::json;

struct Policy {
    DType dtype;
    gpu::Compute compute;
    int sm;
};

// --- graphs ---------------------------------------------------------------------------------------------------------

std::shared_ptr<Graph> convolution(const json& request, const Policy& p) {
    const std::vector<int64_t> n = request.at("shape");
    const gpu::ConvShape shape = {n.at(0), n.at(1), n.at(2),  n.at(3),  n.at(4),  n.at(5),  n.at(6),  n.at(7),
                                  n.at(8), n.at(9), n.at(10), n.at(11), n.at(12), n.at(13), n.at(14), n.at(15)};
    const std::string pass = request.at("pass");
    const auto which = pass == "forward"         ? gpu::ConvPass::forward
                       : pass == "data gradient" ? gpu::ConvPass::data_gradient
                                                 : gpu::ConvPass::weight_gradient;
    return cudnn::conv_graph(shape, which, p.dtype, p.compute, request.value("bias", false), 16, p.sm);
}

// A stored (batch, rows, columns) array, or its transpose.
Tensor matrix(Graph& graph, int64_t batch, int64_t rows, int64_t columns, bool transposed = false) {
    const Extents strides = transposed ? Extents{rows * columns, 1, rows} : Extents{rows * columns, columns, 1};
    return graph.tensor(fe::graph::Tensor_attributes().set_dim({batch, rows, columns}).set_stride(strides));
}

void output(const Tensor& tensor, int64_t batch, int64_t rows, int64_t columns, DType dtype) {
    tensor->set_output(true)
        .set_dim({batch, rows, columns})
        .set_stride({rows * columns, columns, 1})
        .set_data_type(cudnn::stored(dtype));
}

// c = op(a) op(b) [+ bias], [and gelu(c)], or gelu'(saved) * c; "shape": batch, M, N, K
std::shared_ptr<Graph> product(const json& request, const Policy& p) {
    const std::vector<int64_t> n = request.at("shape");
    const int64_t batch = n.at(0), M = n.at(1), N = n.at(2), K = n.at(3);
    const auto graph = cudnn::empty_graph(p.dtype, p.compute, p.sm);
    const std::string epilogue = request.value("epilogue", "");
    Tensor c =
        graph->matmul(matrix(*graph, batch, M, K, request.value("transpose_a", false)),
                      matrix(*graph, batch, K, N, request.value("transpose_b", false)), fe::graph::Matmul_attributes());
    if (epilogue == "bias" || epilogue == "bias, gelu")
        c = graph->pointwise(c, matrix(*graph, 1, 1, N), cudnn::pointwise(fe::PointwiseMode_t::ADD));
    if (epilogue == "bias, gelu")
        output(graph->pointwise(c, cudnn::pointwise(fe::PointwiseMode_t::GELU_FWD)), batch, M, N, p.dtype);
    if (epilogue == "gelu gradient")
        c = graph->pointwise(c, matrix(*graph, batch, M, N), cudnn::pointwise(fe::PointwiseMode_t::GELU_BWD));
    output(c, batch, M, N, p.dtype);
    return graph;
}

// Fused attention; "shape": batch, heads, positions, width of a head
std::shared_ptr<Graph> attention(const json& request, const Policy& p) {
    const std::vector<int64_t> n = request.at("shape");
    const int64_t B = n.at(0), H = n.at(1), S = n.at(2), D = n.at(3);
    const auto graph = cudnn::empty_graph(p.dtype, p.compute, p.sm);
    const Extents extents = {B, H, S, D}, strides = {H * S * D, S * D, D, 1};
    const auto input = [&] {
        return graph->tensor(fe::graph::Tensor_attributes().set_dim(extents).set_stride(strides));
    };
    const Tensor q = input(), k = input(), v = input();
    const Extents row_extents = {B, H, S, 1}, row_strides = {H * S, S, 1, 1};
    const auto scale = 1.0f / std::sqrt(static_cast<float>(D));
    const auto out = [&](const Tensor& t) { t->set_output(true).set_dim(extents).set_stride(strides); };
    if (request.at("pass") == "forward") {
        auto [y, sums] =
            graph->sdpa(q, k, v, fe::graph::SDPA_attributes().set_generate_stats(true).set_attn_scale(scale));
        out(y);
        sums->set_output(true).set_data_type(fe::DataType_t::FLOAT);
    } else {
        const Tensor y = input(), dy = input();
        const Tensor sums = graph->tensor(fe::graph::Tensor_attributes()
                                              .set_dim(row_extents)
                                              .set_stride(row_strides)
                                              .set_data_type(fe::DataType_t::FLOAT));
        auto [dq, dk, dv] = graph->sdpa_backward(
            q, k, v, y, dy, sums,
            fe::graph::SDPA_backward_attributes().set_attn_scale(scale).set_deterministic_algorithm(true));
        for (const Tensor& t : {dq, dk, dv}) out(t);
    }
    return graph;
}

// --- requests -------------------------------------------------------------------------------------------------------

std::shared_ptr<const fe::DeviceProperties> device_properties(const std::string& text) {
    static std::map<std::string, std::shared_ptr<const fe::DeviceProperties>> known;
    auto& found = known[text];
    if (!found) {
        auto made = std::make_shared<fe::DeviceProperties>();
        fe::error_t status = made->deserialize(std::vector<uint8_t>(text.begin(), text.end()));
        if (status.is_bad()) throw std::runtime_error("device: " + cudnn::one_line(status.get_message()));
        found = made;
    }
    return found;
}

// What cuDNN would be given: tensors with extents and strides, nodes with their attributes.
json described(Graph& graph) {
    fe::error_t status = graph.validate();
    if (status.is_bad()) throw std::runtime_error(cudnn::one_line(status.get_message()));
    json all;
    graph.serialize(all);
    return {{"nodes", all.at("nodes")}, {"tensors", all.at("tensors")}};
}

json answer(const json& request) {
    const std::string compute = request.at("compute"), kind = request.at("graph");
    const Policy p = {request.at("dtype") == "float16" ? DType::float16 : DType::float32,
                      compute == "float16" ? gpu::Compute::float16
                      : compute == "tf32"  ? gpu::Compute::tf32
                                           : gpu::Compute::float32,
                      request.at("sm")};
    const auto graph = kind == "convolution" ? convolution(request, p)
                       : kind == "product"   ? product(request, p)
                                             : attention(request, p);
    if (request.value("describe", false)) return described(*graph);
    graph->set_device_properties(device_properties(request.at("device").dump()));
    const cudnn::Plans found =
        cudnn::build_plans(*graph, nullptr, cudnn::forbidden(p.dtype, p.compute), cudnn::kWorkspaceLimit, 1);
    if (found.choices.empty()) return {{"plans", 0}, {"reason", found.reason}};
    int64_t allowed = 0;
    for (int64_t i = 0; i < graph->get_execution_plan_count(); i++) allowed += graph->allows(i);
    const cudnn::Choice& first = found.choices[0];
    return {{"plans", allowed},
            {"offered", graph->get_execution_plan_count()},
            {"workspace", first.workspace},
            {"engine", first.engine},
            {"compiled", first.compiled_at_run_time}};
}

}  // namespace

int main(int count, char** arguments) {
    for (int i = 1; i < count; i++) {
        fe::cudnn_dlhandle = dlopen(arguments[i], RTLD_NOW | RTLD_GLOBAL);
        if (!fe::cudnn_dlhandle) {
            std::fprintf(stderr, "%s\n", dlerror());
            return 2;
        }
    }
    if (count < 2) {
        std::fprintf(stderr, "usage: cudnn_plans LIBRARY... (cuDNN last)\n");
        return 2;
    }
    std::cout << json{{"cudnn", fe::detail::get_backend_version()}, {"frontend", CUDNN_FRONTEND_VERSION}} << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
        json result;
        try {
            result = answer(json::parse(line));
        } catch (const std::exception& error) {
            result = {{"plans", 0}, {"reason", cudnn::one_line(error.what())}};
        }
        std::cout << result << std::endl;
    }
    return 0;
}
