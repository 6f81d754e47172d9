// Matrix products by cuBLASLt. A row-major (M, N) array is cuBLASLt's column-major (N, M) matrix, so c = a b is asked
// for as c^T = b^T a^T: operand A of the library is our b, operand B our a. Nothing is copied or transposed.
#include "cuda/products.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "cuda/library.h"
#include "cuda/ops.h"
#include "cuda/runtime.h"

namespace fp16engine::gpu {
namespace {

// --- the library ----------------------------------------------------------------------------------------------------

template <class Function>
Function* entry(const char* symbol) {
    return library_function<Function>(Library::cublaslt, symbol);
}

struct Lt {
#define FP16_LT(name) decltype(&::cublasLt##name) name = entry<decltype(::cublasLt##name)>("cublasLt" #name)
    FP16_LT(Create);
    FP16_LT(GetVersion);
    FP16_LT(GetStatusName);
    FP16_LT(Matmul);
    FP16_LT(MatmulAlgoGetHeuristic);
    FP16_LT(MatmulAlgoConfigGetAttribute);
    FP16_LT(MatmulDescCreate);
    FP16_LT(MatmulDescDestroy);
    FP16_LT(MatmulDescSetAttribute);
    FP16_LT(MatrixLayoutCreate);
    FP16_LT(MatrixLayoutDestroy);
    FP16_LT(MatrixLayoutSetAttribute);
    FP16_LT(MatmulPreferenceCreate);
    FP16_LT(MatmulPreferenceDestroy);
    FP16_LT(MatmulPreferenceSetAttribute);
#undef FP16_LT
};

const Lt& lt() {
    static const Lt functions;
    return functions;
}

class Refused : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

void check(cublasStatus_t status, const char* expression) {
    if (status != CUBLAS_STATUS_SUCCESS) throw Refused(std::string(expression) + ": " + lt().GetStatusName(status));
}
#define LT_CHECK(function, ...) check(lt().function(__VA_ARGS__), "cublasLt" #function)

// A library object with its destructor.
template <class T, class Destroy>
class Owned {
public:
    explicit Owned(Destroy destroy) : destroy_(destroy) {}
    ~Owned() {
        if (object) destroy_(object);
    }
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;
    T object = nullptr;

private:
    Destroy destroy_;
};

using Description = Owned<cublasLtMatmulDesc_t, decltype(&::cublasLtMatmulDescDestroy)>;
using Layout = Owned<cublasLtMatrixLayout_t, decltype(&::cublasLtMatrixLayoutDestroy)>;
using Preference = Owned<cublasLtMatmulPreference_t, decltype(&::cublasLtMatmulPreferenceDestroy)>;

cublasLtHandle_t handle() {
    static std::map<int, cublasLtHandle_t> handles;  // one per device, given back with the process
    cublasLtHandle_t& instance = handles[current_device()];
    if (!instance) LT_CHECK(Create, &instance);
    return instance;
}

// --- plans ----------------------------------------------------------------------------------------------------------

// What the library does with the vector next to the product.
enum class Vector { none, bias, row_sums_of_a };

using Key = std::array<int64_t, 14>;

// One product as asked for: sizes in our row-major terms, and the alignment of its pointers.
struct Product {
    int64_t batch, M, N, K;
    bool transpose_a, transpose_b;
    DType dtype;
    Compute compute;
    Vector vector;
    int64_t alignment_a, alignment_b, alignment_c, alignment_vector;

    // Whether there is another way, so that a refusal is none of the caller's.
    bool optional() const { return vector == Vector::row_sums_of_a; }

    Key key() const {
        return {current_device(),
                batch,
                M,
                N,
                K,
                transpose_a,
                transpose_b,
                int64_t(dtype),
                int64_t(compute),
                int64_t(vector),
                alignment_a,
                alignment_b,
                alignment_c,
                alignment_vector};
    }

