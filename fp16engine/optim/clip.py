"""Clipping of gradients by the norm of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .. import backend as backends
from ..tensor import Tensor
from ..validate import number


def clip_global_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale gradients down, in place, where their common norm is larger than `max_norm`; return it.

        norm = sqrt(sum of g^2 over all gradients);  where norm > max_norm: g = g * max_norm / norm

    Args:
        params: tensors of any shape on one device, float16, bfloat16 or float32; those without a gradient are
            left out.
        max_norm: a finite number > 0. Under a loss scale S the gradients are S times as large: clip at
            S * max_norm, before the step divides by S.

    Returns:
        The norm before the scaling; 0 without gradients, inf or NaN if a gradient is.

    Rounding:
        Squares are taken of gradients divided by a power of two near the largest, in FP32 registers, so that
        neither 300^2 in float16 nor 1e30^2 in float32 overflows. Each scaled gradient is rounded once.
        Gradients that are not finite stay as they are.

    Raises:
        ValueError: `max_norm` is out of range.
        TypeError: `max_norm` is no number.

    Source:
        Pascanu et al., 2013, arXiv 1211.5063; `torch.nn.utils.clip_grad_norm_`.

    >>> import fp16engine as fe
    >>> w = fe.tensor([1.0, 1.0], "float16", "reference", requires_grad=True)
    >>> (w * fe.tensor([300.0, 400.0], "float16", "reference")).sum().backward()
    >>> fe.optim.clip_global_norm([w], 5.0), w.grad.numpy().tolist()
    (500.0, [3.0, 4.0])
    """
    max_norm = number("max_norm", max_norm, above=0)
    grads = [p.grad for p in params if p.grad is not None]
    if not grads:
        return 0.0
    backend = backends.get(grads[0].device)
    arrays = [g.data for g in grads]
    scale, root = backend.global_norm(arrays)
    if math.isfinite(root):
        backend.clip_to_norm(arrays, (scale, root), max_norm)
        return scale * root
    return scale if math.isinf(scale) else math.nan
