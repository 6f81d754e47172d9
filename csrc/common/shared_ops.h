// The operations that every compiled module has, on whatever device. Each module's ops.h includes this file inside its
// own namespace, so it has no include guard. Outputs are given by the caller and overwritten; arguments: inputs,
// outputs, sizes, policy. `half_accumulator`: true when the policy accumulates in binary16 (fp16-strict), false for
// float32 accumulators. bindings/check_*.h checks dtypes, shapes and overlaps before an operation is called.

using Pads = std::vector<int64_t>;  // top, bottom, left, right

// x y dx dy (..., C); the per-channel vectors (C,) are all of one dtype, the statistics' one. Of the shape of x, where
// they are not absent: `addend`, for which sum = fl(x + addend) is written and normalised, and `residual`, which is
// added to what was normalised. `activation`: none, relu or relu6.
void batch_norm_forward(const ArrayView& x, const ArrayView& addend, const ArrayView& gamma, const ArrayView& beta,
                        const ArrayView& running_mean, const ArrayView& running_var, const ArrayView& updates,
                        const ArrayView& rest, const ArrayView& residual, const ArrayView& sum, const ArrayView& y,
                        const ArrayView& mean, const ArrayView& inv_std, double momentum, double eps,
                        const std::string& activation, bool half_accumulator);
void batch_norm_inference(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta,
                          const ArrayView& running_mean, const ArrayView& running_var, const ArrayView& residual,
                          const ArrayView& y, double eps, const std::string& activation, bool deviation);
// Absent or not: y, by which dy is masked into dr, both present or neither;
// `pending_grad`, which is added to dx; db (C,) in the dtype of x, the sums of dx over its rows.
void batch_norm_backward(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta, const ArrayView& mean,
                         const ArrayView& inv_std, const ArrayView& y, const ArrayView& dy,
                         const ArrayView& pending_grad, const ArrayView& dx, const ArrayView& dgamma,
                         const ArrayView& dbeta, const ArrayView& dr, const ArrayView& db,
                         const std::string& activation, bool half_accumulator);

// y = a op b with broadcasting; op: add, sub, mul, div. With a number, it is a float32 register.
void binary(const std::string& op, const ArrayView& a, const ArrayView& b, const ArrayView& y);
void binary_number(const std::string& op, const ArrayView& x, double number, bool number_first, const ArrayView& y);
// op: relu, relu6, gelu, tanh, exp, log, sqrt, neg; saved: x of gelu and log, y of the others, anything of neg
void unary(const std::string& op, const ArrayView& x, const ArrayView& y);
void unary_backward(const std::string& op, const ArrayView& saved, const ArrayView& dy, const ArrayView& dx);
void power(const ArrayView& x, double exponent, const ArrayView& y);
// float16 and float32 to each other, integers to both
void cast(const ArrayView& x, const ArrayView& y);

// y (outer, 1, inner) of x (outer, terms, inner); op: sum, mean, max
void reduce(const std::string& op, const ArrayView& x, const ArrayView& y, int64_t outer, int64_t terms, int64_t inner,
            bool half_accumulator);
void max_backward(const ArrayView& x, const ArrayView& y, const ArrayView& dy, const ArrayView& dx, int64_t outer,
                  int64_t terms, int64_t inner);

// x (..., K), gamma and beta (K,), mean and inv_std one value per row; the last five in the statistics' dtype.
void layer_norm_forward(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta, const ArrayView& y,
                        const ArrayView& mean, const ArrayView& inv_std, double eps, bool half_accumulator);
void layer_norm_backward(const ArrayView& x, const ArrayView& gamma, const ArrayView& mean, const ArrayView& inv_std,
                         const ArrayView& dy, const ArrayView& dx, const ArrayView& dgamma, const ArrayView& dbeta,
                         bool half_accumulator);

// Along the last axis. causal_rows > 0: row r reads its first r % causal_rows + 1 values only, the others give 0.
// lengths int64 (B,), or none: the rows are B equal runs, and those of run b read their first lengths[b] values at
// most; a row that reads nothing gives 0.
void softmax(const ArrayView& x, const ArrayView& y, int64_t causal_rows, const ArrayView& lengths,
             bool half_accumulator);
