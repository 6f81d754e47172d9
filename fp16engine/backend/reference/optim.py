"""Optimizer steps, in at; state and weights are rounded once, when stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ...floats import is_sixteen_bit
from ..base import COUNTS, StepScalars
from . import stochastic as bits
from .registers import load

Arrays = Sequence[np.ndarray]
Scalars = StepScalars | np.ndarray


def sgd(
    params: Arrays,
    grads: Arrays,
    momenta: Arrays | None,
    masters: Arrays | None,
    compensations: Arrays | None,
    momentum: float,
    nesterov: bool,
    weight_decay: Sequence[float],
    stochastic: bool,
    indices: Sequence[int],
    scalars: Scalars,
    counts: np.ndarray | None,
) -> None:
    for t in _tensors(
        params, grads, masters, compensations, weight_decay, stochastic, indices, scalars, counts
    ):
        g = t.gradient(True)
        step = g
        if momenta is not None:
            m = momentum * load(momenta[t.i]) + g
            t.store_state("first", momenta[t.i], m)
            step = g + momentum * m if nesterov else m
        t.store(t.scalars.lr * step, decay_counts=True)


def adam(
    params: Arrays,
    grads: Arrays,
    m: Arrays,
    v: Arrays,
    masters: Arrays | None,
    compensations: Arrays | None,
    beta1: float,
    beta2: float,
    eps: float,
    native: bool,
    decoupled: bool,
    weight_decay: Sequence[float],
    stochastic: bool,
    indices: Sequence[int],
    scalars: Scalars,
    counts: np.ndarray | None,
) -> None:
    for t in _tensors(
        params, grads, masters, compensations, weight_decay, stochastic, indices, scalars, counts
    ):
        g = t.gradient(not decoupled)
        first, second = m[t.i], v[t.i]
        roots = native and is_sixteen_bit(first.dtype)
        mean = beta1 * _signed(first, roots) + (1 - beta1) * g
        square = beta2 * _square(second, roots) + (1 - beta2) * (g * g)
        t.store_state("first", first, _signed_root(mean) if roots else mean, roots)
        t.store_state("second", second, _fourth_root(square) if roots else square, roots)
        if not roots:
            square = load(second)
        kind = mean.dtype.type
        rate = kind(t.scalars.lr) / kind(t.scalars.correction1)
        scale = 1 / np.sqrt(kind(t.scalars.correction2))
        change = (rate * mean) / (np.sqrt(square) * scale + _used_eps(eps, second, roots))
        if decoupled and t.decay:
            change = change + t.shrinking()
        t.store(change, decay_counts=decoupled)


def rmsprop(
    params: Arrays,
    grads: Arrays,
    v: Arrays,
    momenta: Arrays | None,
    masters: Arrays | None,
    compensations: Arrays | None,
    alpha: float,
    eps: float,
    momentum: float,
    native: bool,
    weight_decay: Sequence[float],
    stochastic: bool,
    indices: Sequence[int],
    scalars: Scalars,
    counts: np.ndarray | None,
) -> None:
    for t in _tensors(
        params, grads, masters, compensations, weight_decay, stochastic, indices, scalars, counts
    ):
        g = t.gradient(True)
        state = v[t.i]
        roots = native and is_sixteen_bit(state.dtype)
        square = alpha * _square(state, roots) + (1 - alpha) * (g * g)
        t.store_state("first", state, _fourth_root(square) if roots else square, roots)
        if not roots:
            square = load(state)
        step = g / (np.sqrt(square) + _used_eps(eps, state, roots))
        if momenta is not None:
            b = momenta[t.i]
            step = momentum * _signed(b, roots) + step
            t.store_state("second", b, _signed_root(step) if roots else step, roots)
        t.store(t.scalars.lr * step, decay_counts=False)


def global_norm(arrays: Arrays) -> tuple[float, float]:
    largest = np.float32(max((np.max(np.abs(load(x)), initial=0) for x in arrays), default=0))
    if any(np.isnan(x).any() for x in arrays):
        largest = np.float32(np.nan)
    if not np.isfinite(largest):
        return float(largest), math.nan
    exponent = math.frexp(largest)[1] - 1 if largest else 0
    scale = np.float32(2.0 ** max(exponent, -125))
    squares = np.float32(0)
    for x in arrays:
        squares += np.sum(np.square(load(x).astype(np.float32) / scale), dtype=np.float32)
    return float(scale), float(np.sqrt(squares))


def clip_to_norm(arrays: Arrays, norm: tuple[float, float], max_norm: float) -> None:
    scale, root = (np.float32(number) for number in norm)
    limit = np.float32(max_norm)
    if root <= limit / scale:
        return
    for x in arrays:
        x[...] = (load(x) * (np.float32(1) / scale)) * (limit / root)


class _Tensor:
    """One parameter in a step: its registers, and how what comes of them is stored and counted."""

    def __init__(
        self,
        i: int,
        param: np.ndarray,
        grad: np.ndarray,
        master: np.ndarray | None,
        compensation: np.ndarray | None,
        decay: float,
        stochastic: bool,
        index: int,
        scalars: StepScalars,
        counts: np.ndarray | None,
    ) -> None:
        self.i, self.decay, self.index, self.scalars, self.counts = i, decay, index, scalars, counts
        self.param, self.master, self.compensation = param, master, compensation
        self.stochastic = stochastic and is_sixteen_bit(param.dtype)
        self.weight = param if master is None else master
        self.w = load(self.weight)
        self.g = load(grad) * scalars.grad_scale

    def gradient(self, coupled: bool) -> np.ndarray:
        """The gradient with the coupled decay in it."""
        return self.g + self.decay * self.w if coupled and self.decay else self.g

    def shrinking(self) -> np.ndarray:
        """The decay's part of the change."""
        kind = self.w.dtype.type
        return (kind(self.scalars.lr) * kind(self.decay)) * self.w

    def store_state(self, column: str, state: np.ndarray, new: np.ndarray, roots: bool = False) -> None:
        """Round a register into its state array, stochastically where it holds roots."""
        old = load(state)
        if self.counts is not None:
            self._count(column, new != old, _unmoved(old, new, state.dtype, roots))
        if roots:
            drawn = self._bits(bits.STATE)[column != "first"]
            new = bits.round_stochastic(new, drawn, state.dtype)
        state[...] = new

    def store(self, change: np.ndarray, decay_counts: bool) -> None:
        """Subtract the change from the weight, by the update's form."""
        w = self.w
        if self.counts is not None:
            self._count("updates", change != 0, self._lost(change))
            if decay_counts and self.decay:
                shrinking = self.shrinking()
                self._count("decays", shrinking != 0, self._lost(shrinking))
        if self.compensation is not None:
            weight, rest = self._compensated(change, self._weight_bits())
            self.compensation[...] = rest
        else:
            weight = (
                bits.subtract_stochastic(w, change, self._weight_bits(), self.weight.dtype)
                if self.stochastic
                else w - change
            )
        self.weight[...] = weight
        if self.master is not None:
            self.param[...] = self.master

    def _bits(self, stream: int) -> tuple[np.ndarray, np.ndarray]:
        s, w = self.scalars, self.w
        own, other = bits.random_bits(s.seed, s.step, stream, self.index, w.size)
        return own.reshape(w.shape), other.reshape(w.shape)

    def _weight_bits(self) -> np.ndarray:
        high, low = self._bits(bits.WEIGHT)
        return high << 16 | low

    def _compensated(self, change: np.ndarray, drawn: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
        assert self.compensation is not None
        dtype, rest = self.weight.dtype, load(self.compensation)
        due = rest - change
        weight = _fl(self.w + due, dtype)
        taken = weight - self.w
        if is_sixteen_bit(dtype):
            return weight, bits.subtract_stochastic(rest - taken, change, drawn, dtype)
        return weight, _fl(due - taken, dtype)

    def _lost(self, change: np.ndarray) -> np.ndarray:
        ends = (0, 0xFFFFFFFF)  # of the random bits
        if self.stochastic:
            low, high = (bits.subtract_stochastic(self.w, change, end, self.weight.dtype) for end in ends)
            return (low == self.w) & (high == self.w)
        if self.compensation is None:
            return _unmoved(self.w, self.w - change, self.weight.dtype, False)
        (weight, low), (_, high) = (self._compensated(change, end) for end in ends)
        rest = load(self.compensation)
        return (weight == self.w) & (low == rest) & (high == rest)

    def _count(self, column: str, changes: np.ndarray, unchanged: np.ndarray) -> None:
        assert self.counts is not None
        at = COUNTS.index(column)
        self.counts[self.i, at] += np.count_nonzero(changes)
        self.counts[self.i, at + 1] += np.count_nonzero(changes & unchanged)


def _tensors(
    params: Arrays,
    grads: Arrays,
    masters: Arrays | None,
    compensations: Arrays | None,
    weight_decay: Sequence[float],
    stochastic: bool,
    indices: Sequence[int],
    scalars: Scalars,
    counts: np.ndarray | None,
) -> Iterator[_Tensor]:
    """Yield the parameters one by one; none when the step is not applied."""
    numbers = scalars if isinstance(scalars, StepScalars) else StepScalars.unpack(scalars.tobytes())
    if not numbers.applied:
        return
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        master = None if masters is None else masters[i]
        compensation = None if compensations is None else compensations[i]
        decay, index = weight_decay[i], indices[i]
        yield _Tensor(i, param, grad, master, compensation, decay, stochastic, index, numbers, counts)


def _fl(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round to `dtype` and stay in registers."""
    return load(np.asarray(x, dtype))


def _unmoved(stored: np.ndarray, new: np.ndarray, dtype: np.dtype, stochastic: bool) -> np.ndarray:
    """Where storing `new` leaves `stored` as it is, whatever the random bits."""
    if stochastic:
        low, high = (bits.round_stochastic(new, end, dtype) for end in (0, 0xFFFF))
        return (low == stored) & (high == stored)
    return _fl(new, dtype) == stored


def _used_eps(eps: float, state: np.ndarray, roots: bool) -> float | np.ndarray:
    return eps if roots else load(np.asarray(eps, state.dtype))


def _signed(state: np.ndarray, roots: bool) -> np.ndarray:
    r = load(state)
    return r * np.abs(r) if roots else r


def _square(state: np.ndarray, roots: bool) -> np.ndarray:
    r = load(state)
    return (r * r) * (r * r) if roots else r


def _signed_root(x: np.ndarray) -> np.ndarray:
    return np.copysign(np.sqrt(np.abs(x)), x)


def _fourth_root(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.sqrt(x))
