"""Tests of `compare.run`: the contract of summary.json, refusals, resuming, failures, the report."""

import importlib.util
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.experiments import compare
from fp16engine.experiments.report import pages, plots
from fp16engine.experiments.report.labels import NOTHING, scientific
from fp16engine.numerics import tolerance
from fp16engine.train import Interrupted

pytestmark = pytest.mark.slow

CONTRACT = ("version", "device", "model", "data", "parameters", "runs", "tolerance")
RUN = (
    "precision", "test_accuracy", "train_accuracy", "train_seconds", "images_per_second", "peak_memory_bytes",
    "nonfinite_steps", "seed",
)  # fmt: skip
TOLERANCE = ("reference", "other", "delta_mean", "delta_max", "gamma_mean", "guaranteed_share", "agreement")


def tiny(out, precisions=("fp16", "fp32"), epochs=2, limit=24, **options):
    settings = {"batch_size": 8, "lr": 0.02, "device": "reference", "progress": False, **options}
    return compare.run("dnn", fe.data.digits().limit(limit), precisions, epochs, out=out, **settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "save", lambda figure, folder, name: "<svg></svg>")
        return tiny(out, ("fp16", "fp32", "mp")), out


def test_summary_keeps_the_contract(finished):
    summary, out = finished
    stored = json.loads((out / "summary.json").read_text())
    assert stored == summary
    assert all(key in summary for key in CONTRACT)
    assert [run["precision"] for run in summary["runs"]] == ["fp16", "fp32", "mp"]
    for run in summary["runs"]:
        assert all(run[key] is not None for key in RUN)
        assert run["status"] == "finished"
        assert len(run["history"]) == 2
    assert all(summary["tolerance"][key] is not None for key in TOLERANCE)
    assert (summary["tolerance"]["reference"], summary["tolerance"]["other"]) == ("fp32", "fp16")


def test_guaranteed_share_is_a_lower_bound_at_every_epoch(finished):
    for pair in finished[0]["tolerances"]:
        assert len(pair["epochs"]) == 2
        for row in (pair, *pair["epochs"]):
            assert row["guaranteed_share"] <= row["agreement"]


def test_tolerance_is_that_of_the_stored_probabilities(finished):
    summary, out = finished
    p, q = (np.load(out / name / "probabilities" / "epoch-0002.npy") for name in ("fp32", "fp16"))
    assert p.dtype == np.float32
    expected = tolerance.analyse(p, q, "fp32", "fp16").to_dict()
    assert summary["tolerance"] == expected


def test_audit_is_in_the_summary(finished):
    audits = {run["precision"]: run["audit"] for run in finished[0]["runs"]}
    assert audits["fp16"]["float32_tensors"] == 0
    assert audits["fp32"]["float32_tensors"] > 0
    assert all(audit["not_allowed"] == 0 for audit in audits.values())


def test_each_run_is_what_fit_alone_gives(finished):
    digits = fe.data.digits().limit(24)
    model = fe.models.create("dnn", image_size=8, channels=1, seed=0)
    trainer = fe.Trainer(model, precision="fp16", lr=0.02, momentum=0.9, device="reference")
    history = trainer.fit(digits, 2, 8, progress=False)
    run = finished[0]["runs"][0]
    losses = [row["train_loss"] for row in run["history"]]
    assert losses == [record.train_loss for record in history.epochs]
    assert run["test_loss"] == history.epochs[-1].test_loss


def test_results_are_never_overwritten(finished):
    out = finished[1]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"out must .* got .* with "):
        tiny(out)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_resume_of_a_folder_without_a_comparison_is_refused(tmp_path):
    """A name that is mistyped starts nothing, and leaves nothing behind."""
    with pytest.raises(ValueError, match=r"resume must have a folder with .*, got .* without results"):
        tiny(tmp_path / "typo", ("fp32",), epochs=1, resume=True)
    assert not (tmp_path / "typo").exists()


def test_resume_of_finished_runs_trains_nothing_and_more_precisions_can_follow(tmp_path):
    first = tiny(tmp_path / "out", ("fp32",), epochs=1)
    assert first["tolerance"] is None
    second = tiny(tmp_path / "out", ("fp32", "fp16"), epochs=1, resume=True)
    assert second["runs"][0] == first["runs"][0]
    assert second["tolerance"]["other"] == "fp16"


