"""A policy's choices in words, for reports and checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..floats import is_sixteen_bit
from .choices import chunk_terms

if TYPE_CHECKING:
    from .policy import Precision

_WORDS = {
    "float16": "binary16 (FP16)",
    "bfloat16": "bfloat16 (BF16)",
    "float32": "binary32 (FP32)",
    "float64": "binary64 (FP64)",
    "tf32": "TF32",
}
_CONVOLUTIONS = {
    "direct": "direct sums",
    "winograd": "Winograd's algorithm (where the device has it: 3x3 kernels, stride 1, 16 channels or more), "
    "else direct sums",
}
_UPDATES = {
    "nearest": "in place, rounded to nearest",
    "stochastic": "in place, rounded stochastically (right on the mean)",
    "kahan": "in place, with a compensation of the storage type that keeps the rounding error, on the mean",
    "master32": "on an FP32 master copy, then rounded to storage",
}


def describe(policy: Precision, backend: Any = None) -> dict[str, str]:
    """Return every choice in words; `backend` as `Precision.describe` takes it."""
    scale = policy.loss_scale
    if scale is None:
        loss_scale = "none"
    elif scale.automatic:
        loss_scale = f"from the histogram of the gradients, within [{scale.floor:g}, {scale.cap:g}]"
    elif scale.dynamic:
        loss_scale = f"dynamic, from {scale.initial:g} within [{scale.floor:g}, {scale.cap:g}]"
    else:
        loss_scale = f"constant {scale.initial:g}"
    operand = _WORDS[policy.operand] if isinstance(policy.operand, str) else policy.operand.words()
    exceptions = [] if policy.plan is None else policy.plan.words()
    kept = "" if policy.weights is None else f"; weights: {policy.weights.words()}"
    return {
        "storage": _WORDS[policy.storage] + kept,
        "operand": "; ".join([operand, *exceptions]),
        "accumulate": _accumulate_in_words(policy.accumulate),
        "statistics": _WORDS[policy.statistics] + _form_in_words(policy),
        "update": _UPDATES[policy.update],
        "loss_scale": loss_scale,
        "convolution": _CONVOLUTIONS[
            policy.convolution if backend is None else policy.convolution_on(backend)
        ],
    }


def _accumulate_in_words(accumulate: str) -> str:
    terms = chunk_terms(accumulate)
    if not terms:
        return _WORDS[accumulate]
    return f"{_WORDS['float16']} within {terms} terms of a dot product, else {_WORDS['float32']}"


def _form_in_words(policy: Precision) -> str:
    if not is_sixteen_bit(policy.statistics):
        return ""
    if policy.statistics_form == "native":
        return "; running averages of standard deviations, with their rounding errors"
    return "; running averages of variances"
