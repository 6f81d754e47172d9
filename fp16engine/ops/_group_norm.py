"""Group normalisation, composed of layer norm and arithmetic."""

from __future__ import annotations

import math

from .. import backend as backends
from ..tensor import Tensor
from ..validate import integer, must_be
from . import _check
from ._elementwise import arithmetic
from ._norm import layer_norm
from ._shape import reshape, transpose


def group_norm(x: Tensor, groups: int, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Return x normalised over the pixels and the channels of each group, scaled and shifted by channel.

        y = gamma * (x - mean) / sqrt(var + eps) + beta

    Args:
        x: (N, ..., C), float16, bfloat16 or float32.
        groups: a divisor of C.
        gamma: scale (C,), dtype of x.
        beta: shift (C,), dtype of x.
        eps: added to the variance; finite, > 0.

    Returns:
        The shape and dtype of x.

    Rounding:
        The normalised values are rounded once, as `layer_norm` rounds them; so are the product with gamma and
        the sum with beta, each. Gradients are those of these operations.

    Raises:
        TypeError: an argument is no floating-point Tensor, or the dtypes differ.
        ValueError: `groups` divides no C, or a shape or eps does not fit.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        Wu and He, 2018, arXiv 1803.08494; `torch.nn.functional.group_norm` (eps).

    >>> import fp16engine as fe
    >>> x, gamma, beta = (
    ...     fe.tensor(v, device="reference") for v in ([[[1.0, 5.0], [3.0, 7.0]]], [1.0, 2.0], [0.0, 0.0])
    ... )
    >>> fe.functional.group_norm(x, 2, gamma, beta).numpy().round(3).tolist()
    [[[-1.0, -2.0], [1.0, 2.0]]]
    """
    _check.alike("group_norm", x=x, gamma=gamma, beta=beta)
    if x.ndim < 2:
        raise ValueError(f"group_norm: x must be of shape (N, ..., C), got {x.shape}")
    channels = x.shape[-1]
    integer("group_norm: groups", groups, 1)
    if channels % groups:
        raise ValueError(must_be("group_norm: groups", f"a divisor of {channels} channels", groups))
    for name, t in (("gamma", gamma), ("beta", beta)):
        _check.vector("group_norm", name, t, channels, "one per channel, the last axis of x")
    pixels, each = math.prod(x.shape[1:-1]), channels // groups
    backend = backends.get(x.device)
    one, zero = (Tensor(backend.full((pixels * each,), v, x.dtype), x.device) for v in (1.0, 0.0))
    by_group = transpose(reshape(x, (x.shape[0], pixels, groups, each)), (0, 2, 1, 3))
    y = layer_norm(reshape(by_group, (x.shape[0], groups, pixels * each)), one, zero, eps)
    by_pixel = transpose(reshape(y, (x.shape[0], groups, pixels, each)), (0, 2, 1, 3))
    normed: Tensor = arithmetic("mul", reshape(by_pixel, x.shape), gamma)
    shifted: Tensor = arithmetic("add", normed, beta)
    return shifted
