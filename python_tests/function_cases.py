"""Every function of `fp16engine.functional` and every operator of `Tensor`, as functions of plain tensors.

Each case gives the shapes of its tensor inputs and a function of them; the gradient checks differentiate it
by every input, and the policy tests run it on every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fp16engine as fe
from fp16engine import functional as F

Shape = tuple[int, ...]


@dataclass(frozen=True)
class FunctionCase:
    """`function(*tensors)`; `positive` inputs are > 0, `distinct` ones are far from one another."""

    name: str
    shapes: tuple[Shape, ...]
    function: Callable[..., Any]
    positive: bool = False
    distinct: bool = False

    def inputs(self, seed: int = 0) -> list[np.ndarray]:
        """Return float64 inputs away from kinks: not near 0, nor near one another if `distinct`."""
        rng = np.random.default_rng(seed)
        drawn = []
        for shape in self.shapes:
            size = int(np.prod(shape))
            if self.distinct:
                values = (rng.permutation(size) - size / 2 + 0.25) * 0.2
            else:
                values = rng.uniform(0.1, 2, size) * (1 if self.positive else rng.choice([-1, 1], size))
            drawn.append(values.reshape(shape))
        return drawn


def _int(values: Any, like: Any) -> Any:
    return fe.tensor(np.array(values, np.int64), device=like.device)


def _dropout(x: Any) -> Any:
    with fe.random.fork(11):
        return F.dropout(x, 0.4, training=True)


def _start(gamma: Any) -> tuple[fe.Tensor, fe.Tensor]:
    """Running mean and variance."""
    mean, var = (fe.tensor(np.full(gamma.shape, v), gamma.dtype, gamma.device) for v in (0.3, 1.7))
    return mean, var


def _batch_norm(training: bool, **options: Any) -> Callable[..., Any]:
    def function(x: Any, gamma: Any, beta: Any) -> Any:
        return F.batch_norm(x, gamma, beta, *_start(gamma), training=training, **options)

    return function


def _batch_norm_with_residual(training: bool, **options: Any) -> Callable[..., Any]:
    def function(x: Any, gamma: Any, beta: Any, residual: Any) -> Any:
        return _batch_norm(training, residual=residual, **options)(x, gamma, beta)

    return function


def _batch_norm_of_sum(training: bool, **options: Any) -> Callable[..., Any]:
    """Both results are used, so that two gradients meet in the sum."""

    def function(x: Any, addend: Any, gamma: Any, beta: Any) -> Any:
        s, y = F.batch_norm_of_sum(x, addend, gamma, beta, *_start(gamma), training=training, **options)
        return y * 0.5 + s

    return function


def _batch_norm_of_cat(training: bool) -> Callable[..., Any]:
    """Both results are used, so that two gradients meet in the channels."""

    def function(x: Any, joined: Any, gamma: Any, beta: Any) -> Any:
        s, y = F.batch_norm_of_cat(
            x, joined, gamma, beta, *_start(gamma), training=training, activation="relu"
        )
        return y * 0.5 + s

    return function


def _biased_conv_and_norms(x: Any, weight: Any, bias: Any, gamma: Any, beta: Any) -> Any:
    """Another gradient is added to the one that the norm has summed: the sums are not the bias' gradient."""
    y = F.conv2d(x, weight, bias)
    return _batch_norm(False)(y, gamma, beta) + _batch_norm(True)(y, gamma, beta)


def _biased_conv_and_sum(x: Any, weight: Any, bias: Any, addend: Any, gamma: Any, beta: Any) -> Any:
    """The norm sums its gradient for the bias, the pending one of the sum included."""
    return _batch_norm_of_sum(True)(F.conv2d(x, weight, bias), addend, gamma, beta)


_X: Shape = (2, 3)
_IMAGE: Shape = (2, 4, 5, 3)

