"""What a case of a backend function is: how its inputs are drawn and how it is called.

A case lists the arguments of a `Backend` method in order, with `Fill` where an array goes and `ACC` where the
accumulator goes. `arrays` draws the inputs, `call` runs the method; both are the same for every backend.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import bounds
import numpy as np

from fp16engine import backend as backends
from fp16engine.floats import is_float

ACC = object()
Arrays = dict[str, Any]

RANGES = ("integers", "normal", "positive", "large", "subnormal", "special")


@dataclass(frozen=True)
class Fill:
    """An input array: its shape and what its values mean.

    role: "values" (any value of the range), "finite" (the same, but normal under "special", for operands that
    meet padding zeros), "positive" (for log, sqrt, variances), "unit" (in [-1, 1]), "index" (0 <= i < limit),
    "label" (the same, every third negative), "zeros" (what is added to).
    """

    shape: tuple[int, ...]
    role: str = "values"
    limit: int = 0
    dtype: str | None = None  # None: the storage dtype under test


@dataclass(frozen=True)
class Case:
    """One call: `derived` computes inputs from earlier ones with the reference, `mutates` names in-place
    outputs.

    tier: "bits" (equal to the reference), "sums" (binary16 accumulator: equal; float32: bounded), "rounded"
    (within an ulp of float64), "relative" (composites), "norm" (see test_norm.py).
    """

    method: str
    label: str
    tier: str
    arguments: Mapping[str, Any]
    exact: bool = False
    ranges: tuple[str, ...] = ("normal",)
    derived: Mapping[str, Callable[[Any, Arrays], np.ndarray]] = field(default_factory=dict)
    mutates: tuple[str, ...] = ()
    storage: tuple[str, ...] = ("float16", "float32")

    @property
    def name(self) -> str:
        return f"{self.method}-{self.label}"

    @property
    def accumulates(self) -> bool:
        return any(value is ACC for value in self.arguments.values())


def arrays(case: Case, values: str, dtype: str, seed: int = 0) -> Arrays:
    """Return the inputs of `case`, drawn from the range `values`; the same for the same arguments."""
    rng = np.random.default_rng([zlib.crc32(f"{case.name} {values} {dtype}".encode()), seed])
    drawn: Arrays = {}
    for name, value in case.arguments.items():
        if isinstance(value, Fill):
            drawn[name] = _draw(value, values, dtype, rng)
        elif isinstance(value, list) and value and isinstance(value[0], Fill):
            drawn[name] = [_draw(fill, values, dtype, rng) for fill in value]
    reference = backends.get("reference")
    for name, function in case.derived.items():
        drawn[name] = function(reference, drawn)
    return drawn


def call(backend: Any, case: Case, inputs: Arrays, acc: str) -> list[np.ndarray | None]:
    """Return the outputs of `case` on `backend` as NumPy arrays, those it works on in place last."""
    given: list[Any] = []
    mutated: list[Any] = []
    for name, value in case.arguments.items():
        if name in inputs:
            value = inputs[name]
            many = isinstance(value, list)
            moved = [backend.from_numpy(a) for a in (value if many else [value])]
            mutated += moved if name in case.mutates else []
            value = moved if many else moved[0]
        given.append(acc if value is ACC else value)
    result = getattr(backend, case.method)(*given)
    outputs = [] if result is None else list(result) if isinstance(result, tuple) else [result]
    return [None if y is None else np.array(backend.to_numpy(y)) for y in outputs + mutated]


def mapped(inputs: Arrays, function: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    """Return `inputs` as float64 with `function` applied to every floating-point array; indices stay."""

    def one(a: np.ndarray) -> np.ndarray:
        return np.asarray(function(a.astype(np.float64))) if is_float(a.dtype) else a

    return {name: [one(a) for a in v] if isinstance(v, list) else one(v) for name, v in inputs.items()}


def _draw(fill: Fill, values: str, dtype: str, rng: np.random.Generator) -> np.ndarray:
    dtype = fill.dtype or dtype
    shape = fill.shape
    if fill.role == "index":
        return rng.integers(0, max(1, fill.limit), shape)
    if fill.role == "label":
        labels = rng.integers(0, fill.limit, shape)
        return np.where(np.arange(labels.size) % 3 == 1, -1 - labels, labels)
    if fill.role == "zeros":
        return np.zeros(shape, dtype)
    if fill.role == "unit":
        return bounds.rounded(rng.uniform(-1, 1, shape), dtype)
    if fill.role == "finite" and values == "special":
        values = "normal"
    drawn = _RANGES[values](shape, dtype, rng)
    return np.abs(drawn) if fill.role == "positive" else drawn


def _large(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> np.ndarray:
    sign = rng.choice([-1.0, 1.0], shape)
    return bounds.rounded(sign * bounds.MAX[dtype] * np.exp2(-rng.uniform(0, 6, shape)), dtype)


def _special(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> np.ndarray:
    values = rng.standard_normal(shape)
    strange = rng.random(shape) < 0.05
    return np.where(strange, rng.choice([np.nan, np.inf, -np.inf, -0.0], shape), values).astype(dtype)


def _everywhere(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> np.ndarray:
    """Every bit pattern of `dtype` is as likely as any other; half of them lie near the ends of binary16."""
    width = np.dtype(dtype).itemsize
    bits = rng.integers(0, 1 << 8 * width, shape, np.uint64).astype(f"u{width}").view(dtype)
    edges = bounds.rounded(np.array([2.0**-25, 2.0**-24, 2.0**-14, 32752, 65504, 65519, 65520, 65536]), dtype)
    with np.errstate(all="ignore"):
        nudged = np.nextafter(rng.choice(edges, shape), rng.choice(np.array([0, np.inf], dtype), shape))
    return np.asarray(np.where(rng.random(shape) < 0.5, bits, nudged), dtype)


_RANGES: dict[str, Callable[[tuple[int, ...], str, np.random.Generator], np.ndarray]] = {
    "integers": lambda shape, dtype, rng: rng.integers(-2, 3, shape).astype(dtype),
    "normal": lambda shape, dtype, rng: rng.standard_normal(shape).astype(dtype),
    "positive": lambda shape, dtype, rng: np.abs(rng.standard_normal(shape)).astype(dtype),
    "large": _large,
    "subnormal": lambda shape, dtype, rng: (rng.integers(-64, 65, shape) * bounds.SMALLEST[dtype]).astype(
        dtype
    ),
    "special": _special,
    "everywhere": _everywhere,
}