    std::string describe() const {
        static const char* const computes[] = {"float32", "tf32", "float16"};
        return (batch > 1 ? std::to_string(batch) + " x " : "") + "(" + std::to_string(M) + ", " + std::to_string(K) +
               ")" + (transpose_a ? "^T" : "") + " (" + std::to_string(K) + ", " + std::to_string(N) + ")" +
               (transpose_b ? "^T" : "") + " " + fp16engine::name(dtype) + " accumulated in " +
               computes[static_cast<int>(compute)] +
               (vector == Vector::bias            ? " + bias"
                : vector == Vector::row_sums_of_a ? " + bias gradient"
                                                  : "");
    }
};

// Pointers aligned to 16 bytes are as good as any, and so is none.
int64_t alignment(const void* pointer) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
    for (int64_t bytes = 16; bytes > 1; bytes /= 2)
        if (address % static_cast<uintptr_t>(bytes) == 0) return bytes;
    return 1;
}

// NVIDIA's advice: 32 MiB from Hopper on, 4 MiB before.
size_t workspace_limit() { return size_t{compute_capability() >= 90 ? 32u : 4u} << 20; }

constexpr int kTimedAlgorithms = 8;

struct Plan {
    Description description{lt().MatmulDescDestroy};
    Layout a{lt().MatrixLayoutDestroy}, b{lt().MatrixLayoutDestroy}, c{lt().MatrixLayoutDestroy};
    std::vector<cublasLtMatmulHeuristicResult_t> algorithms;  // best first
    cublasComputeType_t compute;
    cudaDataType_t type;

    // `vector`: where it lies tells the library how it is aligned; every run names its own.
    Plan(const Product& p, void* vector);

    void run(const cublasLtMatmulHeuristicResult_t& algorithm, const void* a_data, const void* b_data, void* c_data,
             void* vector, double alpha) const;

private:
    template <class T>
    void set(cublasLtMatmulDescAttributes_t attribute, T value) {
        LT_CHECK(MatmulDescSetAttribute, description.object, attribute, &value, sizeof value);
    }
    void lay_out(Layout& layout, int64_t rows, int64_t columns, int64_t batch);
    void search(const Product& p);
};

// A row-major (rows, columns) matrix, as the library's column-major (columns, rows).
void Plan::lay_out(Layout& layout, int64_t rows, int64_t columns, int64_t batch) {
    LT_CHECK(MatrixLayoutCreate, &layout.object, type, static_cast<uint64_t>(columns), static_cast<uint64_t>(rows),
             columns);
    if (batch == 1) return;
    const int32_t count = static_cast<int32_t>(batch);
    const int64_t stride = rows * columns;
    LT_CHECK(MatrixLayoutSetAttribute, layout.object, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
    LT_CHECK(MatrixLayoutSetAttribute, layout.object, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
             sizeof stride);
}

Plan::Plan(const Product& p, void* vector) {
    compute = p.compute == Compute::float16 ? CUBLAS_COMPUTE_16F
              : p.compute == Compute::tf32  ? CUBLAS_COMPUTE_32F_FAST_TF32
                                            : CUBLAS_COMPUTE_32F;
    type = p.dtype == DType::float16 ? CUDA_R_16F : CUDA_R_32F;
    LT_CHECK(MatmulDescCreate, &description.object, compute, p.compute == Compute::float16 ? CUDA_R_16F : CUDA_R_32F);
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (p.vector != Vector::none) {
        // The sums of our a along K, one per row of c, are the library's "bias gradient of B".
        set(CUBLASLT_MATMUL_DESC_EPILOGUE,
            p.vector == Vector::bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_BGRADB);
        set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<int32_t>(type));
        set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
    }
    lay_out(a, p.transpose_b ? p.N : p.K, p.transpose_b ? p.K : p.N, p.batch);
    lay_out(b, p.transpose_a ? p.K : p.M, p.transpose_a ? p.M : p.K, p.batch);
    lay_out(c, p.M, p.N, p.batch);
    search(p);
}

void Plan::search(const Product& p) {
    Preference preference(lt().MatmulPreferenceDestroy);
    LT_CHECK(MatmulPreferenceCreate, &preference.object);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
        LT_CHECK(MatmulPreferenceSetAttribute, preference.object, attribute, &value, sizeof value);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace_limit()));
    // Partial sums of a split K meet in the accumulator's type: never in the output's, never by atomics.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(p.alignment_b));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(p.alignment_a));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(p.alignment_c));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(p.alignment_c));
    std::array<cublasLtMatmulHeuristicResult_t, kTimedAlgorithms> found{};
    int count = 0;
    const cublasStatus_t status =
        lt().MatmulAlgoGetHeuristic(handle(), description.object, a.object, b.object, c.object, c.object,
                                    preference.object, autotune() ? kTimedAlgorithms : 1, found.data(), &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return;
    check(status, "cublasLtMatmulAlgoGetHeuristic");
    for (int i = 0; i < count; i++)
        if (found[static_cast<size_t>(i)].state == CUBLAS_STATUS_SUCCESS)
            algorithms.push_back(found[static_cast<size_t>(i)]);
}

