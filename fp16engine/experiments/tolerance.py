"""Two trained networks, or one under two policies, on one test set: how far apart their predictions are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import backend as backends
from .. import functional as F
from ..numerics import calibration, lockstep
from ..numerics.tolerance import analyse, delta, gamma_paper, gamma_sound
from ..precision import Precision
from ..reporting.files import make_folder, write_atomically
from ..train import Checkpoint, Trainer
from .runs.results_dir import write_json

if TYPE_CHECKING:
    from ..data import Dataset

RESULT = "tolerance.json"
SAMPLES = "samples.csv"
PLOT = "delta-gamma"
LOCKSTEP_IMAGES = 64


def run(
    reference: Checkpoint,
    other: Checkpoint | None,
    dataset: Dataset,
    *,
    reference_precision: str | None = None,
    precision: str | None = None,
    device: str = "cpu",
    batch_size: int = 256,
    out: Path | None = None,
) -> dict[str, Any]:
    """Compare two checkpoints on test images, or one with itself under another policy.

    Args:
        reference: the checkpoint that the other is measured against.
        other: another one with the same classes; None compares the reference with itself.
        dataset: its test images are used.
        reference_precision: replaces the policy that the reference was trained under; without `other`, None
            means "fp32".
        precision: replaces the other's policy; without `other`, None means "fp16".
        device: "cpu", "cuda", "cuda:1" or "reference".
        batch_size: images of an evaluation step.
        out: folder for tolerance.json, samples.csv (a row per test image) and, with matplotlib, the scatter
            of delta and Gamma; None writes nothing.

    Returns:
        JSON values: delta, Gamma and shares (`numerics.analyse`) of the probabilities, of the calibrated
        probabilities and of the logits; accuracies; temperatures; and how far a training step of the
        reference's weights under the two policies diverges (`numerics.LockStep`; None where the policies are
        the same). What no image with finite outputs tells is None.

    Raises:
        CheckpointError: a checkpoint does not fit.
        ValueError: the two have other classes, or a precision does not exist.

    Source:
        arXiv 2305.10947 (delta, Gamma).

    >>> import tempfile
    >>> import fp16engine as fe
    >>> from fp16engine.experiments import tolerance
    >>> data, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fe.Trainer(model).fit(data, epochs=1, batch_size=32, out=folder, progress=False)
    ...     found = tolerance.run(fe.Checkpoint.load(folder), None, data)
    >>> found["reference"], found["other"], found["test_images"]
    ('fp32', 'fp16', 32)
    """
    policies = _policies(reference, other, reference_precision, precision)
    checkpoints = reference, other or reference
    names = _names(reference, other, policies)
    trainers = [
        Trainer(checkpoint.create_model(device), precision=policy, device=device)
        for checkpoint, policy in zip(checkpoints, policies, strict=True)
    ]
    labels = np.asarray(dataset.test.labels, np.int64)
    outputs = [_outputs(trainer, dataset, batch_size) for trainer in trainers]
    logits = [pair[0] for pair in outputs]
    if logits[0].shape != logits[1].shape:
        raise ValueError(
            f"other must have {logits[0].shape[1]} classes as the reference has, got {logits[1].shape[1]}"
        )
    finite = np.isfinite(logits[0]).all(axis=1) & np.isfinite(logits[1]).all(axis=1)
    temperatures = [
        calibration.temperature(z[finite], labels[finite]) if finite.any() else None for z in logits
    ]
    with np.errstate(invalid="ignore"):
        pairs = {
            "probabilities": [pair[1] for pair in outputs],
            "calibrated": [
                calibration.softmax(z, t or 1.0) for z, t in zip(logits, temperatures, strict=True)
            ],
            "logits": logits,
        }
    result: dict[str, Any] = {
        "reference": names[0],
        "other": names[1],
        "data": dataset.name,
        "device": device,
        "test_images": len(labels),
        "accuracy": [_accuracy(z, labels) for z in logits],
        "temperature": temperatures,
        **{kind: analyse(pair[0], pair[1], *names).to_dict() for kind, pair in pairs.items()},
        "lockstep": _lockstep(reference, policies, dataset, device),
    }
    if out is not None:
        _write(out, result, pairs["probabilities"], labels)
    return result


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the share of right answers; outputs that are not finite are wrong, and None where all are."""
    finite = np.isfinite(logits).all(axis=1)
    return float(np.mean(finite & (logits.argmax(axis=1) == labels))) if finite.any() else None


