"""The monitor: what it sees, that it changes nothing, and that planted faults are named."""

from __future__ import annotations

import json
from typing import Any

import bounds
import numpy as np
import pytest
from planted import HIDDEN, OverItself, Times, batch, net

import fp16engine as fe
from fp16engine import nn
from fp16engine.numerics import advice
from fp16engine.numerics.monitor import KINDS, Monitor
from fp16engine.optim import SGD, Adam

DEVICE = "reference"


def steps(trainer: fe.Trainer, count: int = 4, **data: Any) -> Monitor:
    x, y = batch(**data)
    for _ in range(count):
        trainer.step(x, y)
    assert trainer.monitor is not None
    return trainer.monitor


def watched(middle: nn.Module | None = None, precision: str = "fp16", device: str = DEVICE, **options: Any):
    monitor = Monitor(every=1, shadow=1)
    return fe.Trainer(net(middle), precision, device=device, monitor=monitor, **options)


def found(monitor: Monitor, problem: str) -> list[advice.Finding]:
    return [finding for finding in monitor.findings if finding.problem == problem]


# What it sees


def test_every_layer_and_kind_has_a_row(backend_name: str) -> None:
    trainer = watched(nn.BatchNorm2d(HIDDEN), device=backend_name, optimizer="adam")
    sample = steps(trainer, 1).samples[0]
    layers = {kind: [row.layer for row in sample.rows if row.kind == kind] for kind in KINDS}
    assert layers["weights"] == layers["gradients"] == layers["optimizer state"]
    assert layers["weights"] == ["hidden", "middle", "classifier"]
    assert layers["activations"] == ["hidden", "relu", "middle", "classifier", "loss"]
    assert layers["activation gradients"] == ["loss", "classifier", "middle", "relu"]
    weights = sample.row("hidden", "weights")
    assert weights is not None and weights.ranges.values == 16 * HIDDEN + HIDDEN
    relu = sample.row("relu", "activations")
    assert relu is not None and 0.2 < relu.ranges.share(relu.ranges.zeros) < 0.8


def test_a_row_counts_what_numpy_counts() -> None:
    trainer = watched()
    x, y = batch()
    weights = trainer.model.hidden.weight.numpy().copy()
    trainer.step(x, y)
    row = trainer.monitor.samples[0].row("hidden", "weights")
    biases = HIDDEN  # all 0 at the start
    magnitudes = np.abs(weights.astype(np.float64))
    assert row.ranges.zeros == biases + np.count_nonzero(magnitudes == 0)
    assert row.ranges.exponent_range[1] == int(np.floor(np.log2(magnitudes.max())))


def test_samples_come_every_so_many_steps_and_are_json() -> None:
    seen: list[Any] = []
    trainer = fe.Trainer(net(), device=DEVICE, monitor=Monitor(every=3, on_sample=seen.append))
    steps(trainer, 7)
    assert [sample.step for sample in seen] == [1, 4, 7]
    assert json.loads(json.dumps(seen[0].to_dict(), allow_nan=False))["rows"]


@pytest.mark.parametrize("precision", ["fp16", "fp16-strict", "mp", "fp32"])
def test_not_a_bit_changes(precision: str, backend_name: str) -> None:
    states = []
    for monitor in (None, Monitor(every=2, shadow=1)):
        model = net(nn.Sequential(nn.BatchNorm2d(HIDDEN), nn.Dropout(0.3)))
        trainer = fe.Trainer(model, precision, device=backend_name, lr=0.1, monitor=monitor)
        x, y = batch()
        losses = [trainer.step(x, y).loss for _ in range(4)]
        states.append(
            (losses, {**model.state_dict(), **trainer.optimizer.state_dict()}, trainer.state_dict())
        )
    (losses, arrays, state), (other_losses, other_arrays, other_state) = states
    assert losses == other_losses and state == other_state
    assert all(np.array_equal(arrays[key], other_arrays[key]) for key in arrays)


def test_off_calls_nothing() -> None:
    """Without a monitor, and between its samples, the backend sees the same calls."""
    from fp16engine.observer import BackendCall, observe

    calls: list[list[str]] = []
    for monitor in (None, Monitor(every=50)):
        trainer = fe.Trainer(net(), device=DEVICE, monitor=monitor)
        x, y = batch()
        trainer.step(x, y)
        seen: list[str] = []

        def around(call: BackendCall, seen: list[str] = seen) -> Any:
            seen.append(call.op)
            return call.run()

        with observe(around):
            trainer.step(x, y)
        calls.append(seen)
    assert calls[0] == calls[1]


def test_the_shadow_visits_every_operation_in_turn() -> None:
    monitor = Monitor(every=1, shadow=3)
    trainer = fe.Trainer(net(), device=DEVICE, monitor=monitor)
    steps(trainer, 3)
    met = {(row.layer, row.kind) for s in monitor.samples for row in s.rows if row.shadowed}
    alone = watched()
    every = {(row.layer, row.kind) for row in steps(alone, 1).samples[0].rows if row.shadowed}
    assert met == every


