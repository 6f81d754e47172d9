"""Explain my NaN: replay a step that was not applied and name the operation that left the finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import backend as backends
from ..floats import is_float, limits
from ..observer import BackendCall, arrays_in
from ..tensor import Tensor
from . import constants
from .ranges import Ranges
from .watch import BACKWARD, FORWARD, Call, Watch, watch
from .words import range_of

if TYPE_CHECKING:
    from .protocols import TrainingView

Array = Any

_SKIPPED = frozenset(
    ("empty", "zeros", "full", "from_numpy", "copy", "all_finite", "range_statistics", "memory", "reset_peak")
)


@dataclass(frozen=True)
class Explanation:
    """The first operation whose inputs were finite and whose result was not, or what came in not finite.

    Args:
        step: number of the step, from 0; None where no steps are counted.
        phase: "forward" or "backward".
        layer: its path; None where the replay met nothing (a machine that does not give the same bits twice).
        op: the operation's name; None as `layer`.
        inputs: ranges of its inputs, by name.
        output: ranges of its result, or None.
        cause: in words.
        remedy: in words.

    >>> Explanation(7, "forward", None, None, {}, None, "the input holds nan", "check the data").text
    'step 7: the input holds nan; check the data'
    """

    step: int | None
    phase: str
    layer: str | None
    op: str | None
    inputs: dict[str, Ranges]
    output: Ranges | None
    cause: str
    remedy: str

    @property
    def text(self) -> str:
        """Several lines: where, what, the ranges of the inputs, the remedy."""
        step = "" if self.step is None else f"step {self.step}"
        if self.layer is None:
            return f"{step or self.phase}: {self.cause}; {self.remedy}"
        where = f"{step}, {self.phase} pass".removeprefix(", ")
        lines = [f"{where}, layer {self.layer!r} ({self.op}): {self.cause}"]
        lines += [f"  {name}: {ranges.in_words()}" for name, ranges in self.inputs.items()]
        if self.output is not None:
            lines.append(f"  result: {self.output.in_words()}")
        return "\n".join([*lines, f"  remedy: {self.remedy}"])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values.

        >>> Explanation(7, "forward", None, None, {}, None, "the input holds nan", "look").to_dict()["step"]
        7
        """
        return {
            "step": self.step,
            "phase": self.phase,
            "layer": self.layer,
            "op": self.op,
            "inputs": {name: ranges.to_dict() for name, ranges in self.inputs.items()},
            "output": None if self.output is None else self.output.to_dict(),
            "cause": self.cause,
            "remedy": self.remedy,
        }


class _Found(Exception):
    """Ends the replay at the first operation that is to be named."""


class _Search:
    def __init__(self, run: TrainingView) -> None:
        self._run = run
        self._backend = backends.get(run.device)
        self._busy = False
        self._lost: list[constants.Lost] = []
        self.watch: Watch | None = None
        self.found: Explanation | None = None

    def around(self, call: Call, backend_call: BackendCall) -> Any:
        if self._busy or call.op in _SKIPPED or not call.layer:
            return backend_call.run()
        named = backend_call.named_arguments()
        looked_at = {name: self._ranges(value) for name, value in named.items()}
        inputs = {name: ranges for name, ranges in looked_at.items() if ranges is not None}
        if call.phase == FORWARD:
            self._lost += constants.lost(call.layer, call.op, named, self._run.precision)
        if (
            "algorithm" in backend_call.kwargs
        ):  # Winograd's makes one infinity NaN over a tile, a direct sum not
            backend_call = backend_call._replace(kwargs={**backend_call.kwargs, "algorithm": "direct"})
        result = backend_call.run()
        output = self._ranges(result)
        if output is not None and not output.finite:
            self._report(call, named, inputs, output)
            raise _Found
        return result

    def _ranges(self, value: Any) -> Ranges | None:
        arrays = [a for a in arrays_in(value) if is_float(a.dtype) and a.size]
        if not arrays:
            return None
        self._busy = True
        try:
            counts = self._backend.to_numpy(self._backend.range_statistics(arrays))
        finally:
            self._busy = False
        return Ranges.of_counts(counts.sum(axis=0))

    def _report(self, call: Call, named: dict[str, Any], inputs: dict[str, Ranges], output: Ranges) -> None:
        cause, remedy = _cause(call, named, inputs, output, self._lost, self._run.precision.storage)
        op = f"{call.op} {named['op']}" if call.op in ("binary", "unary", "unary_backward") else call.op
        step = self._run.step_count
        self.found = Explanation(step, call.phase, call.layer, op, inputs, output, cause, remedy)


