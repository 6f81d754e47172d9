"""PyTorch's functions and methods on `Held` values: what each name in a graph does here.

What PyTorch has as one operation and we have not is put together from ours, each of which rounds once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional as torch_f

from ... import functional as F
from ... import ops
from ...tensor import Tensor
from . import pools
from .held import Held


def only(name: str, value: Any, *valid: Any) -> None:
    """Require an argument to be one that we have; ValueError for any other."""
    if value not in valid:
        raise ValueError(f"{name} must be {' or '.join(map(str, valid))}, got {value}")


# Elementwise


def hardsigmoid(x: Tensor) -> Tensor:
    """Return relu6(x + 3) / 6."""
    return F.relu6(x + 3.0) * (1 / 6)


def hardswish(x: Tensor) -> Tensor:
    """Return x relu6(x + 3) / 6."""
    return x * hardsigmoid(x)


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """Return x where it is above 0, else slope x."""
    return F.relu(x) - F.relu(-x) * slope


def gelu_tanh(x: Tensor) -> Tensor:
    """Return the approximation of GELU by tanh (Hendrycks and Gimpel, 2016)."""
    inner = (x + x * x * x * 0.044715) * 0.7978845608028654
    return x * (F.tanh(inner) * 0.5 + 0.5)


def gelu(approximate: str = "none") -> Callable[[Tensor], Tensor]:
    """Return GELU in one of PyTorch's two forms."""
    only("approximate", approximate, "none", "tanh")
    return F.gelu if approximate == "none" else gelu_tanh


def _pointwise(function: Callable[[Tensor], Tensor]) -> Callable[..., Held]:
    def call(x: Held, inplace: bool = False) -> Held:
        return x.mapped(function)

    return call


def _gelu(x: Held, approximate: str = "none") -> Held:
    return x.mapped(gelu(approximate))


def _leaky_relu(x: Held, negative_slope: float = 0.01, inplace: bool = False) -> Held:
    return x.mapped(partial(leaky_relu, slope=negative_slope))


