"""Kills jobs of `fp16engine reproduce --cluster` at random and compares the merged store with a whole one.

    python benchmarks/kill_sweep.py --cluster local --kills 20 --out result.json
    python python_tests/slurm_node.py python benchmarks/kill_sweep.py --cluster slurm --kills 20

The runs are done once without jobs and without a disturbance. Then a sweep of the same runs is started; at
random moments a job, or the command that merges, gets what a cluster does to it: SIGKILL, cancellation, on
Slurm also a requeue, the signal before the end of its time, or preemption by a job of the partition `urgent`
(if there is one). All jobs must run on this machine. The command is started again when it ends with runs
left. A sweep that is finished before the kills are used up is followed by another. Every merged store's
canonical export must equal the first one's. Exit status 1 if one does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from fp16engine.doctor import machine
from fp16engine.experiments.cluster import results
from fp16engine.experiments.cluster.collect import opened
from fp16engine.experiments.cluster.status import JobStatus, Status
from fp16engine.experiments.cluster.sweep import job_folder
from fp16engine.experiments.reproduce import STORE
from fp16engine.experiments.runs.store import Store

COMMAND = (
    "reproduce figure2 --data digits --models dnn --precisions fp16,fp32,mp --epochs 2 --limit 200 "
    "--batch-size 20 --threads 1 --checkpoint-every 4 --seeds {seeds}"
)
MOST_SECONDS = 4.0  # between two disturbances
BLOWS = {
    "local": ("kill", "kill", "cancel", "kill the command"),
    "slurm": ("kill", "kill", "requeue", "signal", "preempt", "cancel", "kill the command"),
}


class Sweep:
    """A sweep in a folder, with the command that waits for it."""

    def __init__(self, command: list[str], out: Path, cluster: str) -> None:
        self.out, self.cluster = out, cluster
        self.command = [sys.executable, "-m", "fp16engine", *command, "--out", str(out)]
        self.child: subprocess.Popen[bytes] | None = None
        self.cancelled = False  # since the command was started
        self.start()

    def start(self) -> None:
        """Start the command, its words discarded."""
        quiet = subprocess.DEVNULL
        self.child = subprocess.Popen(self.command, stdout=quiet, stderr=quiet)
        self.cancelled = False

    def ended_as_expected(self) -> bool:
        """Tell whether the command's exit status is one that it may have; 1 after a cancel: runs are left."""
        assert self.child is not None
        return self.child.returncode in (0, -signal.SIGKILL) or (
            self.child.returncode == 1 and self.cancelled
        )

    def look(self) -> Status | None:
        """Return how the sweep is, None before it has begun."""
        with suppress(ValueError, FileNotFoundError), opened(self.out) as collector:
            return None if collector is None else collector.look()
        return None

    def blow(self, what: str, moments: random.Random) -> bool:
        """Do something to a job that does a run, or to the command; tell whether there was one."""
        assert self.child is not None
        if what == "kill the command":
            self.child.send_signal(signal.SIGKILL)
            self.child.wait()
            return True
        self.cancelled |= what == "cancel"
        status = self.look()
        busy = [] if status is None else [job for job in status.jobs if job.run is not None]
        if not busy:
            return False
        job = moments.choice(busy)
        if what == "kill":
            return self.kill(job)
        if self.cluster == "slurm":
            words = {
                "requeue": ["scontrol", "requeue", job.ids[-1]],
                "signal": ["scancel", "--signal=USR2", job.ids[-1]],
                "preempt": [
                    "sbatch",
                    "--partition=urgent",
                    "--exclusive",
                    "--output=/dev/null",
                    "--wrap=sleep 1",
                ],
                "cancel": ["scancel", job.ids[-1]],
            }
            return subprocess.run(words[what], capture_output=True, check=False).returncode == 0
        cancel = [*self.command[:3], "reproduce", "--cancel", "--out", str(self.out)]
        return subprocess.run(cancel, capture_output=True, check=False).returncode == 0

    def kill(self, job: JobStatus) -> bool:
        """End a job's process, which must be one of this machine, by SIGKILL; tell whether it was there."""
        with opened(self.out) as collector:
            assert collector is not None
            said = results.state(job_folder(collector.folder, job.number))
        if said is None or said.owner.gone() is not False:
            return False
        with suppress(ProcessLookupError):
            os.kill(said.owner.pid, signal.SIGKILL)
        return True

    def release(self) -> None:
        """Let what Slurm has put into the queue again start now, not two minutes later."""
        asked = ["squeue", "--noheader", "--array", "--states=PENDING", "--format=%i|%r"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        for line in said.splitlines():
            job, _, reason = line.strip().partition("|")
            if reason == "BeginTime":
                words = ["scontrol", "update", f"jobid={job}", "starttime=now"]
                subprocess.run(words, capture_output=True, check=False)


def export(out: Path) -> str:
    """Return the canonical export of a folder's store as text."""
    with Store(out / STORE) as store:
        return json.dumps(store.export(), sort_keys=True)


def disturbed(sweep: Sweep, blows: Counter[str], most: int, moments: random.Random) -> int:
    """Disturb a sweep until it is finished; return how often that was, at most `most` times."""
    count = 0
    following = time.monotonic() + moments.uniform(0, MOST_SECONDS)
    what = moments.choice(BLOWS[sweep.cluster])
    while True:
        assert sweep.child is not None
        if sweep.child.poll() is not None:
            status = sweep.look()
            if sweep.child.returncode == 0 and status is not None and not status.left:
                return count
            if not sweep.ended_as_expected():
                raise SystemExit(f"the command ended with status {sweep.child.returncode}: {sweep.command}")
            sweep.start()
        if sweep.cluster == "slurm":
            sweep.release()
        if count < most and time.monotonic() > following and sweep.blow(what, moments):
            blows[what] += 1
            count += 1
            print(f"{what}: {count}", file=sys.stderr, flush=True)
            following = time.monotonic() + moments.uniform(0, MOST_SECONDS)
            what = moments.choice(BLOWS[sweep.cluster])
        time.sleep(0.1)


def main() -> int:
    """Run the comparison and print its result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cluster", choices=tuple(BLOWS), default="local")
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--seeds", type=int, default=12, metavar="N", help="of three runs each")
    parser.add_argument("--jobs", type=int, default=6, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="on the cluster's shared file system")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the result to this file too")
    arguments = parser.parse_args()
    moments, blows = random.Random(arguments.seed), Counter[str]()
    command = COMMAND.format(seeds=arguments.seeds).split()
    finished: list[dict[str, object]] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        whole = [sys.executable, "-m", "fp16engine", *command, "--out", str(folder / "whole")]
        if subprocess.run(whole, capture_output=True, check=False).returncode != 0:
            raise SystemExit("the undisturbed command failed")
        expected = export(folder / "whole")
        while not finished or blows.total() < arguments.kills:
            out = folder / f"sweep-{len(finished)}"
            jobs = ["--cluster", arguments.cluster, "--jobs", str(arguments.jobs)]
            sweep = Sweep([*command, *jobs], out, arguments.cluster)
            count = disturbed(sweep, blows, arguments.kills - blows.total(), moments)
            finished.append({"disturbed": count, "equal": export(out) == expected})
    equal = all(one["equal"] for one in finished)
    result = {
        "command": f"fp16engine {' '.join(command)} --cluster {arguments.cluster} --jobs {arguments.jobs}",
        "runs": len(json.loads(expected)["runs"]),
        "disturbed": dict(blows),
        "sweeps": finished,
        "equal": equal,
        "seconds": round(time.monotonic() - begun),
        "machine": machine(),
    }
    text = json.dumps(result, indent=1)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    print(text)
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
