"""What only the GPU's modules offer, in the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.observer import BackendCall, observe


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_is_a_flag_on_the_device(simt: Any, value: float) -> None:
    fine = simt.from_numpy(np.full((17, 33), 65504, np.float16))
    flag = simt.empty((), "int32")
    simt.native.nonfinite([fine, fine], flag)
    assert flag == 0
    for place in (0, 299, 560):
        host = np.zeros(561, np.float16)
        host[place] = value
        simt.native.nonfinite([fine, simt.from_numpy(host)], flag)
        assert flag == 1


def test_attention_beyond_the_kernels_limit_is_refused(simt: Any) -> None:
    """So that the limit in Python cannot be wider than the kernels'."""
    from fp16engine.backend.gpu.operations import MOST_ATTENDED

    for size, fits in ((MOST_ATTENDED, True), (MOST_ATTENDED + 1, False)):
        x = simt.zeros((1, 1, size, 1), "float16")
        y, probs = simt.empty(x.shape, "float16"), simt.empty((1, 1, size, size), "float16")
        if fits:
            simt.native.attention_forward(x, x, x, y, probs, False, None, False)
            assert not y.any()
        else:
            with pytest.raises(ValueError, match=rf"^S and D must be .* \[0, {MOST_ATTENDED}\], got"):
                simt.native.attention_forward(x, x, x, y, probs, False, None, False)


@pytest.mark.parametrize("precision", ["fp16", "fp16-strict"])
def test_a_relu_adds_the_gradient_of_the_other_reader_of_its_input(simt: Any, precision: str) -> None:
    """With the bits of a sum apart, which the reference makes; the convolution's bias has all of it."""
    rng = np.random.default_rng(0)
    x, w, b, s = (
        rng.integers(-2, 3, shape).astype(np.float16)  # float32 sums are exact
        for shape in ((2, 4, 5, 3), (3, 3, 3, 1), (3,), (2, 4, 5, 3))
    )

    def gradients(device: str) -> tuple[list[np.ndarray], list[str]]:
        calls: list[str] = []

        def around(call: BackendCall) -> Any:
            calls.append(call.op)
            return call.run()

        inputs = image, weight, bias = [fe.tensor(a, device=device, requires_grad=True) for a in (x, w, b)]
        with fe.Precision.get(precision).use(), observe(around):
            y = fe.functional.conv2d(image, weight, bias, padding="same", groups=3)
            scale = fe.tensor(s, device=device)
            rectified = fe.functional.relu(y) * scale
            (rectified + y * y).sum().backward()  # y's gradient by itself is there before the ReLU's
        return [a.grad.numpy() for a in inputs if a.grad is not None], calls

    ours, calls = gradients("simt")
    expected, apart = gradients("reference")
    assert calls.count("relu_add_backward") == 1 and "relu_bias_backward" not in calls
    assert "relu_add_backward" not in apart and apart.count("unary_backward") == 1
    assert len(ours) == len(expected) == 3
    for got, want in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(got.view(np.uint16), want.view(np.uint16))
