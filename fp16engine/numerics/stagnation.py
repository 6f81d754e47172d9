"""The stagnation meter: how many of a step's changes are lost because they are smaller than half a gap.

A binary16 weight w takes a change u only if |u| reaches half the distance to the next number, that is about
|w| / 2048 to |w| / 4096. The optimizer's kernels count the lost ones of a step (`step(count=True)`); the
meter adds how large they were, and so the learning rate that would have kept them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import backend as backends
from ..floats import limits, numpy_dtype
from ..optim import COUNTS

Values = NDArray[np.float32]

MOST_VALUES = 1 << 18  # of a tensor are looked at, evenly spread
FORGIVING = ("stochastic", "kahan", "master32")  # updates whose small changes are not lost in the mean


@dataclass
class Updates:
    """What one step did to the parameters of a layer: counts of elements; sizes of up to 2^18 per tensor."""

    layer: str
    matrix: bool = False  # a weight with two axes or more is among them
    nonzero: int = 0  # the exact change is not 0
    lost: int = 0  # of these, the stored weight did not change
    size: float = 0.0  # sum of |change|
    lost_size: float = 0.0
    decayed: int = 0  # a weight decay was asked for and is not 0
    decay_lost: int = 0  # of these, the decay alone would be lost
    moving: dict[str, int] = field(default_factory=dict)  # state: exactly, its value changes
    stuck: dict[str, int] = field(default_factory=dict)  # of these, what is stored did not
    ratios: list[Values] = field(default_factory=list)  # of the lost: |change| / (half a gap)

    @property
    def share(self) -> float:
        """Lost updates as a share of the nonzero ones, 0 where there is none."""
        return self.lost / self.nonzero if self.nonzero else 0.0

    def factor(self) -> float | None:
        """By how much a larger learning rate would have kept half of the lost updates; None if unknown."""
        ratios = np.concatenate(self.ratios) if self.ratios else np.zeros(0, np.float32)
        middle = float(np.median(ratios)) if ratios.size else 0.0
        return 1 / middle if middle > 0 else None

    def add(self, other: Updates) -> None:
        """Count in what another optimizer did to the same layer."""
        self.matrix = self.matrix or other.matrix
        for name in ("nonzero", "lost", "size", "lost_size", "decayed", "decay_lost"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, others in ((self.moving, other.moving), (self.stuck, other.stuck)):
            for slot, count in others.items():
                mine[slot] = mine.get(slot, 0) + count
        self.ratios += other.ratios

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and shares as JSON values."""
        return {
            "layer": self.layer,
            "matrix": self.matrix,
            "nonzero": self.nonzero,
            "lost": self.lost,
            "share": self.share,
            "lost_size_share": self.lost_size / self.size if self.size and math.isfinite(self.size) else 0.0,
            "decayed": self.decayed,
            "decay_lost": self.decay_lost,
            "moving": self.moving,
            "stuck": self.stuck,
        }


def merged(parts: Iterable[list[Updates]]) -> list[Updates]:
    """Return what several optimizers did, a row per layer.

    >>> merged([[Updates("0", nonzero=2)], [Updates("0", nonzero=3), Updates("1")]])[0].nonzero
    5
    """
    rows: dict[str, Updates] = {}
    for part in parts:
        for row in part:
            rows.setdefault(row.layer, Updates(row.layer)).add(row)
    return list(rows.values())


@dataclass(frozen=True)
class Running:
    """What one step did to the running statistics of a norm layer with C channels."""

    layer: str
    channels: int
    mean_stuck: int  # channels whose running mean did not move although the batch's differs
    var_stuck: int
    mean_off: int  # of the stuck ones, those more than half a standard deviation away from the batch
    var_off: int  # of the stuck ones, those more than 10 % away
    largest_var: float  # of the batch and of the running averages
    plain: bool  # the running variance itself is stored in binary16

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        finite = {"largest_var": self.largest_var if math.isfinite(self.largest_var) else None}
        return {**vars(self), **finite}


MEAN_OFF = 0.5  # standard deviations: this far off, evaluation sees other values than training
VAR_OFF = 0.1


