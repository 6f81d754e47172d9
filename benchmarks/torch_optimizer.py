"""An optimizer step on half-precision parameters of PyTorch: ours against PyTorch's, and the memory it takes.

    python benchmarks/torch_optimizer.py [--parameters 10000000] [--tensors 20] [--rounds 15] [--threads 2]

Ours takes turns with PyTorch's AdamW on the same half-precision shapes (foreach, fused, and a loop over the
tensors) and on FP32 ones. Median milliseconds of a step; memory is what a step adds to the process at its
peak.
Needs PyTorch.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

import fp16engine as fe
import fp16engine.torch as fet


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--tensors", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    fe.backend.get("cpu").set_num_threads(arguments.threads)  # type: ignore[attr-defined]

    def half() -> list[torch.Tensor]:
        return parameters(arguments, torch.float16)

    contenders: dict[str, Any] = {
        **{f"ours {form}": fet.AdamW(half(), update=form) for form in ("nearest", "stochastic", "kahan")},
        "ours nearest, plain state": fet.AdamW(half(), update="nearest", state="plain"),
        "torch foreach, half": torch.optim.AdamW(half(), foreach=True),
        "torch fused, half": torch.optim.AdamW(half(), fused=True),
        "torch loop, half": torch.optim.AdamW(half(), foreach=False),
        "torch foreach, fp32": torch.optim.AdamW(parameters(arguments, torch.float32), foreach=True),
        "torch fused, fp32": torch.optim.AdamW(parameters(arguments, torch.float32), fused=True),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    peaks = {}
    for turn in range(arguments.rounds + 1):  # the first makes the state
        for name, optimizer in contenders.items():
            before = reset_peak() if turn == 1 else 0
            start = time.perf_counter()
            optimizer.step()
            if turn:
                times[name].append(time.perf_counter() - start)
            if turn == 1:
                peaks[name] = status("VmHWM") - before
    result = {
        "parameters": arguments.parameters,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "torch": torch.__version__,
        "milliseconds": {name: round(1e3 * median(values), 2) for name, values in times.items()},
        "range": {name: [round(1e3 * f(values), 2) for f in (min, max)] for name, values in times.items()},
        "peak_megabytes_added": {name: round(value / 1e6, 1) for name, value in peaks.items()},
    }
    print(json.dumps(result, indent=1))


def parameters(arguments: argparse.Namespace, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return tensors with gradients, of as many elements together as asked for."""
    each = arguments.parameters // arguments.tensors
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(each, generator=generator).mul_(0.02).to(dtype) for _ in range(arguments.tensors)]
    for p in made:
        p.requires_grad_().grad = torch.randn(each, generator=generator).mul_(1e-3).to(dtype)
    return made


def reset_peak() -> int:
    """Let the kernel count the peak of this process afresh; return what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> int:
    """Return an entry of this process's memory, in bytes."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(name))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
