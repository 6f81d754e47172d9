"""Every kernel family as a case of `bench kernels`: its arrays, the bytes it must move, its arithmetic.

One table serves the benchmark, its tests (which hold the declared arrays to those of a real call) and the
table in docs/kernels.md. Bytes are those of a call whose arrays do not fit into a cache: an array that is
read twice counts twice. FLOPs count an addition, a multiplication, a comparison or a function such as exp as
one; two for each product of a dot product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..precision import Precision
from ..validate import choice

SIZES = ("tiny", "in-situ", "large")

Arrays = Mapping[str, Any]  # by name, on the device; a list where an operand has a count


@dataclass(frozen=True)
class Setting:
    """What a policy asks of a kernel, and where it runs."""

    device: str
    precision: Precision

    @property
    def acc(self) -> str:
        """Return the accumulator of sums."""
        return self.precision.accumulate

    def dtype(self, kind: str) -> str:
        """Return the dtype of an operand's `kind`."""
        if kind in ("storage", "parameter"):
            return self.precision.storage
        if kind == "statistics":
            return self.precision.statistics
        if kind == "state":
            return "float32" if self.precision.update == "master32" else self.precision.storage
        return "float32" if kind == "master" else kind


@dataclass(frozen=True)
class Operand:
    """An array of a call and how often it crosses the memory bus: `reads` and `writes` of all of it.

    kind: "storage", "statistics", "state" (of an optimizer), "parameter" and "master" (one of which an
    optimizer reads), or a dtype. count: this many arrays of the shape. limit: integers are drawn below it.
    positive: only positive values make sense.
    """

    shape: tuple[int, ...]
    reads: int = 1
    writes: int = 0
    kind: str = "storage"
    count: int = 1
    limit: int = 0
    positive: bool = False

    @property
    def elements(self) -> int:
        """Return the number of elements of all its arrays."""
        return self.count * math.prod(self.shape)

    def nbytes(self, setting: Setting) -> int:
        """Return the bytes of all its arrays."""
        return self.elements * np.dtype(setting.dtype(self.kind)).itemsize

    def moved(self, setting: Setting) -> int:
        """Return the bytes of all its arrays that a call reads and writes."""
        masters = setting.precision.update == "master32"
        if self.kind == "master" and not masters:
            return 0
        reads = 0 if self.kind == "parameter" and masters else self.reads
        return self.nbytes(setting) * (reads + self.writes)


Prepare: TypeAlias = Callable[[Any, Arrays, Setting], Callable[[], Any]]  # the backend, its arrays


@dataclass(frozen=True)
class Kernel:
    """One operation at one size.

    `operands` are its arrays by name; those in `outputs` are returned by the call in this order, the others
    are given to it (and, with `writes`, updated in place). `prepare` makes the call. `per_item` FLOPs for
    each of `items`, in words `item`. `dot_products`: bound by them, so that the floor knows their rate.
    """

    family: str
    name: str
    operands: Mapping[str, Operand]
    outputs: tuple[str, ...]
    per_item: float
    items: int
    item: str
    prepare: Prepare
    dot_products: bool = False

    @property
    def flops(self) -> int:
        """Return the arithmetic of a call."""
        return round(self.per_item * self.items)

    def bytes(self, setting: Setting) -> int:
        """Return the bytes a call must move."""
        return sum(operand.moved(setting) for operand in self.operands.values())

    def shape(self) -> str:
        """Return the shape of the largest operand in words."""
        largest = max(self.operands.values(), key=lambda o: o.elements)
        text = "x".join(map(str, largest.shape))
        return f"{largest.count} x {text}" if largest.count > 1 else text

    def inputs(self, setting: Setting, seed: int = 0) -> dict[str, Any]:
        """Return the given arrays in NumPy, drawn from `seed`."""
        generator = np.random.default_rng(seed)
        drawn: dict[str, Any] = {}
        for name, operand in self.operands.items():
            if name in self.outputs:
                continue
            many = [_draw(operand, setting, generator) for _ in range(operand.count)]
            drawn[name] = many if operand.count > 1 else many[0]
        return drawn


_DRAWN = 1 << 20  # more elements repeat these: drawing them would take longer than the measurement


