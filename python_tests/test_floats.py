"""Storage types by name: limits, one rounding from float64, and what is said without ml_dtypes."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine import floats

needs_bfloat16 = pytest.mark.skipif(not bounds.HAS_BFLOAT16, reason="needs ml_dtypes")


@needs_bfloat16
def test_limits_of_bfloat16() -> None:
    limits = floats.limits("bfloat16")
    assert float(limits.eps) == 2.0**-7
    assert float(limits.max) == (2 - 2.0**-7) * 2.0**127
    assert float(limits.tiny) == 2.0**-126
    assert float(limits.smallest_subnormal) == 2.0**-133


@needs_bfloat16
def test_float64_is_rounded_once() -> None:
    """Next to a tie of bfloat16, by less than float32 has digits for: rounding twice goes the wrong way."""
    every = bounds.every_finite("bfloat16").astype(np.float64)
    low, high = every[:-1], every[1:]
    tie = (low + high) / 2
    up, down = np.nextafter(tie, np.inf), np.nextafter(tie, 0)
    for x, expected in ((up, high), (down, low), (-up, -high), (-down, -low)):
        np.testing.assert_array_equal(floats.rounded(x, "bfloat16").astype(np.float64), expected)
    strange = np.array([np.nan, np.inf, -np.inf, -0.0, 1e300, 1e-300])
    got = floats.rounded(strange, "bfloat16").astype(np.float64)
    bounds.same_bits(got, np.array([np.nan, np.inf, -np.inf, -0.0, np.inf, 0.0]))


@needs_bfloat16
def test_tensors_are_rounded_to_the_nearest(backend_name: str) -> None:
    if backend_name not in ("cpu", "reference"):
        with pytest.raises(ValueError, match=r"dtype must .* got 'bfloat16'"):
            fe.tensor([1.0], "bfloat16", backend_name)
        return
    rng = np.random.default_rng(1)
    x = rng.standard_normal(500) * 2.0 ** rng.integers(-100, 100, 500)
    every = [Fraction(v) for v in bounds.every_finite("bfloat16").astype(np.float64).tolist()]
    tensor = fe.tensor(x, "bfloat16", backend_name)
    assert tensor.dtype == "bfloat16"
    for given, got in zip(x.tolist(), tensor.numpy().astype(np.float64).tolist(), strict=True):
        at = every.index(Fraction(abs(got)))
        distance = abs(Fraction(abs(given)) - every[at])
        assert all(distance <= abs(Fraction(abs(given)) - every[n]) for n in (at - 1, at + 1))
    again = fe.tensor(tensor.numpy(), device=backend_name)
    assert again.dtype == "bfloat16"
    assert tensor.astype("float32").astype("bfloat16").dtype == "bfloat16"


def test_what_is_missing_is_named() -> None:
    code = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "import fp16engine as fe\n"
        "for make in (lambda: fe.Precision.get('bf16'), lambda: fe.tensor([1.0], 'bfloat16', 'reference')):\n"
        "    try: make()\n"
        "    except fe.BackendUnavailable as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    sentence = "bfloat16 needs the package ml_dtypes; pip install 'fp16engine[bf16]'"
    assert done.stdout.splitlines() == [sentence] * 2


@needs_bfloat16
def test_bfloat16_is_not_exported_through_dlpack() -> None:
    x = fe.tensor([1.5], "bfloat16", "reference")
    with pytest.raises(BufferError, match=r"__dlpack__: the tensor must be .* got bfloat16, .*astype"):
        np.from_dlpack(x)
    assert np.from_dlpack(x.astype("float32")).tolist() == [1.5]
