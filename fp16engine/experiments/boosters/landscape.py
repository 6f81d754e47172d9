"""The loss around trained weights, along random directions of their own size (Li et al., 1712.09913)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ... import backend as backends

if TYPE_CHECKING:
    from ...train import Trainer
    from ...train.batches import DeviceSplit

Direction = dict[str, np.ndarray]


def direction(weights: dict[str, np.ndarray], seed: int) -> Direction:
    """Return a random direction with filter-wise normalisation: d = d * ||w|| / ||d|| for every output.

    weights: FP32 arrays by name, the outputs (filters) first. Entries are drawn from the normal distribution.
    Vectors (biases, norm scales and shifts) do not move, as in the paper.

    >>> d = direction({"w": np.ones((2, 8), np.float32), "b": np.ones(2, np.float32)}, seed=0)
    >>> bool(np.allclose(np.linalg.norm(d["w"], axis=1), 8**0.5)), "b" in d
    (True, False)
    """
    rng = np.random.default_rng(seed)
    made: Direction = {}
    for name, w in weights.items():
        if w.ndim < 2:
            continue
        flat = w.reshape(len(w), -1).astype(np.float64)
        drawn = rng.standard_normal(flat.shape)
        scale = np.linalg.norm(flat, axis=1) / np.linalg.norm(drawn, axis=1)
        made[name] = (drawn * scale[:, None]).reshape(w.shape)
    return made


def line(trainer: Trainer, data: DeviceSplit, steps: Sequence[float], seed: int = 0) -> np.ndarray:
    """Return the mean losses (len(steps),) at w + a * d for every a in `steps`; the weights stay as they are.

    data: the images and labels the loss is of, `batches.DeviceSplit`. Evaluated as `Trainer.evaluate` does,
    under the policy in force: a block format rounds the moved weights as it rounds the trained ones.
    """
    return plane(trainer, data, steps, [0.0], (seed, seed))[:, 0]


def plane(
    trainer: Trainer,
    data: DeviceSplit,
    across: Sequence[float],
    up: Sequence[float],
    seeds: tuple[int, int] = (0, 1),
) -> np.ndarray:
    """Return the mean losses (len(across), len(up)) at w + a * d + b * e, with two directions d and e."""
    with _weights(trainer) as stored:
        d, e = (direction(stored, seed) for seed in seeds)
        losses = np.empty((len(across), len(up)))
        for i, a in enumerate(across):
            for j, b in enumerate(up):
                _move(trainer, {name: stored[name] + a * d[name] + b * e[name] for name in d})
                losses[i, j] = trainer.evaluator.score(data, 256)[1]
    return losses


@contextlib.contextmanager
def _weights(trainer: Trainer) -> Iterator[dict[str, np.ndarray]]:
    """The FP32 values of the parameters, which are put back at the end."""
    stored = {name: np.array(p.numpy()) for name, p in trainer.model.named_parameters()}
    try:
        yield stored
    finally:
        _move(trainer, stored)


def _move(trainer: Trainer, values: dict[str, np.ndarray]) -> None:
    backend = backends.get(trainer.device)
    for name, parameter in trainer.model.named_parameters():
        if name in values:
            parameter.data = backend.from_numpy(values[name].astype(parameter.dtype))
