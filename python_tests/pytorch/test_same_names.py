"""docs/for-pytorch-users.md: PyTorch's names give its numbers, differences are the table's."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import nn

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fp16engine[torch]'")

X = np.random.default_rng(0).normal(1, 2, (2, 5, 6, 8)).astype(np.float32)  # (N, H, W, C)
CLOSE = 64 * np.finfo(np.float32).eps


def theirs(layer: Any, x: np.ndarray = X) -> np.ndarray:
    """What PyTorch's layer makes of the same images, channels last."""
    return layer(torch.tensor(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()


def default(of: Any, name: str) -> Any:
    return inspect.signature(of).parameters[name].default


@pytest.mark.parametrize(
    ("ours", "layer"),
    [
        (nn.GroupNorm(4, 8), torch.nn.GroupNorm(4, 8)),
        (nn.AdaptiveAvgPool2d(3), torch.nn.AdaptiveAvgPool2d(3)),
        (nn.AdaptiveAvgPool2d((5, 2)), torch.nn.AdaptiveAvgPool2d((5, 2))),
        (nn.AdaptiveAvgPool2d((11, 3)), torch.nn.AdaptiveAvgPool2d((11, 3))),
        (nn.SiLU(), torch.nn.SiLU()),
        (nn.Sigmoid(), torch.nn.Sigmoid()),
        (nn.MaxPool2d(kernel_size=2), torch.nn.MaxPool2d(kernel_size=2)),
        (nn.AvgPool2d(3, 1, 1), torch.nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
    ],
    ids=lambda value: str(value) if isinstance(value, nn.Module) else "",
)
def test_same_numbers(ours: nn.Module, layer: Any) -> None:
    y = ours(fe.tensor(X)).numpy()
    assert y.shape == theirs(layer).shape
    assert np.abs(y - theirs(layer)).max() <= CLOSE * np.abs(X).max()


def test_convolution_weights_are_transposed() -> None:
    ours, layer = (
        nn.Conv2d(8, 4, kernel_size=3, padding=1, groups=2),
        torch.nn.Conv2d(8, 4, 3, padding=1, groups=2),
    )
    ours.weight.data[...] = layer.weight.detach().permute(0, 2, 3, 1).numpy()
    ours.bias.data[...] = layer.bias.detach().numpy()
    assert np.abs(ours(fe.tensor(X)).numpy() - theirs(layer)).max() <= CLOSE * np.abs(X).max()


def test_batch_norm_keeps_the_old_share_and_the_biased_variance() -> None:
    ours, layer = nn.BatchNorm2d(8, momentum=0.9, eps=1e-5), torch.nn.BatchNorm2d(8, momentum=0.1)
    assert default(nn.BatchNorm2d, "momentum") == 0.99 and default(torch.nn.BatchNorm2d, "momentum") == 0.1
    assert default(nn.BatchNorm2d, "eps") == 1e-3 and default(torch.nn.BatchNorm2d, "eps") == 1e-5
    for _ in range(200):  # the first updates take more of the batch here
        y = ours(fe.tensor(X)).numpy()
        expected = theirs(layer)
    assert np.abs(y - expected).max() <= CLOSE * np.abs(X).max()
    assert ours.running_var is not None
    count = X[..., 0].size
    biased = layer.running_var.numpy() * (count - 1) / count
    assert np.allclose(ours.running_var.numpy(), biased, rtol=1e-5)


def test_defaults_of_the_table() -> None:
    assert default(nn.Conv2d, "padding") == "same" and default(torch.nn.Conv2d, "padding") == 0
    assert default(nn.LayerNorm, "eps") == 1e-6 and default(torch.nn.LayerNorm, "eps") == 1e-5
    assert default(fe.optim.SGD, "momentum") == default(torch.optim.SGD, "momentum") == 0
    assert default(fe.Trainer, "momentum") == 0.9
    assert default(torch.nn.AvgPool2d, "count_include_pad") is True


def test_equal_maxima() -> None:
    ours = fe.tensor([[1.0, 1.0]], requires_grad=True)
    ours.max(axis=1).sum().backward()
    other = torch.ones((1, 2), requires_grad=True)
    other.max(dim=1).values.sum().backward()
    assert ours.grad.numpy().tolist() == [[0.5, 0.5]]
    assert sorted(other.grad.tolist()[0]) == [0.0, 1.0]
