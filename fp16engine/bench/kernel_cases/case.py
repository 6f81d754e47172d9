"""What a case of `bench kernels` is: a call, its arrays, the bytes it must move, its arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ...precision import Precision

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


def pick(size: str, tiny: Any, in_situ: Any, large: Any) -> Any:
    return dict(zip(SIZES, (tiny, in_situ, large), strict=True))[size]


def features(size: str) -> tuple[int, int, int, int]:
    """The feature maps of ResNet-56's first stage, (N, H, W, C)."""
    shape: tuple[int, int, int, int] = pick(size, (2, 6, 6, 8), (256, 32, 32, 16), (8192, 32, 32, 16))
    return shape


def read(shape: tuple[int, ...], times: int = 1, **options: Any) -> Operand:
    return Operand(shape, times, 0, **options)


def written(shape: tuple[int, ...], **options: Any) -> Operand:
    return Operand(shape, 0, 1, **options)


def updated(shape: tuple[int, ...], **options: Any) -> Operand:
    return Operand(shape, 1, 1, **options)
