"""The parts that measure pieces: rates, accumulators, plans, kernels, and the bits of the captured step."""

from __future__ import annotations

from statistics import median
from typing import Any

from gpu_check.part import Run


def rates(run: Run) -> None:
    """What a cudaMemcpyAsync reaches by size, and what a node of a CUDA graph costs."""
    import numpy as np

    from fp16engine import backend as backends
    from fp16engine.bench import timers

    backend: Any = backends.get(run.device)
    clock = timers.timer(backend)
    result: dict[str, Any] = {"copy": [], "flushed": clock.flushes, "node_us": None}
    for megabytes in (0.1, 0.2) if run.dry else (2, 8, 32, 128, 256, 1024):
        x = backend.from_numpy(np.resize(np.arange(512, dtype=np.float16), int(megabytes * 5e5)))
        one = median(clock.measure(timers.device_copy(backend, x), 0.01 if run.dry else 0.2))
        result["copy"].append({"megabytes": megabytes, "us": 1e6 * one, "gb_per_s": 2e-9 * x.nbytes / one})
        run.save(result)
        del x
    small = backend.full((32,), 1.0, "float16")
    node = clock.resident(lambda: backend.binary("add", small, 0.0), 20 if run.dry else 1000)
    result["node_us"] = None if node is None else 1e6 * node
    result["node"] = (
        "an addition to 32 numbers, 1000 of them one after the other in a graph" if node else "needs a GPU"
    )
    run.save(result)


def accumulators(run: Run) -> None:
    """What the kernels and the libraries really accumulate in; writes accumulators-found.json too."""
    from dataclasses import asdict

    from fp16engine import backend as backends
    from fp16engine.backend.gpu import accumulators as probe

    backend: Any = backends.get(run.device)
    native = getattr(backend, "native", None)
    result: dict[str, Any] = {"own": [asdict(one) for one in probe.probe(backend)]}
    result["own_sentences"] = probe.summary(probe.probe(backend))
    if not run.gpu:
        run.save({**result, "library_sentences": ["needs a GPU"], "proven": False})
        return
    run.save(result)
    before, backend.library_halves = backend.library_halves, True
    try:
        found = probe.probe(backend)
    finally:
        backend.library_halves = before
    gpu, libraries = probe.identify(backend)
    probe.record(run.out / "accumulators-found.json", gpu, libraries, found)
    result |= {
        "libraries": libraries,
        "library": [asdict(one) for one in found],
        "library_sentences": probe.summary(found),
        "proven": probe.proven(gpu, libraries, probe.load(run.out / "accumulators-found.json")),
        "algorithms": [*native.matmul_implementations(), *native.conv2d_implementations()],
    }
    own = [
        one for one in result["own"] if one["asked"] == "float16" and one["found"] not in probe.EVERY_PRODUCT
    ]
    narrow = [one for one in found if one.asked == "float32" and one.found != probe.BINARY32]
    if own or narrow:
        result["failed"] = (
            f"{len(own)} of our binary16 sums and {len(narrow)} binary32 sums are not what was asked for"
        )
    run.save(result)


PLANNED = ("convolution", "matrix product")  # families of kernels whose algorithm a library chooses


def plans(run: Run) -> None:
    """Convolutions and products by the library's first plan, then by the quickest of its first few.

    The choice is kept for the life of a process: the first plans are measured in one of their own.
    """
    from fp16engine import backend as backends
    from fp16engine.bench import kernels as bench

    native = getattr(backends.get(run.device), "native", None)
    if not hasattr(native, "set_autotune"):
        run.save({"skipped": "needs a GPU", "plans": []})
        return
    size, seconds = ("tiny", 1e-4) if run.dry else ("in-situ", 0.03)
    families = ("--family", ",".join(PLANNED))
    first = run.engine("bench", "kernels", "--sizes", size, "--seconds", f"{seconds}", *families)
    if first.get("failed"):
        run.save({"failed": first["failed"]})
        return
    run.save({"first": first["kernels"]})
    native.set_autotune(True)
    tuned = bench.run((size,), device=run.device, families=PLANNED, seconds=seconds)
    times = {(row["kernel"], row["shape"]): row["us"] for row in first["kernels"]}
    rows = [
        {"kernel": row["kernel"], "shape": row["shape"], "first_us": times[key], "quickest_us": row["us"]}
        for row in tuned["kernels"]
        if (key := (row["kernel"], row["shape"])) in times
    ]
    run.save({"plans": rows, "implementations": backends.get(run.device).implementations()})


def kernels(run: Run) -> None:
    """`bench kernels`, against PyTorch's where it is installed."""
    sizes, seconds = ("tiny", "0.0001") if run.dry else ("in-situ,large", "0.05")
    run.save(run.engine("bench", "kernels", "--sizes", sizes, "--seconds", seconds, "--peer", "torch"))


def captured(run: Run) -> None:
    """The same 50 steps eager and captured: every loss, parameter and state must have the same bits."""
    import captured_bits  # of the folder benchmarks

    trainings = captured_bits.TRAININGS[3:4] if run.dry else captured_bits.TRAININGS
    run.save(captured_bits.compare(run.device, 3 if run.dry else 50, trainings))
