"""What a precision plans for single layers and epochs, laid on a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import backend as backends
from ..backend.blocks import kernels
from ..precision import Precision

if TYPE_CHECKING:
    from ..nn import Module, Parameter


def assign(model: Module, precision: Precision) -> None:
    """Give every layer of `model` the operand format `precision` has for it, and take others away.

    Raises:
        ValueError: the precision names a layer that the model does not have.
    """
    layers = {path: module for path, module in model.named_modules() if module.dot_product}
    chosen = precision.layers(list(layers))
    for path, module in layers.items():
        module.operand = chosen.get(path)


def requantize_weights(model: Module, precision: Precision) -> None:
    """Round the weights of dot products to the block format they are kept in between steps, if there is one.

    Blocks lie as in the forward product: along all that belongs to one output. Vectors (biases, norms) stay.
    """
    for parameter, rounded in requantized_weights(model, precision):
        parameter.data = rounded


def requantized_weights(model: Module, precision: Precision) -> Iterator[tuple[Parameter, Any]]:
    """Yield each weight that `requantize_weights` rounds, and what it is rounded to."""
    if precision.weights is None:
        return
    fmt = precision.weights.to_nearest()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            backend = backends.get(parameter.device)
            yield parameter, backend.quantize(parameter.data, kernels(parameter.shape), fmt)
