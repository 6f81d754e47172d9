#include <vector>

#include "cuda/runtime.h"

namespace fp16engine::gpu {

size_t graph_nodes(uintptr_t graph) {
    const auto handle = reinterpret_cast<cudaGraph_t>(graph);
    size_t count = 0, working = 0;
    FP16_CHECK(cudaGraphGetNodes(handle, nullptr, &count));
    std::vector<cudaGraphNode_t> nodes(count);
    FP16_CHECK(cudaGraphGetNodes(handle, nodes.data(), &count));
    for (const cudaGraphNode_t node : nodes) {
        cudaGraphNodeType type;
        FP16_CHECK(cudaGraphNodeGetType(node, &type));
        working +=
            type == cudaGraphNodeTypeKernel || type == cudaGraphNodeTypeMemcpy || type == cudaGraphNodeTypeMemset;
    }
    return working;
}

}  // namespace fp16engine::gpu
