"""Optimizer steps, in place; state and weights are rounded once, when stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .registers import load

Arrays = Sequence[np.ndarray]


def sgd(
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
    for i, w, g in _weights_and_gradients(params, grads, masters, weight_decay, grad_scale):
        step = g
        if momenta is not None:
            m = momentum * load(momenta[i]) + g
            momenta[i][...] = m
            step = g + momentum * m if nesterov else m
        _update(params, masters, i, w - lr * step)


def adam(
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
    coupled = [0.0] * len(params) if decoupled else weight_decay
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    for i, w, g in _weights_and_gradients(params, grads, masters, coupled, grad_scale):
        first = beta1 * load(m[i]) + (1 - beta1) * g
        m[i][...] = first
        v[i][...] = beta2 * load(v[i]) + (1 - beta2) * (g * g)
        denominator = np.sqrt(load(v[i]) / correction2) + _stored_eps(eps, v[i])
        change = (lr * (first / correction1)) / denominator
        if decoupled and weight_decay[i]:
            change = change + (lr * weight_decay[i]) * w
        _update(params, masters, i, w - change)


def rmsprop(
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
    for i, w, g in _weights_and_gradients(params, grads, masters, weight_decay, grad_scale):
        v[i][...] = alpha * load(v[i]) + (1 - alpha) * (g * g)
        step = g / (np.sqrt(load(v[i])) + _stored_eps(eps, v[i]))
        if momenta is not None:
            step = momentum * load(momenta[i]) + step
            momenta[i][...] = step
        _update(params, masters, i, w - lr * step)


def _weights_and_gradients(
    params: Arrays,
    grads: Arrays,
    masters: Arrays | None,
    weight_decay: Sequence[float],
    grad_scale: float,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (index, weight register, gradient register with the scale and the coupled decay in it)."""
    for i, decay in enumerate(weight_decay):
        w = load(params[i] if masters is None else masters[i])
        g = load(grads[i]) * grad_scale
        yield i, w, g + decay * w if decay else g


def _stored_eps(eps: float, state: np.ndarray) -> np.ndarray:
    return load(np.asarray(eps, state.dtype))


def _update(params: Arrays, masters: Arrays | None, i: int, w: np.ndarray) -> None:
    if masters is None:
        params[i][...] = w
    else:
        masters[i][...] = w
        params[i][...] = masters[i]