def _draw(operand: Operand, setting: Setting, generator: np.random.Generator) -> np.ndarray:
    count = math.prod(operand.shape)
    dtype = setting.dtype(operand.kind)
    drawn = min(count, _DRAWN)
    if operand.limit:
        values: np.ndarray = generator.integers(0, operand.limit, drawn)
    else:
        values = generator.standard_normal(drawn, np.float32)
        values = np.abs(values) + np.float32(0.1) if operand.positive else values
    return np.resize(values.astype(dtype), operand.shape)


def kernels(size: str) -> list[Kernel]:
    """Return every case of a size.

    Args:
        size: "tiny" (tests), "in-situ" (as in ResNet-56, VGG-16 or ViT-8 at batch 256), or "large" (an array
            of at least 256 MB in binary16, so that no cache holds it).

    Raises:
        ValueError: there is no such size.

    >>> from fp16engine.bench import kernel_cases
    >>> sorted({kernel.family for kernel in kernel_cases.kernels("tiny")})[:3]
    ['attention', 'batch norm', 'cast']
    """
    choice("size", size, SIZES)
    families = (
        _batch_norm, _layer_norm, _softmax, _cross_entropy, _pooling, _elementwise, _dropout, _cast,
        _reductions, _rows, _attention, _optimizers, _depthwise, _products, _convolutions,
    )  # fmt: skip
    return [kernel for family in families for kernel in family(size)]


def _pick(size: str, tiny: Any, in_situ: Any, large: Any) -> Any:
    return dict(zip(SIZES, (tiny, in_situ, large), strict=True))[size]


def _features(size: str) -> tuple[int, int, int, int]:
    """The feature maps of ResNet-56's first stage, (N, H, W, C)."""
    shape: tuple[int, int, int, int] = _pick(size, (2, 6, 6, 8), (256, 32, 32, 16), (8192, 32, 32, 16))
    return shape


def _read(shape: tuple[int, ...], times: int = 1, **options: Any) -> Operand:
    return Operand(shape, times, 0, **options)


def _written(shape: tuple[int, ...], **options: Any) -> Operand:
    return Operand(shape, 0, 1, **options)


def _updated(shape: tuple[int, ...], **options: Any) -> Operand:
    return Operand(shape, 1, 1, **options)


# Normalisation


def _batch_norm_forward(activation: str | None) -> Prepare:
    return lambda b, a, s: (
        lambda: b.batch_norm_forward(**a, momentum=0.99, eps=1e-3, activation=activation, acc=s.acc)
    )


def _batch_norm_backward(activation: str | None) -> Prepare:
    return lambda b, a, s: lambda: b.batch_norm_backward(**a, activation=activation, acc=s.acc)


