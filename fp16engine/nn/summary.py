"""A table of a network's layers: what each makes of one input, and how many values it trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import no_grad
from ..floats import numpy_dtype
from ..tensor import Tensor, tensor
from ..validate import integer, listed

if TYPE_CHECKING:
    from .module import Module

_HEAD = ("layer", "type", "output", "parameters")


def summary(model: Module, input_shape: Sequence[int]) -> str:
    """See `Module.summary`."""
    sizes = [
        integer("input_shape", n, 1) for n in listed("input_shape", input_shape, "sizes without the batch's")
    ]
    first = next(model.parameters(), None)
    dtype, device = ("float32", "cpu") if first is None else (first.dtype, first.device)
    x = tensor(np.zeros((1, *sizes)), dtype, device)
    shapes: dict[int, str] = {}
    with _evaluating(model), _recording(model, shapes), no_grad():
        model(x)
    rows = [_HEAD, *_rows(model, shapes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    parameters = list(model.parameters())
    trained = sum(p.size for p in parameters if p.requires_grad)
    total = sum(p.size for p in parameters)
    size = sum(p.size * numpy_dtype(p.dtype).itemsize for p in parameters)
    foot = (
        f"{total:,} parameters ({trained:,} trained, {total - trained:,} frozen), {size:,} bytes as they are"
    )
    return "\n".join([*lines, foot])


def _rows(model: Module, shapes: dict[int, str]) -> Iterator[tuple[str, str, str, str]]:
    trained = {id(parameter) for parameter in model.parameters()}
    for path, module in model.named_modules():
        own = sum(t.size for _, t in module._own_tensors() if id(t) in trained)
        if path and (own or not list(module.named_children())):
            yield path, type(module).__name__, shapes.get(id(module), "not called"), f"{own:,}"


@contextmanager
def _evaluating(model: Module) -> Iterator[None]:
    modes = [(module, module.training) for _, module in model.named_modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _recording(model: Module, shapes: dict[int, str]) -> Iterator[None]:
    """Note the shape of what every module returns; an attribute of the instance comes before its method."""

    def noting(module: Module) -> Any:
        forward = module.forward

        def noted(*args: Any, **options: Any) -> Any:
            result = forward(*args, **options)
            shapes[id(module)] = _shape(result)
            return result

        return noted

    modules = list({id(module): module for _, module in model.named_modules()}.values())
    for module in modules:
        vars(module)["forward"] = noting(module)
    try:
        yield
    finally:
        for module in modules:
            del vars(module)["forward"]


def _shape(result: Any) -> str:
    if isinstance(result, Tensor):
        return str(("N", *result.shape[1:])).replace("'", "")
    if isinstance(result, tuple | list):
        return ", ".join(map(_shape, result))
    return type(result).__name__
