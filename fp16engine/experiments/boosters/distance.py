"""How far block floating point moves the distribution of a network's weights: the Wasserstein distance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import backend as backends
from ...backend.blocks import kernels
from ...block_format import BlockFormat

if TYPE_CHECKING:
    from ...nn import Module


@dataclass(frozen=True)
class WeightDistance:
    """The distance between a layer's weights and the same in a format; `layer` counts from 0."""

    path: str
    layer: int
    layers: int
    fmt: BlockFormat
    distance: float


def wasserstein(weights: Any, fmt: BlockFormat) -> float:
    """Return the Wasserstein distance W1 between FP32 weights (K, ...) and the same rounded to `fmt`.

    W1 is the least mean distance by which the values of one sample have to be moved to make the other
    (2211.10737, equation 2). Blocks lie as in the forward product: along all that belongs to one output.
    Computed by SciPy in float64.

    Raises:
        ModuleNotFoundError: SciPy is missing; the extra `analysis` brings it.

    >>> wasserstein(np.array([[1.0, 0.5]]), BlockFormat(4))  # 1 becomes 1 - 1/16, 0.5 stays
    0.03125
    """
    try:
        from scipy.stats import wasserstein_distance
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the Wasserstein distance needs SciPy: pip install 'fp16engine[analysis]'"
        ) from error
    stored = np.ascontiguousarray(weights, np.float32)
    rounded = backends.get("reference").quantize(stored, kernels(stored.shape), fmt)
    return float(wasserstein_distance(stored.reshape(-1), rounded.reshape(-1)))


def weight_distances(model: Module, formats: Iterable[BlockFormat]) -> list[WeightDistance]:
    """Return the distances of every layer with weights, in the order of the model, in every format."""
    layers = [
        (path, module.weight.numpy())  # type: ignore[attr-defined]
        for path, module in model.named_modules()
        if module.dot_product
    ]
    return [
        WeightDistance(path, i, len(layers), fmt, wasserstein(weights, fmt))
        for fmt in formats
        for i, (path, weights) in enumerate(layers)
    ]
