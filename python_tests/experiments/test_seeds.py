"""Several seeds: the interval covers what it promises, one seed never judges, the runs pair and resume."""

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.experiments import compare, seeds
from fp16engine.experiments.report import verdict
from fp16engine.reporting.progress import PlainLines
from fp16engine.train import Interrupted

pytestmark = pytest.mark.slow


def tiny(out, precisions=("fp16", "fp32"), limit=24, **options):
    settings = {"batch_size": 8, "lr": 0.02, "device": "reference", "progress": False, **options}
    return compare.run("dnn", fe.data.digits().limit(limit), precisions, 1, out=out, **settings)


def draw(generator, count, images, effect, seed_spread, image_spread):
    """Two networks with crossed effects of seeds and images on the chance to be right."""
    logits = 1.5 + image_spread * generator.standard_normal(images)
    tilt = effect + seed_spread * generator.standard_normal((count, 1))
    own = 0.3 * image_spread * generator.standard_normal(images)
    left = generator.random((count, images)) < 1 / (1 + np.exp(-logits))
    right = generator.random((count, images)) < 1 / (1 + np.exp(-logits - tilt - own))
    return left, right


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("seed_spread", [0.0, 0.3])
def test_equal_precisions_are_called_different_5_times_in_100_at_most(count, seed_spread):
    generator = np.random.Generator(np.random.Philox(11))
    wrong = 0
    for _ in range(400):
        low, high = seeds.crossed(*draw(generator, count, 300, 0.0, seed_spread, 1.0)).interval
        wrong += low > 0 or high < 0
    assert wrong / 400 <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5


def test_a_difference_of_every_seed_is_found():
    generator = np.random.Generator(np.random.Philox(12))
    found = seeds.crossed(*draw(generator, 5, 2000, -0.8, 0.05, 1.0))
    assert found.interval[1] < 0
    assert found.points == pytest.approx(np.mean(found.per_seed))


def test_equal_predictions_have_an_interval_that_is_not_empty():
    found = seeds.crossed(np.ones((3, 50), bool), np.ones((3, 50), bool))
    assert found.interval[0] < 0 < found.interval[1]


def entry(precision, seed, accuracy):
    rows = [{"images_per_second": 100.0, "test_accuracy": accuracy}] * 3
    return {
        "precision": precision, "seed": seed, "status": "finished", "test_accuracy": accuracy,
        "history": rows, "peak_memory_bytes": 10, "nonfinite_steps": 0,
    }  # fmt: skip


def judged(shares, images=2000):
    """The verdict on FP16 for its share of right images per seed, FP32 being right on 90 %."""
    names = {"fp16": shares, "fp32": [0.9] * len(shares)}
    runs = [entry(name, seed, share) for name in names for seed, share in enumerate(names[name])]
    right = {(r["precision"], r["seed"]): np.arange(images) < r["test_accuracy"] * images for r in runs}
    (found,) = seeds.verdicts(runs, right, "fp32", 0.1, {})
    return found, verdict.short([found], len(shares))


@pytest.mark.parametrize(
    ("shares", "kind"),
    [
        ((0.9, 0.9, 0.9), "equal"),
        ((0.8, 0.81, 0.79), "worse"),
        ((0.96, 0.97, 0.965), "better"),
        ((0.8, 0.95, 0.99), "none"),  # one seed would have said worse, another better
        ((0.8, 0.82), "none"),  # two seeds tell little
    ],
)
def test_kinds(shares, kind):
    found, short = judged(shares)
    assert (short["kind"], short["seeds"]) == (kind, len(shares))
    assert short["difference"] == pytest.approx(np.mean(shares) - 0.9)
    assert short["interval"][0] <= short["difference"] <= short["interval"][1]
    assert (" better " in found["headline"]) == (kind == "better")
    assert (" worse " in found["headline"]) == (kind == "worse")


def test_what_would_do_is_said():
    assert "more than 100 seeds" in judged((0.8, 0.95, 0.99))[0]["headline"]
    assert "about 5 seeds would do" in judged((0.89, 0.9, 0.92))[0]["headline"]
    few = judged((0.9, 0.9, 0.9), images=20)[0]["headline"]
    assert "about" in few and "test images would do" in few


