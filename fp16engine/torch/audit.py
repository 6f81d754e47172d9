"""Is the low precision of a PyTorch module real: what its operators store, multiply and add up in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..numerics.watch import MODEL
from ..reporting.tables import table_lines
from ..validate import instance
from .accumulators import measured
from .compiled import FLAG, INDUCTOR, OtherDifference, RemovedCast, compare, compiler_of, others
from .modules import RunningLayers, buffers_kept, random_states
from .sampled import tensors_in


class OperatorRow(NamedTuple):
    """An operator in a layer with one combination of types.

    Args:
        layer: the innermost module that it ran in.
        op: its name in `torch.ops.aten`.
        reads: the dtypes of its floating inputs.
        stores: the dtypes of its floating results.
        multiplies: what a dot product multiplies in, measured; "none" where there is none.
        accumulates: what sums add up in, measured; "none" where nothing is added up, "not measured" where no
            trial tells.
        calls: how often it ran.

    >>> OperatorRow("0", "mm", ("float16",), ("float16",), "float32", "float32", 1).is_wide
    False
    """

    layer: str
    op: str
    reads: tuple[str, ...]
    stores: tuple[str, ...]
    multiplies: str
    accumulates: str
    calls: int

    @property
    def is_wide(self) -> bool:
        """Whether a result is stored in 32 bits or more."""
        return any(dtype in ("float32", "float64") for dtype in self.stores)


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Args:
        rows: every operator of the eager module, in the order in which they first ran.
        compiler: of a module of torch.compile; None for an eager one.
        removed_casts: roundings that Inductor's code leaves out, each a `RemovedCast`.
        other: operators whose compiled form differs for another reason, each an `OtherDifference`.
        differ: how many values of the module's result are others than eager's.
        values: how many it has.

    >>> Audit([], None).clean
    True
    """

    rows: list[OperatorRow]
    compiler: str | None
    removed_casts: list[RemovedCast] = field(default_factory=list)
    other: list[OtherDifference] = field(default_factory=list)
    differ: int = 0
    values: int = 0

    @property
    def clean(self) -> bool:
        """Whether no rounding was removed and the compiled module gives eager's bits."""
        return not self.removed_casts and not self.differ

    @property
    def wide(self) -> list[OperatorRow]:
        """The rows that store 32 bits or more."""
        return [row for row in self.rows if row.is_wide]

    def table(self) -> str:
        """Return the rows as a text table, the casts that are missing, and the verdict.

        >>> import torch
        >>> import fp16engine.torch as fet
        >>> print(fet.audit(torch.nn.ReLU(), torch.zeros(2).half()).table())
          layer    operator  reads    stores   multiplies in  accumulates in  calls
          (model)  relu      float16  float16           none            none      1
        clean: an eager module rounds where it says so; 0 of 1 operators store 32 bits or more
        """
        head = ("layer", "operator", "reads", "stores", "multiplies in", "accumulates in", "calls")
        cells = [
            [row.layer, row.op, ", ".join(row.reads), ", ".join(row.stores), *map(str, row[4:])]
            for row in self.rows
        ]
        lines = table_lines(head, cells, 4, None)
        lines += [cast.text for cast in self.removed_casts]
        lines += [
            f"{o.layer}: {o.op} gives other bits from the same inputs, {o.differ:,} of {o.values:,} values; "
            "the compiler computes it in another way"
            for o in self.other
        ]
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        wide = f"{len(self.wide)} of {len(self.rows)} operators store 32 bits or more"
        if self.compiler is None:
            return f"clean: an eager module rounds where it says so; {wide}"
        result = f"{self.differ:,} of {self.values:,} values of the result differ from eager's"
        if self.clean:
            return f"clean: the compiled module rounds as the eager one does; {wide}"
        if self.compiler != INDUCTOR:
            return (
                f"not clean: {result}; only Inductor's operators are compared, got {self.compiler!r}; {wide}"
            )
        if not self.removed_casts:
            return f"not clean: {result}, though no rounding is missing; {wide}"
        n = len(self.removed_casts)
        what = "1 rounding is" if n == 1 else f"{n} roundings are"
        return f"not clean: {what} missing, {result}; {FLAG} = True restores them; {wide}"


def audit(model: torch.nn.Module, *inputs: Any) -> Audit:
    """Run a module forward and say what each operator stores, multiplies and accumulates in.

    An eager module is run as it is, in autocast too: call this inside of the context. One of torch.compile is
    compared with the eager module it was made of, bit by bit, and operator by operator: where the compiled
    code keeps a result in FP32 registers that the program rounds to float16 or bfloat16, the cast is named.

    Args:
        model: in evaluation, or without dropout: random numbers would hide what is looked for.
        inputs: its arguments; tensors of any shape, floating point of any dtype.

    Weights, buffers and random numbers stay what they were. Accumulators are measured by trial sums of the
    same shape on the same device. Gradients are not computed.

    Raises:
        TypeError: `model` is no module.
        ValueError: it draws random numbers, or returns no tensor.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> found = fet.audit(torch.nn.Linear(64, 8).half(), torch.zeros(4, 64).half())
    >>> [(row.op, row.stores, row.accumulates) for row in found.rows if row.accumulates != "none"]
    [('addmm', ('float16',), 'float32')]
    """
    instance("model", model, torch.nn.Module, "a torch.nn.Module")
    eager = getattr(model, "_orig_mod", model)
    with torch.no_grad(), buffers_kept(eager):
        recorder = _Recorder()
        with recorder.layers.hooks(eager):
            before = random_states()
            with recorder:
                expected = tensors_in(eager(*inputs))
            if not all(map(torch.equal, random_states(), before)):
                raise ValueError("model must draw no random numbers, got some drawn; use model.eval()")
        if not expected:
            raise ValueError("model must return a floating tensor, got none")
        rows = recorder.rows()
        if eager is model:
            return Audit(rows, None)
        with buffers_kept(eager):
            results = tensors_in(model(*inputs))
        differ = sum(others(a, b) for a, b in zip(expected, results, strict=True))
        compiler, options = compiler_of(model)
        removed, other = compare(eager, inputs, options) if compiler == INDUCTOR else ([], [])
        return Audit(rows, compiler, removed, other, differ, sum(y.numel() for y in expected))


class _Recorder(TorchDispatchMode):
    """Sees every operator that runs in the block, below autocast, and the module that it runs in."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = RunningLayers()
        self._counts: dict[tuple[str, str, tuple[str, ...], tuple[str, ...], str, str], int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        reads, stores = tensors_in((args, kwargs or {})), tensors_in(result)
        name = func.overloadpacket.__name__
        if stores and not _is_view(reads, stores):
            layer = self.layers.innermost(MODEL)
            multiplies, accumulates = measured(name, args)
            key = layer, name, _dtypes(reads), _dtypes(stores), multiplies, accumulates
            self._counts[key] = self._counts.get(key, 0) + 1
        return result

    def rows(self) -> list[OperatorRow]:
        return [OperatorRow(*key, count) for key, count in self._counts.items()]


def _dtypes(tensors: list[torch.Tensor]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(t.dtype).removeprefix("torch.") for t in tensors))


def _is_view(reads: list[torch.Tensor], stores: list[torch.Tensor]) -> bool:
    """Tell whether the results are the inputs' memory, seen in another way; in place is not."""
    places = {t.untyped_storage().data_ptr() for t in reads}
    return all(t.untyped_storage().data_ptr() in places and not any(t is r for r in reads) for t in stores)
