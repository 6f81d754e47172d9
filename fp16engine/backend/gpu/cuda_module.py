"""Where the compiled CUDA module is: in this package if its build made one, else in the plugin's wheel."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from ..._version import __version__

OWN = "fp16engine._cuda"
PLUGIN = "fp16engine_cuda13"  # the import name of fp16engine-cuda13, which packaging/build_wheels.py makes
BUILD = (
    "the plugin fp16engine-cuda13 has it (pip install 'fp16engine[cuda13]'), and 'pip install .' builds it "
    "on a machine with an NVIDIA GPU, elsewhere 'pip install . -C cmake.define.FP16ENGINE_CUDA=ON'"
)


def found() -> str | None:
    """Return the name by which the module would be imported, None if there is none. Imports nothing of it."""
    if importlib.util.find_spec(OWN) is not None:
        return OWN
    return f"{PLUGIN}._cuda" if importlib.util.find_spec(PLUGIN) is not None else None


def load() -> Any:
    """Import the module.

    Raises ImportError if there is none, or if the plugin was built for another version of this package.
    """
    name = found()
    if name is None:
        raise ImportError(f"neither {OWN} nor {PLUGIN} is installed")
    if name != OWN:
        built_for = importlib.import_module(PLUGIN).__version__
        if built_for != __version__:
            raise ImportError(
                f"fp16engine-cuda13 is {built_for}, fp16engine {__version__}; "
                f"pip install fp16engine-cuda13=={__version__}"
            )
    return importlib.import_module(name)
