"""The account of a captured step on the device, against the host's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import BlockFormat
from fp16engine.backend.base import StepScalars
from fp16engine.backend.blocks import Blocks
from fp16engine.loss_scale import LossScale
from fp16engine.numerics.advice import TOP_EXPONENT
from fp16engine.numerics.ranges import Ranges
from fp16engine.train.control_block import CONTROL, RESULTS
from fp16engine.train.objective import judged
from fp16engine.train.scaler import MEASURED_EVERY, SETTLING, LossScaler

NOT_AUTOMATIC = (False, 0, 1, 0)
KINDS = ("applied", "overflow", "loss")


def _control(simt: Any, **values: float) -> Any:
    block = np.zeros((), CONTROL)
    for name, value in values.items():
        block[name] = value
    return simt.from_numpy(np.frombuffer(block.tobytes(), np.uint8))


def _read(simt: Any, control: Any) -> Any:
    return np.frombuffer(bytearray(simt.to_numpy(control).tobytes()), CONTROL)[0]


@pytest.mark.parametrize("dynamic", [True, False])
def test_loss_scale_and_counters_continue_as_on_the_host(simt: Any, dynamic: bool) -> None:
    """Random outcomes of 300 steps; the policy is tight, so that floor, cap and growth are all met."""
    policy = LossScale(initial=64.0, interval=3, floor=16.0, cap=1024.0, dynamic=dynamic)
    scaler = LossScaler(policy, "float16", 1000)
    rng = np.random.default_rng(5)
    steps = 300
    control = _control(simt, loss_scale=scaler.scale)
    results = simt.zeros((steps, RESULTS), "int32")
    streak = drawn = 0
    for step in range(steps):
        kind = KINDS[int(rng.choice(3, p=(0.6, 0.35, 0.05) if step < 150 else (0.95, 0.04, 0.01)))]
        loss = simt.full((), float("inf") if kind == "loss" else 0.5, "float16")
        block = _read(simt, control)
        block["culprit"], block["correct"] = kind == "overflow" and 4, 7
        simt.write(control, np.frombuffer(block.tobytes(), np.uint8))
        simt.native.advance_step(
            control,
            loss,
            results,
            None,
            scaler.growth,
            scaler.backoff,
            scaler.floor,
            scaler.cap,
            scaler.interval,
            scaler.patience,
            1000,
            11,
            4,
            True,
            scaler.dynamic,
            *NOT_AUTOMATIC,
        )
        if kind == "loss":
            streak += 1
        else:
            scaler.update(kind == "applied")
            streak = 0 if kind == "applied" else streak
        found, state = _read(simt, control), scaler.state_dict()
        drawn += 4 if kind == "loss" else 11  # there is no backward pass
        assert (found["steps"], found["batch"], found["dropout"]) == (step + 1, step + 1, drawn)
        assert (found["loss_scale"], found["applied"]) == (state["scale"], state["applied"])
        assert (found["clean_steps"], found["stuck_steps"]) == (state["clean_steps"], state["stuck_steps"])
        assert (found["bad_streak"], found["halted"]) == (streak, 0)
        assert (found["culprit"], found["correct"], found["origin"]) == (0, 0, 0)
        row = simt.to_numpy(results)[step]
        assert row[1:].tolist() == [7, 4 if kind == "overflow" else 0, 0]
        assert row[:1].view(np.float32)[0] == (np.inf if kind == "loss" else 0.5)


def test_an_automatic_scale_continues_as_on_the_host(simt: Any) -> None:
    """Gradients of random sizes, of nothing but zeros, and overflows; the host's scaler next to it."""
    scaler = LossScaler(LossScale(initial=4.0, cap=2.0**12, floor=0.5, automatic=True), "float16", 1000)
    rng = np.random.default_rng(6)
    steps = 120
    control = _control(simt, loss_scale=scaler.scale, measuring=True)
    results, counts = simt.zeros((steps, RESULTS), "int32"), simt.zeros((steps, 47), "int64")
    limits = scaler.growth, scaler.backoff, scaler.floor, scaler.cap, scaler.interval, scaler.patience, 1000
    rest = 0, 0, True, scaler.dynamic, True, SETTLING, MEASURED_EVERY, TOP_EXPONENT
    loss = simt.full((), 0.5, "float16")
    scales, measured = set(), 0
    for step in range(steps):
        kind = "overflow" if rng.random() < 0.1 else "zeros" if rng.random() < 0.1 else "applied"
        size = 0.0 if kind == "zeros" else scaler.scale * 2.0 ** (17 * np.sin(step / 20))
        sizes = [np.clip(rng.standard_normal(n) * size, -6e4, 6e4) for n in (300, 9)]
        drawn = [size.astype(dtype) for size, dtype in zip(sizes, ("float16", "float32"), strict=True)]
        grads = [simt.from_numpy(grad) for grad in drawn]
        block = _read(simt, control)
        assert block["measuring"] == scaler.measuring
        block["culprit"] = kind == "overflow"
        simt.write(control, np.frombuffer(block.tobytes(), np.uint8))
        simt.native.measure_gradients(grads, control, counts)
        simt.native.advance_step(control, loss, results, counts, *limits, *rest)
        expected = simt.to_numpy(simt.range_statistics(grads)).sum(axis=0) * scaler.measuring
        assert (simt.to_numpy(counts)[step] == expected).all()
        if kind != "overflow" and scaler.measuring:
            scaler.observe(Ranges.of_counts(expected))
            measured += 1
        scaler.update(kind != "overflow")
        found, state = _read(simt, control), scaler.state_dict()
        assert (found["loss_scale"], found["settled"]) == (state["scale"], state["applied"])
        assert found["tops"].tolist()[: found["measured"]] == state["tops"]
        assert not found["tops"][found["measured"] :].any()
        scales.add(state["scale"])
    assert len(scales) > 6 and scaler.floor in scales and scaler.cap in scales
    assert 8 < measured < steps - scaler.skipped - 20


