"""The budget of the GPU's kernels, on made-up words of ptxas."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "check_resources.py"

LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z3one{kernel}' for 'sm_90'
ptxas info    : Function properties for _Z3one
    {spill} bytes stack frame, {spill} bytes spill stores, {spill} bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers, {shared} bytes smem, 400 bytes cmem[0]
ptxas info    : Compile time = 3.116 ms
ptxas info    : Compiling entry function '_Z3two' for 'sm_90'
ptxas info    : Function properties for _Z3two
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
"""
GOOD = {"kernel": "", "spill": 12, "registers": 128, "shared": 49152}


@pytest.fixture
def script() -> dict[str, Any]:
    if not SCRIPT.exists():
        pytest.skip("no .ci here")
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"registers": 129}, "registers must be at most 128, got 129"),
        ({"shared": 49153}, "bytes of shared memory must be at most 49152, got 49153"),
        ({"spill": 16}, "bytes spilled must be at most 12, got 16"),
        ({"spill": 176, "kernel": "12GeluGradientIfE"}, None),
        ({"spill": 180, "kernel": "12GeluGradientIfE"}, "bytes spilled must be at most 176, got 180"),
    ],
)
def test_what_is_beyond_the_budget_is_named(
    script: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    words: str | None,
) -> None:
    log = tmp_path / "one.ptxas"
    log.write_text(LOG.format(**{**GOOD, **change}))
    assert script["main"]([str(log)]) == (0 if words is None else 1)
    said = capsys.readouterr().out
    assert "2 kernels" in said
    assert ("all within the budget" in said) if words is None else (words in said and "_Z3two" not in said)


def test_a_log_without_kernels_is_no_pass(script: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty.ptxas").write_text("")
    assert script["main"]([str(tmp_path / "empty.ptxas")]) == 1
