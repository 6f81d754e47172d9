"""Experiments as data: what is trained, how often and for how long, and what is made of the results.

An `Experiment` lists cases (a model on a data set) and arms (a precision, with settings of its own); every
case is trained in every arm with every seed. `plan` turns that and a `Request` (what the command line
changes) into runs; `Results` hands their rows to the experiment's `report`. How to add one: docs/study.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..precision import Precision
from .report.spread import Spread
from .runs.spec import RunSpec
from .runs.store import DONE, FAILED, Row, Store

if TYPE_CHECKING:
    from ..data import Dataset
    from .report.parts import Part

# Training and test images of the data sets that the studies use whole.
FULL_SIZES = {"cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "mnist": (60_000, 10_000)}


@dataclass(frozen=True)
class Case:
    """A model, and the data set that the study trained it on.

    Args:
        model: a name that `models.create` knows.
        data: a name that `data.load` knows.

    >>> Case("resnet20").data
    'cifar10'
    """

    model: str
    data: str = "cifar10"


@dataclass(frozen=True)
class Arm:
    """A way to train: a precision, and settings that only this arm changes.

    Args:
        label: what reports call it.
        precision: the name of a preset.
        training: keyword arguments of `Trainer`.

    >>> Arm("adam", "fp16", {"optimizer": "adam"}).precision
    'fp16'
    """

    label: str
    precision: str
    training: Mapping[str, Any] = field(default_factory=dict)


def plain_arms(*precisions: str) -> tuple[Arm, ...]:
    """Return an arm per precision, with no settings of its own.

    Args:
        *precisions: names of presets.

    >>> [arm.label for arm in plain_arms("fp16", "fp32")]
    ['fp16', 'fp32']
    """
    return tuple(Arm(name, name) for name in precisions)


@dataclass(frozen=True)
class Experiment:
    """A table or a figure of a study, as the study ran it.

    Args:
        name: what the command calls it.
        title: of the report.
        claim: what the study found, in a sentence.
        cases: models and their data sets.
        arms: ways to train.
        seeds: runs of each case in each arm.
        epochs: of a run.
        batch_size: of a run.
        report: turns `Results` into tables and pictures.
        training: keyword arguments of `Trainer` that all arms share.
        fitting: arguments of `Trainer.fit` that all arms share.
        keep: what runs leave behind in addition to figures.

    >>> cases, arms = (Case("dnn", "digits"),), plain_arms("fp16")
    >>> tiny = Experiment("tiny", "Tiny", "Nothing.", cases, arms, 1, 1, 16, report=list)
    >>> tiny.arms[0].label
    'fp16'
    """

    name: str
    title: str
    claim: str
    cases: tuple[Case, ...]
    arms: tuple[Arm, ...]
    seeds: int
    epochs: int
    batch_size: int
    report: Callable[[Results], list[Part]]
    training: Mapping[str, Any] = field(default_factory=dict)
    fitting: Mapping[str, Any] = field(default_factory=dict)
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What a caller changes of an experiment; None leaves it as the study had it.

    Args:
        seeds: runs of each case in each arm.
        epochs: of a run.
        batch_size: of a run.
        models: the models that are run; one that the experiment does not have is added, with the data set of
            the first case.
        precisions: the precisions that are run; one that the experiment does not have is added, as an arm of
            its own.
        device: "cpu", "cuda", "cuda:1" or "reference".
        activation: takes the place of every network's own non-linearity.
        training: keyword arguments of `Trainer` that override those of every arm.
        fitting: arguments of `Trainer.fit` that override those of every arm.

    >>> Request(epochs=1).device
    'cpu'
    """

    seeds: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    models: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    device: str = "cpu"
    activation: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    fitting: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """One run of a plan: where it stands in the experiment, and its spec."""

    case: Case
    arm: Arm
    spec: RunSpec


Data = Callable[[str], "tuple[Dataset, str]"]  # a data set's name -> what is used for it, and its fingerprint


def plan(experiment: Experiment, request: Request, data: Data) -> list[Planned]:
    """Return the runs of an experiment, first seed first, so that every stage of the work is a whole picture.

    Args:
        experiment: as the study ran it.
        request: what is changed.
        data: gives what is used for a data set's name, and its fingerprint.

    Raises:
        ValueError: the selection leaves nothing, or a setting is out of range.
        UnsupportedPrecision: there is no such combination.

    >>> import fp16engine as fe
    >>> cases, arms = (Case("dnn", "digits"),), plain_arms("fp16")
    >>> tiny = Experiment("tiny", "Tiny", "Nothing.", cases, arms, 2, 1, 16, report=list)
    >>> runs = plan(tiny, Request(), lambda name: (fe.data.digits(), "fingerprint"))
    >>> [(run.case.model, run.arm.label, run.spec.seed) for run in runs]
    [('dnn', 'fp16', 0), ('dnn', 'fp16', 1)]
    """
    result = []
    cases, arms = _cases(experiment, request), _arms(experiment, request)
    for seed in range(request.seeds or experiment.seeds):
        for case in cases:
            dataset, sha256 = data(case.data)
            for arm in arms:
                spec = RunSpec(
                    model=case.model,
                    data=dataset.name,
                    data_sha256=sha256,
                    train_images=len(dataset.train),
                    test_images=len(dataset.test),
                    precision=arm.precision,
                    epochs=request.epochs or experiment.epochs,
                    batch_size=request.batch_size or experiment.batch_size,
                    seed=seed,
                    device=request.device.partition(":")[0],
                    training={**experiment.training, **arm.training, **request.training},
                    fitting={**experiment.fitting, **request.fitting},
                    keep=experiment.keep,
                )
                result.append(Planned(case, arm, spec))
    return result