def test_a_tensor_that_underflows_is_told_from_one_that_is_zero(backend_name: str) -> None:
    trainer = watched(Times(2.0**-24), device=backend_name)
    row = steps(trainer, 1).samples[0].row("middle", "activations")
    # relu gives zeros that are no underflow; the planted factor makes more of them
    assert row.ranges.zeros > row.underflowed > 0
    assert row.shadowed + (row.ranges.zeros - row.underflowed) == row.ranges.values


# Planted faults: right layer, right kind, right remedy


def test_an_activation_beyond_the_largest_number() -> None:
    monitor = steps(watched(Times(60000.0)), 1)
    (finding,) = found(monitor, advice.OVERFLOW)
    assert (finding.layer, finding.kind) == ("middle", "activations")
    assert "normalise or scale down" in finding.remedy
    assert finding.text.startswith("middle: activations leave binary16")


def test_an_activation_near_the_largest_number() -> None:
    x, _ = batch()
    plain: Any = net().to(DEVICE, "fp16")
    top = plain.relu(plain.hidden(plain.flatten(fe.tensor(x, device=DEVICE)))).numpy().max()
    monitor = steps(watched(Times(float(40000 / top))), 1)
    (finding,) = found(monitor, advice.NEAR)
    assert (finding.layer, finding.kind) == ("middle", "activations")
    assert "within a factor 2 of 65504" in finding.text


def test_gradients_that_underflow() -> None:
    monitor = steps(watched(Times(2.0**-22), lr=1e-3))
    (finding,) = [f for f in found(monitor, advice.UNDERFLOW) if f.kind != "activations"]
    assert (finding.layer, finding.kind) == ("middle", "activation gradients")
    assert "loss scale" in finding.remedy
    assert finding.share > 0.9


def test_an_eps_that_is_zero() -> None:
    monitor = steps(watched(OverItself(1e-8)), 1)
    (finding,) = found(monitor, advice.CONSTANT)
    assert (finding.layer, finding.problem) == ("middle", advice.CONSTANT)
    assert "1e-08, which is 0 in binary16" in finding.text and "6e-8" in finding.remedy
    assert not found(steps(watched(OverItself(1e-3)), 1), advice.CONSTANT)


def test_an_eps_of_a_norm_that_is_too_small() -> None:
    layer = nn.BatchNorm2d(HIDDEN, eps=1e-12)
    (finding,) = found(steps(watched(layer), 1), advice.CONSTANT)
    assert finding.layer == "middle" and "eps=1e-12" in finding.text
    assert not found(steps(watched(nn.BatchNorm2d(HIDDEN)), 1), advice.CONSTANT)


def test_an_eps_of_an_optimizer_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"eps must be > .* got 1e-08"):
        fe.Trainer(net(), device=DEVICE, optimizer="adam", eps=1e-8, state="plain")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_updates_below_half_an_ulp(optimizer: str) -> None:
    own: dict[str, Any] = {"momentum": 0.0} if optimizer == "sgd" else {}
    trainer = watched(optimizer=optimizer, lr=1e-7, **own)
    monitor = steps(trainer, 3)
    lost = found(monitor, advice.STAGNATION)
    assert {f.layer for f in lost} <= {"hidden", "classifier"} and lost
    assert all(f.kind == "weights" and f.share >= advice.LOST_SHARE for f in lost)
    assert all("update='stochastic' or lr >= " in f.remedy for f in lost)


def test_the_learning_rate_that_is_named_moves_the_weights() -> None:
    trainer = watched(lr=1e-7, momentum=0.0)
    row = steps(trainer, 1).samples[0].updates[0]
    assert row.share > 0.9
    factor = row.factor()
    assert factor is not None and factor > 1
    better = steps(watched(lr=1e-7 * factor * 1.01, momentum=0.0), 1).samples[0].updates[0]
    assert better.share < 0.6


def test_a_norm_that_stands_still_is_told_but_raises_no_alarm() -> None:
    trainer = watched(nn.BatchNorm2d(HIDDEN), lr=1e-7, momentum=0.0)
    monitor = steps(trainer, 4)
    assert "middle" not in {f.layer for f in found(monitor, advice.STAGNATION)}
    row = next(row for row in monitor.samples[-1].updates if row.layer == "middle")
    assert row.share > 0 and not row.matrix


def test_no_lost_updates_are_reported_with_masters() -> None:
    assert not found(steps(watched(precision="mp", lr=1e-7), 4), advice.STAGNATION)


def test_a_running_mean_that_cannot_move() -> None:
    # from 1000 on, 0.01 * (x - r) is below half of ulp(1000) = 0.5 while x is 20 deviations away
    layer = nn.BatchNorm2d(HIDDEN, momentum=0.99)
    model = net(nn.Sequential(Shift(1000.0), layer))
    trainer = fe.Trainer(model, "fp16", device=DEVICE, lr=1e-3, monitor=Monitor(every=1), statistics="plain")
    layer.running_mean.data[...] = 980.0
    layer.updates.data[...] = 1 << 32
    monitor = steps(trainer, 4)
    (finding,) = found(monitor, advice.RUNNING)
    assert (finding.layer, finding.kind) == ("middle.1", "running mean")
    assert finding.share > 0.9 and "smaller momentum" in finding.remedy


