"""The conventions that the pages for Keras and PyTorch users promise: defaults, names, layouts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F
from fp16engine import nn, optim


@pytest.mark.parametrize(
    ("function", "name", "default"),
    [
        (nn.Conv2d, "padding", "same"),
        (nn.MaxPool2d, "padding", 0),
        (nn.BatchNorm2d, "momentum", 0.99),
        (nn.BatchNorm2d, "eps", 1e-3),
        (nn.LayerNorm, "eps", 1e-6),
        (optim.RMSprop, "alpha", 0.9),
        (optim.Muon, "lr", 0.02),
        (optim.Muon, "weight_decay", 0.0),
        (nn.GroupNorm, "eps", 1e-5),
        (optim.SGD, "lr", inspect.Parameter.empty),
        (optim.SGD, "momentum", 0.0),
        (optim.AdamW, "weight_decay", 0.01),
        (fe.Trainer, "lr", 0.01),
        (fe.Trainer, "momentum", 0.9),
        (fe.Trainer.fit, "epochs", 10),
        (fe.Trainer.fit, "batch_size", 128),
        (fe.data.Dataset.from_arrays, "test", 0.2),
        (fe.train.EarlyStopping, "patience", 3),
        (fe.train.EarlyStopping, "monitor", "test_loss"),
    ],
    ids=lambda value: getattr(value, "__qualname__", str(value)),
)
def test_default(function: Callable[..., Any], name: str, default: object) -> None:
    assert inspect.signature(function).parameters[name].default == default


def test_names_and_layouts() -> None:
    shapes = {name: value.shape for name, value in nn.Conv2d(3, 8, (5, 7), groups=1).state_dict().items()}
    assert shapes == {"weight": (8, 5, 7, 3), "bias": (8,)}
    assert nn.Linear(3, 4).state_dict()["weight"].shape == (4, 3)
    norm = nn.BatchNorm2d(2)
    assert set(norm.state_dict()) == {"gamma", "beta", "running_mean", "running_var", "updates"}
    assert "running_std" in norm.to("cpu", "fp16").state_dict()
    weights = nn.Embedding(500, 8).state_dict()["weight"]
    assert 0.049 < abs(weights).max() <= 0.05


def test_running_statistics_start_with_the_first_batch_and_move_though_frozen() -> None:
    norm = nn.BatchNorm2d(1)
    norm.requires_grad_(False)
    mean = 0.0
    for t, value in enumerate((4.0, 8.0, 6.0), start=1):
        x = np.array([value - 1, value + 1], np.float32).reshape(2, 1, 1, 1)
        norm(fe.tensor(x))
        mean += 10 / (t + 9) * (value - mean)
        state = norm.state_dict()
        assert state["running_mean"][0] == pytest.approx(mean, rel=1e-6)
        assert state["running_var"][0] == pytest.approx(1.0, rel=1e-6)  # biased: 2 with n - 1


def test_nesterov_as_in_keras() -> None:
    w = fe.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9, nesterov=True)
    expected, velocity = 1.0, 0.0
    for _ in range(3):
        w.grad = fe.tensor([1.0])
        optimizer.step()
        velocity = 0.9 * velocity - 0.1
        expected += 0.9 * velocity - 0.1
        assert w.item() == pytest.approx(expected, rel=1e-6)


def test_labels_are_integers() -> None:
    with pytest.raises(TypeError, match="labels"):
        F.cross_entropy(fe.tensor(np.zeros((2, 3), np.float32)), fe.tensor(np.eye(3, dtype=np.float32)[:2]))


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (nn.BatchNorm2d, ["momentum", "eps"]),
        (nn.Conv2d, ["in_channels", "out_channels", "size", "stride", "padding", "groups"]),
    ],
)
def test_order_of_arguments(function: Callable[..., Any], names: list[str]) -> None:
    order = list(inspect.signature(function).parameters)
    assert [name for name in order if name in names] == names
    assert "dilation" not in order


def test_maximum_flatten_and_labels() -> None:
    x = fe.tensor(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    largest = x.max(axis=1)
    assert isinstance(largest, fe.Tensor) and largest.shape == (2, 4)
    assert F.flatten(x).shape == nn.Flatten()(x).shape == (2, 12)
    logits, labels = fe.tensor(np.zeros((2, 3), np.float32)), fe.tensor(np.array([1, -100]))
    with pytest.raises(ValueError, match="got -100"):
        F.cross_entropy(logits, labels)
    counted = F.cross_entropy(logits, labels, ignore_index=-100).item()
    assert counted == pytest.approx(np.log(3), rel=1e-6)


def test_what_the_page_says_of_pytorch() -> None:
    torch = pytest.importorskip("torch")

    def arguments(function: Any) -> dict[str, Any]:
        return {name: p.default for name, p in inspect.signature(function).parameters.items()}

    assert [*arguments(torch.nn.BatchNorm2d)][1:3] == ["eps", "momentum"]
    assert [*arguments(torch.nn.Conv2d)][5] == "dilation"
    assert arguments(torch.optim.RMSprop)["alpha"] == 0.99
    muon = arguments(torch.optim.Muon)
    assert (muon["lr"], muon["weight_decay"]) == (0.001, 0.1)
    assert 0.9 < torch.nn.Embedding(500, 8).weight.std().item() < 1.1
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert x.max(dim=1).indices.shape == (2, 4) and torch.flatten(x).shape == (24,)
    assert torch.nn.Flatten()(x).shape == (2, 12)
    loss = torch.nn.functional.cross_entropy(torch.zeros(2, 3), torch.tensor([1, -100]))
    assert loss.item() == pytest.approx(np.log(3), rel=1e-6)
