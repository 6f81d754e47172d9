"""PyTorch's networks are ours: outputs and all gradients in float64, and the losses of training steps."""

from __future__ import annotations

import copy
from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F
from fp16engine import nn

torch = pytest.importorskip("torch", reason="torch is not installed")

from fp16engine.bench import peers, torch_models, torch_step  # noqa: E402
from fp16engine.bench.torch_layers import peer  # noqa: E402

# More would only wait for one another where tests share the cores.
torch.set_num_threads(1)

# Odd and even sides at the strides of 2; more pixels for networks that take no smaller images.
SIZE = 9
LARGER = {"alexnet": 27, "alexnet-4096": 27, "densenet121": 29, "densenet169": 29, "vgg16": 32, "vgg19": 32}
IMAGES, CHANNELS = 4, 2
# Both sides round every operation, in other orders; to round images and weights alone once more moves a
# result by a good part of that.
ROUNDINGS = 100
# A bound that says something: far below what another eps, a misplaced pixel or a missing term would make.
TIGHT = bounds.EPS["float32"]

Values = dict[str, np.ndarray]


def trained(network: str) -> nn.Module:
    """Return a network without chance whose vectors are none of their first values, zeros and ones."""
    model = fe.models.create(network, image_size=LARGER.get(network, SIZE), channels=CHANNELS)
    rng = np.random.default_rng(1)
    for _, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            most = 3.0 if name.endswith("gamma") else 0.3  # some values beyond ReLU6's six
            parameter.data = (parameter.data + rng.uniform(0.1, most, parameter.shape)).astype(np.float32)
    return model


def ours(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> Values:
    """Return logits and gradients of our network, by the definition of every operation, in float64."""
    model = copy.deepcopy(model).to("reference")
    for _, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.data.dtype == np.float32:
            tensor.data = tensor.data.astype(np.float64)
    x = fe.tensor(images, "float64", "reference", requires_grad=True)
    logits = model(x)
    F.cross_entropy(logits, fe.tensor(labels, device="reference")).backward()
    named = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"logits": logits.numpy(), "images": x.grad.numpy(), **{k: g.numpy() for k, g in named.items()}}


def theirs(net: Any, images: np.ndarray, labels: np.ndarray) -> Values:
    """Return the same of PyTorch's network, in our layouts."""
    net.zero_grad()
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    logits = net(x)
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
    tensors = {"images": x, **dict(net.named_parameters())}
    arrays = {name: tensor.grad.numpy() for name, tensor in tensors.items()}
    nhwc = {name: a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for name, a in arrays.items()}
    return {"logits": logits.detach().numpy(), **nhwc}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(name for name in fe.models.names() if name not in peers.ELSEWHERE),
        *("resnet18-w8+tanh", "xception+gelu", "densenet40+relu6"),
    ],
)
def test_outputs_and_all_gradients_are_ours(name: str) -> None:
    model = trained(name)
    rng = np.random.default_rng(0)
    size = LARGER.get(name, SIZE)
    images = rng.normal(size=(IMAGES, size, size, CHANNELS))
    labels = np.arange(IMAGES)
    net: Any = peer(model).double()
    expected, got = ours(model, images, labels), theirs(net, images, labels)
    assert list(got)[2:] == list(expected)[2:] == [key for key, _ in model.named_parameters()]
    moved = theirs(*rounded_once_more(net, images, rng), labels)
    largest = max(np.max(np.abs(values)) for values in expected.values())
    for key, values in expected.items():
        assert got[key].shape == values.shape, key
        allowed = ROUNDINGS * np.max(np.abs(moved[key] - got[key]))
        assert allowed <= TIGHT * largest, key
        assert np.max(np.abs(got[key] - values)) <= allowed, key


