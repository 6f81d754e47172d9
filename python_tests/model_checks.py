"""What every network is held to; the test of a family says with which sizes and numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache

import bounds
import numpy as np
import pytest
import safetensors.numpy

import fp16engine as fe
from fp16engine import functional as F
from fp16engine import nn

PLACES = 4  # of each tensor, where a gradient is compared with differences
CLASSES = 10
COUNTER = ".updates"  # of a batch norm: how often its running statistics were updated, an integer


@lru_cache(maxsize=1)
def _made(name: str, image_size: int, channels: int) -> nn.Module:
    return fe.models.create(name, CLASSES, image_size, channels)


def fresh(name: str, image_size: int = 32, channels: int = 3) -> nn.Module:
    """Return a network of one's own with the weights of seed 0, drawn once for tests in a row."""
    return copy.deepcopy(_made(name, image_size, channels))


def images(count: int, image_size: int | tuple[int, int] = 32, channels: int = 3) -> np.ndarray:
    """Return `count` random images in float64."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return np.random.default_rng(0).normal(size=(count, height, width, channels))


def logits(model: nn.Module, x: np.ndarray, device: str = "cpu", dtype: str = "float16") -> np.ndarray:
    """Return a network's outputs in evaluation."""
    model.eval()
    with fe.no_grad():
        return model(fe.tensor(x, dtype, device)).numpy()


def output_shape(model: nn.Module, image_size: int | tuple[int, int], channels: int, classes: int) -> None:
    """Two images give two rows of finite float16 logits."""
    y = logits(model.to("cpu", "fp16"), images(2, image_size, channels))
    assert (y.shape, y.dtype) == ((2, classes), np.float16)
    assert np.all(np.isfinite(y))


def one_seed_one_network(name: str, image_size: int = 32) -> None:
    """Equal seeds give equal bits, another seed other kernels."""
    first = fresh(name, image_size).state_dict()
    same = fe.models.create(name, CLASSES, image_size, seed=0).state_dict()
    assert list(first) == list(same)
    for key, value in first.items():
        np.testing.assert_array_equal(value, same[key])
    other = fe.models.create(name, CLASSES, image_size, seed=1).state_dict()
    kernels = [key for key in first if key.endswith("weight")]
    assert not any(np.array_equal(first[key], other[key]) for key in kernels)


def one_step(name: str, precision: str, count: int = 4, image_size: int = 32, channels: int = 3) -> None:
    """A step of the trainer is applied, moves every kernel and leaves everything finite."""
    model = fresh(name, image_size, channels)
    trainer = fe.Trainer(model, precision, lr=0.05)
    before = model.state_dict()
    result = trainer.step(images(count, image_size, channels), np.arange(count) % CLASSES)
    while not result.applied and trainer.scaler is not None and trainer.step_count < 20:
        result = trainer.step(images(count, image_size, channels), np.arange(count) % CLASSES)
    assert result.applied and np.isfinite(result.loss), result
    after = model.state_dict()
    assert all(np.all(np.isfinite(value)) for value in after.values())
    moved = [not np.array_equal(before[key], after[key]) for key in before]
    assert np.mean(moved) > 0.5


def overfit(
    name: str,
    precision: str,
    device: str = "cpu",
    *,
    steps: int,
    lr: float,
    image_size: int = 32,
    channels: int = 3,
    evaluate: bool = False,
) -> float:
    """Train on one batch of eight random images; return its accuracy in the last step, or in evaluation."""
    policy = fe.Precision.get(precision)
    model = fresh(name, image_size, channels).to(device, policy)
    optimizer = fe.optim.SGD(model.parameters(), lr, momentum=0.9, update=policy.update)
    batch = images(8, image_size, channels)
    x, labels = fe.tensor(batch, policy.storage, device), fe.tensor(np.arange(8), device=device)
    scale = 1024.0 if policy.loss_scale else 1.0
    with policy.use(), fe.random.fork(0):
        for _ in range(steps):
            y = model(x)
            F.cross_entropy(y, labels).backward(fe.tensor(scale, policy.storage, device))
            optimizer.step(grad_scale=1 / scale)
            optimizer.zero_grad()
    values = logits(model, batch, device, policy.storage) if evaluate else y.numpy()
    return float(np.mean(values.argmax(1) == np.arange(8)))


