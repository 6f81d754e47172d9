"""Clipping of gradients by the norm of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .. import backend as backends
from ..tensor import Tensor
from .optimizer import number


def clip_global_norm(params: Iterable[Tensor], most: float) -> float:
    """Scale gradients down, in place, where their common norm is larger than `most`; return the norm before.

        norm = sqrt(sum of g^2 over all gradients);  where norm > most: g = g * most / norm

    Args:
        params: tensors of any shape on one device, float16 or float32; those without a gradient are left out.
        most: a finite number > 0. Under a loss scale S the gradients are S times as large: clip at S * most,
            before the step divides by S.

    Returns:
        The norm before the scaling; 0 without gradients, inf or NaN if a gradient is.

    Rounding:
        Squares are taken of gradients divided by a power of two near the largest, in FP32 registers, so that
        neither 300^2 in float16 nor 1e30^2 in float32 overflows. Each scaled gradient is rounded once.
        Gradients that are not finite stay as they are.

    Raises:
        ValueError: `most` is out of range.
        TypeError: `most` is no number.

    Source:
        Pascanu et al., 2013, arXiv 1211.5063; `torch.nn.utils.clip_grad_norm_`.

    >>> import fp16engine as fe
    >>> w = fe.tensor([1.0, 1.0], "float16", "reference", requires_grad=True)
    >>> (w * fe.tensor([300.0, 400.0], "float16", "reference")).sum().backward()
    >>> fe.optim.clip_global_norm([w], 5.0), w.grad.numpy().tolist()
    (500.0, [3.0, 4.0])
    """
    most = number("most", most, open_end=True)
    grads = [p.grad for p in params if p.grad is not None]
    if not grads:
        return 0.0
    backend = backends.get(grads[0].device)
    arrays = [g.data for g in grads]
    scale, root = backend.global_norm(arrays)
    if math.isfinite(root):
        backend.clip_to_norm(arrays, (scale, root), most)
        return scale * root
    return scale if math.isinf(scale) else math.nan
