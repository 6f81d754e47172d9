"""Tests of the words and the statistics of a comparison."""

import numpy as np
import pytest

from fp16engine.experiments import verdicts
from fp16engine.experiments.report import verdict


def right(n, wrong):
    array = np.ones(n, bool)
    array[list(wrong)] = False
    return array


def run(precision, accuracy, rates=(100.0, 100.0, 100.0, 100.0), memory=100, epochs=None, **more):
    epochs = epochs or [accuracy] * len(rates)
    rows = [{"test_accuracy": a, "images_per_second": r} for a, r in zip(epochs, rates, strict=True)]
    return {
        "precision": precision,
        "test_accuracy": accuracy,
        "history": rows,
        "peak_memory_bytes": memory,
        **more,
    }


def test_paired_counts_and_interval():
    result = verdict.paired(right(100, range(10)), right(100, range(5, 20)))
    assert (result.only_reference_right, result.only_other_right) == (10, 5)
    assert result.points == pytest.approx(-5.0)
    assert result.low_points < -5.0 < result.high_points
    # exact two-sided sign test of 5 against 10: 2 * P(X <= 5), X ~ B(15, 1/2) = 2 * 4944 / 32768
    assert result.p_value == pytest.approx(2 * 4944 / 32768)


def test_equal_predictions_have_an_interval_that_is_not_empty():
    result = verdict.paired(right(50, []), right(50, []))
    assert result.low_points < 0 < result.high_points
    assert (result.points, result.p_value) == (0.0, 1.0)


@pytest.mark.parametrize(("n", "lost", "won"), [(500, 20, 20), (200, 3, 1)])
def test_interval_covers_the_truth_about_95_times_in_100(n, lost, won):
    generator = np.random.Generator(np.random.Philox(7))
    shares = np.array([n - lost - won, lost, won]) / n
    hits = 0
    for draw in generator.multinomial(n, shares, 400):
        reference, other = np.ones(n, bool), np.ones(n, bool)
        other[: draw[1]] = False
        reference[draw[1] : draw[1] + draw[2]] = False
        result = verdict.paired(reference, other)
        hits += result.low_points <= 100 * (won - lost) / n <= result.high_points
    assert 0.92 <= hits / 400 <= 0.99


@pytest.mark.parametrize(
    ("other_wrong", "outcome"), [(range(4), "as_good"), (range(100), "one_seed"), (range(0), "as_good")]
)
def test_outcomes_with_many_images(other_wrong, outcome):
    n = 2000
    accuracy = verdict.paired(right(n, range(4, 8)), right(n, other_wrong))
    runs = run("fp32", (n - 4) / n), run("fp16", (n - len(other_wrong)) / n)
    assert verdict.sentences(*runs, accuracy, 0.1)[0] == outcome


def test_few_images_are_undecided():
    accuracy = verdict.paired(right(20, [1]), right(20, [2]))
    outcome, headline, _ = verdict.sentences(run("fp32", 0.95), run("fp16", 0.95), accuracy, 0.1)
    assert outcome == "undecided"
    assert "20 test images are too few" in headline


def test_moving_accuracies_are_unsettled():
    accuracy = verdict.paired(right(1000, range(200)), right(1000, range(50)))
    moving = run("fp32", 0.8, epochs=[0.2, 0.9, 0.6, 0.95, 0.7, 0.8], rates=[1.0] * 6)
    outcome, headline, lines = verdict.sentences(moving, run("fp16", 0.95), accuracy, 0.1)
    assert outcome == "unsettled"
    assert "No verdict yet" in headline
    assert "--schedule cosine" in lines[0]


def test_runs_at_chance_have_no_verdict():
    accuracy = verdict.paired(right(1000, range(900)), right(1000, range(900)))
    assert verdict.sentences(run("fp32", 0.1), run("fp16", 0.1), accuracy, 0.1)[0] == "not_learned"
    # with two classes twice the chance would be everything
    good = verdict.paired(right(5000, range(100)), right(5000, range(100)))
    assert verdict.sentences(run("fp32", 0.98), run("fp16", 0.98), good, 0.5)[0] == "as_good"


@pytest.mark.parametrize(
    ("accuracy", "frequent", "images", "hardly"),
    [
        (0.72, 0.5, 1000, False),  # two classes with noisy labels
        (0.62, 1 / 3, 120, False),
        (0.95, 0.95, 1500, True),  # a network that always names the larger class
        (0.97, 0.95, 1500, False),
        (0.6, 0.5, 40, True),  # by luck
        (0.015, 0.01, 10_000, True),
        (0.03, 0.01, 10_000, False),
    ],
)
def test_who_learned(accuracy: float, frequent: float, images: int, hardly: bool) -> None:
    assert verdict.hardly_learned(accuracy, frequent, images) is hardly


def test_networks_that_name_one_class_only_have_no_verdict() -> None:
    """Two networks that answer the larger class for every image agree, and have learned nothing."""
    labels = np.arange(200) % 20 == 0
    same = np.tile(np.array([0.9, 0.1], np.float32), (200, 1))
    runs = [run(name, 0.95, status="finished", error=None) for name in ("fp16", "fp32")]
    (found,) = verdicts.of_runs(runs, {0: {"fp16": same, "fp32": same}}, labels.astype(np.int64), {})
    assert found["outcome"] == "not_learned"
    assert "the most frequent class, which is right for 95.0 %" in found["headline"]


def test_epochs_say_nothing_about_speed():
    accuracy = verdict.paired(right(5000, range(9)), right(5000, range(9)))
    twice = run("fp16", 0.99, rates=(200.0, 200.0, 200.0, 200.0))
    assert "per second" not in " ".join(verdict.sentences(run("fp32", 0.99), twice, accuracy, 0.1)[2])


def test_memory_and_nonfinite_steps_are_told():
    accuracy = verdict.paired(right(5000, []), right(5000, []))
    other = run("mp", 1.0, memory=75, nonfinite_steps=1)
    lines = verdict.sentences(run("fp32", 1.0), other, accuracy, 0.1)[2]
    assert any("0.75 times the memory" in line for line in lines)
    assert any(line.startswith("1 step met a non-finite loss") for line in lines)
    assert all(line[0].isupper() or line[0].isdigit() for line in lines)


def test_numbers_in_words():
    assert [verdict.signed(x) for x in (0.04, -0.04, 1.25, -1.26)] == [
        "0.0",
        "0.0",
        "+1.2",
        "\N{MINUS SIGN}1.3",
    ]
    assert verdict.percent(0.97222) == "97.2 %"
