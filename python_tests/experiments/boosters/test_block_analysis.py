"""Wasserstein distances, loss landscapes and counted operations."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import nn
from fp16engine.data import Dataset
from fp16engine.experiments.boosters import distance, landscape
from fp16engine.experiments.boosters.operations import Operations, of_run
from fp16engine.train.batches import DeviceSplit


def _data(train: int = 48) -> Dataset:
    return fe.data.digits().limit(train)


def _trainer(precision: str | fe.Precision, device: str) -> fe.Trainer:
    with fe.random.fork(7):
        model = nn.Sequential(nn.Conv2d(1, 2, 3, stride=4), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 10))
    return fe.Trainer(model, precision=precision, device=device, lr=0.05)


@pytest.mark.slow
def test_distance_is_the_mean_move_of_sorted_samples() -> None:
    """For two samples of one size W1 is the mean difference of their sorted values."""
    w = np.random.default_rng(0).standard_normal((4, 3, 3, 5)).astype(np.float32)
    fmt = fe.BlockFormat(4, 16)
    blocks = fe.backend.blocks.kernels(w.shape)
    rounded = fe.backend.get("reference").quantize(w, blocks, fmt)
    by_hand = np.abs(np.sort(w, axis=None).astype(float) - np.sort(rounded, axis=None)).mean()
    assert distance.wasserstein(w, fmt) == pytest.approx(by_hand)
    fine = np.arange(1, 16, dtype=np.float32).reshape(1, 15)  # what HBFP4 holds exactly
    assert distance.wasserstein(fine, fmt) == 0


def test_distance_of_every_layer_and_format() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    formats = [fe.BlockFormat(4), fe.BlockFormat(6)]
    found = distance.weight_distances(model, formats)
    assert [(d.path, d.layer, d.layers, d.fmt.mantissa) for d in found] == [
        ("0", 0, 2, 4), ("3", 1, 2, 4), ("0", 0, 2, 6), ("3", 1, 2, 6)
    ]  # fmt: skip
    assert all(four.distance > 3 * six.distance for four, six in zip(found[:2], found[2:], strict=True))


def test_distance_without_scipy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fp16engine\[analysis\]'"):
        distance.wasserstein(np.ones((1, 2)), fe.BlockFormat(4))


def test_directions_are_as_long_as_the_filters() -> None:
    w = np.random.default_rng(0).standard_normal((5, 3, 3, 2)).astype(np.float32)
    w[2] = 0
    d = landscape.direction({"w": w, "b": np.ones(5, np.float32)}, seed=3)
    assert list(d) == ["w"]
    norms = [np.linalg.norm(a.reshape(5, -1).astype(np.float64), axis=1) for a in (d["w"], w)]
    np.testing.assert_allclose(*norms)
    again = landscape.direction({"w": w}, seed=4)["w"]
    assert (again[0] != d["w"][0]).all()


def test_landscapes_agree_and_leave_the_weights(backend_name: str) -> None:
    trainer, data = _trainer("hbfp4", backend_name), _data(20)
    resident = DeviceSplit.of(data, "test", "float32", backend_name)
    before = trainer.model.state_dict()
    line = landscape.line(trainer, resident, [-1.0, 0.0, 1.0], seed=5)
    plane = landscape.plane(trainer, resident, [0.0, 1.0], [0.0, -0.5], seeds=(5, 6))
    after = trainer.model.state_dict()
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert line[1] == plane[0, 0] == trainer.evaluator.score(resident, 256)[1]
    assert line[2] == plane[1, 0]
    assert len({*line.tolist(), *plane.reshape(-1).tolist()}) == 5  # every other place has a loss of its own


def test_operations_by_hand(backend_name: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.Flatten(), nn.Linear(16, 3)).to(backend_name)
    fe.train.layer_formats.assign(model, fe.Precision.get("hbfp4").with_layers({"2": "fp32"}))
    x = fe.tensor(np.ones((5, 4, 4, 2), np.float32), device=backend_name)
    with Operations() as operations, fe.Precision.get("hbfp4").use():
        model(x).sum().backward()
    # the convolution's images need no gradient: two products; the linear layer has three
    assert operations.by_format == {
        "hbfp4": 2 * 2 * (5 * 2 * 2 * 4 * 3 * 3 * 2),
        "stored": 3 * 2 * (5 * 16 * 3),
    }


def test_operations_of_matrix_products_and_attention() -> None:
    q = fe.tensor(np.ones((2, 3, 5, 4), np.float32), device="reference", requires_grad=True)
    with Operations() as operations:
        fe.functional.attention(q, q, q).sum().backward()
    assert operations.by_format == {"stored": 2 * 6 * (2 * 3 * 5 * 5 * 4)}
    a, b = (
        fe.tensor(np.ones(s, np.float32), device="reference", requires_grad=True) for s in ((5, 7), (7, 2))
    )
    with Operations() as operations:
        (a @ b).sum().backward()
    assert operations.by_format == {"stored": 2 * 3 * 5 * 7 * 2}


def test_a_run_is_counted_as_its_steps_are() -> None:
    """One step per policy, times the steps, against every step of the real run counted."""
    plan = fe.operand_plan.OperandPlan(late=fe.BlockFormat(6))
    choices = {"plan": plan, "name": "hbfp4, the last epoch in hbfp6"}
    policy = fe.Precision(**{**vars(fe.Precision.get("hbfp4")), **choices})
    data = _data()
    trainer = _trainer(policy, "reference")
    images = data.normalised("train", "float32")
    with Operations() as operations:
        for epoch in range(3):
            trainer.begin_epoch(epoch, 3)
            for start in range(0, 48, 16):
                trainer.step(images[start : start + 16], data.train.labels[start : start + 16])
    counted = of_run(_trainer(policy, "reference"), images[:16], data.train.labels[:16], 3, 3)
    assert counted == operations.by_format
    assert counted["hbfp4"] == 2 * counted["hbfp6"]
