"""Batch norm over the micro-batches of all ranks against batch norm over the whole batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ranks import ThreadTransport, on_threads

import fp16engine as fe
from fp16engine.distributed.data_parallel import DataParallel
from fp16engine.distributed.sync_norm import synchronise

C = 3


def norm(precision: str) -> fe.nn.BatchNorm2d:
    layer = fe.nn.BatchNorm2d(C, activation="relu")
    layer.gamma.data = np.array([0.5, 1.0, 2.0], np.float32)
    layer.beta.data = np.array([0.1, 0.0, -0.1], np.float32)
    return layer.to("reference", precision)


def passed(layer: Any, x: np.ndarray, residual: np.ndarray | None, dy: np.ndarray) -> list[np.ndarray]:
    """y, the gradients of x and the residual, those of gamma and beta, and the running statistics."""
    inputs = [fe.tensor(a, device="reference", requires_grad=True) for a in (x, residual) if a is not None]
    y = layer(*inputs)
    y.backward(fe.tensor(dy, device="reference"))
    spread = layer.running_var if layer.running_std is None else layer.running_std
    tensors = [y, *(t.grad for t in inputs), layer.gamma.grad, layer.beta.grad, layer.running_mean, spread]
    return [t.numpy().astype(np.float64) for t in tensors]


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize(
    ("precision", "storage"), [("fp32", "float32"), ("fp16", "float16"), ("mp", "float16")]
)
@pytest.mark.parametrize("cuts", [(4, 4), (5, 2, 1)])
def test_it_is_the_norm_of_the_whole_batch(
    cuts: tuple[int, ...], precision: str, storage: str, with_residual: bool
) -> None:
    rng = np.random.default_rng(1)
    shape = (sum(cuts), 2, 2, C)
    x, residual, dy = (rng.standard_normal(shape).astype(storage) for _ in range(3))
    x += np.array([0, 3, -2], storage)
    ends = np.cumsum((0, *cuts))

    def work(transport: ThreadTransport) -> list[np.ndarray]:
        parallel = DataParallel(transport, "one-rounding", sync_norm=True)
        layer = fe.nn.Sequential(norm(precision))
        synchronise(layer, parallel)
        rows = slice(ends[transport.rank], ends[transport.rank + 1])
        with fe.Precision.get(precision).use():
            added = residual[rows] if with_residual else None
            return passed(next(iter(dict(layer.named_children()).values())), x[rows], added, dy[rows])

    found = on_threads(len(cuts), work)
    with fe.Precision.get(precision).use():
        whole = passed(norm(precision), x, residual if with_residual else None, dy)
    inputs = 2 if with_residual else 1
    joined = [np.concatenate([part[i] for part in found]) for i in range(1 + inputs)]
    joined += [np.sum([part[i] for part in found], axis=0) for i in (inputs + 1, inputs + 2)]
    joined += found[0][inputs + 3 :]
    assert all(np.array_equal(a, b) for part in found for a, b in zip(part[-2:], joined[-2:], strict=True))
    rows, ulp = x.size // C, float(np.finfo(storage).eps)  # sums of so many terms in another order
    for ours, theirs in zip(joined, whole, strict=True):
        assert np.abs(ours - theirs).max() <= rows * ulp * max(1, np.abs(theirs).max())


def test_evaluation_uses_the_running_statistics() -> None:
    layer = fe.nn.Sequential(norm("fp32"))
    synchronise(layer, DataParallel(ThreadTransport(0, 2, {}, 0.1), "one-rounding", sync_norm=True))
    x = fe.tensor(np.ones((1, 1, 1, C), np.float32), device="reference")
    layer.eval()
    plain = fe.nn.Sequential(norm("fp32"))
    plain.eval()
    assert np.array_equal(layer(x).numpy(), plain(x).numpy())
