"""Which GPUs a compiled module has code for."""

from __future__ import annotations

import re


def runs_on(architectures: str, capability: int) -> bool:
    """Tell whether a module built for `architectures`, as CMake names them, runs on a GPU.

    Machine code ("80-real") runs on GPUs of its major version and at least its minor one, code of one
    architecture ("90a-real") on that one, PTX ("90-virtual", and "90", which is both) on every later GPU.
    A name without a number ("all", "native") may be any.

    capability: 10 times the GPU's, 90 for 9.0.

    >>> runs_on("75-real 80-real 90", 89), runs_on("75-real 80-real 90", 120), runs_on("90-real", 80)
    (True, True, False)

    Source: NVIDIA, CUDA C++ Programming Guide, "Application Compatibility".
    """
    return any(_runs(name, capability) for name in re.split(r"[\s;]+", architectures.strip()))


def _runs(name: str, capability: int) -> bool:
    parts = re.fullmatch(r"(\d+)([a-z]?)(-real|-virtual)?", name)
    if parts is None:
        return True
    number, exact = int(parts[1]), bool(parts[2])
    if exact:
        return number == capability
    machine_code = parts[3] != "-virtual" and number // 10 == capability // 10 and number <= capability
    return machine_code or (parts[3] != "-real" and number <= capability)
