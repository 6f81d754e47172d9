"""How many kernels a captured training step is, counted on the simulated GPU."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.bench import captured_nodes
from fp16engine.observer import BackendCall, observe
from fp16engine.train.captured import CapturedStep

_CLAIMS = (Path(__file__).parents[2] / "benchmarks" / "gpu_check" / "claims.py").read_text()
MOST_ON_CUDA = int(re.findall(r"^MOST_KERNELS = (\d+)", _CLAIMS, re.MULTILINE)[0])
LABELS = np.array([1, 2])


def _trainer(model: str = "resnet56", size: int = 8) -> fe.Trainer:
    return fe.Trainer(fe.models.create(model, image_size=size), device="simt", momentum=0.9, capture=False)


def _images(size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, size, size, 3)).astype(np.float16)


def _short(name: str) -> str:
    return name.lstrip("(").partition("<")[0].partition(" (")[0]


def test_resnet56_is_as_many_kernels_as_the_check_of_a_gpu_allows(simt: Any) -> None:
    """The number depends on the network alone: on neither batch nor image size."""
    step = CapturedStep.on_batch(_trainer(), simt.from_numpy(_images()), LABELS)
    step.again()
    assert step.reason is None and step.recording is not None
    names = Counter(map(_short, step.recording.names))  # type: ignore[attr-defined]
    assert step.kernels == names.total() == MOST_ON_CUDA
    # A norm is a kernel each way, and nothing between a norm and a convolution is one of its own: the sums
    # of two branches but one, where the first unit splits, are part of the norms.
    assert {name: count for name, count in names.items() if "batch_norm" in name} == {
        f"batch_norm_{way}_kernel": 55 for way in ("forward", "backward")
    }
    assert names["conv2d_forward"] == names["conv2d_weight_gradient"] == 55
    assert names["conv2d_data_gradient"] == 54
    assert names["map_pairs_kernel"] == 1


@pytest.mark.parametrize(
    ("model", "nodes"),
    [
        ("resnet56", 308),
        ("vgg16", 114),
        ("densenet121", 635),
        ("vit8", 280),
        ("mobilenetv2", 275),
        ("xception", 325),
    ],
)
def test_nodes_of_a_network(simt: Any, model: str, nodes: int) -> None:
    """At batch 256, where sums over a batch take a second kernel; a step of that size is counted, not run."""
    images, labels = np.zeros((256, 32, 32, 3), np.float16), np.zeros(256, np.int64)
    assert captured_nodes.count(_trainer(model, 32), images, labels).nodes == nodes


def test_the_layers_of_a_densenet_are_joined_by_the_norms(simt: Any) -> None:
    """Neither channels side by side nor the parts of their gradient are copied by a kernel of their own."""
    counted = captured_nodes.count(_trainer("densenet121", 32), _images(32), LABELS)
    calls = Counter(call.name for call in counted.calls)
    assert calls["move"] == 1  # the mean's gradient, which is the same for every pixel
    assert calls["batch_norm_of_cat_forward"] == calls["batch_norm_of_cat_backward"] == 58


def test_a_relu_sums_the_gradient_of_the_bias_before_it(simt: Any) -> None:
    counted = captured_nodes.count(_trainer("alexnet", 32), _images(32), LABELS)
    calls = Counter(call.name for call in counted.calls)
    assert calls["relu_bias_backward"] == calls["conv2d_forward"] == 5
    assert calls["unary_backward"] == 0
    kernels = [kernel for call in counted.calls for kernel in call.kernels]
    assert not [kernel for kernel in kernels if "reduce_kernel" in kernel]


def test_a_depthwise_convolution_is_one_kernel_back_and_a_relu_adds_the_gradient_of_the_other_reader(
    simt: Any,
) -> None:
    counted = captured_nodes.count(_trainer("xception", 32), _images(32), LABELS)
    calls = Counter(call.name for call in counted.calls)
    assert calls["depthwise_forward"] == calls["depthwise_backward"] == 34
    assert {len(call.kernels) for call in counted.calls if call.name == "depthwise_backward"} == {1}
    assert calls["relu_add_backward"] == 11  # the units of the middle, and those that shrink
    assert calls["unary_backward"] == 0


def test_attention_reads_heads_as_they_lie(simt: Any) -> None:
    counted = captured_nodes.count(_trainer("vit8", 32), _images(32), LABELS)
    calls = Counter(call.name for call in counted.calls)
    assert calls["attention_forward"] == calls["attention_backward"] == 8
    kernels = Counter(_short(kernel) for call in counted.calls for kernel in call.kernels)
    assert kernels["attention_gradient_kernel"] == 8 and not kernels["attention_key_gradient_kernel"]
    assert calls["move"] == 2  # of the patches, which are cut out of the image and put back


def test_query_key_and_value_are_one_product(simt: Any) -> None:
    """A layer multiplies four times and joins no gradients: (q k v), out, and two dense layers."""
    counted = captured_nodes.count(_trainer("vit8", 32), _images(32), LABELS)
    calls = Counter(call.name for call in counted.calls)
    assert calls["linear_weight_gradient"] == 8 * 4 + 4
    assert calls["matmul"] == 2 * (8 * 4 + 4) - 1  # the patches are no result


def test_a_convolution_before_a_norm_has_no_kernel_for_its_bias(simt: Any) -> None:
    """On CUDA every gradient of a convolution is a kernel of its own, and a bias' would be two."""
    expected: Counter[str] = Counter()

    def around(call: BackendCall) -> Any:
        if call.op == "conv2d_backward":
            needs = call.named_arguments()["needs"]
            expected.update(name for name, need in zip(("x", "w", "b"), needs, strict=True) if need)
        return call.run()

    trainer = _trainer()
    with observe(around):
        assert trainer.step(_images(), LABELS).applied
    assert expected == {"x": 54, "w": 55}
    biases = [
        p for name, p in trainer.model.named_parameters() if name.endswith(("conv1.bias", "conv2.bias"))
    ]
    assert len(biases) == 54 and all(p.grad is not None for p in biases)
