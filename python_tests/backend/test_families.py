"""One noun per operation: the reference and the compiled backends hold the same families, a file each."""

from __future__ import annotations

from pathlib import Path

from fp16engine.backend import compiled, reference

# What a side needs in addition to the operations.
HELPERS = {
    "reference": {"arrays", "random", "registers", "stochastic", "sums", "windows", "winograd"},
    "compiled": {"device", "host"},
}


def _families(package: object, side: str) -> set[str]:
    files = {path.stem for path in Path(str(package.__file__)).parent.glob("*.py")}  # type: ignore[attr-defined]
    assert files >= HELPERS[side]
    return files - HELPERS[side] - {"__init__"}


def test_both_sides_hold_the_same_families() -> None:
    assert _families(compiled, "compiled") == _families(reference, "reference")
