"""PyTorch's layers as ours: what each class becomes, with its weights, and how it is called on `Held` values.

A maker raises ValueError for what ours cannot do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn as theirs

from ... import functional as F
from ... import nn as ours
from ...nn import init, running
from ...tensor import Tensor
from ...validate import pair
from . import operators, pools
from .held import Held, channels_last
from .operators import only

Call = Callable[..., Any]  # (our module, *values)


class Pointwise(ours.Module):
    """A function of each element that `nn` has no layer for.

    Args:
        name: of PyTorch's class.
        function: takes and returns a tensor of any shape, float16 or float32, each of its steps rounded once.

    >>> Pointwise("Hardswish", operators.hardswish)
    Hardswish()
    """

    def __init__(self, name: str, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.name, self.function = name, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def __repr__(self) -> str:
        return f"{self.name}()"


class Windowed(ours.Module):
    """A pool of PyTorch's: `function(x, **settings)` of `pools`."""

    def __init__(self, name: str, function: Callable[..., Held], **settings: Any) -> None:
        super().__init__()
        self.name, self.function, self.settings = name, function, settings

    def forward(self, x: Held) -> Held:
        return self.function(x, **self.settings)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.settings.items())})"


def array(tensor: torch.Tensor) -> np.ndarray:
    """Return a copy of a float32 tensor's values; ValueError for another dtype."""
    only("dtype of a parameter", tensor.dtype, torch.float32)
    return np.array(tensor.detach().cpu().numpy())


def parameter(tensor: torch.Tensor) -> ours.Parameter:
    """Return a trained tensor with the same values; one that PyTorch does not train is not trained here."""
    result = ours.Parameter(array(tensor))
    result.requires_grad = tensor.requires_grad
    return result


def _fill(target: Tensor, source: torch.Tensor, axes: tuple[int, ...] | None = None) -> None:
    values = array(source)
    target.data = np.ascontiguousarray(values if axes is None else values.transpose(axes))
    if isinstance(target, ours.Parameter):
        target.requires_grad = source.requires_grad


def _conv2d(layer: Any) -> ours.Module:
    only("dilation", pair("dilation", layer.dilation, 1), (1, 1))
    only("padding_mode", layer.padding_mode, "zeros")
    padding = 0 if layer.padding == "valid" else layer.padding
    made = ours.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        padding,
        layer.groups,
        layer.bias is not None,
    )
    _fill(made.weight, layer.weight, (0, 2, 3, 1))
    if made.bias is not None:
        _fill(made.bias, layer.bias)
    return made


def _batch_norm(layer: Any) -> ours.Module:
    only("affine", layer.affine, True)
    only("track_running_stats", layer.track_running_stats, True)
    if layer.momentum is None:
        raise ValueError("momentum must be a number, got None")
    made = ours.BatchNorm2d(layer.num_features, 1.0 - layer.momentum, layer.eps)
    for name, source in (
        ("gamma", layer.weight),
        ("beta", layer.bias),
        ("running_mean", layer.running_mean),
        ("running_var", layer.running_var),
    ):
        _fill(getattr(made, name), source)
    updates = running.count(
        int(layer.num_batches_tracked), *map(array, (layer.running_mean, layer.running_var))
    )
    made.updates.data = np.full(1, updates, np.int64)
    return made


def _linear(layer: Any) -> ours.Module:
    made = ours.Linear(layer.in_features, layer.out_features, layer.bias is not None)
    _fill(made.weight, layer.weight)
    if made.bias is not None:
        _fill(made.bias, layer.bias)
    return made


def _layer_norm(layer: Any) -> ours.Module:
    only("the number of normalised axes", len(layer.normalized_shape), 1)
    if layer.weight is None or layer.bias is None:
        raise ValueError("weight and bias must be there, got None")
    made = ours.LayerNorm(layer.normalized_shape[0], layer.eps)
    _fill(made.gamma, layer.weight)
    _fill(made.beta, layer.bias)
    return made


def _embedding(layer: Any) -> ours.Module:
    only("max_norm", layer.max_norm, None)
    only("padding_idx", layer.padding_idx, None)
    made = ours.Embedding(layer.num_embeddings, layer.embedding_dim)
    _fill(made.weight, layer.weight)
    return made


def _attention(layer: Any) -> ours.Module:
    only("dropout", layer.dropout, 0)
    only("bias_k", layer.bias_k, None)
    only("add_zero_attn", layer.add_zero_attn, False)
    if layer.in_proj_weight is None:
        raise ValueError("kdim and vdim must be embed_dim, got others")
    made = ours.MultiHeadAttention(layer.embed_dim, layer.num_heads, bias=layer.in_proj_bias is not None)
    parts = (made.query, made.key, made.value)
    for name in ("weight", "bias") if layer.in_proj_bias is not None else ("weight",):
        joined = getattr(layer, f"in_proj_{name}")
        for part, values in zip(parts, joined.detach().chunk(3), strict=True):
            _fill(getattr(part, name), values.requires_grad_(joined.requires_grad))
        _fill(getattr(made.out, name), getattr(layer.out_proj, name))
    return made


