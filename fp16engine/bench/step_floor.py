"""What a captured step takes at least on GPUs of public rates, from its counted nodes; in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .captured_nodes import Call, Counted
from .step import EPOCH_IMAGES, GOALS

NODE_US = 1.5  # a dependent node of a CUDA graph: assumed, `gpu_check` measures it
GOAL_BATCH = 256  # of the goals of bench.step, which are for an H200
BARRIER_US = 1.0  # all blocks of a kernel waiting for each other: assumed


class Gpu(NamedTuple):
    """A GPU by its public rates.

    Args:
        name: of the product.
        bandwidth: of its memory, bytes/s.
        tensor: FLOP/s of dense binary16 products with float32 sums on tensor cores.
        float32: FLOP/s outside them.
    """

    name: str
    bandwidth: float
    tensor: float
    float32: float


# NVIDIA H100 and H200 Tensor Core GPU datasheets (SXM; half of the rates with sparsity), A100 datasheet (SXM,
# 80 GB), Ada GPU architecture whitepaper, appendix A (RTX 4080, FP16 with FP32 accumulate).
GPUS = (
    Gpu("H100", 3.35e12, 989.5e12, 67e12),
    Gpu("H200", 4.8e12, 989.5e12, 67e12),
    Gpu("A100", 2.039e12, 312e12, 19.5e12),
    Gpu("RTX 4080", 716.8e9, 97.5e12, 48.7e12),
)


class Floor(NamedTuple):
    """Times of a step on a GPU, in microseconds.

    Args:
        arithmetic: all products at the GPU's rate.
        memory: all bytes at its rate.
        floor: for each call the longer of the two. What stays in a cache from one call to the next beats it.
        estimate: the floor, and what nodes and barriers cost.
    """

    arithmetic: float
    memory: float
    floor: float
    estimate: float


def floor(counted: Counted, gpu: Gpu, node_us: float = NODE_US, barrier_us: float = BARRIER_US) -> Floor:
    """Return what a counted step takes on a GPU at best, and the estimate.

    Args:
        counted: the step.
        gpu: its rates.
        node_us: what a node costs whatever it does, in microseconds.
        barrier_us: the same of a barrier of a whole grid.

    >>> step = Counted((Call("matmul", ("k",), 4_800_000, 0, True),), 0)
    >>> floor(step, GPUS[1], node_us=2.0)
    Floor(arithmetic=0.0, memory=1.0, floor=1.0, estimate=3.0)
    """
    arithmetic = [1e6 * call.flops / (gpu.tensor if call.library else gpu.float32) for call in counted.calls]
    memory = [1e6 * call.bytes / gpu.bandwidth for call in counted.calls]
    least = sum(map(max, arithmetic, memory))
    barriers = sum(call.barriers for call in counted.calls)
    return Floor(sum(arithmetic), sum(memory), least, least + node_us * counted.nodes + barrier_us * barriers)


def row(model: str, batch_size: int, counted: Counted) -> dict[str, Any]:
    """Return a line of the table as JSON values: counts, each GPU's `Floor` by name, and the goal on an H200.

    Args:
        model: the network's name.
        batch_size: images of the step.
        counted: its step.

    >>> row("dnn", 256, Counted((Call("matmul", ("k",), 8, 16, True),), 512))["gflop"]
    1.6e-08
    """
    return {
        "model": model,
        "batch_size": batch_size,
        "nodes": counted.nodes,
        "barriers": sum(call.barriers for call in counted.calls),
        "mbytes": sum(call.bytes for call in counted.calls) / 1e6,
        "gflop": sum(call.flops for call in counted.calls) / 1e9,
        "arena_mbytes": counted.arena_bytes / 1e6,
        "kernels": _kernels(counted.calls),
        "gpus": {gpu.name: floor(counted, gpu)._asdict() for gpu in GPUS},
        "h200_goal_us": _goal(model) if batch_size == GOAL_BATCH else None,
    }


def _goal(model: str) -> float | None:
    return 1e6 * GOALS[model] * GOAL_BATCH / EPOCH_IMAGES if model in GOALS else None


def _kernels(calls: Iterable[Call]) -> dict[str, int]:
    """How many nodes of each kernel, the most frequent first; what they are made for is left out."""
    found: dict[str, int] = {}
    for call in calls:
        for kernel in call.kernels:
            name = kernel.lstrip("(").partition("<")[0]
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def markdown(
    rows: Iterable[Mapping[str, Any]], measured: Mapping[str, Mapping[str, float]] | None = None
) -> str:
    """Return the rows as a table in Markdown.

    Args:
        rows: of `row`.
        measured: microseconds of captured steps, {GPU: {model: time}}, a further column for each GPU; a
            model that was not measured has an empty cell. None adds no column.

    >>> line = row("dnn", 256, Counted((Call("matmul", ("k",), 8, 16, True),), 512))
    >>> markdown([line], {"H200": {"dnn": 9.0}}).splitlines()[2].endswith("| 9 |")
    True
    """
    measured = measured or {}
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("network", lambda r: str(r["model"])),
        ("batch", lambda r: str(r["batch_size"])),
        ("nodes", lambda r: str(r["nodes"])),
        ("barriers", lambda r: str(r["barriers"])),
        ("MB", lambda r: f"{r['mbytes']:.4g}"),
        ("GFLOP", lambda r: f"{r['gflop']:.3g}"),
    ]
    for gpu in GPUS:
        columns.append((f"{gpu.name} floor, us", _time(gpu.name, "floor")))
        columns.append((f"{gpu.name} estimate, us", _time(gpu.name, "estimate")))
        if gpu.name == "H200":
            columns.append(("H200 goal, us", _goal_cell))
    for name, times in measured.items():
        columns.append((f"{name} measured, us", _measured(times)))
    lines = ["| " + " | ".join(title for title, _ in columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(r) for _, cell in columns) + " |" for r in rows]
    return "\n".join(lines)


def _time(gpu: str, kind: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda r: f"{r['gpus'][gpu][kind]:.0f}"


def _goal_cell(r: Mapping[str, Any]) -> str:
    return "" if r["h200_goal_us"] is None else f"{r['h200_goal_us']:.0f}"


def _measured(times: Mapping[str, float]) -> Callable[[Mapping[str, Any]], str]:
    return lambda r: f"{times[r['model']]:.0f}" if r["model"] in times else ""
