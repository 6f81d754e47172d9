"""The number-line monitor: layer by layer, how close a run is to the ends of binary16, every N steps.

A sampled step runs the same kernels in the same order as any other and gives the same bits; the monitor reads
what passes through the backend. A part of the operations is run once more on FP32 copies of its
FP16 inputs (the shadow), which tells values that are 0 because they underflowed from those that are 0 anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from ..floats import is_float
from ..observer import BackendCall, arrays_in
from ..validate import integer
from . import advice, constants, stagnation
from .ranges import EMPTY, Ranges
from .watch import BACKWARD, FORWARD, UPDATE, Call, Watch, watch

if TYPE_CHECKING:
    from .protocols import TrainingView

EVERY = 50
SHADOW = 4
KEPT = 64

ACTIVATIONS = "activations"
BACKWARD_GRADIENTS = "activation gradients"
GRADIENTS = "gradients"
WEIGHTS = "weights"
STATE = "optimizer state"
KINDS = (WEIGHTS, ACTIVATIONS, BACKWARD_GRADIENTS, GRADIENTS, STATE)

# What each result of an operation with several is; None and those not named here are inner values.
_FORWARD: dict[str, tuple[str | None, ...]] = {
    "batch_norm_forward": (ACTIVATIONS, None, None, ACTIVATIONS),  # the sum that is normalised is stored, too
}
_RESULTS = {
    "relu_bias_backward": (BACKWARD_GRADIENTS, GRADIENTS),  # the latter of the convolution before
    "linear_backward": (BACKWARD_GRADIENTS, GRADIENTS, GRADIENTS),
    "conv2d_backward": (BACKWARD_GRADIENTS, GRADIENTS, GRADIENTS),
    "batch_norm_backward": (
        BACKWARD_GRADIENTS,
        GRADIENTS,
        GRADIENTS,
        BACKWARD_GRADIENTS,
        GRADIENTS,
    ),
    "layer_norm_backward": (BACKWARD_GRADIENTS, GRADIENTS, GRADIENTS),
    "attention_backward": (BACKWARD_GRADIENTS,) * 3,
    "embedding_backward": (GRADIENTS,),
}
# fmt: off
_MOVES = frozenset((
    "empty", "zeros", "full", "from_numpy", "cast", "copy", "all_finite", "range_statistics", "memory",
    "reset_peak", "transpose", "broadcast_to", "getitem", "cat", "pad2d", "crop2d", "gather", "embedding",
    "dropout", "max_pool_forward", "max",
))
# fmt: on
# Exact on what is stored, so that nothing can underflow in them.
_EXACT = frozenset(["max_backward", "max_pool_backward", "index_add", "embedding_backward"])
_EXACT_UNARY = frozenset(("relu", "relu6", "neg"))


@dataclass
class Row:
    """Ranges of one kind of values of a layer; of `shadowed` nonzero FP32 values, `underflowed` became 0."""

    layer: str
    kind: str
    ranges: Ranges = EMPTY
    shadowed: int = 0
    underflowed: int = 0

    @property
    def underflow(self) -> float:
        """Share of the nonzero FP32 values that binary16 makes 0, of what had a shadow in this sample."""
        return self.underflowed / self.shadowed if self.shadowed else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            **self.ranges.to_dict(),
            "shadowed": self.shadowed,
            "underflowed": self.underflowed,
        }


@dataclass
class Sample:
    """What the monitor saw of one step; rows are in the order in which the step met them.

    Args:
        step: its number, from 0.
        applied: whether the weights were updated.
        lr: learning rate of the step.
        loss_scale: factor on its loss.
        loss: of the step, as it is stored; None where no cross-entropy was computed.
        chance: ln(classes): the loss of a network that has learned nothing; None as `loss`.
        rows: ranges of one kind of values of a layer each.
        updates: updates of a parameter each, and how many were lost.
        running: running statistics of a layer each.
        constants: constants that binary16 loses.
        findings: what went wrong.

    >>> Sample(step=0, applied=True, lr=0.1, loss_scale=1.0).row("stem", "weights") is None
    True
    """

    step: int
    applied: bool
    lr: float
    loss_scale: float
    loss: float | None = None  # of the step, as it is stored; None where no cross-entropy was computed
    chance: float | None = None  # ln(classes): the loss of a network that has learned nothing
    rows: list[Row] = field(default_factory=list)
    updates: list[stagnation.Updates] = field(default_factory=list)
    running: list[stagnation.Running] = field(default_factory=list)
    constants: list[constants.Lost] = field(default_factory=list)
    findings: list[advice.Finding] = field(default_factory=list)

    def row(self, layer: str, kind: str) -> Row | None:
        """Return the row of a layer and kind, or None.

        Args:
            layer: its path.
            kind: "activations", "gradients" and the like.

        >>> Sample(step=0, applied=True, lr=0.1, loss_scale=1.0).row("stem", "activations") is None
        True
        """
        return next((row for row in self.rows if (row.layer, row.kind) == (layer, kind)), None)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values: a row of metrics.jsonl (kind "ranges").

        >>> Sample(step=0, applied=True, lr=0.1, loss_scale=1.0).to_dict()["loss_scale"]
        1.0
        """
        return {
            "step": self.step,
            "applied": self.applied,
            "lr": self.lr,
            "loss_scale": self.loss_scale,
            "loss": self.loss if self.loss is not None and math.isfinite(self.loss) else None,
            "chance": self.chance,
            "rows": [row.to_dict() for row in self.rows],
            "updates": [row.to_dict() for row in self.updates],
            "running": [row.to_dict() for row in self.running],
            "findings": [finding.to_dict() for finding in self.findings],
        }


