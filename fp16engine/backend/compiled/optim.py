"""Optimizer steps over all tensors in one call, in place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..base import Array
from .device import Device

Arrays = Sequence[Array]


class OptimizerSteps(Device):
    def sgd(
        self,
        params: Arrays,
        grads: Arrays,
        momenta: Arrays | None,
        masters: Arrays | None,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: Sequence[float],
        grad_scale: float,
    ) -> None:
        self.native.sgd(
            params, grads, momenta or [], masters or [], lr, momentum, nesterov, weight_decay, grad_scale
        )

    def adam(
        self,
        params: Arrays,
        grads: Arrays,
        m: Arrays,
        v: Arrays,
        masters: Arrays | None,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        step: int,
        weight_decay: Sequence[float],
        decoupled: bool,
        grad_scale: float,
    ) -> None:
        self.native.adam(
            params,
            grads,
            m,
            v,
            masters or [],
            lr,
            beta1,
            beta2,
            *_rounded(eps),
            step,
            weight_decay,
            decoupled,
            grad_scale,
        )

    def rmsprop(
        self,
        params: Arrays,
        grads: Arrays,
        v: Arrays,
        momenta: Arrays | None,
        masters: Arrays | None,
        lr: float,
        alpha: float,
        eps: float,
        momentum: float,
        weight_decay: Sequence[float],
        grad_scale: float,
    ) -> None:
        self.native.rmsprop(
            params,
            grads,
            v,
            momenta or [],
            masters or [],
            lr,
            alpha,
            *_rounded(eps),
            momentum,
            weight_decay,
            grad_scale,
        )

    def all_finite(self, arrays: Arrays) -> bool:
        return self.native.all_finite(arrays)


def _rounded(eps: float) -> tuple[float, float]:
    """`eps` as a binary16 and as a binary32 state holds it, rounded once each."""
    return float(np.float16(eps)), float(np.float32(eps))
