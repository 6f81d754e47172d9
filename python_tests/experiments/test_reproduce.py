"""Experiments from end to end: skipped, resumed, failed and shared runs, budgets, reports, the command."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import study_run

from fp16engine.cli import main
from fp16engine.experiments import reproduce, study_pages
from fp16engine.experiments.boosters import figures
from fp16engine.experiments.experiment import Arm, Case, Request, Results, plain_arms, plan
from fp16engine.experiments.runs.estimate import Estimator, Rate, make_trainer
from fp16engine.experiments.runs.runner import BUDGET_SPENT, Outcome, RunWorker
from fp16engine.experiments.runs.store import DONE, FAILED, PENDING, Row, Store
from fp16engine.experiments.standalone_fp16.study import EXPERIMENTS
from fp16engine.reporting.progress import duration
from fp16engine.train import Interrupted

pytestmark = pytest.mark.slow

SCRIPT = Path(study_run.__file__)
KILLS = 3


def export(out: Path) -> str:
    with Store(out / reproduce.STORE) as store:
        return json.dumps(store.export())


def start(out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, SCRIPT, out])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    with study_run.prepare(out) as session:
        outcome = session.run()
        session.compare()
    assert (outcome.done, outcome.failed, outcome.left, outcome.elsewhere) == (3, 1, 0, 0)
    return out


def test_a_failed_run_says_why_and_the_others_continue(whole: Path) -> None:
    runs = {run["spec"]["training"]["optimizer"] + run["spec"]["precision"]: run
            for run in json.loads(export(whole))["runs"]}  # fmt: skip
    assert [runs[name]["status"] for name in ("sgdfp16", "sgdfp32", "adamfp16")] == [DONE, DONE, FAILED]
    failed = runs["adamfp16"]
    assert "steps in a row were not applied" in failed["reason"]
    assert failed["figures"]["test_accuracy"] is None and failed["figures"]["nonfinite_steps"] == 3
    assert all(len(runs[name]["history"]) == 2 for name in ("sgdfp16", "sgdfp32"))


def test_done_runs_are_skipped(whole: Path) -> None:
    before = export(whole)
    with study_run.prepare(whole) as session:
        assert dataclasses.astuple(session.run())[:2] == (0, 0)
        assert all(session.worker.store.row(spec.key).claims == 1 for spec in session.specs)
    assert export(whole) == before
    kept = [path.parent.name for path in (whole / reproduce.RUNS).glob("*/checkpoint.json")]
    assert kept == [run["key"] for run in json.loads(before)["runs"] if run["status"] == FAILED]


def test_killed_at_random_moments_it_ends_with_the_same_bits(whole: Path, tmp_path: Path) -> None:
    moments, kills = random.Random(7), 0
    out = tmp_path / "out"
    begun = time.monotonic()
    assert start(tmp_path / "timed").wait() == 0
    length = time.monotonic() - begun
    while kills < KILLS:
        child = start(out)
        try:
            status = child.wait(moments.uniform(0.3, 1.0) * length)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            status = child.wait()
        kills += status == -signal.SIGKILL
        if status == 0:  # it was done before its moment came: begin anew
            out = tmp_path / f"out-{kills}-{moments.random()}"
    assert start(out).wait() == 0
    assert export(out) == export(whole) == export(tmp_path / "timed")


def test_processes_share_a_store(whole: Path, tmp_path: Path) -> None:
    children = [start(tmp_path) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    with study_run.prepare(tmp_path) as session:
        assert session.run().done == 0
        session.compare()
        assert [session.worker.store.row(spec.key).claims for spec in session.specs] == [1, 1, 1]
    assert export(tmp_path) == export(whole)


def test_a_budget_stops_within_a_run_and_the_next_call_continues(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with study_run.prepare(tmp_path, budget=1e6) as session:
        left = iter([1e6] * 4)  # seconds left at each question; none after the fourth, amid the first run
        monkeypatch.setattr(RunWorker, "_time_left", lambda self: next(left, 0.0))
        outcome = session.run()
        assert outcome.out_of_time and (outcome.done, outcome.left) == (0, 3)
        assert len(list((tmp_path / reproduce.RUNS).glob("*/checkpoint.json"))) == 1
        assert session.run().done == 0
    monkeypatch.undo()
    with study_run.prepare(tmp_path) as session:
        assert session.run().left == 0
        session.compare()
    assert export(tmp_path) == export(whole)
    assert "--budget" in BUDGET_SPENT


def test_a_signal_gives_the_run_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with study_run.prepare(tmp_path) as session:
        monkeypatch.setattr(RunWorker, "_train", _interrupted)
        with pytest.raises(Interrupted):
            session.run()
        assert set(session.worker.store.status([spec.key for spec in session.specs]).values()) == {PENDING}


def _interrupted(*arguments: Any) -> Any:
    raise Interrupted("stopped by SIGINT", "SIGINT", 1)


def test_a_run_that_applies_almost_no_step_is_recorded_as_failed(tmp_path: Path) -> None:
    wild = dataclasses.replace(study_run.EXPERIMENT, arms=(Arm("wilder", "fp16", {"lr": 1e30}),))
    with study_run.prepare(tmp_path, wild) as session:
        assert session.run().failed == len(session.specs)
        row = session.worker.store.row(session.specs[0].key)
    assert "outputs are not finite and only" in row.reason
    assert row.figures["test_accuracy"] is None


def test_a_failed_run_is_done_again_when_asked(tmp_path: Path, whole: Path) -> None:
    only = dataclasses.replace(study_run.EXPERIMENT, arms=(study_run.WILD,))
    with study_run.prepare(tmp_path, only) as session:
        assert session.run().failed == 1
        assert session.run().done == 0
        session.worker.retry(session.specs)
        assert session.run().failed == 1
        row = session.worker.store.row(session.specs[0].key)
    assert row.claims == 2 and row.reason in export(whole)


def test_a_damaged_checkpoint_begins_the_run_again(whole: Path, tmp_path: Path) -> None:
    with study_run.prepare(tmp_path) as session:
        folder = session.worker.folder / session.specs[0].key
        folder.mkdir(parents=True)
        (folder / "checkpoint.json").write_text("{")
        session.run()
        session.compare()
    assert export(tmp_path) == export(whole)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_dry_run_writes_nothing(tmp_path: Path, schedule: str) -> None:
    planned = dataclasses.replace(
        study_run.EXPERIMENT, training={**study_run.EXPERIMENT.training, "schedule": schedule}
    )
    with study_run.prepare(tmp_path / "out", planned, keep=False) as session:
        rows = session.estimate()
    assert [row["status"] for row in rows] == [PENDING] * 3
    assert all(row["seconds"] > 0 and row["reason"] is None for row in rows)
    assert not (tmp_path / "out").exists()


def test_a_plan_is_the_study_at_full_size() -> None:
    datasets = study_run.Tiny()
    runs = {name: len(plan(one, Request(), datasets.get)) for name, one in EXPERIMENTS.items()}
    assert runs == {
        "table2": 12 * 3 * 50, "table3": 5 * 2 * 4, "table4": 2 * 3 * 7,
        "figure1": 1800, "figure2": 2, "figure3": 2, "figure4": 1800, "figure5": 1800, "updates": 5 * 3,
    }  # fmt: skip
    keys = {
        name: {p.spec.key for p in plan(one, Request(), datasets.get)} for name, one in EXPERIMENTS.items()
    }
    assert keys["table2"] == keys["figure1"] == keys["figure4"] == keys["figure5"]
    assert keys["figure2"] == keys["figure3"]


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith("table")])
@pytest.mark.filterwarnings("ignore:eps")  # 1e-7 is another number in binary16, and the optimizer says so
def test_every_arm_trains(name: str) -> None:
    planned = plan(EXPERIMENTS[name], Request(models=("dnn",), seeds=1), study_run.Tiny().get)
    dataset = study_run.data()
    x, labels = dataset.normalised("train", "float32")[:8], dataset.train.labels[:8]
    for one in planned:
        trainer = make_trainer(one.spec, dataset, "reference")
        assert trainer.step(x, labels).applied or one.spec.precision == "mp"
        assert trainer.config.optimizer == one.spec.training["optimizer"]


def test_a_request_changes_a_plan() -> None:
    request = Request(
        seeds=2, epochs=1, models=("vit8", "resnet20"), precisions=("fp16-strict", "fp16"),
        training={"optimizer": "adam", "lr": 0.5, "momentum": None},
    )  # fmt: skip
    planned = plan(EXPERIMENTS["table2"], request, study_run.Tiny().get)
    assert [(p.case.model, p.arm.label, p.spec.seed) for p in planned[:4]] == [
        ("vit8", "fp16-strict", 0), ("vit8", "fp16", 0),
        ("resnet20", "fp16-strict", 0), ("resnet20", "fp16", 0),
    ]  # fmt: skip
    other = plan(EXPERIMENTS["table3"], Request(activation="tanh", seeds=1), study_run.Tiny().get)
    assert {p.spec.model for p in other} >= {"dnn+tanh", "vit8+tanh"} and len(other) == 10
    assert len(planned) == 8 and planned[0].case == Case("vit8", "cifar10")
    assert dict(planned[0].spec.training) == {
        "optimizer": "adam", "lr": 0.5, "momentum": None, "schedule": "constant",
    }  # fmt: skip
    with Store(":memory:") as store:
        results = Results(EXPERIMENTS["table2"], tuple((p, Row(p.spec, PENDING)) for p in planned), store)
        text = "; ".join(results.reductions())
    for words in (
        "1 of 100 epochs", "2 of 50 seeds", "tiny (40 training and 20 test images) in place of cifar10",
        "2 of 12 models", "optimizer adam instead of sgd", "lr 0.5 instead of 0.01",
        "8 of 8 runs not done yet",
    ):  # fmt: skip
        assert words in text


def test_raw_values_are_json() -> None:
    assert study_pages.raw({"a": (float("nan"), plain_arms("fp16")[0])})["a"][0] is None
    json.dumps(study_pages.raw(plain_arms("fp16")), allow_nan=False)


TINY = ["--data", "digits", "--device", "reference", "--limit", "16", "--models", "dnn", "--epochs", "1",
        "--batch-size", "8", "--seeds", "1", "--out", "out"]  # fmt: skip


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], drawn: None
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "table2", *TINY, "--dry-run", "--json"]) == 0
    assert not list(tmp_path.iterdir())
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 3
    assert main(["reproduce", "table2", *TINY, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    (section,) = summary["experiments"]
    assert section["runs"] == {"done": 3, "failed": 0, "all": 3}
    assert "1 of 100 epochs" in section["reductions"]
    row = section["tables"]["table2"]["rows"][0]
    assert row["model"] == "dnn" and 0 <= row["fp16_accuracy"]["mean"] <= 1
    assert main(["reproduce", "table2,figure1,figure4,figure5", *TINY]) == 0
    printed = capsys.readouterr()
    assert "all 3 runs are done" in printed.err and "Reduced form: 1 of 100 epochs" in printed.out
    assert len(list((tmp_path / "out" / "plots").glob("figure*.png"))) == 3
    export = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [run["status"] for run in export["runs"]] == [DONE] * 3
    for name in ("results.json", "results.csv", "summary.json", "table2.csv", "report.html"):
        assert (tmp_path / "out" / name).stat().st_size > 100


def test_what_takes_longer_than_a_day_asks_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    at = TINY.index("--seeds")
    small = TINY[:at] + TINY[at + 2 :]
    monkeypatch.setattr(Estimator, "rate", lambda self, spec, data: Rate(60.0, 1.0))
    monkeypatch.setattr(Estimator, "known", lambda self, spec, data: Rate(60.0, 1.0))
    trained: list[Any] = []
    monkeypatch.setattr(RunWorker, "work", lambda self, specs: trained.append(specs) or Outcome())
    assert main(["reproduce", "table2", *small, "--dry-run"]) == 0
    plan_text = capsys.readouterr().out
    assert "1 day " in plan_text.replace("days", "day") and "150 runs" in plan_text
    assert len(plan_text.splitlines()) < 12
    assert main(["reproduce", "table2", *small]) == 2
    sentence = capsys.readouterr().err.strip()
    assert len(sentence.splitlines()) == 1 and "--yes or --budget TIME must " in sentence and not trained
    assert "day" in sentence and "--epochs 1 --limit 2000 --seeds 1 (about" in sentence
    assert sentence.count("--epochs") == sentence.count("--limit") == 1
    for accepted in (["--yes"], ["--budget", "1h"]):
        assert main(["reproduce", "table2", *small, *accepted]) == 0
    assert len(trained) == 2


def test_figures_of_trained_networks_ask_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Estimator, "rate", lambda self, spec, data: Rate(60.0, 1.0))
    trained: list[str] = []

    def stop(name: str, *_: Any, **options: Any) -> None:
        trained.append(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(figures, "trained", stop)
    command = ["reproduce", "hbfp-figure2", "--data", "digits", "--limit", "16", "--plane", "3"]
    assert main([*command, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "4 runs" in printed and "resnet20 on digits" in printed and "days" in printed
    assert main(command) == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert "--yes must be given for more than a day of work" in sentence and not trained
    assert "hbfp-figure2 --data digits --plane 3 --epochs 1 --limit 2000 (about" in sentence
    assert main([*command, "--yes"]) == 130 and trained == ["fp32"]


@pytest.mark.parametrize(
    ("what", "name", "options"),
    [
        ("table2", "cifar10", ["--models", "dnn", "--precisions", "fp16"]),
        ("figure2", "mnist", []),
        ("hbfp-figure1", "cifar10", ["--models", "dnn"]),
    ],
)
def test_a_dry_run_needs_no_data(
    what: str, name: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name_of in ("rate", "known"):
        monkeypatch.setattr(Estimator, name_of, lambda self, spec, data: Rate(1e-3, 1e-4))
    small = ["--limit", "8", "--epochs", "1", *options]
    assert main(["reproduce", what, *small, "--dry-run"]) == 0
    assert f"{name} is not here (--data-dir {name}=DIR, or --download)" in capsys.readouterr().out
    assert main(["reproduce", what, *small, "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["not_here"] == [name] and document["seconds"] > 0
    assert not list(tmp_path.iterdir())


def test_progress_counts_runs_and_estimates_by_the_same_rates(tmp_path: Path, capsys: Any) -> None:
    with study_run.prepare(tmp_path / "out", progress=None) as session:
        rows = session.estimate()
        session.run(rows)
    said = capsys.readouterr().err
    total = duration(sum(row["seconds"] for row in rows))
    assert f"3 of 3 runs to do, about {total} on this machine" in said
    assert f"run 1 of 3: {rows[0]['run']}: about" in said and f"{total} for all left" in said
    assert "run 3 of 3: " in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["table5"], r"must .* got 'table5'"),
        (["table2,figure9"], r"must .* got 'figure9'"),
        (["table2,all"], r"must .* got 'table2,all'"),
        (["table2", "--budget", "soon"], r"--budget must .* got 'soon'"),
        (["table2", "--models", "resnet32,"], r"--models must .* got 'resnet32,'"),
        (["table2", "--models", "lenet"], r"--models must .* got 'lenet'"),
        (["table2", "--data", "imagenet"], r"--data must .* got 'imagenet'"),
        (["table2", "--data-dir", "cifar10=nowhere"], r"--data-dir must .* got nowhere"),
        (["table2"], r"cifar10: root \(--data-dir\) must .* got none"),
        (["table2", "--seeds", "0"], r"--seeds must .* got 0"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *options]) == 2
    captured = capsys.readouterr()
    assert (
        re.search(words, captured.err) and len(captured.err.strip().splitlines()) == 1 and captured.out == ""
    )
    assert not list(tmp_path.iterdir())
