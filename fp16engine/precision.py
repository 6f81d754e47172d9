"""The precision policy: five choices and a loss scale, made in one place.

Every other file that needs an accumulator asks `active().accumulate`; none names one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from .errors import UnsupportedPrecision

CHUNKS = (8, 16, 32, 64, 128, 256)  # terms of a chunk that binary16 partial sums may cover
NO_TF32 = "precision: 'tf32' needs the tensor cores of a CUDA device; use 'fp32' on a CPU"

_WORDS = {
    "float16": "binary16 (FP16)",
    "float32": "binary32 (FP32)",
    "float64": "binary64 (FP64)",
    "tf32": "TF32",
}
_UPDATES = {
    "nearest": "in place, rounded to nearest",
    "stochastic": "in place, rounded stochastically (right on the mean)",
    "kahan": "in place, with a compensation of the storage type that keeps what rounding takes",
    "master32": "on an FP32 master copy, then rounded to storage",
}


def _is_chunked(accumulate: object) -> bool:
    return accumulate in [f"float16:{terms}" for terms in CHUNKS]


def chunk_terms(accumulate: str) -> int:
    """Return the n of "float16:n", 0 for an accumulator without chunks.

    >>> chunk_terms("float16:32"), chunk_terms("float16")
    (32, 0)
    """
    return int(accumulate.partition(":")[2] or 0)


def _accumulate_in_words(accumulate: str) -> str:
    terms = chunk_terms(accumulate)
    if not terms:
        return _WORDS[accumulate]
    return f"{_WORDS['float16']} within {terms} terms of a dot product, else {_WORDS['float32']}"


@dataclass(frozen=True)
class LossScale:
    """Factor on the loss that keeps small FP16 gradients from underflowing (Micikevicius et al., 1710.03740).

    The scale starts at `initial`, is multiplied by `growth` after `interval` applied steps in a row and by
    `backoff` at every overflow, and stays within [`floor`, `cap`]; `dynamic=False` keeps it constant. All
    five factors are powers of two, so that scaling is exact. The scale enters the backward pass as a binary16
    gradient of the loss, so its cap is the largest power of two there is in binary16.

    `automatic=True` chooses the scale from the histogram of the gradients instead, without crash and halve:
    the power of two that puts the largest of the last measured gradients of weights at 2^13, a factor of
    eight below infinity. `LossScale.from_histogram()` is such a policy, starting at 1.

    Raises:
        ValueError: a factor is no power of two, or `initial` is outside [`floor`, `cap`].
    """

    initial: float = 32768.0
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000
    floor: float = 1.0
    cap: float = 32768.0
    dynamic: bool = True
    automatic: bool = False

    @classmethod
    def from_histogram(cls) -> LossScale:
        """Return the policy that chooses the scale from the histogram of the gradients.

        >>> LossScale.from_histogram().initial
        1.0
        """
        return cls(initial=1.0, automatic=True)

    def __post_init__(self) -> None:
        for name in ("initial", "growth", "backoff", "floor", "cap"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0 and math.frexp(value)[0] == 0.5):
                raise ValueError(f"{name}: {value} given, a power of two is wanted (scaling must be exact)")
        if self.growth < 1 or self.backoff > 1:
            raise ValueError(
                f"growth {self.growth} and backoff {self.backoff} given, growth >= 1 >= backoff is wanted"
            )
        if not self.floor <= self.initial <= self.cap:
            raise ValueError(
                f"initial: {self.initial} given, a value in [{self.floor}, {self.cap}] is wanted"
            )
        if self.interval < 1:
            raise ValueError(f"interval: {self.interval} given, an integer >= 1 is wanted")


@dataclass(frozen=True)
class Precision:
    """What each part of training is kept and computed in.

    `storage`: weights, activations, gradients and optimizer state. `operand`: what dot-product operands are
    rounded to. `accumulate`: what dot products and sums are accumulated in; "float16:n", n in 8, 16, ... 256,
    lies between the two: a dot product's partial sums are binary16 within chunks of n terms, the sums of the
    chunks are added in FP32 and rounded once, and all other sums are FP32. `statistics`: norm statistics,
    their scale and shift, and running averages. `update`: how a weight update is applied. `loss_scale`: a
    `LossScale` or None.

    Presets (`Precision.get(name)`):

    - `fp32`: everything binary32;
    - `tf32`: as `fp32`, and factors of dot products are rounded to TF32 (8 exponent and 10 fraction bits) by
      the tensor cores of a CUDA device, the only one that runs it;
    - `fp16`: everything stored in binary16, dot products and reductions accumulate in FP32 registers and
      round once;
    - `fp16-strict`: as `fp16`, and every accumulator is binary16 too;
    - `fp16-chunk<n>`: as `fp16`, with dot products accumulated as "float16:n";
    - `mp`: FP16 compute, FP32 master weights and norm statistics, dynamic loss scaling (1710.03740).

    Raises:
        UnsupportedPrecision: the combination has no implementation.

    >>> Precision.get("fp16").accumulate
    'float32'
    """

    name: str
    storage: str
    operand: str
    accumulate: str
    statistics: str
    update: str = "nearest"
    loss_scale: LossScale | None = None

    def __post_init__(self) -> None:
        tensor_cores = self.operand == "tf32" and self.storage == "float32"
        for field in ("storage", "operand", "accumulate", "statistics"):
            value = getattr(self, field)
            if field == "accumulate" and _is_chunked(value):
                continue
            if value not in ("float16", "float32") and not (field == "operand" and tensor_cores):
                raise UnsupportedPrecision(f"{field}: {value!r} given, 'float16' or 'float32' is wanted")
        if self.operand != self.storage and not tensor_cores:
            raise UnsupportedPrecision(
                f"operand: {self.operand!r} with {self.storage!r} storage given; "
                "the operands of a dot product are the stored tensors, so the two must be equal"
            )
        for field in ("accumulate", "statistics"):
            if self.storage == "float32" and getattr(self, field) != "float32":
                raise UnsupportedPrecision(
                    f"{field}: {getattr(self, field)!r} with float32 storage given, 'float32' is wanted"
                )
        if self.update not in _UPDATES:
            raise UnsupportedPrecision(
                f"update: {self.update!r} given, one of {', '.join(_UPDATES)} is wanted"
            )
        if self.update == "stochastic" and self.storage == "float32":
            raise UnsupportedPrecision(
                "update: 'stochastic' with float32 storage given; the weight update is a float32 register, "
                "so nothing is rounded, 'nearest' is wanted"
            )
        if self.accumulate != "float32" and self.statistics == "float32":
            raise UnsupportedPrecision(
                f"statistics: 'float32' with {self.accumulate} accumulators given, 'float16' is wanted"
            )

    @classmethod
    def get(cls, name: str | Precision) -> Precision:
        """Return the preset called `name` (a `Precision` passes through).

        Raises:
            UnsupportedPrecision: the preset is known but needs a backend that is not here.
            ValueError: no preset has this name.
        """
        if isinstance(name, Precision):
            return name
        if name in _PRESETS:
            return _PRESETS[name]
        accumulate = f"float16:{str(name).removeprefix('fp16-chunk')}"
        if str(name).startswith("fp16-chunk") and _is_chunked(accumulate):
            return cls(name, "float16", "float16", accumulate, "float16")
        if name == _TF32.name:
            return _TF32
        if name == "booster" or (isinstance(name, str) and name.startswith("hbfp")):
            raise UnsupportedPrecision(f"precision: {name!r} arrives with the block floating point backend")
        raise ValueError(f"precision: {name!r} given, one of {', '.join(_PRESETS)} is wanted")

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the presets that run on every device."""
        return list(_PRESETS)

    @property
    def products(self) -> str:
        """What dot products accumulate in, as backends are told: `accumulate`, or "tf32" for TF32 factors."""
        return "tf32" if self.operand == "tf32" else self.accumulate

    def check(self, backend: object) -> None:
        """Require a backend that can honour this policy.

        Raises:
            UnsupportedPrecision: it cannot, and would not say so by itself.
        """
        if self.products == "tf32" and not getattr(backend, "tf32", False):
            raise UnsupportedPrecision(NO_TF32)

    @contextmanager
    def use(self) -> Iterator[Precision]:
        """Make this the active policy inside a `with` block.

        >>> with Precision.get("fp16-strict").use():
        ...     active().accumulate
        'float16'
        """
        token = _active.set(self)
        try:
            yield self
        finally:
            _active.reset(token)

    def describe(self) -> dict[str, str]:
        """Return the five choices and the loss scale in words, for reports and checkpoints."""
        scale = self.loss_scale
        if scale is None:
            loss_scale = "none"
        elif scale.automatic:
            loss_scale = f"from the histogram of the gradients, within [{scale.floor:g}, {scale.cap:g}]"
        elif scale.dynamic:
            loss_scale = f"dynamic, from {scale.initial:g} within [{scale.floor:g}, {scale.cap:g}]"
        else:
            loss_scale = f"constant {scale.initial:g}"
        return {
            "storage": _WORDS[self.storage],
            "operand": _WORDS[self.operand],
            "accumulate": _accumulate_in_words(self.accumulate),
            "statistics": _WORDS[self.statistics],
            "update": _UPDATES[self.update],
            "loss_scale": loss_scale,
        }


_PRESETS = {
    policy.name: policy
    for policy in (
        Precision("fp32", "float32", "float32", "float32", "float32"),
        Precision("fp16", "float16", "float16", "float32", "float16"),
        Precision("fp16-strict", "float16", "float16", "float16", "float16"),
        Precision("mp", "float16", "float16", "float32", "float32", "master32", LossScale()),
    )
}
_TF32 = Precision("tf32", "float32", "tf32", "float32", "float32")
_active: ContextVar[Precision] = ContextVar("fp16engine_precision", default=_PRESETS["fp32"])


def active() -> Precision:
    """Return the policy in force; outside any `use()` it is `fp32`, so sums accumulate in FP32."""
    return _active.get()


def accumulator(dtype: str) -> str:
    """Return the active accumulator for tensors of `dtype`.

    Raises:
        UnsupportedPrecision: binary16 accumulators were asked for wider tensors.
    """
    policy = _active.get()
    if policy.accumulate != "float32" and dtype in ("float32", "float64"):
        raise UnsupportedPrecision(
            f"precision {policy.name!r} accumulates in {policy.accumulate}, but a {dtype} tensor came; "
            "cast it with .astype('float16')"
        )
    return policy.accumulate
