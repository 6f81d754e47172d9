"""The separable convolution against its sum written out."""

from __future__ import annotations

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import nn


def test_values(backend_name: str) -> None:
    rng = np.random.default_rng(0)
    layer = nn.SeparableConv2d(3, 4, 3, stride=2, padding=0).to(backend_name)
    x = rng.integers(-3, 4, (2, 7, 5, 3)).astype(np.float32)
    depthwise = rng.integers(-3, 4, (3, 3, 3, 1)).astype(np.float32)
    pointwise = rng.integers(-3, 4, (4, 1, 1, 3)).astype(np.float32)
    layer.load_state_dict(
        {
            "depthwise.weight": depthwise,
            "pointwise.weight": pointwise,
            "pointwise.bias": np.arange(4, dtype=np.float32),
        }
    )
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
    filtered = np.einsum("nijchw,chw->nijc", windows, depthwise[..., 0])
    expected = filtered @ pointwise[:, 0, 0].T + np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(layer(fe.tensor(x, device=backend_name)).numpy(), expected)


def test_parameters() -> None:
    shapes = {name: p.shape for name, p in nn.SeparableConv2d(3, 4, (3, 5), bias=False).named_parameters()}
    assert shapes == {"depthwise.weight": (3, 3, 5, 1), "pointwise.weight": (4, 1, 1, 3)}


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"Conv2d: in_channels must .* got 0"):
        nn.SeparableConv2d(0, 4, 3)
