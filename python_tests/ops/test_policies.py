"""Every function under every policy on every backend: dtypes stay, and nothing wider is accepted quietly."""

from __future__ import annotations

from functools import partial
from typing import Any

import bounds
import numpy as np
import pytest
from function_cases import FUNCTION_CASES, FunctionCase

import fp16engine as fe

POLICIES = {"fp32": "float32", "fp16": "float16", "fp16-strict": "float16", "mp": "float16"}
CASES = {case.name: (case,) for case in FUNCTION_CASES}


def _run(case: FunctionCase, device: str, policy: str) -> tuple[Any, list[Any]]:
    """Return output and gradients of `case` in the storage dtype of `policy`."""
    dtype = POLICIES[policy]
    tensors = [fe.tensor(v, dtype=dtype, device=device, requires_grad=True) for v in case.inputs()]
    with fe.Precision.get(policy).use():
        y = case.function(*tensors)
        y.backward(fe.tensor(np.ones(y.shape), dtype=y.dtype, device=device))
    return y, [t.grad for t in tensors]


@pytest.mark.parametrize("policy", POLICIES)
def test_output_and_gradients_keep_the_storage_dtype(for_each: Any, policy: str, backend_name: str) -> None:
    for_each(CASES, partial(_keeps_the_storage_dtype, policy, backend_name))


def _keeps_the_storage_dtype(policy: str, backend_name: str, case: FunctionCase) -> None:
    y, gradients = _run(case, backend_name, policy)
    for t in (y, *gradients):
        assert (t.dtype, t.device) == (POLICIES[policy], backend_name)
        assert t.data.flags.c_contiguous
        assert np.isfinite(t.numpy()).all()
    for gradient, values in zip(gradients, case.inputs(), strict=True):
        assert gradient.shape == values.shape


# exp and its kin may differ by an ulp between backends; what follows from them then differs too.
_TRANSCENDENTAL = (
    "gelu",
    "tanh",
    "exp",
    "log",
    "pow",
    "reused",
    "softmax",
    "cross",
    "attention",
    "batch_norm-inference",
)


def test_strict_bits_are_the_same_everywhere(for_each: Any, compiled_name: str) -> None:
    """Under fp16-strict the order of every sum is part of the policy: all backends agree bit for bit."""
    cases = {name: case for name, case in CASES.items() if not name.startswith(_TRANSCENDENTAL)}
    for_each(cases, partial(_same_strict_bits, compiled_name))


def _same_strict_bits(compiled_name: str, case: FunctionCase) -> None:
    devices = (compiled_name, "reference")
    (y, gradients), (expected, expected_gradients) = (_run(case, d, "fp16-strict") for d in devices)
    for got, reference in zip((y, *gradients), (expected, *expected_gradients), strict=True):
        bounds.same_bits(got.numpy(), reference.numpy())


def test_strict_refuses_float32(for_each: Any, backend_name: str) -> None:
    cases = {name: case for name, case in CASES.items() if name != "astype"}  # which hands x through
    for_each(cases, partial(_refuses_float32, backend_name))


def _refuses_float32(backend_name: str, case: FunctionCase) -> None:
    tensors = [fe.tensor(v, dtype="float32", device=backend_name) for v in case.inputs()]
    with fe.Precision.get("fp16-strict").use(), pytest.raises(fe.UnsupportedPrecision):
        case.function(*tensors)
