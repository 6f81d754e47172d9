"""The captured step against the eager one: the same bits, with skipped steps and a learning-rate schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine.loss_scale import LossScale
from fp16engine.precision import Precision
from fp16engine.train.batches import ImageOrder
from fp16engine.train.captured import CapturedStep

BATCH = 16


@dataclass(frozen=True)
class Training:
    """A short training: `spread` of the images' values, wide where gradients are to overflow."""

    precision: str
    model: str
    lr: float
    spread: float
    clip_norm: float | None = None
    measured: bool = False  # an automatic loss scale

    @property
    def name(self) -> str:
        extra = " clipped" * (self.clip_norm is not None) + " auto" * self.measured
        return f"{self.precision} {self.model}{extra}"

    def policy(self) -> Precision:
        """Return the policy; a loss scale grows every other step, so that steps are skipped all along."""
        policy = Precision.get(self.precision)
        if self.measured:
            return policy.changed(loss_scale=LossScale.from_histogram())
        hasty = LossScale(interval=2)
        return replace(policy, name="hasty mp", loss_scale=hasty) if policy.loss_scale else policy


TRAININGS = (
    Training("fp16", "resnet20", 0.1, 1.0),
    Training("mp", "resnet20", 0.1, 1.0),
    Training("mp", "dnn", 1e-3, 100.0),
    Training("mp", "dnn", 1e-3, 100.0, clip_norm=1.0),
    Training("fp16", "dnn", 1e-2, 1.0, measured=True),
    Training("hbfp4-sr", "dnn", 1e-2, 1.0),
)


def compare(device: str, steps: int, trainings: Sequence[Training] = TRAININGS) -> dict[str, Any]:
    """Train twice each way and return what differs; "failed" says so in a sentence.

    A device that records no steps is reported under "skipped".
    """
    if not backends.get(device).capabilities.captured_steps:
        return {"skipped": f"device {device!r} records no steps"}
    result: dict[str, Any] = {"device": device, "steps": steps, "skipped_steps": 0, "trainings": {}}
    failed = []
    for training in trainings:
        eager, captured = (train(device, training, steps, capture=capture) for capture in (False, True))
        found = differences(eager, captured)
        result["skipped_steps"] += sum(not applied for applied in captured["applied"])
        result["trainings"][training.name] = {"different": found, "fallback": captured["fallback"]}
        failed += [f"{training.name}: {', '.join(found[:5])}"] if found else []
        failed += [f"{training.name}: {captured['fallback']}"] if captured["fallback"] else []
    if not result["skipped_steps"]:
        failed.append("no step was skipped, so skipping was not tried")
    return {**result, **({"failed": "; ".join(failed)} if failed else {})}


def train(device: str, training: Training, steps: int, capture: bool = False) -> dict[str, Any]:
    """Train for `steps` steps and return losses, which were applied, and every array that stays."""
    model = fe.models.create(training.model, image_size=8, channels=1, seed=3)
    settings: dict[str, Any] = {"lr": training.lr, "clip_norm": training.clip_norm, "schedule": "cosine"}
    trainer = fe.Trainer(model, training.policy(), device=device, seed=5, **settings)
    trainer.set_total_steps(steps)
    generator = np.random.default_rng(7)
    images = training.spread * generator.standard_normal((steps * BATCH, 8, 8, 1)).astype(np.float32)
    labels = generator.integers(0, 10, steps * BATCH)
    step = None
    if capture:
        stored = backends.get(device).from_numpy(images.astype(trainer.precision.storage))
        step = CapturedStep(trainer, stored, labels, BATCH)
        step.begin(ImageOrder(0, np.arange(len(labels))), 0)
        for _ in range(steps):
            step.replay()
        results = [result for result, _ in step.outcomes()]
    else:
        cuts = [slice(i * BATCH, (i + 1) * BATCH) for i in range(steps)]
        results = [trainer.step(images[cut], labels[cut]) for cut in cuts]
    host = backends.get(device).to_numpy
    arrays = {f"model {name}": np.asarray(value) for name, value in model.state_dict().items()}
    for name, value in trainer.optimizer.state_dict().items():
        if hasattr(value, "dtype"):
            arrays[f"optimizer {name}"] = np.asarray(value if isinstance(value, np.ndarray) else host(value))
    return {
        "losses": np.asarray([result.loss for result in results]),
        "applied": [result.applied for result in results],
        "arrays": arrays,
        "fallback": None if step is None else step.reason,
    }


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return what two runs do not share, bit for bit."""
    pairs = zip(one["losses"], other["losses"], strict=True)
    found = [f"loss of step {i}" for i, (a, b) in enumerate(pairs) if a.tobytes() != b.tobytes()]
    if one["applied"] != other["applied"]:
        found.append("which steps were applied")
    if one["arrays"].keys() != other["arrays"].keys():
        return [*found, "the names of the arrays"]
    for name, a in one["arrays"].items():
        b = other["arrays"][name]
        if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
            found.append(name)
    return found
