"""What no run writes into a checkpoint, found before anything is made of it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..bounded import said
from ..floats import is_float
from ..validate import instance, integer, must_be

_ROW = {"op": str, "inputs": dict, "outputs": dict, "accumulator": str, "not_allowed": bool}
_RESIDENT = {"kind": str, "dtype": str, "not_allowed": bool}
_WORDS: dict[type, str] = {str: "text", dict: "a table", bool: "True or False", list: "a list"}


_UNKNOWN = re.compile(r"got an unexpected keyword argument ('\w+')")
_MISSING = re.compile(r"missing \d+ required [\w-]+ arguments?: ('.*)")


def reason(error: Exception) -> str:
    """Return what is wrong with a file's entries, in words also where Python's own name a function."""
    text = said(error)
    if isinstance(error, KeyError):
        return f"its entry {text} must be there, got none"
    if isinstance(error, TypeError) and (found := _UNKNOWN.search(text)):
        return f"its entry {found[1]} must not be there"
    if isinstance(error, TypeError) and (found := _MISSING.search(text)):
        return f"its entry {found[1]} must be there, got none"
    return text


def check_audit(audit: Any) -> None:
    """Require what `Audit.to_dict` and `audit_log.merged` give; ValueError or TypeError otherwise."""
    _entry("audit", audit, dict)
    for name in ("operations", "float32_tensors", "float32_accumulators", "not_allowed"):
        integer(f"audit: {name}", audit.get(name), 0)
    for name, kinds, numbers in (
        ("rows", _ROW, ("calls",)),
        ("resident", _RESIDENT, ("arrays", "bytes")),
    ):
        for entry in _entry(f"audit: {name}", audit.get(name), list):
            _entry(f"audit: an entry of {name}", entry, dict)
            for key, kind in kinds.items():
                _entry(f"audit: {name}: {key}", entry.get(key), kind)
            for key in numbers:
                integer(f"audit: {name}: {key}", entry.get(key), 0)
    for row in audit["rows"]:
        for dtype in (*row["inputs"].values(), *row["outputs"].values()):
            _entry("audit: a dtype", dtype, str)
    for steps in _entry("audit: audited", audit.get("audited", {}), dict).values():
        for step in _entry("audit: audited steps", steps, list):
            integer("audit: an audited step", step, 0)


def first_undefined(tensors: dict[str, np.ndarray]) -> str | None:
    """Return the first tensor by name with a NaN in it; infinities come about in a run that is whole.

    By name, since safetensors gives the tensors in another order every time.
    """
    return min((name for name, a in tensors.items() if is_float(a.dtype) and np.isnan(a).any()), default=None)


def wrong_norm(tensors: dict[str, np.ndarray]) -> str | None:
    """Say which batch norm has a negative spread or count, or None."""
    for mean in sorted(name for name in tensors if name.endswith(".running_mean")):
        for name in (
            mean.removesuffix("running_mean") + end for end in ("running_var", "running_std", "updates")
        ):
            if name in tensors and (tensors[name] < 0).any():
                return must_be(repr(name), ">= 0", tensors[name].min().item())
    return None


def _entry(name: str, value: Any, kind: type) -> Any:
    return instance(name, value, kind, _WORDS[kind])