@pytest.mark.parametrize("change", [{"lr": 0.03}, {"seed": 1}, {"limit": 16}])
def test_resume_with_other_settings_is_refused(tmp_path, change):
    tiny(tmp_path / "out", ("fp32",), epochs=1)
    with pytest.raises(ValueError, match=r"resume: \w+ must .* got "):
        tiny(tmp_path / "out", ("fp32",), epochs=1, resume=True, **change)


def test_a_finished_run_from_before_winograd_is_no_part_of_todays_comparison(tmp_path):
    tiny(tmp_path / "out", ("fp32",), epochs=1)
    record = tmp_path / "out" / "fp32" / "run.json"
    run = json.loads(record.read_text())
    del run["precision_choices"]["convolution"]
    record.write_text(json.dumps(run))
    with pytest.raises(ValueError, match=r"resume: convolution must be 'direct sums' as in .* got .Winograd"):
        tiny(tmp_path / "out", ("fp32",), epochs=1, resume=True)


def test_resume_after_an_interruption_equals_an_uninterrupted_comparison(tmp_path, monkeypatch):
    whole = tiny(tmp_path / "whole")
    calls = {"n": 0}
    step = fe.Trainer.train_batch

    def stopping(self, *args):
        calls["n"] += 1
        if calls["n"] == 10:
            raise Interrupted("stopped by the test")
        return step(self, *args)

    monkeypatch.setattr(fe.Trainer, "train_batch", stopping)
    with pytest.raises(Interrupted):
        tiny(tmp_path / "parts", checkpoint_every=1)
    monkeypatch.undo()
    assert not (tmp_path / "parts" / "summary.json").exists()
    with pytest.raises(ValueError, match=r"out must .* got .* with "):
        tiny(tmp_path / "parts")
    parts = tiny(tmp_path / "parts", resume=True)
    assert parts["tolerance"] == whole["tolerance"]
    for one, other in zip(parts["runs"], whole["runs"], strict=True):
        assert one["test_loss"] == other["test_loss"]


def test_a_failed_run_does_not_stop_the_others(tmp_path, monkeypatch):
    step = fe.Trainer.train_batch

    def failing(self, *args):
        if self.precision.name == "fp16" and self.step_count == 4:
            raise fe.NonFiniteError("50 steps in a row were not applied")
        return step(self, *args)

    monkeypatch.setattr(fe.Trainer, "train_batch", failing)
    summary = tiny(tmp_path / "out", ("fp16", "fp32", "mp"))
    status = {run["precision"]: run["status"] for run in summary["runs"]}
    assert status == {"fp16": "failed", "fp32": "finished", "mp": "finished"}
    assert len(summary["runs"][0]["history"]) == 1
    assert summary["tolerance"]["other"] == "mp"
    assert summary["verdicts"][0]["outcome"] == "failed"
    assert "50 steps in a row" in summary["verdicts"][0]["headline"]
    assert "50 steps in a row" in (tmp_path / "out" / "report.html").read_text()


def test_outputs_that_are_not_finite_are_named_in_the_verdict(tmp_path, monkeypatch):
    predict = fe.Trainer.predict

    def holed(self, images, batch_size=256):
        found = predict(self, images, batch_size)
        if self.precision.name == "fp16":
            found[:1] = np.nan
        return found

    monkeypatch.setattr(fe.Trainer, "predict", holed)
    summary = tiny(tmp_path / "out", batch_size=24)
    assert summary["tolerance"]["nonfinite_samples"] == 1
    sentence = "FP16 has outputs that are not finite for 1 of 24 test images; they count as wrong."
    assert summary["verdicts"][0]["sentences"][-1] == sentence
    assert sentence in (tmp_path / "out" / "report.html").read_text()


def test_without_fp32_there_is_a_reason_and_still_a_verdict(tmp_path):
    summary = tiny(tmp_path / "out", ("fp16", "mp"), epochs=1)
    assert summary["tolerance"] is None
    assert "fp32 is not among the precisions" in summary["tolerance_reason"]
    assert (summary["verdicts"][0]["precision"], summary["verdicts"][0]["reference"]) == ("mp", "fp16")
    assert "1 epoch, trained 2 times:" in (tmp_path / "out" / "report.html").read_text()