def _batch_norm(size: str) -> Iterator[Kernel]:
    shape = _features(size)
    channels, count = shape[-1:], math.prod(shape)
    vector = {"gamma": _read(channels, kind="statistics"), "beta": _read(channels, kind="statistics")}
    running = {
        "running_mean": _updated(channels, kind="statistics"),
        "running_var": _updated(channels, kind="statistics", positive=True),
    }
    saved = {
        "mean": _written(channels, kind="statistics"),
        "inv_std": _written(channels, kind="statistics"),
    }
    for activation in (None, "relu"):
        suffix = " with ReLU" if activation else ""
        yield Kernel(
            "batch norm",
            f"batch_norm_forward{suffix}",
            {"x": _read(shape, 2), **vector, **running, "y": _written(shape), **saved},
            ("y", "mean", "inv_std"),
            9 if activation else 8,
            count,
            "element",
            _batch_norm_forward(activation),
        )
        yield Kernel(
            "batch norm",
            f"batch_norm_backward{suffix}",
            {
                "x": _read(shape, 2),
                **vector,
                "mean": _read(channels, kind="statistics"),
                "inv_std": _read(channels, kind="statistics", positive=True),
                "dy": _read(shape, 2),
                "dx": _written(shape),
                "dgamma": _written(channels, kind="statistics"),
                "dbeta": _written(channels, kind="statistics"),
            },
            ("dx", "dgamma", "dbeta"),
            17 if activation else 11,
            count,
            "element",
            _batch_norm_backward(activation),
        )
    yield Kernel(
        "batch norm",
        "batch_norm_forward with residual and ReLU",
        {
            "x": _read(shape, 2), "residual": _read(shape), **vector, **running, "y": _written(shape), **saved
        },
        ("y", "mean", "inv_std"),
        10,
        count,
        "element",
        _batch_norm_forward("relu"),
    )  # fmt: skip
    yield Kernel(
        "batch norm",
        "batch_norm_forward of a sum with ReLU",
        {
            "x": _read(shape), "addend": _read(shape), **vector, **running,
            "y": _written(shape), **saved, "s": Operand(shape, 1, 1),
        },
        ("y", "mean", "inv_std", "s"),
        10,
        count,
        "element",
        _batch_norm_forward("relu"),
    )  # fmt: skip
    gradients = {
        "mean": _read(channels, kind="statistics"),
        "inv_std": _read(channels, kind="statistics", positive=True),
        "dx": _written(shape),
        "dgamma": _written(channels, kind="statistics"),
        "dbeta": _written(channels, kind="statistics"),
    }
    yield Kernel(
        "batch norm",
        "batch_norm_backward with residual and ReLU",
        {
            "x": _read(shape, 2), **vector, "y": _read(shape), "dy": _read(shape), **gradients,
            "dr": Operand(shape, 1, 1),
        },
        ("dx", "dgamma", "dbeta", "dr"),
        12,
        count,
        "element",
        _batch_norm_backward("relu"),
    )  # fmt: skip
    yield Kernel(
        "batch norm",
        "batch_norm_backward of a sum with ReLU",
        {
            "x": _read(shape, 2), **vector, "dy": _read(shape, 2), "pending_grad": _read(shape), **gradients,
            "db": _written(channels),
        },
        ("dx", "dgamma", "dbeta", "db"),
        19,
        count,
        "element",
        lambda b, a, s: lambda: b.batch_norm_backward(**a, activation="relu", acc=s.acc, sums=True),
    )  # fmt: skip
    yield Kernel(
        "batch norm",
        "batch_norm_inference",
        {
            "x": _read(shape),
            **vector,
            "running_mean": _read(channels, kind="statistics"),
            "running_var": _read(channels, kind="statistics", positive=True),
            "y": _written(shape),
        },
        ("y",),
        4,
        count,
        "element",
        lambda b, a, s: lambda: b.batch_norm_inference(**a, eps=1e-3, activation=None),
    )


def _layer_norm(size: str) -> Iterator[Kernel]:
    rows, width = _pick(size, (10, 24), (6400, 64), (1 << 21, 64))
    vector = {"gamma": _read((width,), kind="statistics")}
    yield Kernel(
        "layer norm",
        "layer_norm_forward",
        {
            "x": _read((rows, width)),
            **vector,
            "beta": _read((width,), kind="statistics"),
            "y": _written((rows, width)),
            "mean": _written((rows,), kind="statistics"),
            "inv_std": _written((rows,), kind="statistics"),
        },
        ("y", "mean", "inv_std"),
        8,
        rows * width,
        "element",
        lambda b, a, s: lambda: b.layer_norm_forward(**a, eps=1e-6, acc=s.acc),
    )
    yield Kernel(
        "layer norm",
        "layer_norm_backward",
        {
            "x": _read((rows, width)),
            **vector,
            "mean": _read((rows,), kind="statistics"),
            "inv_std": _read((rows,), kind="statistics", positive=True),
            "dy": _read((rows, width)),
            "dx": _written((rows, width)),
            "dgamma": _written((width,), kind="statistics"),
            "dbeta": _written((width,), kind="statistics"),
        },
        ("dx", "dgamma", "dbeta"),
        14,
        rows * width,
        "element",
        lambda b, a, s: lambda: b.layer_norm_backward(**a, acc=s.acc),
    )


# Softmax and the loss


