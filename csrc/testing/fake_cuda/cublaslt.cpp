// A fake of cuBLASLt: it refuses what NVIDIA's documentation of cublasLt.h forbids, and what this library did not offer
// for exactly this product, and computes on the host.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <mutex>
#include <set>

#include "common/half.h"
#include "simt/recording.h"
#include "testing/fake_cuda/fake.h"
#include "testing/fake_cuda/fake_matmul.h"

using namespace fp16engine::fake;
using fp16engine::half;

struct cublasLtContext {
    int device;
};
struct FakeMatmulDesc {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N, vector_type = -1;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    void* vector = nullptr;
};
struct FakeMatrixLayout {
    FakeLayout layout;
};
struct FakeMatmulPreference {
    uint64_t workspace = 0;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_MASK, a = 256, b = 256, c = 256, d = 256;
};

namespace {

// An algorithm that was offered: good for one product and for pointers aligned as was promised.
struct Offer {
    FakeProduct product;
    FakeMatmulPreference promised;
    int64_t vector_alignment;
    int32_t id;
    uint32_t scheme;
    FakeSummation sums;
    size_t workspace;
    float milliseconds;
    cublasStatus_t at_launch;
};

constexpr uint64_t kMagic = 0x46414b454c54;

struct Library {
    std::mutex guard;
    std::set<const void*> objects;  // that exist
    std::deque<Offer> offers;
};

Library& library() {
    static Library* const instance = new Library;
    return *instance;
}

cublasStatus_t planned(const char* function) { return static_cast<cublasStatus_t>(fault(function)); }

template <class T>
cublasStatus_t create(T** object, T value) {
    const std::lock_guard<std::mutex> lock(library().guard);
    *object = new T(value);
    library().objects.insert(*object);
    return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t destroy(T* object) {
    const std::lock_guard<std::mutex> lock(library().guard);
    if (!library().objects.erase(object)) return CUBLAS_STATUS_INVALID_VALUE;
    delete object;
    return CUBLAS_STATUS_SUCCESS;
}

template <class... T>
bool alive(const T*... objects) {
    const std::lock_guard<std::mutex> lock(library().guard);
    return (library().objects.count(objects) && ...);
}

template <class T>
cublasStatus_t set(T& field, const void* value, size_t bytes) {
    if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&field, value, sizeof(T));
    return CUBLAS_STATUS_SUCCESS;
}

int64_t alignment(const void* pointer) {
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    return pointer ? static_cast<int64_t>(address & (~address + 1)) : 0;
}

bool has_vector(uint32_t epilogue) {
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_BGRADB;
}

FakeProduct product_of(const FakeMatmulDesc& desc, const FakeMatrixLayout& a, const FakeMatrixLayout& b,
                       const FakeMatrixLayout& c, const FakeMatrixLayout& d) {
    return {desc.compute,
            desc.scale,
            desc.transpose_a == CUBLAS_OP_T,
            desc.transpose_b == CUBLAS_OP_T,
            desc.epilogue,
            a.layout,
            b.layout,
            c.layout,
            d.layout};
}

bool fits_types(const FakeProduct& p) {
    const cudaDataType_t type = p.d.type;
    if (p.a.type != type || p.b.type != type || p.c.type != type) return false;
    switch (p.compute) {
        case CUBLAS_COMPUTE_16F:
            return type == CUDA_R_16F && p.scale == CUDA_R_16F;
        case CUBLAS_COMPUTE_32F:
            return p.scale == CUDA_R_32F;
        case CUBLAS_COMPUTE_32F_FAST_TF32:
            return type == CUDA_R_32F && p.scale == CUDA_R_32F;
    }
    return false;
}

bool fits_sizes(const FakeProduct& p) {
    for (const FakeLayout* m : {&p.a, &p.b, &p.c, &p.d})
        if (m->rows < 1 || m->columns < 1 || m->leading < m->rows || m->batch < 1 || m->batch != p.d.batch ||
            (m->batch > 1 && m->batch_stride < m->leading * m->columns))
            return false;
    return p.c == p.d && (p.transpose_a ? p.a.columns : p.a.rows) == p.M() &&
           (p.transpose_b ? p.b.columns : p.b.rows) == p.K() && (p.transpose_b ? p.b.rows : p.b.columns) == p.N();
}

cublasStatus_t refusal(const FakeProduct& p, const FakeMatmulDesc& desc) {
    if (!fits_types(p) || !fits_sizes(p)) return CUBLAS_STATUS_INVALID_VALUE;
    // "Routines that don't dereference this pointer depend on its value to determine expected pointer alignment."
    if (has_vector(p.epilogue) && (!desc.vector || desc.vector_type != p.d.type)) return CUBLAS_STATUS_INVALID_VALUE;
    if (p.epilogue == CUBLASLT_EPILOGUE_BGRADB && p.d.batch > 1) return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

size_t fp16engine::fake::objects() {
    const std::lock_guard<std::mutex> lock(library().guard);
    return library().objects.size();
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    if (const cublasStatus_t status = planned("cublasLtCreate")) return status;
    int device = 0;
    cudaGetDevice(&device);
    return create<cublasLtContext>(handle, {device});
}

size_t cublasLtGetVersion() { return 130002; }

const char* cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS:
            return "CUBLAS_STATUS_SUCCESS";
        case CUBLAS_STATUS_NOT_INITIALIZED:
            return "CUBLAS_STATUS_NOT_INITIALIZED";
        case CUBLAS_STATUS_ALLOC_FAILED:
            return "CUBLAS_STATUS_ALLOC_FAILED";
        case CUBLAS_STATUS_INVALID_VALUE:
            return "CUBLAS_STATUS_INVALID_VALUE";
        case CUBLAS_STATUS_EXECUTION_FAILED:
            return "CUBLAS_STATUS_EXECUTION_FAILED";
        case CUBLAS_STATUS_INTERNAL_ERROR:
            return "CUBLAS_STATUS_INTERNAL_ERROR";
        case CUBLAS_STATUS_NOT_SUPPORTED:
            return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "unknown status";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute, cudaDataType_t scale) {
    FakeMatmulDesc value;
    value.compute = compute;
    value.scale = scale;
    return create(desc, value);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return destroy(desc); }

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
    if (!alive(desc)) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
        case CUBLASLT_MATMUL_DESC_TRANSA:
            return set(desc->transpose_a, value, bytes);
        case CUBLASLT_MATMUL_DESC_TRANSB:
            return set(desc->transpose_b, value, bytes);
        case CUBLASLT_MATMUL_DESC_EPILOGUE:
            return set(desc->epilogue, value, bytes);
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
            return set(desc->vector, value, bytes);
        case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
            return set(desc->vector_type, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
    return create<FakeMatrixLayout>(layout,
                                    {{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), leading}});
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy(layout); }

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t bytes) {
    if (!alive(layout)) return CUBLAS_STATUS_INVALID_VALUE;
    return attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT ? set(layout->layout.batch, value, bytes)
                                                           : set(layout->layout.batch_stride, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
    return create(preference, FakeMatmulPreference());
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return destroy(preference); }

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
    if (!alive(preference)) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
        case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
            return set(preference->workspace, value, bytes);
        case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
            return set(preference->schemes, value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
            return set(preference->a, value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
            return set(preference->b, value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
            return set(preference->c, value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
            return set(preference->d, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

// Best first: ways of summing that no policy of ours allows, one that takes longer than the third, one that says at
// its launch only that it cannot, and one that is no success.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
    *returned = 0;
    if (const cublasStatus_t status = planned("cublasLtMatmulAlgoGetHeuristic")) return status;
    if (!alive(handle, desc, a, b, c, d, preference)) return CUBLAS_STATUS_INVALID_VALUE;
    const FakeProduct p = product_of(*desc, *a, *b, *c, *d);
    if (const cublasStatus_t status = refusal(p, *desc)) return status;
    const auto offer = [&](int32_t id, uint32_t scheme, int64_t split, float milliseconds, cublasStatus_t at_launch,
                           cublasStatus_t state) {
        const size_t workspace = split > 1 ? static_cast<size_t>(split * p.M() * p.N() * p.d.batch) * 4 : 0;
        if (*returned == requested || (scheme & ~preference->schemes) || split > p.K() ||
            workspace > preference->workspace)
            return;
        const std::lock_guard<std::mutex> lock(library().guard);
        const bool rounded = scheme == CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
        library().offers.push_back({p,
                                    *preference,
                                    alignment(desc->vector),
                                    id,
                                    scheme,
                                    {split, rounded},
                                    workspace,
                                    milliseconds,
                                    at_launch});
        cublasLtMatmulHeuristicResult_t& result = results[(*returned)++];
        result = {};
        result.algo.data[0] = kMagic;
        result.algo.data[1] = library().offers.size() - 1;
        result.workspaceSize = workspace;
        result.state = state;
    };
    constexpr auto good = CUBLAS_STATUS_SUCCESS, bad = CUBLAS_STATUS_NOT_SUPPORTED;
    offer(1, CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE, 2, 1.0f, good, good);
    offer(2, CUBLASLT_REDUCTION_SCHEME_INPLACE, 2, 1.0f, good, good);
    offer(3, CUBLASLT_REDUCTION_SCHEME_NONE, 1, 3.0f, good, good);
    offer(4, CUBLASLT_REDUCTION_SCHEME_NONE, 1, 0.5f, bad, good);
    offer(5, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, 2, 2.0f, good, good);
    offer(6, CUBLASLT_REDUCTION_SCHEME_NONE, 1, 0.1f, good, bad);
    return *returned ? good : bad;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void* value,
                                                    size_t bytes, size_t* written) {
    if (algo->data[0] != kMagic || bytes != 4) return CUBLAS_STATUS_INVALID_VALUE;
    const std::lock_guard<std::mutex> lock(library().guard);
    const Offer& offer = library().offers.at(algo->data[1]);
    const int32_t found = attribute == CUBLASLT_ALGO_CONFIG_ID           ? offer.id
                          : attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? static_cast<int32_t>(offer.sums.split)
                                                                         : static_cast<int32_t>(offer.scheme);
    std::memcpy(value, &found, 4);
    *written = 4;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_bytes, cudaStream_t) {
    constexpr auto wrong = CUBLAS_STATUS_INVALID_VALUE;
    if (const cublasStatus_t status = planned("cublasLtMatmul")) return status;
    if (!alive(handle, desc, a_layout, b_layout, c_layout, d_layout) || algo->data[0] != kMagic) return wrong;
    int device = 0;
    cudaGetDevice(&device);
    if (handle->device != device) return wrong;
    Offer offer;
    {
        const std::lock_guard<std::mutex> lock(library().guard);
        offer = library().offers.at(algo->data[1]);
    }
    const FakeProduct p = product_of(*desc, *a_layout, *b_layout, *c_layout, *d_layout);
    if (refusal(p, *desc) || !(p == offer.product)) return wrong;
    const FakeMatmulPreference& least = offer.promised;
    if (alignment(a) < least.a || alignment(b) < least.b || alignment(c) < least.c || alignment(d) < least.d)
        return wrong;
    if (has_vector(p.epilogue) && alignment(desc->vector) < std::min<int64_t>(offer.vector_alignment, 16)) return wrong;
    if (workspace_bytes < offer.workspace || (offer.workspace && !allocated(workspace, workspace_bytes))) return wrong;
    // A factor of 0 for c lets it be anything; others are not read here.
    if (p.scale == CUDA_R_16F ? to_float(*static_cast<const half*>(beta)) : *static_cast<const float*>(beta))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const float factor =
        p.scale == CUDA_R_16F ? to_float(*static_cast<const half*>(alpha)) : *static_cast<const float*>(alpha);
    if (offer.at_launch != CUBLAS_STATUS_SUCCESS) return offer.at_launch;
    spend(offer.milliseconds);
    simt::perform("cublasLtMatmul", true, [p, sums = offer.sums, a, b, d, vector = desc->vector, factor] {
        multiply(p, sums, a, b, d, vector, factor);
    });
    return CUBLAS_STATUS_SUCCESS;
}
