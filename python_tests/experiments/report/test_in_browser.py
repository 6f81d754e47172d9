"""Every kind of report in Chromium: nothing cut on a desktop, a phone or paper; axe-core finds nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run as tiny

from fp16engine.data import Dataset, Split
from fp16engine.experiments import compare
from fp16engine.experiments.report import number_line

ROOT = Path(__file__).parents[3]
CHECKER = ROOT / ".ci" / "browser"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed"),
    pytest.mark.skipif(
        not (CHECKER / "node_modules").exists(),
        reason="needs `npm install` in .ci/browser: axe-core, puppeteer",
    ),
]
VIEWS = {
    (1280, "light", "screen"),
    (1280, "dark", "screen"),
    (390, "light", "screen"),
    (390, "dark", "screen"),
    (688, "light", "print"),
}
CLASSES = (  # as many as still stand in a whole matrix
    "Golden retriever, adult, outdoors",
    "Labrador retriever (black), adult",
    "West Highland white terrier",
    "Donaudampfschiff" * 7 + "-Kapitän",
    "x" * 120,
    "犬の写真とても長い名前です",
    "สุนัขพันธุ์โกลเด้นรีทรีฟเวอร์",
    "\u202egpj.exe",
    "<b>$x$</b>",
    *(f"a quite long name number {i}" for i in range(3)),
)


def checked(*pages: Path) -> list[dict[str, Any]]:
    """Return what the checker finds, a row per page and view."""
    done = subprocess.run(
        ["node", str(CHECKER / "check_page.mjs"), *map(str, pages)],
        env={**os.environ, "CHROMIUM": str(CHROMIUM)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.stdout, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def photos() -> Dataset:
    """Images of classes whose names are long, of other scripts, or hostile."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % len(CLASSES)
    images = rng.integers(0, 256, (48, 8, 8, 3), np.uint8)
    files = tuple(f"test/{CLASSES[label]}/{'x' * 60}-{i}.jpg" for i, label in enumerate(labels))
    split = Split(images, labels, files)
    return Dataset("photos", split, split, CLASSES)


def comparison(out: Path) -> Path:
    """A report with everything in it: seeds, disagreeing images, number lines, long names."""
    compare.run(
        "dnn",
        photos(),
        ("hbfp4", "fp32", "mp"),
        2,
        8,
        0.05,
        out=out,
        seeds=2,
        monitor_every=3,
        progress=False,
    )
    return out / "report.html"


def monitored(out: Path) -> Path:
    """The page of a monitored run."""
    trainer = tiny.trainer()
    trainer.fit(tiny.data(), 2, tiny.BATCH, out, progress=False, monitor_every=2)
    summary = {"precision": "fp16", "model": "tiny", "data": "made", "epochs": 2, "findings": []}
    assert number_line.write(out, summary)
    return out / number_line.REPORT


def study(out: Path) -> Path:
    """A page of the study, from stored results."""
    spec = importlib.util.spec_from_file_location("draw_results", ROOT / "benchmarks" / "draw_results.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    out.mkdir()
    script.draw(ROOT / "benchmarks/results/cpu-amd-epyc-2-cores/study/mnist-dnn", out)
    return out / "report.html"


def test_reports_are_whole_and_accessible(tmp_path: Path, drawn: None) -> None:
    pages = [make(tmp_path / make.__name__) for make in (comparison, monitored, study)]
    text = pages[0].read_text()
    for words in (
        "Γ ≤ 2δ",
        "by the networks of seed 0",
        "taken for which",
        "Where the values of each layer lie",
    ):
        assert words in text
    assert "\u202e" not in text
    rows = checked(*pages)
    assert {(row["width"], row["scheme"], row["media"]) for row in rows} == VIEWS and len(rows) == len(
        pages
    ) * len(VIEWS)
    assert [row for row in rows if row["cut"] or row["violations"] or row.get("errors")] == []


def test_the_checker_finds_faults(tmp_path: Path) -> None:
    faulty = tmp_path / "faulty.html"
    faulty.write_text(
        '<!doctype html><html lang="en"><title>x</title><main><h1>x</h1><img src="x.png">'
        "<style>@media print { .printed { width: 900px } "
        "@media (prefers-color-scheme: light) { .light { width: 901px } } }</style>"
        '<p style="width: 500px">wide</p><p class="printed">for paper</p><p class="light">for white paper</p>'
        "<table><tr><th></th><td>1</td></tr></table>"
        '<script>throw new Error("broken")</script></main></html>'
    )
    rows = checked(faulty)
    assert {row["width"] for row in rows if any(line.endswith(": wide") for line in row["cut"])} == {390}
    for words in ("for paper", "for white paper"):
        assert {row["media"] for row in rows if any(words in line for line in row["cut"])} == {"print"}
    assert all(any(line.startswith("image-alt") for line in row["violations"]) for row in rows)
    assert any("broken" in line for line in rows[-1]["errors"])