@pytest.mark.parametrize("by", ["streak", "patience"])
def test_a_halted_run_stands_still(simt: Any, by: str) -> None:
    control = _control(simt, loss_scale=1.0)
    results = simt.zeros((9, RESULTS), "int32")
    bad = simt.full((), float("nan"), "float32")
    good = simt.full((), 1.0, "float32")
    table = simt.from_numpy(np.frombuffer(StepScalars(lr=0.5).pack(), np.uint8))
    scalars = simt.zeros((32,), "uint8")

    def advance(loss: Any) -> None:
        if by == "patience":
            block = _read(simt, control)
            block["culprit"] = 1
            simt.write(control, np.frombuffer(block.tobytes(), np.uint8))
        limits = (3, 100) if by == "patience" else (100, 3)
        policy = 2.0, 0.5, 1.0, 1.0, 9, *limits, 1, 1, True, True, *NOT_AUTOMATIC
        simt.native.advance_step(control, loss, results, None, *policy)

    for _ in range(3):
        advance(good if by == "patience" else bad)
    assert _read(simt, control)["halted"] == 1
    before = simt.to_numpy(results), _read(simt, control).tobytes()
    simt.native.decide_step(control, good, None, 1.0, table, scalars)
    assert not StepScalars.unpack(simt.to_numpy(scalars).tobytes()).applied
    advance(good)
    np.testing.assert_array_equal(simt.to_numpy(results), before[0])
    assert _read(simt, control).tobytes() == before[1]


def test_scalars_are_those_of_the_applied_step(simt: Any) -> None:
    rows = [StepScalars(lr=0.1 * i, correction1=0.5, seed=2**63, step=i + 1) for i in range(3)]
    table = simt.from_numpy(np.frombuffer(b"".join(row.pack() for row in rows), np.uint8))
    scalars = simt.zeros((32,), "uint8")
    loss = simt.full((), 1.0, "float16")
    for applied in range(4):
        control = _control(simt, applied=applied, loss_scale=1024.0)
        simt.native.decide_step(control, loss, None, 1.0, table, scalars)
        got = StepScalars.unpack(simt.to_numpy(scalars).tobytes())
        expected = rows[min(applied, 2)]._replace(grad_scale=1 / 1024)
        assert got == StepScalars.unpack(expected.pack())
    for values, loss_value in (({"culprit": 1}, 1.0), ({}, np.nan), ({"halted": 1}, 1.0)):
        loss = simt.full((), loss_value, "float16")
        control = _control(simt, loss_scale=1.0, **values)
        simt.native.decide_step(control, loss, None, 1.0, table, scalars)
        assert not StepScalars.unpack(simt.to_numpy(scalars).tobytes()).applied


def test_the_factor_that_clips_is_the_hosts(simt: Any) -> None:
    """In double precision as in Python: scale and root of norms from far below the limit to far above it."""
    rng = np.random.default_rng(3)
    table = simt.from_numpy(np.frombuffer(StepScalars(lr=0.5).pack(), np.uint8))
    scalars, loss = simt.zeros((32,), "uint8"), simt.full((), 1.0, "float16")
    acted = 0
    for _ in range(60):
        norm = np.array([2.0 ** rng.integers(-125, 128), 1 + 9 * rng.random()], np.float32)
        scale = 2.0 ** int(rng.integers(0, 16))
        length = float(norm[0]) * float(norm[1]) / scale
        most = length * float(rng.choice([0.3, 0.99, 1.0, 1.01, 7.0]))
        control = _control(simt, loss_scale=scale)
        simt.native.decide_step(control, loss, simt.from_numpy(norm), most, table, scalars)
        expected = (most / length if length > most else 1.0) / scale
        found = StepScalars.unpack(simt.to_numpy(scalars).tobytes()).grad_scale
        assert found == np.float32(expected)
        acted += length > most
    assert 10 < acted < 50


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_correct_labels_are_counted_as_on_the_host(simt: Any, dtype: str) -> None:
    rng = np.random.default_rng(1)
    logits = rng.integers(-2, 3, (300, 7)).astype(dtype)  # many ties
    logits[rng.random(logits.shape) < 0.03] = np.nan
    logits[rng.random(logits.shape) < 0.03] = np.inf
    logits[rng.random(logits.shape) < 0.03] = -np.inf
    logits[5] = -np.inf
    labels = rng.integers(0, 7, 300)
    control = _control(simt)
    simt.native.count_correct(simt.from_numpy(logits), simt.from_numpy(labels), control)
    assert _read(simt, control)["correct"] == judged(fe.tensor(logits, device="reference"), labels)[0] > 0