void Plan::run(const cublasLtMatmulHeuristicResult_t& algorithm, const void* a_data, const void* b_data, void* c_data,
               void* vector, double alpha) const {
    if (vector)
        LT_CHECK(MatmulDescSetAttribute, description.object, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &vector, sizeof vector);
    const uint16_t one_half = 0x3c00, zero_half = 0;
    const float factor = static_cast<float>(alpha), zero = 0.0f;
    const bool halves = compute == CUBLAS_COMPUTE_16F;
    LT_CHECK(Matmul, handle(), description.object, halves ? static_cast<const void*>(&one_half) : &factor, b_data,
             a.object, a_data, b.object, halves ? static_cast<const void*>(&zero_half) : &zero, c_data, c.object,
             c_data, c.object, &algorithm.algo, library_workspace(algorithm.workspaceSize), algorithm.workspaceSize,
             current_stream());
}

struct Cache {
    std::mutex guard;  // also over the run: the description holds the vector's pointer
    std::map<Key, std::unique_ptr<Plan> > plans;
    std::set<Key> refused;
    std::vector<std::string> implementations;
};

Cache& cache() {
    static Cache* const instance = new Cache;  // outlives the library's own statics
    return *instance;
}

std::string describe(const Product& p, const cublasLtMatmulHeuristicResult_t& chosen) {
    int32_t id = -1, split = 1;
    uint32_t scheme = 0;
    size_t written = 0;
    const auto read = [&](cublasLtMatmulAlgoConfigAttributes_t attribute, auto& value) {
        lt().MatmulAlgoConfigGetAttribute(&chosen.algo, attribute, &value, sizeof value, &written);
    };
    read(CUBLASLT_ALGO_CONFIG_ID, id);
    read(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, split);
    read(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, scheme);
    return p.describe() + ": algorithm " + std::to_string(id) + ", K split " + std::to_string(std::max(split, 1)) +
           (scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE ? " and added in the accumulator" : "") + ", workspace " +
           std::to_string(chosen.workspaceSize);
}

// Null where the library offers no algorithm.
std::unique_ptr<Plan> make_plan(const Product& p, const void* a, const void* b, void* c, void* vector, double alpha) {
    auto plan = std::make_unique<Plan>(p, vector);
    auto& algorithms = plan->algorithms;
    if (algorithms.empty()) return nullptr;
    if (algorithms.size() > 1 && !capturing()) {
        const int best = quickest(static_cast<int>(algorithms.size()), [&](int i) {
            plan->run(algorithms[static_cast<size_t>(i)], a, b, c, vector, alpha);
        });
        std::swap(algorithms[0], algorithms[static_cast<size_t>(best)]);
    }
    algorithms.resize(1);
    return plan;
}

// Runs a product; false where the library offers no algorithm for it, or refuses an optional one.
bool multiply(const Product& p, const void* a, const void* b, void* c, void* vector, double alpha = 1.0) {
    Cache& cached = cache();
    const Key key = p.key();
    const std::lock_guard<std::mutex> lock(cached.guard);
    if (cached.refused.count(key)) return false;
    try {
        std::unique_ptr<Plan>& plan = cached.plans[key];
        const bool known = plan != nullptr;
        if (!known) plan = make_plan(p, a, b, c, vector, alpha);
        if (plan) {
            plan->run(plan->algorithms[0], a, b, c, vector, alpha);
            if (!known) cached.implementations.push_back(describe(p, plan->algorithms[0]));
            return true;
        }
    } catch (const Refused&) {
        if (!p.optional()) throw;
    }
    cached.refused.insert(key);
    return false;
}

