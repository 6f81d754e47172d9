"""Every kernel family, measured against its floor: the time its bytes, or its arithmetic, take at best.

The machine's best is measured in the same run: the rate at which it copies an array as large as the
kernel's, and the rate of a large matrix product. A kernel at 100 % of the copy rate moves its bytes as fast
as a copy.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np

from .. import backend as backends
from .._version import __version__
from ..doctor import machine
from ..errors import UnsupportedPrecision
from ..precision import Precision
from ..validate import choice
from .kernel_cases import SIZES, Kernel, Setting, kernels
from .timers import EventTimer, HostTimer, device_copy, timer

PEERS = ("torch",)
# Bytes of the array that is copied, as large as the feature maps of the kernel table; the first is for tests.
COPIED = {"tiny": 1 << 16, "in-situ": 256 * 32 * 32 * 16 * 2, "large": 8192 * 32 * 32 * 16 * 2}
_PRODUCT = {"tiny": 64, "in-situ": 2048, "large": 8192}  # rows and columns of the product whose rate is taken
_HOST_PRODUCT = 1024


def run(
    sizes: Sequence[str] = ("in-situ",),
    *,
    device: str | None = None,
    precision: str = "fp16",
    families: Sequence[str] | None = None,
    peer: str | None = None,
    seconds: float = 0.2,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure kernels under one policy, against their floor in bytes and FLOPs.

    Args:
        sizes: of "tiny" (tests), "in-situ" (as in ResNet-56, VGG-16 or ViT-8 at batch 256) and "large"
            (beyond any cache).
        device: "cpu", "cuda", "cuda:1" or "reference"; None means "cpu".
        precision: the name of a preset.
        families: names of families of kernels, such as "softmax"; None means all.
        peer: "torch" times PyTorch's same operation in turn, where there is one.
        seconds: of a kernel, which runs at least five times.
        note: hears what is being done.

    Returns:
        JSON values: copy, products, kernels, failures, peer, machine. Times are medians, with their range. On
        a GPU the L2 cache is overwritten before each run, and `resident_us` is the time of a run among twenty
        in a row. A kernel that raises is listed in `failures`.

    Raises:
        ValueError: an argument is out of range or unknown.
        BackendUnavailable: the device is not there.
        UnsupportedPrecision: the device cannot honour the precision.

    >>> from fp16engine.bench import kernels
    >>> found = kernels.run(("tiny",), device="reference", families=["softmax"], seconds=1e-4)
    >>> [row["kernel"] for row in found["kernels"]]
    ['softmax', 'softmax_backward']
    """
    for size in sizes:
        choice("sizes", size, SIZES)
    if peer is not None:
        choice("peer", peer, PEERS)
    table = {size: kernels(size) for size in sizes}
    known = dict.fromkeys(kernel.family for size in sizes for kernel in table[size])
    for family in families or ():
        choice("families", family, known)
    policy = Precision.get(precision)
    setting = Setting(device or "cpu", policy)
    backend: Any = backends.get(setting.device)
    clock = timer(backend)
    peers, found = _peer(peer, setting.device)
    result: dict[str, Any] = {
        "version": __version__,
        "device": setting.device,
        "precision": policy.name,
        "flushed": clock.flushes,
        "copy": [],
        "products": None,
        "kernels": [],
        "failures": [],
        "peer": found,
    }
    for size in sizes:
        note(f"{size}: copy")
        copied = _copy_rate(backend, clock, COPIED[size], seconds)
        result["copy"].append({"size": size, **copied})
    note("matrix product")
    result["products"] = _product_rate(backend, clock, setting, sizes, seconds)
    rates = {row["size"]: row["bytes_per_second"] for row in result["copy"]}
    chosen = {size: [k for k in table[size] if not families or k.family in families] for size in sizes}
    count, done = sum(map(len, chosen.values())), 0
    for size in sizes:
        for kernel in chosen[size]:
            done += 1
            note(f"{done} of {count}: {size}, {kernel.name}")
            try:
                row = _measure(kernel, size, backend, clock, setting, seconds, peers)
            except (UnsupportedPrecision, RuntimeError, ValueError, MemoryError) as error:
                result["failures"].append({"size": size, "kernel": kernel.name, "reason": f"{error}"})
                continue
            result["kernels"].append(_against_floor(row, rates[size], result["products"]))
            gc.collect()
    result["machine"] = machine(setting.device)
    return result