def test_without_matplotlib_the_summary_is_still_written(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else find(name, *a)
    )
    summary = tiny(tmp_path / "out", ("fp32",), epochs=1)
    assert summary["report"] is None
    assert "pip install 'fp16engine[report]'" in summary["report_missing"]
    assert (tmp_path / "out" / "summary.json").exists()
    assert not (tmp_path / "out" / "report.html").exists()
    monkeypatch.undo()
    assert tiny(tmp_path / "out", ("fp32",), epochs=1, resume=True)["report"] == "report.html"


@pytest.mark.parametrize(
    ("precisions", "words"),
    [((), "got none"), (("fp16", "fp16"), "got 'fp16,fp16'"), (("fp17",), "got 'fp17'")],
)
def test_wrong_precisions_touch_nothing(tmp_path, precisions, words):
    with pytest.raises(ValueError, match=words):
        tiny(tmp_path / "out", precisions)
    assert not (tmp_path / "out").exists()


class Page(HTMLParser):
    """Collects what the tests look at: ids, addresses, images' texts."""

    def __init__(self):
        super().__init__()
        self.ids, self.addresses, self.alts, self.open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.addresses += [attrs[key] for key in ("src", "href", "xlink:href") if key in attrs]
        if attrs.get("role") == "img":
            self.alts.append(attrs["aria-label"])


def test_report_needs_no_network_and_has_its_plots_with_texts(tmp_path, drawn):
    tiny(tmp_path / "out", ("fp16", "fp32", "mp"), seeds=2)
    names = {path.name for path in (tmp_path / "out" / "plots").iterdir()}
    pairs = "delta-gamma-fp16", "delta-gamma-mp", "delta-gamma-epochs-fp16"
    for stem in ("accuracy", "loss", *pairs, "seed-differences", "explained-guaranteed"):
        assert {f"{stem}.png", f"{stem}.svg"} <= names
    text = (tmp_path / "out" / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "<script" not in text
    assert len(page.ids) == len(set(page.ids))
    assert len(page.alts) == text.count("<figure>") == 8
    assert all(len(alt) > 20 for alt in page.alts)


def test_report_begins_with_the_verdict(finished):
    summary, out = finished
    body = (out / "report.html").read_text().split("<main>")[1]
    assert body.index(summary["verdicts"][0]["headline"]) < body.index("<table>")
    for words in ("Images<br>per second", "Tensors are stored in", "Audit", "Processor", "How alike"):
        assert words in body


def test_no_page_shows_how_python_writes_an_object(tmp_path):
    tiny(tmp_path / "plain", ("fp16", "fp32"))
    tiny(tmp_path / "named", ("fp16", "fp32"), update="stochastic")
    pages = [(tmp_path / name / "report.html").read_text() for name in ("plain", "named")]
    for page in pages:
        assert not re.search(
            r"built-in|object at 0x|(&lt;|<)(bound |function |class |module )|\bNone\b", page
        )
    assert "FP16 weights updated by" not in pages[0]
    assert 'FP16 weights updated by "stochastic"' in pages[1]


@pytest.mark.parametrize("value", [{}.update, object(), {"a": 1}, [1], True])
def test_a_page_refuses_what_is_no_text(value):
    with pytest.raises(TypeError, match=r"report: a value of a page must .* got "):
        pages.environment().from_string("{{ value }}").render(value=value)


def test_report_escapes_names(tmp_path):
    digits = fe.data.digits().limit(16)
    named = fe.data.Dataset("<b>x</b>&", digits.train, digits.test, digits.classes)
    compare.run("dnn", named, ("fp32",), 1, 8, 0.02, out=tmp_path / "out", device="reference", progress=False)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<b>x</b>" not in text
    assert "&lt;b&gt;x&lt;/b&gt;&amp;" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, NOTHING), (0.0, "0"), (0.25, "0.25"), (0.00123, "1.2·10⁻³"), (4.56e-12, "4.6·10⁻¹²")],
)
def test_scientific(value, text):
    assert scientific(value) == text


def test_every_run_is_logged(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    tiny(tmp_path / "out", epochs=1, log="tensorboard")
    for name in ("fp16", "fp32"):
        assert list((tmp_path / "out" / name / "tensorboard").iterdir())
    with pytest.raises(ValueError, match=r"log must be .* got 'paper'"):
        tiny(tmp_path / "wrong", log="paper")
    assert not (tmp_path / "wrong").exists()
