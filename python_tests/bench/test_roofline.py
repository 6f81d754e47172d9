"""What a step computes and moves is counted, not typed, and the machine's rates are those of real work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine import functional as F
from fp16engine import nn
from fp16engine.bench import roofline


def tensor(*shape: int, requires_grad: bool = False) -> fe.Tensor:
    return fe.tensor(np.ones(shape), "float32", "reference", requires_grad=requires_grad)


@pytest.mark.parametrize("needs_input", [False, True])
def test_a_convolution_counts_the_products_of_its_direct_sum(needs_input: bool) -> None:
    layer, x = (
        nn.Conv2d(4, 6, 3, stride=2, groups=2).to("reference"),
        tensor(2, 9, 9, 4, requires_grad=needs_input),
    )
    forward = 2 * (2 * 5 * 5 * 6) * (3 * 3 * 2)
    assert roofline.count(lambda: layer(x)).flops == forward
    # backward: one such sum for the weights, one for the images where their gradient is asked for
    assert roofline.count(lambda: layer(x).sum().backward()).flops == (2 + needs_input) * forward


def test_winograd_counts_as_the_direct_sum() -> None:
    layer, x = nn.Conv2d(16, 16, 3).to("reference"), tensor(1, 8, 8, 16)
    counted = []
    for name in ("fp32", "fp32+direct"):
        with fe.Precision.get(name).use():
            counted.append(roofline.count(lambda: layer(x)).flops)
    assert counted == [2 * 8 * 8 * 16 * 9 * 16] * 2


def test_products_attention_and_bytes() -> None:
    a, b = tensor(5, 3, 4), tensor(5, 4, 7)
    assert roofline.count(lambda: a @ b) == roofline.Work(2 * 5 * 3 * 4 * 7, 4 * 5 * (12 + 28 + 21))
    layer, x = nn.Linear(4, 2).to("reference"), tensor(3, 4)
    assert roofline.count(lambda: layer(x).sum().backward()).flops == 2 * 2 * (3 * 4 * 2)
    q, k = tensor(2, 2, 5, 8, requires_grad=True), tensor(2, 2, 7, 8)
    product = 2 * (2 * 2 * 5 * 7 * 8)
    assert roofline.count(lambda: F.attention(q, k, k)).flops == 2 * product
    assert roofline.count(lambda: F.attention(q, k, k).sum().backward()).flops == 6 * product


def test_every_product_of_the_networks_is_counted() -> None:
    """An operation that multiplies matrices and has no line in the table would count as nothing."""
    dot_products = {
        name
        for name in dir(backends.get("reference"))
        if name.startswith(("matmul", "linear_", "conv2d_", "attention_"))
    }
    assert dot_products == set(roofline._PRODUCTS)


def test_gauges_count_what_they_do(threads: Any) -> None:
    peak, copied = roofline.gauges(threads)
    assert (peak.name, copied.name) == ("machine-multiply-adds", "machine-copy")
    done: Any = copied.step()
    assert done.nbytes * 2 == copied.batch_size
    assert np.all(done == -1)
    assert peak.step() == peak.batch_size
    one = threads.multiply_adds(1)
    assert one > 0 and threads.multiply_adds(7) == 7 * one
    count = threads.info()["threads"]
    threads.set_num_threads(count + 1)
    assert threads.multiply_adds(7) * count == 7 * one * (count + 1)


@pytest.mark.parametrize("steps", [0, -1, 2**30 + 1])
def test_steps_out_of_range(cpu: Any, steps: int) -> None:
    with pytest.raises(ValueError, match=rf"steps must .* got {steps}"):
        cpu.multiply_adds(steps)


def test_other_devices_have_no_gauges() -> None:
    assert roofline.gauges(backends.get("reference")) == []
    assert roofline.shares(100.0, 1e6, 1e6, {}) == {"share_of_peak": None, "share_of_copy": None}
