"""Experiments from end to end: plan, estimate, run what is missing, compare, report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import Dataset, load
from ..reporting.files import make_folder
from ..reporting.progress import Reporter, duration, reporter
from ..train.loop import data_fingerprint
from . import random_images, study_pages
from .experiment import Experiment, Planned, Request, Results, plan
from .runs import pairs
from .runs.estimate import Estimator
from .runs.runner import Outcome, RunWorker
from .runs.spec import RunSpec
from .runs.store import DONE, FAILED, PENDING, Row, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STORE, RUNS = "results.sqlite", "runs"


@dataclass
class DatasetCache:
    """The data sets that plans use, each loaded once.

    Args:
        instead: the name that is loaded in place of the one an experiment asks for; the entry "" is for all
            others.
        roots: where the files of a data set are; the entry "" is for all others.
        limit: images of each split that are used; None means all.
        test_limit: images of the test split; None means `limit`.
        download: get published files that are missing.
        random_if_absent: take random images where a published data set has no root: for estimates.
        by_fingerprint: what is loaded already.
        not_here: the data sets that random images take the place of.

    >>> DatasetCache(instead={"": "digits"}, limit=32).get("cifar10")[0]
    Dataset('digits', 32 training and 32 test images of 8x8x1, 10 classes)
    """

    instead: Mapping[str, str] = field(default_factory=dict)
    roots: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    test_limit: int | None = None
    download: bool = False
    random_if_absent: bool = False
    by_fingerprint: dict[str, Dataset] = field(default_factory=dict)
    not_here: list[str] = field(default_factory=list)
    _loaded: dict[str, tuple[Dataset, str]] = field(default_factory=dict)

    def get(self, name: str) -> tuple[Dataset, str]:
        """Return what is used for a data set, and its fingerprint.

        Args:
            name: what the experiment asks for.

        Raises:
            ValueError: there is no such data set.
            FileNotFoundError: its files are not there.
            DataError: its files are damaged, or no root is given.

        >>> dataset, fingerprint = DatasetCache(limit=32).get("digits")
        >>> len(dataset.train), len(fingerprint)
        (32, 64)
        """
        source = self.instead.get(name, self.instead.get("", name))
        if source not in self._loaded:
            root = self.roots.get(source, self.roots.get(name, self.roots.get("")))
            root = None if source == "digits" else root
            if (
                self.random_if_absent
                and root is None
                and not self.download
                and source in random_images.names()
            ):
                made = random_images.of_size(source, self.limit, self.test_limit or self.limit)
                self.not_here.append(source)
            else:
                made = self._shortened(load(source, root, download=self.download))
            sha256 = data_fingerprint(made)
            self._loaded[source] = (made, sha256)
            self.by_fingerprint[sha256] = made
        return self._loaded[source]

    def _shortened(self, whole: Dataset) -> Dataset:
        test = self.test_limit or self.limit
        if self.limit is None and test is None:
            return whole
        return replace(whole, train=whole.train.first(self.limit), test=whole.test.first(test))


@dataclass(frozen=True)
class StudySession:
    """Experiments with their plans, and the worker that does them."""

    experiments: Sequence[Experiment]
    plans: Sequence[Sequence[Planned]]
    worker: RunWorker
    out: Path
    shown: Reporter

    @property
    def specs(self) -> list[RunSpec]:
        """Return every run once: experiments share runs."""
        return list({p.spec.key: p.spec for planned in self.plans for p in planned}.values())

    def estimate(self) -> list[dict[str, Any]]:
        """Return the runs with their status and the seconds they need; measures what was never seen."""
        store, datasets = self.worker.store, self.worker.datasets
        status = store.status([spec.key for spec in self.specs])
        rows = []
        noted: set[tuple[str, str]] = set()
        for spec in self.specs:
            open_ = status[spec.key] not in (DONE, FAILED)
            kind = (spec.model, spec.precision)
            try:
                if open_:
                    if (
                        kind not in noted
                        and self.worker.estimator.known(spec, datasets[spec.data_sha256]) is None
                    ):
                        self.shown.note(f"measuring the speed of {spec.model} in {spec.precision}")
                        noted.add(kind)
                    self.worker.estimator.rate(spec, datasets[spec.data_sha256])
                reason = None
            except OSError:
                raise
            except Exception as error:  # this run will fail and say so; the others have estimates
                reason = f"{type(error).__name__}: {error}"
            seconds = self.worker.seconds([spec]) if open_ and reason is None else 0.0
            rows.append(
                {
                    "key": spec.key,
                    "run": spec.label,
                    "model": spec.model,
                    "data": spec.data,
                    "precision": spec.precision,
                    "status": status[spec.key],
                    "seconds": seconds,
                    "reason": reason,
                }
            )
        return rows

    def reduced(self, epochs: int, images: int) -> float:
        """Estimate one seed of everything, with so many epochs and images; after `estimate`."""
        first = min(spec.seed for spec in self.specs)
        rate, datasets, seconds = self.worker.estimator.known, self.worker.datasets, 0.0
        for spec in self.specs:
            found = rate(spec, datasets[spec.data_sha256]) if spec.seed == first else None
            if found is not None:
                small = replace(
                    spec,
                    epochs=min(epochs, spec.epochs),
                    train_images=min(images, spec.train_images),
                    test_images=min(images, spec.test_images),
                )
                seconds += found.seconds(small)
        return seconds

    def run(self, rows: list[dict[str, Any]] | None = None) -> Outcome:
        """Do what is missing, saying first how long that takes; rows: those of `estimate`."""
        rows = self.estimate() if rows is None else rows
        missing = [row for row in rows if row["status"] not in (DONE, FAILED)]
        seconds = sum(row["seconds"] for row in missing)
        self.shown.note(
            f"{len(missing)} of {len(rows)} runs to do, about {duration(seconds)} on this machine"
            if missing
            else f"all {len(rows)} runs are done"
        )
        return self.worker.work(self.specs)

    def compare(self) -> None:
        """Enter what the predictions of done runs say about one another."""
        pairs.update(self.worker.store, self.worker.folder, self.specs)

    def report(self) -> dict[str, Any]:
        """Write the report and return the summary."""
        return report(self.experiments, self.plans, self.worker.store, self.out)


def report(
    experiments: Sequence[Experiment], plans: Sequence[Sequence[Planned]], store: Store, out: Path
) -> dict[str, Any]:
    """Compare what is done of these plans, write the report to `out` and return its summary."""
    specs = list({p.spec.key: p.spec for planned in plans for p in planned}.values())
    pairs.update(store, out / RUNS, specs)
    all_results = [
        Results(one, tuple((p, store.row(p.spec.key) or Row(p.spec, PENDING)) for p in planned), store)
        for one, planned in zip(experiments, plans, strict=True)
    ]
    return study_pages.write(all_results, store, out)


@contextmanager
def prepare(
    experiments: Sequence[Experiment],
    request: Request,
    datasets: DatasetCache,
    out: Path,
    *,
    budget: float | None = None,
    checkpoint_every: int | None = None,
    progress: bool | Reporter | None = None,
    keep: bool = True,
) -> Iterator[StudySession]:
    """Plan experiments and open their store inside a `with` block.

    Args:
        experiments: as the study ran them.
        request: what is changed of them.
        datasets: loads what they use.
        out: folder of the store, the runs and the report.
        budget: seconds after which no run is begun; None means no limit.
        checkpoint_every: as in `Trainer.fit`.
        progress: True or None shows a bar on a terminal, plain lines elsewhere; False nothing; a `Reporter`
            is told.
        keep: False writes nothing to `out`, for estimates.

    Yields:
        A `StudySession`, which estimates, runs what is missing, and writes the report.

    Raises:
        ValueError: a setting is out of range, or `out` holds no store.
        UnsupportedPrecision: there is no such combination.

    >>> import tempfile
    >>> from fp16engine.experiments.experiment import Case, plain_arms
    >>> cases, arms = (Case("dnn", "digits"),), plain_arms("fp16")
    >>> tiny = Experiment("tiny", "Tiny", "Nothing.", cases, arms, 1, 1, 16, report=list)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with prepare([tiny], Request(), DatasetCache(limit=32), Path(folder), progress=False) as session:
    ...         session.run().done
    1
    """
    plans = [plan(experiment, request, datasets.get) for experiment in experiments]
    if keep:
        make_folder(out)
    shown = reporter(progress)
    with Store(out / STORE if keep or (out / STORE).exists() else ":memory:") as store:
        estimator = Estimator(store, request.device)
        worker = RunWorker(
            store,
            out / RUNS,
            datasets.by_fingerprint,
            request.device,
            shown,
            estimator,
            budget,
            checkpoint_every,
        )
        yield StudySession(experiments, plans, worker, out, shown)
