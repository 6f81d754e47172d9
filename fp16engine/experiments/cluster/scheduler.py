"""What starts jobs and says how they are: Slurm, or processes of this machine; both by submitit.

A job that was started is a `Handle`, which a JSON file can keep: a later command, on another machine too,
asks the scheduler about it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...errors import BackendUnavailable
from ...reporting.owner import Owner
from . import results
from .job import SweepJob
from .sweep import LOCAL, Sweep, job_folder

LOGS = "logs"
WAITING, RUNNING, ENDED, CANCELLED = "waiting", "running", "ended", "cancelled"
_MOST_JOBS = 1000  # of an array; Slurm's own limit is 1001 unless it is configured
_MOST_REQUEUES = 10_000  # a run that gets nowhere ends by job.ATTEMPTS
_MINUTES_LOCAL = 10 * 365 * 24 * 60
_COMMAND_SECONDS = 60.0
_COMMANDS = ("sbatch", "srun", "squeue")
_ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
    "REVOKED", "TIMEOUT",
)  # fmt: skip
_RUNNING = ("RUNNING", "COMPLETING", "STOPPED", "SUSPENDED", "SIGNALING", "STAGE_OUT", "RESIZING")


@dataclass(frozen=True)
class Handle:
    """A job that was started: its number with the scheduler, on this machine also its process."""

    id: str
    owner: Owner | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"id": self.id, "owner": None if self.owner is None else self.owner.to_json()}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Handle:
        """Return the handle that `to_json` described."""
        owner = value["owner"]
        if not re.fullmatch(r"\d+(_\d+)?", value["id"]):
            raise ValueError(f"id must be the number of a job, got {value['id']!r}")
        return cls(value["id"], None if owner is None else Owner.of_json(owner))


@dataclass(frozen=True)
class JobState:
    """How a job is: waiting, running, ended or cancelled, and in the scheduler's own words."""

    kind: str
    words: str


class Scheduler(Protocol):
    """Starts the jobs of a sweep."""

    def submit(self, numbers: Sequence[int]) -> Iterator[tuple[int, Handle]]:
        """Start jobs; yields each as soon as it is started."""

    def states(self, handles: Mapping[Handle, int]) -> dict[Handle, JobState]:
        """Return how started jobs are; one that cannot be asked about is left out.

        Args:
            handles: with the numbers of their jobs.
        """

    def cancel(self, handles: Sequence[Handle]) -> None:
        """End jobs; their runs are saved."""


def scheduler(sweep: Sweep, folder: Path) -> Scheduler:
    """Return what starts the jobs of the sweep in `folder`."""
    return Local(sweep, folder) if sweep.cluster == LOCAL else Slurm(sweep, folder)


def log(folder: Path, handle: Handle) -> Path:
    """Return the file with what a job said."""
    return folder / LOGS / f"{handle.id}_0_log.out"


