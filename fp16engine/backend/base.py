"""What every backend offers, and what each function rounds where.

A backend computes on arrays of its own kind; the functions take and return such arrays, in C order. Outputs
are new arrays unless a docstring says otherwise. Callers have validated shapes and dtypes.

Registers
    Arithmetic happens in FP32 registers, operation by operation in the order written here and without
    contraction into fused multiply-adds, and is rounded once, to nearest even, at the store: fl(.) below is
    that rounding to the dtype of the output. Python floats enter as binary32; an expression of Python floats
    alone, such as 1 - momentum, is evaluated in double first. float64 arrays (reference only) are computed
    wholly in float64, whatever `acc` says.

Accumulators
    `acc` is the type of the partial sums of dot products and reductions. "float32": they stay in FP32
    registers, in an order that is free but fixed for given inputs and independent of the number of threads.
    "float16": every partial sum is rounded to binary16, and the order is part of the definition, so that
    backends agree bit for bit:

    - Terms are taken in index order, in blocks of 32 consecutive terms; the last block may be shorter. A
      block is summed sequentially from +0.
    - Terms of a dot product are products of two stored values: s = fl16(s + a * b), product exact, one
      rounding.
    - Any other term t is a register or stored value: s = fl16(fl32(s + t)). For a binary16 t that is one
      rounding too.
    - Block sums are combined by a binary counter: two sums of the same level merge into the next level,
      fl16(older + newer), as soon as both are there; the sums left over are folded from the newest (lowest
      level) to the oldest, r = fl16(older + r). No term at all gives +0.

    Index order of a reduction is the C order of the reduced axes. Dot products: convolution forward (kh, kw,
    c), its data gradient (kh, kw, k), its weight gradient (n, oh, ow), matrix products k. Where a convolution
    reads outside the image, or its data gradient falls between strides, the term is 0 * w and takes its
    place in the blocking; with a float32 accumulator it may be left out, so that 0 * Inf there is
    undefined. Scatters (`index_add`, `embedding_backward`, the backward of pooling) add sequentially,
    without blocks.

    "float16:n" lies between: a dot product's terms are taken in index order in chunks of n, the last one may
    be shorter; each chunk is summed as above, s = fl16(s + a * b) sequentially from +0, and the chunks' sums
    are added in binary32, in order, from +0: that is the unrounded sum. Every other sum is a float32 one,
    bias gradients too.

    float16 and float16:n accumulators for float32 arrays raise UnsupportedPrecision. Dot products may get
    "tf32": float32 accumulators, and the device may round float32 factors to TF32; where it cannot, it raises
    the same.

Operands
    Dot products take their operands as stored, or, with `operand`, a `BlockFormat`, rounded to block floating
    point by `quantize`, each along the terms its product adds up; `blocks.py` says where the blocks lie.
    Sums of one array, such as bias gradients, are no dot products and take it as stored. Under stochastic
    rounding the arrays of a call take their random words one after the other: a then b of a matrix product,
    dx's product before dw's, images and gradients before weights in dx, images before gradients in dw; of
    attention the products in the order of its equations, dp, dq, dk, dv.

Optimizer steps
    Lists of arrays of one dtype, updated in place. g = grad * grad_scale; w is the master where there is one,
    else the parameter, and the parameter becomes fl(master). A weight decay of 0 adds no term. Every step
    subtracts a change u, a register, from w; state is rounded once, when stored. How a new w is stored:

    - to nearest: w = fl(w - u);
    - `stochastic`: binary16 w = fl_sr32(w - u), binary32 as to nearest; without masters;
    - `compensations` (one array like each w, zero at first; Kahan): d = c - u; w' = fl(w + d);
      c' = fl(d - (w' - w)), of binary16 fl_sr32((c - (w' - w)) - u). w + c is the weight to twice its digits,
      and right on the mean beyond them. Without masters.

    Stochastic rounding: fl_sr(x) of |x| < 65504 is one of the binary16 neighbours of x, a nearer to zero and
    b farther away, b where floor(f * 2^16) + r >= 2^16 with f = (x - a) / (b - a) and r of [0, 2^16), so that
    a value that is stored already stays and the mean is x to 2^-16 of the gap. From 65504 on, for infinities
    and NaN, it is fl(x). Element i in C order has half-word i % 8, low halves first, of the Philox4x32-10
    words with key = `scalars.seed` (64 bits, low word first) and counter = (i // 8, `scalars.step`, stream,
    index), and half-word i % 8 ^ 4 as its other one: stream 1 for w, 2 for a step's states, index the
    parameter's of `indices`. r is its own half-word for w and the first state, the other for the second. So
    the bits depend on the seed, the step and the element alone.

    fl_sr32(w - u) rounds the exact w - u, not its float32, by 32 bits: b where F + R >= 2^32 with F the
    integer position (x - a) / (b - a) * 2^32 (the part of x beyond its float32 digits is rounded to 2^-19 of
    a float32 gap, the rest is cut off), R = r * 2^16 + r' and r' the other half-word. The mean of an update
    is right to 2^-32 of the gap.

    `native` state of binary16 weights without masters is kept as roots: sign(m) * sqrt(|m|) of a signed
    average, v^(1/4) = sqrt(sqrt(v)) of one of squares, expanded as r * |r| and (r * r) * (r * r), and stored
    by fl_sr. Half the exponent is enough then: neither underflows or overflows where a gradient does not.

    `scalars`: a `StepScalars`, or an array uint8 (32,) of its packed bytes that the step reads when it runs;
    not applied, it changes nothing. `counts`, if given, int64 (parameters, 8), has the columns `COUNTS` added
    to: how many elements had a change to store (u != 0; lr * decay * w != 0, where the decay is no part of a
    normalised gradient, else not counted; a state's register differs from what is stored), and how many of
    them were lost: nothing stored would differ, whatever r.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from ..block_format import BlockFormat
from .blocks import Blocks
from .capabilities import Capabilities

Array: TypeAlias = Any  # each backend has its own array type
Shape: TypeAlias = tuple[int, ...]
Axes: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
Pads: TypeAlias = tuple[int, int, int, int]
Needs: TypeAlias = tuple[bool, bool, bool]


COUNTS = (
    "updates",
    "updates_lost",
    "decays",
    "decays_lost",
    "first",
    "first_lost",
    "second",
    "second_lost",
)


class StepScalars(NamedTuple):
    """What changes from one optimizer step to the next.

    Args:
        lr: learning rate, a binary32 register.
        grad_scale: factor on the gradients, 1 / loss scale, a binary32 register.
        correction1: Adam's 1 - beta1^step, a binary32 register.
        correction2: Adam's 1 - beta2^step, a binary32 register.
        seed: of stochastic rounding, in [0, 2^64).
        step: the step's number, from 1.
        applied: a step that is not applied changes nothing.

    >>> StepScalars.unpack(StepScalars(lr=0.5, step=3).pack()).step
    3
    """

    lr: float
    grad_scale: float = 1.0
    correction1: float = 1.0
    correction2: float = 1.0
    seed: int = 0
    step: int = 1
    applied: bool = True

    def pack(self) -> bytes:
        """Return the 32 bytes of the struct in csrc/common/step_scalars.h.

        >>> len(StepScalars(lr=0.5).pack())
        32
        """
        return struct.pack("<4fQII", *self)

    @classmethod
    def unpack(cls, data: bytes) -> StepScalars:
        """Return what was packed, its floats rounded to binary32.

        Args:
            data: 32 bytes that `pack` returned.

        Raises:
            struct.error: there are more or fewer bytes.

        >>> StepScalars.unpack(StepScalars(lr=0.1).pack()).lr
        0.10000000149011612
        """
        lr, grad_scale, correction1, correction2, seed, step, applied = struct.unpack("<4fQII", data)
        return cls(lr, grad_scale, correction1, correction2, seed, step, bool(applied))


class Backend(Protocol):
    """The functions of a backend, by family; see the module's text for registers and accumulators."""

    name: str
    capabilities: Capabilities
    recording: bool  # whether a step is being recorded, so that no value comes from the host or goes to it

    # Arrays

    def empty(self, shape: Shape, dtype: str) -> Array:
        """Return an array of `shape` whose values are arbitrary."""

    def zeros(self, shape: Shape, dtype: str) -> Array:
        """Return an array of `shape` full of +0."""

    def full(self, shape: Shape, value: float, dtype: str) -> Array:
        """Return an array of `shape` full of fl(value), rounded once from double."""

    def from_numpy(self, a: Any) -> Array:
        """Return a copy of the NumPy array `a` in C order, same dtype, not rounded."""

    def to_numpy(self, x: Array) -> Any:
        """Return `x` as a NumPy array, which may share memory with it."""

    def cast(self, x: Array, dtype: str) -> Array:
        """Return fl(x) in `dtype`, one rounding; beyond the largest finite value it is inf."""

    def copy(self, x: Array) -> Array:
        """Return a copy of `x`."""

    def all_finite(self, arrays: Sequence[Array]) -> bool:
        """Tell whether no element of `arrays` is inf or NaN."""

    def range_statistics(self, arrays: Sequence[Array]) -> Array:
        """Return int64 (len(arrays), 47): how many elements of each array lie where on binary16's number
        line.

        With h = fl16(x): columns 0 zeros (x = 0), 1 subnormals (0 < |h| < 2^-14), 2 near the largest number
        (32752 <= |h| < inf), 3 infinities and 4 NaN in x; then a histogram: 5 underflow (x != 0, h = 0),
        6 + e + 24 exponents e = -24 ... 15 (2^e <= |h| < 2^(e + 1)), 46 overflow (h infinite, x finite). The
        result stays on the device; nothing waits for it.
        """

    def memory(self) -> dict[str, int]:
        """Return bytes as {"current", "peak", "scratch"}: arrays alive, the most so far, and inner buffers.

        `current` and `peak` include `scratch`.
        """

    def reset_peak(self) -> None:
        """Let the peak restart from what is alive now."""

    # Shape

    def transpose(self, x: Array, axes: Axes) -> Array:
        """Return `x` with its axes permuted, laid out in C order."""

    def broadcast_to(self, x: Array, shape: Shape) -> Array:
        """Return `x` repeated to `shape` by NumPy's rules, laid out in C order."""

    def getitem(self, x: Array, index: Any) -> Array:
        """Return x[index] by NumPy's rules (integers, slices, None, ..., integer or boolean arrays), as a
        copy."""

    def index_add(self, shape: Shape, dtype: str, index: Any, dy: Array, acc: str) -> Array:
        """Return zeros of `shape` with `dy` added at `index`; repeated indices add up in the C order of
        `dy`."""

    def cat(self, xs: Sequence[Array], axis: int) -> Array:
        """Return the arrays `xs` joined along `axis`."""

    def pad2d(self, x: Array, pads: Pads) -> Array:
        """Return x (N, H, W, C) with `pads` = (top, bottom, left, right) rows and columns of +0 around each
        image."""

    def crop2d(self, x: Array, pads: Pads) -> Array:
        """Return x (N, H, W, C) without `pads` = (top, bottom, left, right) rows and columns: pad2d's
        gradient."""

    # Elementwise

    def binary(self, op: str, a: Array | float, b: Array | float) -> Array:
        """Return fl(a op b) with broadcasting; op is "add", "sub", "mul" or "div".

        `a` and `b` have the same dtype, or one of them is a Python float.
        """

    def power(self, x: Array, exponent: float) -> Array:
        """Return fl(x ** exponent)."""

    def unary(self, op: str, x: Array) -> Array:
        """Return fl(op(x)); op is "relu", "relu6", "gelu", "tanh", "exp", "log", "sqrt" or "neg".

        relu is +0 where x <= 0, else x, so NaN passes; relu6 is also 6 where x >= 6. gelu is x * Phi(x) with
        the normal distribution function Phi, accurate in its tail: erfc(-x / sqrt 2) / 2, not 1 + erf.
        """

    def unary_backward(self, op: str, x: Array | None, y: Array | None, dy: Array) -> Array:
        """Return fl(dy * op'(x)), same shape as `dy`.

        relu: dy where y > 0, else 0. relu6: dy where 0 < y < 6, else 0. tanh: dy * (1 - y * y). exp: dy * y.
        sqrt: (dy * 0.5) / y. log: dy / x. neg: -dy. gelu: dy * (Phi(x) + x * phi(x)).
        Only the named one of x and y is read; the other may be None.
        """

    def relu_add_backward(self, y: Array, dy: Array, pending_grad: Array) -> Array:
        """Return fl(unary_backward("relu") + pending_grad): the gradient of an array that a ReLU and another
        operation read, and `pending_grad`, same shape as `dy`, that of the other."""

    # Reductions

    def relu_bias_backward(self, y: Array, dy: Array, acc: str) -> tuple[Array, Array]:
        """Return dx = unary_backward("relu") and db (C,), `sum` of the stored dx over all axes but the last:
        the gradient of a bias that was added before the ReLU."""

    def sum(self, x: Array, axes: Axes, acc: str) -> Array:
        """Return fl(sum of x over `axes`), the reduced axes kept with size 1; `axes` is sorted."""

    def mean(self, x: Array, axes: Axes, acc: str) -> Array:
        """Return fl(s / n), s the unrounded sum over `axes` (kept with size 1) and n the number of its terms.

        acc="float16": s is halved at every merge of two block sums, so that it cannot overflow where s / n
        does not, and the powers of two are put back in a binary32 register.
        """

    def add_to_sum(self, total: Array | None, x: Array) -> Array:
        """Return fl32(total + x), float32, in the shape of both; x in float32 where total is None.

        The running sum of gradients over micro-batches, total float32 and x float16 or float32.
        """

    def mean_of_sum(self, total: Array, count: int, dtype: str) -> Array:
        """Return fl(total / count) in `dtype`, the quotient of the float32 `total` a register term."""

    def max(self, x: Array, axes: Axes) -> Array:
        """Return the largest value over `axes`, kept with size 1; NaN if there is one."""

    def max_backward(self, x: Array, y: Array, dy: Array, axes: Axes) -> Array:
        """Return dx (shape of x): fl(dy / n) at the n elements of x that hold the maximum y, else 0."""

    # Dot products

    def quantize(self, x: Array, blocks: Blocks, fmt: BlockFormat) -> Array:
        """Return float32 `x`, viewed as `blocks` says, in block floating point, as float32 of the same shape.

        Per block, with m = fmt.mantissa: e is the smallest integer with max|x| <= 2^e, clamped to
        fmt.exponents; y = sign(x) * min(round(|x| * 2^(m - e)), 2^m - 1) * 2^(e - m), all of it exact but
        round: to nearest even, or, stochastically, up where the fraction is above (2 * (word >> 9) + 1) *
        2^-24, element i (C order of x) taking word i % 4 of Philox4x32-10 as in dropout, seed and offset
        being fmt.draw. Signs are kept, of zeros too. inf and NaN stay as they are and have no part in e.
        """

    def matmul(
        self,
        a: Array,
        b: Array,
        transpose_a: bool,
        transpose_b: bool,
        acc: str,
        operand: BlockFormat | None = None,
    ) -> Array:
        """Return fl(a @ b), (..., M, K) @ (..., K, N) -> (..., M, N), batch sizes equal.

        With `transpose_a` (`transpose_b`) the array is stored (..., K, M) ((..., N, K)).
        """

    def linear_forward(
        self, x: Array, w: Array, b: Array | None, acc: str, operand: BlockFormat | None = None
    ) -> Array:
        """Return y = fl(x @ w.T + b): x (M, in), w (out, in), b (out,) -> (M, out).

        The unrounded sum takes the bias before the store; acc="float16": fl16(s + b) with s the binary16 sum.
        """

    def linear_backward(
        self, x: Array, w: Array, dy: Array, needs: Needs, acc: str, operand: BlockFormat | None = None
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Return dx = fl(dy @ w) (M, in), dw = fl(dy.T @ x) (out, in), db = fl(sum of dy) (out,).

        What `needs` says is not needed is None.
        """

    def conv2d_forward(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        stride: Pair,
        pads: Pads,
        groups: int,
        acc: str,
        operand: BlockFormat | None = None,
        algorithm: str = "direct",
    ) -> Array:
        """Return y (N, OH, OW, K) of x (N, H, W, C), w (K, kh, kw, C / groups), b (K,).

        y[n, i, j, k] = fl(sum over (kh, kw, c) of x[n, i * sh + kh - top, j * sw + kw - left, c] * w[k, kh,
        kw, c] + b[k]), zeros outside the image, OH = (H + top + bottom - kh) // sh + 1; the bias as in
        linear_forward. algorithm "winograd" is for 3x3 kernels at stride 1, one group, float32 accumulators
        and stored operands (reference/winograd.py); the same sums, rounded in other steps.
        """

    def conv2d_backward(
        self,
        x: Array,
        w: Array,
        dy: Array,
        stride: Pair,
        pads: Pads,
        groups: int,
        needs: Needs,
        acc: str,
        operand: BlockFormat | None = None,
        algorithm: str = "direct",
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Return dx (N, H, W, C), dw (K, kh, kw, C / groups), db (K,), each fl of its sum, or None if not
        needed."""

    # Normalisation

    def batch_norm_forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        momentum: float,
        eps: float,
        activation: str | None,
        acc: str,
        residual: Array | None = None,
        addend: Array | None = None,
        updates: Array | None = None,
        rest: Array | None = None,
        joined: Array | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:
        """Return y (shape of x), mean (C,), inv_std (C,) and the sum s of x (..., C), and update the running
        statistics in place.

        With an `addend` (shape of x), s = fl(x + addend) is stored and takes the place of x in all that
        follows; with more channels `joined` (..., D), s is x and those, (..., C + D); without, s is None.
        mean = sum(x) / M and var = sum(d * d) / M (biased) with d = x - mean, in registers, each d * d a
        register term, two passes or an equally stable merge, never E[x^2] - E[x]^2. acc="float16": x and d
        are multiplied by the power of two that puts the channel's largest |x| into [8, 16), so that no sum
        overflows; the mean is rounded to binary16 before anything uses it. The stored mean and inv_std = 1 /
        sqrt(var + eps) are rounded to gamma's dtype, and these rounded values give y: t = x - mean; t = t *
        inv_std; t = t * gamma; y = fl(t + beta), or, with a `residual` (shape of x), t = t + beta; y = fl(t +
        residual): one rounding for norm and addition. Then comes `activation`, "relu" or "relu6", as in
        `unary`.

        running = fl((1 - a) * running + a * batch), batch the register mean and var. a = 1 - momentum; or,
        with `updates` (1,), int64, which is first raised by one to t: a = max(1 - momentum, 10 / (t + 9)), or
        0 where momentum is 1, so that the average has no bias towards where it started. With `rest` (2, C),
        running_var holds standard deviations, whose squares are averaged, and the rounding error of mean
        and deviation is kept in the rows of rest: running + rest is what the next update starts from.
        """

    def batch_norm_inference(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        eps: float,
        activation: str | None,
        residual: Array | None = None,
        deviation: bool = False,
    ) -> Array:
        """Return y as batch_norm_forward from the running statistics; inv_std stays in registers, unrounded.

        deviation: running_var holds standard deviations.
        """

    def batch_norm_backward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        inv_std: Array,
        dy: Array,
        activation: str | None,
        acc: str,
        y: Array | None = None,
        pending_grad: Array | None = None,
        sums: bool = False,
        split: int | None = None,
    ) -> tuple[Array, Array, Array, Array | None, Array | None]:
        """Return dx (shape of x), dgamma (C,) and dbeta (C,) in gamma's dtype, the residual's gradient dr and
        the column sums db.

        With a `split`, without a residual, dx has its first so many channels alone, and dr the others.

        With an `activation`, y is recomputed, and its gradient as `unary_backward` has it takes the place of
        dy. `y` is given where it cannot be recomputed, after a residual and an activation: then that gradient
        is stored as dr (shape of x); else dr is None. xhat = (x - mean) * inv_std; dbeta = sum(dy); dgamma =
        sum(dy * xhat), the product a register term; dx = fl((gamma * inv_std) * ((dy - dbeta / M) - xhat *
        (dgamma / M))) from the sums as accumulated, unstored; with `pending_grad`, another gradient of x (its
        shape), dx = fl(that + pending_grad), one rounding for both. With `sums`, db (C,) is `sum` of the
        stored dx over all axes but the last, in its dtype: the gradient of a bias that was added to x; else
        db is None.
        """

    def layer_norm_forward(
        self, x: Array, gamma: Array, beta: Array, eps: float, acc: str
    ) -> tuple[Array, Array, Array]:
        """Return y of x (..., C), mean and inv_std (x.shape[:-1]) in gamma's dtype: batch norm's per row.

        acc="float16": x is not scaled; the variance's terms are d * d / 32, their mean is multiplied by 32.
        """

    def layer_norm_backward(
        self, x: Array, gamma: Array, mean: Array, inv_std: Array, dy: Array, acc: str
    ) -> tuple[Array, Array, Array]:
        """Return dx (shape of x), dgamma (C,) and dbeta (C,).

        xhat = (x - mean) * inv_std; dbeta = sum(dy) and dgamma = sum(dy * xhat) over the rows, products as
        register terms; with g = dy * gamma, dx = fl(inv_std * ((g - sum(g) / C) - xhat * (sum(g * xhat) /
        C))).
        """

    # Softmax

    def softmax(self, x: Array, axis: int, acc: str) -> Array:
        """Return fl(e / sum(e)) along `axis`, e = exp(x - max(x)) a register term."""

    def softmax_backward(self, y: Array, dy: Array, axis: int, acc: str) -> Array:
        """Return fl(y * (dy - s)), s the dot product of dy and y along `axis`, in registers."""

    def log_softmax(self, x: Array, axis: int, acc: str) -> Array:
        """Return fl((x - max(x)) - log(sum(exp(x - max(x))))) along `axis`."""

    def log_softmax_backward(self, y: Array, dy: Array, axis: int, acc: str) -> Array:
        """Return fl(dy - exp(y) * sum(dy)) along `axis`."""

    def cross_entropy_forward(self, logits: Array, labels: Array, acc: str, smoothing: float = 0.0) -> Array:
        """Return the mean loss, shape (), of logits (N, K) and int64 labels (N,), in the dtype of `logits`.

        A sample's loss log(sum(exp(z - max))) - (z[label] - max) is a register term, +0 where the label is
        negative; fl(sum of them / n), n the number of labels that are not. With a `smoothing` h > 0,
        (1 - h) * (z[label] - max) + h * (a - max) takes the place of z[label] - max, a the register mean of
        the logits as `mean` accumulates it.
        """

    def cross_entropy_backward(
        self, logits: Array, labels: Array, dy: Array, acc: str, smoothing: float = 0.0
    ) -> Array:
        """Return dlogits (N, K) = fl((softmax - target) * (dy / n)), softmax in registers, dy of shape ().

        target is 1 - h + h / K at the label and h / K elsewhere, h the `smoothing`.
        Rows whose label is negative are +0. dy / n is a register value, so a loss scale in dy acts before
        1 / n can underflow.
        """

    # Pooling: x (N, H, W, C); windows lie row-major at (OH, OW) as in conv2d_forward

    def max_pool_forward(self, x: Array, size: Pair, stride: Pair, pads: Pads) -> tuple[Array, Array]:
        """Return the largest value y (N, OH, OW, C) per window, and its slot as uint8 kh * KW + kw
        (255: the window holds no pixel).

        The first maximum in (kh, kw) order wins, the first NaN wins over any number; padding is never chosen.
        """

    def max_pool_backward(
        self, index: Array, dy: Array, x_shape: Shape, size: Pair, stride: Pair, pads: Pads, acc: str
    ) -> Array:
        """Return dx (x_shape): fl of the sum of dy over the windows that chose a pixel, in the order (oh,
        ow)."""

    def avg_pool_forward(self, x: Array, size: Pair, stride: Pair, pads: Pads, acc: str) -> Array:
        """Return fl(s / n) per window, s its sum in the order (kh, kw), n the number of its pixels inside the
        image."""

    def avg_pool_backward(
        self, dy: Array, x_shape: Shape, size: Pair, stride: Pair, pads: Pads, acc: str
    ) -> Array:
        """Return dx (x_shape): fl of the sum of the register terms dy / n over a pixel's windows, order (oh,
        ow)."""

    # Random, tables, attention

    def dropout(self, x: Array, p: float, seed: int, offset: int) -> Array:
        """Return fl(x * (1 / (1 - p))) where word * 2^-32 >= p, else +0; 0 <= p < 1. Also the gradient, for
        dy.

        Element i, in C order, takes word i % 4 of Philox4x32-10 with key = seed (64 bits, low word first) and
        counter = offset + i // 4 (64 bits, low word first; the upper half of the counter is 0).
        """

    def augment(
        self,
        data: Array,
        index: Array,
        seed: int,
        epoch: int | Array,
        flip_lr: bool,
        flip_ud: bool,
        rotation: float,
        shift: int,
        brightness: float,
        low: float,
        high: float,
        fill: float | None,
        alternating: bool = False,
    ) -> Array:
        """Return the images data[index], each changed at random: data (R, H, W, C), index int64 (B,) ->
        (B, H, W, C).

        Image i takes the words w0 ... w7 of Philox4x32-10 with key = seed and the counters (i low, i high,
        epoch, 0x61756700) and (i low, i high, epoch, 0x61756701), so neither the batch nor its order matters;
        `epoch` may be an int64 array () of the device, read when the kernel runs. With signed(w) = (2 * (w >>
        8) + 1 - 2^24) * 2^-24 and integer(w) = floor(w * (2 * shift + 1) / 2^32) - shift:

        - Pixel (r, c) of the result: r is H - 1 - r if flip_ud and w1 >= 2^31, c is W - 1 - c if flip_lr and
          w0 >= 2^31; then r + integer(w4), c + integer(w5). With `alternating`, w0 is that of epoch 0, and
          the images that it does not flip are flipped in odd epochs, the others then not.
        - rotation 0: the value is pixel (r, c). Else 0 < rotation <= pi and, with a = rotation * signed(w2),
          u = r - (H - 1) / 2 and v = c - (W - 1) / 2, it is the value at row (cos a * u + sin a * v) + (H -
          1) / 2 and column (cos a * v - sin a * u) + (W - 1) / 2, in binary32 whatever the dtype; cos and sin
          are Taylor polynomials up to a^18 and a^17, by Horner's rule in a * a. Bilinear from the floors on,
          p + (q - p) * share between neighbours p and q: of a row first, then between the two rows.
        - A pixel outside the image is `fill`; None: the mirror image at the edge, -1 -> 0 and H -> H - 1, and
          the edge itself farther off than H.
        - brightness > 0: value + brightness * signed(w3), then `low` if below it, `high` if above.
        """

    def embedding(self, ids: Array, table: Array) -> Array:
        """Return table[ids]: ids int64 (...), table (R, D) -> (..., D)."""

    def embedding_backward(self, ids: Array, dy: Array, num_rows: int, acc: str) -> Array:
        """Return dtable (num_rows, D): per row, fl of the sum of dy over its uses, in the C order of
        `ids`."""

    def gather(self, data: Array, index: Array) -> Array:
        """Return the rows data[index]: data (R, ...), index int64 (B,) -> (B, ...)."""

    def attention_forward(
        self,
        q: Array,
        k: Array | None,
        v: Array | None,
        causal: bool,
        lengths: Array | None,
        acc: str,
        operand: BlockFormat | None = None,
        heads: int | None = None,
    ) -> tuple[Array, Array]:
        """Return y (B, H, Sq, D) and probs (B, H, Sq, Sk) of q (B, H, Sq, D), k and v (B, H, Sk, D).

        qs = fl(q * D ** -0.5); scores = fl(qs @ k.T); probs = softmax(scores), with `causal` over the keys
        j <= i alone, with `lengths` (int64 (B,), 0 to Sk) over the keys j < lengths[b] alone, and +0
        elsewhere: all +0 where no key is left; y = fl(probs @ v). Scores and probs are stored in the dtype of
        q. With `heads` they lie side by side: q and y are (B, Sq, H * D), k and v (B, Sk, H * D). Without k
        and v, q holds them, too: (B, S, 3 * H * D), queries, keys, values.
        """

    def attention_backward(
        self,
        q: Array,
        k: Array | None,
        v: Array | None,
        probs: Array,
        dy: Array,
        acc: str,
        operand: BlockFormat | None = None,
        heads: int | None = None,
    ) -> tuple[Array, Array | None, Array | None]:
        """Return dq, dk, dv: dp = fl(dy @ v.T); ds = softmax_backward(probs, dp); dv = fl(probs.T @ dy).

        dq = fl(s * D ** -0.5) with s the unrounded sums of ds @ k; dk = fl(ds.T @ qs). dp and ds are stored.
        `heads` as in attention_forward, for dy and the gradients too; without k and v, dq holds all three.
        """

    # Clipping

    def global_norm(self, arrays: Sequence[Array]) -> tuple[float, float]:
        """Return (scale, root), binary32 numbers whose product is the norm of all `arrays` together.

        scale is the power of two 2^e with 2^e <= max |x| < 2^(e+1) (1 if all are 0, at least 2^-125), root
        the square root of the sum of (x / scale)^2, a register sum: neither overflows. An infinity or a NaN
        makes root NaN.
        """

    def clip_to_norm(self, arrays: Sequence[Array], norm: tuple[float, float], max_norm: float) -> None:
        """Make x = fl((x / scale) * (max_norm / root)), in place, if root > max_norm / scale.

        `norm` is (scale, root); the quotients are registers. A NaN root makes every x NaN.
        """

    # Optimizers: see "Optimizer steps" above

    def sgd(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        momenta: Sequence[Array] | None,
        masters: Sequence[Array] | None,
        compensations: Sequence[Array] | None,
        momentum: float,
        nesterov: bool,
        weight_decay: Sequence[float],
        stochastic: bool,
        indices: Sequence[int],
        scalars: StepScalars | Array,
        counts: Array | None,
    ) -> None:
        """Step with u = lr * s, g = g + decay * w, m = momentum * m + g.

        s = m, with `nesterov` g + momentum * m, from the register m; without `momenta`, g.
        """

    def adam(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        m: Sequence[Array],
        v: Sequence[Array],
        masters: Sequence[Array] | None,
        compensations: Sequence[Array] | None,
        beta1: float,
        beta2: float,
        eps: float,
        native: bool,
        decoupled: bool,
        weight_decay: Sequence[float],
        stochastic: bool,
        indices: Sequence[int],
        scalars: StepScalars | Array,
        counts: Array | None,
    ) -> None:
        """Step with u = ((lr / correction1) * m) / (sqrt(v) * (1 / sqrt(correction2)) + eps).

        g = g + decay * w unless `decoupled`; m = beta1 * m + (1 - beta1) * g;
        v = beta2 * v + (1 - beta2) * (g * g). u takes m from the register, v as stored and eps rounded to the
        state's dtype: what is stored is what is used. With `native` binary16 state, u takes all three from
        registers. With `decoupled`, u = u + (lr * decay) * w, the product of the two numbers a register.
        """

    def rmsprop(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        v: Sequence[Array],
        momenta: Sequence[Array] | None,
        masters: Sequence[Array] | None,
        compensations: Sequence[Array] | None,
        alpha: float,
        eps: float,
        momentum: float,
        native: bool,
        weight_decay: Sequence[float],
        stochastic: bool,
        indices: Sequence[int],
        scalars: StepScalars | Array,
        counts: Array | None,
    ) -> None:
        """Step with u = lr * s, g = g + decay * w; v = alpha * v + (1 - alpha) * (g * g).

        s = g / (sqrt(v) + eps), v as stored and eps rounded to the state's dtype (`native` binary16 state:
        both registers); with `momenta`, b = momentum * b + s and s is the register b.
        """
