"""The stagnation meter: how many of a step's changes are lost because they are smaller than half a gap.

A binary16 weight w takes a change u only if |u| reaches half the distance to the next number, that is about
|w| / 2048 to |w| / 4096. The meter compares weights, optimizer state and running statistics before and after
one step with the change that exact arithmetic would have made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import backend as backends

Values = NDArray[np.float32]

MOST_VALUES = 1 << 18  # of a tensor are looked at, evenly spread
FORGIVING = ("stochastic", "kahan", "master32")  # updates whose small changes are not lost in the mean


@dataclass
class Updates:
    """What one step did to the parameters of a layer: counts of elements, of up to 2^18 per tensor."""

    layer: str
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

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and shares as JSON values."""
        return {
            "layer": self.layer,
            "nonzero": self.nonzero,
            "lost": self.lost,
            "share": self.share,
            "lost_size_share": self.lost_size / self.size if self.size else 0.0,
            "decayed": self.decayed,
            "decay_lost": self.decay_lost,
            "moving": self.moving,
            "stuck": self.stuck,
        }


@dataclass(frozen=True)
class Running:
    """What one step did to the running statistics of a norm layer with C channels."""

    layer: str
    channels: int
    mean_stuck: int  # channels whose running mean did not move although the batch's differs
    var_stuck: int
    mean_off: int  # of the stuck ones, those more than half a standard deviation away from the batch
    var_off: int  # of the stuck ones, those more than 10 % away

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return dict(vars(self))


MEAN_OFF = 0.5  # standard deviations: this far off, evaluation sees other values than training
VAR_OFF = 0.1


class Meter:
    """Takes copies before a step and compares after it.

    optimizer: one of `fp16engine.optim`; names: the path of each of its parameters; grad_scale: the factor
    on the gradients (1 / loss scale).
    """

    def __init__(self, optimizer: Any, names: list[str], grad_scale: float = 1.0) -> None:
        self._optimizer, self._names, self._scale = optimizer, names, np.float32(grad_scale)
        self._before = self._snapshot()

    def after(self) -> list[Updates]:
        """Return what the step has done, layer by layer in the order of the parameters."""
        layers: dict[str, Updates] = {}
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
        decay = optimizer._decay(optimizer.params[i])
        stored = optimizer.dtypes[i] if optimizer.masters[i] is None else "float32"
        with np.errstate(all="ignore"):
            half_gap = np.spacing(np.abs(old["w"]).astype(stored)).astype(np.float32) / 2
        change, states = _exact(optimizer, i, new["grad"] * self._scale, old, new, decay)
        if change is None:
            # another form of state: what is known is that something was to be done
            nonzero = new["grad"] != 0
            size = np.zeros_like(old["w"])
        else:
            nonzero, size = change != 0, np.abs(change)
        lost = nonzero & (new["w"] == old["w"])
        row.nonzero += int(np.count_nonzero(nonzero))
        row.lost += int(np.count_nonzero(lost))
        row.size += float(size.sum(dtype=np.float64))
        row.lost_size += float(size[lost].sum(dtype=np.float64))
        if change is not None and lost.any():
            row.ratios.append((size[lost] / half_gap[lost]).astype(np.float32))
        if decay:
            decayed = old["w"] != 0
            row.decayed += int(np.count_nonzero(decayed))
            row.decay_lost += int(
                np.count_nonzero(decayed & (np.abs(optimizer.lr * decay * old["w"]) < half_gap))
            )
        for slot, wanted in states.items():
            moving = wanted != old[slot]
            row.moving[slot] = row.moving.get(slot, 0) + int(np.count_nonzero(moving))
            stuck = moving & (new[slot] == old[slot])
            row.stuck[slot] = row.stuck.get(slot, 0) + int(np.count_nonzero(stuck))


