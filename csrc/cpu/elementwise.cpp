// Elementwise functions: broadcasting is reduced to rows over which each operand either runs along or stands still, and
// the rows are spread over the threads.
#include <algorithm>
#include <limits>
#include <string>
#include <type_traits>

#include "cpu/gelu_table.h"
#include "cpu/ops.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements per task: 64 KiB of binary16, a small part of the second-level cache

Binary binary_named(const std::string& op) {
    const char* const names[] = {"add", "sub", "mul", "div"};
    for (int i = 0; i < 4; i++)
        if (op == names[i]) return static_cast<Binary>(i);
    fail("op must be add, sub, mul or div, got '" + op + "'");
}

Unary unary_named(const std::string& op) {
    const char* const names[] = {"relu", "relu6", "gelu", "tanh", "exp", "log", "sqrt", "neg"};
    for (int i = 0; i < 8; i++)
        if (op == names[i]) return static_cast<Unary>(i);
    fail("op must be relu, relu6, gelu, tanh, exp, log, sqrt or neg, got '" + op + "'");
}

// The axes of the result of a broadcast, those that both operands walk alike merged into one, innermost first.
struct Walk {
    int ndim = 0;
    int64_t extent[kMaxDims + 1], a[kMaxDims + 1],
        b[kMaxDims + 1];  // strides in elements, 0 where an operand is repeated

    Walk(const ArrayView& left, const ArrayView& right, const ArrayView& y) {
        int64_t a_step = 1, b_step = 1;
        for (int back = 1; back <= y.ndim; back++) {
            const int64_t n = y.dim(-back);
            const int64_t a_extent = back <= left.ndim ? left.dim(-back) : 1,
                          b_extent = back <= right.ndim ? right.dim(-back) : 1;
            if ((a_extent != n && a_extent != 1) || (b_extent != n && b_extent != 1) ||
                (a_extent != n && b_extent != n))
                fail("a, b must be shapes that broadcast to " + y.describe() + ", got " + left.describe() + " and " +
                     right.describe());
            if (n != 1) push(n, a_extent == 1 ? 0 : a_step, b_extent == 1 ? 0 : b_step);
            a_step *= a_extent;
            b_step *= b_extent;
        }
        if (ndim == 0) push(1, 1, 1);
        if (ndim == 1) push(1, 0, 0);
    }

private:
    void push(int64_t n, int64_t a_stride, int64_t b_stride) {
        const int last = ndim - 1;
        if (ndim && a_stride == a[last] * extent[last] && b_stride == b[last] * extent[last]) {
            extent[last] *= n;
            return;
        }
        extent[ndim] = n;
        a[ndim] = a_stride;
        b[ndim] = b_stride;
        ndim++;
    }
};

// `a` and `b` hold the data pointers of the first row.
template <class T>
void run(Binary op, const Walk& walk, Operand<T> a, Operand<T> b, T* y) {
    const int64_t columns = walk.extent[0], inner = walk.extent[1];
    int64_t rows = 1;
    for (int d = 1; d < walk.ndim; d++) rows *= walk.extent[d];
    if (!rows || !columns) return;
    const int64_t chunk = std::min(columns, kGrain), chunks = (columns + chunk - 1) / chunk;
    const int64_t rows_per_task = std::max<int64_t>(1, kGrain / chunk),
                  row_tasks = (rows + rows_per_task - 1) / rows_per_task;
    a.row = a.data ? walk.a[1] : 0;
    b.row = b.data ? walk.b[1] : 0;
    a.varies = a.data && walk.a[0];
    b.varies = b.data && walk.b[0];
    parallel_for(row_tasks * chunks, [&](int64_t task, int) {
        const int64_t first = task / chunks * rows_per_task, last = std::min(rows, first + rows_per_task);
        const int64_t column = task % chunks * chunk, n = std::min(chunk, columns - column);
        // The rows of one task are contiguous in y: either chunks is 1, or there is one row.
        for (int64_t r = first; r < last;) {
            const int64_t count = std::min(last - r, inner - r % inner);
            int64_t a_offset = column * walk.a[0] + r % inner * walk.a[1],
                    b_offset = column * walk.b[0] + r % inner * walk.b[1];
            for (int64_t outer = r / inner, d = 2; d < walk.ndim; outer /= walk.extent[d], d++) {
                a_offset += outer % walk.extent[d] * walk.a[d];
                b_offset += outer % walk.extent[d] * walk.b[d];
            }
            Operand<T> left = a, right = b;
            if (a.data) left.data += a_offset;
            if (b.data) right.data += b_offset;
            kernels().elementwise(T{}).binary(op, left, right, count, n, y + r * columns + column);
            r += count;
        }
    });
}

}  // namespace

