"""The running statistics that the micro-batches of a step leave become one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_run

import fp16engine as fe
from fp16engine.train.buffer_means import mean_buffers


def rows(states: list[dict[str, np.ndarray]], names: list[str]) -> np.ndarray:
    return np.stack([np.concatenate([s[n].astype(np.float64).ravel() for n in names]) for s in states])


def found(precision: str, batches: list[np.ndarray]) -> tuple[fe.Trainer, list[dict[str, Any]]]:
    """A trainer, and its buffers after each batch alone, which each start from the same state."""
    trainer = tiny_run.trainer(precision, device="reference")
    state, after = trainer.state, []
    start = {name: np.array(b.numpy()) for name, b in state.buffers}
    for batch in batches:
        for name, buffer in state.buffers:
            buffer.data = start[name].copy()
        with trainer.precision.use():
            trainer.model.train()
            trainer.model(fe.tensor(batch.astype(trainer.precision.storage), device="reference"))
        after.append({name: np.array(b.numpy()) for name, b in state.buffers})
    return trainer, after


@pytest.mark.parametrize("precision", ["fp16", "mp", "fp32"])
def test_mean_and_variance_are_averaged_and_the_counter_moves_once(precision: str) -> None:
    rng = np.random.default_rng(0)
    trainer, after = found(precision, [rng.standard_normal((8, 4, 4, 1)) * s + s for s in (1, 2, 5)])
    names = [name for name, _ in trainer.state.buffers]
    mean_buffers(trainer.state, rows(after, names))
    now = {name: b.numpy().astype(np.float64) for name, b in trainer.state.buffers}

    def moments(state: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        wide = {name: value.astype(np.float64) for name, value in state.items()}
        if "1.rest" not in wide:
            return wide["1.running_mean"], wide["1.running_var"]
        mean = wide["1.running_mean"] + wide["1.rest"][0]
        return mean, (wide["1.running_std"] + wide["1.rest"][1]) ** 2

    expected = [np.mean(column, axis=0) for column in zip(*map(moments, after), strict=True)]
    for ours, theirs in zip(moments(now), expected, strict=True):
        assert ours == pytest.approx(theirs, rel=float(8 * np.finfo(np.float32).eps))
    assert now["1.updates"].tolist() == [1]


def test_equal_statistics_keep_their_bits() -> None:
    trainer, after = found("fp16", [np.random.default_rng(0).standard_normal((8, 4, 4, 1)) * 7])
    names = [name for name, _ in trainer.state.buffers]
    mean_buffers(trainer.state, rows(after * 3, names))
    assert all(b.numpy().tobytes() == after[0][name].tobytes() for name, b in trainer.state.buffers)
