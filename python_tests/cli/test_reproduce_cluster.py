"""`reproduce --cluster` on the command line: options, a sweep on this machine, its status."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_sweep

from fp16engine.cli import main
from fp16engine.experiments.cluster import results
from fp16engine.experiments.cluster.sweep import job_folder, latest
from fp16engine.experiments.reproduce import STORE
from fp16engine.experiments.runs.store import Store
from fp16engine.reporting.owner import Owner

TINY = [
    "reproduce", "figure2", "--data", "digits", "--epochs", "1", "--limit", "32", "--batch-size", "16",
    "--threads", "1", "--seeds", "1", "--precisions", "fp16,fp32",
]  # fmt: skip
needs_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None,
    reason="submitit is not installed: pip install 'fp16engine[cluster]'",
)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--collect --cancel", "one of --collect, --cancel must be given, got all"),
        ("--status --cluster local", "one of --status, --cluster must be given"),
        ("", "WHAT must be given, but with --collect, --status and --cancel"),
        ("figure2 --slurm gpus=1", "--slurm must be given with --cluster, got none"),
        ("figure2 --jobs 3", "--jobs must be given with --cluster, got none"),
        ("figure2 --no-wait", "--no-wait must be given with --cluster"),
        ("figure2 --cluster local --slurm gpus=1", "--slurm must be given with --cluster slurm, got local"),
        ("figure2 --cluster moon", "--cluster must be local or slurm, got 'moon'"),
        (
            "figure2 --cluster slurm --slurm array=3",
            "--slurm must be an option that jobs do not need themselves",
        ),
        ("figure2 --cluster slurm --slurm time=2h", "--slurm must be a time as Slurm writes it"),
        ("figure2 --cluster slurm --slurm Gpus=2", "--slurm must be KEY=VALUE or KEY"),
        ("figure2 --cluster slurm --slurm gpus=", "--slurm must be KEY=VALUE or KEY"),
        ("figure2 --cluster local --budget 1h", "--budget must not be given with --cluster, got 3600 s"),
        ("hbfp-table3 --cluster local", "--cluster must not be given with hbfp-table3, got local"),
        ("hbfp-density --cluster local", "--cluster must not be given with hbfp-density, got local"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    words: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["reproduce", *words.split(), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_option_of_two_lines_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", "figure2", "--cluster", "slurm", "--slurm", "comment=a\nrm -r b"]
    assert main(words) == 2 and "--slurm must be KEY=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--collect", "--status", "--cancel"])
def test_a_folder_without_a_sweep_is_refused(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", option, "--out", str(tmp_path)]) == 2
    assert "--out must be a folder with a sweep" in capsys.readouterr().err


def test_a_dry_run_says_how_the_runs_are_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        *TINY,
        "--cluster",
        "slurm",
        "--jobs",
        "2",
        "--seeds",
        "3",
        "--dry-run",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    assert capsys.readouterr().out == "6 of 6 runs to do, in 2 jobs of at most 3 runs.\n"
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": 6, "jobs": [3, 3]}
    assert not (tmp_path / "out").exists()


def test_a_folder_in_which_jobs_work_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = tiny_sweep.made(tmp_path)
    handle = {"id": "1", "owner": Owner.this().to_json()}
    (folder / "submissions.json").write_text(json.dumps({"jobs": [[handle], []]}))
    assert main([*TINY, "--out", str(tmp_path)]) == 2
    assert "out must be a folder that no job works in" in capsys.readouterr().err
    assert main([*TINY, "--cluster", "local", "--out", str(tmp_path)]) == 2
    assert "with jobs for other runs" in capsys.readouterr().err


def fp16engine(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fp16engine", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@needs_submitit
@pytest.mark.slow
def test_a_sweep_on_this_machine_from_start_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    done = fp16engine(*TINY, "--cluster", "local", "--jobs", "2", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs to do, in 2 jobs" in done.stderr and "2 of 2 runs finished" in done.stderr
    assert "Figure 2" in done.stdout and (out / "report.html").exists() == ("Report:" in done.stdout)
    # the status is that of every job
    assert main(["reproduce", "--status", "--out", str(out)]) == 0
    assert "2 of 2 runs finished" in capsys.readouterr().out
    assert main(["reproduce", "--status", "--json", "--out", str(out)]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["done"], status["failed"], status["left"]) == (2, 0, 0) and len(status["jobs"]) == 2
    # merged elsewhere and later: the folder alone says all
    there = tmp_path / "there"
    shutil.copytree(out, there)
    expected = tiny_sweep.export(out)
    for name in (STORE, "report.html", "summary.json"):
        (there / name).unlink()
    assert main(["reproduce", "--collect", "--json", "--out", str(there)]) == 0
    assert json.loads(capsys.readouterr().out)["sweep"]["done"] == 2
    assert tiny_sweep.export(there) == expected
    # the same command has nothing left to do, without jobs too
    assert main([*TINY, "--cluster", "local", "--out", str(out)]) == 0
    assert "all 2 runs are done" in capsys.readouterr().err
    assert latest(out).name == "sweep-0001"
    assert main([*TINY, "--out", str(out)]) == 0
    assert tiny_sweep.export(out) == expected


@needs_submitit
@pytest.mark.slow
def test_a_failed_run_says_why_and_is_done_again_when_asked(tmp_path: Path) -> None:
    words = [*TINY, "--precisions", "fp16", "--lr", "1e30", "--cluster", "local", "--out", str(tmp_path)]
    done = fp16engine(*words)
    assert done.returncode == 1 and "Failed: dnn on digits, fp16 seed 0: " in done.stdout, done.stderr
    assert "all 1 runs are done" in fp16engine(*words).stderr
    assert "1 of 1 runs to do" in fp16engine(*words, "--retry-failed").stderr
    assert latest(tmp_path).name == "sweep-0002"


@needs_submitit
@pytest.mark.slow
def test_a_job_that_cannot_work_says_why(tmp_path: Path) -> None:
    _, folder = tiny_sweep.made(tmp_path, jobs=1)
    (folder / "sweep.json").write_text((folder / "sweep.json").read_text().replace('"limit":48', '"limit":8'))
    script = (
        "from fp16engine.experiments.cluster.collect import opened\nfrom pathlib import Path\n"
        f"with opened(Path({str(tmp_path)!r})) as c:\n c.submit([0])\n c.watch()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert "must be the data that the sweep was made with" in str(results.state(job_folder(folder, 0)).error)
    said = fp16engine("reproduce", "--status", "--out", tmp_path).stdout
    assert "4 runs of job 0 are left" in " ".join(said.split()) and "must be the data" in " ".join(
        said.split()
    )


@needs_submitit
@pytest.mark.slow
def test_cancelled_jobs_leave_their_runs_to_the_same_command(tmp_path: Path) -> None:
    long = [*TINY, "--epochs", "400", "--precisions", "fp16", "--cluster", "local", "--out", str(tmp_path)]
    assert fp16engine(*long, "--no-wait").returncode == 0
    done = fp16engine("reproduce", "--cancel", "--out", tmp_path)
    assert done.returncode == 0 and "0 of 1 runs finished" in done.stdout
    with Store(tmp_path / STORE) as store:
        assert not store.run_keys()
    assert fp16engine("reproduce", "--collect", "--out", tmp_path).returncode == 1  # a run that no job does
    assert fp16engine(*long, "--no-wait").returncode == 0
    assert latest(tmp_path).name == "sweep-0002"
    assert fp16engine("reproduce", "--cancel", "--out", tmp_path).returncode == 0


@needs_submitit
@pytest.mark.slow
def test_ctrl_c_ends_the_wait_and_not_the_jobs(tmp_path: Path) -> None:
    long = [*TINY, "--epochs", "4000", "--precisions", "fp16", "--cluster", "local", "--out", str(tmp_path)]
    child = subprocess.Popen(
        [sys.executable, "-m", "fp16engine", *long],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    said: list[str] = []
    while "1 running" not in "".join(said[-1:]):
        said.append(child.stderr.readline())
        assert said[-1], said
    child.send_signal(signal.SIGINT)
    _, rest = child.communicate()
    assert child.returncode == 130 and f"--collect --out {tmp_path} merges what they finish" in rest
    status = json.loads(fp16engine("reproduce", "--status", "--json", "--out", tmp_path).stdout)
    assert [job["state"] for job in status["jobs"]] == ["running"]
    assert fp16engine("reproduce", "--cancel", "--out", tmp_path).returncode == 0
