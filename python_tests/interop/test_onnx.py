"""`to_onnx`: onnxruntime gives for a file what the network gives, within rounding."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.interop.onnx_out import checked

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fp16engine[onnx]'")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
POLICIES = {"float32": "fp32+direct", "float16": "fp16"}
QUICK = {"dnn": 8, "resnet20": 16, "vit8": 12, "airbench94": 32, "mobilenetv2": 16}
REST = {"alexnet": 32, "densenet121": 32, "xception": 32, "vgg16": 32, "densenet40": 16, "resnet18": 16}


def digits(size: int, count: int = 24) -> np.ndarray:
    """Return images of digits with mean 0 and standard deviation 1, in three channels, enlarged."""
    images = fe.data.digits().test.images[:count].astype(np.float32)
    images = images.repeat(-(-size // 8), 1).repeat(-(-size // 8), 2)[:, :size, :size].repeat(3, 3)
    return (images - images.mean()) / images.std()


def network(name: str, size: int) -> fe.nn.Module:
    """Return a network whose running statistics are those of images."""
    model = fe.models.create(name, image_size=size).to("cpu", "fp32")
    with fe.no_grad(), fe.Precision.get("fp32").use():
        for _ in range(3):
            model(fe.tensor(digits(size)))
    return model


def outputs(model: fe.nn.Module, x: np.ndarray, policy: str) -> np.ndarray:
    with fe.no_grad(), fe.Precision.get(policy).use():
        return model.eval()(fe.tensor(x)).numpy()


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in REST)])
def test_networks_of_the_study(tmp_path: Path, name: str, dtype: str) -> None:
    size = (QUICK | REST)[name]
    model = network(name, size).to("cpu", POLICIES[dtype])
    path, x = tmp_path / "net.onnx", digits(size).astype(dtype)
    fe.interop.to_onnx(model, path, size, dtype)
    y = outputs(model, x, POLICIES[dtype])
    found = checked(path, x, y)
    assert found.images == 24
    moved = outputs(model, x * np.dtype(dtype).type(1 + np.finfo(dtype).eps), POLICIES[dtype])
    sensitivity = float(np.abs(moved.astype(np.float64) - y).max())  # to one ulp of the input
    assert found.ulp < 64 or found.difference < 4 * sensitivity
    first, second = np.sort(y.astype(np.float64), axis=1)[:, :-3:-1].T
    assert found.same_class >= (first - second > 2 * found.difference).sum()


def test_the_comparison_sees_a_difference(tmp_path: Path) -> None:
    model = fe.models.create("dnn", image_size=8)
    fe.interop.to_onnx(model, tmp_path / "net.onnx", 8, "float32")
    y = outputs(model, digits(8), "fp32")
    y[3, 5] += 100.0
    found = checked(tmp_path / "net.onnx", digits(8), y)
    assert found.same_class <= 23
    assert found.difference == pytest.approx(100, abs=0.01)


def test_a_batch_of_any_size_and_pixels(tmp_path: Path) -> None:
    data, path = fe.data.digits(), tmp_path / "net.onnx"
    model = fe.models.create("vit8", image_size=8, channels=1)
    fe.interop.to_onnx(model, path, 8, "float32", normalise=(data.mean, data.std))
    session = runtime.InferenceSession(str(path))
    expected = outputs(model, data.normalised("test", "float32")[:7], "fp32")
    for count in (1, 7):
        found = session.run(None, {"images": data.test.images[:count]})[0]
        np.testing.assert_allclose(found, expected[:count], atol=1e-5)


def test_float16_statistics_of_a_trained_network(tmp_path: Path) -> None:
    """In their native form, standard deviations, with their rounding errors: a graph has variances."""
    data = fe.data.digits().limit(128)
    model = fe.models.create("resnet20", image_size=8, channels=1)
    trainer = fe.Trainer(model, precision="fp16", lr=0.05)
    trainer.fit(data, 1, 16, progress=False)
    assert any(name.endswith("running_std") for name, _ in model.named_buffers())
    fe.interop.to_onnx(model, tmp_path / "net.onnx", 8)
    x = data.normalised("test", "float16")
    found = checked(tmp_path / "net.onnx", x, outputs(model, x, "fp16"))
    assert found.ulp < 8


class Odd(fe.nn.Module):
    """Does with its input what a test says."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.weight = fe.nn.Parameter(np.full(3, 1e6, np.float32))
        self.table = fe.nn.Parameter(np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4))

    def forward(self, x: fe.Tensor) -> fe.Tensor:
        return self.function(self, x)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda m, x: fe.tensor(x.numpy() + 1), "that no operation made"),
        (lambda m, x: x * m.weight, "float16 for one of 1e.06; export in float32"),
        (lambda m, x: x[:, ::-1], "step > 0"),
        (lambda m, x: x[:-1], "follows the batch"),
        (lambda m, x: x[np.array([0, 1])], "integers and slices"),
        (lambda m, x: fe.functional.relu(x) if x.shape[0] > 2 else fe.functional.exp(x) + 1.0, "every size"),
        (
            lambda m, x: fe.functional.conv2d(x, (m.table[:, :3] * 1.0).reshape(5, 1, 1, 3)),
            "kernels must be weights",
        ),
    ],
)
def test_what_has_no_equal_is_refused(tmp_path: Path, function: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fe.interop.to_onnx(Odd(function), tmp_path / "net.onnx", 4)
    assert not list(tmp_path.iterdir())


def test_operations_of_ones_own(tmp_path: Path) -> None:
    """Shapes, indices, reductions and broadcasting, in an order that no network of the study has."""

    def function(m: Any, x: fe.Tensor) -> fe.Tensor:
        F = fe.functional
        y = F.transpose(F.pad2d(x, (1, 0, 0, 2)), (0, 3, 1, 2))[:, ..., 1:]
        y = F.matmul(F.softmax(y.max(axis=2), axis=1), m.table[:, None, 1:][:, 0].reshape(1, 5, 3)[0])
        z = (1.0 / (F.exp(y) + 1.0) - y**2.0) / 3.0
        return F.cat([z, F.log_softmax(z, axis=-1), F.sqrt(F.exp(z))], axis=-1)

    x = digits(4).astype(np.float32)
    model = Odd(function)
    fe.interop.to_onnx(model, tmp_path / "net.onnx", 4, "float32")
    assert checked(tmp_path / "net.onnx", x, outputs(model, x, "fp32")).ulp < 16


def test_without_onnx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(fe.BackendUnavailable, match=r"fp16engine\[onnx\]"):
        fe.interop.to_onnx(fe.nn.Flatten(), tmp_path / "net.onnx", 4)


@pytest.mark.parametrize(
    "change",
    [{"dtype": "int8"}, {"image_size": 0}, {"channels": 0}, {"normalise": 3}, {"normalise": (0.0, 0.0)}],
)
def test_wrong_arguments(tmp_path: Path, change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"image_size": 4, **change}
    with pytest.raises((TypeError, ValueError), match=next(iter(change))):
        fe.interop.to_onnx(fe.nn.Flatten(), tmp_path / "net.onnx", **arguments)
