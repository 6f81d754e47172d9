"""What optimizers that divide by the root of a squared average share: the form of their state, and eps."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..floats import is_sixteen_bit, limits, rounded
from ..validate import choice, instance, must_be, number
from .optimizer import STATES, Optimizer

PLAIN_EPS = 1e-3  # for plain float16 state, the best of the study's table 4
EPS = 1e-8


# What undoes the roots of native state, by slot.
_POWERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "m": lambda r: r * np.abs(r),
    "momentum": lambda r: r * np.abs(r),
    "v": lambda r: (r * r) * (r * r),
}


class Adaptive(Optimizer):
    """The base of Adam, AdamW and RMSprop.

    Attributes:
        state_form: "native" or "plain", which differ for 16-bit state only.
        eps: what is added to the root of the squared average.
    """

    state_form: str
    eps: float
    _given_eps: float | None

    @property
    def native(self) -> bool:
        """Whether there is 16-bit state, and it is kept as roots."""
        return self.state_form == "native" and any(map(is_sixteen_bit, self.state_dtypes))

    def restart(self, master_values: Sequence[Any] | None = None) -> None:
        """Begin anew as `Optimizer.restart` does, with an eps that suits the state.

        Args:
            master_values: as in `Optimizer.restart`, float32 arrays of the parameters' shapes.

        Raises:
            ValueError: as `Optimizer.restart`.

        >>> import fp16engine as fe
        >>> layer = fe.nn.Linear(2, 1)
        >>> optimizer = fe.optim.Adam(layer.parameters(), state="plain")
        >>> _ = layer.to("cpu", "fp16")
        >>> optimizer.restart()
        >>> optimizer.eps
        0.001
        """
        super().restart(master_values)
        self.eps = self._resolve_eps(self._given_eps)

    def _check_form(self, form: str) -> None:
        choice("state", form, STATES)
        self.state_form = form

    def _is_native(self, i: int) -> bool:
        return self.state_form == "native" and is_sixteen_bit(self.state_dtypes[i])

    def _averages(self, i: int, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Return arrays of parameter i by slot with the averages that roots stand for; see `backend.base`."""
        if not self._is_native(i):
            return arrays
        return {name: _POWERS[name](a) if name in _POWERS else a for name, a in arrays.items()}

    def _stored_eps(self, i: int) -> np.float32:
        stored = "float32" if self._is_native(i) else self.state_dtypes[i]
        return np.float32(rounded(np.array(self.eps), stored))

    def _resolve_eps(self, eps: float | None) -> float:
        """Return eps, by default one that suits the state, or explain why it cannot work."""
        narrow = next(filter(is_sixteen_bit, self.state_dtypes), None)
        plain = self.state_form == "plain" and narrow is not None
        dtype = narrow if plain and narrow else "float32"
        if eps is None:
            return PLAIN_EPS if dtype == "float16" else EPS
        eps = number("eps", eps, minimum=0) if plain else number("eps", eps, above=0)
        info = limits(dtype)
        with np.errstate(over="ignore", under="ignore"):
            stored = float(rounded(np.array(eps), dtype))
        if stored == 0 and eps != 0:
            remedy = (
                "state='native' (the default, which keeps eps in a register), eps=1e-3 (the default of plain "
                "float16 state), or update='master32', which keeps the state in float32; eps=0 says that it "
                "is meant"
                if plain
                else "eps=1e-8 (the default)"
            )
            raise ValueError(
                f"eps must be > {float(info.smallest_subnormal) / 2:.3g} in {dtype}, else it rounds to 0 and "
                f"a zero gradient is divided by 0, got {eps:g}; use {remedy}"
            )
        if not math.isfinite(stored):
            raise ValueError(f"eps must be <= {float(info.max):g} in {dtype}, got {eps:g}")
        if abs(stored - eps) > 0.01 * eps:
            warnings.warn(
                f"eps {eps:g} becomes {stored:.4g} in {dtype} ({(stored - eps) / eps:+.0%}); "
                "that is what the optimizer will use",
                UserWarning,
                stacklevel=_users_level(),
            )
        return eps

    def state_dict(self) -> dict[str, Any]:
        """Return what `Optimizer.state_dict` does, and the form of the state."""
        return {**super().state_dict(), "state_form": self.state_form}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, as `Optimizer.load_state_dict` does.

        Raises:
            ValueError: the state has the other form.
        """
        rest = dict(instance("state", state, Mapping, "what state_dict returned"))
        form = rest.pop("state_form", None)
        if form != self.state_form:
            raise ValueError(must_be("load_state_dict: 'state_form'", repr(self.state_form), form))
        super().load_state_dict(rest)


def _users_level() -> int:
    """Return the `stacklevel` that lets a warning of the caller point outside the package."""
    package = __name__.partition(".")[0]
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    return level