def _policies(
    reference: Checkpoint, other: Checkpoint | None, first: str | None, second: str | None
) -> tuple[Precision, Precision]:
    if other is None:
        return Precision.get(first or "fp32"), Precision.get(second or "fp16")
    return (
        Precision.get(first) if first else reference.precision,
        Precision.get(second) if second else other.precision,
    )


def _names(
    reference: Checkpoint, other: Checkpoint | None, policies: tuple[Precision, Precision]
) -> tuple[str, str]:
    one, two = (policy.name for policy in policies)
    if other is None or one != two:
        return one, two
    folders = [checkpoint.path.parent.name for checkpoint in (reference, other)]
    return f"{one} ({folders[0]})", f"{two} ({folders[1]})"


def _outputs(
    trainer: Trainer, dataset: Dataset, batch_size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits and probabilities of the test set, (N, classes) each, as the policy computes and stores them."""
    backend = backends.get(trainer.device)
    images = dataset.normalised("test", trainer.precision.storage)
    parts = []
    with trainer.evaluator.inference():
        for start in range(0, len(images), batch_size):
            batch = backend.from_numpy(np.ascontiguousarray(images[start : start + batch_size]))
            logits = trainer.evaluator.logits(batch)
            parts.append([np.array(t.numpy(), np.float64) for t in (logits, F.softmax(logits))])
    logits_of_all, probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
    return logits_of_all, probabilities


def _lockstep(
    reference: Checkpoint, policies: tuple[Precision, Precision], dataset: Dataset, device: str
) -> dict[str, Any] | None:
    """The reference's weights in a training step under both policies, on the first training images."""
    if policies[0] == policies[1]:
        return None
    return lockstep.compare(
        lambda: reference.create_model(device),
        dataset.normalised("train", "float32")[:LOCKSTEP_IMAGES],
        dataset.train.labels[:LOCKSTEP_IMAGES],
        precision=policies[1],
        reference=policies[0],
        device=device,
    ).to_dict()


def _class(probabilities: NDArray[np.float64]) -> str:
    """The number of the class that a network chooses; nothing where a probability is not finite."""
    return str(probabilities.argmax()) if np.isfinite(probabilities).all() else ""


def _write(
    out: Path, result: dict[str, Any], pair: list[NDArray[np.float64]], labels: NDArray[np.int64]
) -> None:
    make_folder(out)
    p, q = pair
    d, sound, paper = delta(p, q), gamma_sound(p), gamma_paper(p)
    guaranteed = sound > 2 * d
    lines = ["image,label,reference_class,other_class,delta,gamma,gamma_paper,guaranteed"]
    lines += [
        f"{i},{labels[i]},{_class(p[i])},{_class(q[i])},{d[i]:.9g},{sound[i]:.9g},{paper[i]:.9g},"
        f"{int(guaranteed[i])}"
        for i in range(len(labels))
    ]
    write_atomically(out / SAMPLES, "\n".join(lines) + "\n")
    write_json(out / RESULT, result)
    try:
        from .report import plots

        figure = plots.delta_gamma(
            d, sound, p.argmax(axis=1) == q.argmax(axis=1), result["other"], result["reference"]
        )
        plots.save(figure, out, PLOT)
    except ImportError:  # matplotlib is an extra; the figures are in samples.csv
        return
