"""Batch normalisation with statistics in their own dtype, and layer normalisation."""

from __future__ import annotations

from ..base import Array
from .device import Device


class Norms(Device):
    def batch_norm_forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        momentum: float,
        eps: float,
        relu: bool,
        acc: str,
    ) -> tuple[Array, Array, Array]:
        y, mean, inv_std = self._empty_like(x), self._empty_like(gamma), self._empty_like(gamma)
        half = self.half_accumulator(acc, x)
        self.native.batch_norm_forward(
            x, gamma, beta, running_mean, running_var, y, mean, inv_std, momentum, eps, relu, half
        )
        return y, mean, inv_std

    def batch_norm_inference(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        eps: float,
        relu: bool,
    ) -> Array:
        y = self._empty_like(x)
        self.native.batch_norm_inference(x, gamma, beta, running_mean, running_var, y, eps, relu)
        return y

    def batch_norm_backward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        inv_std: Array,
        dy: Array,
        relu: bool,
        acc: str,
    ) -> tuple[Array, Array, Array]:
        dx, dgamma, dbeta = self._empty_like(x), self._empty_like(gamma), self._empty_like(beta)
        half = self.half_accumulator(acc, x)
        self.native.batch_norm_backward(x, gamma, beta, mean, inv_std, dy, dx, dgamma, dbeta, relu, half)
        return dx, dgamma, dbeta

    def layer_norm_forward(
        self, x: Array, gamma: Array, beta: Array, eps: float, acc: str
    ) -> tuple[Array, Array, Array]:
        y, rows, dtype = self._empty_like(x), x.shape[:-1], gamma.dtype
        mean, inv_std = self.empty(rows, dtype), self.empty(rows, dtype)
        self.native.layer_norm_forward(x, gamma, beta, y, mean, inv_std, eps, self.half_accumulator(acc, x))
        return y, mean, inv_std

    def layer_norm_backward(
        self, x: Array, gamma: Array, mean: Array, inv_std: Array, dy: Array, acc: str
    ) -> tuple[Array, Array, Array]:
        dx, dgamma, dbeta = self._empty_like(x), self._empty_like(gamma), self._empty_like(gamma)
        half = self.half_accumulator(acc, x)
        self.native.layer_norm_backward(x, gamma, mean, inv_std, dy, dx, dgamma, dbeta, half)
        return dx, dgamma, dbeta
