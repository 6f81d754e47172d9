"""Tests of what steps taken in turn say about speed, and when they are taken."""

from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.bench import step
from fp16engine.experiments import compare, speed

pytestmark = pytest.mark.slow


def rounds(*ratios):
    """Rates of two contenders on a machine whose own speed moves by a factor of four from round to round."""
    own = [100.0 * 4.0 ** (i % 2) for i in range(len(ratios))]
    return own, [rate * ratio for rate, ratio in zip(own, ratios, strict=True)]


def words(*ratios):
    found = speed.compared(*rounds(*ratios))
    assert found is not None
    return speed.sentence(found, "fp16", "fp32")


def test_a_machine_that_slows_down_slows_both():
    found = speed.compared(*rounds(*[0.8] * 9))
    assert found.ratio == pytest.approx(0.8)
    assert found.told_apart
    assert found.judged
    assert words(*[0.8] * 9).startswith("FP16 trains slower: 0.80 times the images per second of FP32")
    assert words(*[1.5] * 9).startswith("FP16 trains faster: 1.50 times")


def test_one_round_may_differ_two_may_not():
    assert "faster" in words(*[1.2] * 8, 0.9)
    assert "about as fast" in words(*[1.2] * 7, 0.9, 0.9)
    assert "about as fast" in words(*[1.02] * 9)
    assert "about as fast" in words(*[1.2] * 5)


def test_it_says_how_many_rounds_tell_the_two_apart():
    assert "(in 8 of 9 rounds of steps taken in turn)" in words(*[1.2] * 8, 0.9)
    assert "(in 9 of 9 rounds of steps taken in turn)" in words(*[0.8] * 9)
    assert "(0.90 to 1.20 in 9 rounds of steps taken in turn)" in words(*[1.2] * 7, 0.9, 0.9)


def test_rounds_that_do_not_agree_are_not_judged():
    ratios = [0.2, 3.0, 0.4, 2.0, 0.3, 2.5, 1.0, 0.5, 4.0]
    assert not speed.compared(*rounds(*ratios)).judged
    assert words(*ratios) == (
        "Speed is not judged: the machine was busy, FP16 against FP32 gave 0.20 to 4.00 in 9 rounds of steps "
        "taken in turn."
    )


def test_no_rounds_no_word():
    assert speed.compared([], []) is None


@pytest.mark.parametrize(
    ("device", "steps", "training", "words"),
    [
        ("cpu", [0.01, 0.02], 1.0, None),
        ("cpu", [0.01], 1.0, "two finished runs"),
        ("cpu", [5.0, 5.0], 100.0, "it would take about 230 s"),
        ("cpu", [5.0, 5.0], 3000.0, None),
        ("reference", [0.01, 0.02], 1.0, "defines the results"),
        ("simt", [0.01, 0.02], 1.0, "simulates a GPU"),
    ],
)
def test_when_it_is_measured(device, steps, training, words):
    found = speed.unmeasured(device, steps, training)
    assert found is None if words is None else words in (found or "")


def test_a_comparison_takes_steps_in_turn_and_changes_no_run(tmp_path, cpu, monkeypatch):
    order = []
    real = step.measure

    def recorded(contenders, *settings):
        for contender in contenders:
            step = contender.step
            contender.step = lambda name=contender.precision, step=step: (order.append(name), step())
        real(contenders, *settings)

    monkeypatch.setattr(speed, "measure", recorded)
    monkeypatch.setattr(speed, "TURN_SECONDS", 0.0)
    settings: dict[str, Any] = {"batch_size": 8, "lr": 0.02, "device": "cpu", "schedule": "cosine"}
    settings["progress"] = False
    digits = fe.data.digits().limit(24)
    summary = compare.run("dnn", digits, ("fp16", "fp32"), 1, out=tmp_path / "out", **settings)
    warm_up = 2 * 4
    assert order[warm_up:] == ["fp16", "fp16", "fp32", "fp32"] * speed.ROUNDS  # one untimed, one timed
    rates = summary["speed"]["rates"]
    assert {name: len(found) for name, found in rates.items()} == {"fp16": speed.ROUNDS, "fp32": speed.ROUNDS}
    entry = summary["verdicts"][0]
    assert entry["speed_ratio"] == np.median(np.divide(rates["fp16"], rates["fp32"]))
    assert "steps taken in turn" in entry["sentences"][-1]
    monkeypatch.setattr(speed, "unmeasured", lambda *_: "not today")
    quiet = compare.run("dnn", digits, ("fp16", "fp32"), 1, out=tmp_path / "quiet", **settings)
    assert quiet["speed"] == {"rates": {}, "reason": "not today"}
    assert [run["test_loss"] for run in quiet["runs"]] == [run["test_loss"] for run in summary["runs"]]
    assert "not today" in (tmp_path / "quiet" / "report.html").read_text()
