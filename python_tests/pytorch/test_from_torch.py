"""`from_torch`: a module of PyTorch's as ours, with its outputs, its gradients and its weights."""

from __future__ import annotations

import copy
import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp16engine as fe

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fp16engine[torch]'")
fet: Any = importlib.import_module("fp16engine.torch")
networks: Any = importlib.import_module("torch_networks")
nn = torch.nn
Base: Any = torch.nn.Module
BOUND = 1e-5

_TORCHVISION = ("resnet18", "vgg16", "mobilenet_v2", "densenet121")


def images(count: int = 4, size: int = 16, seed: int = 1) -> Any:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def ours_of(x: Any) -> fe.Tensor:
    return fe.tensor(np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1)))


def gradients(model: fe.nn.Module) -> dict[str, Any]:
    """Return our gradients by PyTorch's names and in its layouts, by way of the weights."""
    twin = copy.deepcopy(model)
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        other.data = mine.grad.numpy()
    return fe.interop.to_torch_state(twin)


def check(module: Any, model: fe.nn.Module, x: Any, bound: float = BOUND) -> None:
    """Compare outputs and all gradients with PyTorch's in float64, each in units of its largest value.

    A gradient that is 0 but for rounding, that of a bias before a norm, counts against the largest of all.
    """
    exact = copy.deepcopy(module).double()
    labels = torch.arange(len(x)) % 3
    expected = exact(x.double())
    torch.nn.functional.cross_entropy(expected, labels).backward()
    model.train(module.training).zero_grad()
    with fe.Precision.get("fp32+direct").use():
        found = model(ours_of(x))
        fe.functional.cross_entropy(found, fe.tensor(labels.numpy())).backward()
    assert error(found.numpy(), expected.detach().numpy()) < bound
    theirs = {name: p.grad.numpy() for name, p in exact.named_parameters()}
    ours = gradients(model)
    assert theirs.keys() <= ours.keys()
    least = 1e-2 * max(float(np.abs(grad).max()) for grad in theirs.values())
    errors = {name: error(ours[name], grad, least) for name, grad in theirs.items()}
    worst = max(errors, key=lambda name: errors[name])
    assert errors[worst] < bound, (worst, errors[worst])


def error(found: np.ndarray, expected: np.ndarray, least: float = 1e-6) -> float:
    largest = float(np.abs(expected).max())
    return float(np.abs(found - expected).max()) / max(largest, least)


@pytest.mark.parametrize("name", networks.NETWORKS)
@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_gradients_are_those_of_pytorch(name: str, training: bool) -> None:
    module = networks.make(name).train(training)
    model = fet.from_torch(module, images(1))
    assert module.training is training
    check(module, model, images(16 if training else 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*_TORCHVISION, "vit_tiny"])
def test_networks_of_torchvision_and_timm(name: str) -> None:
    torch.manual_seed(0)
    if name == "vit_tiny":
        timm = pytest.importorskip("timm", reason="timm is not installed")
        module = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=10)
    else:
        torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
        module = torchvision.models.get_model(name, num_classes=10)
    with torch.no_grad():  # running statistics of images, in place of 0 and 1
        for _ in range(0 if name == "vgg16" else 10):
            module(images(8, 32, seed=2))
    check(module.eval(), fet.from_torch(module, images(1, 32)), images(2, 32))


def test_running_statistics_move_as_in_pytorch() -> None:
    """Once a norm has seen a hundred batches. Ours take the biased variance, (N - 1) / N of theirs."""
    module = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3), nn.Flatten(), nn.Linear(768, 2))
    module[0].num_batches_tracked.fill_(100)
    model = fet.from_torch(module, images(1))
    x = images(4) * 3 + 1
    module.train()(x)
    model(ours_of(x))
    state, count = fet.to_state(model), 4 * 16 * 16
    assert state["0.num_batches_tracked"] == module[0].num_batches_tracked == 101
    np.testing.assert_allclose(state["0.running_mean"], module[0].running_mean, rtol=1e-5)
    moved = (module[0].running_var - 0.7) * (count - 1) / count + 0.7
    np.testing.assert_allclose(state["0.running_var"], moved, rtol=1e-5)


def test_all_that_is_not_supported_is_named_at_once() -> None:
    class Module(Base):
        def __init__(self) -> None:
            super().__init__()
            self.holes = nn.Conv2d(3, 3, 3, dilation=2)
            self.other = nn.PReLU()
            self.last = nn.MaxPool2d(2, ceil_mode=True)

        def forward(self, x: Any) -> Any:
            return self.last(torch.cumsum(self.other(self.holes(x)), 1)).erf()

    with pytest.raises(ValueError, match="5 others") as caught:
        fet.from_torch(Module(), images(1))
    for words in (
        "holes (Conv2d): dilation must be (1, 1), got (2, 2)", "other (PReLU)", "last (MaxPool2d): ceil_mode",
        "cumsum", "erf",
    ):  # fmt: skip
        assert words in str(caught.value)


def test_another_computation_in_training_is_refused() -> None:
    class Module(Base):
        def forward(self, x: Any) -> Any:
            return x * 2 if self.training else x + 1

    with pytest.raises(ValueError, match=r"same operations in training .* mul.* add"):
        fet.from_torch(Module(), images(1))


def test_dropout_that_never_ends_is_refused() -> None:
    class Module(Base):
        def forward(self, x: Any) -> Any:
            return torch.nn.functional.dropout(x, 0.5)

    with pytest.raises(ValueError, match="whatever the mode"):
        fet.from_torch(Module(), images(1))


