"""The device "cuda" made of the simulator, for a check of the check: python -m gpu_check.fake ARGUMENTS.

Runs Python with these arguments, "-m MODULE ..." or "-c CODE ...", on python_tests/fake_gpu.py: CuPy over
NumPy, streams and graphs of the simulator, the fake cuBLASLt.
"""

from __future__ import annotations

import runpy
import sys
from functools import partial

from gpu_check.part import ROOT


def install() -> None:
    """Make `fp16engine.backend.get("cuda")` return the CUDA backend on the made-up GPU."""
    sys.path.append(str(ROOT / "python_tests"))
    import fake_gpu

    from fp16engine import backend as backends
    from fp16engine.backend.gpu.cuda import CudaBackend
    from fp16engine.bench import timers

    timers._FLUSH_BYTES = 1 << 16  # no cache to overwrite
    backends._loaded["cuda"] = CudaBackend(fake_gpu.Native(), fake_gpu, 0, "cuda")


def main(argv: list[str]) -> None:
    """Run a module or code as Python would."""
    sys.path.pop(0)  # the folder that `-m` starts in may be a checkout whose package is not built
    install()
    run = {
        "-m": partial(runpy.run_module, argv[1], run_name="__main__", alter_sys=True),
        "-c": lambda: exec(compile(argv[1], "<code>", "exec"), {"__name__": "__main__"}),
    }[argv[0]]
    sys.argv = argv[1:] if argv[0] == "-m" else ["-c", *argv[2:]]
    sys.path.insert(0, "")
    run()


if __name__ == "__main__":
    main(sys.argv[1:])
