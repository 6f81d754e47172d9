"""Tests of the probe for accumulators: it recognises ours, and tells made-up libraries apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp16engine.backend.gpu import accumulators
from fp16engine.backend.gpu.accumulators import (
    BINARY32,
    EVERY_PRODUCT,
    PATHS,
    TERMS,
    UNKNOWN,
    AccumulatorProbe,
)


def test_our_own_accumulators_are_recognised(backend: Any) -> None:
    """Every backend is what its policy says: binary32, or binary16 after every product in blocks of 32."""
    findings = accumulators.probe(backend)
    assert {(one.path, one.terms) for one in findings} == {(path, n) for path in PATHS for n in TERMS}
    for one in findings:
        if one.asked == "float32":
            assert (one.found, one.differing) == (BINARY32, 0.0)
        else:
            assert one.found == EVERY_PRODUCT[1]
            assert one.differing > 0.25  # so that a coincidence is out of the question
        assert one.ones == 4096  # blocks of 32 ones add without an error in binary16 too


class Library:
    """A backend whose matrix product rounds after every `at_once` products, whatever it is asked for."""

    def __init__(self, at_once: int, order: str = "forward") -> None:
        self.at_once, self.order = at_once, order

    def from_numpy(self, a: np.ndarray) -> np.ndarray:
        return a

    to_numpy = from_numpy

    def matmul(self, a: np.ndarray, b: np.ndarray, *_: Any) -> np.ndarray:
        products = a.astype(np.float64)[:, None, :] * b.astype(np.float64)[None, :, :]
        products = products[..., :: -1 if self.order == "backward" else 1]
        total = np.zeros(products.shape[:-1], np.float16)
        for i in range(0, products.shape[-1], self.at_once):
            total = (total.astype(np.float64) + products[..., i : i + self.at_once].sum(-1)).astype(
                np.float16
            )
        return total


@pytest.mark.parametrize(
    ("library", "found", "ones"),
    [
        (Library(1), EVERY_PRODUCT[0], 2048),
        (Library(16), "float16, rounded after every 16 products", 4096),
        (Library(10**9), BINARY32, 4096),
        (Library(4, "backward"), UNKNOWN, 4096),
    ],
)
def test_made_up_libraries_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, library: Library, found: str, ones: float
) -> None:
    monkeypatch.setattr(accumulators, "PATHS", ("matmul",))
    for one in accumulators.probe(library, ["float16"]):
        assert (one.found, one.ones) == (found, ones)


def _findings(found: str, paths: tuple[str, ...] = PATHS) -> list[AccumulatorProbe]:
    return [AccumulatorProbe(path, "float16", 64, found, 0.9, 2048.0) for path in paths]


LIBRARIES = {"cublasLt": "13.0.2", "cudnn": "9.19.0"}


@pytest.mark.parametrize(
    ("findings", "gpu", "libraries", "expected"),
    [
        (_findings(EVERY_PRODUCT[0]), "NVIDIA H200", LIBRARIES, True),
        (_findings(EVERY_PRODUCT[0]), "NVIDIA H100", LIBRARIES, False),
        (_findings(EVERY_PRODUCT[0]), "NVIDIA H200", {**LIBRARIES, "cudnn": "9.20.0"}, False),
        (_findings("float16, rounded after every 16 products"), "NVIDIA H200", LIBRARIES, False),
        (_findings(EVERY_PRODUCT[0])[:3] + _findings(BINARY32)[3:], "NVIDIA H200", LIBRARIES, False),
        (_findings(EVERY_PRODUCT[0], PATHS[:3]), "NVIDIA H200", LIBRARIES, False),
        ([], "NVIDIA H200", LIBRARIES, False),
    ],
)
def test_only_what_was_found_on_every_path_is_proven(
    tmp_path: Path, findings: list[AccumulatorProbe], gpu: str, libraries: dict[str, str], expected: bool
) -> None:
    file = tmp_path / "found.json"
    accumulators.record(file, "NVIDIA H200", LIBRARIES, findings)
    assert accumulators.proven(gpu, libraries, accumulators.load(file)) is expected


def test_new_findings_take_the_place_of_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "found.json"
    for found in (BINARY32, EVERY_PRODUCT[0]):
        accumulators.record(file, "A", LIBRARIES, _findings(found))
    accumulators.record(file, "B", LIBRARIES, _findings(UNKNOWN))
    assert [entry["gpu"] for entry in json.loads(file.read_text())["entries"]] == ["A", "B"]
    monkeypatch.setenv(accumulators.VARIABLE, str(file))
    assert accumulators.proven("A", LIBRARIES) and not accumulators.proven("B", LIBRARIES)
    monkeypatch.setenv(accumulators.VARIABLE, str(tmp_path / "nowhere.json"))
    assert not accumulators.proven("A", LIBRARIES)


@pytest.mark.parametrize("text", ["", "[]", '{"entries": [{"gpu": "A"}]}', '{"entries": 3}'])
def test_another_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=r"other\.json must .* got "):
        accumulators.load(tmp_path / "other.json")


def test_nothing_is_proven_without_a_gpu() -> None:
    """What the engine ships: as long as no GPU has been measured, no library's binary16 sum is trusted."""
    assert not any(
        accumulators.proven(e["gpu"], e["libraries"], [e]) for e in accumulators.load(accumulators.KNOWN_FILE)
    )
