"""`import fp16engine` is light: NumPy, and no compiled module or heavy package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

import fp16engine as fe

HEAVY = ("matplotlib", "rich", "safetensors", "PIL", "scipy", "jinja2", "torch")
COMPILED = ("fp16engine._cpu", "fp16engine._cuda", "fp16engine._simt")

CHILD = """
import sys, time
import numpy
start = time.perf_counter()
import fp16engine
seconds = time.perf_counter() - start
fp16engine.models.create("dnn", image_size=2)
print(seconds)
print(",".join(sys.modules))
"""


def test_import_is_light(record_property: Callable[[str, object], None]) -> None:
    run = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=120
    )
    seconds, modules = run.stdout.strip().splitlines()
    record_property("import_seconds_without_numpy", float(seconds))
    loaded = set(modules.split(","))
    assert not loaded.intersection(HEAVY + COMPILED)
    assert not {name for name in loaded if name.startswith("fp16engine.train")}


def test_every_public_name_is_there() -> None:
    for name in fe.__all__:
        assert getattr(fe, name) is not None
    assert set(fe.__all__) <= set(dir(fe))


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'fp16engine' has no attribute 'nonsense'"):
        _ = fe.nonsense


def test_functional_has_the_contract_names() -> None:
    names = (
        "linear matmul conv2d batch_norm layer_norm relu relu6 gelu tanh softmax log_softmax "
        "cross_entropy max_pool2d avg_pool2d global_avg_pool2d dropout embedding attention cat pad2d flatten"
    )
    assert set(names.split()) <= set(fe.functional.__all__)
