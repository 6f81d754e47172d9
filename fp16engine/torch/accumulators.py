"""What PyTorch's sums add up in, and its dot products multiply in: measured on the device, not believed.

A sum of n terms, big first, -big last and 1/2 between them, with big + 1/2 beyond the digits of the stored
type: who adds up in that type loses the halves, who adds up in a wider one returns (n - 2) / 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

NONE = "none"  # nothing is added up, or multiplied and added up
UNKNOWN = "not measured"
_WIDER = {torch.float16: "float32", torch.bfloat16: "float32", torch.float32: "float64"}
_LEAST = 4  # terms that can tell


def measured(op: str, args: tuple[Any, ...]) -> tuple[str, str]:
    """Return what a call of an operator multiplies in and adds up in.

    op: its name in `torch.ops.aten`; args: its arguments, of whose shapes and dtypes a trial is made.

    >>> measured("mul", (torch.zeros(4), 2.0))
    ('none', 'none')
    """
    if op in _UNMEASURED:
        return NONE if op in _SUMS_ONLY else UNKNOWN, UNKNOWN
    found = _TRIALS.get(op)
    x = next((a for a in args if isinstance(a, torch.Tensor)), None)
    if found is None or x is None:
        return NONE, NONE
    terms, key = found(args)
    if terms < _LEAST or x.dtype not in _WIDER:
        return NONE if op in _SUMS_ONLY else UNKNOWN, UNKNOWN
    return _of(op, terms, key, x.dtype, str(x.device))


@cache
def _of(op: str, terms: int, key: tuple[Any, ...], dtype: torch.dtype, device: str) -> tuple[str, str]:
    digits = 1 - round(math.log2(torch.finfo(dtype).eps))
    big = 2.0**digits
    halves = torch.full((terms,), 0.5, dtype=dtype)
    halves[0], halves[-1] = big, -big
    run = _RUNS[op]
    with torch.no_grad(), torch.autocast(torch.device(device).type, enabled=False):
        total = float(run(halves.to(device), torch.ones(terms, dtype=dtype, device=device), key))
        exact = float(torch.tensor((terms - 2) / 2, dtype=torch.float64).to(dtype))
        own = str(dtype).removeprefix("torch.")
        accumulates = _WIDER[dtype] if total == exact else own if total <= 0 else f"{own}, in parts"
        if op in _SUMS_ONLY:
            return NONE, accumulates
        # ((1 + e) 2^4)^2 - (1 + 2 e) 2^8 = e^2 2^8, if the product is exact
        step = 2.0 ** (1 - digits)
        a, b = (torch.zeros(terms, dtype=dtype) for _ in range(2))
        a[0] = b[0] = (1 + step) * 16
        a[1], b[1] = -(1 + 2 * step) * 16, 16.0
        rest = float(run(a.to(device), b.to(device), key))
        return (_WIDER[dtype] if rest == step**2 * 256 else own), accumulates


# What an operator's arguments say of a trial: the number of terms, and the shape around them.


def _mm(args: tuple[Any, ...]) -> tuple[int, tuple[Any, ...]]:
    a, b = args[:2]  # a third is the dtype of the result
    return a.shape[-1], (a.shape[-2], b.shape[-1])


def _bmm(args: tuple[Any, ...]) -> tuple[int, tuple[Any, ...]]:
    terms, sizes = _mm(args)
    return terms, (args[0].shape[0], *sizes)


def _linear(args: tuple[Any, ...]) -> tuple[int, tuple[Any, ...]]:
    return args[1].shape[1], (math.prod(args[0].shape[:-1]), args[1].shape[0])


def _convolution(args: tuple[Any, ...]) -> tuple[int, tuple[Any, ...]]:
    x, weight, _, *geometry = args[:6]
    axes = weight.ndim - 2
    stride, padding, dilation = (tuple(part) * (axes // len(part)) for part in geometry)
    # The first output whose window is inside the image, and where that window begins.
    at = tuple(-(-p // s) for p, s in zip(padding, stride, strict=True))
    start = tuple(o * s - p for o, s, p in zip(at, stride, padding, strict=True))
    ends = [b + d * (k - 1) for b, d, k in zip(start, dilation, weight.shape[2:], strict=True)]
    if args[6] or any(end >= n for end, n in zip(ends, x.shape[2:], strict=True)):
        return 0, ()
    key = (tuple(x.shape), tuple(weight.shape), stride, padding, dilation, args[8], at, start)
    return math.prod(weight.shape[1:]), key


def _sum(args: tuple[Any, ...]) -> tuple[int, tuple[Any, ...]]:
    x = args[0]
    axes = args[1] if len(args) > 1 and args[1] is not None else list(range(x.ndim))
    axes = [axes] if isinstance(axes, int) else list(axes)
    return math.prod(x.shape[axis] for axis in axes or range(x.ndim)), ()


def _run_mm(a: torch.Tensor, b: torch.Tensor, key: tuple[Any, ...]) -> torch.Tensor:
    rows, columns = key
    return torch.mm(a.expand(rows, -1).contiguous(), b[:, None].expand(-1, columns).contiguous())[0, 0]


def _run_bmm(a: torch.Tensor, b: torch.Tensor, key: tuple[Any, ...]) -> torch.Tensor:
    many, rows, columns = key
    left = a.expand(many, rows, -1).contiguous()
    return torch.bmm(left, b[:, None].expand(many, -1, columns).contiguous())[0, 0, 0]


def _run_convolution(a: torch.Tensor, b: torch.Tensor, key: tuple[Any, ...]) -> torch.Tensor:
    shape, weight, stride, padding, dilation, groups, at, start = key
    kernel = a.reshape(1, *weight[1:]).expand(weight).contiguous()
    x = torch.zeros(shape, dtype=a.dtype, device=a.device)
    window = (
        slice(begin, begin + d * (k - 1) + 1, d)
        for begin, d, k in zip(start, dilation, weight[2:], strict=True)
    )
    x[(slice(None), slice(0, weight[1]), *window)] = b.reshape(1, *weight[1:])
    none = [0] * len(stride)
    y = torch.ops.aten.convolution(x, kernel, None, stride, padding, dilation, False, none, groups)
    return y[(0, 0, *at)]


_TRIALS: dict[str, Callable[[tuple[Any, ...]], tuple[int, tuple[Any, ...]]]] = {
    "mm": _mm,
    "addmm": lambda args: _mm(args[1:3]),
    "bmm": _bmm,
    "baddbmm": lambda args: _bmm(args[1:3]),
    "linear": _linear,
    "convolution": _convolution,
    "sum": _sum,
    "mean": _sum,
}
_RUNS: dict[str, Callable[[torch.Tensor, torch.Tensor, tuple[Any, ...]], torch.Tensor]] = {
    **dict.fromkeys(("mm", "addmm", "linear"), _run_mm),
    **dict.fromkeys(("bmm", "baddbmm"), _run_bmm),
    "convolution": _run_convolution,
    "sum": lambda a, b, key: a.sum(),
    "mean": lambda a, b, key: a.mean() * len(a),
}
_UNMEASURED_SUMS = (
    "native_layer_norm",
    "native_group_norm",
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
    "_softmax",
    "_log_softmax",
    "cumsum",
    "var",
    "var_mean",
)
_SUMS_ONLY = ("sum", "mean", *_UNMEASURED_SUMS)
_UNMEASURED = (
    *_UNMEASURED_SUMS,
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)
