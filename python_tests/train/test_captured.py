"""The captured step against the same steps one by one: every bit of what a run leaves behind.

On the simulated GPU, where what is frozen into a recording by mistake shows as it would on a real one.
"""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run
from tiny_run import outcome

import fp16engine as fe
from fp16engine import functional as F
from fp16engine import nn
from fp16engine.loss_scale import LossScale
from fp16engine.operand_plan import OperandPlan
from fp16engine.train import captured, host_control, loop
from fp16engine.train.captured import CapturedStep
from fp16engine.train.evaluator import Evaluator
from fp16engine.train.scaler import LossScaler

TRAIN = 165  # ten full batches of 16 and one of 5
EPOCHS = 5
AUDIT = "the audit looks at every operation of its steps"
AUDITED = (0, 1, 3, 7, 15, 31)  # steps taken before an audited one
LAST = "the last batch of the epoch is smaller"


@pytest.fixture(autouse=True)
def long_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host looks when it must, however slow the simulator is."""
    monkeypatch.setattr(loop, "TICK_SECONDS", 1e9)


@pytest.fixture
def device(simt: Any) -> str:
    return "simt"


def _planted(monkeypatch: pytest.MonkeyPatch, factors: dict[int, float]) -> None:
    """Let training images of these numbers be multiplied, by infinity or so far that gradients overflow."""
    plain = fe.data.Dataset.normalised

    def normalised(self: Any, split: str, dtype: str) -> np.ndarray:
        images = np.array(plain(self, split, dtype))
        for number, factor in factors.items():
            if split == "train":
                with np.errstate(over="ignore"):
                    images[number] *= np.asarray(factor, dtype)
        return images

    monkeypatch.setattr(fe.data.Dataset, "normalised", normalised)


def _policy(name: str) -> fe.Precision:
    policy = fe.Precision.get(name)
    if policy.loss_scale is None:
        return policy
    # grows often, so it overflows often
    return dataclasses.replace(policy, name="hasty mp", loss_scale=LossScale(interval=4))


class _Net(nn.Module):
    """Two branches: one is normalised, the gradients of the other grow with its input."""

    def __init__(self) -> None:
        super().__init__()
        fe.manual_seed(7)
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, activation="relu")
        self.direct, self.dropout = nn.Linear(16, 8), nn.Dropout(0.25)
        self.head = nn.Linear(72, tiny_run.CLASSES)

    def forward(self, x: Any) -> Any:
        branches = F.flatten(self.norm(self.conv(x))), self.direct(F.flatten(x))
        return self.head(self.dropout(F.cat(branches, 1)))


def _trainer(device: str, capture: bool, precision: Any = "fp16", **options: Any) -> fe.Trainer:
    settings = {"schedule": "cosine", "momentum": 0.9, "lr": 0.05, "seed": 3, **options}
    if settings.get("optimizer", "sgd") != "sgd":
        del settings["momentum"]
    policy = _policy(precision) if isinstance(precision, str) else precision
    return fe.Trainer(_Net(), policy, device=device, capture=capture, **settings)


def _fit(trainer: fe.Trainer, out: Path | None, **options: Any) -> Any:
    settings = {"epochs": EPOCHS, "batch_size": tiny_run.BATCH, "progress": False, "log_every": 3, **options}
    return trainer.fit(tiny_run.data(TRAIN), out=out, **settings)


CASES = [
    ("fp16", "sgd", {}),
    ("fp16", "adam", {}),
    ("fp16-strict", "sgd", {}),
    ("fp16-strict", "adam", {}),
    ("mp", "sgd", {}),
    ("mp", "adam", {"lr": 0.01}),
    ("fp16", "sgd", {"update": "stochastic", "label_smoothing": 0.1}),
    ("fp16", "adamw", {"update": "kahan", "weight_decay": 0.1}),
    ("fp16", "rmsprop", {"schedule": "inverse-sqrt", "warmup": 5, "augment": "crop-flip"}),
]


@pytest.mark.parametrize(("precision", "optimizer", "options"), CASES)
def test_same_bits_over_fifty_steps(
    device: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    optimizer: str,
    options: dict[str, Any],
) -> None:
    """Weights, state, running statistics, losses, loss scale, counters and rows, through skipped steps."""
    factor = 300.0 if precision == "mp" else 60.0
    _planted(monkeypatch, {3: np.inf} | dict.fromkeys(range(10, TRAIN, 15), factor))
    one, other = tmp_path / "eager", tmp_path / "captured"
    eager = _trainer(device, False, precision, optimizer=optimizer, **options)
    _fit(eager, one)
    captured = _trainer(device, True, precision, optimizer=optimizer, **options)
    history = _fit(captured, other)
    assert outcome(other) == outcome(one)
    assert captured.step_count == 55 and 2 <= captured.skipped_steps + captured.nonfinite_steps <= 40
    found = history.run["capture"]
    assert found["eager_steps"] == EPOCHS + len(AUDITED) and found["reasons"] == [AUDIT, LAST]
    assert found["kernels_per_step"] > 20 and found["arena_bytes"] > 0
    if precision == "mp":
        assert captured.skipped_steps >= 3 and captured.nonfinite_steps >= 3
        scales = {row["loss_scale"] for row in outcome(other)[2]}
        assert len(scales) > 2


@pytest.mark.parametrize(("precision", "optimizer", "most"), [("mp", "sgd", 1.5), ("fp16", "adamw", 0.6)])
def test_same_bits_where_some_steps_are_clipped(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, optimizer: str, most: float
) -> None:
    """Norm and factor stay on the device, under a loss scale that moves and skips."""
    _planted(monkeypatch, {3: np.inf} | dict.fromkeys(range(10, TRAIN, 15), 300.0))
    factors: list[bool] = []
    plain = host_control.grad_scale

    def noted(state: Any) -> float:
        factor = plain(state)
        factors.append(factor < 1.0 / state.loss_scale)
        return factor

    monkeypatch.setattr(host_control, "grad_scale", noted)
    outcomes = []
    for capture in (False, True):
        out = tmp_path / str(capture)
        trainer = _trainer(device, capture, precision, optimizer=optimizer, clip_norm=most, lr=0.01)
        history = _fit(trainer, out)
        outcomes.append(outcome(out))
        if not capture:
            assert trainer.step_count == 55 and 10 < sum(factors) < len(factors) - 10
    assert outcomes[0] == outcomes[1] and history.run["capture"]["reasons"] in ([LAST], [AUDIT, LAST])
    assert (trainer.skipped_steps > 3) == (precision == "mp") and trainer.nonfinite_steps > 3


PLANNED = dataclasses.replace(
    fe.Precision.get("booster-w9"),
    name="planned",
    plan=OperandPlan(layers=(("conv", "float32"),), late=fe.BlockFormat(6)),
)


@pytest.mark.parametrize(("precision", "recordings"), [("hbfp3-sr", 1), (PLANNED, 2)])
def test_same_bits_in_block_formats(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any, recordings: int
) -> None:
    """Random bits of their own in every step; recorded anew where the plan switches, and nowhere else."""
    _planted(monkeypatch, {3: np.inf})
    backend: Any = fe.backend.get(device)
    recorded: list[int] = []
    plain = type(backend).recorded
    monkeypatch.setattr(
        type(backend), "recorded", lambda self, *given: recorded.append(0) or plain(self, *given)
    )
    outcomes = []
    for capture in (False, True):
        out = tmp_path / str(capture)
        trainer = _trainer(device, capture, precision)
        history = _fit(trainer, out, checkpoint_every=4, monitor_every=20)
        outcomes.append(outcome(out))
    assert outcomes[0] == outcomes[1] and trainer.step_count == 55 and trainer.nonfinite_steps > 3
    assert history.run["capture"]["kernels_per_step"] > 20 and history.run["capture"][
        "eager_steps"
    ] <= 8 + len(AUDITED)
    assert len(recorded) == recordings


@pytest.mark.parametrize("precision", ["mp", "fp16"])
def test_same_bits_under_an_automatic_loss_scale(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """The device measures the gradients and chooses the scale; the host's account does so from its counts."""
    _planted(monkeypatch, {3: np.inf} | dict.fromkeys(range(10, TRAIN, 15), 3000.0))
    policy = fe.Precision.get(precision).changed(loss_scale=LossScale.from_histogram())
    outcomes, measured = [], []
    plain = LossScaler.observe
    monkeypatch.setattr(LossScaler, "observe", lambda self, x: measured.append(0) or plain(self, x))
    for capture in (False, True):
        measured.clear()
        out = tmp_path / str(capture)
        trainer = _trainer(device, capture, policy)
        history = _fit(trainer, out, checkpoint_every=7, log_every=1)
        outcomes.append((*outcome(out), len(measured)))
    assert outcomes[0] == outcomes[1] and history.run["capture"]["reasons"] in ([LAST], [AUDIT, LAST])
    assert trainer.step_count == 55 and trainer.skipped_steps > 3 and trainer.nonfinite_steps > 3
    assert len({row["loss_scale"] for row in outcomes[0][2]}) > 5 and 16 < len(measured) < 45


