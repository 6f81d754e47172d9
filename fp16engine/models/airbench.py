"""airbench94 (Jordan, 2404.00498): a small network that reaches 94 % on CIFAR-10 within ten epochs."""

from __future__ import annotations

import numpy as np

from .. import backend as backends
from .. import functional as F
from ..floats import rounded
from ..nn import GELU, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, Module, init
from ..tensor import Tensor
from ..validate import must_be
from ._size import at_least

WIDTHS = (64, 256, 256)
SCALE = 1 / 9  # of the outputs
SMALLEST = 25  # whitening takes one pixel, three pools halve, the last takes 3x3
WHITENING_IMAGES = 5000
_PATCH = 2  # pixels
_CHUNK = 256  # images whose patches are in memory at once
_EPS = 5e-4  # added to the eigenvalues: what the images lack is not blown up


class Whitening(Module):
    """Convolve 2x2 patches with their principal components, each scaled to variance 1, and with their
    negatives.

    Args:
        channels: C of the images.

    Attributes:
        weight: (8 C, 2, 2, C), fixed; as of `Conv2d` until `fit`.
        bias: (8 C,), zeros.

    Call:
        x: (N, H, W, C), dtype of weight; the result is (N, H - 1, W - 1, 8 C), rounded once.
    """

    buffers = ("weight",)
    dot_product = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        values = _PATCH * _PATCH * channels
        self.weight = init.glorot_uniform((2 * values, _PATCH, _PATCH, channels), values, 2 * values).detach()
        self.bias = init.constant((2 * values,), 0.0)

    def fit(self, images: np.ndarray) -> None:
        """Take the filters from images (N, H, W, C), float16, float32 or float64; rounded once from
        float64."""
        filters, weight = whitening_filters(images), self.weight
        if filters.shape != weight.shape:
            wanted = f"of shape (N, H, W, {weight.shape[-1]})"
            raise ValueError(must_be("images", wanted, np.shape(images)))
        weight.data = backends.get(weight.device).from_numpy(rounded(filters, weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[-1]}, {self.weight.shape[0]}"


def whitening_filters(images: np.ndarray) -> np.ndarray:
    """Return the filters (8 C, 2, 2, C), float64, that whiten the 2x2 patches of images (N, H, W, C).

    v_i / sqrt(l_i + 5e-4) with l_i, v_i the eigenvalues, largest first, and eigenvectors of mean(patch
    patch^T); then their negatives. The largest entry of a v_i is positive.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype.kind != "f" or min(images.shape[1:3]) < _PATCH or not len(images):
        raise ValueError(
            must_be("images", "floating-point ones of shape (N, H, W, C), 2x2 or larger", images.shape)
        )
    size = _PATCH * _PATCH * images.shape[3]
    total, count = np.zeros((size, size)), 0
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK].astype(np.float64)
        corners = [part[:, i : i - 1 or None, j : j - 1 or None] for i in (0, 1) for j in (0, 1)]
        patches = np.concatenate(corners, axis=3).reshape(-1, size)
        total += patches.T @ patches
        count += len(patches)
    values, vectors = np.linalg.eigh(total / count)
    components = vectors.T[::-1]
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
    scaled = components * np.sign(largest) / np.sqrt(np.maximum(values[::-1, None], 0) + _EPS)
    return np.concatenate([scaled, -scaled]).reshape(2 * size, _PATCH, _PATCH, -1)


class ConvGroup(Module):
    """Convolution, pool, norm, GELU, convolution, norm, GELU: (N, H, W, C) -> (N, H // 2, W // 2, width)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = _dirac(channels, width)
        self.pool = MaxPool2d(2)
        self.norm1 = _norm(width)
        self.conv2 = _dirac(width, width)
        self.norm2 = _norm(width)
        self.activation = GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm1(self.pool(self.conv1(x))))
        return self.activation(self.norm2(self.conv2(x)))


class Airbench94(Module):
    """Whitening, three groups of convolutions, a pool and a classifier: (N, H, W, C) -> (N, num_classes).

    Call `whiten` before training, as the command line does.
    """

    def __init__(self, num_classes: int, image_size: tuple[int, int], channels: int) -> None:
        super().__init__()
        at_least("airbench94", image_size, SMALLEST)
        self.whitening = Whitening(channels)
        self.activation = GELU()
        inputs, groups = self.whitening.weight.shape[0], []
        for width in WIDTHS:
            groups.append(ConvGroup(inputs, width))
            inputs = width
        self.groups = groups
        self.pool = MaxPool2d(3)
        self.flatten = Flatten()
        inputs *= ((image_size[0] - 1) // 24) * ((image_size[1] - 1) // 24)
        self.head = Linear(inputs, num_classes, bias=False)
        self.head.weight = init.uniform((num_classes, inputs), inputs**-0.5)

    def whiten(self, images: np.ndarray) -> None:
        """Take the first layer's filters from normalised training images (N, H, W, C); 5000 are enough."""
        self.whitening.fit(images)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.whitening(x))
        for group in self.groups:
            x = group(x)
        return self.head(self.flatten(self.pool(x))) * SCALE


def _norm(channels: int) -> BatchNorm2d:
    return BatchNorm2d(channels, momentum=0.6, eps=1e-12, scale=False)


def _dirac(channels: int, width: int) -> Conv2d:
    conv = Conv2d(channels, width, 3, bias=False)
    conv.weight = init.dirac((width, 3, 3, channels))
    return conv


def airbench94(num_classes: int, image_size: tuple[int, int], channels: int) -> Airbench94:
    """Return the network: (N, H, W, C) -> (N, num_classes), H and W at least 25."""
    return Airbench94(num_classes, image_size, channels)