def _copy_rate(backend: Any, clock: HostTimer | EventTimer, nbytes: int, seconds: float) -> dict[str, Any]:
    x = backend.from_numpy(np.resize(np.arange(1024, dtype=np.float16), nbytes // 2))
    times = clock.measure(device_copy(backend, x), seconds)
    return {"bytes": nbytes, **_times(times), "bytes_per_second": 2 * nbytes / median(times)}


def _product_rate(
    backend: Any, clock: HostTimer | EventTimer, setting: Setting, sizes: Sequence[str], seconds: float
) -> dict[str, Any]:
    """The rate of a square product with float32 accumulators: what the floor of dot products goes by."""
    n = max(_PRODUCT[size] for size in sizes)
    if not clock.flushes:
        n = min(n, _HOST_PRODUCT)
    values = np.resize(np.linspace(-1, 1, 997, dtype=np.float32), (n, n)).astype(setting.precision.storage)
    a, b = backend.from_numpy(values), backend.from_numpy(values)
    times = clock.measure(lambda: backend.matmul(a, b, False, True, "float32"), seconds)
    return {"rows": n, **_times(times), "flops_per_second": 2 * n**3 / min(times)}


def _measure(
    kernel: Kernel,
    size: str,
    backend: Any,
    clock: HostTimer | EventTimer,
    setting: Setting,
    seconds: float,
    peers: Any,
) -> dict[str, Any]:
    given = kernel.inputs(setting)
    call = kernel.prepare(backend, on_device(backend, given), setting)
    times = clock.measure(call, seconds)
    resident = clock.resident(call)
    row = {
        "family": kernel.family,
        "kernel": kernel.name,
        "size": size,
        "shape": kernel.shape(),
        "bytes": kernel.bytes(setting),
        "flops": kernel.flops,
        "dot_products": kernel.dot_products,
        **_times(times),
        "resident_us": None if resident is None else 1e6 * resident,
        "peer": None,
    }
    del call
    if peers is not None:
        with peers.on(backend.stream if backend.capabilities.stream else None):
            theirs = peers.prepare(kernel, given, setting)
            if theirs is not None:
                row["peer"] = _times(clock.measure(theirs, seconds))
                row["peer"]["ratio"] = row["peer"]["us"] / row["us"]
    return row


def on_device(backend: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays of a kernel on the backend's device."""
    return {
        name: [backend.from_numpy(a) for a in value] if isinstance(value, list) else backend.from_numpy(value)
        for name, value in given.items()
    }


def _against_floor(row: dict[str, Any], copied: float, products: dict[str, Any]) -> dict[str, Any]:
    """Add the floor, and how much of the copy rate and of the floor's rate the kernel reaches."""
    moved = row["bytes"] / copied
    counted = row["flops"] / products["flops_per_second"] if row["dot_products"] else 0.0
    floor = max(moved, counted)
    seconds = 1e-6 * row["us"]
    return {
        **row,
        "floor_us": 1e6 * floor,
        "bound_by": "bytes" if moved >= counted else "arithmetic",
        "bytes_per_second": row["bytes"] / seconds,
        "share_of_copy": row["bytes"] / seconds / copied,
        "share_of_floor": floor / seconds,
    }


def _times(times: Sequence[float]) -> dict[str, Any]:
    return {
        "us": 1e6 * median(times),
        "lowest_us": 1e6 * min(times),
        "highest_us": 1e6 * max(times),
        "runs": len(times),
    }


def _peer(peer: str | None, device: str) -> tuple[Any, dict[str, Any] | None]:
    if peer is None:
        return None, None
    if importlib.util.find_spec("torch") is None:
        reason = "torch is not installed; get it with: pip install torch"
        return None, {"name": peer, "available": False, "reason": reason, "version": None}
    from . import torch_kernels

    why = torch_kernels.missing(device)
    found = {"name": peer, "available": why is None, "reason": why, "version": torch_kernels.VERSION}
    return (None if why else torch_kernels.Peers(device)), found
