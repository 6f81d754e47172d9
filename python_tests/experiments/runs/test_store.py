"""The results store: keys, claims between processes, takeover of a killed owner's run, canonical export."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fp16engine.experiments.runs.spec import RunSpec
from fp16engine.experiments.runs.store import (
    DONE,
    FAILED,
    LEASE_SECONDS,
    PENDING,
    RUNNING,
    ClaimLost,
    Store,
    StoreError,
)
from fp16engine.reporting.owner import Owner


def spec(seed: int = 0, **changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "model": "dnn", "data": "digits", "data_sha256": "ab", "train_images": 32, "test_images": 16,
        "precision": "fp16", "epochs": 2, "batch_size": 8, "training": {"optimizer": "sgd", "lr": 0.1},
    }  # fmt: skip
    return RunSpec(**{**fields, "seed": seed, **changes})


def record(epoch: int, seconds: float = 1.0) -> dict[str, Any]:
    return {"epoch": epoch, "test_accuracy": 1 / 3, "train_loss": float("nan"), "seconds": seconds,
            "images_per_second": 32 / seconds}  # fmt: skip


def finish(store: Store, one: RunSpec, seconds: float = 1.0, status: str = DONE) -> None:
    store.add([one])
    assert store.claim([one.key]) == one.key
    figures = {"test_accuracy": 1 / 3, "test_loss": float("inf")}
    store.finish(
        one.key, status, figures, {"train_seconds": seconds}, [record(1, seconds), record(2, seconds)]
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "resnet20"}, {"data_sha256": "ac"}, {"train_images": 31}, {"test_images": 15}, {"seed": 1},
        {"precision": "fp32"}, {"epochs": 3}, {"batch_size": 9}, {"device": "cuda"}, {"results_version": 0},
        {"training": {"optimizer": "sgd", "lr": 0.2}}, {"training": {"augment": "study"}},
        {"fitting": {"more": 1}}, {"keep": ("p",)},
    ],
)  # fmt: skip
def test_whatever_defines_a_run_changes_its_key(changes: dict[str, Any]) -> None:
    assert spec(**changes).key != spec().key


def test_what_defines_nothing_does_not() -> None:
    assert spec(data="renamed").key == spec().key
    assert spec(training={"lr": 0.1, "eps": None, "optimizer": "sgd"}).key == spec().key
    assert set(spec().document()) == {f.name for f in dataclasses.fields(RunSpec)} | {
        "precision_choices",
        "augment_choices",
    }
    assert RunSpec.of_document(json.loads(json.dumps(spec().document()))).key == spec().key


def test_a_run_is_done_once(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        finish(store, spec(), status=FAILED)
        finish(store, spec(1))
        assert store.claim([spec().key, spec(1).key]) is None
        store.add([spec(), spec(1)])
        assert store.status([spec().key, spec(1).key, "none"]) == {
            spec().key: FAILED, spec(1).key: DONE, "none": PENDING,
        }  # fmt: skip
        store.retry([spec().key, spec(1).key])
        assert store.claim([spec(1).key, spec().key]) == spec().key
        row = store.row(spec(1).key)
    assert row is not None and row.spec == spec(1) and row.claims == 1
    assert row.figures == {"test_accuracy": 1 / 3, "test_loss": None}
    assert [epoch["seconds"] for epoch in row.history] == [1.0, 1.0]


def test_a_claim_holds_while_its_process_lives(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store, Store(tmp_path / "s") as other:
        store.add([spec(), spec(1)])
        assert store.claim([spec().key, spec(1).key]) == spec().key
        assert other.claim([spec().key, spec(1).key]) == spec(1).key
        assert other.claim([spec().key, spec(1).key]) is None
        store.release(spec().key)
        assert other.claim([spec().key]) == spec().key
        assert not store.beat(spec().key) and other.beat(spec().key)
        with pytest.raises(ClaimLost, match="another process has taken it over"):
            store.finish(spec().key, DONE, {}, {}, [])
        store.record_epoch(spec().key, record(1))
        row = other.row(spec().key)
    assert row is not None and (row.status, row.history) == (RUNNING, ())


_OWNER = """
import sys, time
from fp16engine.experiments.runs.store import Store
with Store(sys.argv[1]) as store:
    print(store.claim([sys.argv[2]]), flush=True)
    time.sleep(60)
