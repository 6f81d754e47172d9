"""What errors say of PyTorch's objects; made up here where PyTorch is absent."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F
from fp16engine import nn, torch_objects, validate

_SOURCE = """
class Tensor: pass
class SGD:
    def __init__(self, params, lr):
        raise TypeError("optimizer can only optimize Tensors, but one of the params is Parameter")
class CrossEntropyLoss:
    def __call__(self, *args): pass
class LambdaLR:
    pass
def cross_entropy(logits, labels):
    raise TypeError("cross_entropy_loss(): argument 'input' must be Tensor, not Tensor")
"""


@pytest.fixture(scope="module")
def torch() -> Any:
    """A module that says it is PyTorch."""
    module = types.ModuleType("torch")
    exec(_SOURCE, vars(module))
    return module


def data() -> fe.data.Dataset:
    return fe.data.digits().limit(8)


def trainer(**options: Any) -> fe.Trainer:
    return fe.Trainer(fe.models.create("dnn", image_size=8, channels=1), **options)


def test_objects_classes_and_functions_are_told(torch: Any) -> None:
    class Own(torch.CrossEntropyLoss):
        pass

    for value in (torch.Tensor(), torch.Tensor, torch.cross_entropy, Own, Own()):
        assert torch_objects.is_torchs(value)
    for value in (F.cross_entropy, fe.tensor([1.0]), fe.Tensor, np.zeros(1), None, nn.ReLU(), print):
        assert not torch_objects.is_torchs(value)


def test_a_tensor_of_torch_is_named_with_its_module(torch: Any) -> None:
    assert validate.shown(torch.Tensor) == "torch.Tensor" and validate.shown(fe.Tensor) == "Tensor"
    with pytest.raises(TypeError, match=r"model must be a Module, got torch\.CrossEntropyLoss"):
        fe.Trainer(torch.CrossEntropyLoss())
    with pytest.raises(TypeError, match=r"must be a Tensor \(fe.tensor makes one\), got torch\.Tensor$"):
        nn.Linear(3, 4)(torch.Tensor())


@pytest.mark.parametrize(
    ("name", "of", "words"),
    [
        ("loss", lambda torch: torch.CrossEntropyLoss(), "cross_entropy, or .*PyTorch's CrossEntropyLoss"),
        ("loss", lambda torch: torch.cross_entropy, "fp16engine.functional, got PyTorch's cross_entropy"),
        ("schedule", lambda torch: torch.LambdaLR, r"\(applied steps, all steps\).* PyTorch's LambdaLR"),
        ("optimizer", lambda torch: torch.SGD, "sgd.* fp16engine.optim, .* got PyTorch's SGD"),
    ],
)
def test_what_is_pytorchs_is_refused_with_what_to_use(torch: Any, name: str, of: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be .*{words}$"):
        trainer(**{name: of(torch)})


def test_functions_that_call_pytorch_are_told_so(torch: Any) -> None:
    words = (
        "^optimizer must be .* fp16engine.optim, .*, got one that calls PyTorch, which said: optimizer can"
    )
    with pytest.raises(TypeError, match=words):
        trainer(optimizer=lambda p: torch.SGD(p, lr=0.1))
    words = "^loss must be .* fp16engine.functional, got one that calls PyTorch, which said: cross_entropy"
    with pytest.raises(TypeError, match=words):
        trainer(loss=lambda x, y: torch.cross_entropy(x, y)).fit(data(), 1, 4, progress=False)


def test_other_errors_of_a_function_stay_as_they_are() -> None:
    def broken(logits: fe.Tensor, labels: fe.Tensor) -> fe.Tensor:
        raise TypeError("mine")

    with pytest.raises(TypeError, match=r"^mine$"):
        trainer(loss=broken).fit(data(), 1, 4, progress=False)


def test_the_real_pytorch() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"got torch\.Tensor$"):
        nn.Linear(3, 4)(torch.zeros(2, 3))
    for name, value in (
        ("loss", torch.nn.CrossEntropyLoss()),
        ("loss", torch.nn.functional.cross_entropy),
        ("schedule", torch.optim.lr_scheduler.LambdaLR),
        ("optimizer", torch.optim.SGD),
        ("optimizer", lambda p: torch.optim.SGD(p, lr=0.1)),
    ):
        with pytest.raises(TypeError, match=f"^{name} must be .*PyTorch"):
            trainer(**{name: value})
    with pytest.raises(TypeError, match=r"^loss must be .*, got one that calls PyTorch"):
        trainer(loss=lambda x, y: torch.nn.functional.cross_entropy(x, y)).fit(data(), 1, 4, progress=False)
