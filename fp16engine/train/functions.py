"""Functions of a user's own in place of names: a loss, a schedule, an optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..floats import is_float
from ..optim import BY_NAME, Optimizer
from ..tensor import Tensor
from ..torch_objects import is_torchs, refused_by_torch
from ..validate import instance, must_be, number, one_of

Loss = Callable[[Tensor, Tensor], Tensor]
Factor = Callable[[int, int], float]
MakeOptimizer = Callable[[list[Tensor]], Optimizer]

LOSSES = ("cross_entropy",)
_OWN = {
    "loss": "a function of this engine's logits and labels, made of fp16engine.functional",
    "optimizer": "an Optimizer of fp16engine.optim, or a function that returns one, such as "
    "lambda p: SGD(p, lr=0.1)",
    "schedule": "a function of (applied steps, all steps) that returns a factor of lr",
}
_ARGUMENTS = {"loss": 2, "optimizer": 1, "schedule": 2}
_STORED = "function "  # before the name of a function in a record


def named_or_own(name: str, value: Any, names: Iterable[str]) -> Any:
    """Return one of `names`, or a function.

    Raises:
        TypeError: it is PyTorch's.
        ValueError: it is anything else.
    """
    if is_torchs(value):
        of: Any = value if hasattr(value, "__qualname__") else type(value)
        raise TypeError(f"{name} must be {one_of(names)}, or {_OWN[name]}, got PyTorch's {of.__qualname__}")
    if callable(value):
        if not _takes(value, _ARGUMENTS[name]):
            raise ValueError(
                f"{name} must be {_OWN[name]}, got one that takes other arguments: {stored(value)}"
            )
        return value
    if isinstance(value, str) and value.startswith(_STORED):
        raise ValueError(must_be(name, "given again as a function, a record holds its name only", value))
    if not isinstance(value, str) or value not in tuple(names):
        raise ValueError(must_be(name, f"{one_of(names)}, or a function", value))
    return value


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Tell whether a function can be called with so many arguments, as far as it says what it takes."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def stored(value: str | Optimizer | Callable[..., Any]) -> str:
    """Return a name as it is, a function or optimizer by its qualified name: what a record says of it.

    >>> stored("cosine"), stored(stored)
    ('cosine', 'function fp16engine.train.functions.stored')
    """
    if isinstance(value, str):
        return value
    of: Any = value if hasattr(value, "__qualname__") else type(value)
    return f"{_STORED}{of.__module__}.{of.__qualname__}"


def loss_of(function: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of a batch by a function; TypeError or ValueError for another result."""
    with refused_by_torch("loss", _OWN["loss"]):
        result = function(logits, labels)
    loss = instance("loss", result, Tensor, "a function that returns a Tensor")
    if loss.size != 1 or not is_float(loss.dtype):
        raise ValueError(
            f"loss must be a function that returns one floating-point value, got {loss.dtype} of shape "
            f"{loss.shape}; reduce with .mean()"
        )
    return loss


def rate_of(factor: Factor, lr: float, total_steps: int) -> Callable[[int], float]:
    """Return the schedule lr * factor(applied steps, all steps)."""
    return lambda applied: lr * number("schedule: the factor", factor(applied, total_steps), minimum=0)


def optimizer_of(
    own: Optimizer | MakeOptimizer,
    parameters: list[Tensor],
    update: str,
    masters: Sequence[np.ndarray] | None,
) -> Optimizer:
    """Return an optimizer, or what a function makes of the parameters; its masters start from `masters`.

    One that was made before starts anew, since the parameters were rounded and moved in the meantime.

    Raises:
        TypeError: it is no `optim.Optimizer`.
        ValueError: it has other parameters, another update than the precision's, or has taken steps.
    """
    made = own if isinstance(own, Optimizer) else _made(own, parameters)
    if {id(p) for p in made.params} != {id(p) for p in parameters}:
        raise ValueError(
            f"optimizer must be made of all {len(parameters)} parameters of the model that require a "
            f"gradient, and no others, got one of {len(made.params)}; freeze one by requires_grad=False"
        )
    if made.update != update:
        raise ValueError(f"optimizer must have update={update!r} as the precision has, got {made.update!r}")
    if made.step_count:
        raise ValueError(f"optimizer must be a new one, got one after {made.step_count} steps")
    if made is own:
        made.restart()
    if masters is not None:
        by_parameter = {id(p): values for p, values in zip(parameters, masters, strict=True)}
        made.start_masters([by_parameter[id(p)] for p in made.params])
    return made


def _made(make: MakeOptimizer, parameters: list[Tensor]) -> Optimizer:
    with refused_by_torch("optimizer", _OWN["optimizer"]):
        made = make(list(parameters))
    checked: Optimizer = instance("optimizer", made, Optimizer, "a function that returns an Optimizer")
    return checked


def is_ours(optimizer: Optimizer) -> bool:
    """Tell whether it is one of the engine's own classes, whose kernels a captured step records."""
    return type(optimizer) in BY_NAME.values()
