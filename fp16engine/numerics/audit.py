"""What a step of training really ran in: every operation's stored types and its accumulator.

A policy is a promise ("no 32-bit tensor anywhere"); the audit is the evidence. It sees every array that
passes through the backend, and `audit_step` adds the arrays that stay (parameters, buffers, optimizer state).
Conversion tiles inside a CPU kernel live in registers and cache and are no tensors; their size is reported
as `scratch_bytes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .intercept import Interception, arrays_in, named_arguments

if TYPE_CHECKING:
    from ..precision import Precision

_OUTPUTS = {
    "batch_norm_forward": ("y", "mean", "inv_std", "s"),
    "batch_norm_backward": ("dx", "dgamma", "dbeta", "dr", "db"),
    "layer_norm_forward": ("y", "mean", "inv_std"),
    "layer_norm_backward": ("dx", "dgamma", "dbeta"),
    "linear_backward": ("dx", "dw", "db"),
    "conv2d_backward": ("dx", "dw", "db"),
    "max_pool_forward": ("y", "index"),
    "attention_forward": ("y", "probs"),
    "attention_backward": ("dq", "dk", "dv"),
}
# Where `mp` keeps FP32 on purpose: norm statistics, and the calls that hold, make or update state.
_STATISTICS = {"gamma", "beta", "running_mean", "running_var", "mean", "inv_std", "dgamma", "dbeta"}
_STATE_OPS = {"sgd", "adam", "rmsprop", "all_finite", "zeros", "empty", "full", "copy", "cast"}
_NOT_OPERATIONS = {"memory", "reset_peak", "info", "implementations", "set_num_threads"}

_NOTE = (
    "Every array that passes through the backend is listed. Integer arrays (labels, pooling indices) are no "
    "weights, activations or gradients and are counted apart. FP32 registers and cache tiles inside a CPU "
    "kernel are no tensors; their size is scratch_bytes."
)

ATTEMPTS = 20  # a loss scale of 65536 is halved to its floor in 16

Named = tuple[str, str]  # (argument or result name, dtype)


class AuditKey(NamedTuple):
    """One operation with one combination of types."""

    op: str
    inputs: tuple[Named, ...]
    outputs: tuple[Named, ...]
    integers: tuple[Named, ...]
    accumulator: str
    operand: str


@dataclass(frozen=True)
class AuditRow:
    """One operation with one combination of types, and how often it ran."""

    op: str
    inputs: tuple[Named, ...]
    outputs: tuple[Named, ...]
    integers: tuple[Named, ...]
    accumulator: str  # "float16", "float32", or "none" where the operation adds nothing up
    operand: str  # a block format's name, "stored", or "none" where the operation is no dot product
    calls: int

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {
            "op": self.op,
            "inputs": dict_of(self.inputs),
            "outputs": dict_of(self.outputs),
            "integers": dict_of(self.integers),
            "accumulator": self.accumulator,
            "operand": self.operand,
            "calls": self.calls,
        }


@dataclass(frozen=True)
class Resident:
    """Arrays that outlive a step, by kind and type: parameters, buffers, optimizer state, master weights."""

    kind: str
    dtype: str
    arrays: int
    bytes: int


def dict_of(named: Iterable[Named]) -> dict[str, str]:
    """Join equal names: {"params": "float16, float32"} where a list of arrays mixes types."""
    result: dict[str, str] = {}
    for name, dtype in named:
        result[name] = f"{result[name]}, {dtype}" if name in result else dtype
    return result


class Audit(Interception):
    """Record the types of every backend call made inside a `with` block.

    >>> import fp16engine as fe
    >>> with Audit() as audit:
    ...     y = fe.tensor([1.0, 2.0], dtype="float16", device="reference").sum()
    >>> [row.accumulator for row in audit.rows if row.op == "sum"]
    ['float32']
    >>> audit.float32_tensors()
    []
    """

    def __init__(self) -> None:
        self.resident: list[Resident] = []
        self.scratch_bytes = 0
        self._counts: dict[AuditKey, int] = {}

    def _around(
        self, op: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = method(*args, **kwargs)
        if op in _NOT_OPERATIONS:
            return result
        named = named_arguments(method, args, kwargs)
        inputs = _types(named.items())
        parts = result if isinstance(result, (tuple, list)) else (result,)
        names = _OUTPUTS.get(op, ("y",) * len(parts))
        outputs = _types(zip(names, parts, strict=False))
        key = AuditKey(
            op,
            tuple(n for n in inputs if _is_float(n)),
            tuple(n for n in outputs if _is_float(n)),
            tuple(n for n in (*inputs, *outputs) if not _is_float(n)),
            str(named.get("acc", "none")),
            _operand(named),
        )
        self._counts[key] = self._counts.get(key, 0) + 1
        return result

    @property
    def rows(self) -> list[AuditRow]:
        """The recorded operations, in the order in which they first ran."""
        return [AuditRow(**key._asdict(), calls=count) for key, count in self._counts.items()]

    def float32_tensors(self, policy: Precision | None = None) -> list[AuditRow]:
        """Return the rows that hold a 32-bit float array; with a policy, only those it does not allow.

        A policy that stores FP32 allows all of them; one with FP32 statistics or master weights (`mp`)
        allows them for norm statistics and in the calls that hold or update state, and nowhere else.
        """
        return [
            row
            for row in self.rows
            if any(_forbidden(row, named, policy) for named in row.outputs + row.inputs)
        ]

    def float32_accumulators(self) -> list[AuditRow]:
        """Return the rows that added up in FP32."""
        return [row for row in self.rows if row.accumulator == "float32"]

    def float32_resident(self) -> list[Resident]:
        """Return the 32-bit parameters, buffers and optimizer state that `audit_step` found."""
        return [entry for entry in self.resident if entry.dtype == "float32"]

    def to_dict(self, policy: Precision | None = None) -> dict[str, Any]:
        """Return counts, rows and resident arrays as JSON values (the `audit` entry of summary.json).

        `float32_tensors` counts kinds of 32-bit arrays seen (rows with one, and resident kinds);
        `not_allowed` counts the rows among them that `policy` forbids.
        """
        return {
            "float32_tensors": len(self.float32_tensors()) + len(self.float32_resident()),
            "float32_accumulators": len(self.float32_accumulators()),
            "not_allowed": len(self.float32_tensors(policy)),
            "operations": sum(row.calls for row in self.rows),
            "scratch_bytes": self.scratch_bytes,
            "rows": [row.to_dict() for row in self.rows],
            "resident": [vars(entry) for entry in self.resident],
            "note": _NOTE,
        }

    def table(self) -> str:
        """Return the rows as a text table: operation, arrays in, arrays out, operands, accumulator, calls."""
        head = ("operation", "in", "out", "operands", "accumulates in", "calls")
        lines: list[tuple[str, ...]] = [head]
        for row in self.rows:
            groups = (row.inputs + row.integers, row.outputs)
            texts = (", ".join(f"{n} {t}" for n, t in dict_of(g).items()) for g in groups)
            lines.append((row.op, *texts, row.operand, row.accumulator, str(row.calls)))
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        return "\n".join(
            "  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )


def audit_step(trainer: Any, x: Any, y: Any) -> Audit:
    """Audit one real training step and one evaluation of a batch; the trainer is a step further after it.

    trainer: fe.Trainer; x: (N, H, W, C), y: (N,) as for `Trainer.step`. A step that is not applied, as the
    first ones under a dynamic loss scale, is followed by another, so that the weight update is seen too; the
    last one is recorded. A schedule is laid out over these few steps, so audit a trainer made for it. Returns
    the `Audit`, with the arrays that stay after the step in `resident`.
    """
    from .. import backend as backends

    trainer.set_total_steps(ATTEMPTS)
    for _ in range(ATTEMPTS):
        with Audit() as audit:
            applied = trainer.step(x, y).applied
            trainer.predict(x, len(x))
        if applied:
            break
    audit.scratch_bytes = int(backends.get(trainer.device).memory()["scratch"])
    audit.resident = list(residents(trainer))
    return audit


def audit_quietly(trainer: Any, inputs: Any, labels: Any) -> Audit:
    """Audit a training step on a batch as `Trainer.train_batch` takes it; the trainer stays what it was."""
    from .replay import preserved

    with preserved(trainer):
        trainer.set_total_steps(ATTEMPTS)
        for _ in range(ATTEMPTS):
            with Audit() as audit:
                applied = trainer.train_batch(inputs, labels)[0].applied
            if applied:
                break
        audit.resident = list(residents(trainer))
    return audit


def residents(trainer: Any) -> Iterable[Resident]:
    """Yield the arrays that stay between steps, by kind and type."""
    state = {name: value for name, value in trainer.optimizer.state_dict().items() if hasattr(value, "dtype")}
    groups = {
        "parameters": [p.data for _, p in trainer.model.named_parameters()],
        "gradients": [p.grad.data for _, p in trainer.model.named_parameters() if p.grad is not None],
        "buffers": [b.data for _, b in trainer.model.named_buffers()],
        "master weights": [a for name, a in state.items() if name.startswith("master")],
        "optimizer state": [a for name, a in state.items() if not name.startswith("master")],
    }
    for kind, arrays in groups.items():
        for dtype in sorted({str(a.dtype) for a in arrays}):
            same = [a for a in arrays if str(a.dtype) == dtype]
            yield Resident(kind, dtype, len(same), sum(int(a.nbytes) for a in same))


def _operand(named: dict[str, Any]) -> str:
    if "operand" not in named:
        return "none"
    return "stored" if named["operand"] is None else str(named["operand"].name)


def _types(items: Iterable[tuple[str, Any]]) -> tuple[Named, ...]:
    seen: dict[Named, None] = {}
    for name, value in items:
        for array in arrays_in(value):
            seen[name, str(array.dtype)] = None
    return tuple(seen)


def _is_float(named: Named) -> bool:
    return named[1].startswith(("float", "bfloat"))


def _forbidden(row: AuditRow, named: Named, policy: Precision | None) -> bool:
    return forbidden(row.op, *named, policy)


def forbidden(op: str, name: str, dtype: str, policy: Precision | None) -> bool:
    """Tell whether `policy` forbids an argument or result `name` of `op` to be float32 (None: all are)."""
    if dtype != "float32":
        return False
    if policy is None:
        return True
    if policy.storage == "float32":
        return False
    if policy.statistics == "float32" and name in _STATISTICS:
        return False
    keeps_float32 = policy.statistics == "float32" or policy.update == "master32"
    return not (keeps_float32 and op in _STATE_OPS)
