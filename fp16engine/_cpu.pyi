"""Functions of the compiled CPU module. csrc/bindings says what each checks, csrc/*/ops.h what it computes.

A test compares the names and types with the module's own; outputs are given by the caller and overwritten.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

def adam(
    update: tuple[Any, ...],
    m: Sequence[Array],
    v: Sequence[Array],
    beta1: float,
    beta2: float,
    eps: float,
    native: bool,
    decoupled: bool,
) -> None: ...
def all_finite(arrays: Sequence[Array]) -> bool: ...
def augment(
    data: Array,
    index: Array,
    clock: Array | None,
    y: Array,
    seed: int,
    epoch: int,
    flip_lr: bool,
    flip_ud: bool,
    rotation: float,
    shift: int,
    brightness: float,
    low: float,
    high: float,
    mirrored: bool,
    fill: float,
    alternating: bool,
) -> None: ...
def avg_pool_backward(
    dy: Array,
    dx: Array,
    kh: int,
    kw: int,
    stride_h: int,
    stride_w: int,
    pads: Sequence[int],
    half_accumulator: bool,
) -> None: ...
def avg_pool_forward(
    x: Array,
    y: Array,
    kh: int,
    kw: int,
    stride_h: int,
    stride_w: int,
    pads: Sequence[int],
    half_accumulator: bool,
) -> None: ...
def batch_norm_backward(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inv_std: Array,
    y: Array | None,
    dy: Array,
    pending_grad: Array | None,
    dx: Array | None,
    dgamma: Array,
    dbeta: Array,
    dr: Array | None,
    db: Array | None,
    activation: str,
    half_accumulator: bool,
) -> None: ...
def batch_norm_forward(
    x: Array,
    addend: Array | None,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    updates: Array | None,
    rest: Array | None,
    residual: Array | None,
    sum: Array | None,
    y: Array,
    mean: Array,
    inv_std: Array,
    momentum: float,
    eps: float,
    activation: str,
    half_accumulator: bool,
) -> None: ...
def batch_norm_inference(
    x: Array,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    residual: Array | None,
    y: Array,
    eps: float,
    activation: str,
    deviation: bool,
) -> None: ...
def binary(op: str, a: Array, b: Array, y: Array) -> None: ...
def binary_number(op: str, x: Array, number: float, number_first: bool, y: Array) -> None: ...
def cast(x: Array, y: Array) -> None: ...
def clip_to_norm(arrays: Sequence[Array], norm: Array, max_norm: float) -> None: ...
def conv2d_backward(
    x: Array,
    w: Array,
    dy: Array,
    dx: Array | None,
    dw: Array | None,
    db: Array | None,
    stride_h: int,
    stride_w: int,
    pads: Sequence[int],
    groups: int,
    accumulator: int,
    winograd: bool = False,
) -> None: ...
def conv2d_forward(
    x: Array,
    w: Array,
    bias: Array | None,
    y: Array,
    stride_h: int,
    stride_w: int,
    pads: Sequence[int],
    groups: int,
    accumulator: int,
    winograd: bool = False,
) -> None: ...
def cross_entropy_backward(
    logits: Array, labels: Array, dy: Array, dlogits: Array, smoothing: float, half_accumulator: bool
) -> None: ...
def cross_entropy_forward(
    logits: Array, labels: Array, loss: Array, smoothing: float, half_accumulator: bool
) -> None: ...
def dropout(x: Array, y: Array, p: float, seed: int, offset: int) -> None: ...
def empty(shape: Sequence[int], dtype: np.dtype[Any]) -> Array: ...
def global_norm(arrays: Sequence[Array], norm: Array) -> None: ...
def isa() -> str: ...
def layer_norm_backward(
    x: Array,
    gamma: Array,
    mean: Array,
    inv_std: Array,
    dy: Array,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
    half_accumulator: bool,
) -> None: ...
def layer_norm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    y: Array,
    mean: Array,
    inv_std: Array,
    eps: float,
    half_accumulator: bool,
) -> None: ...
def linear_weight_gradient(x: Array, dy: Array, dw: Array, db: Array | None, accumulator: int) -> None: ...
def log_softmax(x: Array, y: Array, half_accumulator: bool) -> None: ...
def log_softmax_backward(y: Array, dy: Array, dx: Array, half_accumulator: bool) -> None: ...
def matmul(
    a: Array, b: Array, bias: Array | None, c: Array, transpose_a: bool, transpose_b: bool, accumulator: int
) -> None: ...
def max_backward(x: Array, y: Array, dy: Array, dx: Array, outer: int, terms: int, inner: int) -> None: ...
def max_pool_backward(
    index: Array,
    dy: Array,
    dx: Array,
    kh: int,
    kw: int,
    stride_h: int,
    stride_w: int,
    pads: Sequence[int],
    half_accumulator: bool,
) -> None: ...
def max_pool_forward(
    x: Array, y: Array, index: Array, kh: int, kw: int, stride_h: int, stride_w: int, pads: Sequence[int]
) -> None: ...
def memory() -> dict[str, int]: ...
def multiply_adds(steps: int) -> int: ...
def num_threads() -> int: ...
def power(x: Array, exponent: float, y: Array) -> None: ...
def quantize(
    x: Array,
    y: Array,
    outer: int,
    length: int,
    inner: int,
    block_length: int,
    block_inner: int,
    mantissa: int,
    exponent_bits: int,
    stochastic: bool,
    seed: int,
    offset: int,
) -> None: ...
def range_statistics(arrays: Sequence[Array], counts: Array) -> None: ...
def reduce(
    op: str, x: Array, y: Array, outer: int, terms: int, inner: int, half_accumulator: bool
) -> None: ...
def reset_peak() -> None: ...
def rmsprop(
    update: tuple[Any, ...],
    v: Sequence[Array],
    momenta: Sequence[Array],
    alpha: float,
    eps: float,
    momentum: float,
    native: bool,
) -> None: ...
def scaled_product(a: Array, b: Array, c: Array, scale: float, accumulator: int) -> None: ...
def scatter_rows(ids: Array, dy: Array, dtable: Array, half_accumulator: bool) -> None: ...
def select_isa(isa: str) -> str: ...
def set_num_threads(count: int) -> None: ...
def sgd(update: tuple[Any, ...], momenta: Sequence[Array], momentum: float, nesterov: bool) -> None: ...
def softmax(x: Array, y: Array, causal_rows: int, lengths: Array | None, half_accumulator: bool) -> None: ...
def softmax_backward(y: Array, dy: Array, dx: Array, half_accumulator: bool) -> None: ...
def take_rows(table: Array, ids: Array, y: Array) -> None: ...
def trim() -> None: ...
def unary(op: str, x: Array, y: Array) -> None: ...
def unary_backward(op: str, saved: Array, dy: Array, dx: Array) -> None: ...
