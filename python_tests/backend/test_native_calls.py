"""Private functions of the compiled modules with wrong arguments: refused in a sentence, never a crash."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp16engine as fe

FUZZER = Path(__file__).parents[1] / "native_calls.py"
CALLS = os.environ.get("FP16ENGINE_TEST_CALLS", "1500")  # 15 000 under the sanitizers: .ci/sanitize


@pytest.mark.slow
def test_mutated_arguments_end_in_a_sentence(compiled_name: str, tmp_path: Path) -> None:
    if compiled_name == "cuda":
        pytest.skip("a kernel's fault leaves no usable device")
    log = tmp_path / "calls"
    command = [sys.executable, str(FUZZER), compiled_name, CALLS, "1", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    last = log.read_text().splitlines()[-1:] if log.exists() else []
    assert done.returncode == 0, f"{done.stderr[-3000:]}\nlast call: {last}"


def _half(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float16)


def _read_only(*shape: int) -> np.ndarray:
    x = _half(*shape)
    x.flags.writeable = False
    return x


def _step(native: Any, param: np.ndarray, grad: np.ndarray) -> None:
    scalars = (0.1, 1.0, 1.0, 1.0, 0, 1, True)
    native.sgd(([param], [grad], [], [], [0.0], False, [0], scalars, None), [], 0.0, False)


def _convolve_back(native: Any, db: np.ndarray, stride: int = 1) -> None:
    x, w = _half(1, 4, 4, 2), _half(3, 3, 3, 2)
    native.conv2d_backward(x, w, _half(1, 2, 2, 3), None, None, db, stride, 1, (0, 0, 0, 0), 1, 0)


X = _half(4)
REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "layer_norm, short output": (
        lambda n: n.layer_norm_forward(
            _half(2, 8), _half(8), _half(8), _half(2, 4), _half(2), _half(2), 1e-5, False
        ),
        r"^y must be of the size of float16 \(2, 8\), got float16 \(2, 4\)$",
    ),
    "layer_norm, short gradient": (
        lambda n: n.layer_norm_backward(
            _half(2, 8), _half(8), _half(2), _half(2), _half(2, 8), _half(1, 8), _half(8), _half(8), False
        ),
        r"^dx must be of the size of float16 \(2, 8\), got float16 \(1, 8\)$",
    ),
    "layer_norm, weights narrower than x": (
        lambda n: n.layer_norm_forward(
            np.ones((2, 8), np.float32),
            *(_half(8), _half(8), np.ones((2, 8), np.float32), _half(2), _half(2)),
            1e-5,
            False,
        ),
        r"^gamma must be float32, got float16 \(8\)$",
    ),
    "convolution, short db": (
        lambda n: _convolve_back(n, _half(2)),
        r"^db must be of shape \(3\), got float16 \(2\)$",
    ),
    "convolution, stride 0": (
        lambda n: _convolve_back(n, _half(3), stride=0),
        r"^stride_h must be an integer in \[1, 2147483647\], got 0$",
    ),
    "scalar softmax": (
        lambda n: n.softmax(_half(), _half(), 0, None, False),
        r"^x must be \(\.\.\., K\), got float16 \(\)$",
    ),
    "None": (lambda n: n.unary("relu", None, X), "^x must be an array, got None$"),
    "negative extent": (
        lambda n: n.empty((-1,), np.dtype("f2")),
        r"^shape must be extents >= 0 .*, got \(-1\)$",
    ),
    "overflow": (
        lambda n: n.empty((2**31, 2**31, 4), np.dtype("f4")),
        "^shape must be extents >= 0 of at most 2",
    ),
    "objects": (
        lambda n: n.empty((3,), np.dtype(object)),
        "^dtype must be float16, .*, got object$",
    ),
    "read-only weight": (
        lambda n: _step(n, _read_only(4), _half(4)),
        "^params must be writable, got a read-only",
    ),
    "weight is its gradient": (lambda n: _step(n, X, X), "must be apart, got overlapping memory$"),
    "vast window": (
        lambda n: n.avg_pool_forward(
            _half(1, 4, 4, 1),
            _half(1, 1, 1, 1),
            2**30,
            2**30,
            2**31 - 1,
            2**31 - 1,
            (2**30, 0, 2**30, 0),
            False,
        ),
        r"^kh \* kw must be an integer in \[1, 16777216\], got 1152921504606846976$",
    ),
    "a result larger than the broadcast": (
        lambda n: n.binary("add", _half(1), _half(1), _half(2)),
        r"^a, b must be shapes that broadcast to float16 \(2\), got float16 \(1\) and float16 \(1\)$",
    ),
    "strides": (
        lambda n: n.unary("relu", _half(8)[::2], X),
        "^x must be C-contiguous, got an array with strides$",
    ),
    "dtype": (lambda n: n.unary("relu", np.ones(4), X), "^x must be float16, .*, got float64$"),
    "part of the input": (
        lambda n: n.unary("relu", X[:3], X[1:]),
        "^y must be apart from x, got overlapping memory$",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_argument_is_named(cpu: Any, case: str) -> None:
    function, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        function(cpu.native)


def test_structs_are_aligned(simt: Any) -> None:
    control, scalars, loss = np.zeros(136, np.uint8), np.zeros(32, np.uint8), np.ones((), np.float32)
    with pytest.raises(ValueError, match=r"^table must be aligned to 8 bytes, got an address between$"):
        simt.native.decide_step(control, loss, None, 1.0, np.zeros(97, np.uint8)[1:], scalars)


def test_arguments_have_names(cpu: Any) -> None:
    y = cpu.empty((4,), "float16")
    cpu.native.unary(op="neg", x=X, y=y)
    assert (y == -1).all()
    documented = inspect.getdoc(cpu.native.conv2d_backward)
    assert documented is not None and "stride_h: " in documented and "arg0" not in documented


@pytest.mark.parametrize("value", [np.uint64(2**63), np.float64(2**63), np.float32(-(2.0**64)), np.inf])
def test_an_integer_tensor_does_not_wrap(value: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^data must be integers in \[-2\^63, 2\^63\) for dtype 'int64', got values up to "
    ):
        fe.tensor(np.array([1, value], type(value)), dtype="int64", device="reference")
    assert fe.tensor(np.array([2**63 - 1], np.uint64), device="reference").item() == 2**63 - 1