def explain(
    run: TrainingView, forward: Callable[[], Tensor], inputs: list[Array], scale: float = 1.0
) -> Explanation:
    """Replay the forward and backward pass of a step that was not applied, and find where it went wrong.

    run: in the state it had before the step, as it is after a step that was not applied; forward: computes
    the step's loss again; inputs: the float arrays of its batch, on the device; scale: its loss scale. Draws
    from the random counters in force. Nothing of the run is changed.
    """
    backend = backends.get(run.device)
    search = _Search(run)
    buffers = [(buffer, backend.copy(buffer.data)) for _, buffer in run.buffers]
    grads = [(p, p.grad) for _, p in run.parameters]
    try:
        bad = _given(run, inputs)
        if bad is not None:
            return bad
        run.optimizer.zero_grad()
        with run.in_force.use(), watch(run.model, search.around) as state:
            search.watch = state
            loss = forward()
            state.phase = BACKWARD
            loss.backward(Tensor(backend.full(loss.shape, scale, loss.dtype), run.device))
    except _Found:
        assert search.found is not None
        return search.found
    finally:
        for buffer, data in buffers:
            buffer.data = data
        for parameter, grad in grads:
            parameter.grad = grad
    return Explanation(
        run.step_count,
        FORWARD,
        None,
        None,
        {},
        None,
        "the replay gave finite values only",
        "run it again; if it comes back, the device does not give the same bits twice",
    )


def _given(run: TrainingView, inputs: list[Array]) -> Explanation | None:
    """What was not finite before any operation ran: the input, or a parameter."""
    backend = backends.get(run.device)

    def ranges(array: Array) -> Ranges:
        return Ranges.of_counts(backend.to_numpy(backend.range_statistics([array]))[0])

    step = run.step_count
    for x in inputs:
        if not backend.all_finite([x]):
            remedy = (
                f"check the data; what leaves {range_of(run.precision.storage)} is infinite, so normalise it"
            )
            return Explanation(
                step, FORWARD, "(input)", "x", {"x": ranges(x)}, None, "the input is not finite", remedy
            )
    for name, parameter in run.parameters:
        if not backend.all_finite([parameter.data]):
            remedy = "go back to an earlier checkpoint; lower the learning rate or clip the gradient"
            where, _, what = name.rpartition(".")
            cause = f"the parameter {name!r} is not finite"
            return Explanation(
                step, FORWARD, where or name, what, {name: ranges(parameter.data)}, None, cause, remedy
            )
    return None


def _cause(
    call: Call,
    named: dict[str, Any],
    inputs: dict[str, Ranges],
    output: Ranges,
    lost: list[constants.Lost],
    storage: str,
) -> tuple[str, str]:
    """Say in words why a call with these inputs is not finite, and what to do."""
    how_many = f"{output.inf + output.nan:,} of {output.values:,} values are {_what(output)}"
    kind = named.get("op")
    divisor = inputs.get("b")
    if call.op == "binary" and kind == "div" and (named["b"] == 0 if divisor is None else divisor.zeros):
        mine = [one for one in lost if one.layer == call.layer] or lost
        if mine:
            return f"{how_many}: divided by 0 after {mine[-1].in_words()}", mine[-1].remedy
        return f"{how_many}: divided by 0", "add an eps of at least 6e-8 (better 1e-3) to the divisor"
    if call.op in ("batch_norm_forward", "layer_norm_forward"):
        mine = [one for one in lost if one.layer == call.layer]
        if mine:
            return f"{how_many}: {mine[-1].in_words()}", mine[-1].remedy
    x = inputs.get("x")
    if call.op == "unary" and kind == "log" and x is not None and x.zeros:
        return f"{how_many}: logarithm of 0", "use log_softmax or cross_entropy, which take the logits"
    if call.op == "unary" and kind == "sqrt":
        return f"{how_many}: square root of a negative number", "clip its input at 0"
    if call.op == "unary" and kind == "exp":
        start = math.log(float(limits(storage).max))
        return f"{how_many}: exp overflows from {start:.4g} on", "subtract the maximum first, as softmax does"
    if call.phase == BACKWARD:
        return (
            f"{how_many}: the gradient leaves {range_of(storage)}",
            "lower the learning rate or the loss scale, clip the gradient, or train with precision 'mp'"
            if storage == "float16"
            else "lower the learning rate or clip the gradient",
        )
    return (
        f"{how_many}: the result leaves {range_of(storage)}",
        "normalise or scale down what this layer takes in"
        + ("" if storage == "float32" else ", or train with precision 'fp32'"),
    )


def _what(output: Ranges) -> str:
    if output.inf and output.nan:
        return "infinite or NaN"
    return "infinite" if output.inf else "NaN"
