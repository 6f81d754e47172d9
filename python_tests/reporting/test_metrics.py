"""metrics.jsonl: rows, the cut on resume, and a disk that refuses."""

import errno
import json
import os

import pytest
import tiny_run

from fp16engine.reporting.files import SaveError
from fp16engine.reporting.metrics import MetricsWriter
from fp16engine.train import checkpoint


def rows(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_appends_rows_that_a_reader_sees_at_once(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write({"kind": "step", "step": 1, "epoch": 1, "loss": 0.1})
        assert rows(tmp_path) == [{"kind": "step", "step": 1, "epoch": 1, "loss": 0.1}]
        writer.sync()


def test_starts_empty_without_resume(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("old\n")
    with MetricsWriter(tmp_path):
        assert rows(tmp_path) == []


def test_nan_never_reaches_the_file(tmp_path):
    with MetricsWriter(tmp_path) as writer, pytest.raises(ValueError):
        writer.write({"kind": "step", "step": 1, "epoch": 1, "loss": float("nan")})


@pytest.mark.parametrize(
    ("resume_at", "kept"), [((0, 0), 0), ((2, 0), 2), ((2, 1), 3), ((3, 1), 4), ((9, 9), 5)]
)
def test_cut_keeps_rows_before_the_checkpoint(tmp_path, resume_at, kept):
    written = [
        {"kind": "step", "step": 1, "epoch": 1},
        {"kind": "step", "step": 2, "epoch": 1},
        {"kind": "epoch", "step": 2, "epoch": 1},
        {"kind": "step", "step": 3, "epoch": 2},
        {"kind": "epoch", "step": 4, "epoch": 2},
    ]
    lines = [json.dumps(row) + "\n" for row in written]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"kind": "epoch", "epo')
    with MetricsWriter(tmp_path, resume_at):
        pass
    assert rows(tmp_path) == written[:kept]


def test_a_row_without_its_line_end_never_runs_into_the_next(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "step", "step": 1, "epoch": 1}')
    with MetricsWriter(tmp_path, (1, 0)) as writer:
        writer.write({"kind": "step", "step": 2, "epoch": 1})
    assert [row["step"] for row in rows(tmp_path)] == [2]


def test_rows_reach_the_disk_before_the_checkpoint_that_counts_them(tmp_path, monkeypatch):
    calls = []
    for owner, name in ((MetricsWriter, "sync"), (checkpoint, "save")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, real=real, name=name: (calls.append(name), real(*a)))
    tiny_run.trainer().fit(tiny_run.data(), 2, 16, tmp_path, progress=False)
    assert calls == ["save", "sync", "save", "sync", "save"]  # the first before metrics.jsonl exists


def test_rows_of_a_run(tmp_path):
    tiny_run.trainer("mp").fit(tiny_run.data(), 2, 16, tmp_path, progress=False, log_every=3)
    found = rows(tmp_path)
    assert [(row["kind"], row["step"]) for row in found] == [
        ("step", 3),
        ("epoch", 4),
        ("step", 6),
        ("epoch", 8),
    ]
    assert found[0]["applied"] is True and found[0]["loss_scale"] == 2.0**15 and found[0]["lr"] == 0.05
    assert {"train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"} <= set(found[1])


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with MetricsWriter(tmp_path) as writer:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(SaveError, match=r"metrics\.jsonl: No space left on device"):
            writer.sync()
        monkeypatch.undo()


def test_tensorboard_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'fp16engine\[tensorboard\]'"):
        tiny_run.trainer().fit(tiny_run.data(), 1, 16, tmp_path, progress=False, tensorboard=True)
    with pytest.raises(ValueError, match=r"out must .* got None"):
        tiny_run.trainer().fit(tiny_run.data(), 1, 16, progress=False, tensorboard=True)


def test_tensorboard_gets_scalars(tmp_path):
    pytest.importorskip("tensorboardX")
    tiny_run.trainer().fit(tiny_run.data(), 1, 16, tmp_path, progress=False, tensorboard=True)
    events = list((tmp_path / "tensorboard").iterdir())
    assert len(events) == 1 and b"epoch/test_accuracy" in events[0].read_bytes()