class Monitor:
    """Looks at every so-many-th step of a `Trainer`, the first one included.

    Args:
        every: steps from one sample to the next, >= 1.
        shadow: 1 runs every operation of a sampled step on FP32 copies too, n every n-th, others in the next
            sample; 0 none.
        on_sample: called with each `Sample`; None calls nothing.

    Attributes:
        samples: the last 64 samples.
        findings: what went wrong so far, each layer and problem once, in the order of discovery.

    Weights, gradients and everything else stay bit for bit what they are without a monitor; the peak memory
    of a sampled step is higher. `Trainer(monitor=...)` takes one; steps in between cost nothing.

    Raises:
        ValueError: `every` or `shadow` is no integer in its range.

    >>> import fp16engine as fe
    >>> digits = fe.data.digits().limit(32)
    >>> model = fe.models.create("dnn", image_size=8, channels=1)
    >>> trainer = fe.Trainer(model, device="reference", monitor=Monitor(every=1))
    >>> _ = trainer.step(digits.normalised("train", "float16"), digits.train.labels)
    >>> trainer.monitor.samples[-1].row("1", "activations").ranges.inf
    0
    """

    def __init__(
        self,
        every: int = EVERY,
        shadow: int = SHADOW,
        on_sample: Callable[[Sample], None] | None = None,
    ) -> None:
        for name, value, least in (("every", every, 1), ("shadow", shadow, 0)):
            integer(name, value, least)
        self.every, self.shadow, self.on_sample = every, shadow, on_sample
        self.samples: list[Sample] = []
        self.findings: list[advice.Finding] = []
        self._filter = advice.FindingFilter()

    @property
    def advice(self) -> list[str]:
        """One line per finding: layer, share, remedy."""
        return [finding.text for finding in self.findings]

    def due(self, run: TrainingView, ahead: int = 0) -> bool:
        """Tell whether the next step of a run, or one after it, is one to look at.

        Args:
            run: whose `step_count` counts.
            ahead: 0 for the next step, n for the n-th after it.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> monitor = Monitor(every=10)
        >>> trainer = fe.Trainer(model, device="reference", monitor=monitor)
        >>> monitor.due(trainer.state), monitor.due(trainer.state, ahead=1)
        (True, False)
        """
        return (run.step_count + ahead) % self.every == 0

    @contextmanager
    def sample(self, run: TrainingView) -> Iterator[Callable[[str], bool]]:
        """Watch one step inside a `with` block.

        Args:
            run: whose step it is.

        Yields:
            What is to be called at the start of each phase ("backward", "update"); it returns whether the
            optimizer is to count its updates.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> monitor = Monitor(every=1)
        >>> trainer = fe.Trainer(model, device="reference")
        >>> with monitor.sample(trainer.state):
        ...     _ = trainer.predict(fe.data.digits().limit(2).normalised("test", "float16"))
        >>> len(monitor.samples)
        1
        """
        looking = SampledStep(run, self)
        with watch(run.model, looking.around) as state:
            looking.watch = state
            yield looking.phase
        found = looking.finish()
        found.findings = self._filter.findings(found, run)
        known = {(f.layer, f.kind, f.problem) for f in self.findings}
        self.findings += [f for f in found.findings if (f.layer, f.kind, f.problem) not in known]
        self.samples = [*self.samples[1 - KEPT :], found]
        if self.on_sample is not None:
            self.on_sample(found)


