"""Optimizer steps over all tensors in one call, in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...floats import is_sixteen_bit
from ..base import Array, StepScalars
from .device import Device

Arrays = Sequence[Array]


class OptimizerSteps(Device):
    def sgd(
        self,
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
        scalars: StepScalars | Array,
        counts: Array | None,
    ) -> None:
        update = _update(
            params, grads, masters, compensations, weight_decay, stochastic, indices, scalars, counts
        )
        self.native.sgd(update, momenta or [], momentum, nesterov)

    def adam(
        self,
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
        scalars: StepScalars | Array,
        counts: Array | None,
    ) -> None:
        update = _update(
            params, grads, masters, compensations, weight_decay, stochastic, indices, scalars, counts
        )
        self.native.adam(update, m, v, beta1, beta2, _used_eps(eps, v, native), native, decoupled)

    def rmsprop(
        self,
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
        scalars: StepScalars | Array,
        counts: Array | None,
    ) -> None:
        update = _update(
            params, grads, masters, compensations, weight_decay, stochastic, indices, scalars, counts
        )
        self.native.rmsprop(update, v, momenta or [], alpha, _used_eps(eps, v, native), momentum, native)

    def all_finite(self, arrays: Arrays) -> bool:
        return self.native.all_finite(arrays)

    def global_norm(self, arrays: Arrays) -> tuple[float, float]:
        norm = self.empty((2,), "float32")
        self.native.global_norm(arrays, norm)
        scale, root = self.to_numpy(norm)
        return float(scale), float(root)

    def clip_to_norm(self, arrays: Arrays, norm: tuple[float, float], max_norm: float) -> None:
        self.native.clip_to_norm(arrays, self.from_numpy(np.array(norm, np.float32)), max_norm)


def _update(
    params: Arrays,
    grads: Arrays,
    masters: Arrays | None,
    compensations: Arrays | None,
    weight_decay: Sequence[float],
    stochastic: bool,
    indices: Sequence[int],
    scalars: StepScalars | Array,
    counts: Array | None,
) -> tuple[Any, ...]:
    """A WeightUpdate of csrc/common/weight_update.h, as csrc/bindings/update_caster.h takes it."""
    return (
        params,
        grads,
        masters or [],
        compensations or [],
        weight_decay,
        stochastic,
        indices,
        scalars,
        counts,
    )


def _used_eps(eps: float, state: Arrays, native: bool) -> float:
    """`eps` as a plain 16-bit state holds it, else as it is."""
    plain = bool(state) and not native and is_sixteen_bit(state[0].dtype)
    return float(np.asarray(eps, state[0].dtype)) if plain else eps
