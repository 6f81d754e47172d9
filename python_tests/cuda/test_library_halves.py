"""Binary16 sums are the libraries' where those were proven, and while it is found out what they do."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.backend.gpu import accumulators
from fp16engine.backend.gpu import cuda as cuda_backend

NAMES = {"matmul", "linear_weight_gradient", "scaled_product", "conv2d_forward", "conv2d_backward"}
LIBRARIES = {"cublasLt": "130000", "cudnn": "91900"}  # as the fake module says


def _told(cuda: Any, gpu: Any, precision: str) -> set[tuple[Any, ...]]:
    """What the libraries were asked for by products, convolutions and their gradients: name, half, tf32."""
    policy = fe.Precision.get(precision)
    model = fe.nn.Sequential(
        fe.nn.Conv2d(3, 4, 3), fe.nn.GlobalAvgPool2d(), fe.nn.Flatten(), fe.nn.Linear(4, 2)
    ).to("cuda", policy)
    x = fe.tensor(np.ones((2, 6, 6, 3)), "float16", "cuda")
    q = fe.tensor(np.ones((1, 1, 130, 4)), "float16", "cuda", requires_grad=True)  # no one kernel
    gpu.log.clear()
    with policy.use():
        loss = (model(x) @ fe.tensor(np.ones((2, 1)), "float16", "cuda")).sum()
        attended = fe.functional.attention(q, q, q).sum()
    loss.backward()
    attended.backward()
    return {entry for entry in gpu.log if entry[0] in NAMES}


@pytest.mark.parametrize("found", [accumulators.EVERY_PRODUCT[0], accumulators.BINARY32])
def test_only_proven_sums_are_the_libraries(
    cuda: Any, gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    file = tmp_path / "found.json"
    monkeypatch.setenv(accumulators.VARIABLE, str(file))
    cuda_backend._allow_proven(cuda)
    assert _told(cuda, gpu, "fp16-strict") == set()  # nothing was found out yet
    findings = [
        accumulators.AccumulatorProbe(path, "float16", 64, found, 0.9, 2048.0) for path in accumulators.PATHS
    ]
    accumulators.record(file, "Made of NumPy", LIBRARIES, findings)
    cuda_backend._allow_proven(cuda)
    told = _told(cuda, gpu, "fp16-strict")
    if found == accumulators.BINARY32:
        assert told == set()
        return
    assert told == {(name, True, False) for name in NAMES}
    # float32 sums stay what they are, and chunks are nothing that a library has
    assert {half for _, half, _ in _told(cuda, gpu, "fp16")} == {False}
    chunked = fe.Precision.get("fp16-chunk32")
    gpu.log.clear()
    with chunked.use():
        x = fe.tensor(np.ones((4, 4)), "float16", "cuda")
        (x @ x).sum()
    assert [entry for entry in gpu.log if entry[0] == "matmul"] == []


def test_the_check_of_a_gpu_asks_the_libraries(
    cuda: Any, gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else "Is FP16 accumulation real?" would measure our own kernels and call them a library's."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks"), *sys.path])
    parts = importlib.import_module("gpu_check.measure")
    saved: list[dict[str, Any]] = []
    run = SimpleNamespace(device="cuda", gpu=True, out=tmp_path, save=saved.append)
    asked: dict[str, set[bool]] = {}
    product = gpu.Native._product

    def note(self: Any, name: str, arguments: tuple[Any, ...]) -> None:
        asked.setdefault(name, set()).add(arguments[-2])
        # a library that adds in float32 whatever it is asked for
        product(self, name, (*arguments[:-2], False, arguments[-1]))

    monkeypatch.setattr(gpu.Native, "_product", note)
    parts.accumulators(run)
    assert asked == {name: {True, False} for name in ("matmul", "conv2d_forward", "conv2d_backward")}
    result = saved[-1]
    assert {one["found"] for one in result["library"]} == {accumulators.BINARY32}
    assert {one["found"] for one in result["own"] if one["asked"] == "float16"} == {
        accumulators.EVERY_PRODUCT[1]
    }
    assert result["proven"] is False and cuda.library_halves is False
    stored = json.loads((tmp_path / "accumulators-found.json").read_text())["entries"]
    assert stored[0]["gpu"] == "Made of NumPy" and stored[0]["libraries"] == LIBRARIES