void softmax_backward(const ArrayView& y, const ArrayView& dy, const ArrayView& dx, bool half_accumulator);
void log_softmax(const ArrayView& x, const ArrayView& y, bool half_accumulator);
void log_softmax_backward(const ArrayView& y, const ArrayView& dy, const ArrayView& dx, bool half_accumulator);
// logits (N, K), labels int64 (N,), loss and dy (); a negative label does not count; `smoothing` of a label is spread
// over all K classes
void cross_entropy_forward(const ArrayView& logits, const ArrayView& labels, const ArrayView& loss, double smoothing,
                           bool half_accumulator);
void cross_entropy_backward(const ArrayView& logits, const ArrayView& labels, const ArrayView& dy,
                            const ArrayView& dlogits, double smoothing, bool half_accumulator);

// x dx (N, H, W, C), y dy index (N, OH, OW, C); index uint8, 255 for a window without a pixel
void max_pool_forward(const ArrayView& x, const ArrayView& y, const ArrayView& index, int64_t kh, int64_t kw,
                      int64_t stride_h, int64_t stride_w, const Pads& pads);
void max_pool_backward(const ArrayView& index, const ArrayView& dy, const ArrayView& dx, int64_t kh, int64_t kw,
                       int64_t stride_h, int64_t stride_w, const Pads& pads, bool half_accumulator);
void avg_pool_forward(const ArrayView& x, const ArrayView& y, int64_t kh, int64_t kw, int64_t stride_h,
                      int64_t stride_w, const Pads& pads, bool half_accumulator);
void avg_pool_backward(const ArrayView& dy, const ArrayView& dx, int64_t kh, int64_t kw, int64_t stride_h,
                       int64_t stride_w, const Pads& pads, bool half_accumulator);

// y (n, ...) = the rows ids (n,) of table (R, ...)
void take_rows(const ArrayView& table, const ArrayView& ids, const ArrayView& y);
// dtable (R, ...) = 0, then dtable[ids[i]] += dy[i] for i = 0, 1, ...; partial sums in the accumulator's type
void scatter_rows(const ArrayView& ids, const ArrayView& dy, const ArrayView& dtable, bool half_accumulator);
// Philox4x32-10: key = seed, element i takes word i % 4 of counter offset + i / 4.
void dropout(const ArrayView& x, const ArrayView& y, double p, uint64_t seed, uint64_t offset);
// y (B, H, W, C) = the images index (B,) of data (R, H, W, C), augmented (common/augmentation.h). The epoch is the
// number in `clock`, int64 (), where that is given.
void augment(const ArrayView& data, const ArrayView& index, const ArrayView& clock, const ArrayView& y, uint64_t seed,
             int64_t epoch, bool flip_lr, bool flip_ud, double rotation, int64_t shift, double brightness, double low,
             double high, bool mirrored, double fill, bool alternating);

// Block floating point, x and y (outer, length, inner) in float32: a block is block_length x block_inner of the last
// two axes. Stochastic rounding takes word i % 4 of Philox4x32-10 at counter offset + i / 4 with key = seed.
void quantize(const ArrayView& x, const ArrayView& y, int64_t outer, int64_t length, int64_t inner,
              int64_t block_length, int64_t block_inner, int64_t mantissa, int64_t exponent_bits, bool stochastic,
              uint64_t seed, uint64_t offset);

// Optimizer steps in place on all tensors, of one dtype; no momenta: an empty list. `native`: the state of float16
// weights is kept as roots, rounded stochastically. eps comes as it is used, rounded or not.
void sgd(const WeightUpdate& update, const std::vector<ArrayView>& momenta, double momentum, bool nesterov);
void adam(const WeightUpdate& update, const std::vector<ArrayView>& m, const std::vector<ArrayView>& v, double beta1,
          double beta2, double eps, bool native, bool decoupled);
void rmsprop(const WeightUpdate& update, const std::vector<ArrayView>& v, const std::vector<ArrayView>& momenta,
             double alpha, double eps, double momentum, bool native);
bool all_finite(const std::vector<ArrayView>& arrays);

// norm float32 (2,): scale and root, whose product is the norm of all arrays together; their squares cannot overflow.
void global_norm(const std::vector<ArrayView>& arrays, const ArrayView& norm);
// In place: every array times most / norm where the norm, as global_norm left it, is larger than `most`.
void clip_to_norm(const std::vector<ArrayView>& arrays, const ArrayView& norm, double max_norm);
// counts int64 (arrays, 47): the columns of kernels/range_statistics.cuh
void range_statistics(const std::vector<ArrayView>& arrays, const ArrayView& counts);
