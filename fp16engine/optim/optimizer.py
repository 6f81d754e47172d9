"""What all optimizers share: their parameters, their state, masters, and checks."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import backend as backends
from ..errors import UnsupportedPrecision
from ..tensor import Tensor

Array = Any
UPDATES = ("nearest", "master32")


def number(
    name: str, value: Any, least: float = 0.0, below: float = math.inf, *, open_end: bool = False
) -> float:
    """Return `value` as a float in [least, below), above `least` with `open_end`, or say what is wanted."""
    low = ">" if open_end else ">="
    wanted = (
        f"a finite number {low} {least:g}"
        + (f" and < {below:g}" if math.isfinite(below) else "")
        + " is wanted"
    )
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: {value!r} given, {wanted}") from None
    if not math.isfinite(result) or result < least or (open_end and result == least) or result >= below:
        raise ValueError(f"{name}: {value} given, {wanted}")
    return result


class Optimizer:
    """Updates parameters in place from their gradients; the base of SGD, Adam, AdamW and RMSprop.

    A step runs one multi-tensor kernel per dtype: gradient times `grad_scale`, weight decay, state and step
    are computed in FP32 registers, and each stored value is rounded once. `update="nearest"` rounds the
    parameter itself; "master32" updates a float32 master copy and rounds that to the parameter. A float32
    parameter is its own master.

    Attributes:
        params: the parameters, in the order given.
        lr: the learning rate; assign to it to change it.
        step_count: steps taken.
    """

    # Names of the per-parameter state arrays, and of the numbers that state_dict() also keeps.
    slots: tuple[str, ...] = ()
    hyper: tuple[str, ...] = ("lr", "weight_decay")

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float,
        update: str,
        master_values: Sequence[Any] | None,
    ) -> None:
        self.params = list(params)
        _check_parameters(self.params)
        self.lr = number("lr", lr, open_end=True)
        self.weight_decay = number("weight_decay", weight_decay)
        if update not in UPDATES:
            raise UnsupportedPrecision(f"update: {update!r} given, one of {', '.join(UPDATES)} is wanted")
        self.update = update
        self.step_count = 0
        self.device = self.params[0].device
        self.dtypes = [p.dtype for p in self.params]
        self.masters = self._make_masters(master_values)
        self.state_dtypes = [
            dtype if master is None else "float32"
            for dtype, master in zip(self.dtypes, self.masters, strict=True)
        ]
        backend = backends.get(self.device)
        self.state: dict[str, list[Array]] = {
            slot: [
                backend.zeros(p.shape, dtype) for p, dtype in zip(self.params, self.state_dtypes, strict=True)
            ]
            for slot in self.slots
        }

    def _make_masters(self, values: Sequence[Any] | None) -> list[Array | None]:
        if self.update != "master32":
            if values is not None:
                raise ValueError(f"master_values: given with update={self.update!r}, 'master32' is wanted")
            return [None] * len(self.params)
        if values is not None and len(values) != len(self.params):
            raise ValueError(f"master_values: {len(values)} arrays given, {len(self.params)} are wanted")
        backend = backends.get(self.device)
        masters: list[Array | None] = []
        for i, p in enumerate(self.params):
            if p.dtype != "float16":
                masters.append(None)
            elif values is None:
                masters.append(backend.cast(p.data, "float32"))
            else:
                host = np.array(values[i], dtype=np.float32, order="C")
                if host.shape != p.shape:
                    raise ValueError(f"master_values[{i}]: shape {host.shape} given, {p.shape} is wanted")
                masters.append(backend.from_numpy(host))
        return masters

    def _resolve_eps(self, eps: float | None) -> float:
        """Return eps, by default one that suits the state's dtype, or explain why it cannot work."""
        dtype = "float16" if "float16" in self.state_dtypes else self.state_dtypes[0]
        if eps is None:
            return 1e-3 if dtype == "float16" else 1e-8
        eps = number("eps", eps, open_end=True)
        info = np.finfo(dtype)
        with np.errstate(over="ignore", under="ignore"):
            stored = float(np.array(eps).astype(dtype))
        if stored == 0:
            remedy = (
                "eps=1e-3 (the default for float16), or update='master32', which keeps the state in float32"
                if dtype == "float16"
                else "eps=1e-8 (the default)"
            )
            raise ValueError(
                f"eps: {eps:g} is 0 in {dtype}, where anything <= {float(info.smallest_subnormal) / 2:.3g} "
                f"rounds to 0, and a zero gradient would be divided by 0; use {remedy}"
            )
        if not math.isfinite(stored):
            raise ValueError(
                f"eps: {eps:g} is inf in {dtype}, where the largest number is {float(info.max):g}"
            )
        if abs(stored - eps) > 0.01 * eps:
            warnings.warn(
                f"eps: {eps:g} becomes {stored:.4g} in {dtype} ({(stored - eps) / eps:+.0%}); "
                "that is what the optimizer will use",
                UserWarning,
                stacklevel=_users_level(),
            )
        return eps

    # Stepping

    def zero_grad(self) -> None:
        """Drop the gradients of all parameters."""
        for p in self.params:
            p.grad = None

    def step(self, grad_scale: float = 1.0) -> None:
        """Update every parameter that has a gradient.

        Args:
            grad_scale: factor on the gradients, applied in the register: 1 / loss scale.

        Raises:
            TypeError: a parameter's dtype changed after the optimizer was made.
        """
        self.step_count += 1
        backend = backends.get(self.device)
        for members in self._groups():
            self._kernel(backend, members, float(grad_scale))

    def _groups(self) -> list[list[int]]:
        """Return the parameters that have a gradient, by dtype and kind of update: one kernel call each."""
        groups: dict[tuple[str, bool], list[int]] = {}
        for i, p in enumerate(self.params):
            if p.grad is None:
                continue
            if p.dtype != self.dtypes[i] or p.device != self.device:
                raise TypeError(
                    f"parameter {i} is {p.dtype} on {p.device!r} but was {self.dtypes[i]} on {self.device!r} "
                    "when the optimizer was made; make the optimizer after model.to(...)"
                )
            groups.setdefault((p.dtype, self.masters[i] is None), []).append(i)
        return list(groups.values())

    def _kernel(self, backend: Any, members: list[int], grad_scale: float) -> None:
        raise NotImplementedError

    def _arrays(self, members: list[int]) -> tuple[list[Array], list[Array], list[Array] | None, list[float]]:
        """Return parameters, gradients, masters and weight decays of a group, as the kernels take them."""
        params = [self.params[i].data for i in members]
        grads = [grad.data for grad in (self.params[i].grad for i in members) if grad is not None]
        masters = None if self.masters[members[0]] is None else [self.masters[i] for i in members]
        return params, grads, masters, [self._decay(self.params[i]) for i in members]

    def _decay(self, p: Tensor) -> float:
        own = getattr(p, "weight_decay", None)
        return self.weight_decay if own is None else own

    def _pick(self, slot: str, members: list[int]) -> list[Array]:
        return [self.state[slot][i] for i in members]

    # State

    def state_dict(self) -> dict[str, Any]:
        """Return copies of state and masters ("momentum.0", "master.0", NumPy) and numbers ("lr", "step")."""
        backend = backends.get(self.device)
        state: dict[str, Any] = {name: getattr(self, name) for name in self.hyper}
        state["step"] = self.step_count
        for key, array in self._state_arrays().items():
            state[key] = np.array(backend.to_numpy(array))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, bit for bit; nothing changes when anything is wrong.

        Raises:
            ValueError: a key is missing or unknown, or a shape differs; the message names the key.
            TypeError: a dtype differs.
        """
        arrays = self._state_arrays()
        wanted = [*self.hyper, "step", *arrays]
        for key in wanted:
            if key not in state:
                raise ValueError(
                    f"load_state_dict: {key!r} is missing; is this the state of another optimizer?"
                )
        for key in state:
            if key not in wanted:
                raise ValueError(f"load_state_dict: {key!r} is not part of this {type(self).__name__}")
        hosts = {key: np.asarray(state[key]) for key in arrays}
        for key, array in arrays.items():
            if hosts[key].shape != array.shape:
                raise ValueError(
                    f"load_state_dict: {key!r} has shape {hosts[key].shape}, {array.shape} is wanted"
                )
            if str(hosts[key].dtype) != str(array.dtype):
                raise TypeError(f"load_state_dict: {key!r} is {hosts[key].dtype}, {array.dtype} is wanted")
        backend = backends.get(self.device)
        for slot, values in self.state.items():
            self.state[slot] = [backend.from_numpy(hosts[f"{slot}.{i}"]) for i in range(len(values))]
        for i, master in enumerate(self.masters):
            if master is not None:
                self.masters[i] = backend.from_numpy(hosts[f"master.{i}"])
        for name in self.hyper:
            kind = type(getattr(self, name))
            setattr(self, name, kind(state[name]))
        self.step_count = int(state["step"])

    def _state_arrays(self) -> dict[str, Array]:
        arrays = {
            f"{slot}.{i}": array for slot, values in self.state.items() for i, array in enumerate(values)
        }
        arrays.update({f"master.{i}": array for i, array in enumerate(self.masters) if array is not None})
        return arrays


def _users_level() -> int:
    """Return the `stacklevel` that lets a warning of the caller point outside the package."""
    package = __name__.partition(".")[0]
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    return level


def _check_parameters(params: list[Any]) -> None:
    if not params:
        raise ValueError("params: no parameters given, at least one is wanted")
    for i, p in enumerate(params):
        if not isinstance(p, Tensor):
            raise TypeError(f"params[{i}]: {type(p).__name__} given, a Tensor is wanted")
        if not p.requires_grad or p.node is not None:
            raise ValueError(f"params[{i}]: a tensor that is no leaf with requires_grad=True given")
        if p.device != params[0].device:
            raise ValueError(
                f"params[{i}]: on {p.device!r}, params[0] is on {params[0].device!r}; one device is wanted"
            )
    if len({id(p) for p in params}) != len(params):
        raise ValueError("params: the same parameter given twice, each one once is wanted")