def weights_travel(name: str, image_size: int = 32, channels: int = 3) -> None:
    """A network that took over the state of a trained one, from a file, has its bits and its outputs."""
    model = fresh(name, image_size, channels)
    fe.Trainer(model, "fp16", lr=0.05).step(images(4, image_size, channels), np.arange(4))
    state = model.state_dict()
    other = fe.models.create(name, CLASSES, image_size, channels, seed=1).to("cpu", "fp16")
    take_from_a_file(other, state)
    batch = images(2, image_size, channels)
    np.testing.assert_array_equal(logits(other, batch), logits(model, batch))


def take_from_a_file(model: nn.Module, state: dict[str, np.ndarray]) -> None:
    """A network takes a state over from a safetensors file, to the bit."""
    model.load_state_dict(safetensors.numpy.load(safetensors.numpy.save(state)))
    taken = model.state_dict()
    assert list(taken) == list(state)
    for key, value in taken.items():
        assert value.dtype == (np.int64 if key.endswith(COUNTER) else np.float16), key
        assert value.tobytes() == state[key].tobytes(), key


def statistics(model: nn.Module) -> int:
    """Return how many values the running statistics of a network have."""
    return sum(buffer.size for name, buffer in model.named_buffers() if not name.endswith(COUNTER))


def too_small(name: str, image_size: int | tuple[int, int], smallest: int) -> None:
    """An image one pixel too small is refused by name, the smallest one is not."""
    shown = f"{image_size}x{image_size}" if isinstance(image_size, int) else "x".join(map(str, image_size))
    with pytest.raises(ValueError, match=rf"^image_size must .* {smallest}x{smallest} .* got {shown};"):
        fe.models.create(name, CLASSES, image_size)
    output_shape(fe.models.create(name, CLASSES, smallest), smallest, 3, CLASSES)


def block_runs(block: nn.Module, shape: tuple[int, ...], expected: tuple[int, ...], device: str) -> None:
    """A block of a network runs forward and backward in binary16 on `device`."""
    block = block.to(device, "fp16")
    x = fe.tensor(np.random.default_rng(0).normal(size=shape), "float16", device, requires_grad=True)
    with fe.Precision.get("fp16").use(), fe.random.fork(0):
        y = block(x)
        assert (y.shape, y.dtype) == (expected, "float16")
        y.mean().backward()
    for t in (x, *block.parameters()):
        assert (t.grad.shape, t.grad.dtype) == (t.shape, "float16")
        assert np.all(np.isfinite(t.grad.numpy()))


def block_gradient(block: nn.Module, shape: tuple[int, ...]) -> None:
    """A block's gradient by its input and parameters against differences, in float64 on the reference."""
    block = block.to("reference")
    rng = np.random.default_rng(0)
    tensors: list[fe.Tensor] = [*block.parameters()]
    for t in (*tensors, *(buffer for name, buffer in block.named_buffers() if not name.endswith(COUNTER))):
        t.data = t.data.astype(np.float64)
    for p in tensors:  # zeros and ones would hide a factor
        p.data += rng.uniform(0.1, 0.3, p.shape)
    x = fe.tensor(rng.normal(size=shape), "float64", "reference", requires_grad=True)
    tensors.append(x)

    def run() -> fe.Tensor:
        with fe.random.fork(0):
            return block(x)

    y = run()
    weights = rng.uniform(0.5, 1.5, y.shape)
    y.backward(fe.tensor(weights, "float64", "reference"))

    def loss() -> float:
        with fe.no_grad():
            return float((run().numpy() * weights).sum())

    for t in tensors:
        assert t.grad is not None
        flat, grad = t.data.reshape(-1), t.grad.numpy().reshape(-1)
        places = rng.choice(flat.size, min(PLACES, flat.size), replace=False)
        differences = np.array([_difference(flat, i, loss) for i in places])
        scale = 1 + np.max(np.abs(differences))
        assert np.max(np.abs(grad[places] - differences)) <= 10 * bounds.DIFFERENCE_TOLERANCE * scale


def _difference(values: np.ndarray, place: int, loss: Callable[[], float]) -> float:
    kept, step = values[place], bounds.DIFFERENCE_STEP
    values[place] = kept + step
    above = loss()
    values[place] = kept - step
    below = loss()
    values[place] = kept
    return (above - below) / (2 * step)
