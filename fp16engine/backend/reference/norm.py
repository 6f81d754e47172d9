"""Batch and layer normalisation: statistics by two passes, rounded before use; running averages."""

from __future__ import annotations

import numpy as np

from .elementwise import unary, unary_backward
from .registers import accumulator, load, store
from .sums import average, rounded, total


def batch_norm_forward(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    momentum: float,
    eps: float,
    activation: str | None,
    acc: str,
    residual: np.ndarray | None = None,
    addend: np.ndarray | None = None,
    updates: np.ndarray | None = None,
    rest: np.ndarray | None = None,
    joined: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    s = None if addend is None else store(load(x) + load(addend), x.dtype)
    if joined is not None:
        s = np.concatenate((x, joined), axis=-1)
    r = load(x if s is None else s)
    axes = tuple(range(x.ndim - 1))
    partial = accumulator(x, acc)
    batch_mean, batch_var = (_scaled_statistics if partial == np.float16 else _statistics)(r, axes, partial)
    mean = store(batch_mean, gamma.dtype)
    inv_std = store(1 / np.sqrt(batch_var + eps), gamma.dtype)
    kept, taken = momentum, 1 - momentum
    if updates is not None:
        updates += 1
        taken = share_taken(momentum, int(updates[0]))
        kept = 1 - taken if taken > 1 - momentum else momentum
    of_mean, of_spread = (None, None) if rest is None else rest
    move_average(running_mean, of_mean, batch_mean, kept, taken, root=False)
    move_average(running_var, of_spread, batch_var, kept, taken, root=rest is not None)
    y = _normalised(r, gamma, beta, load(mean), load(inv_std), activation, x.dtype, residual)
    return y, mean, inv_std, s


def batch_norm_inference(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    eps: float,
    activation: str | None,
    residual: np.ndarray | None = None,
    deviation: bool = False,
) -> np.ndarray:
    spread = load(running_var)
    inv_std = 1 / np.sqrt((spread * spread if deviation else spread) + eps)
    return _normalised(load(x), gamma, beta, load(running_mean), inv_std, activation, x.dtype, residual)


def share_taken(momentum: float, updates: int) -> float:
    """Return the share of the t-th batch in a running average: 10 / (t + 9), but at least 1 - momentum.

    The first batch is taken whole, so the average has no bias towards where it started; while weights move
    fast it follows the last tenth of the steps, and from t = 10 / (1 - momentum) on it is Keras'.
    """
    return max(1 - momentum, 10 / (updates + 9)) if momentum < 1 else 0.0


def move_average(
    running: np.ndarray, rest: np.ndarray | None, batch: np.ndarray, kept: float, taken: float, root: bool
) -> None:
    """Move `running` towards `batch`, in place; with `rest`, its rounding error is kept there.

    root: `running` holds the square roots of what is averaged.
    """
    before = load(running) if rest is None else load(running) + load(rest)
    after = kept * (before * before if root else before) + taken * batch
    if root:
        after = np.sqrt(after)
    running[...] = store(after, running.dtype)
    if rest is not None:
        rest[...] = store(after - load(running), rest.dtype)


def batch_norm_backward(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    dy: np.ndarray,
    activation: str | None,
    acc: str,
    y: np.ndarray | None = None,
    pending_grad: np.ndarray | None = None,
    sums: bool = False,
    split: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    r, g = load(x), load(dy)
    axes = tuple(range(x.ndim - 1))
    partial = accumulator(x, acc)
    residual = y is not None
    if activation and y is None:
        y = _normalised(r, gamma, beta, load(mean), load(inv_std), activation, x.dtype)
    if activation:
        g = unary_backward(activation, None, y, g)
    xhat = (r - load(mean)) * load(inv_std)
    dbeta, dgamma = total(g, axes, partial), total(g * xhat, axes, partial)
    count = x.size // x.shape[-1]
    register = (load(gamma) * load(inv_std)) * ((g - dbeta / count) - xhat * (dgamma / count))
    dx = store(register if pending_grad is None else register + load(pending_grad), x.dtype)
    dr = store(g, x.dtype) if residual else None
    db = store(total(load(dx), axes, partial), x.dtype) if sums else None
    if split is not None:
        dx, dr = dx[..., :split].copy(), dx[..., split:].copy()
    return dx, store(dgamma, gamma.dtype), store(dbeta, gamma.dtype), dr, db


def layer_norm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float, acc: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r = load(x)
    row_mean, row_var = _statistics(r, (x.ndim - 1,), accumulator(x, acc))
    mean = store(row_mean, gamma.dtype)
    inv_std = store(1 / np.sqrt(row_var + eps), gamma.dtype)
    y = _normalised(r, gamma, beta, load(mean)[..., None], load(inv_std)[..., None], None, x.dtype)
    return y, mean, inv_std


def layer_norm_backward(
    x: np.ndarray, gamma: np.ndarray, mean: np.ndarray, inv_std: np.ndarray, dy: np.ndarray, acc: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r, g = load(x), load(dy)
    partial = accumulator(x, acc)
    rows, last = tuple(range(x.ndim - 1)), (x.ndim - 1,)
    xhat = (r - load(mean)[..., None]) * load(inv_std)[..., None]
    dbeta, dgamma = total(g, rows, partial), total(g * xhat, rows, partial)
    scaled = g * load(gamma)
    offset = total(scaled, last, partial)[..., None] / x.shape[-1]
    slope = total(scaled * xhat, last, partial)[..., None] / x.shape[-1]
    dx = load(inv_std)[..., None] * ((scaled - offset) - xhat * slope)
    return store(dx, x.dtype), store(dgamma, gamma.dtype), store(dbeta, gamma.dtype)


def _statistics(r: np.ndarray, axes: tuple[int, ...], partial: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and biased variance over `axes` in registers."""
    mean = rounded(average(r, axes, partial), partial)
    centred = r - np.expand_dims(mean, axes)
    # Over 32, so that a binary16 block sum overflows only where the variance does.
    return mean, average(centred * centred / 32, axes, partial) * 32


def _scaled_statistics(
    r: np.ndarray, axes: tuple[int, ...], partial: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """`_statistics` whose binary16 sums are of scaled terms, so that none of them overflows."""
    scale = _scale(r, axes)
    mean = rounded(average(r * np.expand_dims(scale, axes), axes, partial) / scale, partial)
    centred = (r - np.expand_dims(mean, axes)) * np.expand_dims(scale, axes)
    return mean, average(centred * centred, axes, partial) / scale / scale


def _scale(r: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the power of two that puts the largest |r| into [8, 16): 32 squared distances fit binary16."""
    largest = np.abs(r).max(axes)
    exponent = np.frexp(np.where(np.isfinite(largest) & (largest > 0), largest, 8))[1]
    return np.ldexp(r.dtype.type(1), 4 - exponent)


def _normalised(
    r: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    activation: str | None,
    dtype: np.dtype,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    t = (r - mean) * inv_std * load(gamma) + load(beta)
    y = store(t if residual is None else t + load(residual), dtype)
    return unary(activation, y) if activation else y
