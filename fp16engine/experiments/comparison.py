"""What all runs of a comparison share, and the trainer of one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import models
from ..floats import is_sixteen_bit
from ..precision import Precision
from ..train import TrainConfig, Trainer
from ..train.functions import stored
from ..validate import integer, must_be

if TYPE_CHECKING:
    from ..data import Dataset
    from ..nn import Module

REFERENCE = "fp32"


def reference(precisions: Iterable[str]) -> str:
    """Return which precision the others are compared with: fp32, whatever its convolutions are by.

    >>> reference(["fp16+direct", "fp32+direct"]), reference(["fp16"])
    ('fp32+direct', 'fp32')
    """
    names = list(precisions)
    if REFERENCE in names:
        return REFERENCE
    return next((name for name in names if name.partition("+")[0] == REFERENCE), REFERENCE)


@dataclass(frozen=True)
class Comparison:
    """The settings of a comparison; `training` without the changes of a precision that `policies` has made.

    `build` makes the network of a seed where it is none of `models.create`; its `digest` tells whether a
    resumed comparison has the same one.

    Raises ValueError for no precision, or one that is there twice, and for `seeds` below 1.
    """

    model: str
    data: str
    policies: tuple[Precision, ...]
    epochs: int
    batch_size: int
    training: TrainConfig
    seed: int
    seeds: int
    device: str
    train_images: int
    test_images: int
    build: Callable[[Dataset, int], Module] | None = None

    def __post_init__(self) -> None:
        names = self.precisions
        if not names:
            raise ValueError("precision must be at least one name, got none")
        if len(set(names)) < len(names):
            raise ValueError(must_be("precision", "different names", ",".join(names)))
        integer("seeds", self.seeds, 1)

    @property
    def precisions(self) -> list[str]:
        """The names of the precisions, in their order."""
        return [policy.name for policy in self.policies]

    @property
    def all_seeds(self) -> range:
        """The seeds of the runs."""
        return range(self.seed, self.seed + self.seeds)

    def run_name(self, precision: str, seed: int) -> str:
        """The folder of a run: the first seed has the precision's name, the others the seed's too."""
        return precision if seed == self.seed else f"{precision}-seed{seed}"

    def trainer(
        self, policy: Precision, dataset: Dataset, seed: int | None = None, **options: Any
    ) -> Trainer:
        """A trainer of one run, on its untrained network; the first seed's unless `seed` says another.

        `options` are arguments of `Trainer` that change no bit of a step that is applied.
        """
        seed = self.seed if seed is None else seed
        model = (self.build or self._created)(dataset, seed)
        training = self.training.without_policy()
        return Trainer.of(model, policy, training, self.device, seed, **options)

    def _created(self, dataset: Dataset, seed: int) -> Module:
        model = models.create(
            self.model,
            num_classes=len(dataset.classes),
            image_size=dataset.image_size,
            channels=dataset.channels,
            seed=seed,
        )
        return models.prepare(model, dataset)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values: what a resumed comparison must have the same, and summary.json."""
        training = self.training.arguments()
        if self.training.augment is not None:
            training["augment"] = self.training.augment.to_dict()
        if self.training.refinements is not None:
            training["refinements"] = self.training.refinements.to_dict()
        for name in ("optimizer", "schedule", "loss"):
            training[name] = stored(training[name])
        plain = {"warmup": 0, "betas": None, "refinements": None, "loss": "cross_entropy", "accumulate": 1}
        for name, value in plain.items():  # only where they are given
            if training[name] == value:
                del training[name]
        digest = getattr(self.build, "digest", None)
        return {
            "model": self.model,
            **({} if digest is None else {"model_digest": digest}),
            "data": self.data,
            "precisions": self.precisions,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            **training,
            "seed": self.seed,
            "seeds": self.seeds,
            "device": self.device,
            "train_images": self.train_images,
            "test_images": self.test_images,
        }


def policies(precisions: Sequence[str], training: TrainConfig) -> tuple[Precision, ...]:
    """The precisions with `update`, `statistics` and `convolution` of `training`, where they have the choice.

    `update` is for those that update 16-bit weights in place, `statistics` for 16-bit running statistics,
    `convolution` for stored operands and FP32 accumulators.
    """
    return tuple(_changed(Precision.get(name), training) for name in precisions)


def _changed(policy: Precision, training: TrainConfig) -> Precision:
    own = policy.update == "master32" or policy.name == "bf16-sr"  # what the name promises
    if training.update is not None and is_sixteen_bit(policy.storage) and not own:
        policy = policy.changed(update=training.update)
    if training.statistics is not None and is_sixteen_bit(policy.statistics):
        policy = policy.changed(statistics_form=training.statistics)
    if training.convolution is not None and policy.has_winograd:
        policy = policy.changed(convolution=training.convolution)
    return policy
