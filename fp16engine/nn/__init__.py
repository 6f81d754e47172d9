"""Layers. Activations are (N, H, W, C), convolution weights (out, kh, kw, in/groups), linear ones (out, in).

A new layer holds float32 parameters on "cpu"; `Module.to(device, precision)` moves and rounds them.
"""

from .activation import GELU, Dropout, Flatten, ReLU, ReLU6, Tanh
from .attention import MultiHeadAttention
from .conv import AvgPool2d, Conv2d, GlobalAvgPool2d, MaxPool2d
from .linear import Embedding, Linear
from .module import Module, Parameter, Sequential
from .norm import BatchNorm2d, LayerNorm
from .patches import PatchEmbedding
from .separable import SeparableConv2d

__all__ = [
    "GELU",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAvgPool2d",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "MultiHeadAttention",
    "Parameter",
    "PatchEmbedding",
    "ReLU",
    "ReLU6",
    "SeparableConv2d",
    "Sequential",
    "Tanh",
]
