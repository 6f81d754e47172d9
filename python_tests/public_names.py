"""The public names of the package, which the docstrings' and the site's tests hold to what they promise."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

# Packages whose `__all__` is public, files whose every name without an underscore is, and single names.
PACKAGES = (
    "fp16engine",
    "functional",
    "ops",
    "nn",
    "optim",
    "data",
    "interop",
    "models",
    "numerics",
    "prediction",
    "train",
    "translation",
    *(["torch"] if importlib.util.find_spec("torch") else []),
)
FILES = ("autograd", "block_format", "loss_scale", "operand_plan", "precision", "random")
NAMES = {
    "data.encoded": ("EncodedPairs", "EncodedText", "PairBatch"),
    "data.tokenizer": ("Tokenizer",),
    "models.transformer": ("Transformer", "create", "names"),
    "numerics.lockstep": ("compare",),
    "experiments.compare": ("run",),
    "experiments.experiment": ("Arm", "Case", "Experiment", "Request", "plain_arms", "plan"),
    "experiments.reproduce": ("DatasetCache", "prepare"),
    "experiments.tolerance": ("run",),
    "experiments.translation": ("Settings", "run"),
    "bench.step": ("run",),
    "bench.kernels": ("run",),
    "bench.kernel_cases": ("kernels",),
    "bench.profile": ("profile",),
    "preflight": ("run", "self_test", "suggest"),
    "observer": ("BackendCall", "Observer", "observe", "observed"),
}


def names() -> Iterator[tuple[str, list[str]]]:
    """Yield each module below `fp16engine` and its public names; the package itself is ""."""
    for name in PACKAGES:
        yield name.removeprefix("fp16engine"), list(module(name.removeprefix("fp16engine")).__all__)
    for name in FILES:
        own = [key for key, value in vars(module(name)).items() if _is_of(value, name)]
        yield name, [key for key in own if key[0] != "_"]
    for name, keys in NAMES.items():
        yield name, list(keys)


def module(name: str) -> Any:
    """Return a module by its name below `fp16engine`."""
    return importlib.import_module(f"fp16engine.{name}".rstrip("."))


def _is_of(value: Any, name: str) -> bool:
    return getattr(value, "__module__", "") == f"fp16engine.{name}"
