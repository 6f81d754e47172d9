"""Dynamic loss scaling for PyTorch: float16 gradients are welcome, and every skipped step has a reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from ..loss_scale import LossScale
from ..numerics.ranges import EMPTY, Ranges
from ..train.scaler import LossScaler
from ..validate import flag, instance, integer, must_be, number
from .gradients import gradients
from .optimizer import Optimizer
from .ranges import all_finite, ranges_of

KEPT = 64  # skips that are remembered


class Skip(NamedTuple):
    """A step that was not applied, and the first gradient that was not finite.

    Args:
        step: its number, from 0: applied steps and skipped ones count.
        scale: the loss scale of the step.
        parameter: its name where the optimizer has names, else its index.
        inf: how many of its elements are infinite.
        nan: how many are NaN.
        values: how many there are.

    >>> Skip(3, 1024.0, "head.weight", 2, 0, 100).text
    'step 3 skipped: the gradient of head.weight has 2 infinite and 0 NaN of 100 values at loss scale 1024'
    """

    step: int
    scale: float
    parameter: str
    inf: int
    nan: int
    values: int

    @property
    def text(self) -> str:
        """Say it in a line."""
        return (
            f"step {self.step} skipped: the gradient of {self.parameter} has {self.inf:,} infinite and "
            f"{self.nan:,} NaN of {self.values:,} values at loss scale {self.scale:g}"
        )


class _Looked(NamedTuple):
    """What is known of an optimizer's gradients since the last update."""

    finite: bool
    unscaled: bool
    stepped: bool = False