_ELEMENTWISE = [
    *(
        FunctionCase(f"{name}-{label}", shapes, function, positive=name == "div")
        for name, function in {
            "add": lambda a, b: a + b,
            "sub": lambda a, b: a - b,
            "mul": lambda a, b: a * b,
            "div": lambda a, b: a / b,
        }.items()
        for label, shapes in {
            "same": (_X, _X),
            "left": ((3,), _X),
            "right": ((2, 1, 3), (4, 1)),
            "scalar": (_X, ()),
            "leading-one": ((1, 3), (4, 3)),
        }.items()
    ),
    FunctionCase("number-right", (_X,), lambda x: ((x + 2) - 0.5) * 3 / 4),
    FunctionCase("number-left", (_X,), lambda x: 2 + 3 * (0.5 - x)),
    FunctionCase("number-over", (_X,), lambda x: 2 / x),
    FunctionCase("pow-2", (_X,), lambda x: x**2),
    FunctionCase("pow-3", (_X,), lambda x: x**3),
    FunctionCase("pow-half", (_X,), lambda x: x**0.5, positive=True),
    FunctionCase("pow-negative", (_X,), lambda x: x**-1.5, positive=True),
    FunctionCase("pow-0", (_X,), lambda x: x**0),
    FunctionCase("neg", (_X,), F.neg),
    FunctionCase("neg-operator", (_X,), lambda x: -x),
    *(FunctionCase(n, (_X,), getattr(F, n)) for n in ("relu", "gelu", "tanh", "exp", "sigmoid", "silu")),
    *(FunctionCase(name, (_X,), getattr(F, name), positive=True) for name in ("log", "sqrt")),
    FunctionCase("relu6", ((4, 5),), lambda x: F.relu6(x * 4)),
    FunctionCase("reused", (_X,), lambda x: x * x + x * 2 + F.tanh(x) * x),
    FunctionCase("astype", (_X,), lambda x: x.astype(x.dtype)),
]
_SHAPES = [
    FunctionCase("where", (_X, (3,)), lambda a, b: F.where(a > 0, a, b)),
    FunctionCase("where-number", (_X,), lambda x: F.where(np.array([True, False, True]), 0.5, x)),
    FunctionCase("argmax", ((3, 3),), lambda x: x[F.argmax(x, axis=1)], distinct=True),
    FunctionCase("reshape", (_X,), lambda x: x.reshape(3, 2)),
    FunctionCase("reshape-free", (_X,), lambda x: F.reshape(x, (-1,))),
    FunctionCase("transpose", ((2, 3, 4),), lambda x: x.transpose(2, 0, 1)),
    FunctionCase("transpose-reversed", ((2, 3, 4),), lambda x: x.transpose()),
    FunctionCase("flatten", ((2, 3, 2),), F.flatten),
    FunctionCase("cat", ((2, 3), (2, 1), (2, 2)), lambda *xs: F.cat(list(xs), axis=1)),
    FunctionCase("cat-first", ((1, 3), (2, 3)), lambda *xs: F.cat(list(xs), axis=0)),
    FunctionCase("cat-twice", (_X,), lambda x: F.cat([x, x], axis=-1)),
    FunctionCase("pad2d", ((1, 2, 3, 2),), lambda x: F.pad2d(x, (0, 1, 2, 0))),
    FunctionCase("pad_channels", ((1, 2, 2, 3),), lambda x: F.pad_channels(x, 1, 2)),
    FunctionCase("getitem", ((3, 4),), lambda x: x[1]),
    FunctionCase("getitem-slices", ((5, 4),), lambda x: x[1:5:2, ::-1]),
    FunctionCase("getitem-repeated", ((5, 2),), lambda x: x[np.array([1, 1, 4, 1])]),
    FunctionCase("getitem-new-axis", ((2, 3),), lambda x: x[:, None, 1:]),
]
_REDUCTIONS = [
    FunctionCase(f"{name}-{axis}-{keepdims}", ((2, 3, 4),), function, distinct=name == "max")
    for name in ("sum", "mean", "max")
    for axis, keepdims in ((None, False), (1, False), (1, True), ((0, 2), False), (-1, True))
    for function in (lambda x, n=name, a=axis, k=keepdims: getattr(x, n)(axis=a, keepdims=k),)
]
_PRODUCTS = [
    FunctionCase("matmul", ((3, 4), (4, 2)), F.matmul),
    FunctionCase("matmul-batch", ((2, 3, 4), (2, 4, 2)), F.matmul),
    FunctionCase("matmul-flat-right", ((2, 3, 4), (4, 2)), F.matmul),
    FunctionCase("matmul-broadcast", ((2, 1, 3, 4), (3, 4, 2)), lambda a, b: a @ b),
    FunctionCase("matmul-vectors", ((4,), (4,)), F.matmul),
    FunctionCase("matmul-vector-left", ((4,), (2, 4, 3)), F.matmul),
    FunctionCase("matmul-vector-right", ((2, 3, 4), (4,)), F.matmul),
    FunctionCase("linear", ((3, 4), (2, 4), (2,)), F.linear),
    FunctionCase("linear-no-bias", ((3, 4), (2, 4)), F.linear),
    FunctionCase("linear-tokens", ((2, 3, 4), (2, 4), (2,)), F.linear),
    FunctionCase(
        "projections",
        ((3, 4), (2, 4), (3, 4), (2,), (3,)),
        lambda x, v, w, b, c: F.projections(x, [v, w], [b, c]),
    ),
    FunctionCase("projections-tokens", ((2, 3, 4), (2, 4), (1, 4)), lambda x, v, w: F.projections(x, [v, w])),
    *(
        FunctionCase(f"conv2d-{label}", shapes, lambda x, w, *b, o=options: F.conv2d(x, w, *b, **o))
        for label, shapes, options in (
            ("valid", ((2, 4, 5, 2), (3, 3, 2, 2), (3,)), {}),
            ("same", (_IMAGE, (2, 3, 3, 3)), {"padding": "same"}),
            ("same-stride2", ((1, 6, 5, 2), (3, 3, 3, 2), (3,)), {"padding": "same", "stride": 2}),
            ("padding", ((1, 3, 4, 2), (2, 2, 3, 2)), {"padding": (1, 2), "stride": (2, 1)}),
            ("groups", ((1, 4, 4, 4), (6, 3, 3, 2), (6,)), {"padding": 1, "groups": 2}),
            ("depthwise", ((1, 4, 4, 3), (3, 3, 3, 1)), {"padding": "same", "groups": 3}),
            ("1x1-stride2", ((1, 5, 4, 2), (3, 1, 1, 2), (3,)), {"stride": 2}),
        )
    ),
    FunctionCase("attention", ((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)), F.attention),
    FunctionCase("attention-causal", ((2, 1, 4, 3),) * 3, lambda q, k, v: F.attention(q, k, v, causal=True)),
    FunctionCase("attention-self", ((1, 1, 3, 2),), lambda x: F.attention(x, x, x)),
    FunctionCase("attention-packed", ((2, 3, 12),), lambda x: F.attention(x, heads=2)),
    FunctionCase(
        "attention-packed-padded-causal",
        ((3, 4, 9),),
        lambda x: F.attention(x, causal=True, key_lengths=_int([2, 4, 0], x), heads=1),
    ),
    FunctionCase(
        "attention-padded",
        ((3, 2, 2, 3), (3, 2, 4, 3), (3, 2, 4, 3)),
        lambda q, k, v: F.attention(q, k, v, key_lengths=_int([3, 4, 1], q)),
    ),
    FunctionCase(
        "attention-padded-causal",
        ((3, 1, 4, 3),) * 3,
        lambda q, k, v: F.attention(q, k, v, causal=True, key_lengths=_int([2, 4, 0], q)),
    ),
]
_NORMS = [
    FunctionCase("batch_norm", (_IMAGE, (3,), (3,)), _batch_norm(True)),
    FunctionCase("batch_norm-rows", ((6, 2), (2,), (2,)), _batch_norm(True, eps=0.1)),
    FunctionCase("batch_norm-relu", (_IMAGE, (3,), (3,)), _batch_norm(True, activation="relu")),
    FunctionCase("batch_norm-inference", (_IMAGE, (3,), (3,)), _batch_norm(False)),
    FunctionCase("batch_norm-inference-relu", (_IMAGE, (3,), (3,)), _batch_norm(False, activation="relu")),
    *(
        FunctionCase(
            f"batch_norm-residual{'' if training else '-inference'}{'-relu' if activation else ''}",
            (_IMAGE, (3,), (3,), _IMAGE),
            _batch_norm_with_residual(training, activation=activation),
        )
        for training in (True, False)
        for activation in (None, "relu")
    ),
    *(
        FunctionCase(
            f"batch_norm_of_sum{'' if training else '-inference'}",
            (_IMAGE, _IMAGE, (3,), (3,)),
            _batch_norm_of_sum(training, activation="relu"),
        )
        for training in (True, False)
    ),
    *(
        FunctionCase(
            f"batch_norm_of_cat{'' if training else '-inference'}",
            (_IMAGE, (2, 4, 5, 2), (5,), (5,)),
            _batch_norm_of_cat(training),
        )
        for training in (True, False)
    ),
    FunctionCase("batch_norm-after-bias", (_IMAGE, (2, 2, 2, 3), (2,), (2,), (2,)), _biased_conv_and_norms),
    FunctionCase(
        "batch_norm_of_sum-after-bias",
        (_IMAGE, (2, 2, 2, 3), (2,), (2, 3, 4, 2), (2,), (2,)),
        _biased_conv_and_sum,
    ),
    FunctionCase("group_norm", ((2, 2, 3, 4), (4,), (4,)), lambda x, g, b: F.group_norm(x, 2, g, b)),
    FunctionCase("layer_norm", ((2, 3, 5), (5,), (5,)), F.layer_norm),
    FunctionCase("layer_norm-eps", ((4, 3), (3,), (3,)), lambda x, g, b: F.layer_norm(x, g, b, eps=0.1)),
]
_CLASSIFIERS = [
    FunctionCase("softmax", ((3, 4),), F.softmax),
    FunctionCase("softmax-first", ((3, 2, 2),), lambda x: F.softmax(x, axis=0)),
    FunctionCase("log_softmax", ((3, 4),), F.log_softmax),
    FunctionCase("log_softmax-middle", ((2, 3, 2),), lambda x: F.log_softmax(x, axis=1)),
    FunctionCase("cross_entropy", ((4, 3),), lambda x: F.cross_entropy(x, _int([2, 0, 1, 1], x))),
    FunctionCase(
        "cross_entropy-ignored",
        ((5, 3),),
        lambda x: F.cross_entropy(x, _int([2, -1, 1, -1, 0], x), ignore_index=-1),
    ),
    FunctionCase(
        "cross_entropy-smoothed",
        ((5, 3),),
        lambda x: F.cross_entropy(x, _int([2, -1, 1, 0, 0], x), ignore_index=-1, label_smoothing=0.2),
    ),
    FunctionCase("cross_entropy-scaled", ((4, 3),), lambda x: F.cross_entropy(x, _int([2, 0, 1, 1], x)) * 8),
]
_POOLS = [
    FunctionCase("max_pool2d", ((1, 4, 6, 2),), lambda x: F.max_pool2d(x, 2), distinct=True),
    FunctionCase("max_pool2d-same", ((1, 5, 4, 2),), lambda x: F.max_pool2d(x, 3, 2, "same"), distinct=True),
    FunctionCase(
        "max_pool2d-pads", ((2, 4, 3, 1),), lambda x: F.max_pool2d(x, (3, 2), 1, (1, 0)), distinct=True
    ),
    FunctionCase("avg_pool2d", ((1, 4, 6, 2),), lambda x: F.avg_pool2d(x, 2)),
    FunctionCase("avg_pool2d-same", ((1, 5, 4, 2),), lambda x: F.avg_pool2d(x, 3, 2, "same")),
    FunctionCase("adaptive_avg_pool2d", ((2, 4, 6, 2),), lambda x: F.adaptive_avg_pool2d(x, (2, 3))),
    FunctionCase("adaptive_avg_pool2d-odd", ((1, 5, 4, 2),), lambda x: F.adaptive_avg_pool2d(x, 3)),
    FunctionCase("global_avg_pool2d", (_IMAGE,), F.global_avg_pool2d),
]
_OTHERS = [
    FunctionCase("dropout", ((5, 4),), _dropout),
    FunctionCase("dropout-off", (_X,), lambda x: F.dropout(x, 0.5, training=False) * 2),
    FunctionCase(
        "embedding", ((4, 3),), lambda table: F.embedding(_int([[1, 3, 1], [0, 1, 1]], table), table)
    ),
]

FUNCTION_CASES: tuple[FunctionCase, ...] = (
    *_ELEMENTWISE,
    *_SHAPES,
    *_REDUCTIONS,
    *_PRODUCTS,
    *_NORMS,
    *_CLASSIFIERS,
    *_POOLS,
    *_OTHERS,
)
