"""What a step of training really ran in: every operation's stored types and its accumulator.

A policy is a promise ("no 32-bit tensor anywhere"); the audit is the evidence. It sees every array that
passes through the backend, and `persistent_arrays` adds those that stay with model and optimizer (parameters,
gradients, buffers, optimizer state, master weights). It does not see what a module of the user's own computes
or keeps outside: NumPy arrays, tensors that are neither parameters nor buffers. Conversion tiles
inside a CPU kernel live in registers and cache and are no tensors; their size is reported as `scratch_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..floats import is_float
from ..observer import BackendCall, Observer, arrays_in

if TYPE_CHECKING:
    from ..data import Dataset
    from ..precision import Precision
    from .protocols import Steppable, TrainingView

_OUTPUTS = {
    "batch_norm_forward": ("y", "mean", "inv_std", "s"),
    "batch_norm_backward": ("dx", "dgamma", "dbeta", "dr", "db"),
    "layer_norm_forward": ("y", "mean", "inv_std"),
    "layer_norm_backward": ("dx", "dgamma", "dbeta"),
    "relu_bias_backward": ("dx", "db"),
    "linear_backward": ("dx", "dw", "db"),
    "conv2d_backward": ("dx", "dw", "db"),
    "max_pool_forward": ("y", "index"),
    "attention_forward": ("y", "probs"),
    "attention_backward": ("dq", "dk", "dv"),
}
WIDE = ("float32", "float64")
# Where `mp` keeps FP32 on purpose: norm statistics, and the calls that check, keep or update state. A cast to
# float32 is none of them: master weights are made before the first step.
_STATISTICS = {"gamma", "beta", "running_mean", "running_var", "mean", "inv_std", "dgamma", "dbeta"}
_OPTIMIZERS = {"sgd", "adam", "rmsprop"}
_READS_STATE = {"all_finite", "global_norm", "range_statistics", "copy"}
_OF_MASTERS = ("master weights", "optimizer state", "slow averages")  # FP32 where there are master weights
OF_NORMS = " of norms"  # ends the kind of a persistent array that a policy's `statistics` is about
# Sums whose accumulator no policy chooses: the norm of all gradients, for clip_norm, is FP32's in fp16-strict
# too. It is a number of the host's bookkeeping, as the learning rate is. So is the sum of gradients over
# micro-batches, but that one is an array, which policies with FP32 accumulators alone allow.
_OWN_ACCUMULATOR = {"global_norm": "float32", "add_to_sum": "float32"}
_SUMS = {"add_to_sum", "mean_of_sum"}
_NOT_OPERATIONS = {"memory", "reset_peak", "info", "implementations", "set_num_threads"}

_NOTE = (
    "Every array that passes through the backend is listed. Integer arrays (labels, pooling indices) are no "
    "weights, activations or gradients and are counted apart. FP32 registers and cache tiles inside a CPU "
    "kernel are no tensors; their size is scratch_bytes."
)

BATCH = 4
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
    algorithm: str


@dataclass(frozen=True)
class AuditRow:
    """One operation with one combination of types, and how often it ran."""

    op: str
    inputs: tuple[Named, ...]
    outputs: tuple[Named, ...]
    integers: tuple[Named, ...]
    accumulator: str  # "float16", "float32", or "none" where the operation adds nothing up
    operand: str  # a block format's name, "stored", or "none" where the operation is no dot product
    algorithm: str  # "direct" or "winograd" of a convolution, else "none"
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
            "algorithm": self.algorithm,
            "calls": self.calls,
        }


@dataclass(frozen=True)
class PersistentArrays:
    """Arrays that outlive a step, by kind and type: parameters, buffers, state, masters, averages."""

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


class Audit(Observer):
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
        self.persistent: list[PersistentArrays] = []
        self.scratch_bytes = 0
        self._counts: dict[AuditKey, int] = {}

    def around(self, call: BackendCall) -> Any:
        """Run a call and record its types.

        Args:
            call: what is called.

        Raises:
            TypeError: the call does not fit the method.

        >>> import numpy as np
        >>> from fp16engine import backend
        >>> audit = Audit()
        >>> ones, sum_ = np.ones(4, np.float16), backend.get("reference").sum
        >>> _ = audit.around(BackendCall("sum", sum_, (ones, (0,), "float32"), {}, ()))
        >>> audit.rows[0].accumulator
        'float32'
        """
        op, result = call.op, call.run()
        if op in _NOT_OPERATIONS:
            return result
        named = call.named_arguments()
        inputs = _types(named.items())
        parts = result if isinstance(result, (tuple, list)) else (result,)
        names = _OUTPUTS.get(op, ("y",) * len(parts))
        outputs = _types(zip(names, parts, strict=False))
        key = AuditKey(
            op,
            tuple(n for n in inputs if _is_float(n)),
            tuple(n for n in outputs if _is_float(n)),
            tuple(n for n in (*inputs, *outputs) if not _is_float(n)),
            str(named.get("acc", _OWN_ACCUMULATOR.get(op, "none"))),
            _operand(named),
            str(named.get("algorithm", "none")),
        )
        self._counts[key] = self._counts.get(key, 0) + 1
        return result

    @property
    def rows(self) -> list[AuditRow]:
        """The recorded operations, in the order in which they first ran."""
        return [AuditRow(**key._asdict(), calls=count) for key, count in self._counts.items()]

    def float32_tensors(self, policy: Precision | None = None) -> list[AuditRow]:
        """Return the rows that hold a 32-bit or 64-bit float array; with a policy, those it does not allow.

        Args:
            policy: a `Precision`, or None. No policy allows float64. One that stores FP32 allows float32; one
                with FP32 statistics or master weights (`mp`) allows it for norm statistics and in the calls
                that check or update state, and nowhere else.

        >>> import fp16engine as fe
        >>> with Audit() as audit:
        ...     y = fe.tensor([1.0, 2.0], device="reference").sum()
        >>> [row.op for row in audit.float32_tensors()], audit.float32_tensors(fe.Precision.get("fp32"))
        (['from_numpy', 'sum'], [])
        """
        return [
            row
            for row in self.rows
            if any(_forbidden(row, named, policy) for named in row.outputs + row.inputs)
        ]

    def float32_accumulators(self) -> list[AuditRow]:
        """Return the rows that added up in FP32.

        >>> import fp16engine as fe
        >>> x = fe.tensor([1.0, 2.0], "float16", "reference")
        >>> with Audit() as audit, fe.Precision.get("fp16-strict").use():
        ...     y = x.sum()
        >>> audit.float32_accumulators()
        []
        """
        return [row for row in self.rows if row.accumulator == "float32"]

    def float32_persistent(self) -> list[PersistentArrays]:
        """Return the 32-bit and 64-bit parameters, buffers and optimizer state that `audit_step` found.

        >>> import fp16engine as fe
        >>> digits = fe.data.digits().limit(8)
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> trainer = fe.Trainer(model, "fp16", device="reference")
        >>> audit = audit_step(trainer, digits.normalised("train", "float16"), digits.train.labels)
        >>> audit.float32_persistent()
        []
        """
        return [entry for entry in self.persistent if entry.dtype in WIDE]

    def to_dict(self, policy: Precision | None = None) -> dict[str, Any]:
        """Return counts, rows and persistent arrays as JSON values (the `audit` entry of summary.json).

        Args:
            policy: a `Precision`, or None. `float32_tensors` counts kinds of 32-bit or 64-bit arrays seen
                (rows with one, and persistent arrays); `not_allowed` counts those among them that it forbids.

        >>> import fp16engine as fe
        >>> with Audit() as audit:
        ...     y = fe.tensor([1.0, 2.0], "float16", "reference").sum()
        >>> audit.to_dict()["float32_tensors"]
        0
        """
        forbidden_rows = self.float32_tensors(policy)
        rows = [{**row.to_dict(), "not_allowed": row in forbidden_rows} for row in self.rows]
        resident = [
            {**vars(entry), "not_allowed": persistent_forbidden(entry.kind, entry.dtype, policy)}
            for entry in self.persistent
        ]
        return {
            **counted(rows, resident),
            "operations": sum(row.calls for row in self.rows),
            "scratch_bytes": self.scratch_bytes,
            "rows": rows,
            "resident": resident,
            "note": _NOTE,
        }

    def table(self) -> str:
        """Return the rows as a text table: operation, arrays, operands, accumulator, algorithm, calls.

        >>> import fp16engine as fe
        >>> with Audit() as audit:
        ...     y = fe.tensor([1.0, 2.0], "float16", "reference").sum()
        >>> audit.table().splitlines()[0].split()
        ['operation', 'in', 'out', 'operands', 'accumulates', 'in', 'algorithm', 'calls']
        """
        head = ("operation", "in", "out", "operands", "accumulates in", "algorithm", "calls")
        lines: list[tuple[str, ...]] = [head]
        for row in self.rows:
            groups = (row.inputs + row.integers, row.outputs)
            texts = (", ".join(f"{n} {t}" for n, t in dict_of(g).items()) for g in groups)
            lines.append((row.op, *texts, row.operand, row.accumulator, row.algorithm, str(row.calls)))
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        return "\n".join(
            "  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )


def audit_batch(dataset: Dataset, policy: Precision) -> tuple[Any, Any]:
    """Return images and labels of a batch that is enough to audit a step on."""
    return dataset.normalised("train", policy.storage)[:BATCH], dataset.train.labels[:BATCH]


def audit_step(trainer: Steppable, x: Any, y: Any) -> Audit:
    """Audit one real training step and one evaluation of a batch; the trainer is a step further after it.

    Args:
        trainer: a `Trainer`. A schedule is laid out over these few steps, so audit one made for it.
        x: images (N, H, W, C), floating point, as for `Trainer.step`.
        y: labels (N,), integers.

    A step that is not applied, as the first ones under a dynamic loss scale, is followed by another, so that
    the weight update is seen too; the last one is recorded. The audit has the arrays that stay after the step
    in `persistent`.

    Raises:
        ValueError: as `Trainer.step`.
        TypeError: as `Trainer.step`.
        NonFiniteError: as `Trainer.step`.

    >>> import fp16engine as fe
    >>> digits = fe.data.digits().limit(8)
    >>> model = fe.models.create("dnn", image_size=8, channels=1)
    >>> trainer = fe.Trainer(model, "fp16-strict", device="reference")
    >>> audit = audit_step(trainer, digits.normalised("train", "float16"), digits.train.labels)
    >>> audit.float32_accumulators()
    []
    """
    from .. import backend as backends

    trainer.set_total_steps(ATTEMPTS)
    for _ in range(ATTEMPTS):
        with Audit() as audit:
            applied = trainer.step(x, y).applied
            trainer.predict(x, len(x))
        if applied:
            break
    audit.scratch_bytes = int(backends.get(trainer.state.device).memory()["scratch"])
    audit.persistent = list(persistent_arrays(trainer.state))
    return audit


def audit_quietly(trainer: Steppable, inputs: Any, labels: Any) -> Audit:
    """Audit a training step on a batch as `Trainer.train_batch` takes it; the trainer stays what it was."""
    with trainer.rehearsal():
        trainer.set_total_steps(ATTEMPTS)
        for _ in range(ATTEMPTS):
            with Audit() as audit:
                applied = trainer.train_batch(inputs, labels)[0].applied
            if applied:
                break
        audit.persistent = list(persistent_arrays(trainer.state))
    return audit


def persistent_arrays(run: TrainingView) -> Iterable[PersistentArrays]:
    """Yield the arrays that stay between steps, by kind and type."""
    model, optimizer = run.model, run.optimizer
    norms = {
        id(getattr(module, name, None)) for _, module in model.named_modules() for name in module.statistics
    }
    groups: dict[str, list[Any]] = {}

    def note(kind: str, tensor: Any, array: Any) -> None:
        groups.setdefault(kind + (OF_NORMS if id(tensor) in norms else ""), []).append(array)

    for _, p in model.named_parameters():
        note("parameters", p, p.data)
        if p.grad is not None:
            note("gradients", p, p.grad.data)
    for _, b in model.named_buffers():
        note("buffers" if is_float(b.dtype) else "counters", b, b.data)
    for name, array in optimizer.state_arrays().items():
        slot, _, index = name.rpartition(".")
        note("master weights" if slot == "master" else "optimizer state", optimizer.params[int(index)], array)
    if run.lookahead is not None:
        for _, tensor, array in run.lookahead.arrays():
            note("slow averages", tensor, array)
    for kind, arrays in groups.items():
        for dtype in sorted({str(a.dtype) for a in arrays}):
            same = [a for a in arrays if str(a.dtype) == dtype]
            yield PersistentArrays(kind, dtype, len(same), sum(int(a.nbytes) for a in same))


def counted(rows: list[dict[str, Any]], resident: list[dict[str, Any]]) -> dict[str, int]:
    """Return the counts of an audit's rows and persistent arrays, as JSON values (see `Audit.to_dict`)."""
    wide = [row for row in rows if any(t in " ".join(_dtypes(row)) for t in WIDE)]
    return {
        "float32_tensors": len(wide) + sum(entry["dtype"] in WIDE for entry in resident),
        "float32_accumulators": sum(row["accumulator"] == "float32" for row in rows),
        "not_allowed": sum(entry["not_allowed"] for entry in (*rows, *resident)),
    }


def _dtypes(row: dict[str, Any]) -> list[str]:
    return [*row["inputs"].values(), *row["outputs"].values()]


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
    """Tell whether `policy` forbids an argument or result `name` of `op` to be of `dtype` (None: if wide)."""
    if dtype not in WIDE:
        return False
    if policy is None or dtype == "float64":
        return True
    if policy.storage == "float32" or (op in _SUMS and policy.accumulate == "float32"):
        return False
    if policy.statistics == "float32" and (name in _STATISTICS or op in _READS_STATE or op in _OPTIMIZERS):
        return False
    masters = op in _OPTIMIZERS and name not in ("params", "grads")
    return not (masters and policy.update == "master32")


def persistent_forbidden(kind: str, dtype: str, policy: Precision | None) -> bool:
    """Tell whether `policy` forbids persistent arrays of a kind to be of `dtype` (None: if wide)."""
    if dtype not in WIDE:
        return False
    if policy is None or dtype == "float64":
        return True
    if policy.storage == "float32":
        return False
    if kind.removesuffix(OF_NORMS) in _OF_MASTERS and policy.update == "master32":
        return False
    return not (kind.endswith(OF_NORMS) and policy.statistics == "float32")
