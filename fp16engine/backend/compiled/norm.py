"""Batch normalisation with statistics in their own dtype, and layer normalisation."""

from __future__ import annotations

from ..base import Array
from .shape import Storage


class Norms(Storage):
    def batch_norm_forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        momentum: float,
        eps: float,
        activation: str | None,
        acc: str,
        residual: Array | None = None,
        addend: Array | None = None,
        updates: Array | None = None,
        rest: Array | None = None,
        joined: Array | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:
        if joined is not None:
            s = self.cat((x, joined), len(x.shape) - 1)
            vectors = (gamma, beta, running_mean, running_var)
            y, mean, inv_std, _ = self.batch_norm_forward(
                s, *vectors, momentum, eps, activation, acc, updates=updates, rest=rest
            )
            return y, mean, inv_std, s
        s = None if addend is None else self._empty_like(x)
        y, mean, inv_std = self._empty_like(x), self._empty_like(gamma), self._empty_like(gamma)
        running, outputs = (running_mean, running_var, updates, rest), (s, y, mean, inv_std)
        half = self.half_accumulator(acc, x)
        self.native.batch_norm_forward(
            x, addend, gamma, beta, *running, residual, *outputs, momentum, eps, activation or "none", half
        )
        return y, mean, inv_std, s

    def batch_norm_inference(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        running_mean: Array,
        running_var: Array,
        eps: float,
        activation: str | None,
        residual: Array | None = None,
        deviation: bool = False,
    ) -> Array:
        y, running = self._empty_like(x), (running_mean, running_var)
        self.native.batch_norm_inference(
            x, gamma, beta, *running, residual, y, eps, activation or "none", deviation
        )
        return y

    def batch_norm_backward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        inv_std: Array,
        dy: Array,
        activation: str | None,
        acc: str,
        y: Array | None = None,
        pending_grad: Array | None = None,
        sums: bool = False,
        split: int | None = None,
    ) -> tuple[Array, Array, Array, Array | None, Array | None]:
        if split is not None:
            saved = (x, gamma, beta, mean, inv_std)
            dx, dgamma, dbeta, _, db = self.batch_norm_backward(
                *saved, dy, activation, acc, pending_grad=pending_grad, sums=sums
            )
            dx, dr = (self.getitem(dx, (..., part)) for part in (slice(split), slice(split, None)))
            return dx, dgamma, dbeta, dr, db
        dx, dgamma, dbeta = self._empty_like(x), self._empty_like(gamma), self._empty_like(beta)
        dr = None if y is None else self._empty_like(x)
        db = self.empty(gamma.shape, x.dtype) if sums else None
        half = self.half_accumulator(acc, x)
        outputs = dx, dgamma, dbeta, dr, db
        self.native.batch_norm_backward(
            x, gamma, beta, mean, inv_std, y, dy, pending_grad, *outputs, activation or "none", half
        )
        return outputs

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
