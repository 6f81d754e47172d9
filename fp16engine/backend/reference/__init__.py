"""The slow NumPy backend: the definition of every operation's values, bit by bit where the order is part of
it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import Backend
from ..capabilities import Capabilities
from ..counter import CountedArrays
from . import (
    arrays,
    attention,
    augment,
    conv,
    elementwise,
    linear,
    norm,
    optim,
    pool,
    quantize,
    ranges,
    reduce,
    shape,
)
from . import dropout as dropouts
from . import embedding as tables
from . import softmax as softmaxes


def load() -> Backend:
    """Return a reference backend."""
    return Reference()


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method of `function`: overflow to inf is silent, as in hardware, and its results are counted."""

    def method(self: Reference, *args: Any, **options: Any) -> Any:
        with np.errstate(all="ignore"):
            result = function(*args, **options)
        self._count(result)
        return result

    # Not functools.wraps: it would pass the function's first parameter off as self to inspect.signature.
    method.__name__ = function.__name__
    receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = inspect.signature(function).parameters.values()
    method.__signature__ = inspect.Signature([receiver, *parameters])  # type: ignore[attr-defined]
    return method


class Reference(CountedArrays):
    """NumPy arrays, FP32 registers, one rounding at the store; float64 arrays stay float64 throughout."""

    name = "reference"
    capabilities = Capabilities(bfloat16=True, winograd=True)
    recording = False

    empty = _method(arrays.empty)
    zeros = _method(arrays.zeros)
    full = _method(arrays.full)
    from_numpy = _method(arrays.from_numpy)
    cast = _method(arrays.cast)
    copy = _method(arrays.copy)
    all_finite = _method(arrays.all_finite)

    transpose = _method(shape.transpose)
    broadcast_to = _method(shape.broadcast_to)
    getitem = _method(shape.getitem)
    index_add = _method(tables.index_add)
    cat = _method(shape.cat)
    pad2d = _method(shape.pad2d)
    crop2d = _method(shape.crop2d)

    binary = _method(elementwise.binary)
    power = _method(elementwise.power)
    unary = _method(elementwise.unary)
    unary_backward = _method(elementwise.unary_backward)
    relu_add_backward = _method(elementwise.relu_add_backward)

    relu_bias_backward = _method(reduce.relu_bias_backward)
    sum = _method(reduce.sum)
    mean = _method(reduce.mean)
    add_to_sum = _method(reduce.add_to_sum)
    mean_of_sum = _method(reduce.mean_of_sum)
    max = _method(reduce.max)
    max_backward = _method(reduce.max_backward)

    quantize = _method(quantize.quantize)
    matmul = _method(linear.matmul)
    linear_forward = _method(linear.linear_forward)
    linear_backward = _method(linear.linear_backward)
    conv2d_forward = _method(conv.conv2d_forward)
    conv2d_backward = _method(conv.conv2d_backward)

    batch_norm_forward = _method(norm.batch_norm_forward)
    batch_norm_inference = _method(norm.batch_norm_inference)
    batch_norm_backward = _method(norm.batch_norm_backward)
    layer_norm_forward = _method(norm.layer_norm_forward)
    layer_norm_backward = _method(norm.layer_norm_backward)

    softmax = _method(softmaxes.softmax)
    softmax_backward = _method(softmaxes.softmax_backward)
    log_softmax = _method(softmaxes.log_softmax)
    log_softmax_backward = _method(softmaxes.log_softmax_backward)
    cross_entropy_forward = _method(softmaxes.cross_entropy_forward)
    cross_entropy_backward = _method(softmaxes.cross_entropy_backward)

    max_pool_forward = _method(pool.max_pool_forward)
    max_pool_backward = _method(pool.max_pool_backward)
    avg_pool_forward = _method(pool.avg_pool_forward)
    avg_pool_backward = _method(pool.avg_pool_backward)

    dropout = _method(dropouts.dropout)
    augment = _method(augment.augment)
    embedding = _method(tables.embedding)
    embedding_backward = _method(tables.embedding_backward)
    gather = _method(tables.gather)
    attention_forward = _method(attention.attention_forward)
    attention_backward = _method(attention.attention_backward)

    sgd = _method(optim.sgd)
    adam = _method(optim.adam)
    rmsprop = _method(optim.rmsprop)
    global_norm = _method(optim.global_norm)
    clip_to_norm = _method(optim.clip_to_norm)

    range_statistics = _method(ranges.range_statistics)

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        return x

    def _count(self, result: Any) -> None:
        for y in result if isinstance(result, tuple) else (result,):
            if isinstance(y, np.ndarray):
                self._count_array(y)
