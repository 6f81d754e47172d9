"""Experiments from end to end: plan, estimate, run what is missing, compare, report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import Dataset, Split, load
from ..reporting.files import make_folder
from ..reporting.progress import Reporter, duration, reporter
from ..train.loop import data_fingerprint
from . import study_pages
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

    `instead` maps the name that an experiment asks for to the one to load; `roots` where each one's files
    are; the entry "" of either is for all others. `limit` and `test_limit` shorten the splits.
    """

    instead: Mapping[str, str] = field(default_factory=dict)
    roots: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    test_limit: int | None = None
    download: bool = False
    by_fingerprint: dict[str, Dataset] = field(default_factory=dict)
    _loaded: dict[str, tuple[Dataset, str]] = field(default_factory=dict)

    def get(self, name: str) -> tuple[Dataset, str]:
        """Return what is used for the data set `name`, and its fingerprint; raises what `data.load` does."""
        source = self.instead.get(name, self.instead.get("", name))
        if source not in self._loaded:
            root = self.roots.get(source, self.roots.get(name, self.roots.get("")))
            whole = load(source, None if source == "digits" else root, download=self.download)
            made = self._shortened(whole)
            sha256 = data_fingerprint(made)
            self._loaded[source] = (made, sha256)
            self.by_fingerprint[sha256] = made
        return self._loaded[source]

    def _shortened(self, whole: Dataset) -> Dataset:
        test = self.test_limit or self.limit
        if self.limit is None and test is None:
            return whole
        first, second = (
            Split(part.images[:count], part.labels[:count])
            for part, count in ((whole.train, self.limit), (whole.test, test))
        )
        return Dataset(whole.name, first, second, whole.classes)


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
        self.compare()
        store = self.worker.store
        all_results = [
            Results(one, tuple((p, store.row(p.spec.key) or Row(p.spec, PENDING)) for p in planned), store)
            for one, planned in zip(self.experiments, self.plans, strict=True)
        ]
        return study_pages.write(all_results, store, self.out)


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
    """Plan experiments and open their store in `out`; with `keep=False` nothing is written there.

    Raises ValueError (wrong settings, no store), UnsupportedPrecision, and what loading the data raises.
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
