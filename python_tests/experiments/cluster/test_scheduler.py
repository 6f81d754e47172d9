"""What Slurm is asked for and how its answers are read, with commands that only note what they were given."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tiny_sweep

from fp16engine.errors import BackendUnavailable
from fp16engine.experiments.cluster import job, results, scheduler
from fp16engine.experiments.cluster.scheduler import CANCELLED, ENDED, RUNNING, WAITING, Handle, JobState
from fp16engine.experiments.cluster.sweep import job_folder
from fp16engine.reporting.owner import Owner

SBATCH = (
    '#!/bin/sh\ncp "$1" "$(dirname "$0")/given-$(ls "$(dirname "$0")" | wc -l)"\necho Submitted batch job 7\n'
)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of Slurm's commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name, text in (("sbatch", SBATCH), ("srun", "#!/bin/sh\n"), ("squeue", "#!/bin/sh\n")):
        command(folder, name, text)
    return folder


def command(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def given(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("given-*"))]


def slurm(tmp_path: Path, options: dict[str, str | None], jobs: int = 2) -> tuple[scheduler.Slurm, Path]:
    sweep, folder = tiny_sweep.made(tmp_path, jobs, cluster="slurm", options=options)
    return scheduler.Slurm(sweep, folder), folder


def test_jobs_are_an_array_with_the_options_given(tmp_path: Path, commands: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fp16engine[cluster]'")
    options = {"gpus": "1", "time": "1-0", "exclusive": None, "cpus-per-task": "3", "comment": "a; rm -r b"}
    made, _ = slurm(tmp_path, options)
    assert list(made.submit([0, 1])) == [(0, Handle("7_0")), (1, Handle("7_1"))]
    (text,) = given(commands)
    lines = text.splitlines()
    for line in (
        "#SBATCH --array=0-1%2",
        "#SBATCH --gpus=1",
        "#SBATCH --time=1440",
        "#SBATCH --exclusive",
        "#SBATCH --requeue",
        "#SBATCH --comment='a; rm -r b'",
        "#SBATCH --job-name=fp16engine",
        "#SBATCH --signal=USR2@90",
    ):
        assert line in lines
    (run,) = [line for line in lines if line.startswith("srun")]
    assert "--cpus-per-task=3" in run and "submitit.core._submit" in run


def test_what_is_pickled_is_a_class_of_ours_a_path_and_a_number(tmp_path: Path, commands: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fp16engine[cluster]'")
    made, folder = slurm(tmp_path, {})
    list(made.submit([0, 1]))
    for path in (folder / scheduler.LOGS).glob("*_submitted.pkl"):
        assert path.stat().st_size < 1000
        submission = pickle.loads(path.read_bytes())
        assert isinstance(submission.function, job.SweepJob)
        assert submission.args[0] == str(folder) and submission.args[1] in (0, 1) and not submission.kwargs
        again = submission.function.checkpoint(*submission.args)
        assert (again.function, again.args) == (submission.function, submission.args)


def test_a_thousand_jobs_are_one_array_and_more_are_several(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fp16engine[cluster]'")
    monkeypatch.setattr(scheduler, "_MOST_JOBS", 2)
    made, _ = slurm(tmp_path, {}, jobs=4)
    assert [number for number, _ in made.submit(range(4))] == [0, 1, 2, 3]
    assert ["--array=0-1%2" in text for text in given(commands)] == [True, True]


def test_what_sbatch_refuses_is_an_error_in_its_words(tmp_path: Path, commands: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fp16engine[cluster]'")
    command(commands, "sbatch", "#!/bin/sh\necho no such partition >&2\nexit 1\n")
    made, _ = slurm(tmp_path, {"partition": "nowhere"})
    with pytest.raises(ValueError, match="must be options that sbatch takes, got: no such partition"):
        list(made.submit([0, 1]))


def test_a_slurm_that_does_not_answer_is_not_the_fault_of_the_options(tmp_path: Path, commands: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fp16engine[cluster]'")
    for name in ("sbatch", "squeue"):
        command(commands, name, "#!/bin/sh\necho no controller >&2\nexit 1\n")
    made, _ = slurm(tmp_path, {})
    with pytest.raises(BackendUnavailable, match=r"needs a Slurm that answers, and squeue .*: no controller"):
        list(made.submit([0, 1]))


def test_without_slurm_the_error_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fp16engine[cluster]'")
    monkeypatch.setenv("PATH", str(tmp_path))
    made, _ = slurm(tmp_path, {})
    with pytest.raises(BackendUnavailable, match="no sbatch, no srun, no squeue found"):
        list(made.submit([0]))
    assert made.states({Handle("1"): 0}) == {}


def test_without_submitit_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    made, _ = slurm(tmp_path, {})
    with pytest.raises(ImportError, match=r"fp16engine\[cluster\]"):
        list(made.submit([0]))


def test_states_are_read_from_squeue(tmp_path: Path, commands: Path) -> None:
    lines = "7_0|RUNNING\n7_1|PENDING\n7_2|COMPLETED\n7_3|CANCELLED\n7_4|COMPLETING\n7_5|NODE_FAIL\n"
    command(commands, "squeue", f"#!/bin/sh\nprintf '{lines}'\n")
    made, _ = slurm(tmp_path, {})
    found = made.states({Handle(f"7_{number}"): number for number in range(7)})
    assert [found[Handle(f"7_{number}")].kind for number in range(7)] == [
        RUNNING, WAITING, ENDED, CANCELLED, RUNNING, ENDED, ENDED,
    ]  # fmt: skip
    assert found[Handle("7_6")].words == "no longer listed by squeue"


def test_a_controller_that_does_not_answer_leaves_states_unknown(tmp_path: Path, commands: Path) -> None:
    command(commands, "squeue", "#!/bin/sh\necho 7_0\nexit 1\n")
    made, _ = slurm(tmp_path, {})
    assert made.states({Handle("7_0"): 0}) == {}


def test_cancel_names_the_jobs(tmp_path: Path, commands: Path) -> None:
    command(commands, "scancel", '#!/bin/sh\necho "$@" >"$(dirname "$0")/cancelled"\n')
    made, _ = slurm(tmp_path, {})
    made.cancel([Handle("7_0"), Handle("7_1")])
    assert (commands / "cancelled").read_text() == "7_0 7_1\n"


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("5", 5), ("5:01", 6), ("1:00:00", 60), ("2-3", 3060), ("1-0:30", 1470), ("1-2:03:04", 1564)],
)
def test_times_are_read_as_slurm_reads_them(text: str, minutes: int) -> None:
    assert scheduler.slurm_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "2h", "-1", "1:2:3:4", "1-", "9" * 20])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--slurm time must be"):
        scheduler.slurm_minutes(text)


@pytest.mark.parametrize(
    "value", [{"id": "1;2", "owner": None}, {"id": "1", "owner": {}}, {"id": "-1", "owner": None}]
)
def test_what_is_no_handle_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Handle.of_json(value)


def test_a_local_job_runs_as_long_as_one_of_its_processes_does(tmp_path: Path) -> None:
    sweep, folder = tiny_sweep.made(tmp_path)
    local = scheduler.Local(sweep, folder)
    here = Owner.of_process(os.getppid())
    gone = Owner(here.host, here.machine, here.pid, "0", "token")
    elsewhere = Owner(here.host, "another", here.pid, "0", "token")

    def state(owner: Owner, said: results.State | None = None) -> JobState | None:
        if said is not None:
            results.write_state(job_folder(folder, 0), said)
        handle = Handle("1", owner)
        return local.states({handle: 0}).get(handle)

    assert state(here).kind == RUNNING and state(gone).kind == ENDED and state(elsewhere) is None
    assert state(gone, results.State(here)).kind == RUNNING
    assert state(gone, results.State(gone)).kind == ENDED
    assert state(gone, results.State(gone, stopped="SIGTERM")) == JobState(CANCELLED, "ended by SIGTERM")


def test_local_jobs_share_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from fp16engine.backend.gpu import cuda

    monkeypatch.setattr(cuda, "gpus", lambda: 2)
    seen = [scheduler._gpu("cuda", number)["visible_gpus"] for number in range(3)]
    assert seen == [[0], [1], [0]]
    assert scheduler._gpu("cuda:3", 0)["visible_gpus"] == [3] and scheduler._gpu("cpu", 1) == {}


def test_children_have_neither_the_terminals_signals_nor_its_streams(
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with scheduler._detached():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        subprocess.run(["echo", "unheard"], check=True)
    assert signal.getsignal(signal.SIGINT) == before
    subprocess.run(["echo", "heard"], check=True)
    assert capfd.readouterr().out == "heard\n"