class GradScaler:
    """A loss scale with the methods of `torch.amp.GradScaler` that takes float16 gradients as they are.

    Our optimizers undo the scale in their FP32 registers, so that what it saved from underflow is not lost
    again; gradients of other optimizers are divided in place.

    Args:
        init_scale: the scale of the first step, a power of two; None means 32768, or 1 from a histogram.
        growth_factor: on the scale after `growth_interval` applied steps in a row, a power of two >= 1.
        backoff_factor: on the scale after a skipped step, a power of two <= 1.
        growth_interval: applied steps in a row before the scale grows, >= 1.
        enabled: False makes every method pass through.
        floor: the smallest scale, a power of two.
        cap: the largest scale, a power of two. It enters the backward pass as a gradient in the loss's dtype,
            so 32768 is the largest for a float16 loss.
        from_histogram: choose the scale from the exponents of the gradients, without crash and halve: the
            power of two that puts the largest at 2^13.

    Attributes:
        skips: the last 64 steps that were not applied, each a `Skip`.

    Raises:
        ValueError: a factor is no power of two or out of range.
        TypeError: an argument is of another type.

    Source:
        Micikevicius et al., 2017, arXiv 1710.03740; `torch.amp.GradScaler`.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> w = torch.ones(1, dtype=torch.float16, requires_grad=True)
    >>> optimizer, scaler = fet.SGD([w], lr=0.5), fet.GradScaler()
    >>> scaler.scale((w * 1.0).sum()).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> w.grad.item(), w.item()
    (32768.0, 0.5)
    """

    def __init__(
        self,
        init_scale: float | None = None,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
        *,
        floor: float = 1.0,
        cap: float = 32768.0,
        from_histogram: bool = False,
    ) -> None:
        self._enabled = flag("enabled", enabled)
        if init_scale is None:
            init_scale = 1.0 if flag("from_histogram", from_histogram) else min(32768.0, cap)
        policy = LossScale(
            initial=_power("init_scale", init_scale, minimum=floor, maximum=cap),
            growth=_power("growth_factor", growth_factor, minimum=1),
            backoff=_power("backoff_factor", backoff_factor, maximum=1),
            interval=integer("growth_interval", growth_interval, 1),
            floor=floor,
            cap=cap,
            automatic=from_histogram,
        )
        # float32: the cap is the caller's, who knows the dtype of the loss.
        self._scaler = LossScaler(policy, "float32")
        self._looked: dict[torch.optim.Optimizer, _Looked] = {}
        self._ranges: Ranges | None = None
        self.skips: list[Skip] = []

    # The steps of an iteration

    def scale(self, outputs: Any) -> Any:
        """Return a loss, or a tuple or list of them, times the scale; its backward pass starts there.

        Args:
            outputs: tensors of any shape, floating point of any dtype.

        Raises:
            TypeError: there is something else among them.

        >>> import torch
        >>> GradScaler(init_scale=8.0).scale(torch.tensor(0.5)).item()
        4.0
        """
        if not self._enabled:
            return outputs
        if isinstance(outputs, torch.Tensor):
            return outputs * self._scaler.scale
        if isinstance(outputs, tuple | list):
            return type(outputs)(self.scale(output) for output in outputs)
        raise TypeError(must_be("outputs", "a tensor, or a tuple or list of tensors", outputs))

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients of an optimizer by the scale, in place, once before its step.

        What lies below 2^-14 afterwards loses digits in float16. For clipping it is not needed: clip the
        scaled gradients at `max_norm * scaler.get_scale()`.

        Args:
            optimizer: whose gradients.

        Raises:
            RuntimeError: they were unscaled, or the step was taken, since the last update.

        >>> import torch
        >>> import fp16engine.torch as fet
        >>> w = torch.ones(1, dtype=torch.float16, requires_grad=True)
        >>> w.grad = torch.full_like(w, 8.0)
        >>> fet.GradScaler(init_scale=8.0).unscale_(fet.SGD([w], lr=1.0))
        >>> w.grad.item()
        1.0
        """
        if not self._enabled:
            return
        known = self._looked.get(optimizer)
        if known is not None:
            what = "step" if known.stepped else "unscale_"
            raise RuntimeError(f"unscale_ must come once and before step, got it after {what}")
        finite = self._look(optimizer)
        found = [p.grad for p in _parameters(optimizer) if p.grad is not None]
        if found:
            torch._foreach_mul_(found, 1.0 / self._scaler.scale)
        self._looked[optimizer] = _Looked(finite, unscaled=True)

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        """Take an optimizer's step with unscaled gradients if all are finite, else leave everything alone.

        Args:
            optimizer: one of ours, which unscales in its registers, or any of PyTorch's.
            args: for its step.
            kwargs: for its step.

        Returns:
            What its step returned; None where it was skipped.

        Raises:
            RuntimeError: it was called since the last update, or with a closure.

        >>> import torch
        >>> import fp16engine.torch as fet
        >>> w = torch.ones(1, dtype=torch.float16, requires_grad=True)
        >>> w.grad = torch.full_like(w, float("inf"))
        >>> scaler = fet.GradScaler()
        >>> scaler.step(fet.SGD([w], lr=1.0))
        >>> w.item(), scaler.skips[0].parameter
        (1.0, 'parameter 0')
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if args or "closure" in kwargs:
            raise RuntimeError(
                "step must come without a closure, got one; its second loss would have no scale"
            )
        known = self._looked.get(optimizer)
        if known is not None and known.stepped:
            raise RuntimeError("step must come once between two updates, got a second one")
        if known is None:
            if isinstance(optimizer, Optimizer):
                known = _Looked(self._look(optimizer), unscaled=False)
            else:
                self.unscale_(optimizer)
                known = self._looked[optimizer]
        self._looked[optimizer] = known._replace(stepped=True)
        if not known.finite:
            return None
        if known.unscaled:
            return optimizer.step(**kwargs)
        return optimizer.step(**kwargs, grad_scale=1.0 / self._scaler.scale)

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """Choose the scale of the next step from what was seen in this one.

        Args:
            new_scale: the scale itself, a power of two from floor to cap, or a tensor of shape (1,) or () and
                any dtype that holds it; None leaves the choice here.

        Raises:
            RuntimeError: no optimizer took a step since the last update.
            ValueError: `new_scale` is out of range.

        >>> scaler = GradScaler()
        >>> scaler.update(1024.0)
        >>> scaler.get_scale()
        1024.0
        """
        if not self._enabled:
            return
        if new_scale is not None:
            inner = self._scaler
            inner.scale = _power("new_scale", float(new_scale), minimum=inner.floor, maximum=inner.cap)
        elif not self._looked:
            raise RuntimeError("update must come after step, got no step since the last update")
        else:
            finite = all(known.finite for known in self._looked.values())
            if finite and self._ranges is not None:
                self._scaler.observe(self._ranges)
            self._scaler.update(finite)
        self._looked, self._ranges = {}, None

    def _look(self, optimizer: torch.optim.Optimizer) -> bool:
        """Tell whether all scaled gradients are finite; note why not, or where they lie."""
        found = gradients(_parameters(optimizer))
        if not all_finite(found):
            name, values = next(
                (name, one)
                for name, p in _named(optimizer)
                if p.grad is not None and not (one := ranges_of([p.grad])).finite
            )
            step = self.applied + self.skipped
            skip = Skip(step, self._scaler.scale, name, values.inf, values.nan, values.values)
            self.skips = [*self.skips[1 - KEPT :], skip]
            return False
        if self._scaler.measuring:
            self._ranges = (self._ranges or EMPTY) + ranges_of(found)
        return True

    # The account

    @property
    def applied(self) -> int:
        """Applied steps."""
        return self._scaler.applied

    @property
    def skipped(self) -> int:
        """Steps that were not applied, because a gradient was not finite."""
        return self._scaler.skipped

    @property
    def diagnosis(self) -> str | None:
        """A sentence once 20 steps in a row overflowed at the lowest scale, else None."""
        return self._scaler.diagnosis

    def summary(self) -> str:
        """Return a line on the scale and the skipped steps, and one for the last skip.

        >>> GradScaler().summary()
        'loss scale 32768: 0 steps applied, none skipped'
        """
        line = self._scaler.summary() or (
            f"loss scale {self._scaler.scale:g}: {self.applied} steps applied, none skipped"
        )
        return "\n".join([line, *(skip.text for skip in self.skips[-1:])])

    # torch.amp.GradScaler's accessors

    def is_enabled(self) -> bool:
        """Tell whether there is a scale.

        >>> GradScaler(enabled=False).is_enabled()
        False
        """
        return self._enabled

    def get_scale(self) -> float:
        """Return the scale of the next step, 1 where there is none.

        >>> GradScaler().get_scale(), GradScaler(enabled=False).get_scale()
        (32768.0, 1.0)
        """
        return self._scaler.scale if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        """Return the factor on the scale after `growth_interval` applied steps in a row.

        >>> GradScaler().get_growth_factor()
        2.0
        """
        return self._scaler.growth

    def set_growth_factor(self, new_factor: float) -> None:
        """Set the factor on the scale after `growth_interval` applied steps in a row.

        Args:
            new_factor: a power of two >= 1.

        Raises:
            ValueError: it is another number.

        >>> scaler = GradScaler()
        >>> scaler.set_growth_factor(4.0)
        >>> scaler.get_growth_factor()
        4.0
        """
        self._scaler.growth = _power("new_factor", new_factor, minimum=1)

    def get_backoff_factor(self) -> float:
        """Return the factor on the scale after a skipped step.

        >>> GradScaler().get_backoff_factor()
        0.5
        """
        return self._scaler.backoff

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set the factor on the scale after a skipped step.

        Args:
            new_factor: a power of two <= 1.

        Raises:
            ValueError: it is another number.

        >>> scaler = GradScaler()
        >>> scaler.set_backoff_factor(0.25)
        >>> scaler.get_backoff_factor()
        0.25
        """
        self._scaler.backoff = _power("new_factor", new_factor, maximum=1)

    def get_growth_interval(self) -> int:
        """Return the number of applied steps in a row before the scale grows.

        >>> GradScaler().get_growth_interval()
        2000
        """
        return self._scaler.interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set the number of applied steps in a row before the scale grows.

        Args:
            new_interval: an integer >= 1.

        Raises:
            ValueError: it is smaller.
            TypeError: it is no integer.

        >>> scaler = GradScaler()
        >>> scaler.set_growth_interval(100)
        >>> scaler.get_growth_interval()
        100
        """
        self._scaler.interval = integer("new_interval", new_interval, 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, its factors and the counts, as JSON values; nothing where there is no scale.

        >>> GradScaler().state_dict()["scale"]
        32768.0
        """
        if not self._enabled:
            return {}
        factors = {
            "growth_factor": self._scaler.growth,
            "backoff_factor": self._scaler.backoff,
            "growth_interval": self._scaler.interval,
        }
        return {**factors, **self._scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; nothing changes when anything is wrong.

        Args:
            state_dict: what `state_dict` returned for a scaler of this kind.

        Raises:
            ValueError: an entry is missing or unknown, or a value is out of range.
            TypeError: a value is no number.

        >>> scaler = GradScaler()
        >>> scaler.load_state_dict({**scaler.state_dict(), "scale": 8.0})
        >>> scaler.get_scale()
        8.0
        """
        if not self._enabled:
            return
        rest = dict(instance("state_dict", state_dict, dict, "what state_dict returned"))
        for name in ("growth_factor", "backoff_factor", "growth_interval"):
            if name not in rest:
                raise ValueError(must_be("state_dict", f"a table with {name}", sorted(map(str, rest))))
        growth = _power("growth_factor", rest.pop("growth_factor"), minimum=1)
        backoff = _power("backoff_factor", rest.pop("backoff_factor"), maximum=1)
        interval = integer("growth_interval", rest.pop("growth_interval"), 1)
        self._scaler.load_state_dict(rest)
        self._scaler.growth, self._scaler.backoff, self._scaler.interval = growth, backoff, interval


def _power(name: str, value: Any, minimum: float | None = None, maximum: float | None = None) -> float:
    checked = number(name, value, above=0, minimum=minimum, maximum=maximum)
    if math.frexp(checked)[0] != 0.5:
        raise ValueError(must_be(name, "a power of two, so that scaling is exact", value))
    return checked


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    return (p for group in optimizer.param_groups for p in group["params"])


def _named(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    index = 0
    for group in optimizer.param_groups:
        names = group.get("param_names")
        for i, p in enumerate(group["params"]):
            yield (names[i] if names else f"parameter {index}"), p
            index += 1