def _sampled(array: NDArray[Any]) -> Values:
    flat = array.reshape(-1)
    return flat[:: -(-flat.size // MOST_VALUES) or 1].astype(np.float32)


def _exact(
    optimizer: Any, i: int, g: Values, old: dict[str, Values], new: dict[str, Values], decay: float
) -> tuple[Values | None, dict[str, Values]]:
    """Return what the step subtracts from w, from the state it stored, and what each state would exactly be.

    (None, {}) for an optimizer, or a form of its state, that is not known here.
    """
    kind = type(optimizer).__name__
    coupled = g + np.float32(decay) * old["w"] if decay and kind != "AdamW" else g
    with np.errstate(all="ignore"):
        if kind == "SGD":
            return _sgd(optimizer, coupled, old, new)
        if kind in ("Adam", "AdamW") and not getattr(optimizer, "native", False):
            return _adam(optimizer, i, coupled, old, new, decay)
        if kind == "RMSprop" and not getattr(optimizer, "native", False):
            return _rmsprop(optimizer, i, coupled, old, new)
    return None, {}


def _sgd(
    optimizer: Any, g: Values, old: dict[str, Values], new: dict[str, Values]
) -> tuple[Values, dict[str, Values]]:
    lr, momentum = np.float32(optimizer.lr), np.float32(optimizer.momentum)
    if "momentum" not in old:
        return lr * g, {}
    wanted = momentum * old["momentum"] + g
    step = g + momentum * wanted if optimizer.nesterov else wanted
    return lr * step, {"momentum": wanted}


def _adam(
    optimizer: Any, i: int, g: Values, old: dict[str, Values], new: dict[str, Values], decay: float
) -> tuple[Values, dict[str, Values]]:
    b1, b2, t = optimizer.beta1, optimizer.beta2, max(optimizer.step_count, 1)
    m = np.float32(b1) * old["m"] + np.float32(1 - b1) * g
    v = np.float32(b2) * old["v"] + np.float32(1 - b2) * (g * g)
    eps = np.float32(np.array(optimizer.eps).astype(optimizer.state_dtypes[i]))
    root = np.sqrt(new["v"] / np.float32(1 - b2**t)) + eps
    change: Values = (np.float32(optimizer.lr) * (m / np.float32(1 - b1**t)) / root).astype(np.float32)
    if optimizer.decoupled and decay:
        change = change + np.float32(optimizer.lr * decay) * old["w"]
    return change, {"m": m, "v": v}


def _rmsprop(
    optimizer: Any, i: int, g: Values, old: dict[str, Values], new: dict[str, Values]
) -> tuple[Values, dict[str, Values]]:
    v = np.float32(optimizer.alpha) * old["v"] + np.float32(1 - optimizer.alpha) * (g * g)
    eps = np.float32(np.array(optimizer.eps).astype(optimizer.state_dtypes[i]))
    step: Values = (g / (np.sqrt(new["v"]) + eps)).astype(np.float32)
    states = {"v": v}
    for slot in old:
        if slot not in ("w", "grad", "v"):
            step = np.float32(optimizer.momentum) * old[slot] + step
            states[slot] = step
    return (np.float32(optimizer.lr) * step).astype(np.float32), states


def running(
    layer: str,
    eps: float,
    before: tuple[NDArray[Any], NDArray[Any]],
    after: tuple[NDArray[Any], NDArray[Any]],
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
        (old_mean, old_var), (new_mean, new_var) = (
            [a.astype(np.float64) for a in pair] for pair in (before, after)
        )
        mean_stuck = (new_mean == old_mean) & (batch_mean != old_mean)
        # the batch's variance is known to the digits of its stored root only
        known = 4 * np.finfo(inv_std.dtype).eps
        var_stuck = (new_var == old_var) & (np.abs(batch_var - old_var) > known * batch_var)
        return Running(
            layer,
            len(mean),
            int(np.count_nonzero(mean_stuck)),
            int(np.count_nonzero(var_stuck)),
            int(np.count_nonzero(mean_stuck & (np.abs(batch_mean - old_mean) > MEAN_OFF * deviation))),
            int(np.count_nonzero(var_stuck & (np.abs(batch_var - old_var) > VAR_OFF * (batch_var + eps)))),
        )
