"""Every family of networks, small: trained in every policy, gradients, files; names with numbers in them."""

from __future__ import annotations

from collections.abc import Callable

import model_checks
import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F
from fp16engine import nn
from fp16engine.models import activations, densenet, mobilenet, resnet, resnet_basic, vit
from fp16engine.models.xception import Unit

CLASSES = 3
POLICIES = ("fp32", "fp16", "fp16-strict", "mp")


def _stage(channels: int) -> list[nn.Module]:
    """Convolution, ReLU, pool, as in AlexNet; with a norm, as in VGG."""
    return [nn.Conv2d(channels, 4, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2)]


def _ended(*layers: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.GlobalAvgPool2d(), nn.Linear(width, CLASSES))


# The blocks of each family with a classifier after them, on images of 8x8x3.
FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "dnn": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, CLASSES)),
    "alexnet": lambda: nn.Sequential(*_stage(3), nn.Flatten(), nn.Linear(4, CLASSES)),
    "alexnet-4096": lambda: nn.Sequential(
        *_stage(3), nn.Flatten(), nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, CLASSES)
    ),
    "vgg": lambda: nn.Sequential(
        *_stage(3), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm2d(4), nn.Linear(4, CLASSES)
    ),
    "resnet": lambda: resnet.ResNet(8, CLASSES, 3),
    "resnet18": lambda: _ended(resnet_basic.Block(3, 4, 2), width=4),
    "densenet": lambda: _ended(densenet.Layer(3, 4, 2), nn.AvgPool2d(2), width=5),
    "xception": lambda: _ended(Unit(3, (4,), shrink=True), width=4),
    "mobilenet": lambda: _ended(mobilenet.Block(3, 3, 2, 1), width=3),
    "vit": lambda: nn.Sequential(
        nn.PatchEmbedding((8, 8), 3, 4, 8), vit.Block(8, 2, 4, 8), nn.Flatten(), nn.Linear(32, CLASSES)
    ),
}


@pytest.mark.parametrize("precision", POLICIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_policy_trains(compiled_name: str, family: str, precision: str) -> None:
    with fe.random.fork(0):
        model = FAMILIES[family]()
    trainer = fe.Trainer(model, precision, lr=0.02, device=compiled_name)
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3))
    before = {name: np.array(value) for name, value in model.state_dict().items()}
    results = [trainer.step(x, np.arange(8) % CLASSES) for _ in range(3)]
    assert results[-1].applied and all(np.isfinite(result.loss) for result in results)
    after = model.state_dict()
    moved = [not np.array_equal(before[name], value) for name, value in after.items()]
    assert all(np.all(np.isfinite(value)) for value in after.values()) and np.mean(moved) > 0.5
    storage = fe.Precision.get(precision).storage
    assert {str(after[name].dtype) for name in after if name.endswith("weight")} == {storage}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dnn", "alexnet", "alexnet-4096", "resnet32"])
def test_weights_travel(cpu: object, name: str) -> None:
    model_checks.weights_travel(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet110", "resnet34", "vgg19", "densenet169", "vit12"])
def test_the_deeper_ones_write_their_bits(cpu: object, name: str) -> None:
    size = 8 if name.startswith("resnet") else 32
    state = model_checks.fresh(name, size).to("cpu", "fp16").state_dict()
    other = fe.models.create(name, image_size=size, seed=1).to("cpu", "fp16")
    model_checks.take_from_a_file(other, state)


@pytest.mark.slow
def test_alexnet_learns_a_batch(cpu: object) -> None:
    assert model_checks.overfit("alexnet", "fp16", steps=30, lr=0.02) == 1.0


class _Joined(nn.Module):
    """A unit with what comes before and after it: the sum it starts from, and the one it leaves open."""

    def __init__(self, unit: resnet.Unit) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, x: fe.Tensor) -> fe.Tensor:
        y, shortcut = self.unit(x, None if self.unit.preactivated else x * 0.5)
        return y + shortcut