class Shift(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Any) -> Any:
        return x + self.by


def test_fast_faults_come_at_once_and_slow_ones_have_to_last() -> None:
    trainer = watched(lr=1e-7, momentum=0.0)
    assert not found(steps(trainer, advice.PATIENCE - 1), advice.STAGNATION)
    assert found(steps(trainer, 1), advice.STAGNATION)


def test_a_network_that_has_learned_may_have_small_updates() -> None:
    """The same lost updates, but of a network whose loss is a fraction of what chance gives."""
    x, _ = batch()
    trainer = watched(lr=1e-7, momentum=0.0)
    trainer.model.classifier.weight.data[...] *= 400
    y = trainer.predict(x).argmax(axis=1)  # labels it knows already
    for _ in range(4):
        trainer.step(x, y)
    sample = trainer.monitor.samples[-1]
    assert sample.loss < advice.LEARNED * sample.chance
    assert max(row.share for row in sample.updates) > advice.LOST_SHARE
    assert not found(trainer.monitor, advice.STAGNATION)


# No false alarms: defaults of the command line


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dnn", "resnet20"])
@pytest.mark.parametrize("precision", ["fp16", "mp"])
def test_no_alarm_where_training_is_fine(model: str, precision: str, cpu: Any) -> None:
    digits = fe.data.digits().limit(256)
    net = fe.models.create(model, image_size=8, channels=1)
    trainer = fe.Trainer(net, precision, lr=0.05, monitor=Monitor(every=2, shadow=1))
    x, y = digits.normalised("train", "float16"), digits.train.labels
    for i in range(16):
        part = slice(32 * (i % 8), 32 * (i % 8) + 32)
        trainer.step(x[part], y[part])
    assert trainer.monitor.advice == []


@pytest.mark.parametrize(("every", "shadow"), [(0, 1), (True, 1), (2.5, 1), (1, -1)])
def test_wrong_arguments_are_named(every: Any, shadow: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^(every|shadow) must .* got "):
        Monitor(every=every, shadow=shadow)
    with pytest.raises(TypeError, match=r"monitor must .* got 'x'"):
        fe.Trainer(net(), device=DEVICE, monitor="x")


# The meter itself


def test_lost_updates_are_counted_element_by_element() -> None:
    """1 - 1e-4 is 1 in binary16, 0.01 - 1e-4 is not 0.01."""
    from fp16engine.numerics.stagnation import Meter

    w = fe.tensor([1.0, 0.01, 1.0], "float16", DEVICE, requires_grad=True)
    w.grad = fe.tensor([1.0, 1.0, 0.0], "float16", DEVICE)
    optimizer = SGD([w], lr=1e-4)
    meter = Meter(optimizer, ["layer.w"])
    optimizer.step(count=True)
    (row,) = meter.after()
    assert (row.layer, row.nonzero, row.lost) == ("layer", 2, 1)
    # half of the gap above 1, which is what the meter holds a change against
    assert row.factor() == pytest.approx(2.0**-11 / 1e-4, rel=bounds.EPS["float16"])


def test_decay_and_state_are_metered_too() -> None:
    from fp16engine.numerics.stagnation import Meter

    w = fe.tensor([1.0, 2.0], "float16", DEVICE, requires_grad=True)
    w.grad = fe.tensor([0.0, 0.5], "float16", DEVICE)
    optimizer = SGD([w], lr=0.1, momentum=0.999, weight_decay=5e-4)
    optimizer.state["momentum"][0][...] = 1.0
    meter = Meter(optimizer, ["w"])
    optimizer.step(count=True)
    (row,) = meter.after()
    assert (row.decayed, row.decay_lost) == (2, 2)  # 0.1 * 5e-4 of the weight is below half a gap
    # 0.999 * 1 + 5e-4 of decay rounds to 0.9995, a gap away; with the gradient it moves farther
    assert (row.moving, row.stuck) == ({"momentum": 2}, {"momentum": 0})


def test_an_average_that_is_stuck() -> None:
    """0.9999 * m + 0.0001 * m' stays m in binary16: the state of a moving average does not move."""
    from fp16engine.numerics.stagnation import Meter

    w = fe.tensor([1.0], "float16", DEVICE, requires_grad=True)
    w.grad = fe.tensor([0.25], "float16", DEVICE)
    optimizer = Adam([w], betas=(0.9, 0.9999), eps=1e-3, state="plain")
    optimizer.state["v"][0][...] = 1.0
    meter = Meter(optimizer, ["w"])
    optimizer.step(count=True)
    (row,) = meter.after()
    assert (row.moving["v"], row.stuck["v"]) == (1, 1)
    assert (row.moving["m"], row.stuck["m"]) == (1, 0)