"""


def test_a_killed_owners_run_is_taken_over_at_once(tmp_path: Path) -> None:
    key = spec().key
    with Store(tmp_path / "s") as store:
        store.add([spec()])
        child = subprocess.Popen(
            [sys.executable, "-c", _OWNER, tmp_path / "s", key], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None and child.stdout.readline().strip() == key
        assert store.claim([key]) is None and store.status([key]) == {key: RUNNING}
        child.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 20
        while store.status([key])[key] == RUNNING and time.monotonic() < deadline:
            time.sleep(0.01)  # not waited for, so a zombie: that counts as ended
        assert store.claim([key]) == key
        row = store.row(key)
        assert row is not None and row.claims == 2
        child.wait()
        child.stdout.close()


def test_an_owner_elsewhere_is_judged_by_its_heartbeat(tmp_path: Path, monkeypatch: Any) -> None:
    far = dataclasses.replace(Owner.this(), machine="another one", token="far")
    with Store(tmp_path / "s", far) as there, Store(tmp_path / "s") as here:
        here.add([spec()])
        assert there.claim([spec().key]) == spec().key
        assert far.gone() is None and here.claim([spec().key]) is None
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + LEASE_SECONDS + 1)
        assert here.claim([spec().key]) == spec().key


def test_a_number_given_again_is_another_process() -> None:
    assert Owner.this().gone() is False
    assert dataclasses.replace(Owner.this(), started="1").gone() is True
    assert Owner.of_json(json.loads(json.dumps(Owner.this().to_json()))).gone() is False


def test_exports_of_equal_runs_are_equal(tmp_path: Path) -> None:
    with Store(tmp_path / "a") as a, Store(tmp_path / "b") as b:
        for store, seeds, seconds in ((a, (0, 1, 10), 1.0), (b, (10, 1, 0), 2.0)):
            for seed in seeds:
                finish(store, spec(seed), seconds)
            records = [{"epoch": 2, "reference": "fp32"}, {"epoch": 1, "reference": "fp32"}]
            store.set_pair("p", "q", records)
        assert json.dumps(a.export()) == json.dumps(b.export())
        assert json.dumps(a.export(measured=True)) != json.dumps(b.export(measured=True))
        assert [run["spec"]["seed"] for run in a.export()["runs"]] == [0, 1, 10]
        found = [(pair["reference"], pair["other"], pair["epoch"]) for pair in a.export()["pairs"]]
        assert found == [("p", "q", 1), ("p", "q", 2)]
        lines = b.export_csv().splitlines()
    assert lines[0].startswith("key,status,reason,model,data,") and len(lines) == 4
    assert lines[1].split(",")[0] == spec(0).key


def test_epochs_of_an_unfinished_run_are_not_exported(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.add([spec()])
        store.claim([spec().key])
        store.record_epoch(spec().key, record(1))
        row = store.row(spec().key)
        assert row is not None and len(row.history) == 1
        run = store.export()["runs"][0]
    assert (run["status"], run["history"]) == (PENDING, [])


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(StoreError, match=r"/text must .* got file is not a database"):
        Store(tmp_path / "text")
    Store(tmp_path / "s").close()
    with sqlite3.connect(tmp_path / "s") as database:
        database.execute("UPDATE store SET value = '99'")
    database.close()
    with pytest.raises(StoreError, match=r"results store of format 1, got format '99'"):
        Store(tmp_path / "s")
    assert os.path.getsize(tmp_path / "text") == len("no database " * 100)


def test_a_heartbeat_in_the_future_does_not_hold_a_run(tmp_path: Path, monkeypatch: Any) -> None:
    far = dataclasses.replace(Owner.this(), machine="another one", token="far")
    with Store(tmp_path / "s", far) as there, Store(tmp_path / "s") as here:
        here.add([spec()])
        now = time.time()
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda: now + 10 * LEASE_SECONDS)
            assert there.claim([spec().key]) == spec().key
        assert here.claim([spec().key]) == spec().key


def test_a_closed_store_holds_no_run_though_its_process_lives(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.add([spec()])
        assert store.claim([spec().key]) == spec().key
    with Store(tmp_path / "s") as store:
        assert store.claim([spec().key]) == spec().key


@pytest.mark.parametrize("text", ["{}", "[]", "null", "", "[" * 10**5, '{"token": 1}', b"\xff"])
@pytest.mark.parametrize("column", ["owner", "heartbeat", "spec", "figures", "measured"])
def test_a_damaged_field_is_one_sentence_or_nobodys_claim(tmp_path: Path, column: str, text: Any) -> None:
    with Store(tmp_path / "s") as store:
        store.add([spec()])
        store.claim([spec().key])
    with sqlite3.connect(tmp_path / "s") as database:
        database.execute(f"UPDATE runs SET {column} = ?", (text,))
    database.close()
    with Store(tmp_path / "s") as store:
        assert store.status([spec().key]) == {spec().key: PENDING}
        assert store.claim([spec().key]) == spec().key
        try:
            store.export_csv()
        except StoreError as error:
            assert column in str(error) and "\n" not in str(error) and len(str(error)) < 300