@pytest.mark.parametrize("preactivated", [True, False])
def test_gradient_of_a_resnet_unit(preactivated: bool) -> None:
    unit = resnet.Unit(2, 4, 1 if preactivated else 2, preactivated)
    model_checks.block_gradient(_Joined(unit), (2, 4, 5, 2))


@pytest.mark.parametrize("family", ["dnn", "alexnet", "alexnet-4096"])
def test_gradient_of_a_chain(family: str) -> None:
    with fe.random.fork(0):
        model = FAMILIES[family]()
    model_checks.block_gradient(model, (2, 8, 8, 3))


@pytest.mark.parametrize(
    ("name", "same", "parameters"),
    [("resnet26", None, 367_850), ("resnet32", "resnet32", 465_290), ("vit8", "vit8", 2_158_090),
     ("vit2", None, 1_361_674), ("resnet18-w64", "resnet18", 11_173_962), ("resnet34-w4", None, None)],
)  # fmt: skip
def test_names_with_numbers(name: str, same: str | None, parameters: int | None) -> None:
    model = fe.models.create(name)
    assert fe.models.known(name) and model.config is not None and model.config["name"] == name
    assert parameters is None or model.num_parameters() == parameters
    if same is not None:
        ours, theirs = model.state_dict(), fe.models.create(same).state_dict()
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("activation", ["relu6", "gelu", "tanh"])
@pytest.mark.parametrize("family", FAMILIES)
def test_another_non_linearity_is_the_only_one(family: str, activation: str) -> None:
    with fe.random.fork(0):
        model = FAMILIES[family]()
    names = list(model.state_dict())
    activations.replace(model, activation)
    assert list(model.state_dict()) == names
    modules = [module for _, module in model.named_modules()]
    layers = {"relu": nn.ReLU, "relu6": nn.ReLU6, "gelu": nn.GELU, "tanh": nn.Tanh}
    found = {type(module) for module in modules if isinstance(module, tuple(layers.values()))}
    norms = {module.activation for module in modules if isinstance(module, nn.BatchNorm2d)}
    assert found <= {layers[activation]} and norms <= {None, activation}
    assert found or activation in norms
    x = model_checks.images(2, 8)
    assert np.all(np.isfinite(model_checks.logits(model.to("reference"), x, "reference", "float32")))


@pytest.mark.parametrize("activation", ["relu", "relu6", "gelu", "tanh"])
def test_a_norm_is_followed_by_its_non_linearity(backend_name: str, activation: str) -> None:
    x = fe.tensor(model_checks.images(4, 3), "float16", backend_name)
    with fe.Precision.get("fp16").use():
        own = nn.BatchNorm2d(3, activation=activation).to(backend_name, "fp16")(x)
        after = getattr(F, activation)(nn.BatchNorm2d(3).to(backend_name, "fp16")(x))
    np.testing.assert_array_equal(own.numpy(), after.numpy())


def test_a_name_with_a_non_linearity() -> None:
    model = fe.models.create("resnet8+gelu", image_size=8)
    assert fe.models.known("vit1+tanh") and not fe.models.known("vit1+swish")
    x = model_checks.images(2, 8)

    def outputs(network: nn.Module) -> np.ndarray:
        return model_checks.logits(network.to("reference", "fp16"), x, "reference")

    own, plain = outputs(model), outputs(fe.models.create("resnet8", image_size=8))
    np.testing.assert_array_equal(own, outputs(fe.models.create(**(model.config or {}))))
    np.testing.assert_array_equal(plain, outputs(fe.models.create("resnet8+relu", image_size=8)))
    assert not np.array_equal(own, plain)


@pytest.mark.parametrize(
    "name", ["resnet2", "resnet21", "resnet020", "vit0", "resnet50-w8", "resnet18-w0", "vit"]
)
def test_names_that_are_none(name: str) -> None:
    assert not fe.models.known(name)
    with pytest.raises(ValueError, match=rf"^model must .* or resnetN.* got '{name}'$"):
        fe.models.create(name)
