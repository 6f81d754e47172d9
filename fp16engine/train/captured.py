"""A training step recorded once and replayed: no host work in it, and the bits of the step taken one by one.

The first step runs operation by operation while its memory is traced; then the same step is recorded into an
arena of its own and replayed. What changes from step to step lies on the device, in a control block of a few
numbers (csrc/common/step_control.h) that the step's own kernels read and advance: the batch's place in the
epoch's order, dropout's counter, the loss scale and its counters, and the row of a table with the learning
rate and Adam's corrections. These are bookkeeping, as the host's counters are, and no tensors. Losses and
outcomes gather in an array that the host reads when it wants to know; it then keeps its own account with the
code of `Trainer.train_batch`, and compares it with the device's. See docs/captured-step.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .. import random
from ..errors import CaptureError
from ..numerics.ranges import EMPTY, Ranges
from ..tensor import Tensor
from . import operands
from .batches import Augmenting, ImageOrder
from .scaler import MEASURED_EVERY, SETTLING, TOP_EXPONENT, WINDOW

if TYPE_CHECKING:
    from ..backend.gpu.capture import Replayable
    from .trainer import StepResult, Trainer

Array = Any

# struct StepControl of csrc/common/step_control.h
CONTROL = np.dtype(
    [
        ("steps", "<i8"),
        ("applied", "<i8"),
        ("batch", "<i8"),
        ("dropout", "<i8"),
        ("loss_scale", "<f8"),
        ("clean_steps", "<i8"),
        ("stuck_steps", "<i8"),
        ("bad_streak", "<i8"),
        ("halted", "<i8"),
        ("settled", "<i8"),
        ("measured", "<i4"),
        ("tops", "<i4", (WINDOW,)),
        ("measuring", "<i4"),
        ("correct", "<i4"),
        ("culprit", "<i4"),
        ("origin", "<i4"),
    ],
    align=True,
)
SCALARS = 32  # bytes of struct StepScalars, StepScalars.pack of backend/base.py
RESULTS = 4  # loss, correct, culprit, origin
STRETCH = 256  # steps of `again` between two looks at their outcomes


def _structs(backend: Any, nbytes: int) -> Array:
    """Return zeroed bytes for C structs: made of their widest member, so aligned as they need."""
    return backend.zeros((nbytes // 8,), "int64").view(np.uint8)


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
            raise CaptureError(f"device {trainer.device!r} records no steps; 'cuda' does")
        self._trainer, self._backend, self.batch_size = trainer, backend, batch_size
        self._images, self._labels, self._augmenting = images, backend.from_numpy(labels), augmenting
        self.rows = len(labels) // batch_size if rows is None else rows
        self._control = _structs(backend, CONTROL.itemsize)
        self._order = backend.zeros((max(len(labels), self.rows * batch_size),), "int64")
        self._table = _structs(backend, self.rows * SCALARS)
        self._scalars = _structs(backend, SCALARS)
        self._never = _structs(backend, SCALARS)  # of a step that is not applied
        self._results = backend.zeros((self.rows, RESULTS), "int32")
        self._epoch = backend.zeros((), "int64")
        scaler = trainer.scaler
        automatic = scaler is not None and scaler.automatic
        # of every step whose gradients were measured for an automatic loss scale
        self._ranges = backend.zeros((self.rows, len(EMPTY.counts)), "int64") if automatic else None
        self.recording: Replayable | None = None
        self.reason: str | None = None
        self._key: tuple[Any, ...] | None = None
        self._held: list[tuple[Tensor, Array]] = []
        self._draws = self._forward_draws = 0
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
            samples = np.tile(np.arange(self.batch_size, dtype=np.int64), self.rows)
            self.begin(ImageOrder(0, samples), 0)
        self.replay()

    def begin(self, order: ImageOrder, step: int) -> None:
        """Lay out the steps from `step` of an epoch on, whose samples come in `order`."""
        if self._started != self._accounted:
            raise RuntimeError("begin: steps are under way whose outcomes nobody has asked for")
        trainer, backend = self._trainer, self._backend
        if not trainer.model.training:
            trainer.model.train()
        self._put_back()
        if self._key != self._places():
            self.recording = None  # arrays were replaced since, by a checkpoint for example, or a format
        self._started = self._accounted = 0
        backend.write(self._order, order.samples)
        backend.write(self._epoch, np.asarray(order.epoch, np.int64))
        backend.write(self._table, np.frombuffer(b"".join(self._rates()), np.uint8))
        control = np.zeros((), CONTROL)
        for name, value in self._account().items():
            control[name] = value
        control["batch"] = step
        backend.write(self._control, np.frombuffer(control.tobytes(), np.uint8))
        if self._ranges is not None:
            backend.write(self._ranges, np.zeros(self._ranges.shape, np.int64))

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

        The trainer's counters, loss scale and learning rate are those after the step that was yielded last.

        Raises:
            NonFiniteError: as `Trainer.train_batch`, at the same step; the steps behind it changed nothing.
        """
        trainer = self._trainer
        judged = trainer._judged()
        results = self._backend.to_numpy(self._results)
        ranges = None if self._ranges is None else self._backend.to_numpy(self._ranges)
        while self._accounted < self._started:
            loss, correct, culprit, origin = results[self._accounted]
            gradients = None if ranges is None else Ranges.of_counts(ranges[self._accounted])
            self._accounted += 1
            value = float(loss.view(np.float32))
            trainer.optimizer.lr = trainer.learning_rate()
            draws = self._draws if math.isfinite(value) else self._forward_draws
            trainer._random_state["dropout"] += draws
            name = judged[culprit - 1][0] if math.isfinite(value) and culprit else None
            try:
                result = trainer._settle(value, name, partial(self._origin, int(origin)), gradients)
            except Exception:
                self._started = self._accounted
                raise
            if result.applied:
                trainer.optimizer.step_count += 1
            yield result, int(correct)
        self._compare()

    # The step itself

    def _first(self) -> None:
        """Take a step while its memory is traced, then record the same step without taking it."""
        places = self._backend.traced(self._step)
        try:
            self.recording = self._backend.recorded(places, self._step)
        except (RuntimeError, ValueError, TypeError) as error:
            self.reason = str(error)
        self._key = self._places()
        self._held = [(tensor, tensor.data) for tensor in self._tensors()]

    def _step(self) -> None:
        trainer, backend, control = self._trainer, self._backend, self._control
        native = backend.native
        trainer.optimizer.zero_grad()
        places = backend.empty((self.batch_size,), "int64")
        native.batch_places(control, self._order, places)
        if self._augmenting is None:
            images = backend.gather(self._images, places)
        else:
            changes = self._augmenting
            images = backend.augment(self._images, places, changes.seed, self._epoch, *changes.arguments)
        labels = backend.gather(self._labels, places)
        buffers = [buffer.data for buffer in trainer._buffers]
        before = [backend.empty(buffer.shape, str(buffer.dtype)) for buffer in buffers]
        if buffers:  # all of them in one launch
            native.replace(before, buffers, self._never, False)
        with trainer.in_force.use(), self._counted_randomness():
            logits = trainer._logits(images)
            native.count_correct(logits.data, labels, control)
            loss = trainer._device_loss(logits, Tensor(labels, trainer.device))
            self._forward_draws = random.get_state()["dropout"]
            scale = backend.empty(loss.shape, loss.dtype)
            native.loss_seed(control, scale)
            loss.backward(Tensor(scale, trainer.device))
        value = loss.data
        grads = [p.grad.data for _, p in trainer._parameters if p.grad is not None]
        judged = [(rank, data) for rank, (_, data) in enumerate(trainer._judged(), 1) if data is not None]
        native.rank_nonfinite([a for _, a in judged], [rank for rank, _ in judged], value, False, control)
        native.rank_nonfinite(*self._origins(images), value, True, control)
        native.decide_step(control, value, *self._clipping(grads), self._table, self._scalars)
        trainer.optimizer.launch(self._scalars)
        if buffers:
            native.replace(buffers, before, self._scalars, False)
        kept = list(operands.kept_weights(trainer.model, trainer.precision))
        if kept:
            native.replace([weight.data for weight, _ in kept], [new for _, new in kept], self._scalars, True)
        if self._ranges is not None:
            native.measure_gradients(grads, control, self._ranges)
        native.advance_step(control, value, self._results, self._ranges, *self._policy())

    @contextmanager
    def _counted_randomness(self) -> Iterator[None]:
        """Dropout's offsets count from the control block's while the step runs or is recorded."""
        outer, backend = random.get_state(), self._backend
        begin = {**self._trainer._random_state, "dropout": 0}
        random.set_state(begin)
        backend.control = self._control
        try:
            yield
            end = random.get_state()
        finally:
            backend.control = None
            random.set_state(outer)
        self._draws = end["dropout"]
        drawn = {**end, "dropout": 0}
        if drawn != begin and backend.recording:
            raise CaptureError("the model draws random numbers on the host")
        self._trainer._random_state.update({**drawn, "dropout": self._trainer._random_state["dropout"]})

    def _clipping(self, grads: list[Array]) -> tuple[Array | None, float]:
        """The norm of the gradients, which stays on the device, and the largest one that a step uses."""
        most = self._trainer.settings.get("clip_norm")
        if most is None:
            return None, 1.0
        norm = self._backend.empty((2,), "float32")
        self._backend.native.global_norm(grads, norm)
        return norm, most

    def _origins(self, images: Array) -> tuple[list[Array], list[int]]:
        """What a non-finite loss may come from, first the most telling: the input, then each parameter."""
        arrays = [images, *(p.data for _, p in self._trainer._parameters)]
        return arrays, list(range(len(arrays), 0, -1))

    def _origin(self, rank: int) -> str:
        trainer = self._trainer
        if rank == 0:
            return "input and parameters are finite, so the forward pass overflowed"
        place = len(trainer._parameters) + 1 - rank
        if place == 0:
            return f"the input x holds nan, infinity or values beyond {trainer.precision.storage}"
        return f"the parameter {trainer._parameters[place - 1][0]!r} is not finite"

    def _policy(self) -> tuple[float | int | bool, ...]:
        """The arguments of `advance_step` that stay, struct StepPolicy of csrc/common/step_control.h."""
        trainer, scaler = self._trainer, self._trainer.scaler
        draws = self._draws, self._forward_draws
        if scaler is None:
            never = False, False, False, 0, 1, 0
            return 1.0, 1.0, 1.0, 1.0, 1, 1, trainer.max_bad_steps, *draws, *never
        return (
            scaler.growth,
            scaler.backoff,
            scaler.floor,
            scaler.cap,
            scaler.interval,
            scaler.patience,
            trainer.max_bad_steps,
            *draws,
            True,
            scaler.dynamic,
            scaler.automatic,
            SETTLING,
            MEASURED_EVERY,
            TOP_EXPONENT,
        )

    # The account

    def _rates(self) -> Iterator[bytes]:
        """The scalars of the optimizer's next steps, by how many were applied before."""
        trainer, optimizer = self._trainer, self._trainer.optimizer
        lr, count = optimizer.lr, optimizer.step_count
        try:
            for i in range(self.rows):
                optimizer.lr = trainer.learning_rate(trainer.applied_steps + i)
                optimizer.step_count = count + i + 1
                yield optimizer.scalars().pack()
        finally:
            optimizer.lr, optimizer.step_count = lr, count

    def _account(self) -> dict[str, Any]:
        """What the control block says while the host's account is the same."""
        trainer = self._trainer
        state = trainer.state_dict()
        scaler = state["scaler"] or {"scale": 1.0, "clean_steps": 0, "stuck_steps": 0, "applied": 0}
        tops = scaler.get("tops", [])
        return {
            "dropout": state["random"]["dropout"],
            "loss_scale": scaler["scale"],
            "clean_steps": scaler["clean_steps"],
            "stuck_steps": scaler["stuck_steps"],
            "bad_streak": state["bad_streak"],
            "settled": scaler["applied"],
            "measured": len(tops),
            "tops": [*tops, *[0] * (WINDOW - len(tops))],
            "measuring": trainer.scaler is not None and trainer.scaler.measuring,
        }

    def _compare(self) -> None:
        """The device has counted as the host has, or something is wrong that must not stay unseen."""
        found = np.frombuffer(self._backend.to_numpy(self._control).tobytes(), CONTROL)[0]
        for name, value in {"steps": self._accounted, **self._account()}.items():
            if np.any(found[name] != value):
                raise RuntimeError(
                    f"captured step: the device's {name} is {found[name]}, the host's {value}; "
                    "train with capture=False and please report this"
                )

    def _tensors(self) -> list[Tensor]:
        """What a step changes besides the optimizer's state: parameters, then running statistics."""
        return [parameter for _, parameter in self._trainer._parameters] + self._trainer._buffers

    def _put_back(self) -> None:
        """Give tensors that steps in between put elsewhere the arrays of the recording, with their values.

        A step that is not applied does so to running statistics, and block formats that are kept to weights.
        """
        moved = [(tensor, old) for tensor, old in self._held if tensor.data is not old]
        alike = [(t, old) for t, old in moved if t.shape == old.shape and t.dtype == str(old.dtype)]
        if alike:
            self._backend.native.replace(
                [old for _, old in alike], [t.data for t, _ in alike], self._never, False
            )
        for tensor, old in alike:
            tensor.data = old

    def _places(self) -> tuple[Any, ...]:
        """What a recording holds on to: where arrays lie, and what the host decides once."""
        trainer, address = self._trainer, self._backend.address
        arrays = [tensor.data for tensor in self._tensors()]
        arrays += trainer.optimizer._state_arrays().values()
        return (
            tuple((address(x), x.shape, str(x.dtype)) for x in arrays),
            tuple((module.training, module.operand) for _, module in trainer.model.named_modules()),
            {**trainer._random_state, "dropout": 0},
            trainer.in_force,
        )