void binary(const std::string& op, const ArrayView& a, const ArrayView& b, const ArrayView& y) {
    const Binary code = binary_named(op);
    const Walk walk(a, b, y);
    with_storage("a", y.dtype, [&](auto type) {
        using T = decltype(type);
        run<T>(code, walk, {a.as<T>()}, {b.as<T>()}, y.as<T>());
    });
}

void binary_number(const std::string& op, const ArrayView& x, double number, bool number_first, const ArrayView& y) {
    const Binary code = binary_named(op);
    const Walk walk(x, x, y);
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const Operand<T> array = {x.as<T>()}, constant = {nullptr, static_cast<float>(number)};
        run<T>(code, walk, number_first ? constant : array, number_first ? array : constant, y.as<T>());
    });
}

// Whether an array is large enough for a table of all halves to pay; the bits are the same.
static bool by_table(Unary op, const ArrayView& x) { return op == Unary::gelu && x.size() >= 1 << 12; }

void unary(const std::string& op, const ArrayView& x, const ArrayView& y) {
    const Unary code = unary_named(op);
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        parallel_slices(x.size(), kGrain, [&](int64_t begin, int64_t end) {
            if constexpr (std::is_same_v<T, half>)
                if (by_table(code, x)) return gelu_by_table(x.as<T>() + begin, y.as<T>() + begin, end - begin);
            kernels().elementwise(T{}).unary(code, x.as<T>() + begin, y.as<T>() + begin, end - begin);
        });
    });
}

void unary_backward(const std::string& op, const ArrayView& saved, const ArrayView& dy, const ArrayView& dx) {
    const Unary code = unary_named(op);
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        parallel_slices(dy.size(), kGrain, [&](int64_t begin, int64_t end) {
            if constexpr (std::is_same_v<T, half>)
                if (by_table(code, dy))
                    return gelu_backward_by_table(saved.as<T>() + begin, dy.as<T>() + begin, dx.as<T>() + begin,
                                                  end - begin);
            kernels().elementwise(T{}).unary_backward(code, saved.as<T>() + begin, dy.as<T>() + begin,
                                                      dx.as<T>() + begin, end - begin);
        });
    });
}

void power(const ArrayView& x, double exponent, const ArrayView& y) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        parallel_slices(x.size(), kGrain, [&](int64_t begin, int64_t end) {
            kernels().elementwise(T{}).powers(x.as<T>() + begin, static_cast<float>(exponent), y.as<T>() + begin,
                                              end - begin);
        });
    });
}

namespace {

// Each of the two is exact in float, so there is one rounding.
template <class From, class To>
void cast_by_float(const From* x, To* y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = from_float<To>(to_float(x[i]));
}

void cast_slice(const half* x, float* y, int64_t n) { kernels().convert.half_to_float(x, y, n); }
void cast_slice(const float* x, half* y, int64_t n) { kernels().convert.float_to_half(x, y, n); }
void cast_slice(const bfloat16* x, float* y, int64_t n) { kernels().convert.bfloat16_to_float(x, y, n); }
void cast_slice(const float* x, bfloat16* y, int64_t n) { kernels().convert.float_to_bfloat16(x, y, n); }
void cast_slice(const half* x, bfloat16* y, int64_t n) { cast_by_float(x, y, n); }
void cast_slice(const bfloat16* x, half* y, int64_t n) { cast_by_float(x, y, n); }
template <class T>
void cast_slice(const T* x, T* y, int64_t n) {
    std::copy(x, x + n, y);
}
// By way of float, as NumPy does: an integer that float cannot hold lies beyond binary16 anyway.
template <class Integer, class T>
void cast_slice(const Integer* x, T* y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = from_float<T>(static_cast<float>(x[i]));
}

template <class From>
void cast_from(const ArrayView& x, const ArrayView& y) {
    with_storage("y", y.dtype, [&](auto type) {
        using To = decltype(type);
        parallel_slices(x.size(), kGrain, [&](int64_t begin, int64_t end) {
            cast_slice(x.as<From>() + begin, y.as<To>() + begin, end - begin);
        });
    });
}

}  // namespace

void cast(const ArrayView& x, const ArrayView& y) {
    switch (x.dtype) {
        case DType::float16:
            return cast_from<half>(x, y);
        case DType::bfloat16:
            return cast_from<bfloat16>(x, y);
        case DType::float32:
            return cast_from<float>(x, y);
        case DType::uint8:
            return cast_from<uint8_t>(x, y);
        case DType::int32:
            return cast_from<int32_t>(x, y);
        case DType::int64:
            return cast_from<int64_t>(x, y);
    }
}

}  // namespace fp16engine::cpu
