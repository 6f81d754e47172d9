"""`to_onnx`: a network of ours as an ONNX file."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._version import __version__
from ...errors import BackendUnavailable
from ...nn import Module
from ...reporting.files import write_atomically
from ...validate import choice, instance, integer, must_be, number, pair
from ...validate import path as checked_path
from .operators import IGNORED, OPERATORS
from .trace import trace
from .writer import INPUT, OUTPUT, Writer

OPSET = 20  # the first with Gelu
_IR_VERSION = 9  # of ONNX 1.15, which brought that opset
DTYPES = ("float16", "float32")


def to_onnx(
    model: Module,
    path: str | os.PathLike[str],
    image_size: int | Sequence[int],
    dtype: str = "float16",
    *,
    channels: int | None = None,
    normalise: tuple[float, float] | None = None,
) -> None:
    """Write a network of images as an ONNX file (opset 20), in evaluation, for batches of any size.

    Args:
        model: of `models.create`, of `torch.from_torch`, or of layers and functions of ours.
        path: of the file, which is written over.
        image_size: height and width of the images, one integer for both.
        dtype: "float16" or "float32": of weights and of what is stored between operations.
        channels: of the images; None means those of `model.config`, else 3.
        normalise: (mean, standard deviation): the input is pixels, uint8, and the graph begins with
            (pixel - mean) / std, in FP32, rounded once.

    The graph has an input `images` (N, H, W, C) and an output `logits` (N, num_classes), of `dtype`. Norms
    are in FP32 between casts, so that with dtype="float16" they round once as ours do; what a runtime adds up
    in is its own affair. Weights are rounded to `dtype`; float16 ones are exact in both.

    Raises:
        BackendUnavailable: the package `onnx` is not installed.
        TypeError: an argument is of another kind.
        ValueError: an argument is out of range, an operation has no equal in ONNX, or a weight is
            beyond float16.
        SaveError: the file could not be written.

    Source:
        https://onnx.ai/onnx/operators/

    >>> import fp16engine as fe
    >>> try:
    ...     fe.interop.to_onnx(fe.models.create("dnn", image_size=8), "/nowhere/net.onnx", 8)
    ... except (OSError, fe.BackendUnavailable) as error:
    ...     print("not written")
    not written
    """
    instance("model", model, Module, "a Module")
    file = checked_path("path", path)
    size = pair("image_size", image_size, 1)
    choice("dtype", dtype, DTYPES)
    if channels is None:
        channels = (model.config or {}).get("channels", 3)
    channels = integer("channels", channels, 1)
    if normalise is not None:
        try:
            mean, std = normalise
        except (TypeError, ValueError):
            raise TypeError(must_be("normalise", "(mean, std) or None", normalise)) from None
        normalise = (number("normalise: mean", mean), number("normalise: std", std, above=0))
    if importlib.util.find_spec("onnx") is None:
        raise BackendUnavailable("to_onnx needs the package onnx: pip install 'fp16engine[onnx]'")
    content = _model(model, (*size, channels), dtype, normalise).SerializeToString()
    write_atomically(file, content)


def _model(
    model: Module, image: tuple[int, int, int], dtype: str, normalise: tuple[float, float] | None
) -> Any:
    import onnx
    from onnx import TensorProto, helper

    seen = trace(model, image)
    element = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}[dtype]
    w = Writer(dtype, seen.own)
    start = INPUT
    if normalise is not None:
        wide = w.node("Cast", INPUT, to=TensorProto.FLOAT)
        mean, std = (w.constant(np.float32(value), "float32") for value in normalise)
        start = w.narrow(w.node("Div", w.node("Sub", wide, mean), std))
    w.put(seen.x, start)
    for call in seen.calls:
        if call.op in OPERATORS:
            OPERATORS[call.op](w, call)
        elif call.op not in IGNORED:
            raise ValueError(must_be("every operation of the model", "one that ONNX has", call.op))
    w.nodes.append(helper.make_node("Identity", [w.arranged(seen.y)], [OUTPUT], name=OUTPUT))
    given = element if normalise is None else TensorProto.UINT8
    graph = helper.make_graph(
        w.nodes,
        type(model).__name__,
        [helper.make_tensor_value_info(INPUT, given, ["N", *image])],
        [helper.make_tensor_value_info(OUTPUT, element, ["N", *seen.y.first.shape[1:]])],
        w.constants,
    )
    result = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="fp16engine",
        producer_version=__version__,
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(result, full_check=True)
    return result