class SampledStep:
    """One sampled step while it runs."""

    def __init__(self, run: TrainingView, monitor: Monitor) -> None:
        self.watch: Watch | None = None
        self._run = run
        self._backend: Any = backends.unobserved(run.device)
        self._monitor = monitor
        self._turn = run.step_count // monitor.every
        self._calls = 0
        self._busy = False
        self._counts: dict[tuple[str, str], list[Any]] = {}
        self._shadows: list[tuple[tuple[str, str], Any, Any]] = []
        self._running: list[tuple[str, float, stagnation.Averages, stagnation.Averages, Any, Any]] = []
        self._constants: list[constants.Lost] = []
        self._meter: stagnation.Meter | None = None
        self._loss: tuple[Any, int] | None = None
        self._storage = run.precision.storage
        self._scale = run.loss_scale

    def phase(self, name: str) -> bool:
        assert self.watch is not None
        self.watch.phase = name
        if name == UPDATE:
            self._stored()
            names = [path for path, _ in self._run.parameters]
            self._meter = stagnation.Meter(self._run.optimizer, names, 1.0 / self._scale)
        return name == UPDATE

    def around(self, call: Call, backend_call: BackendCall) -> Any:
        if self._busy or not call.layer or call.phase == UPDATE or call.op in _MOVES:
            return backend_call.run()
        before = None
        named = backend_call.named_arguments()
        if call.op == "batch_norm_forward":
            before = self._averages(named)
        shadowed = self._wants_shadow(call, named)
        wide = self._widened(named) if shadowed else None
        result = backend_call.run()
        if before is not None:
            now = self._averages(named)
            self._running.append((call.layer, named["eps"], before, now, result[1], result[2]))
        if call.phase == FORWARD and self._storage == "float16":
            self._constants += constants.lost(call.layer, call.op, named, self._run.precision)
        if call.phase == FORWARD and call.op.startswith("cross_entropy"):
            self._loss = result, int(named["logits"].shape[-1])
        outputs = self._outputs(call, result)
        for kind, array in outputs:
            if kind != GRADIENTS:  # those are read whole, after they were added up
                self._count(call.layer, kind, array)
        if wide is not None:
            self._shadow(call, wide, outputs)
        return result

    def finish(self) -> Sample:
        run = self._run
        rows: dict[tuple[str, str], Row] = {}
        to_numpy = self._backend.to_numpy
        for key, arrays in self._counts.items():
            total = sum((to_numpy(counts).sum(axis=0) for counts in arrays), np.zeros(47, np.int64))
            rows[key] = Row(*key, Ranges.of_counts(total))
        strict = run.precision.accumulate == "float16"
        for key, shadow, own in self._shadows:
            row = rows.setdefault(key, Row(*key))
            wide = Ranges.of_counts(to_numpy(shadow)[0])
            # A binary16 sum of products that each underflow is 0 too, though its value is not.
            excess = Ranges.of_counts(to_numpy(own)[0]).zeros - wide.zeros if strict else 0
            row.shadowed += wide.values - wide.zeros
            row.underflowed += max(wide.under, excess)
        if self._meter is None:  # the step was not applied
            self._stored()
        return Sample(
            step=run.step_count + 1,
            applied=self._meter is not None,
            lr=float(run.optimizer.lr),
            loss_scale=self._scale,
            loss=None if self._loss is None else float(to_numpy(self._loss[0])),
            chance=None if self._loss is None else math.log(max(self._loss[1], 2)),
            rows=sorted(rows.values(), key=lambda row: KINDS.index(row.kind)),
            updates=[] if self._meter is None else self._meter.after(),
            running=[
                stagnation.running(
                    layer,
                    eps,
                    before,
                    now,
                    to_numpy(mean),
                    to_numpy(inv_std),
                )
                for layer, eps, before, now, mean, inv_std in self._running
            ],
            constants=self._constants,
        )

    def _averages(self, named: dict[str, Any]) -> stagnation.Averages:
        """Running mean and variance of a norm as they are before or after it."""
        rest = named.get("rest")
        arrays = named["running_mean"], named["running_var"], *(() if rest is None else (rest,))
        return stagnation.averages(*(np.array(self._backend.to_numpy(a)) for a in arrays))

    def _stored(self) -> None:
        """Count weights, their gradients and the optimizer's state, before the update."""
        if any(kind == WEIGHTS for _, kind in self._counts):
            return
        optimizer = self._run.optimizer
        groups: dict[tuple[str, str], list[Any]] = {}
        for i, (path, parameter) in enumerate(self._run.parameters):
            layer = path.rpartition(".")[0] or path
            groups.setdefault((layer, WEIGHTS), []).append(parameter.data)
            if parameter.grad is not None:
                groups.setdefault((layer, GRADIENTS), []).append(parameter.grad.data)
            for values in optimizer.state.values():
                if values[i] is not None:
                    groups.setdefault((layer, STATE), []).append(values[i])
        for key, arrays in groups.items():
            self._counts.setdefault(key, []).append(self._statistics(arrays))

    def _count(self, layer: str, kind: str, array: Any) -> None:
        self._counts.setdefault((layer, kind), []).append(self._statistics([array]))

    def _statistics(self, arrays: list[Any]) -> Any:
        self._busy = True
        try:
            return self._backend.range_statistics(arrays)
        finally:
            self._busy = False

    def _outputs(self, call: Call, result: Any) -> list[tuple[str, Any]]:
        parts = result if isinstance(result, tuple) else (result,)
        if call.phase == FORWARD:
            kinds: tuple[str | None, ...] = _FORWARD.get(call.op, (ACTIVATIONS,))
        elif call.phase == BACKWARD:
            kinds = _RESULTS.get(call.op, (BACKWARD_GRADIENTS,))
        else:
            return []
        pairs = zip(kinds, parts, strict=False)
        return [(kind, a) for kind, a in pairs if kind and a is not None and is_float(a.dtype)]

    def _wants_shadow(self, call: Call, named: dict[str, Any]) -> bool:
        if self._storage != "float16" or not self._monitor.shadow or call.op in _EXACT:
            return False
        if call.op in ("unary", "unary_backward") and named.get("op") in _EXACT_UNARY:
            return False
        self._calls += 1
        return (self._calls + self._turn) % self._monitor.shadow == 0

    def _widened(self, named: dict[str, Any]) -> dict[str, Any]:
        """The arguments with FP32 copies of their float arrays, also of those that are FP32 already."""
        self._busy = True
        try:
            other = {"acc": "float32", "updates": None}  # the count of updates is the step's own
            return {name: self._wide(value) for name, value in named.items()} | {
                name: value for name, value in other.items() if name in named
            }
        finally:
            self._busy = False

    def _wide(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(self._wide(item) for item in value)
        if any(True for _ in arrays_in(value)) and is_float(value.dtype):
            return self._backend.cast(value, "float32")
        return value

    def _shadow(self, call: Call, wide: dict[str, Any], outputs: list[tuple[str, Any]]) -> None:
        self._busy = True
        try:
            parts = getattr(self._backend, call.op)(**wide)
            references = self._outputs(call, parts)
            for (kind, own), (_, reference) in zip(outputs, references, strict=True):
                if str(own.dtype) != "float16":
                    continue
                counts = self._backend.range_statistics([reference])
                strict = self._run.precision.accumulate == "float16"
                mine = self._backend.range_statistics([own]) if strict else None
                self._shadows.append(((call.layer, kind), counts, mine))
        finally:
            self._busy = False
