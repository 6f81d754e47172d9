"""Accumulators between binary16 and binary32: the policy, the sums it means, and what the audit says."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.errors import UnsupportedPrecision
from fp16engine.numerics.audit import audit_step
from fp16engine.precision import CHUNKS, Precision


def test_preset() -> None:
    policy = Precision.get("fp16-chunk32")
    assert (policy.storage, policy.accumulate, policy.statistics) == ("float16", "float16:32", "float16")
    assert "binary16 (FP16) within 32 terms" in policy.describe()["accumulate"]
    for name in ("fp16-chunk", "fp16-chunk33", "fp16-chunk032", "float16:32"):
        with pytest.raises(ValueError, match=f"precision must .* got '{name}'"):
            Precision.get(name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("float16", "float16", "float16:12", "float16"), r"accumulate must .* got 'float16:12'"),
        (("float32", "float32", "float16:32", "float32"), r"accumulate must .* got 'float16:32'"),
        (
            ("float16", "float16", "float16:32", "float32"),
            r"statistics must .* got 'float32'",
        ),
    ],
)
def test_refused(arguments: Any, words: str) -> None:
    with pytest.raises(UnsupportedPrecision, match=words):
        Precision("mine", *arguments)


def test_wider_tensors_are_refused(backend_name: str) -> None:
    x = fe.tensor(np.ones((2, 2)), "float32", backend_name)
    with Precision.get("fp16-chunk8").use(), pytest.raises(UnsupportedPrecision, match="float16:8"):
        fe.functional.matmul(x, x)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_every_chunk_size(compiled: Any, reference: Any, chunk: int) -> None:
    """Sums of positive products, the worst case: bit-equal, and in error by n roundings, not by all 1000."""
    rng = np.random.default_rng(chunk)
    a, b = (np.abs(rng.standard_normal(shape)).astype(np.float16) for shape in ((5, 1000), (1000, 7)))
    got = np.array(
        compiled.matmul(*(compiled.from_numpy(v) for v in (a, b)), False, False, f"float16:{chunk}")
    )
    bounds.same_bits(got, reference.matmul(a, b, False, False, f"float16:{chunk}"))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    allowed = bounds.any_inputs(exact, chunk, "float16") + bounds.any_inputs(exact, 1000 / chunk, "float32")
    bounds.bounded(got, exact, allowed, "float16")


def test_a_sum_that_tells_chunks_apart(backend: Any) -> None:
    """Ones sum up to 2048 in binary16 and no further; chunks of 256 are emptied before."""
    ones = backend.from_numpy(np.ones((1, 8192), np.float16))
    sums = {
        acc: float(np.array(backend.to_numpy(backend.matmul(ones, ones, False, True, acc)))[0, 0])
        for acc in ("float16:256", "float32")
    }
    assert sums == {"float16:256": 8192, "float32": 8192}
    # 257 terms whose first is 512: 0.25 is half an ulp and lost while the 512 is in the same chunk
    terms = np.full((1, 257), 0.25, np.float16)
    terms[0, 0] = 512
    x, one = backend.from_numpy(terms), backend.from_numpy(np.ones((1, 257), np.float16))
    got = [
        float(np.array(backend.to_numpy(backend.matmul(x, one, False, True, f"float16:{n}")))[0, 0])
        for n in (8, 64, 256)
    ]
    assert got == [float(np.float16(512 + 0.25 * (257 - n))) for n in (8, 64, 257)]


def test_audit_names_the_accumulators(backend_name: str) -> None:
    model = fe.nn.Sequential(
        fe.nn.Conv2d(1, 4, 3), fe.nn.BatchNorm2d(4, activation="relu"), fe.nn.Flatten(), fe.nn.Linear(64, 3)
    )
    trainer = fe.Trainer(model, precision="fp16-chunk32", device=backend_name)
    images = np.random.default_rng(0).standard_normal((4, 4, 4, 1)).astype(np.float16)
    audit = audit_step(trainer, images, np.array([0, 1, 2, 0]))
    found = {row.op: row.accumulator for row in audit.rows if row.accumulator != "none"}
    products = {op for op, acc in found.items() if acc == "float16:32"}
    assert products == {"conv2d_forward", "conv2d_backward", "linear_forward", "linear_backward"}
    assert {acc for op, acc in found.items() if op not in products} == {"float32"}
    assert "batch_norm_forward" in found and audit.float32_tensors() == []
