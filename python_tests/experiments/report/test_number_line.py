"""Heat maps, the page of a monitored run, the live view, and what `fit` writes of its samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run as tiny

from fp16engine.experiments.report import heatmaps, number_line, page_plots
from fp16engine.numerics import ranges
from fp16engine.numerics.monitor import Monitor
from fp16engine.reporting.live import LiveView, sparkline

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A short monitored run of the tiny model and its trainer."""
    out = tmp_path_factory.mktemp("monitored") / "run"
    trainer = tiny.trainer()
    trainer.fit(tiny.data(), 2, tiny.BATCH, out, progress=False, monitor_every=2)
    return out, trainer


def test_metrics_have_a_row_per_sample(run: tuple[Path, Any]) -> None:
    rows = heatmaps.samples(run[0])
    assert [row["step"] for row in rows] == [1, 3, 5, 7]
    assert {entry["layer"] for entry in rows[0]["rows"]} == {"0", "1", "4", "loss"}
    assert all(entry["values"] for entry in rows[0]["rows"])


def test_a_resumed_run_writes_the_same_rows(run: tuple[Path, Any], tmp_path: Path) -> None:
    def fit(epochs: int, resume: bool) -> None:
        tiny.trainer().fit(
            tiny.data(), epochs, tiny.BATCH, tmp_path / "run", resume, progress=False, monitor_every=2
        )

    fit(1, False)
    fit(2, True)
    assert heatmaps.samples(tmp_path / "run") == heatmaps.samples(run[0])


def test_monitoring_changes_no_bit_of_a_run(run: tuple[Path, Any], tmp_path: Path) -> None:
    tiny.trainer().fit(tiny.data(), 2, tiny.BATCH, tmp_path / "run", progress=False)
    names = [json.loads((out / "checkpoint.json").read_text()) for out in (run[0], tmp_path / "run")]
    assert names[0]["checkpoint"]["tensors"] == names[1]["checkpoint"]["tensors"]


def test_every_checkpoint_holds_the_audit(run: tuple[Path, Any]) -> None:
    audit = json.loads((run[0] / "checkpoint.json").read_text())["checkpoint"]["audit"]
    assert audit["not_allowed"] == 0 and audit["float32_tensors"] == 0
    assert {row["op"] for row in audit["rows"]} >= {"conv2d_forward", "conv2d_backward", "sgd"}


def test_heat_maps_hold_the_samples(run: tuple[Path, Any]) -> None:
    maps = {heat.name: heat for heat in heatmaps.heats(heatmaps.samples(run[0]))}
    assert set(maps) == {"activations", "underflow", "subnormal", "lost"}
    lost = maps["lost"]
    assert lost.values.shape == (len(lost.layers), 4) and lost.steps == [1, 3, 5, 7]
    row = heatmaps.samples(run[0])[2]["updates"][0]
    assert lost.values[lost.layers.index(row["layer"]), 2] == 100 * row["share"]
    assert not np.isnan(maps["activations"].values).any()
    assert "layers by 4 steps" in heatmaps.in_words(lost, "fp16")
    assert heatmaps.heats(heatmaps.samples(run[0])[:1]) == []


def test_the_page_needs_nothing_but_itself(
    run: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, drawn: None
) -> None:
    pytest.importorskip("matplotlib")
    out = run[0]
    summary = {"model": "tiny", "data": "tiny", "precision": "fp16", "epochs": 2, "findings": []}
    assert number_line.write(out, summary) == "report.html"
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 4 and "No fault found." in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "src=" not in page
    assert (out / "plots" / "heat-lost-fp16.png").stat().st_size > 1000
    plot = page_plots.Plot("one", "<svg></svg>", "caption", "alt")
    monkeypatch.setattr(page_plots, "heat_plots", lambda *_: [plot])  # drawn once is enough
    finding = {"step": 3, "text": "hidden: 93 % of updates lost; use <b>"}
    number_line.write(out, {**summary, "findings": [finding]})
    page = (out / "report.html").read_text()
    assert "1 fault found" in page and "hidden: 93 % of updates lost; use &lt;b&gt;" in page


def test_no_page_without_samples(tmp_path: Path) -> None:
    summary = {"precision": "fp16", "findings": [], "model": "dnn", "data": "digits", "epochs": 1}
    assert number_line.write(tmp_path, summary) is None


def test_the_live_view_shows_layers_and_advice() -> None:
    from io import StringIO

    from rich.console import Console

    shown = StringIO()
    console = Console(file=shown, width=140, height=30, force_terminal=False)
    view = LiveView(console)
    trainer = tiny.trainer(lr=1e-7, momentum=0.0, monitor=Monitor(every=1, shadow=1))
    trainer.fit(tiny.data(), 1, tiny.BATCH, progress=view)
    console.print(view)
    text = shown.getvalue()
    assert "largest" in text and "updates" in text
    assert f"step {trainer.step_count}/{trainer.step_count}" in text
    assert "of updates lost; use update='stochastic'" in text


def test_the_live_view_shows_the_worst_layers_where_there_is_no_room() -> None:
    from rich.console import Console

    view = LiveView(Console(height=10, width=100))
    layers = [f"layer{i}" for i in range(20)]
    shown = view._worst(layers, {}, {layer: i / 20 for i, layer in enumerate(layers)})
    assert shown == layers[-6:]


def test_sparkline_reaches_the_top_at_the_most_frequent_exponent() -> None:
    x = np.concatenate([np.ones(1000), np.full(10, 2.0**-20), [4096.0]]).astype(np.float16)
    line = sparkline(ranges.of(x, "reference"))
    assert len(line) == 20 and line[12] == "█" and line[2] == "▄" and line[18] == "▂"
    assert sparkline(ranges.EMPTY).strip() == ""


@pytest.mark.parametrize("value", [0, -1])
def test_a_wrong_interval_is_named(value: int) -> None:
    with pytest.raises(ValueError, match=f"monitor_every must .* got {value}"):
        tiny.trainer().fit(tiny.data(), 1, tiny.BATCH, progress=False, monitor_every=value)
