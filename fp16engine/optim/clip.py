"""Clipping of gradients by the norm of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .. import backend as backends
from ..tensor import Tensor
from ..validate import number


def clip_global_norm(params: Iterable[Tensor], most: float) -> float:
    """Scale the gradients of `params` down, in place, so that their common norm is at most `most`; its value.

    norm = sqrt(sum of g^2 over all gradients); where it is larger, g = fl(g * most / norm). Squares are taken
    of gradients divided by a power of two near the largest, in FP32 registers, so that neither 300^2 in
    float16 nor 1e30^2 in float32 overflows. Gradients that are not finite stay as they are. Under a loss
    scale S the gradients are S times as large: clip at S * most, before the step divides by S.

    Args:
        params: tensors on one device; those without a gradient are left out.
        most: a finite number > 0.

    Returns:
        The norm before the scaling; 0 without gradients, inf or NaN if a gradient is.

    Raises:
        ValueError, TypeError: `most` is no such number.

    >>> import fp16engine as fe
    >>> w = fe.tensor([1.0, 1.0], "float16", "reference", requires_grad=True)
    >>> (w * fe.tensor([300.0, 400.0], "float16", "reference")).sum().backward()
    >>> fe.optim.clip_global_norm([w], 5.0), w.grad.numpy().tolist()
    (500.0, [3.0, 4.0])
    """
    most = number("most", most, above=0)
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
