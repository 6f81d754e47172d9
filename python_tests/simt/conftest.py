"""The fakes of the CUDA runtime and of cuBLASLt (csrc/testing/fake_cuda)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

_devices = itertools.count(100)


@pytest.fixture
def fakes() -> Iterator[Any]:
    """The fakes, on a device that holds nothing yet."""
    simt = pytest.importorskip("fp16engine._simt", exc_type=ImportError)
    simt.fakes.forget()
    simt.fakes.set_device(next(_devices))
    yield simt.fakes
    simt.fakes.set_memory_release(lambda: None)
    simt.fakes.set_autotune(False)
    simt.fakes.set_device(0)
    simt.fakes.forget()
