"""Batch normalisation with statistics in their own dtype, and layer normalisation."""

from __future__ import annotations

import numpy as np

from .native import empty, empty_like, half_accumulator, native


class Norms:
    def batch_norm_forward(
        self,
        x: np.ndarray,
        gamma: np.ndarray,
        beta: np.ndarray,
        running_mean: np.ndarray,
        running_var: np.ndarray,
        momentum: float,
        eps: float,
        relu: bool,
        acc: str,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y, mean, inv_std = empty_like(x), empty_like(gamma), empty_like(gamma)
        half = half_accumulator(acc, x)
        native.batch_norm_forward(
            x, gamma, beta, running_mean, running_var, y, mean, inv_std, momentum, eps, relu, half
        )
        return y, mean, inv_std

    def batch_norm_inference(
        self,
        x: np.ndarray,
        gamma: np.ndarray,
        beta: np.ndarray,
        running_mean: np.ndarray,
        running_var: np.ndarray,
        eps: float,
        relu: bool,
    ) -> np.ndarray:
        y = empty_like(x)
        native.batch_norm_inference(x, gamma, beta, running_mean, running_var, y, eps, relu)
        return y

    def batch_norm_backward(
        self,
        x: np.ndarray,
        gamma: np.ndarray,
        beta: np.ndarray,
        mean: np.ndarray,
        inv_std: np.ndarray,
        dy: np.ndarray,
        relu: bool,
        acc: str,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        dx, dgamma, dbeta = empty_like(x), empty_like(gamma), empty_like(beta)
        native.batch_norm_backward(
            x, gamma, beta, mean, inv_std, dy, dx, dgamma, dbeta, relu, half_accumulator(acc, x)
        )
        return dx, dgamma, dbeta

    def layer_norm_forward(
        self, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float, acc: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y, mean, inv_std = empty_like(x), empty(x.shape[:-1], gamma.dtype), empty(x.shape[:-1], gamma.dtype)
        native.layer_norm_forward(x, gamma, beta, y, mean, inv_std, eps, half_accumulator(acc, x))
        return y, mean, inv_std

    def layer_norm_backward(
        self,
        x: np.ndarray,
        gamma: np.ndarray,
        mean: np.ndarray,
        inv_std: np.ndarray,
        dy: np.ndarray,
        acc: str,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        dx, dgamma, dbeta = empty_like(x), empty_like(gamma), empty_like(gamma)
        native.layer_norm_backward(x, gamma, mean, inv_std, dy, dx, dgamma, dbeta, half_accumulator(acc, x))
        return dx, dgamma, dbeta
