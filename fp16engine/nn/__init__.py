"""Layers. Activations are (N, H, W, C), convolution weights (out, kh, kw, in/groups), linear ones (out, in).

A new layer holds float32 parameters on "cpu"; `Module.to(device, precision)` moves and rounds them.
"""

from .activation import GELU, CrossEntropyLoss, Dropout, Flatten, Identity, ReLU, ReLU6, Sigmoid, SiLU, Tanh
from .attention import MultiHeadAttention
from .containers import ModuleDict, ModuleList, Sequential
from .conv import AdaptiveAvgPool2d, AvgPool2d, Conv2d, GlobalAvgPool2d, MaxPool2d
from .linear import Embedding, Linear
from .module import Module, Parameter, Unmatched
from .norm import BatchNorm2d, GroupNorm, LayerNorm
from .patches import PatchEmbedding
from .separable import SeparableConv2d

__all__ = [
    "GELU",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Identity",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "PatchEmbedding",
    "ReLU",
    "ReLU6",
    "SeparableConv2d",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Tanh",
    "Unmatched",
]