@pytest.mark.parametrize("lost", [0, 30, 300])
def test_one_seed_never_says_better_or_worse(lost):
    reference, other = np.ones(1000, bool), np.arange(1000) >= lost
    for pair in ((reference, other), (other, reference)):
        fp32, fp16 = (entry(name, 0, float(p.mean())) for name, p in zip(("fp32", "fp16"), pair, strict=True))
        outcome, headline, lines = verdict.sentences(fp32, fp16, verdict.paired(*pair), 0.1)
        text = " ".join([headline, *lines])
        assert "better" not in text and "worse" not in text and outcome in ("as_good", "one_seed")
        assert "one seed" in headline and "--seeds 5" in text


def test_too_few_images_say_how_many_would_do():
    pair = np.arange(20) != 1, np.arange(20) != 2
    runs = entry("fp32", 0, 0.95), entry("fp16", 0, 0.95)
    headline = verdict.sentences(*runs, verdict.paired(*pair), 0.1)[1]
    count = int(headline.split("about ")[1].split(" would do")[0].replace(",", ""))
    half = verdict.paired(*pair).high_points - verdict.paired(*pair).points
    assert count > 20 and half * (20 / count) ** 0.5 == pytest.approx(verdict.WIDE_POINTS, rel=0.15)


def test_runs_pair_by_seed_and_the_page_shows_the_spread(tmp_path):
    summary = tiny(tmp_path / "out", seeds=3)
    assert summary["seeds"] == [0, 1, 2]
    assert [(r["precision"], r["seed"]) for r in summary["runs"]] == [
        (name, seed) for seed in range(3) for name in ("fp16", "fp32")
    ]
    alone = tiny(tmp_path / "alone", seed=2)
    for one, other in zip(summary["runs"][4:], alone["runs"], strict=True):
        assert one["test_loss"] == other["test_loss"]
    assert alone["verdict"]["seeds"] == 1
    assert summary["verdict"]["kind"] in ("equal", "better", "worse", "none")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Test accuracy over 3 seeds" in page and "seeds 0, 1, 2." in page


def test_more_seeds_are_added_on_resume_and_an_interrupted_one_continues(tmp_path, monkeypatch, capsys):
    whole = tiny(tmp_path / "whole", seeds=2)
    tiny(tmp_path / "parts")
    step, calls = fe.Trainer.train_batch, []

    def stopping(self, *args):
        calls.append(1)
        if len(calls) == 5:
            raise Interrupted("stopped by the test")
        return step(self, *args)

    monkeypatch.setattr(fe.Trainer, "train_batch", stopping)
    with pytest.raises(Interrupted):
        tiny(tmp_path / "parts", seeds=2, resume=True, checkpoint_every=1)
    monkeypatch.undo()
    parts = tiny(tmp_path / "parts", seeds=2, resume=True, progress=PlainLines(interval=0.0))
    assert parts["verdict"] == whole["verdict"]
    assert [run["test_loss"] for run in parts["runs"]] == [run["test_loss"] for run in whole["runs"]]
    said = capsys.readouterr().err
    assert "run 1 of 4: fp16, seed 0: already done" in said and "run 4 of 4: " in said
    assert "for all runs" not in said.split("run 4 of 4")[1]


def test_a_seed_that_fails_is_told(tmp_path, monkeypatch):
    step = fe.Trainer.train_batch

    def failing(self, *args):
        if self.precision.name == "fp16" and self.seed == 1 and self.step_count == 2:
            raise fe.NonFiniteError("50 steps in a row were not applied")
        return step(self, *args)

    monkeypatch.setattr(fe.Trainer, "train_batch", failing)
    summary = tiny(tmp_path / "out", seeds=2)
    assert "FP16 failed with 1 of 2 seeds: 50 steps" in summary["verdicts"][0]["headline"]
    assert summary["verdict"]["kind"] == "none"


@pytest.mark.parametrize("count", [0, True, 1.5])
def test_a_wrong_number_of_seeds_is_named(tmp_path, count):
    with pytest.raises((TypeError, ValueError), match=f"seeds must .* got {count}"):
        tiny(tmp_path / "out", seeds=count)