@pytest.mark.parametrize("origin", [False, True])
def test_the_highest_rank_is_found(simt: Any, origin: bool) -> None:
    arrays = [np.zeros(n, dtype) for n, dtype in ((5, "float16"), (9000, "float16"), (33, "float32"))]
    loss = simt.full((), np.inf if origin else 1.0, "float32")
    other = simt.full((), 1.0 if origin else np.inf, "float32")
    for indices, code in (((), 0), ((0,), 1), ((1,), 2), ((0, 1), 2), ((2, 0), 3)):
        given = [a.copy() for a in arrays]
        for index in indices:
            given[index][-1] = np.nan if index else -np.inf
        moved, ranks = [simt.from_numpy(a) for a in given], [1, 2, 3]
        for value, expected in ((loss, code), (other, 0)):
            control = _control(simt)
            simt.native.rank_nonfinite(moved, ranks, value, origin, control)
            found = _read(simt, control)
            assert (found["culprit"], found["origin"]) == ((0, expected) if origin else (expected, 0))


def test_batches_follow_the_order(simt: Any) -> None:
    order = np.random.default_rng(2).permutation(10)
    indices = simt.empty((4,), "int64")
    parts: list[Any] = [order[:4], order[4:8], [*order[8:], -1, -1]]
    for batch, expected in enumerate(parts):
        simt.native.batch_indices(_control(simt, batch=batch), simt.from_numpy(order), indices)
        assert simt.to_numpy(indices).tolist() == list(expected)


@pytest.mark.parametrize("when_applied", [True, False])
def test_replaced_where_the_step_is_applied_or_where_it_is_not(simt: Any, when_applied: bool) -> None:
    for applied in (True, False):
        now = simt.from_numpy(np.frombuffer(StepScalars(lr=1.0, applied=applied).pack(), np.uint8))
        arrays = [simt.full((n,), 1.0, dtype) for n, dtype in ((9, "float16"), (3000, "float32"))]
        values = [simt.full(a.shape, 2.0, str(a.dtype)) for a in arrays]
        simt.native.replace(arrays, values, now, when_applied)
        assert all((simt.to_numpy(a) == (2.0 if applied == when_applied else 1.0)).all() for a in arrays)


def test_dropout_counts_from_the_control_block(simt: Any) -> None:
    x = simt.full((1000,), 1.0, "float16")
    y = simt.empty(x.shape, "float16")
    simt.native.dropout_counted(x, y, 0.3, 5, 17, _control(simt, dropout=2**33 + 4))
    np.testing.assert_array_equal(y, simt.dropout(x, 0.3, 5, 2**33 + 21))


@pytest.mark.parametrize("axis", [1, 2])
def test_block_rounding_counts_from_the_control_block(simt: Any, axis: int) -> None:
    """Runs down a column and along a row, each a kernel of its own."""
    rng = np.random.default_rng(4)
    x = simt.from_numpy(rng.standard_normal((1, 20, 30)).astype(np.float32))
    blocks, fmt = Blocks((1, 20, 30), axis), BlockFormat(3, 8, rounding="stochastic")
    expected = simt.to_numpy(simt.quantize(x, blocks, fmt.drawing(5, 2**33 + 21)))
    simt.control = _control(simt, dropout=2**33 + 4)
    try:
        found = simt.to_numpy(simt.quantize(x, blocks, fmt.drawing(5, 17)))
    finally:
        simt.control = None
    assert (found == expected).all()
    assert (simt.to_numpy(simt.quantize(x, blocks, fmt.drawing(5, 17))) != expected).any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda n, c, x: n.loss_seed(x, x[:1]), "control must be uint8, got float32"),
        (lambda n, c, x: n.loss_seed(c, x), "dy must be 1 values, got float32"),
        (
            lambda n, c, x: n.decide_step(c, x[:1], None, 1.0, c[:33], c[:32]),
            "table must be rows of StepScalars, got uint8",
        ),
        (
            lambda n, c, x: n.decide_step(c, x[:1], x, 1.0, c[:32], c[:32]),
            "norm must be of shape .2., got float32 .3.",
        ),
        (lambda n, c, x: n.measure_gradients([x], c, x), "counts must be int64, got float32"),
        (
            lambda n, c, x: n.rank_nonfinite([x], [], x[:1], True, c),
            "ranks must be one for each of 1 arrays, got 0",
        ),
        (
            lambda n, c, x: n.replace([x], [x[:2]], c[:32], True),
            "values must be of the size of float32 .3., got float32 .2.",
        ),
    ],
)
def test_wrong_arguments_are_named(simt: Any, call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        call(simt.native, _control(simt), simt.zeros((3,), "float32"))
