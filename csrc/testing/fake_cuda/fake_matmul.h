// What the fake cuBLASLt knows of a product, in cuBLASLt's column-major terms, and its arithmetic on the host.
#pragma once
#include <cublasLt.h>

#include <cstddef>
#include <cstdint>

namespace fp16engine::fake {

struct FakeLayout {
    cudaDataType_t type;
    int64_t rows, columns, leading;
    int32_t batch = 1;
    int64_t batch_stride = 0;

    bool operator==(const FakeLayout& o) const {
        return type == o.type && rows == o.rows && columns == o.columns && leading == o.leading && batch == o.batch &&
               batch_stride == o.batch_stride;
    }
};

struct FakeProduct {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    bool transpose_a, transpose_b;
    uint32_t epilogue;
    FakeLayout a, b, c, d;

    int64_t M() const { return d.rows; }
    int64_t N() const { return d.columns; }
    int64_t K() const { return transpose_a ? a.rows : a.columns; }
    bool operator==(const FakeProduct& o) const {
        return compute == o.compute && scale == o.scale && transpose_a == o.transpose_a &&
               transpose_b == o.transpose_b && epilogue == o.epilogue && a == o.a && b == o.b && c == o.c && d == o.d;
    }
};

// How a product is summed: K in `split` parts, each in the accumulator; the parts are added in the accumulator, or
// rounded to the output's type first (OUTPUT_TYPE), which is what our policies forbid.
struct FakeSummation {
    int64_t split = 1;
    bool parts_in_output_type = false;
};

// d = alpha op(a) op(b) [+ vector], or with BGRADB vector = the sums of op(b) over K.
void multiply(const FakeProduct& p, const FakeSummation& sums, const void* a, const void* b, void* d, void* vector,
              float alpha);

}  // namespace fp16engine::fake
