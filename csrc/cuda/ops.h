// Every hand-written operation of the GPU backend, on the GPU and in the simulator: those of every module, and what
// only a GPU needs. Matrix products and convolutions are the libraries'.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "common/array_view.h"
#include "common/weight_update.h"

namespace fp16engine::gpu {

#include "common/shared_ops.h"

// dropout in a captured step: offset counts from the control block's. Absent: from 0.
void dropout_counted(const ArrayView& x, const ArrayView& y, double p, uint64_t seed, uint64_t offset,
                     const ArrayView& control);
// quantize, likewise
void quantize_counted(const ArrayView& x, const ArrayView& y, int64_t outer, int64_t length, int64_t inner,
                      int64_t block_length, int64_t block_inner, int64_t mantissa, int64_t exponent_bits,
                      bool stochastic, uint64_t seed, uint64_t offset, const ArrayView& control);

// q y (B, H, Sq, D), k v (B, H, Sk, D), probs (B, H, Sq, Sk): softmax(fl(q * D ** -0.5) @ k^T) @ v with scores and
// probs rounded as stored; causal: query i sees the keys j <= i; lengths int64 (B,), or none: item b has the keys
// j < lengths[b]. Sq, Sk and D are at most 128. q y (B, Sq, H * D), k v (B, Sk, H * D): heads side by side.
// k and v, and their gradients, are absent where q is (B, S, 3 * H * D): queries, keys and values side by side.
void attention_forward(const ArrayView& q, const ArrayView& k, const ArrayView& v, const ArrayView& y,
                       const ArrayView& probs, bool causal, const ArrayView& lengths, bool half_accumulator);
void attention_backward(const ArrayView& q, const ArrayView& k, const ArrayView& v, const ArrayView& probs,
                        const ArrayView& dy, const ArrayView& dq, const ArrayView& dk, const ArrayView& dv,
                        bool half_accumulator);
// As batch_norm_forward and batch_norm_backward of s (..., C), which is x and joined side by side along the channels:
// forward stores it, backward parts its gradient into dx and djoined. Float32 sums.
void batch_norm_of_cat_forward(const ArrayView& x, const ArrayView& joined, const ArrayView& gamma,
                               const ArrayView& beta, const ArrayView& running_mean, const ArrayView& running_var,
                               const ArrayView& updates, const ArrayView& rest, const ArrayView& s, const ArrayView& y,
                               const ArrayView& mean, const ArrayView& inv_std, double momentum, double eps,
                               const std::string& activation);
void batch_norm_of_cat_backward(const ArrayView& s, const ArrayView& gamma, const ArrayView& beta,
                                const ArrayView& mean, const ArrayView& inv_std, const ArrayView& dy,
                                const ArrayView& pending_grad, const ArrayView& dx, const ArrayView& djoined,
                                const ArrayView& dgamma, const ArrayView& dbeta, const std::string& activation);
// dx = dy where y > 0, else 0, and db (C,) its sums over all axes but the last, in float32.
void relu_bias_backward(const ArrayView& y, const ArrayView& dy, const ArrayView& dx, const ArrayView& db);
// dx = (dy where y > 0, else 0) + pending_grad
void relu_add_backward(const ArrayView& y, const ArrayView& dy, const ArrayView& pending_grad, const ArrayView& dx);
// Convolutions with one input channel per group: groups == C, w (K, R, S, 1), K a multiple of C; the rest as conv2d of
// cpu/ops.h.
void depthwise_forward(const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y,
                       int64_t stride_h, int64_t stride_w, const Pads& pads, int64_t groups, bool half_accumulator);
void depthwise_backward(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx,
                        const ArrayView& dw, const ArrayView& db, int64_t stride_h, int64_t stride_w, const Pads& pads,
                        int64_t groups, bool half_accumulator);
// Products and convolutions of float16 arrays with binary16 accumulators, in the documented order, bit for bit: the
// arguments of matmul and of conv2d in products.h, all of whose sums are a library's. c = fl(sum * scale), or fl(sum +
// bias). accumulator: 1, or n > 1 for binary16 within chunks of n terms whose sums are added in float32.
void strict_matmul(const ArrayView& a, const ArrayView& b, const ArrayView& bias, const ArrayView& c, bool transpose_a,
                   bool transpose_b, double scale, int64_t accumulator);
void strict_conv2d_forward(const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y,
                           int64_t stride_h, int64_t stride_w, const Pads& pads, int64_t groups, int64_t accumulator);
void strict_conv2d_backward(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx,
                            const ArrayView& dw, const ArrayView& db, int64_t stride_h, int64_t stride_w,
                            const Pads& pads, int64_t groups, int64_t accumulator);
// flag int32 (): 1 if an array holds an infinity or a NaN, else 0; all_finite is the same, read back to the host.
void nonfinite(const std::vector<ArrayView>& arrays, const ArrayView& flag);

// Copies between any two arrays of one shape and item size (1, 2, 4 or 8 bytes), strides in bytes, 0 to repeat.
void move(uintptr_t source, uintptr_t target, int64_t item, const std::vector<int64_t>& shape,
          const std::vector<int64_t>& source_strides, const std::vector<int64_t>& target_strides);
// Every element of x becomes the value whose bits are the lowest of `bits`.
void fill(const ArrayView& x, uint64_t bits);

// What a captured step does in addition to its network (kernels/control.cuh). control uint8 (sizeof StepControl,),
// scalars uint8 (sizeof StepScalars,), table uint8 (rows * sizeof StepScalars,), loss () in its storage type. indices
// int64 (n,): the batch's part of order int64 (count,)
void batch_indices(const ArrayView& control, const ArrayView& order, const ArrayView& indices);
// dy () = the loss scale
void loss_seed(const ArrayView& control, const ArrayView& dy);
// logits (N, K), labels int64 (N,)
void count_correct(const ArrayView& logits, const ArrayView& labels, const ArrayView& control);
// The highest of the ranks (from 1) whose array is not finite: gradients where the loss is finite, else the origins.
void rank_nonfinite(const std::vector<ArrayView>& arrays, const std::vector<int64_t>& ranks, const ArrayView& loss,
                    bool origin, const ArrayView& control);
// norm float32 (2,), of the gradients as global_norm leaves it, which clips them to `most`; or none
void decide_step(const ArrayView& control, const ArrayView& loss, const ArrayView& norm, double max_norm,
                 const ArrayView& table, const ArrayView& scalars);
// arrays = values, only where the step is applied, or only where it is not
void replace(const std::vector<ArrayView>& arrays, const std::vector<ArrayView>& values, const ArrayView& scalars,
             bool applied);
// counts int64 (steps, 47): to the row of the step is added what range_statistics counts in all arrays together, if
// the loss scale is measured in this step; it is zeros before
void measure_gradients(const std::vector<ArrayView>& arrays, const ArrayView& control, const ArrayView& counts);
// results int32 (rows, 4), counts int64 (rows, 47) where the scale is automatic, or none; the rest is StepPolicy
void advance_step(const ArrayView& control, const ArrayView& loss, const ArrayView& results, const ArrayView& counts,
                  double growth, double backoff, double floor, double cap, int64_t interval, int64_t patience,
                  int64_t max_bad_steps, int64_t dropout, int64_t forward_dropout, bool scaled, bool dynamic,
                  bool automatic, int64_t settling, int64_t every, int64_t top);

}  // namespace fp16engine::gpu
