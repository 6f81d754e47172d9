#include "testing/fake_cuda/fake_matmul.h"

#include "common/half.h"

namespace fp16engine::fake {
namespace {

float read(const void* data, cudaDataType_t type, int64_t i) {
    return type == CUDA_R_16F ? to_float(static_cast<const half*>(data)[i]) : static_cast<const float*>(data)[i];
}

void write(void* data, cudaDataType_t type, int64_t i, float value) {
    if (type == CUDA_R_16F)
        static_cast<half*>(data)[i] = to_half(value);
    else
        static_cast<float*>(data)[i] = value;
}

float stored(cudaDataType_t type, float value) { return type == CUDA_R_16F ? to_float(to_half(value)) : value; }

// A factor as the tensor core reads it: TF32 has ten bits, rounded to nearest, ties away as cvt.rna does.
float factor(cublasComputeType_t compute, float value) {
    if (compute != CUBLAS_COMPUTE_32F_FAST_TF32) return value;
    const uint32_t bits = float_bits(value);
    return (bits & 0x7f800000u) == 0x7f800000u ? value : bits_float((bits + 0x1000u) & ~0x1fffu);
}

int64_t place(const FakeLayout& m, int64_t row, int64_t column, int64_t batch) {
    return batch * m.batch_stride + column * m.leading + row;
}

}  // namespace

void multiply(const FakeProduct& p, const FakeSummation& sums, const void* a, const void* b, void* d, void* vector,
              float alpha) {
    constexpr int kLanes = 8;  // partial sums, as a library's are many; in binary16 one, rounded after every product
    const bool halves = p.compute == CUBLAS_COMPUTE_16F;
    const cudaDataType_t accumulator = halves ? CUDA_R_16F : CUDA_R_32F;
    const int64_t part = (p.K() + sums.split - 1) / sums.split;
    const auto of_b = [&](int64_t k, int64_t n, int64_t batch) {
        return read(b, p.b.type, p.transpose_b ? place(p.b, n, k, batch) : place(p.b, k, n, batch));
    };
    for (int64_t batch = 0; batch < p.d.batch; batch++)
        for (int64_t n = 0; n < p.N(); n++)
            for (int64_t m = 0; m < p.M(); m++) {
                float total = 0.0f;
                for (int64_t begin = 0; begin < p.K(); begin += part) {
                    float lanes[kLanes] = {};
                    for (int64_t k = begin; k < p.K() && k < begin + part; k++) {
                        const float x =
                            read(a, p.a.type, p.transpose_a ? place(p.a, k, m, batch) : place(p.a, m, k, batch));
                        float& sum = lanes[halves ? 0 : k % kLanes];
                        sum = stored(accumulator, sum + factor(p.compute, x) * factor(p.compute, of_b(k, n, batch)));
                    }
                    float sum = 0.0f;
                    for (const float lane : lanes) sum += lane;
                    total = stored(accumulator, total + (sums.parts_in_output_type ? stored(p.d.type, sum) : sum));
                }
                total = stored(accumulator, alpha * total);
                if (p.epilogue == CUBLASLT_EPILOGUE_BIAS) total += read(vector, p.d.type, m);
                write(d, p.d.type, place(p.d, m, n, batch), total);
            }
    if (p.epilogue != CUBLASLT_EPILOGUE_BGRADB) return;
    for (int64_t n = 0; n < p.N(); n++) {
        float sum = 0.0f;
        for (int64_t k = 0; k < p.K(); k++) sum += of_b(k, n, 0);
        write(vector, p.d.type, n, sum);
    }
}

}  // namespace fp16engine::fake