void multiply_or_fail(const Product& p, const void* a, const void* b, void* c, void* vector, double alpha = 1.0) {
    expect(multiply(p, a, b, c, vector, alpha), "matmul: cuBLASLt has no algorithm for " + p.describe());
}

// The sum over no terms: 0, or the bias.
void empty_sum(const ArrayView& bias, const ArrayView& c) {
    FP16_CHECK(cudaMemsetAsync(c.data, 0, static_cast<size_t>(c.size() * item_size(c.dtype)), current_stream()));
    if (bias) binary("add", c, bias, c);
}

}  // namespace

// --- operations -----------------------------------------------------------------------------------------------------

void matmul(const ArrayView& a, const ArrayView& b, const ArrayView& bias, const ArrayView& c, bool transpose_a,
            bool transpose_b, bool half_accumulator, bool tf32) {
    const int64_t M = a.dim(transpose_a ? -1 : -2), K = a.dim(transpose_a ? -2 : -1);
    const int64_t N = b.dim(transpose_b ? -2 : -1);
    const Compute compute = compute_type(a.dtype, half_accumulator, tf32);
    if (c.size() == 0) return;
    if (K == 0) return empty_sum(bias, c);
    const Product p = {c.size() / (M * N),
                       M,
                       N,
                       K,
                       transpose_a,
                       transpose_b,
                       a.dtype,
                       compute,
                       bias ? Vector::bias : Vector::none,
                       alignment(a.data),
                       alignment(b.data),
                       alignment(c.data),
                       alignment(bias.data)};
    multiply_or_fail(p, a.data, b.data, c.data, bias.data);
}

void scaled_product(const ArrayView& a, const ArrayView& b, const ArrayView& c, double scale, bool half_accumulator,
                    bool tf32) {
    const int64_t M = a.dim(-2), K = a.dim(-1), N = b.dim(-1);
    const Compute compute = compute_type(a.dtype, half_accumulator, tf32);
    if (c.size() == 0) return;
    const int64_t batch = c.size() / (M * N);
    if (K == 0) return empty_sum({}, c);
    const Product p = {batch,
                       M,
                       N,
                       K,
                       false,
                       false,
                       a.dtype,
                       compute,
                       Vector::none,
                       alignment(a.data),
                       alignment(b.data),
                       alignment(c.data),
                       alignment(nullptr)};
    // A binary16 product takes its factor in binary16, where 8^-0.5 is not a number: the sum is stored and then scaled.
    if (compute == Compute::float16) {
        multiply_or_fail(p, a.data, b.data, c.data, nullptr);
        binary_number("mul", c, scale, false, c);
    } else {
        multiply_or_fail(p, a.data, b.data, c.data, nullptr, scale);
    }
}

void linear_weight_gradient(const ArrayView& x, const ArrayView& dy, const ArrayView& dw, const ArrayView& db,
                            bool half_accumulator, bool tf32) {
    const int64_t rows = x.shape[0], inputs = x.shape[1], outputs = dy.shape[1];
    const Compute compute = compute_type(x.dtype, half_accumulator, tf32);
    if (db) {
        // One pass over dy for both. Binary16 sums keep the documented order of our own kernel, and no sum but a dot
        // product's may round its terms to TF32.
        const Product both = {1,
                              outputs,
                              inputs,
                              rows,
                              true,
                              false,
                              x.dtype,
                              compute,
                              Vector::row_sums_of_a,
                              alignment(dy.data),
                              alignment(x.data),
                              alignment(dw.data),
                              alignment(db.data)};
        if (compute == Compute::float32 && rows > 0 && dw.size() > 0 &&
            multiply(both, dy.data, x.data, dw.data, db.data))
            return;
        if (db.size() > 0) reduce("sum", dy, db, 1, rows, outputs, half_accumulator);
    }
    matmul(dy, x, {}, dw, true, false, half_accumulator, tf32);
}

std::vector<std::string> matmul_implementations() {
    const std::lock_guard<std::mutex> lock(cache().guard);
    return cache().implementations;
}

// cuBLAS counts its minor version in hundreds: 13.0.2 is 130002.
size_t cublaslt_version() { return lt().GetVersion(); }

}  // namespace fp16engine::gpu
