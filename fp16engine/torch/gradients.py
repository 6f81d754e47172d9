"""The gradients of PyTorch's parameters: dense ones, and a norm that cannot overflow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from .. import backend as backends
from ..validate import flag, listed, must_be, number
from .arrays import DTYPES, is_dense, wait_for
from .ranges import by_device


def gradients(parameters: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Return the gradients that are there, each dense in memory: one with gaps is replaced by a dense copy.

    Raises ValueError for a gradient that is sparse, or neither float16 nor float32.

    >>> w = torch.ones(2, requires_grad=True)
    >>> w.grad = torch.zeros(1).expand(2)
    >>> gradients([w])[0].stride()
    (1,)
    """
    found = []
    for p in parameters:
        if p.grad is None:
            continue
        if p.grad.layout != torch.strided or p.grad.dtype not in DTYPES:
            got = p.grad.layout if p.grad.layout != torch.strided else p.grad.dtype
            raise ValueError(must_be("gradients", "dense, float16 or float32", str(got)))
        if not is_dense(p.grad):
            p.grad = p.grad.contiguous()
        found.append(p.grad)
    return found


def clip_grad_norm_(parameters: Any, max_norm: float, *, error_if_nonfinite: bool = False) -> torch.Tensor:
    """Scale gradients down, in place, where their common norm is larger than `max_norm`; return the norm.

        norm = sqrt(sum of g^2 over all gradients);  where norm > max_norm: g = g * max_norm / norm

    Args:
        parameters: a tensor of any shape or several, on one device, whose gradients are float16 or float32;
            those without one are left out.
        max_norm: a finite number > 0. Under a loss scale S the gradients are S times as large: clip at
            S * max_norm, before `GradScaler.step`, and nothing is rounded twice.
        error_if_nonfinite: raise where the norm is infinite or NaN, instead of leaving the gradients alone.

    Returns:
        The norm before the scaling, a tensor of shape (), float32 on the gradients' device: 0 without
        gradients, inf or NaN if a gradient is.

    Rounding:
        Squares are taken of gradients divided by a power of two near the largest, in FP32 registers, so that
        neither 300^2 nor a norm beyond 65504 overflows. Each scaled gradient is rounded once.

    Raises:
        ValueError: `max_norm` is out of range, a gradient is sparse or of another dtype, or the gradients are
            on several devices.
        TypeError: an argument is of another type.
        RuntimeError: the norm is not finite and `error_if_nonfinite`.

    Source:
        Pascanu et al., 2013, arXiv 1211.5063; `torch.nn.utils.clip_grad_norm_`.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> w = torch.zeros(2, dtype=torch.float16, requires_grad=True)
    >>> w.grad = torch.tensor([60000.0, 45000.0], dtype=torch.float16)
    >>> fet.clip_grad_norm_(w, 5.0).item(), w.grad.tolist()
    (74995.203125, [4.0, 3.0])
    """
    max_norm = number("max_norm", max_norm, above=0)
    flag("error_if_nonfinite", error_if_nonfinite)
    several = (
        [parameters] if isinstance(parameters, torch.Tensor) else listed("parameters", parameters, "tensors")
    )
    found = gradients(several)
    groups = by_device(found)
    if len(groups) > 1:
        raise ValueError(must_be("parameters", "on one device", ", ".join(sorted(groups))))
    norm = 0.0
    for name, arrays in groups.items():
        backend = backends.unobserved(name)
        scale, root = backend.global_norm(arrays)
        if math.isfinite(root):
            norm = scale * root
            backend.clip_to_norm(arrays, (scale, root), max_norm)
            torch.autograd.graph.increment_version(found)
        else:
            norm = scale if math.isinf(scale) else math.nan
        wait_for(name)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(must_be("the norm of the gradients", "finite", norm))
    return torch.tensor(norm, dtype=torch.float32, device=found[0].device if found else "cpu")
