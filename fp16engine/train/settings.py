"""The arguments of a trainer: their checks, and the optimizer that is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .. import optim
from ..tensor import Tensor

if TYPE_CHECKING:
    from ..nn import Module
    from ..numerics.monitor import Monitor

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
# Settings that the optimizer does not take.
_NOT_THE_OPTIMIZERS = ("optimizer", "schedule", "warmup", "augment", "label_smoothing", "clip_norm")
ON_NONFINITE = ("skip", "stop", "explain")


def monitor(given: Monitor | int | None) -> Monitor | None:
    """The monitor that was given, or one that looks every so many steps; TypeError for anything else."""
    if given is None:
        return None
    from ..numerics.monitor import Monitor

    if isinstance(given, Monitor):
        return given
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"monitor: {given!r} given, a numerics.Monitor or a number of steps is wanted")
    return Monitor(every=given)


def capture(wanted: bool | None, device: str) -> bool:
    """Whether steps are recorded: by default on a GPU; ValueError for a device that cannot."""
    if wanted is not None and not isinstance(wanted, bool):
        raise TypeError(f"capture: {wanted!r} given, True, False or None is wanted")
    able = backends.get(device).capabilities.captured_steps
    if wanted and not able:
        raise ValueError(f"capture: True given, device {device!r} records no steps; 'cuda' does")
    return device.partition(":")[0] == "cuda" if wanted is None else wanted


def of_optimizer(
    name: str,
    lr: float,
    momentum: float,
    eps: float | None,
    weight_decay: float,
    nesterov: bool,
    state: str,
) -> dict[str, Any]:
    """The optimizer's name and arguments; ValueError for one that the named optimizer does not have."""
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: {name!r} given, one of {', '.join(OPTIMIZERS)} is wanted")
    settings: dict[str, Any] = {"optimizer": name, "lr": lr, "weight_decay": float(weight_decay)}
    if name == "sgd":
        if eps is not None:
            raise ValueError(f"eps: {eps} given, sgd divides by nothing and has no eps")
        if state != "native":
            raise ValueError(f"state: {state!r} given, only adam, adamw and rmsprop have more than one form")
        return {**settings, "momentum": float(momentum), "nesterov": bool(nesterov)}
    if nesterov:
        raise ValueError(f"nesterov: True given, {name} has no Nesterov momentum; use sgd")
    return {**settings, "eps": None if eps is None else float(eps), "state": state}


def betas(optimizer: str, betas: tuple[float, float]) -> list[float]:
    """Adam's betas as floats; ValueError for an optimizer that has none."""
    if optimizer not in ("adam", "adamw"):
        raise ValueError(f"betas: {betas} given, {optimizer} has none, adam and adamw have")
    first, second = betas
    return [float(first), float(second)]


def own_decays(weight_decay: float, model: Module) -> str | None:
    """One sentence on the parameters that keep their own L2 factor against `weight_decay`, if any do."""
    factors = [p.weight_decay for p in model.parameters()]
    own = {factor for factor in factors if factor not in (None, weight_decay)}
    if not weight_decay or not own:
        return None
    kept = sum(factor is not None for factor in factors)
    return (
        f"weight_decay {weight_decay:g} is for {len(factors) - kept} of {len(factors)} parameters; "
        f"the other {kept} keep their own L2 factor, {', '.join(f'{factor:g}' for factor in sorted(own))}"
    )


def host_values(parameter: Tensor) -> np.ndarray:
    """A parameter's values, float32 on the host."""
    # a model not yet moved lives in NumPy arrays, whether or not the "cpu" backend is there
    host = parameter.data if isinstance(parameter.data, np.ndarray) else parameter.numpy()
    return np.array(host, np.float32)


def make_optimizer(
    settings: dict[str, Any], model: Module, update: str, masters: list[np.ndarray] | None, seed: int
) -> optim.Optimizer:
    """The optimizer of these settings for the model's parameters; masters: their FP32 values, or None."""
    arguments = {key: value for key, value in settings.items() if key not in _NOT_THE_OPTIMIZERS}
    classes: dict[str, Any] = {
        "sgd": optim.SGD,
        "adam": optim.Adam,
        "adamw": optim.AdamW,
        "rmsprop": optim.RMSprop,
    }
    made: optim.Optimizer = classes[settings["optimizer"]](
        model.parameters(), update=update, master_values=masters, seed=seed, **arguments
    )
    return made
