"""Every function under every policy on every backend: dtypes stay, and nothing wider is accepted quietly."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest
from function_cases import FUNCTION_CASES, FunctionCase

import fp16engine as fe

POLICIES = {"fp32": "float32", "fp16": "float16", "fp16-strict": "float16", "mp": "float16"}
CASES = [pytest.param(case, id=case.name) for case in FUNCTION_CASES]


def _run(case: FunctionCase, device: str, policy: str) -> tuple[Any, list[Any]]:
    """Return output and gradients of `case` in the storage dtype of `policy`."""
    dtype = POLICIES[policy]
    tensors = [fe.tensor(v, dtype=dtype, device=device, requires_grad=True) for v in case.inputs()]
    with fe.Precision.get(policy).use():
        y = case.function(*tensors)
        y.backward(fe.tensor(np.ones(y.shape), dtype=y.dtype, device=device))
    return y, [t.grad for t in tensors]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_keep_the_storage_dtype(
    case: FunctionCase, policy: str, backend_name: str
) -> None:
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


@pytest.mark.parametrize("case", [p for p in CASES if not p.values[0].name.startswith(_TRANSCENDENTAL)])
def test_strict_bits_are_the_same_everywhere(case: FunctionCase, compiled_name: str) -> None:
    """Under fp16-strict the order of every sum is part of the policy: all backends agree bit for bit."""
    devices = (compiled_name, "reference")
    (y, gradients), (expected, expected_gradients) = (_run(case, d, "fp16-strict") for d in devices)
    for got, reference in zip((y, *gradients), (expected, *expected_gradients), strict=True):
        bounds.same_bits(got.numpy(), reference.numpy())


@pytest.mark.parametrize("case", [p for p in CASES if p.values[0].name != "astype"])  # which hands x through
def test_strict_refuses_float32(case: FunctionCase, backend_name: str) -> None:
    tensors = [fe.tensor(v, dtype="float32", device=backend_name) for v in case.inputs()]
    with fe.Precision.get("fp16-strict").use(), pytest.raises(fe.UnsupportedPrecision):
        case.function(*tensors)
