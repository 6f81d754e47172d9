"""Muon: momentum whose matrices are made orthogonal by a Newton-Schulz iteration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import backend as backends
from ..floats import rounded
from ..precision import accumulator, active
from ..tensor import Tensor
from ..validate import flag, integer, listed, must_be, number
from .optimizer import Array, Optimizer, StepScalars

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steepest at 0: singular values end between about 0.7 and 1.2
_MOST = 100  # exponent of a power of two that a register holds, with what it multiplies
_TINY = float(np.finfo(np.float32).tiny)


class Muon(Optimizer):
    """Momentum for matrices, of which only the directions count; SGD for the other parameters.

        m = momentum * m + g;  s = m, with `nesterov` g + momentum * m
        w = w - lr * sqrt(max(1, rows / columns)) * orthogonal(s) - lr * weight_decay * w
        orthogonal(s): X = s / |s|, then `steps` times X = (a I + b A + c A A) X with A = X X^T

    A weight of more axes is a matrix (rows, the rest): a convolution's (out, kh * kw * in). The iteration
    brings all singular values of s near 1, so neither the loss scale nor the size of the gradient matters.
    The other parameters, and matrices that `matrices` excludes, step as `SGD` with `sgd_momentum`.

    Args:
        params: leaf tensors of any shape that require a gradient, float16, bfloat16 or float32; a
            `Parameter`'s own weight_decay comes before the argument.
        lr: learning rate, finite, > 0; `lr_factors` change it for single parameters.
        momentum: of the matrices, in [0, 1).
        nesterov: needs momentum > 0.
        weight_decay: factor >= 0; decoupled for matrices, added to the gradient for the others.
        steps: of the Newton-Schulz iteration, >= 1.
        unit_rows: scale each matrix to the norm sqrt(rows) in the step; it has no decay then.
        matrices: which parameters are matrices to make orthogonal; None means all with two or more axes.
        sgd_momentum: of the other parameters, in [0, 1); None means `momentum`.
        update: "nearest", "stochastic", "kahan" or "master32"; see `Optimizer`.
        master_values: float32 arrays to start the masters from; None means the parameters as they are now.
        seed: of stochastic rounding, in [0, 2^64).

    Rounding:
        m is rounded once, to the dtype of the parameter (float32 with a master), s to the parameter's. The
        norm is taken of values divided by a power of two near the largest: no square overflows. The
        iteration runs in the parameter's dtype: products accumulate as the active `Precision` says, A, the
        polynomial and X are each rounded once an operation. Scaling, decay and step meet in a register, and
        w is rounded once.

    Raises:
        ValueError: a number is out of range, `params` is empty, or one of `matrices` has fewer than two axes.
        TypeError: an argument is no number, or a parameter no Tensor.
        UnsupportedPrecision: the update is unknown.

    Source:
        Jordan et al., 2024, kellerjordan.github.io/posts/muon and github.com/KellerJordan/Muon (iteration,
        scale); github.com/KellerJordan/cifar10-airbench, airbench94_muon.py (unit rows, SGD for the rest).

    >>> import fp16engine as fe
    >>> w = fe.tensor([[1.0, 0.0], [0.0, 1.0]], "float16", "reference", requires_grad=True)
    >>> (w * fe.tensor([[300.0, 0.0], [0.0, 0.5]], "float16", "reference")).sum().backward()
    >>> fe.optim.Muon([w], lr=0.5, steps=12).step()
    >>> bool((abs(w.numpy().diagonal() - 0.5) < 0.2).all())
    True
    """

    slots = ("momentum",)
    hyper = ("lr", "weight_decay", "seed", "momentum", "nesterov", "steps", "unit_rows", "sgd_momentum")

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        steps: int = 5,
        unit_rows: bool = False,
        matrices: Sequence[bool] | None = None,
        sgd_momentum: float | None = None,
        update: str = "nearest",
        master_values: Sequence[Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.momentum = number("momentum", momentum, minimum=0, below=1)
        self.nesterov = flag("nesterov", nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("momentum must be > 0 with nesterov=True, got 0")
        self.steps = integer("steps", steps, 1)
        self.unit_rows = flag("unit_rows", unit_rows)
        other = momentum if sgd_momentum is None else sgd_momentum
        self.sgd_momentum = number("sgd_momentum", other, minimum=0, below=1)
        super().__init__(params, lr, weight_decay, update, master_values, seed)
        self.matrices = self._checked(matrices)

    def _checked(self, matrices: Sequence[bool] | None) -> list[bool]:
        if matrices is None:
            return [p.ndim > 1 for p in self.params]
        chosen = [flag(f"matrices[{i}]", one) for i, one in enumerate(listed("matrices", matrices, "flags"))]
        if len(chosen) != len(self.params):
            raise ValueError(must_be("matrices", f"{len(self.params)} flags", len(chosen)))
        for i, p in enumerate(self.params):
            if chosen[i] and p.ndim < 2:
                raise ValueError(must_be(f"matrices[{i}]", f"False for a parameter of shape {p.shape}", True))
        return chosen

    @property
    def host_reason(self) -> str | None:
        """Why a step needs the host: it reads the norm of every matrix.

        >>> import fp16engine as fe
        >>> w = fe.tensor([[1.0]], device="reference", requires_grad=True)
        >>> fe.optim.Muon([w]).host_reason
        'muon reads the norms of its matrices'
        """
        return "muon reads the norms of its matrices"

    def change(
        self, i: int, grad: np.ndarray, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
    ) -> np.ndarray | None:
        if self.matrices[i]:
            return None  # it depends on the whole matrix, of which these are some elements
        g, momentum = self._decayed(i, grad, before["w"]), np.float32(self.sgd_momentum)
        moving = momentum * before["momentum"] + g
        return self._rate(i) * (g + momentum * moving if self._others_nesterov else moving)

    @property
    def _others_nesterov(self) -> bool:
        return self.nesterov and self.sgd_momentum > 0

    def _kind(self, i: int) -> tuple[Any, ...]:
        return (*super()._kind(i), i if self.matrices[i] else -1)

    def _kernel(
        self, backend: Any, members: list[int], scalars: StepScalars | Array, counts: Array | None
    ) -> None:
        arrays = self._arrays(members)
        momenta = self._pick("momentum", members)
        if not self.matrices[members[0]]:
            backend.sgd(
                momenta=momenta,
                momentum=self.sgd_momentum,
                nesterov=self._others_nesterov,
                scalars=scalars,
                counts=counts,
                **arrays,
            )
            return
        if not isinstance(scalars, StepScalars):
            raise TypeError(must_be("scalars", "StepScalars with muon", type(scalars)))
        i, options = members[0], {"nesterov": False, "momentum": self.momentum, "counts": counts}
        # a step of rate 0 moves the momentum, counts what of it is lost, and leaves the weight as it is
        still = {**arrays, "weight_decay": [0.0], "stochastic": False, "compensations": None}
        backend.sgd(momenta=momenta, scalars=scalars._replace(lr=0.0), **still, **options)
        direction = self._direction(backend, still, momenta[0], scalars)
        rows = direction.shape[0]
        rate = scalars.lr * math.sqrt(max(1.0, rows * rows / max(direction.size, 1)))
        shrinking = scalars.lr * self._decay(i)
        if self.unit_rows:
            norm = _norm(backend, (arrays["masters"] or arrays["params"])[0])
            shrinking = 1.0 - math.sqrt(rows) / norm if norm > _TINY else 0.0
        taken = {
            **arrays,
            "grads": [orthogonalised(direction, self.steps, self.device)],
            "weight_decay": [shrinking / rate],
        }
        backend.sgd(momenta=None, scalars=scalars._replace(lr=rate, grad_scale=1.0), **taken, **options)

    def _direction(
        self, backend: Any, still: Mapping[str, Any], momentum: Array, scalars: StepScalars
    ) -> Array:
        """Return a multiple of s in the parameter's dtype, rounded once: m, with `nesterov` m + g / momentum.

        A power of two, exact in the register, brings its norm near 1: small gradients keep their digits, and
        the bits are those of a gradient of any other size. Steps of SGD of rate 0 do it: one has the momentum
        power * m + (power * share) * g, one more rounds that, as a master, to the parameter's dtype.
        """
        share = scalars.grad_scale / self.momentum if self.nesterov else 0.0
        largest = max(_norm(backend, momentum), share * _norm(backend, still["grads"][0]))
        exponent = -math.frexp(largest)[1] if math.isfinite(largest) else 0
        power = 2.0 ** min(max(exponent, -_MOST), _MOST)
        scaled, options = backend.copy(momentum), {"nesterov": False, "momentum": power, "counts": None}
        scalars = scalars._replace(lr=0.0, grad_scale=power * share)
        backend.sgd(momenta=[scaled], scalars=scalars, **still, **options)
        if still["masters"] is None:
            return scaled
        direction = backend.zeros(scaled.shape, str(still["params"][0].dtype))
        rounding = {**still, "params": [direction], "masters": [scaled]}
        backend.sgd(momenta=None, scalars=scalars, **rounding, **options)
        return direction


def orthogonalised(s: Array, steps: int, device: str) -> Array:
    """Return the Newton-Schulz iterate of a matrix: its singular vectors, with all singular values near 1.

    Args:
        s: (rows, ...), float16, bfloat16 or float32, of the device; all axes after the first are one.
        steps: of the iteration, >= 1.
        device: that `s` belongs to.

    Returns:
        The shape and dtype of s, in which the iteration runs. A zero matrix stays zero.

    >>> import numpy as np
    >>> s = np.diag([4.0, 1.0]).astype(np.float16)
    >>> bool((abs(orthogonalised(s, 12, "reference").diagonal() - 1) < 0.35).all())
    True
    """
    if not s.size:
        return s
    backend, dtype = backends.get(device), str(s.dtype)
    accumulator(dtype)  # raises where the active precision has none for it
    acc = active().dot_accumulator
    x = backend.binary("mul", s, 1.0 / _norm(backend, s)).reshape(s.shape[0], -1)
    tall = x.shape[0] > x.shape[1]  # the smaller of the two products has the same polynomial
    a, b, c = COEFFICIENTS
    identity = backend.from_numpy(rounded(np.eye(min(x.shape)) * a, dtype))
    for _ in range(steps):
        product = backend.matmul(x, x, tall, not tall, acc)
        square = backend.binary("mul", backend.matmul(product, product, False, False, acc), c)
        terms = backend.binary("add", backend.binary("mul", product, b), square)
        polynomial = backend.binary("add", terms, identity)
        x = backend.matmul(*((x, polynomial) if tall else (polynomial, x)), False, False, acc)
    return x.reshape(s.shape)


def _norm(backend: Any, x: Array) -> float:
    """The Frobenius norm of an array; at least a tiny number, so that it divides. NaN unless all are
    finite."""
    scale, root = backend.global_norm([x])
    return max(scale * root, _TINY)


def hidden_matrices(shapes: Sequence[tuple[int, ...]]) -> list[bool]:
    """Return which of a network's parameters are matrices, all but the last one, that of the output layer.

    Args:
        shapes: of the parameters, in the order of the network.

    >>> hidden_matrices([(8, 3, 3, 3), (8,), (8, 8), (10, 8), (10,)])
    [True, False, True, False, False]
    """
    matrices = [len(shape) > 1 for shape in shapes]
    if True in matrices:
        matrices[len(matrices) - 1 - matrices[::-1].index(True)] = False
    return matrices