def _cases(experiment: Experiment, request: Request) -> list[Case]:
    known = {case.model: case for case in experiment.cases}
    names = known if request.models is None else request.models
    cases = [known.get(name, Case(name, experiment.cases[0].data)) for name in names]
    if request.activation is None:
        return cases
    return [replace(case, model=f"{case.model.partition('+')[0]}+{request.activation}") for case in cases]


def _arms(experiment: Experiment, request: Request) -> list[Arm]:
    if request.precisions is None:
        return list(experiment.arms)
    chosen: list[Arm] = []
    for name in request.precisions:
        Precision.get(name)
        chosen += [arm for arm in experiment.arms if arm.precision == name] or plain_arms(name)
    return chosen


@dataclass(frozen=True)
class Results:
    """An experiment's runs with what the store knows of them, in the order of the plan."""

    experiment: Experiment
    runs: tuple[tuple[Planned, Row], ...]
    store: Store

    @property
    def cases(self) -> list[Case]:
        """Return the cases of the plan."""
        return list(dict.fromkeys(planned.case for planned, _ in self.runs))

    @property
    def arms(self) -> list[Arm]:
        """Return the arms of the plan."""
        return list({planned.arm.label: planned.arm for planned, _ in self.runs}.values())

    def rows(self, case: Case, arm: str, *statuses: str) -> list[Row]:
        """Return the runs of a case in an arm (its label), one per seed; by default those done and failed."""
        return [
            row
            for planned, row in self.runs
            if (planned.case, planned.arm.label) == (case, arm) and row.status in (statuses or (DONE, FAILED))
        ]

    def figures(self, case: Case, arm: str, name: str) -> list[float | None]:
        """Return one figure of these runs, decided or measured; of a failed run that of its last state."""
        return [{**row.measured, **row.figures}.get(name) for row in self.rows(case, arm)]

    def spread(self, case: Case, arm: str, name: str) -> Spread | None:
        """Return mean and deviation of a figure over the seeds."""
        return Spread.of(self.figures(case, arm, name))

    def count(self, status: str) -> int:
        """Return how many runs have a status."""
        return sum(row.status == status for _, row in self.runs)

    def reductions(self) -> list[str]:
        """Return in words what was made smaller or otherwise than in the study; nothing for all of it."""
        experiment, specs = self.experiment, [planned.spec for planned, _ in self.runs]
        result = []
        seeds, epochs = len({spec.seed for spec in specs}), specs[0].epochs
        for ours, theirs, noun in ((epochs, experiment.epochs, "epoch"), (seeds, experiment.seeds, "seed")):
            if ours < theirs:
                result.append(f"{ours} of {_counted(theirs, noun)}")
            elif ours > theirs:
                result.append(f"{_counted(ours, noun)} instead of {theirs}")
        for name in dict.fromkeys(planned.case.data for planned, _ in self.runs):
            spec = next(planned.spec for planned, _ in self.runs if planned.case.data == name)
            result += _less_data(name, spec)
        if len(self.cases) < len(experiment.cases):
            result.append(f"{len(self.cases)} of {len(experiment.cases)} models")
        if specs[0].batch_size != experiment.batch_size:
            result.append(f"batch {specs[0].batch_size} instead of {experiment.batch_size}")
        shared = {**experiment.training, **experiment.fitting}
        for name, value in {**specs[0].training, **specs[0].fitting}.items():
            own = any(name in arm.training for arm in self.arms)
            if not own and shared.get(name) != value:
                result.append(f"{name} {value}" + (f" instead of {shared[name]}" if shared.get(name) else ""))
        unfinished = len(self.runs) - self.count(DONE) - self.count(FAILED)
        if unfinished:
            result.append(f"{unfinished} of {len(self.runs)} runs not done yet")
        return result


def _less_data(name: str, spec: RunSpec) -> list[str]:
    counts = (spec.train_images, spec.test_images)
    full = FULL_SIZES.get(name, counts)
    if spec.data != name and counts != full:
        return [f"{spec.data} ({counts[0]:,} training and {counts[1]:,} test images) in place of {name}"]
    result = [f"{spec.data} in place of {name}"] if spec.data != name else []
    for part, count, all_of_it in zip(("training", "test"), counts, full, strict=True):
        if count != all_of_it:
            result.append(f"{count:,} of {all_of_it:,} {part} images of {name}")
    return result


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