def _softmax(size: str) -> Iterator[Kernel]:
    shape = _pick(size, (7, 25), (25600, 25), (1 << 17, 1024))
    count = math.prod(shape)
    yield Kernel(
        "softmax",
        "softmax",
        {"x": _read(shape), "y": _written(shape)},
        ("y",),
        5,
        count,
        "element",
        lambda b, a, s: lambda: b.softmax(**a, axis=-1, acc=s.acc),
    )
    yield Kernel(
        "softmax",
        "softmax_backward",
        {"y": _read(shape), "dy": _read(shape), "dx": _written(shape)},
        ("dx",),
        4,
        count,
        "element",
        lambda b, a, s: lambda: b.softmax_backward(**a, axis=-1, acc=s.acc),
    )


def _cross_entropy(size: str) -> Iterator[Kernel]:
    rows, classes = _pick(size, (9, 10), (256, 10), (1 << 17, 1024))
    logits = {
        "logits": _read((rows, classes)),
        "labels": _read((rows,), kind="int64", limit=classes),
    }
    yield Kernel(
        "softmax + cross-entropy",
        "cross_entropy_forward",
        {**logits, "loss": _written(())},
        ("loss",),
        4,
        rows * classes,
        "logit",
        lambda b, a, s: lambda: b.cross_entropy_forward(**a, acc=s.acc),
    )
    yield Kernel(
        "softmax + cross-entropy",
        "cross_entropy_backward",
        {**logits, "dy": _read(()), "dlogits": _written((rows, classes))},
        ("dlogits",),
        7,
        rows * classes,
        "logit",
        lambda b, a, s: lambda: b.cross_entropy_backward(**a, acc=s.acc),
    )


# Pooling