def _hardtanh(x: Held, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Held:
    only("hardtanh's bounds", (min_val, max_val), (0.0, 6.0))
    return x.mapped(F.relu6)


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """An operator of two values: sizes, which are integers, or tensors, whose shapes broadcast."""

    def call(a: Any, b: Any, *, alpha: float = 1) -> Any:
        only("alpha", alpha, 1)
        if isinstance(a, Held) and isinstance(b, Held):
            ndim = max(a.ndim, b.ndim)
            a, b = (x if x.ndim == ndim else x.reshaped((1,) * (ndim - x.ndim) + x.shape) for x in (a, b))
            order = a.order if a.tensor.size >= b.tensor.size else b.order
            return Held(function(a.arranged(order), b.arranged(order)), order)
        if isinstance(a, Held):
            return a.mapped(lambda x: function(x, b))
        if isinstance(b, Held):
            return b.mapped(lambda x: function(a, x))
        return function(a, b)

    return call


def _of_sizes(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator of sizes alone."""

    def call(*args: Any) -> Any:
        if any(isinstance(arg, Held) for arg in args):
            raise ValueError(f"{getattr(function, '__name__', function)} must be of sizes, got a tensor")
        return function(*args)

    return call


def _assert(condition: Any, message: str = "") -> None:
    if not condition:
        raise ValueError(f"the module refuses this input: {message}")


# Shapes


def _sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """Let `f(2, 3)` and `f((2, 3))` mean the same."""
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape


def _reshape(x: Held, *shape: Any) -> Held:
    return x.reshaped(_sizes(shape))


def _permute(x: Held, *dims: Any) -> Held:
    return x.permuted(_sizes(dims))


def _transpose(x: Held, dim0: int, dim1: int) -> Held:
    axes = list(range(x.ndim))
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return x.permuted(axes)


def _flatten(x: Held, start_dim: int = 0, end_dim: int = -1) -> Held:
    return x.flattened(start_dim, end_dim)


def _expand(x: Held, *sizes: Any) -> Held:
    sizes = _sizes(sizes)
    own = (1,) * (len(sizes) - x.ndim) + x.shape
    shape = tuple(mine if size == -1 else size for size, mine in zip(sizes, own, strict=True))
    return Held.plain(ops.broadcast_to(x.reshaped(own).tensor, shape))


def _getitem(x: Any, index: Any) -> Any:
    if not isinstance(x, Held):
        return x[index]
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, Held) for part in parts):
        raise ValueError("an index must be of integers and slices, got a tensor")
    if all(isinstance(part, slice) for part in parts):
        whole = (*parts, *(slice(None),) * (x.ndim - len(parts)))
        return Held(x.tensor[tuple(whole[axis] for axis in x.order)], x.order)
    return Held.plain(x.in_order()[index])


def _unbind(x: Held, dim: int = 0) -> tuple[Held, ...]:
    return tuple(x.sliced(dim, i, i + 1).squeezed(dim) for i in range(x.shape[dim]))


def _split(x: Held, split_size_or_sections: Any, dim: int = 0) -> tuple[Held, ...]:
    whole, size = x.shape[dim], split_size_or_sections
    sizes = [min(size, whole - at) for at in range(0, whole, size)] if isinstance(size, int) else size
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(x.sliced(dim, end - n, end) for n, end in zip(sizes, ends, strict=True))


def _chunk(x: Held, chunks: int, dim: int = 0) -> tuple[Held, ...]:
    return _split(x, -(-x.shape[dim] // chunks), dim)


def _cat(tensors: Sequence[Held], dim: int = 0) -> Held:
    order = tensors[0].order
    return Held(F.cat([x.arranged(order) for x in tensors], axis=tensors[0].axis(dim)), order)


def _stack(tensors: Sequence[Held], dim: int = 0) -> Held:
    return _cat([x.unsqueezed(dim) for x in tensors], dim)


def _pad(x: Held, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Held:
    only("mode", mode, "constant")
    only("value", value, None, 0)
    only("the number of pads", (len(pad), x.ndim), (4, 4))
    left, right, top, bottom = pad
    return pools.on_image(x, lambda y: F.pad2d(y, (top, bottom, left, right)))


def _squeeze(x: Held, dim: Any = None) -> Held:
    dims = range(x.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    for one in sorted((d % x.ndim for d in dims), reverse=True):
        x = x.squeezed(one)
    return x


def _size(x: Held, dim: int | None = None) -> Any:
    return x.shape if dim is None else x.shape[dim]


def _getattr(x: Any, name: str) -> Any:
    only("an attribute of a tensor", name, "shape", "ndim")
    return getattr(x, name)


# Reductions and dot products


def _mean(x: Held, dim: Any = None, keepdim: bool = False) -> Held:
    return x.reduced(F.mean, dim, keepdim)


def _sum(x: Held, dim: Any = None, keepdim: bool = False) -> Held:
    return x.reduced(F.sum, dim, keepdim)


def _softmax(x: Held, dim: int, **rest: Any) -> Held:
    only("dtype", rest.get("dtype"), None)
    return x.mapped(lambda y: F.softmax(y, axis=x.axis(dim)))


def _matmul(a: Held, b: Held) -> Held:
    return Held.plain(F.matmul(a.in_order(), b.in_order()))


def _linear(x: Held, weight: Held, bias: Held | None = None) -> Held:
    vector = None if bias is None else bias.tensor
    return x.with_last(-1).mapped(lambda y: F.linear(y, weight.in_order(), vector))


def _layer_norm(
    x: Held,
    normalized_shape: Sequence[int],
    weight: Held | None = None,
    bias: Held | None = None,
    eps: float = 1e-5,
) -> Held:
    only("the number of normalised axes", len(normalized_shape), 1)
    if weight is None or bias is None:
        raise ValueError("weight and bias must be given, got None")
    gamma, beta = weight.tensor, bias.tensor
    return x.with_last(-1).mapped(lambda y: F.layer_norm(y, gamma, beta, eps))


def _attention(
    query: Held,
    key: Held,
    value: Held,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Held:
    only("attn_mask", attn_mask, None)
    only("dropout_p", dropout_p, 0)
    only("scale", scale, None)
    only("enable_gqa", enable_gqa, False)
    q, k, v = (x.reshaped((-1, *x.shape[-3:])) if x.ndim != 4 else x for x in (query, key, value))
    y = F.attention(q.in_order(), k.in_order(), v.in_order(), causal=is_causal)
    return Held.plain(y).reshaped((*query.shape[:-1], value.shape[-1]))


def _power(x: Held, exponent: float) -> Held:
    return x.mapped(lambda y: y**exponent)


_ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "tanh": F.tanh, "sigmoid": F.sigmoid, "exp": F.exp, "log": F.log,
    "sqrt": F.sqrt, "neg": F.neg,
}  # fmt: skip
_ARITHMETIC = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
}  # fmt: skip
_SHARED: dict[str, Callable[..., Any]] = {  # functions that are methods too
    **{name: _pointwise(function) for name, function in _ELEMENTWISE.items()},
    **{name: _binary(function) for name, function in _ARITHMETIC.items()},
    "reshape": _reshape, "permute": _permute, "transpose": _transpose, "swapaxes": _transpose,
    "squeeze": _squeeze, "flatten": _flatten, "unsqueeze": Held.unsqueezed, "unbind": _unbind,
    "split": _split, "chunk": _chunk, "mean": _mean, "sum": _sum, "softmax": _softmax, "matmul": _matmul,
    "bmm": _matmul,
    "pow": _power,
}  # fmt: skip

METHODS: dict[str, Callable[..., Any]] = {
    **_SHARED,
    **{f"{name}_": _SHARED[name] for name in (*_ELEMENTWISE, *_ARITHMETIC)},
    "view": _reshape, "expand": _expand, "size": _size, "dim": lambda x: x.ndim,
    "contiguous": lambda x, **_: x, "clone": lambda x, **_: x,
}  # fmt: skip

FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **{getattr(torch, name): function for name, function in _SHARED.items()},
    torch.cat: _cat, torch.concat: _cat, torch.stack: _stack, torch._assert: _assert, getattr: _getattr,
    operator.getitem: _getitem, operator.matmul: _matmul, operator.pow: _power, operator.neg: _SHARED["neg"],
    operator.add: _SHARED["add"], operator.iadd: _SHARED["add"], operator.sub: _SHARED["sub"],
    operator.isub: _SHARED["sub"], operator.mul: _SHARED["mul"], operator.imul: _SHARED["mul"],
    operator.truediv: _SHARED["div"], operator.itruediv: _SHARED["div"],
    **{name: _of_sizes(name) for name in (operator.floordiv, operator.mod, operator.eq, operator.ne,
                                          operator.lt, operator.le, operator.gt, operator.ge, int)},
    torch_f.relu: _pointwise(F.relu), torch.relu_: _pointwise(F.relu), torch_f.relu6: _pointwise(F.relu6),
    torch_f.silu: _pointwise(F.silu), torch_f.sigmoid: _pointwise(F.sigmoid),
    torch_f.tanh: _pointwise(F.tanh),
    torch_f.hardswish: _pointwise(hardswish), torch_f.hardsigmoid: _pointwise(hardsigmoid),
    torch_f.gelu: _gelu, torch_f.leaky_relu: _leaky_relu, torch_f.hardtanh: _hardtanh, torch_f.pad: _pad,
    torch_f.softmax: _softmax, torch_f.linear: _linear, torch_f.layer_norm: _layer_norm,
    torch_f.scaled_dot_product_attention: _attention, torch_f.max_pool2d: pools.max_pool2d,
    torch_f.avg_pool2d: pools.avg_pool2d, torch_f.adaptive_avg_pool2d: pools.adaptive_avg_pool2d,
}  # fmt: skip
