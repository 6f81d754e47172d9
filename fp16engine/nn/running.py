"""The forms in which a batch norm keeps its running statistics, and how one becomes the other.

"plain": running_mean and running_var, each one number per channel. "native", for float16: running_mean and
running_std, the standard deviation, and `rest` (2, C), the rounding error of the two. A variance in
binary16 is infinite from a standard deviation of 256 on; a standard deviation reaches as far as the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..floats import is_float, rounded

# What state without a count is taken for: averages that have long forgotten where they started.
WARM = 1 << 32

_PLAIN = ("running_mean", "running_var")
_NATIVE = ("running_mean", "running_std", "rest")


def names(native: bool) -> tuple[str, ...]:
    """Return the names of the running statistics in this form."""
    return _NATIVE if native else _PLAIN


def converted(given: Mapping[str, Any], native: bool, dtype: str) -> dict[str, NDArray[Any]]:
    """Return the running statistics of `given`, of either form, in the form `native` and in `dtype`."""
    mean = np.asarray(given["running_mean"], np.float64)
    rest = np.asarray(given.get("rest", np.zeros((2, *mean.shape))), np.float64)
    with np.errstate(all="ignore"):  # statistics of a run that has diverged are converted as they are
        mean = mean + rest[0]
        if "running_std" in given:
            var = (np.asarray(given["running_std"], np.float64) + rest[1]) ** 2
        else:
            var = np.asarray(given["running_var"], np.float64)
        if not native:
            return {"running_mean": rounded(mean, dtype), "running_var": rounded(var, dtype)}
        exact = np.stack([mean, np.sqrt(var)])
        stored = rounded(exact, dtype)
        lost = rounded(exact - stored.astype(np.float64), dtype)
    return {"running_mean": stored[0], "running_std": stored[1], "rest": lost}


def count(tracked: int, mean: Any, var: Any) -> int:
    """Return how often statistics were moved, of PyTorch's count: old files say 0 whatever they hold.

    >>> count(0, [0.0], [1.0]), count(0, [0.5], [2.0]) == WARM, count(7, [0.5], [2.0])
    (0, True, 7)
    """
    fresh = not np.any(mean) and bool(np.all(np.asarray(var) == 1))
    return tracked if tracked or fresh else WARM


def in_form(prefix: str, state: dict[str, Any], native: bool) -> dict[str, Any]:
    """Return `state` with the running statistics below `prefix` in the form `native`, and with a count.

    What is not there in full, in either form, stays as it is: whoever loads the state says so.
    """
    state = dict(state)
    own = {name: state[prefix + name] for name in (*_PLAIN, *_NATIVE) if prefix + name in state}
    other = set(names(not native))
    if set(own) == other and all(np.ndim(a) and is_float(np.asarray(a).dtype) for a in own.values()):
        for name in own:
            del state[prefix + name]
        new = converted(own, native, str(np.asarray(own["running_mean"]).dtype))
        state |= {prefix + name: values for name, values in new.items()}
    if own:
        state.setdefault(f"{prefix}updates", np.full(1, WARM, np.int64))
    return state
