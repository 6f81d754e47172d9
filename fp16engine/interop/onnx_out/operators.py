"""Calls of the backend as nodes of ONNX."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .trace import Call, Pair
from .writer import Axes, Writer

_IMAGE = (0, 3, 1, 2)  # our axes where ONNX has N, C, H, W
_UNARY = {
    "relu": "Relu",
    "tanh": "Tanh",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "neg": "Neg",
    "gelu": "Gelu",
}
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}


def _channels_first(ndim: int) -> Axes:
    return (0, ndim - 1, *range(1, ndim - 1))


def _pads(pads: tuple[int, int, int, int]) -> list[int]:
    top, bottom, left, right = pads
    return [top, left, bottom, right]


def _conv(w: Writer, call: Call) -> None:
    a = call.arguments
    kernels = w.constant(_own(w, a["w"]).transpose(0, 3, 1, 2))
    inputs = [w.arranged(a["x"], _IMAGE), kernels]
    if a["b"] is not None:
        inputs.append(w.arranged(a["b"]))
    options = {"strides": list(a["stride"]), "pads": _pads(a["pads"]), "group": a["groups"]}
    w.put(call.results[0], w.node("Conv", *inputs, **options), _IMAGE)


def _own(w: Writer, array: Pair) -> np.ndarray:
    """Return the values of a constant; ValueError for kernels that are computed."""
    if not w.is_own(array):
        raise ValueError("kernels must be weights, got the result of an operation")
    return array.first


def _linear(w: Writer, call: Call) -> None:
    a = call.arguments
    inputs = [w.arranged(a["x"]), w.arranged(a["w"])] + ([] if a["b"] is None else [w.arranged(a["b"])])
    w.put(call.results[0], w.node("Gemm", *inputs, transB=1))


def _activated(w: Writer, op: str, x: str, dtype: str | None = None) -> str:
    if op == "relu6":
        return w.node("Clip", x, w.constant(0.0, dtype), w.constant(6.0, dtype))
    return w.node(_UNARY[op], x)


def _batch_norm(w: Writer, call: Call) -> None:
    """In FP32 and rounded once, as ours is."""
    a = call.arguments
    axes = _channels_first(a["x"].first.ndim)
    names = ("gamma", "beta", "running_mean", "running_var")
    vectors = [w.constant(_own(w, a[name]), "float32") for name in names]
    wide = w.wide(w.arranged(a["x"], axes))
    y = w.node("BatchNormalization", wide, *vectors, epsilon=a["eps"])
    if a["residual"] is not None:
        y = w.node("Add", y, w.wide(w.arranged(a["residual"], axes)))
    if a["activation"]:
        y = _activated(w, a["activation"], y, "float32")
    w.put(call.results[0], w.narrow(y), axes)


def _layer_norm(w: Writer, call: Call) -> None:
    a = call.arguments
    inputs = [w.arranged(a[name]) for name in ("x", "gamma", "beta")]
    w.put(call.results[0], w.node("LayerNormalization", *inputs, axis=-1, epsilon=a["eps"]))


def _attention(w: Writer, call: Call) -> None:
    a = call.arguments
    if a["lengths"] is not None:
        raise ValueError("attention must be without key_lengths, got some")
    q, k, v = (a[name] for name in "qkv")
    scaled = w.node("Mul", w.arranged(q), w.constant(q.first.shape[3] ** -0.5))
    scores = w.node("MatMul", scaled, w.arranged(k, (0, 1, 3, 2)))
    if a["causal"]:
        length = q.first.shape[2]
        scores = w.node("Add", scores, w.constant(np.triu(np.full((length, length), -np.inf), 1)))
    w.put(call.results[0], w.node("MatMul", w.node("Softmax", scores, axis=-1), w.arranged(v)))


def _unary(w: Writer, call: Call) -> None:
    x = w.value(call.arguments["x"])
    w.put(call.results[0], _activated(w, call.arguments["op"], x.name), x.axes)


def _binary(w: Writer, call: Call) -> None:
    op, a, b = (call.arguments[name] for name in ("op", "a", "b"))
    shapes = [x.first.shape for x in (a, b) if isinstance(x, Pair)]
    axes = None
    if len(set(shapes)) == 1:
        axes = w.value(a if isinstance(a, Pair) else b).axes
    names = [w.arranged(x, axes) if isinstance(x, Pair) else w.constant(float(x)) for x in (a, b)]
    w.put(call.results[0], w.node(_BINARY[op], *names), axes)


def _power(w: Writer, call: Call) -> None:
    x = w.value(call.arguments["x"])
    w.put(call.results[0], w.node("Pow", x.name, w.constant(call.arguments["exponent"])), x.axes)


def _pool(op: str) -> Callable[[Writer, Call], None]:
    def write(w: Writer, call: Call) -> None:
        a = call.arguments
        options = {"kernel_shape": list(a["size"]), "strides": list(a["stride"]), "pads": _pads(a["pads"])}
        w.put(call.results[0], w.node(op, w.arranged(a["x"], _IMAGE), **options), _IMAGE)

    return write


def _reduce(op: str) -> Callable[[Writer, Call], None]:
    def write(w: Writer, call: Call) -> None:
        x = w.value(call.arguments["x"])
        axes = sorted(x.axes.index(axis) for axis in call.arguments["axes"])
        w.put(call.results[0], w.node(op, x.name, w.integers(*axes), keepdims=1), x.axes)

    return write


def _softmax(op: str) -> Callable[[Writer, Call], None]:
    def write(w: Writer, call: Call) -> None:
        x = w.value(call.arguments["x"])
        axis = x.axes.index(call.arguments["axis"] % len(x.axes))
        w.put(call.results[0], w.node(op, x.name, axis=axis), x.axes)

    return write


def _matmul(w: Writer, call: Call) -> None:
    names = []
    for name in "ab":
        array = call.arguments[name]
        axes = list(range(array.first.ndim))
        if call.arguments[f"transpose_{name}"]:
            axes[-2:] = axes[:-3:-1]
        names.append(w.arranged(array, tuple(axes)))
    w.put(call.results[0], w.node("MatMul", *names))


def _transpose(w: Writer, call: Call) -> None:
    x, order = w.value(call.arguments["x"]), list(call.arguments["axes"])
    w.put(call.results[0], x.name, tuple(order.index(axis) for axis in x.axes))


def _cat(w: Writer, call: Call) -> None:
    parts, axis = call.arguments["xs"], call.arguments["axis"]
    axes = w.value(parts[0]).axes
    names = [w.arranged(part, axes) for part in parts]
    w.put(call.results[0], w.node("Concat", *names, axis=axes.index(axis)), axes)


def _pad2d(w: Writer, call: Call) -> None:
    top, bottom, left, right = call.arguments["pads"]
    x = w.value(call.arguments["x"])
    before, after = (0, top, left, 0), (0, bottom, right, 0)
    pads = [*(before[axis] for axis in x.axes), *(after[axis] for axis in x.axes)]
    w.put(call.results[0], w.node("Pad", x.name, w.integers(*pads), w.constant(0.0)), x.axes)


def _getitem(w: Writer, call: Call) -> None:
    x, index = call.arguments["x"], call.arguments["index"]
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(isinstance(part, slice) or part is Ellipsis or part is None or _whole(part) for part in parts):
        raise ValueError("an index must be of integers and slices, got another")
    free = x.first.ndim - sum(part is not Ellipsis and part is not None for part in parts)
    at = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    parts[at : at + (Ellipsis in parts)] = [slice(None)] * free
    cuts: list[tuple[int, int, int, int]] = []  # start, end, axis, step
    dropped: list[int] = []
    for axis, part in enumerate(part for part in parts if part is not None):
        if isinstance(part, slice):
            if part == slice(None):
                continue
            if x.first.shape[axis] != x.second.shape[axis]:
                raise ValueError(f"a slice of what follows the batch must be all of it, got {part}")
            start, end, step = part.indices(x.first.shape[axis])
            if step < 0:
                raise ValueError(f"a slice must have a step > 0, got {step}")
        else:
            start = operator.index(part) % x.first.shape[axis]
            end, step = start + 1, 1
            dropped.append(axis)
        cuts.append((start, end, axis, step))
    name = w.arranged(x)
    if cuts:
        name = w.node("Slice", name, *(w.integers(*values) for values in zip(*cuts, strict=True)))
    if dropped:
        name = w.node("Squeeze", name, w.integers(*dropped))
    left = [part for part in parts if part is None or isinstance(part, slice)]
    if new := [axis for axis, part in enumerate(left) if part is None]:
        name = w.node("Unsqueeze", name, w.integers(*new))
    w.put(call.results[0], name)


def _whole(part: Any) -> bool:
    return not isinstance(part, bool) and hasattr(part, "__index__") and not hasattr(part, "shape")


def _broadcast_to(w: Writer, call: Call) -> None:
    x, result = call.arguments["x"], call.results[0]
    missing = result.first.ndim - x.first.ndim
    own: Sequence[int] = (1,) * missing + x.first.shape
    sizes = zip(own, result.first.shape, result.second.shape, strict=True)
    parts = [w.batch() if a != b else w.integers(1 if mine == a else a) for mine, a, b in sizes]
    w.put(result, w.node("Expand", w.arranged(x), w.node("Concat", *parts, axis=0)))


OPERATORS: dict[str, Callable[[Writer, Call], None]] = {
    "conv2d_forward": _conv, "linear_forward": _linear, "batch_norm_inference": _batch_norm,
    "layer_norm_forward": _layer_norm, "attention_forward": _attention, "unary": _unary, "binary": _binary,
    "power": _power, "max_pool_forward": _pool("MaxPool"), "avg_pool_forward": _pool("AveragePool"),
    "mean": _reduce("ReduceMean"), "sum": _reduce("ReduceSum"), "max": _reduce("ReduceMax"),
    "softmax": _softmax("Softmax"), "log_softmax": _softmax("LogSoftmax"), "matmul": _matmul,
    "transpose": _transpose, "cat": _cat, "pad2d": _pad2d, "getitem": _getitem, "broadcast_to": _broadcast_to,
}  # fmt: skip
IGNORED = ("from_numpy", "to_numpy")