def _call_attention(batch_first: bool) -> Call:
    def call(
        module: Any,
        query: Held,
        key: Held,
        value: Held,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Held, None]:
        only("key_padding_mask", key_padding_mask, None)
        only("attn_mask", attn_mask, None)
        if key is not value:
            raise ValueError("key and value must be one tensor, got two")
        order = (0, 1, 2) if batch_first else (1, 0, 2)
        memory = None if key is query else key.arranged(order)
        return Held(module(query.arranged(order), memory, is_causal), order), None

    return call


def _call_pointwise(module: Any, x: Held) -> Held:
    return x.mapped(module)


def _call_channels_last(module: Any, x: Held) -> Held:
    order = channels_last(x.ndim)
    return Held(module(x.arranged(order)), order)


def _call_last(module: Any, x: Held) -> Held:
    return x.with_last(-1).mapped(module)


def _call_embedding(module: Any, ids: Held) -> Held:
    return Held.plain(module(ids.in_order()))


def _call_itself(module: Any, x: Held) -> Held:
    return module(x)


def _pool(function: Callable[..., Held], *names: str) -> Callable[[Any], ours.Module]:
    def make(layer: Any) -> ours.Module:
        settings = {name: getattr(layer, name) for name in names}
        pools.refuse(**{name: value for name, value in settings.items() if name in pools.ONLY})
        return Windowed(type(layer).__name__, function, **settings)

    return make


def _hardtanh(layer: Any) -> ours.Module:
    only("hardtanh's bounds", (layer.min_val, layer.max_val), (0.0, 6.0))
    return ours.ReLU6()


def _dropout(layer: Any) -> ours.Module:
    return ours.Dropout(layer.p)


_POINTWISE: dict[Any, Callable[[Any], ours.Module]] = {
    theirs.ReLU: lambda _: ours.ReLU(),
    theirs.ReLU6: lambda _: ours.ReLU6(),
    theirs.Tanh: lambda _: ours.Tanh(),
    theirs.GELU: lambda layer: (
        ours.GELU() if layer.approximate == "none" else Pointwise("GELU", operators.gelu(layer.approximate))
    ),
    theirs.SiLU: lambda _: ours.SiLU(),
    theirs.Sigmoid: lambda _: ours.Sigmoid(),
    theirs.Hardswish: lambda _: Pointwise("Hardswish", operators.hardswish),
    theirs.Hardsigmoid: lambda _: Pointwise("Hardsigmoid", operators.hardsigmoid),
    theirs.LeakyReLU: lambda layer: Pointwise(
        "LeakyReLU", partial(operators.leaky_relu, slope=layer.negative_slope)
    ),
    theirs.Hardtanh: _hardtanh,
    theirs.Dropout: _dropout,
}
_FREE: dict[Any, Callable[[Any], Call]] = {  # layers that are a function of the values alone
    theirs.Identity: lambda _: lambda _, x: x,
    theirs.Flatten: lambda layer: lambda _, x: x.flattened(layer.start_dim, layer.end_dim),
    theirs.Softmax: lambda layer: lambda _, x: x.mapped(lambda y: F.softmax(y, axis=x.axis(layer.dim))),
}
_MAKERS: dict[Any, tuple[Callable[[Any], ours.Module], Call]] = {
    **{kind: (make, _call_pointwise) for kind, make in _POINTWISE.items()},
    theirs.Conv2d: (_conv2d, _call_channels_last),
    theirs.BatchNorm2d: (_batch_norm, _call_channels_last),
    theirs.BatchNorm1d: (_batch_norm, _call_channels_last),
    theirs.Linear: (_linear, _call_last),
    theirs.LayerNorm: (_layer_norm, _call_last),
    theirs.Embedding: (_embedding, _call_embedding),
    theirs.MaxPool2d: (
        _pool(
            pools.max_pool2d, "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"
        ),
        _call_itself,
    ),
    theirs.AvgPool2d: (
        _pool(
            pools.avg_pool2d,
            "kernel_size",
            "stride",
            "padding",
            "ceil_mode",
            "count_include_pad",
            "divisor_override",
        ),
        _call_itself,
    ),
    theirs.AdaptiveAvgPool2d: (_pool(pools.adaptive_avg_pool2d, "output_size"), _call_itself),
}


def convert(layer: Any) -> tuple[ours.Module | None, Call]:
    """Return our layer, None where it has no need of one, and how it is called; ValueError if it has none."""
    kind = type(layer)
    if kind in _FREE:
        return None, _FREE[kind](layer)
    if kind is theirs.MultiheadAttention:
        with init.shapes_only():
            return _attention(layer), _call_attention(layer.batch_first)
    if kind not in _MAKERS:
        raise ValueError("no layer of ours does this")
    make, call = _MAKERS[kind]
    with init.shapes_only():  # the values come from PyTorch
        return make(layer), call
