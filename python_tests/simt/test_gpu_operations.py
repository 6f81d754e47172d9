"""What only the GPU's modules offer, in the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


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
