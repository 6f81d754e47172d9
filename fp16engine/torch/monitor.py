"""The number-line monitor and the stagnation meter on any module of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ..numerics.advice import OVERFLOW, Finding, FindingFilter
from ..numerics.monitor import ACTIVATIONS, BACKWARD_GRADIENTS, EVERY, GRADIENTS, KEPT, SHADOW, Sample
from ..numerics.ranges import percent
from ..numerics.stagnation import Updates, merged
from ..reporting.tables import table_lines
from ..validate import instance, integer
from ..validate import path as checked_path
from .sampled import SampledStep
from .turns import Turns
from .updates import StepMeter, update_of

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass
class _Storage:
    storage: str


@dataclass
class _Update:
    update: str


@dataclass
class _Run:
    """What the findings ask of a run."""

    precision: _Storage
    optimizer: _Update
    base_lr: float


@dataclass
class _Taken:
    """What one optimizer did in a sampled step."""

    optimizer: torch.optim.Optimizer
    lr: float
    loss_scale: float
    updates: list[Updates]


@dataclass
class _Judge:
    """What is kept of an optimizer from sample to sample."""

    base_lr: float
    filter: FindingFilter = field(default_factory=FindingFilter)


class Monitor:
    """Looks at every so-many-th step of a PyTorch module in training, the first one included; see `watch`.

    Args:
        model: an eager module in training. A step is one of each optimizer that holds parameters of it.
        every: steps from one sample to the next, >= 1.
        shadow: 1 computes every layer with float16 weights of a sampled step in FP32 too, n every n-th,
            others in the next sample; 0 none.
        on_sample: called with each `fp16engine.numerics.Sample`; None calls nothing.

    Attributes:
        samples: the last 64 samples.
        findings: what went wrong so far, each layer and problem once, in the order of discovery.
        step: steps seen.

    Weights, gradients and everything else stay bit for bit what they are without a monitor. A sampled step
    takes longer and more memory; there is no hook on the model in the steps in between.

    Raises:
        ValueError: `every` or `shadow` is out of range.
        TypeError: an argument is of another type, or the module is compiled.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2)).half()
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with fet.watch(model, every=1) as monitor:
    ...     model(torch.full((1, 4), 60000.0).half()).sum().backward()
    ...     optimizer.step()
    >>> monitor.samples[0].row("0", "activations").ranges.values
    2
    """

    def __init__(
        self,
        model: torch.nn.Module,
        every: int = EVERY,
        shadow: int = SHADOW,
        on_sample: Callable[[Sample], None] | None = None,
    ) -> None:
        instance("model", model, torch.nn.Module, "a torch.nn.Module")
        if hasattr(model, "_orig_mod"):
            raise TypeError("model must be eager, got one of torch.compile; watch the module it was made of")
        self.every, self.shadow = integer("every", every, 1), integer("shadow", shadow, 0)
        self.on_sample = on_sample
        self.samples: list[Sample] = []
        self.findings: list[Finding] = []
        self.step = 0
        self._model = model
        self._names = {id(p): path for path, p in model.named_parameters()}
        self._filter = FindingFilter()
        self._judges: WeakKeyDictionary[torch.optim.Optimizer, _Judge] = WeakKeyDictionary()
        self._turns = Turns(model.parameters())
        self._looking: SampledStep | None = None
        self._meter: StepMeter | None = None
        self._taken: list[_Taken] = []
        self._handles = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]
        self._begin()

    def close(self) -> None:
        """Take every hook away; what was found stays.

        >>> import torch
        >>> model = torch.nn.Linear(2, 1)
        >>> Monitor(model).close()
        >>> len(model._forward_hooks)
        0
        """
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._end()
        if self._looking is not None:
            self._looking.detach()
            self._looking = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # One step

    def _begin(self) -> None:
        if self.step % self.every == 0:
            turn = self.step // self.every
            self._looking = SampledStep(self._model, self.shadow, turn, self._before_forward)

    def _is_ours(self, optimizer: torch.optim.Optimizer) -> bool:
        return any(id(p) in self._names for group in optimizer.param_groups for p in group["params"])

    def _before_forward(self) -> None:
        if self._turns.learning and self._meter is None:  # a step's closure runs the model, too
            self._end()

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if not self._is_ours(optimizer):
            return
        if optimizer in self._turns.stepped:
            self._end()
        if self._looking is not None:
            self._looking.stored(optimizer)
            self._meter = StepMeter(optimizer, self._names)

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if not self._is_ours(optimizer):
            return
        if self._meter is not None:
            lr = float(optimizer.param_groups[0]["lr"])
            self._taken.append(_Taken(optimizer, lr, self._meter.loss_scale, self._meter.finish()))
            self._meter = None
        if self._turns.took(optimizer):
            self._end()

    def _end(self) -> None:
        """End a step of the model in which an optimizer has stepped, and begin the next one."""
        if not self._turns.stepped:
            return
        if self._looking is not None:
            self._looking.stored_rest()
            self._finish(self._looking, self._taken)
            self._looking.detach()
            self._looking, self._taken = None, []
        self._turns.end()
        self.step += 1
        self._begin()

    def _finish(self, looking: SampledStep, taken: list[_Taken]) -> None:
        sample = Sample(
            step=self.step,
            applied=any(one.updates for one in taken),
            lr=taken[0].lr,
            loss_scale=taken[0].loss_scale,
            rows=looking.rows(),
            updates=merged(one.updates for one in taken),
            running=looking.running,
        )
        half = any(p.dtype == torch.float16 for p in self._model.parameters())
        storage = _Storage("float16" if half else "float32")
        # Lost updates are each optimizer's own: how it rounds, and where its learning rate comes from.
        common: Any = _Run(storage, _Update("nearest"), taken[0].lr)
        sample.findings = self._filter.findings(replace(sample, updates=[]), common)
        if all(finding.problem != OVERFLOW for finding in sample.findings):
            for one in taken:
                first_lr = float(one.optimizer.param_groups[0].get("initial_lr", one.lr))
                judge = self._judges.setdefault(one.optimizer, _Judge(first_lr))
                run: Any = _Run(storage, _Update(update_of(one.optimizer)), judge.base_lr)
                own = Sample(self.step, bool(one.updates), one.lr, one.loss_scale, updates=one.updates)
                sample.findings += judge.filter.findings(own, run)
        for f in sample.findings:
            if (f.layer, f.kind, f.problem) not in {(k.layer, k.kind, k.problem) for k in self.findings}:
                self.findings.append(f)
        self.samples = [*self.samples[1 - KEPT :], sample]
        if self.on_sample is not None:
            self.on_sample(sample)

    # What it shows

    def table(self) -> str:
        """Return the last sample as a text table, a layer per line, and the findings below it.

        >>> import torch
        >>> Monitor(torch.nn.Linear(2, 1)).table()
        'no step was looked at yet'
        """
        if not self.samples:
            return "no step was looked at yet"
        sample = self.samples[-1]
        lost = {row.layer: percent(row.share) for row in sample.updates if row.nonzero}
        layers = dict.fromkeys([row.layer for row in sample.rows if row.kind == ACTIVATIONS] + list(lost))
        kinds = "activations", "gradients passed back", "of weights"
        head = f"step {sample.step}", *kinds, "underflow to 0", "updates lost"
        lines = []
        for layer in layers:
            cells = [layer]
            for kind in (ACTIVATIONS, BACKWARD_GRADIENTS, GRADIENTS):
                row = sample.row(layer, kind)
                cells.append(row.ranges.in_words() if row is not None and row.ranges.values else "")
            back = sample.row(layer, BACKWARD_GRADIENTS)
            cells.append(percent(back.underflow) if back is not None and back.shadowed else "")
            lines.append([*cells, lost.get(layer, "")])
        texts = [f"step {finding.step}, {finding.text}" for finding in self.findings]
        return "\n".join([*table_lines(head, lines, 4, None), *(texts or ["no fault found"])])

    def report(self, path: str | Path) -> Path:
        """Write what was seen into a folder: metrics.jsonl, and report.html with a map of layers by steps.

        Args:
            path: of the folder, which is made where it is missing.

        Returns:
            The path of report.html; of metrics.jsonl where matplotlib or jinja2 (extra `report`) is missing
            or fewer than two steps were looked at.

        Raises:
            OSError: the folder cannot be written to.
            ValueError: `path` is no path.

        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Monitor(torch.nn.Linear(2, 1)).report(folder).name
        'metrics.jsonl'
        """
        from ..experiments.report import number_line
        from ..reporting.files import make_folder
        from ..reporting.metrics import FILE_NAME, MetricsWriter

        folder = checked_path("path", path)
        make_folder(folder)
        with MetricsWriter(folder) as writer:
            for sample in self.samples:
                writer.write({"kind": "ranges", "epoch": 0, **sample.to_dict()})
        heading = f"{type(self._model).__name__} in PyTorch {torch.__version__}"
        findings = [finding.to_dict() for finding in self.findings]
        name = number_line.page(folder, "fp16", heading, "fp16engine.torch.watch", findings)
        return folder / (name or FILE_NAME)


def watch(
    model: torch.nn.Module,
    every: int = EVERY,
    shadow: int = SHADOW,
    on_sample: Callable[[Sample], None] | None = None,
) -> Monitor:
    """Start to look at a module in training; `close`, or the end of a `with` block, stops.

    Args:
        model: as in `Monitor`.
        every: as in `Monitor`.
        shadow: as in `Monitor`.
        on_sample: as in `Monitor`.

    Raises:
        ValueError: as `Monitor`.
        TypeError: as `Monitor`.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> model = torch.nn.Linear(2, 1).half()
    >>> optimizer = fet.SGD(model.parameters(), lr=1e-9, update="nearest")
    >>> with fet.watch(model, every=1) as monitor:
    ...     for _ in range(3):
    ...         model(torch.ones(1, 2).half()).sum().backward()
    ...         optimizer.step()
    >>> monitor.samples[-1].updates[0].share
    1.0
    """
    return Monitor(model, every, shadow, on_sample)