class Slurm:
    """Slurm's commands sbatch, squeue and scancel; accounting is not needed."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        self._sweep, self._folder = sweep, folder

    def submit(self, numbers: Sequence[int]) -> Iterator[tuple[int, Handle]]:
        """See Scheduler."""
        submitit = _submitit()
        options = {"requeue": None, **self._sweep.options}
        given = {name: True if value is None else value for name, value in options.items()}
        minutes = slurm_minutes(str(given.pop("time"))) if "time" in given else None
        cpus = given.get("cpus-per-task")
        missing = [name for name in _COMMANDS if shutil.which(name) is None]
        if missing:
            raise BackendUnavailable(
                f"--cluster slurm needs Slurm's commands: no {', no '.join(missing)} found; --cluster local "
                "needs none"
            )
        try:
            executor = submitit.SlurmExecutor(self._folder / LOGS, max_num_timeout=_MOST_REQUEUES)
            executor.update_parameters(
                job_name=str(given.pop("job-name", "fp16engine")),
                stderr_to_stdout=True,
                additional_parameters=given,
                # srun of Slurm 22.05 and later does not take it from sbatch
                **({"srun_args": [f"--cpus-per-task={cpus}"]} if cpus else {}),
                **({"time": minutes} if minutes else {}),
            )
            for first in range(0, len(numbers), _MOST_JOBS):
                part = list(numbers[first : first + _MOST_JOBS])
                with contextlib.redirect_stderr(io.StringIO()):  # what sbatch says is in the error too
                    jobs = executor.map_array(SweepJob(), [str(self._folder)] * len(part), part)
                yield from zip(part, [Handle(str(job.job_id)) for job in jobs], strict=True)
        except RuntimeError as error:
            said = " ".join(str(error).split())
            if _listed() is None:
                raise BackendUnavailable(
                    f"--cluster slurm needs a Slurm that answers, and squeue has no answer here: {said}"
                ) from None
            raise ValueError(f"--slurm must be options that sbatch takes, got: {said}") from None

    def states(self, handles: Mapping[Handle, int]) -> dict[Handle, JobState]:
        """See Scheduler."""
        listed = _listed()
        if listed is None:
            return {}
        found = {}
        for handle in handles:
            word = listed.get(handle.id, "no longer listed by squeue")
            kind = RUNNING if word in _RUNNING else WAITING
            if word in _ENDED or handle.id not in listed:
                kind = CANCELLED if word == "CANCELLED" else ENDED
            found[handle] = JobState(kind, word)
        return found

    def cancel(self, handles: Sequence[Handle]) -> None:
        """See Scheduler."""
        ids = [handle.id for handle in handles]
        for first in range(0, len(ids), _MOST_JOBS):
            _command(["scancel", *ids[first : first + _MOST_JOBS]])


class Local:
    """Processes of this machine, which the end of the command that started them does not end."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        self._sweep, self._folder = sweep, folder
        self._jobs: list[Any] = []  # a process must be kept to learn of its end

    def submit(self, numbers: Sequence[int]) -> Iterator[tuple[int, Handle]]:
        """See Scheduler."""
        submitit = _submitit()
        for number in numbers:
            executor = submitit.LocalExecutor(self._folder / LOGS, max_num_timeout=_MOST_REQUEUES)
            executor.update_parameters(
                timeout_min=_MINUTES_LOCAL, stderr_to_stdout=True, **_gpu(self._sweep.device, number)
            )
            with _detached():
                job = executor.submit(SweepJob(), str(self._folder), number)
            self._jobs.append(job)
            yield number, Handle(str(job.job_id), Owner.of_process(int(job.job_id)))

    def states(self, handles: Mapping[Handle, int]) -> dict[Handle, JobState]:
        """See Scheduler."""
        found = {}
        for handle, number in handles.items():
            said = results.state(job_folder(self._folder, number))
            # submitit's process and the one that it starts; either may be killed without the other
            owners = [handle.owner, None if said is None else said.owner]
            gone = [None if owner is None else owner.gone() for owner in owners]
            if handle.owner is None or gone[0] is None:
                continue
            if False in gone:
                found[handle] = JobState(RUNNING, "running")
            elif said is not None and said.stopped is not None:
                found[handle] = JobState(CANCELLED, f"ended by {said.stopped}")
            else:
                found[handle] = JobState(ENDED, "ended")
        return found

    def cancel(self, handles: Sequence[Handle]) -> None:
        """See Scheduler."""
        for handle in handles:
            if handle.owner is not None and handle.owner.gone() is False:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(handle.owner.pid, signal.SIGTERM)  # submitit passes it on


def slurm_minutes(text: str) -> int:
    """Return the minutes of a time as Slurm writes it, rounded up.

    >>> [slurm_minutes(text) for text in ("90", "0:30", "2:00:00", "1-0", "1-12:30")]
    [90, 1, 120, 1440, 2190]
    """
    found = re.fullmatch(r"(?:(\d{1,6})-)?(\d{1,8})(?::(\d{1,2}))?(?::(\d{1,2}))?", text)
    if not found:
        raise ValueError(
            f"--slurm time must be a time as Slurm writes it, 90, 2:00:00 or 1-12:00, got {text!r}"
        )
    days, *rest = found.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is None and len(parts) < 3:
        hours, minutes, seconds = 0, parts[0], parts[1] if len(parts) == 2 else 0
    else:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    return int(days or 0) * 1440 + hours * 60 + minutes + (seconds > 0)


def _gpu(device: str, number: int) -> dict[str, Any]:
    """Return which GPU a local job sees: "cuda" deals them all, "cuda:1" is that one."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return {}
    from ...backend.gpu import cuda

    gpu = int(index) if index else number % max(1, cuda.gpus())
    return {"gpus_per_node": 1, "visible_gpus": [gpu]}


@contextlib.contextmanager
def _detached() -> Iterator[None]:
    """Let processes started here live without this terminal, as nohup does: its signals, and its streams.

    A pipe that they held open would keep its reader waiting until the last of them ends.
    """
    ignored = (signal.SIGINT, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    copies = {}
    null = os.open(os.devnull, os.O_RDWR)
    try:
        for stream in (0, 1, 2):
            with contextlib.suppress(OSError):  # one that is closed
                copies[stream] = os.dup(stream)
                os.dup2(null, stream)
        yield
    finally:
        for stream, copy in copies.items():
            os.dup2(copy, stream)
            os.close(copy)
        os.close(null)
        for number, handler in before.items():
            signal.signal(number, handler)


def _listed() -> dict[str, str] | None:
    """Return the state of every job of this user that Slurm still knows, None where it does not answer."""
    form = "--format=%i|%T"
    said = _command(["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", form])
    if said is None:
        return None
    pairs = (line.strip().partition("|") for line in said.splitlines())
    return {job: state for job, _, state in pairs}


def _command(words: list[str]) -> str | None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise ImportError("--cluster needs submitit: pip install 'fp16engine[cluster]'") from None
    return submitit
