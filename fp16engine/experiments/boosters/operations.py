"""How many operations of dot products ran in which operand format: counted call by call."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...observer import BackendCall, Observer

if TYPE_CHECKING:
    from ...train import Trainer

STORED = "stored"  # operands as stored, in no block format


def _matmul(a: dict[str, Any]) -> int:
    left, right = a["a"].shape, a["b"].shape
    return math.prod(left) * (right[-2] if a["transpose_b"] else right[-1])


def _linear(a: dict[str, Any]) -> int:
    return int(a["x"].shape[0]) * math.prod(a["w"].shape)


def _conv(a: dict[str, Any], y: Any) -> int:
    n, height, width, _ = y.shape
    return int(n) * int(height) * int(width) * math.prod(a["w"].shape)


def _attention(y: Any, probs: Any) -> int:
    return math.prod(y.shape) * int(probs.shape[-1])


# Multiplications of one call: (its named arguments, its result) -> how many.
_COUNTS: dict[str, Callable[[dict[str, Any], Any], int]] = {
    "matmul": lambda a, _: _matmul(a),
    "linear_forward": lambda a, _: _linear(a),
    "linear_backward": lambda a, _: _linear(a) * sum(a["needs"][:2]),
    "conv2d_forward": _conv,
    "conv2d_backward": lambda a, _: _conv(a, a["dy"]) * sum(a["needs"][:2]),
    "attention_forward": lambda a, results: 2 * _attention(*results),
    "attention_backward": lambda a, _: 4 * _attention(a["dy"], a["probs"]),
}


class Operations(Observer):
    """Count the operations of every dot product inside a `with` block, by operand format.

    A multiplication with its addition counts as two operations; window positions outside an image count, as
    in the usual figures of FLOPs. `by_format`: operations by the name of a block format, or "stored".

    >>> import fp16engine as fe
    >>> x = fe.tensor([[1.0, 2.0]], device="reference")
    >>> with Operations() as operations, fe.Precision.get("hbfp4").use():
    ...     y = x @ x.T
    >>> dict(operations.by_format)
    {'hbfp4': 4}
    """

    def __init__(self) -> None:
        self.by_format: Counter[str] = Counter()

    def around(self, call: BackendCall) -> Any:
        """Run a call and count its operations, where it is a dot product."""
        result = call.run()
        if call.op in _COUNTS:
            named = call.named_arguments()
            operand = named.get("operand")
            name = STORED if operand is None else operand.name
            self.by_format[name] += 2 * _COUNTS[call.op](named, result)
        return result


def of_run(trainer: Trainer, x: Any, y: Any, epochs: int, steps_per_epoch: int) -> dict[str, int]:
    """Return the operations by format of a whole run, from one real step under each policy it has.

    x: (N, H, W, C), y: (N,): a batch of the run's size. Every epoch's policy is looked up; a step is taken
    for each different one, and the trainer is that many steps further. Batches that are smaller at the end
    of an epoch count as whole ones.
    """
    total: Counter[str] = Counter()
    counted: dict[Any, Counter[str]] = {}
    for epoch in range(epochs):
        trainer.begin_epoch(epoch, epochs)
        policy = trainer.in_force
        if policy not in counted:
            with Operations() as operations:
                trainer.step(x, y)
            counted[policy] = operations.by_format
        for name, count in counted[policy].items():
            total[name] += count * steps_per_epoch
    return dict(total)