class Meter:
    """Takes what the optimizer counted in a step, and copies before and after it for the sizes of changes.

    optimizer: one of `fp16engine.optim`; names: the path of each of its parameters; grad_scale: the factor
    on the gradients (1 / loss scale).
    """

    def __init__(self, optimizer: Any, names: list[str], grad_scale: float = 1.0) -> None:
        self._optimizer, self._names, self._scale = optimizer, names, np.float32(grad_scale)
        self._before = self._snapshot()

    def after(self, layers: dict[str, Updates] | None = None) -> list[Updates]:
        """Return what `step(count=True)` has done, layer by layer in the order of the parameters.

        layers: what other optimizers did to the same layers, which is added to; None starts afresh.
        """
        layers = {} if layers is None else layers
        now = self._snapshot()
        for i, (name, old, new) in enumerate(zip(self._names, self._before, now, strict=True)):
            if self._optimizer.params[i].grad is None:
                continue
            layer = name.rpartition(".")[0] or name
            self._compare(layers.setdefault(layer, Updates(layer)), i, old, new)
        return list(layers.values())

    def _snapshot(self) -> list[dict[str, Values]]:
        """Per parameter: the weight (its master where there is one) and its state, as float32 copies."""
        backend = backends.get(self._optimizer.device)
        result = []
        for i, parameter in enumerate(self._optimizer.params):
            master = self._optimizer.masters[i]
            arrays = {"w": parameter.data if master is None else master}
            arrays |= {slot: values[i] for slot, values in self._optimizer.state.items()}
            if parameter.grad is not None:
                arrays["grad"] = parameter.grad.data
            result.append({key: _sampled(backend.to_numpy(a)) for key, a in arrays.items() if a is not None})
        return result

    def _compare(self, row: Updates, i: int, old: dict[str, Values], new: dict[str, Values]) -> None:
        optimizer = self._optimizer
        row.matrix = row.matrix or len(optimizer.params[i].shape) > 1
        if optimizer.counts is None:
            raise ValueError(
                "optimizer must have counted in its last step, got counts None; use step(count=True)"
            )
        counts = dict(zip(COUNTS, map(int, optimizer.counts[i]), strict=True))
        row.nonzero += counts["updates"]
        row.lost += counts["updates_lost"]
        row.decayed += counts["decays"]
        row.decay_lost += counts["decays_lost"]
        for slot, column in zip(optimizer.slots, ("first", "second"), strict=False):
            row.moving[slot] = row.moving.get(slot, 0) + counts[column]
            row.stuck[slot] = row.stuck.get(slot, 0) + counts[f"{column}_lost"]
        with np.errstate(all="ignore"):
            change = optimizer.change(i, new["grad"] * self._scale, old, new)
        if change is None:
            return
        stored = optimizer.dtypes[i] if optimizer.masters[i] is None else "float32"
        with np.errstate(all="ignore"):
            half_gap = np.spacing(np.abs(old["w"]).astype(numpy_dtype(stored))).astype(np.float32) / 2
        size = np.abs(change)
        lost = (change != 0) & (new["w"] == old["w"])
        row.size += float(size.sum(dtype=np.float64))
        row.lost_size += float(size[lost].sum(dtype=np.float64))
        if lost.any():
            row.ratios.append((size[lost] / half_gap[lost]).astype(np.float32))


def _sampled(array: NDArray[Any]) -> Values:
    flat = array.reshape(-1)
    return flat[:: -(-flat.size // MOST_VALUES) or 1].astype(np.float32)


@dataclass(frozen=True)
class Averages:
    """Running mean and variance (C,) in binary64; plain: the variance itself is stored in binary16."""

    mean: NDArray[np.float64]
    var: NDArray[np.float64]
    plain: bool


def averages(mean: NDArray[Any], spread: NDArray[Any], rest: NDArray[Any] | None = None) -> Averages:
    """Return what is stored as `Averages`; with `rest`, `spread` are standard deviations."""
    wide, spreads = mean.astype(np.float64), spread.astype(np.float64)
    if rest is None:
        return Averages(wide, spreads, spread.dtype == np.float16)
    lost = rest.astype(np.float64)
    return Averages(wide + lost[0], (spreads + lost[1]) ** 2, False)


def running(
    layer: str,
    eps: float,
    before: Averages,
    after: Averages,
    mean: NDArray[Any],
    inv_std: NDArray[Any],
) -> Running:
    """Judge one norm layer: running mean and variance before and after, and the batch's as they were stored.

    All arrays are (C,). The batch's variance is taken from the stored 1 / sqrt(var + eps).
    """
    with np.errstate(all="ignore"):
        batch_mean = mean.astype(np.float64)
        batch_var = np.maximum(inv_std.astype(np.float64) ** -2 - eps, 0.0)
        deviation = np.sqrt(batch_var + eps)
        old_mean, old_var, new_mean, new_var = before.mean, before.var, after.mean, after.var
        mean_stuck = (new_mean == old_mean) & (batch_mean != old_mean)
        # the batch's variance is known to the digits of its stored root only
        known = 4 * float(limits(inv_std.dtype).eps)
        var_stuck = (new_var == old_var) & (np.abs(batch_var - old_var) > known * batch_var)
        return Running(
            layer,
            len(mean),
            int(np.count_nonzero(mean_stuck)),
            int(np.count_nonzero(var_stuck)),
            int(np.count_nonzero(mean_stuck & (np.abs(batch_mean - old_mean) > MEAN_OFF * deviation))),
            int(np.count_nonzero(var_stuck & (np.abs(batch_var - old_var) > VAR_OFF * (batch_var + eps)))),
            float(np.fmax(batch_var, new_var).max(initial=0.0)),
            after.plain,
        )
