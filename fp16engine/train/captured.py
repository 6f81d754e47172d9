"""A training step recorded once and replayed: no host work in it, and the bits of the step taken one by one.

The first step runs operation by operation while its memory is traced; then the same step is recorded into an
arena of its own and replayed. What changes from step to step lies on the device, in the control block of
control_block.py. Losses and outcomes gather in an array that the host reads when it wants to know; it then
keeps its own account with the code of `take_step`, and compares it with the device's. See
docs/captured-step.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from ..errors import CaptureError
from ..numerics.ranges import Ranges
from ..tensor import Tensor
from ..validate import must_be
from .batches import Augmenting, ImageOrder
from .control_block import ControlBlock
from .counters import StepResult
from .device_control import DeviceControl
from .outcome import settle
from .step import run_step

if TYPE_CHECKING:
    from ..backend.gpu.arena import Plan
    from ..backend.gpu.capture import Replayable
    from .trainer import Trainer

Array = Any

STRETCH = 256  # steps of `again` between two looks at their outcomes


class CapturedStep:
    """The training step of `trainer` on full batches of resident images, recorded at its first run.

    images: (N, H, W, C) on the device in the storage dtype; labels: int64 (N,) on the host; augmenting: what
    the images go through. `begin` says where in an epoch the next step is, `replay` starts one, `outcomes`
    waits for all that were started and accounts for them. Between `outcomes` and `begin` the trainer may take
    steps of its own. rows: the most steps between two `begin`, by default the full batches of the images.

    Attributes:
        recording: what `replay` runs, None before the first step.
        reason: why the step could not be recorded, else None.

    Raises:
        CaptureError: the device records no steps.
    """

    def __init__(
        self,
        trainer: Trainer,
        images: Array,
        labels: np.ndarray,
        batch_size: int,
        augmenting: Augmenting | None = None,
        rows: int | None = None,
    ) -> None:
        backend: Any = backends.get(trainer.device)
        if not backend.capabilities.captured_steps:
            raise CaptureError(
                f"device must be one that records steps, such as 'cuda', got {trainer.device!r}"
            )
        self._state, self._objective, self._rule = trainer.state, trainer.objective, trainer.nonfinite
        self._backend, self.batch_size = backend, batch_size
        self._images, self._labels, self._augmenting = images, backend.from_numpy(labels), augmenting
        self.rows = len(labels) // batch_size if rows is None else rows
        self._block = ControlBlock(self._state, self._rule, self.rows)
        self._order = backend.zeros((max(len(labels), self.rows * batch_size),), "int64")
        self._epoch = backend.zeros((), "int64")
        self.recording: Replayable | None = None
        self.reason: str | None = None
        self._key: tuple[Any, ...] | None = None
        self._held: list[tuple[Tensor, Array]] = []
        self._started = self._accounted = 0

    @property
    def kernels(self) -> int:
        """Kernels, copies and memsets of one replay; 0 before the first step."""
        return 0 if self.recording is None else self.recording.kernels

    @property
    def arena_bytes(self) -> int:
        """Memory that the recorded step has to itself."""
        return 0 if self.recording is None else self.recording.arena_bytes

    @classmethod
    def on_batch(cls, trainer: Trainer, images: Array, labels: np.ndarray) -> CapturedStep:
        """The step on one batch, over and over by `again`: for measurements."""
        return cls(trainer, images, labels, len(labels), rows=STRETCH)

    def again(self) -> None:
        """Start a step on the batch of `on_batch`; every `STRETCH` steps their outcomes are waited for."""
        if self._started in (0, self.rows):
            if self._started:
                for _ in self.outcomes():
                    pass
            self.begin_again()
        self.replay()

    def begin_again(self) -> None:
        """Lay out a stretch of steps on the batch of `on_batch`."""
        samples = np.tile(np.arange(self.batch_size, dtype=np.int64), self.rows)
        self.begin(ImageOrder(0, samples), 0)

    def traced(self) -> Plan:
        """Take the step operation by operation, and return where its arrays would lie in a recording."""
        plan: Plan = self._backend.traced(self._step)
        return plan

    def begin(self, order: ImageOrder, step: int) -> None:
        """Lay out the steps from `step` of an epoch on, whose samples come in `order`."""
        if self._started != self._accounted:
            raise RuntimeError("begin: steps are under way whose outcomes nobody has asked for")
        model, backend = self._state.model, self._backend
        if not model.training:
            model.train()
        self._put_back()
        model.lay_out()
        if self._key != self._frozen():
            self.recording = None  # arrays were replaced since, by a checkpoint for example, or a format
        self._started = self._accounted = 0
        backend.write(self._order, order.samples)
        backend.write(self._epoch, np.asarray(order.epoch, np.int64))
        self._block.begin(step)

    def replay(self) -> None:
        """Start the next step; where the device can, without waiting for it."""
        if self._started >= self.rows:
            raise RuntimeError("replay: the epoch has no further full batch, begin() starts another")
        if self.recording is not None:
            self.recording.replay()
        else:
            self._first()
        self._started += 1

    def wait(self) -> None:
        """Until every step that was started is done."""
        self._backend.synchronize()

    def outcomes(self) -> Iterator[tuple[StepResult, int]]:
        """Yield (result, correct labels) of every step started since the last call, in order.

        Counters, loss scale and learning rate are those after the step that was yielded last.

        Raises:
            NonFiniteError: as `Trainer.train_batch`, at the same step; the steps behind it changed nothing.
        """
        state, block = self._state, self._block
        checked = state.checked()
        results, ranges = block.read()
        while self._accounted < self._started:
            loss, correct, culprit, origin = results[self._accounted]
            counts = () if ranges is None else ranges[self._accounted]
            self._accounted += 1
            value = float(loss.view(np.float32))
            state.optimizer.lr = state.learning_rate()
            draws = block.draws if math.isfinite(value) else block.forward_draws
            state.random = {**state.random, "dropout": state.random["dropout"] + draws}
            name = checked[culprit - 1][0] if math.isfinite(value) and culprit else None
            why = partial(block.origin_in_words, int(origin))
            try:
                result = settle(state, self._rule, value, name, why, partial(Ranges.of_counts, counts))
            except Exception:
                self._started = self._accounted
                raise
            if result.applied:
                state.optimizer.step_count += 1
            yield result, int(correct)
        block.compare(self._accounted)

    def _first(self) -> None:
        """Take a step while its memory is traced, then record the same step without taking it."""
        plan = self.traced()
        try:
            self.recording = self._backend.recorded(plan, self._step)
        except (RuntimeError, ValueError, TypeError) as error:
            self.reason = str(error)
        self._key = self._frozen()
        self._held = [(tensor, tensor.data) for tensor in self._tensors()]

    def _step(self) -> None:
        state, backend = self._state, self._backend
        indices = backend.empty((self.batch_size,), "int64")
        backend.native.batch_indices(self._block.control, self._order, indices)
        if self._augmenting is None:
            images = backend.gather(self._images, indices)
        else:
            changes = self._augmenting
            images = backend.augment(self._images, indices, changes.seed, self._epoch, *changes.arguments)
        labels = backend.gather(self._labels, indices)
        control = DeviceControl(state, self._block, labels)
        run_step(state, self._objective, control, [(images, Tensor(labels, state.device))])

    def _tensors(self) -> list[Tensor]:
        """What a step changes in addition to the optimizer's state: parameters, then running statistics."""
        return [tensor for _, tensor in (*self._state.parameters, *self._state.buffers)]

    def _put_back(self) -> None:
        """Give tensors that steps in between put elsewhere the arrays of the recording, with their values.

        A step that is not applied does so to running statistics, and block formats that are kept to weights.
        """
        moved = [(tensor, old) for tensor, old in self._held if tensor.data is not old]
        same = [(t, old) for t, old in moved if t.shape == old.shape and t.dtype == str(old.dtype)]
        if same:
            self._block.put_back([old for _, old in same], [t.data for t, _ in same])
        for tensor, old in same:
            tensor.data = old

    def _frozen(self) -> tuple[Any, ...]:
        """What a recording holds on to: where arrays lie, and what the host decides once."""
        state, address = self._state, self._backend.address
        arrays = [tensor.data for tensor in self._tensors()]
        arrays += state.optimizer.state_arrays().values()
        return (
            tuple((address(x), x.shape, str(x.dtype)) for x in arrays),
            tuple((module.training, module.operand) for _, module in state.model.named_modules()),
            tuple(parameter.requires_grad for _, parameter in state.parameters),
            {**state.random, "dropout": 0},
            state.in_force,
        )


def wants_capture(capture: bool | None, device: str) -> bool:
    """Whether steps are recorded: by default on a GPU; ValueError for a device that cannot."""
    if capture is not None and not isinstance(capture, bool):
        raise TypeError(must_be("capture", "True, False or None", capture))
    if capture and not backends.get(device).capabilities.captured_steps:
        raise ValueError(f"capture must be False on {device!r}, which records no steps, got True")
    return device.partition(":")[0] == "cuda" if capture is None else capture
