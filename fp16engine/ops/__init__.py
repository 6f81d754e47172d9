"""Every operation, a file per family, its gradient next to it; users call them in `fp16engine.functional`."""

import sys

from ..tensor import install
from ._adaptive_pool import adaptive_avg_pool2d
from ._attention import attention
from ._compare import argmax, compare, invert, logical, where
from ._conv import conv2d
from ._dropout import dropout
from ._elementwise import arithmetic, astype, exp, gelu, log, neg, power, relu, relu6, sqrt, tanh
from ._embedding import embedding
from ._group_norm import group_norm
from ._linear import linear, matmul
from ._norm import batch_norm, batch_norm_of_sum, layer_norm
from ._norm_of_cat import batch_norm_of_cat
from ._pool import avg_pool2d, global_avg_pool2d, max_pool2d
from ._projections import projections
from ._reduce import max, mean, sum
from ._shape import (
    broadcast_to,
    cat,
    flatten,
    getitem,
    pad2d,
    pad_channels,
    reshape,
    to_device,
    transpose,
)
from ._sigmoid import sigmoid, silu
from ._softmax import cross_entropy, log_softmax, softmax

__all__ = [
    "adaptive_avg_pool2d",
    "argmax",
    "arithmetic",
    "astype",
    "attention",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_of_cat",
    "batch_norm_of_sum",
    "broadcast_to",
    "cat",
    "compare",
    "conv2d",
    "cross_entropy",
    "dropout",
    "embedding",
    "exp",
    "flatten",
    "gelu",
    "getitem",
    "global_avg_pool2d",
    "group_norm",
    "invert",
    "layer_norm",
    "linear",
    "log",
    "log_softmax",
    "logical",
    "matmul",
    "max",
    "max_pool2d",
    "mean",
    "neg",
    "pad2d",
    "pad_channels",
    "power",
    "projections",
    "relu",
    "relu6",
    "reshape",
    "sigmoid",
    "silu",
    "softmax",
    "sqrt",
    "sum",
    "tanh",
    "to_device",
    "transpose",
    "where",
]

install(sys.modules[__name__])
