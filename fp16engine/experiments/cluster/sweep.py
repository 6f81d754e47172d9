"""A sweep on disk: which runs there are, how they are packed into jobs, and what every job needs to know.

`OUT/cluster/sweep-0001/sweep.json` is written once, before the jobs are submitted, and only read afterwards.
Every job has a folder next to it (`job_folder`), which nobody else writes to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..._version import __version__
from ...bounded import FAULTS, parse_json, read_regular
from ...reporting.files import make_folder, write_atomically
from ..experiment import Arm, Case, Planned
from ..runs.spec import RunSpec, canonical

LOCAL, SLURM = CLUSTERS = ("local", "slurm")
_FORMAT = 1
_FOLDER, _SWEEP, _CANCELLED = "cluster", "sweep.json", "cancelled"
_LIMIT = 1 << 28  # bytes of a file that is read: two hundred thousand runs


@dataclass(frozen=True)
class DataSource:
    """How a job finds the data sets: arguments of `reproduce.DatasetCache`, and names to ask it for."""

    names: tuple[str, ...]
    instead: Mapping[str, str] = field(default_factory=dict)
    roots: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    test_limit: int | None = None


@dataclass(frozen=True)
class Sweep:
    """Runs, packed into jobs.

    Args:
        cluster: "local" or "slurm".
        options: of sbatch, without the dashes; None is the value of one that takes none.
        data: where the jobs find the data sets.
        plans: the runs of every experiment, by its name.
        jobs: the keys of the runs of every job.
        device: on which the jobs train.
        threads: of a job; None leaves it to the job.
        checkpoint_every: as in `Trainer.fit`.
    """

    cluster: str
    options: Mapping[str, str | None]
    data: DataSource
    plans: Mapping[str, Sequence[Planned]]
    jobs: Sequence[Sequence[str]]
    device: str = "cpu"
    threads: int | None = None
    checkpoint_every: int | None = None

    @cached_property
    def specs(self) -> dict[str, RunSpec]:
        """Return every run once, by key: experiments share runs."""
        return {p.spec.key: p.spec for planned in self.plans.values() for p in planned}

    @property
    def job_device(self) -> str:
        """Return the device as the jobs name it: a local job sees one GPU only."""
        return self.device.partition(":")[0] if self.cluster == LOCAL else self.device

    def write(self, folder: Path) -> None:
        """Write the sweep to `folder`, which is made."""
        make_folder(folder)
        plans = {
            name: [{"case": asdict(p.case), "arm": asdict(p.arm), "key": p.spec.key} for p in planned]
            for name, planned in self.plans.items()
        }
        document = {
            "format": _FORMAT,
            "version": __version__,
            "cluster": self.cluster,
            "options": dict(self.options),
            "data": asdict(self.data),
            "device": self.device,
            "threads": self.threads,
            "checkpoint_every": self.checkpoint_every,
            "plans": plans,
            "jobs": [list(keys) for keys in self.jobs],
            "specs": {key: spec.document() for key, spec in self.specs.items()},
        }
        write_atomically(folder / _SWEEP, canonical(document))

    @classmethod
    def read(cls, folder: Path) -> Sweep:
        """Read the sweep of `folder`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, or its runs are others in this version of the engine.
        """
        document = read_json(folder / _SWEEP)
        try:
            specs = {key: RunSpec.of_document(spec) for key, spec in document["specs"].items()}
            plans = {
                name: [Planned(Case(**run["case"]), Arm(**run["arm"]), specs[run["key"]]) for run in planned]
                for name, planned in document["plans"].items()
            }
            data = document["data"]
            made = cls(
                cluster=document["cluster"],
                options=document["options"],
                data=DataSource(**{**data, "names": tuple(data["names"])}),
                plans=plans,
                jobs=[[specs[key].key for key in keys] for keys in document["jobs"]],
                device=document["device"],
                threads=document["threads"],
                checkpoint_every=document["checkpoint_every"],
            )
            fits = document["format"] == _FORMAT and made.cluster in CLUSTERS
            same = all(key == spec.key for key, spec in specs.items())
        except FAULTS:
            fits, same = False, False
        if not fits:
            raise ValueError(f"{folder / _SWEEP} must describe a sweep of this engine")
        if not same:
            raise ValueError(
                f"{folder / _SWEEP} must describe runs of fp16engine {__version__}, got those of "
                f"{str(document.get('version'))[:20]}"
            )
        return made


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of bounded size; ValueError names the file if it is none."""
    data = read_regular(path, _LIMIT, str(path))
    try:
        value = parse_json(data, entries=1 << 24)
    except ValueError as error:
        raise ValueError(f"{path} must be valid JSON, got {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must be a JSON object")
    return value


def latest(out: Path) -> Path | None:
    """Return the folder of the last sweep below `out`, None if there is none."""
    found = [path for path in (out / _FOLDER).glob("sweep-*") if re.fullmatch(r"sweep-\d{4,9}", path.name)]
    written = [path for path in found if (path / _SWEEP).is_file()]
    return max(written, key=lambda path: int(path.name[6:]), default=None)


def following(out: Path) -> Path:
    """Return the folder for the next sweep below `out`."""
    last = latest(out)
    return out / _FOLDER / f"sweep-{1 if last is None else int(last.name[6:]) + 1:04d}"


def job_folder(folder: Path, number: int) -> Path:
    """Return the folder of a job of the sweep in `folder`."""
    return folder / f"job-{number:04d}"


def cancel(folder: Path) -> None:
    """Note that the jobs of the sweep in `folder` are to end."""
    write_atomically(folder / _CANCELLED, "")


def cancelled(folder: Path) -> bool:
    """Tell whether the jobs of the sweep in `folder` are to end."""
    return (folder / _CANCELLED).exists()


def out_of(folder: Path) -> Path:
    """Return the results folder that the sweep in `folder` belongs to."""
    return folder.parent.parent


def pack(keys: Sequence[str], jobs: int) -> list[list[str]]:
    """Deal runs to jobs, each round beginning one job later.

    The runs of a plan repeat with every seed; so no job gets the same network every time.

    >>> pack(["a0", "b0", "a1", "b1"], 2)
    [['a0', 'b1'], ['b0', 'a1']]
    """
    jobs = min(jobs, len(keys))
    dealt: list[list[str]] = [[] for _ in range(jobs)]
    for index, key in enumerate(keys):
        turn, position = divmod(index, jobs)
        dealt[(position + turn) % jobs].append(key)
    return dealt