def rounded_once_more(net: Any, images: np.ndarray, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
    """Return the network and images with every number moved to a neighbour."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for tensor in net.parameters():
            tensor *= torch.from_numpy(neighbours(tensor.shape, rng))
    return net, images * neighbours(images.shape, rng)


def neighbours(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return 1 + bounds.EPS["float64"] * rng.choice([-1.0, 1.0], shape)


@pytest.mark.parametrize("name", ["alexnet-4096", "vit8"])
def test_dropout_is_where_ours_is(name: str) -> None:
    model = fe.models.create(name, image_size=LARGER.get(name, SIZE))
    net = peer(model)
    found = {path: module.p for path, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert found and found == {path: module.p for path, module in net.named_modules() if hasattr(module, "p")}
    x = torch.ones(1000)
    path, p = next(iter(found.items()))
    assert 0.5 * p < float((net.get_submodule(path)(x) == 0).float().mean()) < min(1.5 * p, 1)


def test_what_has_no_peer_is_named() -> None:
    with pytest.raises(TypeError, match=r"module must .* got Transformer"):
        peer(fe.models.transformer.create("transformer-tiny", 11))


@pytest.mark.parametrize(
    ("model", "size", "steps"),
    # the third loss depends on the second update, momentum and weight decay included; VGG's batch norms of
    # six values blow roundings up, so its losses are compared before the first update alone
    [
        ("resnet20", 8, 3),
        ("resnet20", 9, 3),
        ("dnn", 8, 3),
        ("alexnet", 28, 3),
        ("densenet40", 8, 3),
        pytest.param("vgg16", 32, 1, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("layout", torch_step.LAYOUTS)
@pytest.mark.usefixtures("cpu")
def test_steps_are_ours(model: str, size: int, steps: int, layout: str) -> None:
    x, y = batch(size)
    trainer = fe.Trainer(fe.models.create(model, image_size=size, channels=1), "fp32", lr=0.05, momentum=0.9)
    net = torch_models.create(model, 10, size, 1)
    update = "fused" if layout == "contiguous" else "foreach"
    step = torch_step.Step(net, "fp32", x, y, lr=0.05, momentum=0.9, layout=layout, update=update)
    for _ in range(steps):
        assert trainer.step(x, y).loss == pytest.approx(float(step()), rel=100 * bounds.EPS["float32"])


@pytest.mark.parametrize("precision", ["amp", "compiled"])
def test_steps_of_a_gpu_train_on_a_processor_too(precision: str) -> None:
    """Their code paths: autocast with a gradient scaler, and a traced step with FP16 weights."""
    net = torch_models.create("dnn", 10, 8, 1)
    step = torch_step.Step(net, precision, *batch(8), lr=0.05, momentum=0.9)
    losses = [float(step()) for _ in range(8)]
    step.wait()
    assert losses[-1] < losses[0]
    assert next(net.parameters()).dtype == torch_step.DTYPES[precision]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["mobilenetv2", "vit2", "xception"])
def test_other_formats_run(name: str, precision: str) -> None:
    net = torch_models.create(name, 10, SIZE, 1)
    step = torch_step.Step(net, precision, *batch(SIZE), lr=0.001, momentum=0.9)
    loss = step()
    assert loss.dtype == torch_step.DTYPES[precision] and bool(torch.isfinite(loss))


def test_the_fastest_arrangement_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two layouts and two forms of the update; the last step made is the one returned."""
    made: list[tuple[str, str]] = []

    def make(layout: str, update: str) -> Any:
        made.append((layout, update))
        return made[-1]

    monkeypatch.setattr(torch_step, "_seconds", lambda one: (one[0] != "contiguous") + (one[1] != "foreach"))
    assert torch_step.fastest(make) == made[-1] == ("contiguous", "foreach")
    assert set(made) >= {("channels_last", "fused"), ("contiguous", "fused")}


def batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.Generator(np.random.Philox(3))
    x = generator.standard_normal((6, size, size, 1), np.float32)
    return x, generator.integers(0, 10, 6)