def test_functional_dropout_follows_the_mode() -> None:
    class Module(Base):
        def forward(self, x: Any) -> Any:
            return torch.nn.functional.dropout(x, 0.5, self.training)

    model = fet.from_torch(Module(), torch.ones(1, 64))
    assert model.eval()(fe.tensor(np.ones((1, 64), np.float32))).numpy().tolist() == [[1.0] * 64]
    assert set(model.train()(fe.tensor(np.ones((1, 64), np.float32))).numpy().ravel()) == {0.0, 2.0}


def test_an_in_place_change_of_what_is_read_again_is_found() -> None:
    """The graph does not say that x is another after relu_; the outputs do."""

    class Module(Base):
        def forward(self, x: Any) -> Any:
            y = x * 1.0
            y.relu_()
            return y

    with pytest.raises(ValueError, match="must return what the module does"):
        fet.from_torch(Module(), images(1))


def test_values_that_decide_the_way_are_refused() -> None:
    class Module(Base):
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"torch\.fx can trace"):
        fet.from_torch(Module(), images(1))


def test_half_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0 \(Linear\): dtype .* torch.float32, got torch.float16"):
        fet.from_torch(nn.Sequential(nn.Linear(2, 2)).half(), torch.zeros(1, 2).half())


@pytest.mark.parametrize("arguments", [(3, images(1)), (nn.Linear(2, 2), [1.0])])
def test_wrong_arguments(arguments: Any) -> None:
    with pytest.raises(TypeError, match=r"module must be|example_input must be"):
        fet.from_torch(*arguments)


def test_weights_that_are_not_trained_stay() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].weight.requires_grad_(False)
    model = fet.from_torch(module, torch.zeros(1, 2))
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["0.weight"]


# Weights in and out


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_weights_go_around_bit_for_bit(name: str) -> None:
    module, other = networks.make(name), networks.make(name, seed=7)
    model = fet.from_torch(module, images(1))
    fet.load_state(model, other.state_dict())
    state = fet.to_state(model)
    assert state.keys() == other.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in other.state_dict().items())
    module.load_state_dict(state)
    check(module.eval(), model, images(2))


def test_weights_in_bfloat16_go_out_bit_for_bit() -> None:
    pytest.importorskip("ml_dtypes")
    model = fe.models.create("dnn", image_size=8, channels=1).to("cpu", "bf16")
    state = fet.to_state(model)
    for name, parameter in model.named_parameters():
        assert state[name].dtype == torch.bfloat16
        found = state[name].view(torch.int16).numpy().reshape(-1)
        np.testing.assert_array_equal(np.sort(found), np.sort(parameter.numpy().view(np.int16).reshape(-1)))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_from_files(tmp_path: Path, suffix: str) -> None:
    module, path = networks.make("residual"), tmp_path / f"model.{suffix}"
    if suffix == "pt":
        torch.save(module.state_dict(), path)
    else:
        importlib.import_module("safetensors.torch").save_file(module.state_dict(), path)
    model = fet.from_torch(networks.make("residual", seed=3), images(1))
    fet.load_state(model, path if suffix == "pt" else tmp_path)
    assert torch.equal(fet.to_state(model)["stem.weight"], module.stem.weight)


class Harm:
    """What a file of weights may not do: run code."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("harmed"),))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps(Harm()), pickle.dumps([1]), b"x" * 99])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_files_that_are_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(content)
    with pytest.raises(fe.CheckpointError, match=r"model\.(pt|safetensors) must"):
        fet.load_state(fe.nn.Linear(2, 2), path)
    assert not Path("harmed").exists()


def test_wrong_states_change_nothing() -> None:
    model = fet.from_torch(nn.Sequential(nn.Linear(2, 3)), torch.zeros(1, 2))
    before = fet.to_state(model)
    good = {name: value + 1 for name, value in before.items()}
    for state, words in (
        ({"0.weight": good["0.weight"]}, "with '0.bias'"),
        ({**good, "more": good["0.bias"]}, "without 'more'"),
        ({**good, "0.bias": torch.zeros(2)}, r"0.bias.*\(3,\), got \(2,\)"),
    ):
        with pytest.raises(ValueError, match=words):
            fet.load_state(model, state)
    with pytest.raises(TypeError, match="float32, got float16"):
        fet.load_state(model, {**good, "0.bias": good["0.bias"].half()})
    assert all(torch.equal(value, before[name]) for name, value in fet.to_state(model).items())


def test_our_own_networks_go_around_too() -> None:
    for name in ("resnet20", "vit8"):
        model = fe.models.create(name, image_size=12)
        state = fet.to_state(model)
        twin = fe.models.create(name, image_size=12, seed=1)
        fet.load_state(twin, state)
        again = twin.state_dict()
        assert all(np.array_equal(values, again[key]) for key, values in model.state_dict().items())


# Training


@pytest.mark.parametrize("precision", ["fp16", "mp", "fp32"])
def test_it_trains_and_resumes_as_a_network_of_ours(tmp_path: Path, precision: str) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(144, 10)
    )
    data = fe.data.digits().limit(64)

    def run(folder: Path, epochs: int, resume: bool = False) -> Any:
        model = fet.from_torch(module, torch.zeros(1, 1, 8, 8))
        trainer = fe.Trainer(model, precision=precision, lr=0.05, schedule="constant")
        trainer.fit(data, epochs, 16, out=folder, resume=resume, progress=False)
        return model.state_dict()

    run(tmp_path / "a", 1)
    resumed, whole = run(tmp_path / "a", 3, resume=True), run(tmp_path / "b", 3)
    assert all(np.array_equal(resumed[name], values) for name, values in whole.items())
