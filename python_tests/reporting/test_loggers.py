"""Loggers: what they get, what they call a resumed run, and that none of them ends a run."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_run

from fp16engine.reporting import loggers


class Fake:
    """A package with wandb's words; it fails at the step `breaks_at`."""

    __name__ = "wandb"

    def __init__(self, breaks_at: int | None = None) -> None:
        self.runs: list[Any] = []
        self.breaks_at = breaks_at

    def init(self, **settings: Any) -> None:
        print("welcome")
        self.runs.append(SimpleNamespace(settings=settings, rows=[], ended=None))

    def log(self, values: dict[str, float], step: int) -> None:
        if step == self.breaks_at:
            raise ConnectionError("the service is gone")
        self.runs[-1].rows.append((step, values))

    def finish(self, exit_code: int) -> None:
        self.runs[-1].ended = exit_code


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(sys.modules, "wandb", made)
    return made


def fit(out: Path, epochs: int = 2, **options: Any) -> None:
    run = tiny_run.trainer("mp")
    run.fit(tiny_run.data(), epochs, 16, out, progress=False, log_every=2, **options)


def test_a_logger_gets_every_row_and_the_settings_once(tmp_path: Path, fake: Fake) -> None:
    fit(tmp_path / "run", log="wandb")
    (run,) = fake.runs
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [step for step, _ in run.rows] == [row["step"] for row in rows] == [2, 4, 4, 6, 8, 8]
    assert [values for _, values in run.rows] == [loggers.figures(row) for row in rows]
    assert {"step/loss", "step/lr", "step/loss_scale"} <= run.rows[0][1].keys()
    wanted = ("test_accuracy", "train_loss", "lr", "loss_scale", "nonfinite", "skipped", "images_per_second")
    assert {f"epoch/{name}" for name in wanted} <= run.rows[2][1].keys()
    config = run.settings["config"]
    assert config["precision"] == "mp" and config["epochs"] == 2 and config["optimizer"] == "sgd"
    assert config["precision_choices"]["update"] and run.ended == 0
    assert run.settings["dir"] == str(tmp_path / "run") and run.settings["project"] == "fp16engine"


def test_what_a_package_prints_stays_out_of_the_results(
    tmp_path: Path, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "run", log="wandb")
    printed = capsys.readouterr()
    assert not printed.out and "welcome" in printed.err


def test_logging_changes_no_bit_of_a_run(tmp_path: Path, fake: Fake) -> None:
    fit(tmp_path / "plain")
    fit(tmp_path / "logged", log=["wandb"])
    assert tiny_run.outcome(tmp_path / "plain") == tiny_run.outcome(tmp_path / "logged")


def test_a_resumed_run_continues_under_its_name(tmp_path: Path, fake: Fake) -> None:
    fit(tmp_path / "run", 1, log="wandb")
    fit(tmp_path / "run", 2, log="wandb", resume=True)
    fit(tmp_path / "other", 1, log="wandb")
    first, second, other = (run.settings for run in fake.runs)
    assert first["id"] == second["id"] != other["id"] and second["resume"] == "allow"
    assert [step for step, _ in fake.runs[1].rows] == [6, 8, 8]


def test_a_logger_that_fails_leaves_the_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Fake(breaks_at=4)
    monkeypatch.setitem(sys.modules, "wandb", broken)
    with pytest.warns(UserWarning, match=r"wandb failed .* the service is gone") as caught:
        fit(tmp_path / "run", log="wandb")
    assert len(caught) == 1 and [step for step, _ in broken.runs[0].rows] == [2]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 6
    fit(tmp_path / "plain")
    assert tiny_run.outcome(tmp_path / "plain") == tiny_run.outcome(tmp_path / "run")


def test_a_logger_that_cannot_start_leaves_the_run_alone(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("no key")

    monkeypatch.setattr(fake, "init", refuse)
    with pytest.warns(UserWarning, match="wandb failed .* no key"):
        fit(tmp_path / "run", log="wandb")


def test_a_failed_run_is_ended_as_failed(tmp_path: Path, fake: Fake) -> None:
    with pytest.raises(MemoryError):
        tiny_run.trainer().fit(
            tiny_run.data(), 1, 16, tmp_path / "run", progress=tiny_run.StopAt(3), log="wandb"
        )
    assert fake.runs[0].ended == 1


@pytest.mark.parametrize("name", loggers.NAMES)
def test_a_missing_package_is_one_sentence_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, loggers._MODULES[name], None)
    with pytest.raises(ImportError, match=rf"{name} needs .* pip install 'fp16engine\[{name}\]'"):
        fit(tmp_path / "run", log=name)
    assert not (tmp_path / "run").exists()


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"log must be .*trackio.* got 'wnadb'"):
        fit(tmp_path, log="wnadb")
    with pytest.raises(TypeError, match="log must be a name or a sequence of names, got 3"):
        fit(tmp_path, log=3)


def test_a_damaged_file_of_names_is_one_sentence(tmp_path: Path, fake: Fake) -> None:
    fit(tmp_path / "run", 1, log="wandb")
    for content in ('{"wandb": 3}', '{"other": "x"}', "[", "[" * 5000, "3"):
        (tmp_path / "run" / loggers.FILE_NAME).write_text(content)
        with pytest.raises(ValueError, match=r"loggers\.json is damaged"):
            fit(tmp_path / "run", 2, log="wandb", resume=True)


def _installed(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.mark.slow
def test_real_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    fit(tmp_path / "run", 1, log="wandb")
    fit(tmp_path / "run", 2, log="wandb", resume=True)
    own = json.loads((tmp_path / "run" / loggers.FILE_NAME).read_text())["wandb"]
    files = list((tmp_path / "run" / "wandb").glob(f"offline-run-*-{own}/*.wandb"))
    assert files and b"epoch/test_accuracy" in b"".join(path.read_bytes() for path in files)


@pytest.mark.slow
def test_real_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    _installed("trackio")
    fit(tmp_path / "run", 1, log="trackio")
    fit(tmp_path / "run", 2, log="trackio", resume=True)
    own = json.loads((tmp_path / "run" / loggers.FILE_NAME).read_text())["trackio"]
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    rows = storage.get_logs(loggers.PROJECT, own)
    assert [row["step"] for row in rows if "epoch/test_accuracy" in row] == [4, 8]
    assert storage.get_run_config(loggers.PROJECT, own)["precision"] == "mp"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of SQLAlchemy
def test_real_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed("mlflow")
    _installed("sqlalchemy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    fit(tmp_path / "run", 1, log="mlflow")
    fit(tmp_path / "run", 2, log="mlflow", resume=True)
    own = json.loads((tmp_path / "run" / loggers.FILE_NAME).read_text())["mlflow"]
    client = importlib.import_module("mlflow.tracking").MlflowClient()
    assert [one.step for one in client.get_metric_history(own, "epoch/test_accuracy")] == [4, 8]
    run = client.get_run(own)
    assert run.data.params["precision"] == "mp" and run.data.params["precision_choices.storage"]
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
