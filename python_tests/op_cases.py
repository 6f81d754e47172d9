"""One table of cases per backend function: shapes, options, value ranges, and the tier that judges it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from bounds import HAS_BFLOAT16
from op_case import ACC, RANGES, Arrays, Case, Fill

from fp16engine.backend.base import COUNTS, StepScalars
from fp16engine.backend.blocks import Blocks
from fp16engine.block_format import BlockFormat

# Elementwise

_PAIRS = {
    "same": ((17, 33), (17, 33)),
    "one": ((1,), (1,)),
    "scalars": ((), ()),
    "empty": ((0, 3), (1, 3)),
    "rows": ((5, 33), (33,)),
    "columns": ((7, 1), (7, 19)),
    "both-ways": ((3, 1, 5), (4, 1)),
    "image": ((2, 3, 5, 17), (17,)),
}
_BINARY = [
    Case(
        "binary",
        f"{op}-{label}",
        "bits",
        {"op": op, "a": Fill(a), "b": Fill(b)},
        exact=op != "div",
        ranges=RANGES,
    )
    for op in ("add", "sub", "mul", "div")
    for label, (a, b) in _PAIRS.items()
] + [
    Case("binary", f"{op}-{label}", "bits", {"op": op, **arguments}, ranges=RANGES)
    for op in ("add", "sub", "mul", "div")
    for label, arguments in {
        "number-right": {"a": Fill((5, 7)), "b": 0.1},
        "number-left": {"a": -3.0, "b": Fill((33,))},
    }.items()
]
_ROUNDED = ("gelu", "tanh", "exp", "log")
_UNARY = [
    Case(
        "unary",
        f"{op}-{label}",
        "rounded" if op in _ROUNDED else "bits",
        {"op": op, "x": Fill(shape, "positive" if op in ("log", "sqrt") else "values")},
        exact=op in ("relu", "relu6", "neg"),
        ranges=RANGES,
    )
    for op in ("relu", "relu6", "neg", "sqrt", *_ROUNDED)
    for label, shape in {"one": (1,), "ragged": (17, 33), "scalar": (), "empty": (0,)}.items()
]
_SAVED = {"relu": "values", "relu6": "values", "tanh": "unit", "exp": "positive", "sqrt": "positive"}
_UNARY_BACKWARD = [
    Case(
        "unary_backward",
        op,
        "rounded" if op == "gelu" else "bits",
        {
            "op": op,
            "x": Fill((17, 33), "positive" if op == "log" else "values") if op in ("gelu", "log") else None,
            "y": Fill((17, 33), _SAVED[op]) if op in _SAVED else None,
            "dy": Fill((17, 33)),
        },
        ranges=("normal", "large", "subnormal"),
    )
    for op in ("relu", "relu6", "neg", "sqrt", "tanh", "exp", "log", "gelu")
]
_POWER = [
    Case(
        "power",
        f"{exponent}",
        "rounded",
        {"x": Fill((17, 33), "positive"), "exponent": exponent},
        ranges=("normal",),
    )
    for exponent in (2.0, 0.5, -1.0, 3.0, -0.5, 1.75)
]
_CAST = [
    Case("cast", f"to-{dtype}", "bits", {"x": Fill((17, 33)), "dtype": dtype}, ranges=RANGES)
    for dtype in ("float16", *(["bfloat16"] if HAS_BFLOAT16 else []), "float32")
]

# Shape

_SHAPE = [
    Case("transpose", "reverse", "bits", {"x": Fill((3, 5, 7)), "axes": (2, 1, 0)}, exact=True),
    Case("transpose", "swap", "bits", {"x": Fill((2, 17, 33)), "axes": (0, 2, 1)}, exact=True),
    Case("transpose", "empty", "bits", {"x": Fill((0, 3)), "axes": (1, 0)}),
    Case("broadcast_to", "rows", "bits", {"x": Fill((17,)), "shape": (3, 17)}, exact=True),
    Case("broadcast_to", "inner", "bits", {"x": Fill((4, 1, 5)), "shape": (2, 4, 3, 5)}, exact=True),
    Case("broadcast_to", "scalar", "bits", {"x": Fill(()), "shape": (2, 3)}, exact=True),
    Case("cat", "last", "bits", {"xs": [Fill((2, 3)), Fill((2, 1)), Fill((2, 17))], "axis": 1}, exact=True),
    Case("cat", "first", "bits", {"xs": [Fill((2, 3)), Fill((0, 3)), Fill((5, 3))], "axis": 0}, exact=True),
    Case("pad2d", "uneven", "bits", {"x": Fill((2, 3, 5, 17)), "pads": (0, 1, 2, 3)}, exact=True),
    Case("crop2d", "uneven", "bits", {"x": Fill((2, 7, 9, 17)), "pads": (0, 1, 2, 3)}, exact=True),
    Case("copy", "ragged", "bits", {"x": Fill((3, 17))}, exact=True, ranges=("special",)),
] + [
    Case("getitem", label, "bits", {"x": Fill((7, 9, 5)), "index": index}, exact=True)
    for label, index in {
        "integer": 3,
        "slices": (slice(1, 6, 2), slice(None, None, -1)),
        "ellipsis": (..., 2),
        "new-axis": (None, 1),
        "array": (np.array([4, 1, 1, 6]),),
        "mask": (np.arange(7) % 2 == 0,),
    }.items()
]
_INDEX_ADD = [
    Case(
        "index_add",
        label,
        "sums",
        {"shape": (7, 9, 5), "dtype": dtype, "index": index, "dy": Fill(shape), "acc": ACC},
        exact=True,
        storage=(dtype,),
    )
    for dtype in ("float16", *(["bfloat16"] if HAS_BFLOAT16 else []), "float32")
    for label, index, shape in (
        (f"slice-{dtype}", (slice(1, 6, 2),), (3, 9, 5)),
        (f"repeated-{dtype}", (np.array([4, 1, 1, 1, 6] * 9),), (45, 9, 5)),
        (f"integer-{dtype}", 2, (9, 5)),
    )
]

# Reductions

_AXES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "last": ((5, 33), (1,)),
    "first": ((700, 3), (0,)),
    "all": ((3, 5, 7), (0, 1, 2)),
    "outer": ((2, 7, 9, 17), (0, 1, 2)),
    "middle": ((4, 33, 5), (1,)),
    "two-apart": ((3, 4, 5, 6), (0, 2)),
    "one-term": ((4, 1), (1,)),
    "block": ((32, 2), (0,)),
    "block-and-one": ((33, 2), (0,)),
    "many-blocks": ((1000, 2), (0,)),
}


def _maximum(axes: Any) -> Callable[[Any, Any], Any]:
    return lambda reference, a: reference.max(a["x"], axes)


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))


_REDUCE = [
    *(
        Case(
            op, label, "sums", {"x": Fill(shape), "axes": axes, "acc": ACC}, exact=op == "sum", ranges=RANGES
        )
        for op in ("sum", "mean")
        for label, (shape, axes) in _AXES.items()
    ),
    Case("sum", "no-term", "sums", {"x": Fill((0, 3)), "axes": (0,), "acc": ACC}, exact=True),
    Case("add_to_sum", "first", "bits", {"total": None, "x": Fill((5, 7))}, exact=True, ranges=RANGES),
    Case(
        "add_to_sum",
        "next",
        "bits",
        {"total": Fill((5, 7), dtype="float32"), "x": Fill((5, 7))},
        exact=True,
        ranges=RANGES,
    ),
    *(
        Case(
            "mean_of_sum",
            dtype,
            "bits",
            {"total": Fill((5, 7), dtype="float32"), "count": 3, "dtype": dtype},
            ranges=RANGES,
            storage=("float32",),
        )
        for dtype in ("float16", "float32")
    ),
    *(
        Case("max", label, "bits", {"x": Fill(shape), "axes": axes}, exact=True, ranges=RANGES)
        for label, (shape, axes) in _AXES.items()
    ),
    *(
        Case(
            "max_backward",
            label,
            "bits",
            {"x": Fill(shape), "y": ..., "dy": Fill(_kept(shape, axes)), "axes": axes},
            ranges=("integers", "normal", "special"),  # integers: many ties
            derived={"y": _maximum(axes)},
        )
        for label, (shape, axes) in _AXES.items()
    ),
]

# Dot products

_EVERY_SUM = ("integers", "normal", "positive", "large", "subnormal", "special")
_MATMUL = [
    Case(
        "matmul",
        f"{label}{'-a' if ta else ''}{'-b' if tb else ''}",
        "sums",
        {
            "a": Fill((*batch, *((k, m) if ta else (m, k)))),
            "b": Fill((*batch, *((n, k) if tb else (k, n)))),
            "transpose_a": ta,
            "transpose_b": tb,
            "acc": ACC,
        },
        exact=True,
        ranges=_EVERY_SUM if label == "ragged" else ("normal",),
    )
    for label, batch, m, k, n, flags in (
        ("ragged", (), 5, 33, 17, ((False, False), (True, False), (False, True), (True, True))),
        ("one", (), 1, 1, 1, ((False, False),)),
        ("row", (), 1, 130, 3, ((False, False), (False, True))),
        ("block", (), 3, 32, 2, ((False, False),)),
        ("batch", (2, 3), 4, 17, 5, ((False, False), (True, False), (False, True))),
        ("wide", (), 2, 7, 100, ((False, False),)),
        ("long", (), 3, 400, 4, ((False, False), (True, False))),
        ("no-row", (), 0, 5, 3, ((False, False),)),
    )
    for ta, tb in flags
]
_LINEAR_SIZES = {
    "ragged": (5, 17, 33),
    "one": (1, 1, 1),
    "long": (3, 400, 10),
    "wide": (17, 8, 64),
    "no-row": (0, 5, 3),
}
_LINEAR = [
    *(
        Case(
            "linear_forward",
            f"{label}{'-bias' if bias else ''}",
            "sums",
            {"x": Fill((m, k)), "w": Fill((n, k)), "b": Fill((n,)) if bias else None, "acc": ACC},
            exact=True,
            ranges=_EVERY_SUM if label == "ragged" else ("normal",),
        )
        for label, (m, k, n) in _LINEAR_SIZES.items()
        for bias in (False, True)
    ),
    *(
        Case(
            "linear_backward",
            f"{label}-{needs}",
            "sums",
            {
                "x": Fill((m, k)),
                "w": Fill((n, k)),
                "dy": Fill((m, n)),
                "needs": tuple(letter in needs for letter in "xwb"),
                "acc": ACC,
            },
            exact=True,
            ranges=_EVERY_SUM if label == "ragged" else ("normal",),
        )
        for label, (m, k, n) in _LINEAR_SIZES.items()
        for needs in ("xwb", "x", "w", "wb")
    ),
]

CONV = {  # x, (K, kh, kw), stride, pads, groups
    "3x3-same": ((2, 7, 9, 17), (33, 3, 3), (1, 1), (1, 1, 1, 1), 1),
    "3x3-same-even-stride2": ((2, 8, 6, 3), (16, 3, 3), (2, 2), (0, 1, 0, 1), 1),
    "3x3-same-odd-stride2": ((1, 7, 5, 16), (17, 3, 3), (2, 2), (1, 1, 1, 1), 1),
    "1x1": ((3, 5, 4, 16), (8, 1, 1), (1, 1), (0, 0, 0, 0), 1),
    "1x1-stride2": ((2, 5, 6, 7), (9, 1, 1), (2, 2), (0, 0, 0, 0), 1),
    "valid-1x3": ((2, 4, 9, 5), (6, 1, 3), (1, 2), (0, 0, 0, 0), 1),
    "wide-pads": ((1, 3, 4, 2), (3, 2, 4), (1, 1), (1, 2, 3, 2), 1),
    "stride-over-kernel": ((1, 7, 8, 4), (5, 2, 2), (3, 3), (0, 0, 0, 0), 1),
    "groups": ((2, 6, 5, 12), (18, 3, 3), (1, 1), (1, 1, 1, 1), 3),
    "depthwise": ((2, 6, 7, 17), (17, 3, 3), (2, 1), (0, 1, 1, 1), 17),
    "depthwise-wide": ((1, 4, 5, 72), (72, 5, 5), (1, 1), (2, 2, 2, 2), 72),
    "depthwise-multiplier": ((2, 5, 4, 3), (6, 3, 3), (2, 2), (0, 1, 1, 1), 3),
    "one-pixel": ((1, 1, 1, 1), (1, 1, 1), (1, 1), (0, 0, 0, 0), 1),
    "channels-16": ((2, 16, 16, 16), (16, 3, 3), (1, 1), (1, 1, 1, 1), 1),
    "no-image": ((0, 4, 4, 3), (5, 3, 3), (1, 1), (1, 1, 1, 1), 1),
}
_CONV_RANGES = {"3x3-same": _EVERY_SUM, "groups": _EVERY_SUM, "depthwise": _EVERY_SUM}


def _conv_output(x: Any, w: Any, stride: Any, pads: Any) -> tuple[int, ...]:
    rows = (x[1] + pads[0] + pads[1] - w[1]) // stride[0] + 1
    return x[0], rows, (x[2] + pads[2] + pads[3] - w[2]) // stride[1] + 1, w[0]


_CONV2D = [
    *(
        Case(
            "conv2d_forward",
            f"{label}{'-bias' if bias else ''}",
            "sums",
            {
                "x": Fill(x),
                "w": Fill((*w, x[3] // groups), "finite"),
                "b": Fill((w[0],)) if bias else None,
                "stride": stride,
                "pads": pads,
                "groups": groups,
                "acc": ACC,
            },
            exact=True,
            ranges=_CONV_RANGES.get(label, ("normal",)),
        )
        for label, (x, w, stride, pads, groups) in CONV.items()
        for bias in (False, True)
    ),
    *(
        Case(
            "conv2d_backward",
            f"{label}-{needs}",
            "sums",
            {
                "x": Fill(x),
                "w": Fill((*w, x[3] // groups), "finite"),
                "dy": Fill(_conv_output(x, w, stride, pads), "finite"),
                "stride": stride,
                "pads": pads,
                "groups": groups,
                "needs": tuple(letter in needs for letter in "xwb"),
                "acc": ACC,
            },
            exact=True,
            ranges=_CONV_RANGES.get(label, ("normal",)),
        )
        for label, (x, w, stride, pads, groups) in CONV.items()
        for needs in (("xwb", "x", "w", "wb") if label == "3x3-same" else ("xwb",))
    ),
]

# Normalisation: statistics of the storage dtype, or float32 ones next to float16 storage

_NORM_SHAPES = {
    "image": (4, 5, 3, 17),
    "rows": (33, 7),
    "many": (700, 3),
    "wide": (6, 100),
    "one-channel": (9, 1),
}


def _batch_norm() -> Iterable[Case]:
    for label, shape in _NORM_SHAPES.items():
        for statistics in (None, "float32"):
            vector = Fill(shape[-1:], dtype=statistics)
            variance = Fill(shape[-1:], "positive", dtype=statistics)
            storage = ("float16", "float32") if statistics is None else ("float16",)
            for activation in (None, "relu", "relu6"):
                end = "-float32-statistics" if statistics else ""
                name = f"{label}{f'-{activation}' if activation else ''}{end}"
                common = {"x": Fill(shape), "gamma": vector, "beta": vector}
                running = {"running_mean": vector, "running_var": variance}
                yield Case(
                    "batch_norm_forward",
                    name,
                    "norm",
                    {
                        **common,
                        **running,
                        "momentum": 0.99,
                        "eps": 1e-3,
                        "activation": activation,
                        "acc": ACC,
                    },
                    mutates=("running_mean", "running_var"),
                    storage=storage,
                    ranges=("normal", "positive"),
                )
                yield Case(
                    "batch_norm_inference",
                    name,
                    "bits",
                    {**common, **running, "eps": 1e-3, "activation": activation},
                    storage=storage,
                    ranges=("normal", "large", "subnormal"),
                )
                saved = {"mean": vector, "inv_std": variance}
                yield Case(
                    "batch_norm_backward",
                    name,
                    "norm",
                    {**common, **saved, "dy": Fill(shape), "activation": activation, "acc": ACC},
                    storage=storage,
                )


# "vectors": columns that the GPU moves in groups, and rows enough for its threads to take several at once
_ADDED_SHAPES = {"image": (4, 5, 3, 17), "vectors": (2500, 16), "one-channel": (9, 1)}
_ADDED_FORWARD = {
    "residual": (("residual",), None),
    "residual-relu": (("residual",), "relu"),
    "residual-relu6": (("residual",), "relu6"),
    "addend-relu": (("addend",), "relu"),
    "addend-residual": (("addend", "residual"), None),
}
_ADDED_BACKWARD = {
    "residual-relu": (("y",), "relu", False),
    "residual-relu6": (("y",), "relu6", False),
    "pending_grad-relu": (("pending_grad",), "relu", False),
    "sums": ((), None, True),
    "residual-pending_grad-sums": (("y", "pending_grad"), "relu", True),
}


def _batch_norm_running() -> Iterable[Case]:
    """Counted averages, and averages of standard deviations with their rounding errors."""
    for label in ("image", "many", "one-channel"):
        shape = _NORM_SHAPES[label]
        vector, deviation = Fill(shape[-1:]), Fill(shape[-1:], "positive")
        common = {"x": Fill(shape), "gamma": vector, "beta": vector}
        running = {"running_mean": vector, "running_var": deviation}
        options = {
            "momentum": 0.9,
            "eps": 1e-3,
            "activation": None,
            "acc": ACC,
            "residual": None,
            "addend": None,
        }
        counted = {"updates": Fill((1,), "index", 9)}
        kept = {"rest": Fill((2, *shape[-1:]))}
        for name, given in (("counted", counted), ("deviation", counted | kept)):
            yield Case(
                "batch_norm_forward",
                f"{label}-{name}",
                "norm",
                {**common, **running, **options, **given},
                mutates=("running_mean", "running_var", *given),
                storage=("float16",),
                ranges=("normal", "subnormal"),
            )
        yield Case(
            "batch_norm_inference",
            f"{label}-deviation",
            "bits",
            {**common, **running, "eps": 1e-3, "activation": None, "residual": None, "deviation": True},
            ranges=("normal", "large", "subnormal"),
        )


def _batch_norm_with_additions() -> Iterable[Case]:
    """What is added to the input, the output or the gradient, and the sums of the gradient."""
    for label, shape in _ADDED_SHAPES.items():
        for statistics in (None, "float32") if label == "image" else (None,):
            vector = Fill(shape[-1:], dtype=statistics)
            variance = Fill(shape[-1:], "positive", dtype=statistics)
            storage = ("float16", "float32") if statistics is None else ("float16",)
            suffix = f"{label}{'-float32-statistics' if statistics else ''}"
            common = {"x": Fill(shape), "gamma": vector, "beta": vector}
            running = {"running_mean": vector, "running_var": variance}
            for name, (added, activation) in _ADDED_FORWARD.items():
                given = {key: Fill(shape) if key in added else None for key in ("residual", "addend")}
                yield Case(
                    "batch_norm_forward",
                    f"{suffix}-{name}",
                    "norm",
                    {
                        **common,
                        **running,
                        "momentum": 0.99,
                        "eps": 1e-3,
                        "activation": activation,
                        "acc": ACC,
                        **given,
                    },
                    mutates=("running_mean", "running_var"),
                    storage=storage,
                )
            for activation in (None, "relu", "relu6"):
                yield Case(
                    "batch_norm_inference",
                    f"{suffix}-residual{f'-{activation}' if activation else ''}",
                    "bits",
                    {**common, **running, "eps": 1e-3, "activation": activation, "residual": Fill(shape)},
                    storage=storage,
                    ranges=("normal", "special"),
                )
            saved = {"mean": vector, "inv_std": variance}
            for name, (added, activation, sums) in _ADDED_BACKWARD.items():
                given = {key: Fill(shape) if key in added else None for key in ("y", "pending_grad")}
                yield Case(
                    "batch_norm_backward",
                    f"{suffix}-{name}",
                    "norm",
                    {
                        **common,
                        **saved,
                        "dy": Fill(shape),
                        "activation": activation,
                        "acc": ACC,
                        **given,
                        "sums": sums,
                    },
                    storage=storage,
                )


_RELU_ADD_BACKWARD = [
    Case(
        "relu_add_backward", label, "bits", {"y": Fill(shape), "dy": Fill(shape), "pending_grad": Fill(shape)}
    )
    for label, shape in (("tail", (17, 33)), ("vectors", (16, 24)), ("empty", (0, 3)))
]


def _relu_bias() -> Iterable[Case]:
    for label in ("image", "many", "one-channel"):
        shape = _NORM_SHAPES[label]
        given = {"y": Fill(shape), "dy": Fill(shape), "acc": ACC}
        yield Case("relu_bias_backward", label, "sums", given, ranges=("normal", "positive", "integers"))


def _batch_norm_of_cat() -> Iterable[Case]:
    """Channels of two arrays side by side, where vectors can move both, one or none of them."""
    for label, left, right in (("vectors", 16, 8), ("one-odd", 8, 5), ("both-odd", 3, 13)):
        for statistics in (None, "float32") if label == "vectors" else (None,):
            storage = ("float16", "float32") if statistics is None else ("float16",)
            suffix = f"cat-{label}{'-float32-statistics' if statistics else ''}"
            images, channels = (3, 5, 7), left + right
            vector = Fill((channels,), dtype=statistics)
            variance = Fill((channels,), "positive", dtype=statistics)
            common = {"gamma": vector, "beta": vector}
            running = {"running_mean": vector, "running_var": variance}
            x, joined = Fill((*images, left)), Fill((*images, right))
            for activation in (None, "relu", "relu6"):
                yield Case(
                    "batch_norm_forward",
                    f"{suffix}{f'-{activation}' if activation else ''}",
                    "norm",
                    {
                        "x": x, **common, **running, "momentum": 0.99, "eps": 1e-3, "activation": activation,
                        "acc": ACC, "residual": None, "addend": None, "updates": None, "rest": None,
                        "joined": joined,
                    },
                    mutates=("running_mean", "running_var"),
                    storage=storage,
                )  # fmt: skip
            s = Fill((*images, channels))
            for name, pending in (("", None), ("-pending_grad", s)):
                yield Case(
                    "batch_norm_backward",
                    f"{suffix}{name}",
                    "norm",
                    {
                        "x": s, **common, "mean": vector, "inv_std": variance, "dy": s, "activation": "relu6",
                        "acc": ACC, "y": None, "pending_grad": pending, "sums": False, "split": left,
                    },
                    storage=storage,
                )  # fmt: skip


def _layer_norm() -> Iterable[Case]:
    for label, shape in {**_NORM_SHAPES, "token": (2, 5, 64), "scalar-row": (17,)}.items():
        if shape[-1] == 1:
            continue  # the variance of one value is 0, and 1 / sqrt(eps) overflows binary16
        for statistics in (None, "float32"):
            vector = Fill(shape[-1:], dtype=statistics)
            rows = Fill(shape[:-1], dtype=statistics)
            spread = Fill(shape[:-1], "positive", dtype=statistics)
            storage = ("float16", "float32") if statistics is None else ("float16",)
            name = f"{label}{'-float32-statistics' if statistics else ''}"
            yield Case(
                "layer_norm_forward",
                name,
                "norm",
                {"x": Fill(shape), "gamma": vector, "beta": vector, "eps": 1e-6, "acc": ACC},
                storage=storage,
                ranges=("normal", "positive"),
            )
            yield Case(
                "layer_norm_backward",
                name,
                "norm",
                {
                    "x": Fill(shape),
                    "gamma": vector,
                    "mean": rows,
                    "inv_std": spread,
                    "dy": Fill(shape),
                    "acc": ACC,
                },
                storage=storage,
            )


# Softmax

_SOFTMAX_SHAPES = {
    "last": ((5, 33), 1),
    "first": ((33, 5), 0),
    "middle": ((2, 17, 3), 1),
    "negative": ((4, 10), -1),
    "one": ((3, 1), 1),
}
_SOFTMAX = [
    Case(
        f"{op}{'_backward' if backward else ''}",
        label,
        "relative",
        {
            **({"y": Fill(shape, "unit"), "dy": Fill(shape)} if backward else {"x": Fill(shape)}),
            "axis": axis,
            "acc": ACC,
        },
        ranges=("normal",) if backward else ("normal", "positive", "large", "subnormal"),
    )
    for op in ("softmax", "log_softmax")
    for backward in (False, True)
    for label, (shape, axis) in _SOFTMAX_SHAPES.items()
]
_CROSS_ENTROPY = [
    Case(
        f"cross_entropy_{direction}",
        label,
        "relative",
        {
            "logits": Fill((n, k)),
            "labels": Fill((n,), "label" if label.startswith("padded") else "index", k),
            **({"dy": Fill((), "positive")} if direction == "backward" else {}),
            "acc": ACC,
            **({"smoothing": 0.1} if label.endswith("smoothed") else {}),
        },
        ranges=("normal", "positive", "subnormal"),
    )
    for direction in ("forward", "backward")
    for label, (n, k) in {
        "ragged": (17, 10),
        "one": (1, 1),
        "many": (100, 33),
        "one-class": (5, 1),
        "padded": (40, 33),
        "padded-ragged": (3, 10),
        "padded-smoothed": (40, 33),
        "wide-smoothed": (5, 1030),
    }.items()
]

# Pooling

_POOL = {  # x, size, stride, pads
    "2x2": ((2, 6, 8, 17), (2, 2), (2, 2), (0, 0, 0, 0)),
    "2x2-ragged": ((2, 7, 5, 33), (2, 2), (2, 2), (0, 0, 0, 0)),
    "3x3-stride2": ((1, 7, 9, 5), (3, 3), (2, 2), (0, 0, 0, 0)),
    "3x3-same": ((2, 6, 5, 4), (3, 3), (2, 2), (0, 1, 1, 1)),
    "overlap": ((1, 5, 6, 3), (3, 2), (1, 1), (1, 1, 0, 1)),
    "gaps": ((1, 8, 7, 2), (2, 1), (3, 2), (0, 0, 0, 0)),
    "whole": ((3, 4, 5, 1), (4, 5), (1, 1), (0, 0, 0, 0)),
}


def _pools() -> Iterable[Case]:
    for label, (x, size, stride, pads) in _POOL.items():
        window = {"size": size, "stride": stride, "pads": pads}
        dy = Fill(_conv_output(x, (x[3], *size), stride, pads))

        def index(reference: Any, a: Arrays, shape: Any = x, window: Any = window) -> np.ndarray:
            image = np.random.default_rng(a["dy"].size).integers(-2, 3, shape).astype(a["dy"].dtype)
            chosen: np.ndarray = reference.max_pool_forward(image, *window.values())[1]
            return chosen

        sums = ("integers", "normal", "positive", "large", "subnormal")
        yield Case("max_pool_forward", label, "bits", {"x": Fill(x), **window}, exact=True, ranges=RANGES)
        yield Case(
            "max_pool_backward",
            label,
            "sums",
            {"index": ..., "dy": dy, "x_shape": x, **window, "acc": ACC},
            exact=True,
            ranges=sums,
            derived={"index": index},
        )
        yield Case("avg_pool_forward", label, "sums", {"x": Fill(x), **window, "acc": ACC}, ranges=sums)
        yield Case(
            "avg_pool_backward", label, "sums", {"dy": dy, "x_shape": x, **window, "acc": ACC}, ranges=sums
        )


# Random, tables, attention

_DROPOUT = [
    Case(
        "dropout",
        label,
        "bits",
        {"x": Fill(shape), "p": p, "seed": seed, "offset": offset},
        ranges=("normal", "special"),
    )
    for label, shape, p, seed, offset in (
        ("half", (17, 33), 0.5, 7, 0),
        ("tenth", (3, 5, 7), 0.1, 2**64 - 1, 2**40 + 3),
        ("carry", (40,), 0.9, 2**33, 2**32 - 5),
        ("one", (1,), 0.3, 0, 1),
        ("none", (4, 4), 0.0, 1, 1),
    )
]
_AUGMENT = {  # images, flips, rotation, shift, brightness, fill
    "none": ((5, 4, 6, 3), False, 0.0, 0, 0.0, None),
    "flips": ((9, 5, 7, 3), True, 0.0, 0, 0.0, None),
    "shift-mirrored": ((7, 5, 8, 1), True, 0.0, 3, 0.0, None),
    "shift-filled": ((7, 9, 6, 2), True, 0.0, 4, 0.0, -1.0),
    "rotation": ((6, 8, 8, 3), False, 0.2, 0, 0.0, None),
    "rotation-filled": ((4, 7, 10, 1), False, 3.14159, 0, 0.0, 0.5),
    "all": ((9, 16, 17, 3), True, 0.2, 2, 0.4, None),
    "column": ((5, 40, 1, 2), True, 1.5, 1, 0.3, None),
    "pixel": ((3, 1, 1, 1), True, 0.5, 1, 0.1, None),
    "alternating": ((9, 5, 7, 3), True, 0.0, 2, 0.0, None),
}
_AUGMENTED = [
    Case(
        "augment",
        label,
        "bits",
        {
            "data": Fill(shape),
            "index": Fill((7,), "index", shape[0]),
            "seed": 2**40 + len(label),
            "epoch": 3,
            "flip_lr": flips,
            "flip_ud": flips,
            "rotation": rotation,
            "shift": shift,
            "brightness": brightness,
            "low": -1.2,
            "high": 1.7,
            "fill": fill,
            "alternating": label == "alternating",
        },
        exact=rotation == brightness == 0,
        ranges=("normal", "special") if rotation == 0 else ("normal", "subnormal"),
    )
    for label, (shape, flips, rotation, shift, brightness, fill) in _AUGMENT.items()
]
# Block floating point

_BLOCKS = {
    "row-runs": ((2, 5, 130), 2, "hbfp4"),
    "column-runs": ((2, 70, 33), 1, "hbfp6-b16"),
    "one-long-row": ((1, 1, 40000), 2, "hbfp8-b1000"),
    "many-columns": ((1, 300, 65), 1, "hbfp5"),
    "tiles": ((2, 19, 37), 2, "hbfp6-t8"),
    "single-values": ((1, 3, 17), 2, "hbfp3-b1"),
    "few-exponents": ((1, 9, 50), 2, "hbfp4-b7-e3"),
    "widest": ((1, 66, 20), 1, "hbfp16-b1024"),
    "stochastic-rows": ((3, 5, 37), 2, "hbfp4-b16-sr"),
    "stochastic-columns": ((2, 33, 19), 1, "hbfp2-sr"),
    "stochastic-tiles": ((2, 9, 21), 1, "hbfp7-t4-sr"),
    "stochastic-long": ((1, 2, 40001), 2, "hbfp6-sr"),
    "scalar": ((1, 1, 1), 2, "hbfp4"),
    "empty": ((0, 3, 5), 2, "hbfp4"),
}
_QUANTIZE = [
    Case(
        "quantize",
        label,
        "bits",
        {
            "x": Fill(shape),
            "blocks": Blocks(shape, axis),
            "fmt": BlockFormat.named(name).drawing(2**40 + 7, 2**33 - 3),
        },
        ranges=("normal", "large", "subnormal", "special"),
        storage=("float32",),
    )
    for label, (shape, axis, name) in _BLOCKS.items()
]

_EMBEDDING = [
    Case(
        "embedding", "ragged", "bits", {"ids": Fill((5, 7), "index", 11), "table": Fill((11, 17))}, exact=True
    ),
    Case("embedding", "empty", "bits", {"ids": Fill((0,), "index", 3), "table": Fill((3, 5))}, exact=True),
    Case(
        "gather", "images", "bits", {"data": Fill((9, 3, 5, 2)), "index": Fill((13,), "index", 9)}, exact=True
    ),
    Case(
        "gather",
        "labels",
        "bits",
        {"data": Fill((9,), "index", 10), "index": Fill((4,), "index", 9)},
        exact=True,
    ),
    *(
        Case(
            "embedding_backward",
            label,
            "sums",
            {"ids": Fill(ids, "index", rows), "dy": Fill((*ids, d)), "num_rows": rows, "acc": ACC},
            exact=True,
        )
        for label, ids, rows, d in (
            ("ragged", (5, 7), 11, 17),
            ("one-row", (100,), 1, 3),
            ("empty", (0,), 3, 5),
        )
    ),
]
_ATTENTION_SIZES = {
    "ragged": (2, 3, 17, 17, 5),
    "one": (1, 1, 1, 1, 1),
    "head": (1, 2, 33, 33, 64),
    "long": (1, 1, 130, 130, 8),  # more than one kernel of the GPU holds
}


def _probabilities(reference: Any, a: Arrays, heads: int | None = None) -> np.ndarray:
    given = (a["q"], a.get("k"), a.get("v"), False, None, "float32")
    probs: np.ndarray = reference.attention_forward(*given, heads=heads)[1]
    return probs


_ATTENTION = [
    *(
        Case(
            "attention_forward",
            f"{label}{'-causal' if causal else ''}",
            "relative",
            {
                "q": Fill((b, h, s, d)),
                "k": Fill((b, h, t, d)),
                "v": Fill((b, h, t, d)),
                "causal": causal,
                "lengths": Fill((b,), "index", t + 1) if label.startswith("padded") else None,
                "acc": ACC,
            },
        )
        for causal in (False, True)
        for label, (b, h, s, t, d) in {
            **_ATTENTION_SIZES,
            "padded": (5, 2, 17, 17, 5),
            **({} if causal else {"cross": (2, 2, 5, 33, 16), "padded-cross": (4, 2, 5, 33, 16)}),
            **({} if causal else {"padded-long": (2, 1, 3, 130, 8)}),
        }.items()
    ),
    *(
        Case(
            "attention_backward",
            label,
            "relative",
            {
                "q": Fill((b, h, s, d)),
                "k": Fill((b, h, t, d)),
                "v": Fill((b, h, t, d)),
                "probs": ...,
                "dy": Fill((b, h, s, d)),
                "acc": ACC,
            },
            derived={"probs": _probabilities},
        )
        for label, (b, h, s, t, d) in {
            **_ATTENTION_SIZES,
            "tile": (2, 1, 32, 32, 33),  # as much as one block of the GPU has of both
            "tile-queries": (2, 1, 32, 33, 8),
            "tile-keys": (1, 2, 33, 32, 8),
            "cross": (2, 2, 5, 33, 16),
        }.items()
    ),
    *(
        case
        for label, (b, h, s, _, d) in _ATTENTION_SIZES.items()
        for case in (
            Case(
                "attention_forward",
                f"packed-{label}",
                "relative",
                {
                    "q": Fill((b, s, 3 * h * d)),
                    "k": None,
                    "v": None,
                    "causal": True,
                    "lengths": Fill((b,), "index", s + 1),
                    "acc": ACC,
                    "operand": None,
                    "heads": h,
                },
            ),
            Case(
                "attention_backward",
                f"packed-{label}",
                "relative",
                {
                    "q": Fill((b, s, 3 * h * d)),
                    "k": None,
                    "v": None,
                    "probs": ...,
                    "dy": Fill((b, s, h * d)),
                    "acc": ACC,
                    "operand": None,
                    "heads": h,
                },
                derived={"probs": partial(_probabilities, heads=h)},
            ),
        )
    ),
]

# Optimizers

_PARAMETERS = ((17, 33), (1,), (3, 3, 2, 5), ())


def _optimizers() -> Iterable[Case]:
    """Every step with every way to store a weight, and the counts of what storing lost."""

    def drawn(role: str, dtype: str | None = None) -> list[Fill]:
        return [Fill(shape, role, dtype=dtype) for shape in _PARAMETERS]

    for form in ("nearest", "master", "stochastic", "kahan"):
        master = form == "master"
        dtype = "float32" if master else None
        suffix = "" if form == "nearest" else f"-{form}"
        masters = drawn("values", dtype) if master else None
        compensations = drawn("unit") if form == "kahan" else None
        weights = {"masters": masters, "compensations": compensations}

        def common(
            step: int, grad_scale: float, form: str = form, corrections: tuple[float, float] = (1.0, 1.0)
        ) -> dict[str, Any]:
            return {
                "weight_decay": [0.0, 5e-4, 0.01, 0.0],
                "stochastic": form == "stochastic",
                "indices": [0, 7, 2, 2**31 - 1],
                "scalars": StepScalars(1e-2, grad_scale, *corrections, seed=2**64 - 9, step=step),
                "counts": Fill((len(_PARAMETERS), len(COUNTS)), "zeros", dtype="int64"),
            }

        options: dict[str, Any] = {
            "storage": ("float16",) if master else ("float16", "float32"),
            "ranges": ("normal", "subnormal") if master else ("normal", "subnormal", "large"),
        }
        for label, momentum, nesterov in (
            ("plain", 0.0, False),
            ("momentum", 0.9, False),
            ("nesterov", 0.9, True),
        ):
            yield Case(
                "sgd",
                label + suffix,
                "bits",
                {
                    "params": drawn("values"),
                    "grads": drawn("values"),
                    "momenta": drawn("values", dtype) if momentum else None,
                    **weights,
                    "momentum": momentum,
                    "nesterov": nesterov,
                    **common(3, 1 / 1024 if master else 1.0),
                },
                mutates=("params", "momenta", "masters", "compensations", "counts"),
                **options,
            )
        for label, step, decoupled, eps, native in (
            ("first", 1, False, 1e-3, False),
            ("later", 1000, False, 1e-4, False),
            ("decoupled", 7, True, 1e-3, False),
            ("native", 1000, False, 1e-8, True),
            ("native-decoupled", 1, True, 1e-8, True),
        ):
            yield Case(
                "adam",
                label + suffix,
                "bits",
                {
                    "params": drawn("values"),
                    "grads": drawn("values"),
                    "m": drawn("values", dtype),
                    "v": drawn("positive", dtype),
                    **weights,
                    "beta1": 0.9,
                    "beta2": 0.999,
                    "eps": eps,
                    "native": native,
                    "decoupled": decoupled,
                    **common(step, 1.0, corrections=(1 - 0.9**step, 1 - 0.999**step)),
                },
                mutates=("params", "m", "v", "masters", "compensations", "counts"),
                **options,
            )
        for label, momentum, native in (
            ("plain", 0.0, False),
            ("momentum", 0.9, False),
            ("native", 0.0, True),
            ("native-momentum", 0.9, True),
        ):
            yield Case(
                "rmsprop",
                label + suffix,
                "bits",
                {
                    "params": drawn("values"),
                    "grads": drawn("values"),
                    "v": drawn("positive", dtype),
                    "momenta": drawn("values", dtype) if momentum else None,
                    **weights,
                    "alpha": 0.9,
                    "eps": 1e-3,
                    "momentum": momentum,
                    "native": native,
                    **common(2**32 - 1, 0.5),
                },
                mutates=("params", "v", "momenta", "masters", "compensations", "counts"),
                **options,
            )


_CLIP = [
    Case(
        "clip_to_norm",
        label,
        "bits",
        {
            "arrays": [Fill(shape) for shape in (*_PARAMETERS, (70, 130))],
            "norm": (4.0, root),
            "max_norm": max_norm,
        },
        ranges=("normal", "subnormal", "large", "special"),
        mutates=("arrays",),
    )
    for label, root, max_norm in (
        ("clipped", 1.75, 0.3),
        ("kept", 1.75, 7.0),
        ("not-a-number", float("nan"), 1.0),
    )
]

# Ranges: an array longer than one block's slice, and more arrays than one table of tensors holds

_RANGE_STATISTICS = [
    Case(
        "range_statistics",
        label,
        "bits",
        {"arrays": [Fill(shape) for shape in shapes]},
        ranges=("normal", "large", "subnormal", "special", "everywhere"),
    )
    for label, shapes in {
        "few": ((17, 33), (), (0, 3), (8199,)),
        "many": ((5,),) * 450,
    }.items()
]

CASES: tuple[Case, ...] = (
    *_BINARY,
    *_UNARY,
    *_UNARY_BACKWARD,
    *_POWER,
    *_CAST,
    *_SHAPE,
    *_INDEX_ADD,
    *_REDUCE,
    *_QUANTIZE,
    *_MATMUL,
    *_LINEAR,
    *_CONV2D,
    *_batch_norm(),
    *_batch_norm_running(),
    *_batch_norm_with_additions(),
    *_batch_norm_of_cat(),
    *_RELU_ADD_BACKWARD,
    *_relu_bias(),
    *_layer_norm(),
    *_SOFTMAX,
    *_CROSS_ENTROPY,
    *_pools(),
    *_DROPOUT,
    *_AUGMENTED,
    *_EMBEDDING,
    *_ATTENTION,
    *_optimizers(),
    *_CLIP,
    *_RANGE_STATISTICS,
)