def _pooling(size: str) -> Iterator[Kernel]:
    shape = n, h, w, c = _features(size)
    pooled = (n, h // 2, w // 2, c)
    count = math.prod(pooled)
    window = ((2, 2), (2, 2), (0, 0, 0, 0))
    yield Kernel(
        "pooling",
        "max_pool_forward 2x2",
        {"x": _read(shape), "y": _written(pooled), "index": _written(pooled, kind="uint8")},
        ("y", "index"),
        3,
        count,
        "output",
        lambda b, a, s: lambda: b.max_pool_forward(a["x"], *window),
    )
    yield Kernel(
        "pooling",
        "max_pool_backward 2x2",
        {"index": _read(pooled, kind="uint8", limit=4), "dy": _read(pooled), "dx": _written(shape)},
        ("dx",),
        4,
        count,
        "output",
        lambda b, a, s: lambda: b.max_pool_backward(a["index"], a["dy"], shape, *window, s.acc),
    )
    yield Kernel(
        "pooling",
        "avg_pool_forward 2x2",
        {"x": _read(shape), "y": _written(pooled)},
        ("y",),
        5,
        count,
        "output",
        lambda b, a, s: lambda: b.avg_pool_forward(a["x"], *window, s.acc),
    )
    yield Kernel(
        "pooling",
        "avg_pool_backward 2x2",
        {"dy": _read(pooled), "dx": _written(shape)},
        ("dx",),
        5,
        count,
        "output",
        lambda b, a, s: lambda: b.avg_pool_backward(a["dy"], shape, *window, s.acc),
    )
    deep = _pick(size, (2, 4, 4, 8), (256, 8, 8, 64), (32768, 8, 8, 64))
    yield Kernel(
        "pooling",
        "global average",
        {"x": _read(deep), "y": _written((deep[0], 1, 1, deep[3]))},
        ("y",),
        1,
        math.prod(deep),
        "element",
        lambda b, a, s: lambda: b.mean(a["x"], (1, 2), s.acc),
    )


# Elementwise


def _unary(op: str) -> Prepare:
    return lambda b, a, s: lambda: b.unary(op, a["x"])


def _elementwise(size: str) -> Iterator[Kernel]:
    shape = _features(size)
    count = math.prod(shape)
    for op, flops in (("relu", 1), ("gelu", 4), ("tanh", 1)):
        yield Kernel(
            "elementwise",
            op,
            {"x": _read(shape), "y": _written(shape)},
            ("y",),
            flops,
            count,
            "element",
            _unary(op),
        )
    yield Kernel(
        "elementwise",
        "relu_backward",
        {"y": _read(shape), "dy": _read(shape), "dx": _written(shape)},
        ("dx",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.unary_backward("relu", None, a["y"], a["dy"]),
    )
    yield Kernel(
        "elementwise",
        "gelu_backward",
        {"x": _read(shape), "dy": _read(shape), "dx": _written(shape)},
        ("dx",),
        8,
        count,
        "element",
        lambda b, a, s: lambda: b.unary_backward("gelu", a["x"], None, a["dy"]),
    )
    yield Kernel(
        "elementwise",
        "add",
        {"a": _read(shape), "b": _read(shape), "y": _written(shape)},
        ("y",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.binary("add", a["a"], a["b"]),
    )
    yield Kernel(
        "elementwise",
        "add bias",
        {"a": _read(shape), "b": _read(shape[-1:]), "y": _written(shape)},
        ("y",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.binary("add", a["a"], a["b"]),
    )


def _dropout(size: str) -> Iterator[Kernel]:
    shape = _features(size)
    yield Kernel(
        "dropout",
        "dropout",
        {"x": _read(shape), "y": _written(shape)},
        ("y",),
        2,
        math.prod(shape),
        "element, plus Philox",
        lambda b, a, s: lambda: b.dropout(a["x"], 0.1, 7, 0),
    )


def _cast_to(dtype: str) -> Prepare:
    return lambda b, a, s: lambda: b.cast(a["x"], dtype)


def _cast(size: str) -> Iterator[Kernel]:
    shape = _features(size)
    for source, target in (("float16", "float32"), ("float32", "float16")):
        yield Kernel(
            "cast",
            f"cast {source} to {target}",
            {"x": _read(shape, kind=source), "y": _written(shape, kind=target)},
            ("y",),
            1,
            math.prod(shape),
            "element",
            _cast_to(target),
        )


# Reductions and rows


def _reductions(size: str) -> Iterator[Kernel]:
    shape = _features(size)
    count = math.prod(shape)
    yield Kernel(
        "reductions",
        "sum over all but channels",
        {"x": _read(shape), "y": _written((1, 1, 1, shape[-1]))},
        ("y",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.sum(a["x"], (0, 1, 2), s.acc),
    )
    yield Kernel(
        "reductions",
        "sum of everything",
        {"x": _read(shape), "y": _written((1, 1, 1, 1))},
        ("y",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.sum(a["x"], (0, 1, 2, 3), s.acc),
    )
    yield Kernel(
        "reductions",
        "max over channels",
        {"x": _read(shape), "y": _written((*shape[:-1], 1))},
        ("y",),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.max(a["x"], (3,)),
    )
    yield Kernel(
        "reductions",
        "all_finite",
        {"x": _read(shape)},
        (),
        1,
        count,
        "element",
        lambda b, a, s: lambda: b.all_finite([a["x"]]),
    )


def _rows(size: str) -> Iterator[Kernel]:
    rows, width = _pick(size, (6, 40), (256, 3072), (1 << 16, 2048))
    yield Kernel(
        "rows",
        "gather a batch",
        {
            "data": _read((rows, width)),
            "index": _read((rows,), kind="int64", limit=rows),
            "y": _written((rows, width)),
        },
        ("y",),
        0,
        rows * width,
        "element",
        lambda b, a, s: lambda: b.gather(a["data"], a["index"]),
    )


# Attention


def _attention(size: str) -> Iterator[Kernel]:
    batch, heads, length, width = _pick(size, (2, 2, 5, 8), (256, 4, 25, 64), (20992, 4, 25, 64))
    shape, scores = (batch, heads, length, width), (batch, heads, length, length)
    pairs = batch * heads * length * length
    yield Kernel(
        "attention",
        "attention_forward",
        {
            "q": _read(shape),
            "k": _read(shape),
            "v": _read(shape),
            "y": _written(shape),
            "probs": _written(scores),
        },
        ("y", "probs"),
        4 * width + 5,
        pairs,
        f"pair of positions, heads of {width}",
        lambda b, a, s: lambda: b.attention_forward(**a, lengths=None, causal=False, acc=s.acc),
    )
    yield Kernel(
        "attention",
        "attention_backward",
        {
            "q": _read(shape),
            "k": _read(shape),
            "v": _read(shape),
            "probs": _read(scores),
            "dy": _read(shape),
            "dq": _written(shape),
            "dk": _written(shape),
            "dv": _written(shape),
        },
        ("dq", "dk", "dv"),
        8 * width + 4,
        pairs,
        f"pair of positions, heads of {width}",
        lambda b, a, s: lambda: b.attention_backward(**a, acc=s.acc),
    )


# Optimizers: the kernel of `step()`, with the little Python around it


def _optimizer(name: str, **settings: Any) -> Prepare:
    def prepare(_: Any, a: Arrays, s: Setting) -> Callable[[], Any]:
        from .. import optim
        from ..tensor import Tensor

        params = [Tensor(p, s.device, requires_grad=True) for p in a["params"]]
        for p, grad in zip(params, a["grads"], strict=True):
            p.grad = Tensor(grad, s.device)
        update = s.precision.update
        optimizer = getattr(optim, name)(params, lr=1e-6, update=update, **settings)

        def step() -> list[Any]:
            optimizer.step()
            state = [arrays for slot in optimizer.slots for arrays in optimizer.state[slot]]
            return state + [master for master in optimizer.masters if master is not None]

        return step

    return prepare


def _optimizers(size: str) -> Iterator[Kernel]:
    count, shape = _pick(size, (3, (5, 7)), (54, (32, 3, 3, 32)), (8, (1 << 24,)))
    shared = {"params": _updated(shape, kind="parameter", count=count), "grads": _read(shape, count=count)}
    masters = {"masters": _updated(shape, kind="master", count=count)}
    for label, slots, flops, prepare in (
        ("SGD with momentum", ("momenta",), 5, _optimizer("SGD", momentum=0.9)),
        ("Adam", ("m", "v"), 14, _optimizer("Adam")),
        ("RMSprop", ("v",), 9, _optimizer("RMSprop")),
    ):
        yield Kernel(
            "optimizer",
            label,
            {**shared, **{slot: _updated(shape, kind="state", count=count) for slot in slots}, **masters},
            (*slots, "masters"),
            flops,
            count * math.prod(shape),
            "parameter",
            prepare,
        )


# Dot products


def _convolution(
    family: str, label: str, x: tuple[int, int, int, int], k: int, groups: int
) -> Iterator[Kernel]:
    n, h, w, c = x
    weight, y = (k, 3, 3, c // groups), (n, h, w, k)
    geometry = ((1, 1), (1, 1, 1, 1), groups)
    terms = 9 * (c // groups)

    def how(backend: Any, setting: Setting) -> dict[str, str]:
        return {"algorithm": setting.precision.convolution_by(backend, weight, (1, 1), groups)}

    shared: dict[str, Any] = {
        "per_item": 2 * terms,
        "items": math.prod(y),
        "item": "output",
        "dot_products": groups == 1,
    }
    yield Kernel(
        family,
        f"{label} forward",
        {"x": _read(x), "w": _read(weight), "b": _read((k,)), "y": _written(y)},
        ("y",),
        prepare=lambda b, a, s: (
            lambda: b.conv2d_forward(a["x"], a["w"], a["b"], *geometry, s.acc, **how(b, s))
        ),
        **shared,
    )
    operands = {"x": _read(x), "w": _read(weight), "dy": _read(y)}
    yield Kernel(
        family,
        f"{label} data gradient",
        {**operands, "x": _read(x, 0), "dx": _written(x)},
        ("dx",),
        prepare=lambda b, a, s: (
            lambda: b.conv2d_backward(
                a["x"], a["w"], a["dy"], *geometry, (True, False, False), s.acc, **how(b, s)
            )[0]
        ),
        **shared,
    )
    yield Kernel(
        family,
        f"{label} weight gradient",
        {**operands, "w": _read(weight, 0), "dw": _written(weight)},
        ("dw",),
        prepare=lambda b, a, s: (
            lambda: b.conv2d_backward(
                a["x"], a["w"], a["dy"], *geometry, (False, True, False), s.acc, **how(b, s)
            )[1]
        ),
        **shared,
    )


def _depthwise(size: str) -> Iterator[Kernel]:
    x = _pick(size, (2, 5, 5, 8), (256, 16, 16, 96), (5632, 16, 16, 96))
    yield from _convolution("depthwise convolution", f"depthwise 3x3 of {x[3]}", x, x[3], x[3])


def _convolutions(size: str) -> Iterator[Kernel]:
    shapes = _pick(
        size,
        (((2, 5, 5, 8), 8),),
        (
            ((256, 32, 32, 16), 16),  # ResNet-56
            ((256, 16, 16, 32), 32),
            ((256, 8, 8, 64), 64),
            ((256, 32, 32, 64), 64),  # VGG-16
            ((256, 8, 8, 256), 256),
            ((256, 4, 4, 512), 512),
        ),
        (((8192, 32, 32, 16), 16), ((2048, 16, 16, 256), 256)),
    )
    for x, k in shapes:
        yield from _convolution("convolution", f"conv 3x3 {x[3]}->{k} at {x[1]}x{x[2]}", x, k, 1)


def _products(size: str) -> Iterator[Kernel]:
    for m, n, k in _pick(size, ((6, 8, 24),), ((6400, 512, 64), (256, 4096, 4096)), ((8192, 8192, 8192),)):
        yield Kernel(
            "matrix product",
            f"linear ({m}, {k}) ({k}, {n}) + bias",
            {"x": _read((m, k)), "w": _read((n, k)), "b": _read((n,)), "y": _written((m, n))},
            ("y",),
            2 * k,
            m * n,
            "output",
            lambda b, a, s: lambda: b.linear_forward(a["x"], a["w"], a["b"], s.acc),
            dot_products=True,
        )
        yield Kernel(
            "matrix product",
            f"linear ({m}, {k}) ({k}, {n}) data gradient",
            {"dy": _read((m, n)), "w": _read((n, k)), "dx": _written((m, k))},
            ("dx",),
            2 * n,
            m * k,
            "output",
            lambda b, a, s: lambda: b.matmul(a["dy"], a["w"], False, False, s.acc),
            dot_products=True,
        )
        yield Kernel(
            "matrix product",
            f"linear ({m}, {k}) ({k}, {n}) weight gradient",
            {"dy": _read((m, n)), "x": _read((m, k)), "dw": _written((n, k))},
            ("dw",),
            2 * m,
            n * k,
            "output",
            lambda b, a, s: lambda: b.matmul(a["dy"], a["x"], True, False, s.acc),
            dot_products=True,
        )


# For people

# Of an H200, from public figures (4.8 TB/s of HBM3e, of which a copy reaches nine tenths; 990 TFLOP/s, where
# a large product reaches eight): `bench kernels` measures them where it runs.
COPY_RATE, PRODUCT_RATE = 4.3e12, 790e12


def markdown(size: str = "in-situ", precision: str = "fp16") -> str:
    """Return the table of docs/kernels.md: arrays, bytes, FLOPs and floor of every kernel of a size.

    >>> markdown("tiny").splitlines()[2].split("|")[1:4]
    [' batch_norm_forward ', ' 2x6x6x8 ', ' 2 x, y ']
    """
    setting = Setting("cuda", Precision.get(precision))
    lines = [
        "| kernel | largest array | passes | MB | FLOPs | MFLOP | floor, us |",
        "|---|---|---|---|---|---|---|",
    ]
    for kernel in kernels(size):
        moved = kernel.bytes(setting)
        floor = max(moved / COPY_RATE, kernel.flops / PRODUCT_RATE if kernel.dot_products else 0.0)
        most = max(operand.elements for operand in kernel.operands.values())
        passes = [
            f"{f'{times} ' if times > 1 else ''}{name}"
            for name, operand in kernel.operands.items()
            if (times := operand.moved(setting) // operand.nbytes(setting)) and 16 * operand.elements >= most
        ]
        lines.append(
            f"| {kernel.name} | {kernel.shape()} | {', '.join(passes)} | {moved / 1e6:.3g} | "
            f"{kernel.per_item:g} per {kernel.item} | {kernel.flops / 1e6:.3g} | {1e6 * floor:.2g} |"
        )
    return "\n".join(lines) + "\n"
