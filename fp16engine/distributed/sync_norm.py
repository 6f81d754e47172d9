"""Batch norm whose statistics are of the micro-batches of all ranks together.

Sums are FP32: each rank's over its rows, then over the ranks in their order. Mean and standard deviation (of
FP32 norms, the variance) are rounded once to the dtype of the norm, and those give y, as
`batch_norm_inference` computes it. Gradients follow `batch_norm_backward` with the sums of all ranks; those
of gamma and beta are the rank's own, which the exchange of gradients averages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from ..autograd import Function
from ..backend.reference.norm import move_average, share_taken
from ..tensor import Tensor
from .transport import STEP

if TYPE_CHECKING:
    from ..nn import BatchNorm2d, Module
    from .data_parallel import DataParallel

Array = Any


def synchronise(model: Module, parallel: DataParallel) -> None:
    """Let the batch norms of a model take their training statistics from all ranks."""
    from ..nn import BatchNorm2d

    for _, module in model.named_modules():
        if isinstance(module, BatchNorm2d):
            module.synchronised = Synchronised(parallel)


class Synchronised:
    """What `BatchNorm2d` asks in place of its own kernel while it trains."""

    def __init__(self, parallel: DataParallel) -> None:
        self._parallel = parallel

    def __call__(
        self, norm: BatchNorm2d, x: Tensor, residual: Tensor | None, activation: str | None
    ) -> Tensor:
        """The norm of x + 0, or with a residual that added to it, then an activation."""
        statistics: list[np.ndarray] = []
        options = {"parallel": self._parallel, "eps": norm.eps, "activation": activation, "found": statistics}
        y = SyncBatchNorm.apply(x, norm.gamma, norm.beta, residual, **options)
        _move_running(norm, *statistics)
        return y


class SyncBatchNorm(Function):
    """Training: statistics of all ranks' micro-batches."""

    def forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        residual: Array | None,
        parallel: DataParallel,
        eps: float,
        activation: str | None,
        found: list[np.ndarray],
    ) -> Array:
        f, dtype = self.backend, str(gamma.dtype)
        self.parallel, self.dtype = parallel, dtype
        axes = tuple(range(len(x.shape) - 1))
        wide = f.cast(x, "float32")
        channels = x.shape[-1]
        own = np.append(f.to_numpy(f.sum(wide, axes, "float32")).reshape(-1), np.float32(x.size // channels))
        *sums, self.rows = all_sum(parallel, own.astype(np.float32))
        mean = np.asarray(sums, np.float32) / np.float32(self.rows)
        centred = f.binary("sub", wide, f.from_numpy(mean))
        squares = f.to_numpy(f.sum(f.binary("mul", centred, centred), axes, "float32")).reshape(-1)
        var = all_sum(parallel, squares.astype(np.float32)) / np.float32(self.rows)
        found += [mean, var]
        half = dtype == "float16"
        with np.errstate(over="ignore"):
            stored = mean.astype(dtype), (np.sqrt(var) if half else var).astype(dtype)
        spread = stored[1].astype(np.float32)
        self.mean = stored[0].astype(np.float32)
        self.inv_std = 1 / np.sqrt((spread * spread if half else spread) + np.float32(eps))
        arrays = [f.from_numpy(array) for array in stored]
        y = f.batch_norm_inference(x, gamma, beta, *arrays, eps, activation, residual, half)
        self.x, self.gamma, self.y = x, gamma, y if activation else None
        self.activation = activation
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        f = self.backend
        if self.activation:
            dy = f.unary_backward(self.activation, None, self.y, dy)
        axes = tuple(range(len(dy.shape) - 1))
        wide = f.cast(dy, "float32")
        scale, mean = f.from_numpy(self.inv_std), f.from_numpy(self.mean)
        xhat = f.binary("mul", f.binary("sub", f.cast(self.x, "float32"), mean), scale)
        dbeta = f.sum(wide, axes, "float32").reshape(self.gamma.shape)
        dgamma = f.sum(f.binary("mul", wide, xhat), axes, "float32").reshape(self.gamma.shape)
        both = np.concatenate([f.to_numpy(dbeta), f.to_numpy(dgamma)]).astype(np.float32)
        offset, slope = np.split(all_sum(self.parallel, both) / np.float32(self.rows), 2)
        inner = f.binary("sub", wide, f.from_numpy(np.ascontiguousarray(offset)))
        inner = f.binary("sub", inner, f.binary("mul", xhat, f.from_numpy(np.ascontiguousarray(slope))))
        factor = f.binary("mul", f.cast(self.gamma, "float32"), scale)
        dx = f.cast(f.binary("mul", factor, inner), str(dy.dtype))
        grads = f.cast(dgamma, self.dtype), f.cast(dbeta, self.dtype)
        return dx, *grads, dy if self.needs[3] else None


def all_sum(parallel: DataParallel, own: np.ndarray) -> np.ndarray:
    """The FP32 sum, in the order of the ranks, over those that have a micro-batch now; the same on all."""
    transport = parallel.transport
    came = {rank: np.empty_like(own) for rank in parallel.present if rank != transport.rank}
    transport.swap(STEP, [(rank, own) for rank in came], list(came.items()))
    came[transport.rank] = own
    total = np.zeros_like(own)
    with np.errstate(all="ignore"):
        for rank in parallel.present:
            total = total + came[rank]
    return total


def _move_running(norm: BatchNorm2d, mean: np.ndarray, var: np.ndarray) -> None:
    """Move the running statistics as `batch_norm_forward` does."""
    backend = backends.get(norm.gamma.device)
    count = np.array(norm.updates.numpy()) + 1
    norm.updates.data = backend.from_numpy(count)
    taken = share_taken(norm.momentum, int(count[0]))
    kept = 1 - taken if taken > 1 - norm.momentum else norm.momentum
    spread = norm.running_var if norm.running_std is None else norm.running_std
    assert spread is not None
    rest = None if norm.rest is None else np.array(norm.rest.numpy())
    for row, (buffer, batch) in enumerate(((norm.running_mean, mean), (spread, var))):
        values = np.array(buffer.numpy())
        with np.errstate(all="ignore"):
            own = None if rest is None else rest[row]
            move_average(values, own, batch, kept, taken, root=row == 1 and rest is not None)
        buffer.data = backend.from_numpy(values)
    if rest is not None and norm.rest is not None:
        norm.rest.data = backend.from_numpy(rest)
