"""The meter asks the optimizer what a step subtracts; it knows no optimizer by its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.numerics.stagnation import Meter, Updates
from fp16engine.optim import SGD, Adam, AdamW, Optimizer, RMSprop

OPTIMIZERS = [
    (SGD, {"lr": 1e-3}),
    (SGD, {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (Adam, {"weight_decay": 0.1}),
    (Adam, {"state": "plain"}),
    (AdamW, {}),
    (RMSprop, {"lr": 1e-4, "momentum": 0.9}),
]


def _step(kind: type[Optimizer], options: dict[str, Any]) -> tuple[Updates, fe.Tensor, fe.Tensor]:
    rng = np.random.default_rng(0)
    w = fe.tensor(rng.standard_normal((8, 4)), "float16", "reference", requires_grad=True)
    before = w.detach().astype("float32")
    optimizer = kind([w], **options)
    w.accumulate_grad(fe.tensor(rng.standard_normal((8, 4)), "float16", "reference").data)
    meter = Meter(optimizer, ["layer.w"])
    optimizer.step(count=True)
    (updates,) = meter.after()
    return updates, before, w.astype("float32")


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS)
def test_the_change_is_what_the_weights_moved_by(kind: type[Optimizer], options: dict[str, Any]) -> None:
    """Within a gap of binary16 a weight: each stored weight is the nearest to the exact one."""
    updates, before, after = _step(kind, options)
    moved = np.abs(after.numpy() - before.numpy())
    gaps = np.spacing(np.abs(before.numpy()).astype(np.float16)).astype(np.float64)
    assert updates.size > 0
    assert abs(updates.size - moved.sum(dtype=np.float64)) <= gaps.sum()


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS)
def test_an_optimizer_of_ones_own_is_measured_as_what_it_derives_from(
    kind: type[Optimizer], options: dict[str, Any]
) -> None:
    own = type("Own", (kind,), {})
    assert _step(own, options)[0].to_dict() == _step(kind, options)[0].to_dict()
    assert _step(own, options)[0].size == _step(kind, options)[0].size


def test_an_optimizer_that_does_not_say_has_counts_and_no_sizes() -> None:
    silent = type("Silent", (SGD,), {"change": Optimizer.change})
    updates = _step(silent, {"lr": 1e-3})[0]
    assert updates.nonzero == 32 and updates.size == 0 and updates.factor() is None
