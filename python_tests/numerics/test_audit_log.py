"""The audit of a whole run: what only a later step or phase does is seen, and looking changes no bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import Wide, batch, net

import fp16engine as fe
from fp16engine import nn
from fp16engine.data import Dataset, Split
from fp16engine.numerics.audit import audit_step
from fp16engine.precision import Precision
from fp16engine.train import Checkpoint

DEVICE = "reference"


def data(steps: int) -> Dataset:
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 255, (8 * steps, 4, 4, 1)).astype(np.uint8), rng.integers(0, 2, 8 * steps))
    return Dataset("noise", split, Split(split.images[:8], split.labels[:8]), tuple("ab"))


class WideFrom(Wide):
    """Casts from its n-th forward pass on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.left = first

    def forward(self, x: Any) -> Any:
        self.left -= 1
        return super().forward(x) if self.left < 1 else x


def fitted(trainer: fe.Trainer, out: Path, steps: int = 9, epochs: int = 1, **options: Any) -> dict[str, Any]:
    trainer.fit(data(steps), epochs, 8, out, progress=False, **options)
    audit: dict[str, Any] = json.loads((out / "checkpoint.json").read_text())["checkpoint"]["audit"]
    return audit


def test_a_module_that_casts_later_is_found(tmp_path: Path) -> None:
    audit = fitted(fe.Trainer(net(WideFrom(4)), "fp16", device=DEVICE), tmp_path)
    assert audit["audited"] == {"fp16": [1, 2, 4, 8]}
    guilty = [row["op"] for row in audit["rows"] if row["not_allowed"]]
    assert "cast" in guilty and audit["not_allowed"] == len(guilty)


def test_every_phase_of_a_plan_is_audited(tmp_path: Path) -> None:
    audit = fitted(fe.Trainer(net(), "booster", device=DEVICE), tmp_path, steps=3, epochs=3)
    assert audit["audited"] == {"booster": [1, 2, 4], "booster in hbfp6": [7, 8]}
    deep = nn.Sequential(nn.Flatten(), *(nn.Linear(16, 16) for _ in range(3)))
    deep_audit = fitted(fe.Trainer(deep, "booster", device=DEVICE), tmp_path / "deep", steps=3, epochs=2)
    calls = {row["operand"]: row["calls"] for row in deep_audit["rows"] if row["op"] == "linear_forward"}
    assert calls == {"hbfp6": 3, "hbfp4": 1}  # the edges, and in the last epoch all three


def test_looking_changes_no_bit_and_resuming_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tensors(out: Path) -> dict[str, np.ndarray]:
        return Checkpoint.load(out).tensors

    whole = fitted(fe.Trainer(net(), "fp16", device=DEVICE), tmp_path / "whole", epochs=2)
    fitted(fe.Trainer(net(), "fp16", device=DEVICE), tmp_path / "parts", epochs=1)
    resumed = fitted(fe.Trainer(net(), "fp16", device=DEVICE), tmp_path / "parts", epochs=2, resume=True)
    assert resumed == whole and whole["audited"] == {"fp16": [1, 2, 4, 8, 16]}
    monkeypatch.setattr("fp16engine.numerics.audit_log.AuditLog.due", lambda *_: False)
    fitted(fe.Trainer(net(), "fp16", device=DEVICE), tmp_path / "unseen", epochs=2)
    seen, unseen = tensors(tmp_path / "whole"), tensors(tmp_path / "unseen")
    assert all(np.array_equal(seen[key], unseen[key]) for key in (*seen, *unseen))


@pytest.mark.parametrize("precision", ["fp16", "mp"])
def test_a_resident_float32_buffer_counts(precision: str) -> None:
    class Keeps(nn.Module):
        buffers = ("kept",)

        def __init__(self) -> None:
            super().__init__()
            self.kept = fe.tensor([0.0], "float16")

        def forward(self, x: Any) -> Any:
            self.kept = fe.tensor([1.0], "float32", DEVICE)
            return x

    trainer = fe.Trainer(net(Keeps()), precision, device=DEVICE)
    found = audit_step(trainer, *batch()).to_dict(trainer.precision)
    guilty = [entry for entry in found["resident"] if entry["not_allowed"]]
    assert [(entry["kind"], entry["dtype"]) for entry in guilty] == [("buffers", "float32")]
    assert found["not_allowed"] >= 1


@pytest.mark.parametrize("precision", ["fp16", "mp", "fp32"])
def test_float64_is_allowed_nowhere(precision: str) -> None:
    class Double(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.astype("float64").astype(x.dtype)

    trainer = fe.Trainer(net(Double()), precision, device=DEVICE)
    audit = audit_step(trainer, *batch())
    assert {row.op for row in audit.float32_tensors(trainer.precision)} == {"cast"}
    assert audit.to_dict(trainer.precision)["not_allowed"] == 2  # there, and back in the gradient


def test_mp_casts_nothing_to_float32() -> None:
    class Detour(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.astype("float32").astype("float16")

    trainer = fe.Trainer(net(Detour()), "mp", device=DEVICE)
    audit = audit_step(trainer, *batch())
    assert {row.op for row in audit.float32_tensors(trainer.precision)} == {"cast"}


def test_masters_under_fp16_go_by_their_name() -> None:
    trainer = fe.Trainer(net(), "fp16", device=DEVICE, update="master32")
    audit = audit_step(trainer, *batch())
    assert trainer.precision.name == "fp16+master32"
    assert audit.to_dict(trainer.precision)["not_allowed"] == 0
    found = audit.to_dict(Precision.get("fp16"))
    assert {entry["kind"] for entry in found["resident"] if entry["not_allowed"]} == {
        "master weights",
        "optimizer state",
    }
    assert [row["op"] for row in found["rows"] if row["not_allowed"]] == ["sgd"]


def test_a_resumed_run_with_another_update_keeps_its_name(tmp_path: Path) -> None:
    def trainer(update: str | None) -> fe.Trainer:
        return fe.Trainer(net(), "fp16", device=DEVICE, update=update)

    fitted(trainer("master32"), tmp_path)
    assert Checkpoint.load(tmp_path).precision.name == "fp16+master32"
    fitted(trainer("master32"), tmp_path, epochs=2, resume=True)
    with pytest.raises(fe.CheckpointError, match=r"precision: the checkpoint has 'fp16\+master32', this run"):
        fitted(trainer(None), tmp_path, epochs=3, resume=True)


@pytest.mark.parametrize("precision", ["fp16-strict", "fp16", "mp"])
def test_the_norm_of_clip_norm_is_listed_with_its_accumulator(precision: str) -> None:
    trainer = fe.Trainer(net(), precision, device=DEVICE, clip_norm=1.0)
    audit = audit_step(trainer, *batch())
    (row,) = [row for row in audit.rows if row.op == "global_norm"]
    assert row.accumulator == "float32" and audit.float32_tensors(trainer.precision) == []
