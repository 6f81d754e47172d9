"""Wrong values for public names: refused where they are given, in one sentence that names the argument."""

# mypy: disable-error-code="arg-type, call-overload, type-var"
# Wrong arguments are what is tested here.

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fp16engine as fe
from fp16engine import data, nn, optim
from fp16engine import functional as F
from fp16engine.experiments import compare
from fp16engine.models import transformer
from fp16engine.train import TrainConfig

NAN = float("nan")


def digits() -> data.Dataset:
    return data.digits().limit(8)


def trainer(**options: Any) -> fe.Trainer:
    return fe.Trainer(fe.models.create("dnn", 10, 8, 1), **options)


def fit(**options: Any) -> Any:
    return trainer().fit(**{"dataset": digits(), "epochs": 1, "batch_size": 8, "progress": False, **options})


def weights() -> list[fe.Tensor]:
    return [fe.tensor([1.0], "float16", "reference", requires_grad=True)]


def x(*shape: int) -> Any:
    return fe.tensor([1.0] * 4, device="reference").reshape(*(shape or (4,)))


def compared(**options: Any) -> Any:
    given = {
        "model_name": "dnn",
        "dataset": digits(),
        "precisions": ["fp16"],
        "out": Path("never"),
        **options,
    }
    return compare.run(**given, progress=False)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "create-none": (lambda: fe.models.create(None), "model must be one of .*, got None"),
    "create-number": (lambda: fe.models.create(3), "model must be one of .*, got 3"),
    "create-size": (lambda: fe.models.create("dnn", image_size=None), "image_size must be .*, got None"),
    "create-seed": (lambda: fe.models.create("dnn", seed=1.5), "seed must be .*, got 1.5"),
    "transformer-seed": (lambda: transformer.create("transformer-tiny", 9, seed="a"), "seed must .* got 'a'"),
    "transformer-dropout": (
        lambda: transformer.create("transformer-tiny", 9, dropout="a"),
        "dropout must be .*, got 'a'",
    ),
    "trainer-none": (lambda: fe.Trainer(None), "model must be a Module, got None"),
    "trainer-class": (lambda: fe.Trainer(nn.Linear), "model must be a Module, got the class Linear"),
    "trainer-weight-decay": (lambda: trainer(weight_decay=None), "weight_decay must be .*, got None"),
    "trainer-nesterov": (lambda: trainer(nesterov="yes"), "nesterov must be True or False, got 'yes'"),
    "trainer-betas": (lambda: trainer(optimizer="adam", betas=3), "betas must be two numbers .*, got 3"),
    "trainer-momentum": (lambda: trainer(optimizer="adam", momentum="a"), "momentum must be .*, got 'a'"),
    "trainer-of": (lambda: fe.Trainer.of(nn.ReLU(), "fp16", None), "config must be a TrainConfig, got None"),
    "config": (lambda: TrainConfig.from_dict(None), "training must be a record by name, got None"),
    "total-steps": (lambda: trainer().set_total_steps(-1), "total must be an integer >= 1, got -1"),
    "epoch": (lambda: trainer().begin_epoch("a", 1), "epoch must be an integer >= 0, got 'a'"),
    "trainer-state": (lambda: trainer().load_state_dict(None), "state must be .*, got None"),
    "fit-none": (lambda: fit(dataset=None), "dataset must be a data.Dataset, a pair .*, got None"),
    "fit-out": (lambda: fit(out=3), "out must be a path, got 3"),
    "fit-long-out": (lambda: fit(out="a" * 300), "out must be a path that .*, got 'aaa"),
    "fit-progress": (lambda: fit(progress=3), "progress must be .*, got 3"),
    "fit-stop": (lambda: fit(stop=3), "stop must be .*, got 3"),
    "fit-resume": (lambda: fit(resume="yes"), "resume must be True or False, got 'yes'"),
    "evaluate-none": (lambda: trainer().evaluate(None), "dataset must be a data.Dataset, got None"),
    "compare-data": (lambda: compared(dataset=None), "dataset must be a data.Dataset, a pair .*, got None"),
    "compare-precisions": (lambda: compared(precisions="fp16"), "precisions must be .*, got 'fp16'"),
    "compare-out": (lambda: compared(out=3), "out must be a path, got 3"),
    "checkpoint": (lambda: fe.Checkpoint.load(3), "the checkpoint's folder must be a path, got 3"),
    "folder-number": (lambda: data.image_folder(3), "root must be a path, got 3"),
    "folder-empty": (lambda: data.image_folder(""), "root must be a path, got ''"),
    "folder-nul": (lambda: data.image_folder("a\0"), "root must be a path that .*, got 'a"),
    "download": (lambda: data.mnist("x", download="no"), "download must be True or False, got 'no'"),
    "dataset-name": (lambda: data.Dataset(3, digits().train, digits().test, "a"), "name must be text, got 3"),
    "dataset-classes": (
        lambda: data.Dataset("a", digits().train, digits().test, 3),
        "classes must be a sequence of names, got 3",
    ),
    "sgd-params": (lambda: optim.SGD(None, 0.1), "params must be a sequence of tensors, got None"),
    "sgd-nesterov": (
        lambda: optim.SGD(weights(), 0.1, 0.9, nesterov="yes"),
        "nesterov must be True or False, got 'yes'",
    ),
    "sgd-weight-decay": (lambda: optim.SGD(weights(), 0.1, weight_decay=None), "weight_decay .* got None"),
    "sgd-masters": (
        lambda: optim.SGD(weights(), 0.1, update="master32", master_values=3),
        "master_values must be .*, got 3",
    ),
    "sgd-scale": (lambda: optim.SGD(weights(), 0.1).step(NAN), "grad_scale must be .*, got nan"),
    "sgd-state": (lambda: optim.SGD(weights(), 0.1).load_state_dict(3), "state must be .*, got 3"),
    "adam-betas": (lambda: optim.Adam(weights(), betas=0.9), "betas must be two numbers .*, got 0.9"),
    "adam-state": (lambda: optim.Adam(weights()).load_state_dict(None), "state must be .*, got None"),
    "max-pool": (lambda: nn.MaxPool2d(0), "MaxPool2d: size must be >= 1 .*, got 0"),
    "max-pool-large": (lambda: nn.MaxPool2d(16), "MaxPool2d: size must be at most 255 pixels, got 16"),
    "avg-pool-stride": (lambda: nn.AvgPool2d(2, 0), "AvgPool2d: stride must be >= 1 .*, got 0"),
    "avg-pool-padding": (lambda: nn.AvgPool2d(2, padding=2), "AvgPool2d: padding must be .*, got 2"),
    "conv-padding": (lambda: nn.Conv2d(1, 1, 3, padding=-1), "Conv2d: padding must be >= 0 .*, got -1"),
    "conv-stride": (lambda: nn.Conv2d(1, 1, 3, stride=10**30), "Conv2d: stride must be >= 1 .*, got 10+"),
    "conv-weight-decay": (lambda: nn.Conv2d(1, 1, 3, weight_decay=NAN), "weight_decay must be .*, got nan"),
    "linear-bias": (lambda: nn.Linear(2, 2, bias="no"), "Linear: bias must be True or False, got 'no'"),
    "batch-norm-momentum": (lambda: nn.BatchNorm2d(2, momentum=2), "BatchNorm2d: momentum must be .*, got 2"),
    "layer-norm-eps": (lambda: nn.LayerNorm(2, eps=0), "LayerNorm: eps must be .*, got 0"),
    "patches": (lambda: nn.PatchEmbedding(None, 1, 2, 2), "PatchEmbedding: image_size must be .*, got None"),
    "module-state": (lambda: nn.Linear(2, 2).load_state_dict(3), "state must be .*, got 3"),
    "module-mode": (lambda: nn.Linear(2, 2).train("yes"), "mode must be True or False, got 'yes'"),
    "precision-scale": (
        lambda: dataclasses.replace(fe.Precision.get("mp"), loss_scale=3),
        "loss_scale must be a LossScale or None, got 3",
    ),
    "precision-layers": (lambda: fe.Precision.get("hbfp4").with_layers(3), "layers must be .*, got 3"),
    "block-format": (lambda: fe.BlockFormat.named(None), "name must be .*, got None"),
    "requires-grad": (lambda: fe.tensor([1.0], requires_grad="no"), "requires_grad must be .*, got 'no'"),
    "linear-none": (lambda: F.linear(None, x(2, 2)), "linear: x must be a Tensor .*, got NoneType"),
    "matmul-none": (lambda: F.matmul(x(2, 2), None), "matmul: b must be a Tensor .*, got NoneType"),
    "reshape": (lambda: F.reshape(x(), 4.0), "reshape: shape must be .*, got 4.0"),
    "transpose": (lambda: x(2, 2).transpose("ab"), "shape or axes must be .*, got 'ab'"),
    "cat": (lambda: F.cat(None), "cat: tensors must be a sequence of tensors, got None"),
    "sum-axis": (lambda: x().sum(1.5), "sum: axis must be .*, got 1.5"),
    "sum-keepdims": (lambda: x().sum(0, "no"), "sum: keepdims must be True or False, got 'no'"),
    "dropout-training": (lambda: F.dropout(x(), 0.5, "no"), "dropout: training must be .*, got 'no'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    call, message = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=rf"^{message}"):
        call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("features", [10**12, 10**30])
def test_a_layer_too_large_for_memory_says_so(features: int) -> None:
    with pytest.raises(MemoryError, match=r"shape must be one that fits into memory, got \(10, 10+\)"):
        nn.Linear(features, 10)
