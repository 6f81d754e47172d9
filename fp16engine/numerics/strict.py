"""Strict audit: the first array or accumulator that a policy forbids, by layer, tensor and policy line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import PrecisionViolation
from ..observer import BackendCall, arrays_in
from ..precision import Precision
from . import audit
from .watch import UPDATE, Call, watch

if TYPE_CHECKING:
    from .protocols import Steppable


def check(trainer: Steppable, x: Any, y: Any) -> None:
    """Run one training step of `trainer` on a batch and hold every operation to its policy.

    x: (N, H, W, C), y: (N,) as for `Trainer.step`. The trainer is bit for bit what it was afterwards. Under a
    loss scale, steps are repeated until one is applied, so that the update is seen too.

    Raises PrecisionViolation at the first array, result or accumulator that its precision forbids.
    """
    run = trainer.state
    policy = run.precision

    def around(call: Call, backend_call: BackendCall) -> Any:
        if call.op in audit._NOT_OPERATIONS:
            return backend_call.run()
        named = backend_call.named_arguments()
        _accumulator(call, named, policy)
        for name, value in named.items():
            _arrays(call, name, value, policy)
        result = backend_call.run()
        parts = result if isinstance(result, tuple | list) else (result,)
        for name, part in zip(audit._OUTPUTS.get(call.op, ("the result",) * len(parts)), parts, strict=False):
            _arrays(call, name, part, policy)
        return result

    with trainer.rehearsal():
        trainer.set_total_steps(audit.ATTEMPTS)
        for _ in range(audit.ATTEMPTS):
            with watch(run.model, around):
                applied = trainer.step(x, y).applied
            if applied:
                break
        for entry in audit.persistent_arrays(run):
            if audit.persistent_forbidden(entry.kind, entry.dtype, policy):
                raise PrecisionViolation(
                    f"strict: {entry.kind} are {entry.dtype} after a step; {_line(policy, 'storage')}"
                )


def _arrays(call: Call, name: str, value: Any, policy: Precision) -> None:
    for array in arrays_in(value):
        dtype = str(array.dtype)
        if audit.forbidden(call.op, name, dtype, policy):
            statistics = name in audit._STATISTICS
            raise PrecisionViolation(
                f"strict: {_where(call)}: tensor {name!r} of {call.op} is {dtype}; "
                f"{_line(policy, 'statistics' if statistics else 'storage')}"
            )


def _accumulator(call: Call, named: dict[str, Any], policy: Precision) -> None:
    used = named.get("acc")
    if used is not None and used != policy.accumulate:
        raise PrecisionViolation(
            f"strict: {_where(call)}: {call.op} accumulates in {used}; {_line(policy, 'accumulate')}"
        )


def _where(call: Call) -> str:
    if call.phase == UPDATE or not call.layer:
        return "outside the layers"
    return f"layer {call.layer!r}"


def _line(policy: Precision, field: str) -> str:
    return f"precision {policy.name!r} says {field}: {policy.describe()[field]}"
