"""An experiment small enough for a test; as a script it is done in the folder given, with kills survived."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import small_dnn

from fp16engine.data import Dataset, Split
from fp16engine.experiments import reproduce
from fp16engine.experiments.experiment import Arm, Case, Experiment, Request, Results, plain_arms
from fp16engine.experiments.report.parts import Claim, Part
from fp16engine.experiments.runs.spec import PROBABILITIES


def data(count: int = 40, seed: int = 0) -> Dataset:
    """4x4 images whose brightest third tells the class."""
    rng = np.random.default_rng(seed)

    def split(size: int) -> Split:
        labels = rng.integers(0, 3, size)
        images = rng.integers(0, 120, (size, 4, 4, 1))
        images[np.arange(size), labels] += 100
        return Split(images.astype(np.uint8), labels.astype(np.int64))

    return Dataset("tiny", split(count), split(20), tuple("abc"))


class Tiny(reproduce.DatasetCache):
    """A cache that has the tiny data set only."""

    def get(self, name: str) -> tuple[Dataset, str]:
        made = self.by_fingerprint.setdefault(f"tiny {name}", data())
        return made, f"tiny {name}"


def report(results: Results) -> list[Part]:
    return [Claim(f"{len(results.runs)} runs")]


# An Adam whose learning rate no FP16 weight survives: its runs fail.
WILD = Arm("wild", "fp16", {"optimizer": "adam", "lr": 3e4, "momentum": None, "max_bad_steps": 3})
EXPERIMENT = Experiment(
    name="tiny",
    title="Tiny",
    claim="Nothing.",
    cases=(Case("dnn", "tiny"),),
    arms=(*plain_arms("fp16", "fp32"), WILD),
    seeds=1,
    epochs=2,
    batch_size=16,
    training={"optimizer": "sgd", "lr": 0.05, "momentum": 0.9},
    keep=(PROBABILITIES,),
    report=report,
)
DEVICE = "reference"


def prepare(out: Path, experiment: Experiment = EXPERIMENT, device: str = DEVICE, **options: Any) -> Any:
    """`reproduce.prepare` on the tiny data, quietly."""
    request = Request(device=device)
    return reproduce.prepare([experiment], request, Tiny(), out, **{"progress": False, **options})


def main() -> None:
    """study_run.py OUT: do what is missing, saving every step."""
    small_dnn.module.HIDDEN = small_dnn.UNITS
    with prepare(Path(sys.argv[1]), checkpoint_every=1) as session:
        session.run()
        session.compare()


if __name__ == "__main__":
    main()
