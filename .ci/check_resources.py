"""Holds what ptxas says of the kernels (nvcc -Xptxas -v, in the files named) to a budget.

Within it two blocks fit on a multiprocessor of every GPU since compute capability 7.5, and no thread's values
wait in memory. Exit status 1 if a kernel is beyond it, or if no kernel was found.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

THREADS = 256  # kBlock of csrc/kernels/device.cuh
MOST_REGISTERS = 65536 // (2 * THREADS)
MOST_SHARED = 48 << 10  # static, of a block
MOST_SPILLED = 12  # bytes of a thread, stored and loaded again
SPILLS = {"12GeluGradientIfE": 176}  # of float32, evaluated in double (csrc/kernels/elementwise.cuh)


@dataclass(frozen=True)
class Kernel:
    """An entry function for one architecture: registers of a thread, bytes of the rest."""

    name: str
    architecture: str
    registers: int
    shared: int
    spilled: int


def kernels(text: str) -> Iterator[Kernel]:
    """Yield the kernels of a log of ptxas."""
    pieces = re.split(r"Compiling entry function '", text)[1:]
    for piece in pieces:
        name, architecture = re.match(r"(\w+)' for '(\w+)'", piece).groups()  # type: ignore[union-attr]
        used = re.search(r"Used (\d+) registers(.*)", piece)
        spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", piece)
        if used is None or spilled is None:
            raise ValueError(f"{name}: ptxas says nothing of its registers or spills")
        shared = re.search(r"(\d+) bytes smem", used[2])
        most = max(map(int, spilled.groups()))
        yield Kernel(name, architecture, int(used[1]), int(shared[1]) if shared else 0, most)


def faults(kernel: Kernel) -> Iterator[str]:
    """Yield a sentence for everything beyond the budget."""
    allowed = max([MOST_SPILLED, *(most for part, most in SPILLS.items() if part in kernel.name)])
    for what, value, most in (
        ("registers", kernel.registers, MOST_REGISTERS),
        ("bytes of shared memory", kernel.shared, MOST_SHARED),
        ("bytes spilled", kernel.spilled, allowed),
    ):
        if value > most:
            yield f"{kernel.name}, {kernel.architecture}: {what} must be at most {most}, got {value}"


def main(files: list[str]) -> int:
    """Check the logs and print the largest of everything."""
    found = [kernel for file in files for kernel in kernels(Path(file).read_text(errors="replace"))]
    wrong = [fault for kernel in found for fault in faults(kernel)]
    if found:
        most = [max(getattr(kernel, key) for kernel in found) for key in ("registers", "shared", "spilled")]
        print(f"{len(found)} kernels: at most {most[0]} registers, {most[1]} bytes shared, {most[2]} spilled")
    print("\n".join(wrong or ["all within the budget" if found else "no kernel was found"]))
    return 1 if wrong or not found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