@pytest.mark.parametrize(("precision", "optimizer"), [("fp16", "adam"), ("mp", "sgd")])
def test_resumed_in_the_middle(device: str, tmp_path: Path, precision: str, optimizer: str) -> None:
    class Stop:
        """A reporter that breaks the run at a step, as a full memory would."""

        def __init__(self, at: int) -> None:
            self.at = at

        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: None

        def step(self, epoch: int, step: int, loss: float, rate: float) -> None:
            if step == self.at:
                raise MemoryError

    _fit(_trainer(device, False, precision, optimizer=optimizer), tmp_path / "whole", epochs=3)
    broken = tmp_path / "broken"
    with pytest.raises(MemoryError):
        _fit(
            _trainer(device, True, precision, optimizer=optimizer),
            broken,
            epochs=3,
            checkpoint_every=4,
            progress=Stop(18),
        )
    assert fe.Checkpoint.load(broken).body["step"] == 5  # of the second epoch: step 16
    _fit(_trainer(device, True, precision, optimizer=optimizer), broken, epochs=3, resume=True)
    assert outcome(broken) == outcome(tmp_path / "whole")


def test_hopeless_runs_end_at_the_same_step(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _planted(monkeypatch, dict.fromkeys(range(TRAIN), np.inf))
    said = []
    for capture in (False, True):
        trainer = _trainer(device, capture, max_bad_steps=3)
        before = {name: value.tobytes() for name, value in trainer.model.state_dict().items()}
        with pytest.raises(fe.NonFiniteError) as error:
            _fit(trainer, None)
        said.append((str(error.value), trainer.state_dict()))
        assert {name: value.tobytes() for name, value in trainer.model.state_dict().items()} == before
    assert said[0] == said[1] and "3 steps in a row" in said[0][0] and "the input x holds" in said[0][0]


def test_a_scale_at_its_floor_ends_the_run_at_the_same_step(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _planted(monkeypatch, dict.fromkeys(range(TRAIN), 300.0))
    policy = dataclasses.replace(
        fe.Precision.get("mp"), name="high mp", loss_scale=LossScale(initial=8192.0, floor=4096.0)
    )
    said = []
    for capture in (False, True):
        trainer = _trainer(device, capture, policy, max_bad_steps=4)
        with pytest.raises(fe.NonFiniteError) as error:
            _fit(trainer, None)
        said.append((str(error.value), trainer.state_dict()))
    assert said[0] == said[1] and "its floor 4096" in said[0][0]


def test_the_host_looks_twice_an_epoch(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = fe.backend.get(device)
    reads: list[int] = []
    plain = type(backend).to_numpy
    trainer = _trainer(device, True)
    monkeypatch.setattr(type(backend), "to_numpy", lambda self, x: reads.append(0) or plain(self, x))
    monkeypatch.setattr(Evaluator, "score", lambda *arguments: (0.0, 0.0))
    monkeypatch.setattr(trainer, "train_batch", lambda *arguments: (fe.train.StepResult(0.0, True), 0))
    trainer.optimizer.zero_grad()
    data = tiny_run.data(TRAIN - TRAIN % tiny_run.BATCH)  # no last smaller batch
    trainer.fit(data, 1, tiny_run.BATCH, progress=False)
    first = len(reads)
    reads.clear()
    trainer.fit(data, 1, tiny_run.BATCH, progress=False)
    # the labels are checked in the first step of a fit; in addition, results and control block are read
    assert first == len(reads) == 3


def test_checkpoints_and_ticks_cut_the_stretches(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tick in (0.0, 1e9):
        monkeypatch.setattr(loop, "TICK_SECONDS", tick)
        out = tmp_path / f"{tick}"
        _fit(_trainer(device, True), out, epochs=2, checkpoint_every=3)
    assert outcome(tmp_path / "0.0") == outcome(tmp_path / f"{1e9}")


def test_new_arrays_are_recorded_anew(device: str) -> None:
    """load_state_dict replaces arrays; a recording that continued with the old ones would train those."""
    trainer = _trainer(device, True, schedule="constant")
    state = trainer.model.state_dict()
    feed = trainer.feed(tiny_run.data(TRAIN), tiny_run.BATCH)
    step = CapturedStep(trainer, feed.train.images, feed.train.labels, tiny_run.BATCH)

    def two_steps() -> dict[str, bytes]:
        trainer.model.load_state_dict(state)
        trainer.optimizer.load_state_dict(zero)
        trainer.load_state_dict(begin)
        step.begin(feed.order(0, 0), 0)
        for _ in range(3):
            step.replay()
        assert len(list(step.outcomes())) == 3
        return {name: value.tobytes() for name, value in trainer.model.state_dict().items()}

    zero, begin = trainer.optimizer.state_dict(), trainer.state_dict()
    assert two_steps() == two_steps()


def test_one_batch_over_and_over(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `bench step` has it: the same steps as eager ones, across the looks at the outcomes."""
    monkeypatch.setattr(captured, "STRETCH", 3)
    images = tiny_run.data(16).normalised("train", "float16")
    labels = tiny_run.data(16).train.labels
    eager, replayed = (_trainer(device, False, schedule="constant") for _ in range(2))
    losses = [eager.step(images, labels).loss for _ in range(8)]
    step = CapturedStep.on_batch(replayed, fe.backend.get(device).from_numpy(images), labels)
    for _ in range(8):
        step.again()
    step.wait()
    assert [result.loss for result, _ in step.outcomes()] == losses[6:] and step.reason is None
    assert replayed.applied_steps == 8
    for one, other in zip(eager.model.parameters(), replayed.model.parameters(), strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes()


class _Host(nn.Module):
    """Reads a value back in its forward pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        y = self.inner(x)
        return y * (2.0 if float(y.sum().item()) > 1e30 else 1.0)


class _Random(_Host):
    """Draws on the host in its forward pass."""

    def forward(self, x: Any) -> Any:
        return self.inner(x) * (1.0 + 0.0 * fe.random.generator().random())


class _Changing(_Host):
    """Does something else in every second step."""

    turn = 0

    def forward(self, x: Any) -> Any:
        self.turn += 1
        y = self.inner(x)
        return y * 1.0 if self.turn % 2 else y


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (_Host, "a value was read back to the host while a step is recorded"),
        (_Random, "the model draws random numbers on the host"),
        (_Changing, "the step asked for "),
    ],
)
def test_what_cannot_be_recorded_is_taken_step_by_step(
    device: str, tmp_path: Path, model: Any, reason: str
) -> None:
    results = []
    for capture in (False, True):
        out = tmp_path / str(capture)
        trainer = fe.Trainer(model(tiny_run.model()), device=device, capture=capture, lr=0.05, seed=3)
        history = _fit(trainer, out, epochs=1)
        results.append(outcome(out))
    assert results[0] == results[1]
    found = history.run["capture"]
    assert found["kernels_per_step"] == 0 and found["eager_steps"] >= 10
    assert any(text.startswith(reason) for text in found["reasons"])


@pytest.mark.parametrize("precision", ["fp16", "mp"])
def test_only_the_samples_of_a_monitor_are_taken_step_by_step(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Bits of the run that nobody watches; samples and findings of the one that is watched throughout."""
    eager, replayed = [], []
    taken, replay = loop._Run.step, CapturedStep.replay
    monkeypatch.setattr(
        loop._Run, "step", lambda self, order: eager.append(self.trainer.step_count) or taken(self, order)
    )
    monkeypatch.setattr(CapturedStep, "replay", lambda self: replayed.append(0) or replay(self))
    _planted(monkeypatch, {3: np.inf, 40: 300.0})
    runs: dict[str, Any] = {}
    for name, capture, monitor in (("unwatched", True, None), ("eager", False, 7), ("captured", True, 7)):
        eager.clear()
        replayed.clear()
        trainer = _trainer(device, capture, precision, lr=1e-5)  # so small that updates are lost
        data = tiny_run.data(TRAIN - TRAIN % tiny_run.BATCH)  # no last smaller batch
        out = tmp_path / name
        history = trainer.fit(data, EPOCHS, tiny_run.BATCH, out, progress=False, monitor_every=monitor)
        runs[name] = outcome(out), trainer, history.run.get("capture")
    assert eager == sorted({*range(0, 50, 7), *AUDITED}) and len(replayed) == 50 - len(eager)
    (tensors, body, rows), trainer, found = runs["captured"]
    assert (tensors, body, rows) == runs["eager"][0]
    unwatched, its_body = runs["unwatched"][0][:2]
    del body["audit"], its_body["audit"]  # an audited step that is a sample too lists what the monitor asked
    assert (tensors, body) == (unwatched, its_body) and found["kernels_per_step"] > 20
    assert [row["step"] for row in rows if row["kind"] == "ranges"] == list(range(1, 51, 7))
    assert trainer.monitor.findings == runs["eager"][1].monitor.findings != []
    assert found["reasons"] == [AUDIT, "the monitor looks at every operation of its samples"]
    assert found["eager_steps"] == len(eager) and body["trainer"]["nonfinite_steps"] > 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"on_nonfinite": "stop"}, "on_nonfinite='stop' wants to know of every step at once"),
    ],
)
def test_what_looks_at_every_step_sees_it(device: str, options: dict[str, Any], reason: str) -> None:
    history = _fit(_trainer(device, True, **options), None, epochs=1)
    (found,) = history.run["capture"]["reasons"]
    assert found.startswith(reason) and history.run["capture"]["eager_steps"] == 11


def test_a_trainer_with_a_step_of_its_own_takes_it(device: str) -> None:
    class Own(fe.Trainer):
        def train_batch(self, inputs: Any, labels: np.ndarray) -> Any:
            taken.append(0)
            return super().train_batch(inputs, labels)

    taken: list[int] = []
    trainer = Own(_Net(), device=device, capture=True, lr=0.05)
    history = _fit(trainer, None, epochs=1)
    assert len(taken) == 11 and history.run["capture"]["reasons"] == ["Own has a step of its own"]


def test_an_audit_sees_every_step(device: str) -> None:
    from fp16engine.numerics.audit import Audit

    trainer = _trainer(device, True)
    with Audit() as audit:
        history = _fit(trainer, None, epochs=1)
    assert history.run["capture"]["reasons"] == ["every operation is looked at, by an audit or a timer"]
    assert sum(row.calls for row in audit.rows if row.op == "sgd") == 11


def test_the_arena_goes_with_the_run(device: str) -> None:
    backend: Any = fe.backend.get(device)
    gc.collect()
    before = backend.memory()["current"]
    trainer = _trainer(device, True)
    history = _fit(trainer, None, epochs=1)
    assert history.run["capture"]["arena_bytes"] > 10000
    assert history.peak_memory_bytes > before + history.run["capture"]["arena_bytes"]
    del trainer
    gc.collect()
    assert backend.memory()["current"] == before


def test_capture_is_for_devices_that_record(backend_name: str) -> None:
    able = fe.backend.get(backend_name).capabilities.captured_steps
    assert tiny_run.trainer(device=backend_name).capture is backend_name.startswith("cuda")
    if able:
        assert tiny_run.trainer(device=backend_name, capture=True).capture
        return
    with pytest.raises(ValueError, match=rf"capture must .*'{backend_name}', .* got True"):
        tiny_run.trainer(device=backend_name, capture=True)
    with pytest.raises(TypeError, match=r"capture must .* got 1"):
        tiny_run.trainer(device=backend_name, capture=1)
    with pytest.raises(fe.errors.CaptureError, match=rf"device must .* got '{backend_name}'"):
        CapturedStep(tiny_run.trainer(device=backend_name), None, np.zeros(3, np.int64), 1)
