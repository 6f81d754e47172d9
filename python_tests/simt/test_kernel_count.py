"""How many kernels a training step of ResNet-56 is: counted on the simulated GPU, and what CUDA adds."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import fp16engine as fe
from fp16engine.observer import BackendCall, observe
from fp16engine.train.captured import CapturedStep

_CLAIMS = (Path(__file__).parents[2] / "benchmarks" / "gpu_check" / "claims.py").read_text()
MOST_ON_CUDA = int(re.findall(r"^MOST_KERNELS = (\d+)", _CLAIMS, re.MULTILINE)[0])
LABELS = np.array([1, 2])


def _trainer() -> fe.Trainer:
    model = fe.models.create("resnet56", image_size=8)
    return fe.Trainer(model, device="simt", momentum=0.9, capture=False)


def _images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float16)


def test_resnet56_is_as_many_kernels_as_the_check_of_a_gpu_allows(simt: Any) -> None:
    """The number depends on the network alone: on neither batch nor image size."""
    step = CapturedStep.on_batch(_trainer(), simt.from_numpy(_images()), LABELS)
    step.again()
    assert step.reason is None and step.recording is not None
    names: Counter[str] = Counter(step.recording.names)  # type: ignore[attr-defined]
    assert step.kernels == names.total() == 366
    # cuDNN takes a launch for each gradient of a convolution, of which the first has one
    assert names.total() + names["conv2d_backward"] - 1 == MOST_ON_CUDA
    # A norm is two kernels each way, and nothing between a norm and a convolution is one of its own: the sums
    # of two branches but one, where the first unit splits, are part of the norms.
    assert {name.split("<")[0]: count for name, count in names.items() if "batch_norm" in name} == {
        f"(batch_norm_{kernel}_kernel": 55 for kernel in ("moments", "forward", "gradient_sums", "backward")
    }
    assert names["conv2d_forward"] == names["conv2d_backward"] == 55
    assert sum(count for name, count in names.items() if name.startswith("(map_pairs_kernel")) == 1


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
