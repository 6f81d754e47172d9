"""What defines a training run of a study, and the key that follows from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...data.augment import Augmentation
from ...precision import Precision

# Goes up whenever a change of the engine changes the bits of a run, so that results kept from before are
# not taken for today's.
RESULTS_VERSION = 8

PROBABILITIES = "probabilities"  # of the test set, after every epoch


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides the result of one run, and nothing else that does.

    `training` are `Trainer`'s keyword arguments and `fitting` those of `Trainer.fit`, JSON values; None means
    an argument that is not given. `device` is a kind ("cpu", "cuda"), without a number. `keep` names what the
    run leaves behind in addition to its figures (`PROBABILITIES`). `data` is what people call the data set;
    only its content counts for the key.

    >>> spec = RunSpec("dnn", "digits", "00", 32, 32, "fp16", epochs=1, batch_size=8, seed=0)
    >>> spec.key == RunSpec("dnn", "numbers", "00", 32, 32, "fp16", epochs=1, batch_size=8, seed=0).key
    True
    """

    model: str
    data: str
    data_sha256: str
    train_images: int
    test_images: int
    precision: str
    epochs: int
    batch_size: int
    seed: int
    device: str = "cpu"
    training: Mapping[str, Any] = field(default_factory=dict)
    fitting: Mapping[str, Any] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    results_version: int = RESULTS_VERSION

    def document(self) -> dict[str, Any]:
        """Return the fields as JSON values, with what the names of precision and augmentation stand for."""
        fields = {**asdict(self), "keep": list(self.keep)}
        for name in ("training", "fitting"):
            fields[name] = {k: v for k, v in sorted(fields[name].items()) if v is not None}
        augment = Augmentation.get(self.training.get("augment"))
        return {
            **fields,
            "precision_choices": json.loads(json.dumps(asdict(Precision.get(self.precision)))),
            "augment_choices": None if augment is None else augment.to_dict(),
        }

    @property
    def key(self) -> str:
        """Return 24 hexadecimal digits of the SHA-256 of what defines the run."""
        document = {name: value for name, value in self.document().items() if name != "data"}
        return hashlib.sha256(canonical(document).encode()).hexdigest()[:24]

    @property
    def label(self) -> str:
        """Return the run in a few words: model, data, precision, what its training differs in, seed."""
        words = [self.model, f"on {self.data},", self.precision]
        words += [f"{k} {v}" for k, v in sorted({**self.training, **self.fitting}.items()) if k in _TELLING]
        return " ".join([*words, f"seed {self.seed}"])

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> RunSpec:
        """Return the spec that `document` describes."""
        fields = {name: value for name, value in document.items() if not name.endswith("_choices")}
        return cls(**{**fields, "keep": tuple(fields["keep"])})


_TELLING = ("eps", "state", "augment", "update", "statistics")


def canonical(value: Any) -> str:
    """Return a JSON value as the one text that equal values share."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
