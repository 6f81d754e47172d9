"""The state of training: everything that a step reads and changes, and that a checkpoint brings back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import backend as backends
from .. import optim, random
from ..nn import Module
from ..numerics.ranges import Ranges
from ..precision import Precision
from ..tensor import Tensor
from . import layer_formats
from . import schedule as schedules
from .config import TrainConfig
from .counters import StepCounters
from .scaler import LossScaler

Array = Any


class TrainState:
    """Model, optimizer, loss scale, counters and randomness of a run, and the policy they are under.

    The model is moved to `device` and rounded once to the storage dtype of `precision`. patience: overflows
    in a row at the lowest loss scale that are one too many.

    Attributes:
        in_force: what `precision` plans for the epoch begun last.
        parameters, buffers: (path, tensor) pairs of the model.
        random: where dropout and stochastic rounding of operands continue; see `random.get_state`.
        counters: of the current run.
        audit: what its steps ran in, as `Audit.to_dict` says it, or None.
    """

    def __init__(
        self,
        model: Module,
        precision: Precision,
        config: TrainConfig,
        device: str,
        seed: int,
        patience: int,
    ) -> None:
        self.precision = self.in_force = precision
        self.config, self.device, self.seed = config, device, seed
        masters = None
        if precision.update == "master32":
            # taken before the model is rounded: FP32 masters start from the FP32 initial weights
            masters = [_host_values(parameter) for parameter in model.parameters()]
        self.model = model.to(device, precision)
        layer_formats.assign(self.model, precision)
        layer_formats.requantize_weights(self.model, precision)
        self.parameters = list(self.model.named_parameters())
        self.buffers = list(self.model.named_buffers())
        self.optimizer: optim.Optimizer = optim.BY_NAME[config.optimizer](
            self.model.parameters(),
            update=precision.update,
            master_values=masters,
            seed=seed,
            **config.optimizer_arguments(),
        )
        scale = precision.loss_scale
        self.scaler = None if scale is None else LossScaler(scale, precision.storage, patience)
        with random.fork(seed):
            self.random = random.get_state()
        self.counters = StepCounters()
        self.audit: dict[str, Any] | None = None
        self._schedule: schedules.Schedule | None = None

    @property
    def step_count(self) -> int:
        """Attempted steps of the current run."""
        return self.counters.step_count

    @property
    def loss_scale(self) -> float:
        """The factor on the loss of the next step, 1 without loss scaling."""
        return 1.0 if self.scaler is None else self.scaler.scale

    @property
    def base_lr(self) -> float:
        """The learning rate that the schedule starts from."""
        return self.config.lr

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Put in force what the precision plans for `epoch` (from 0) of `epochs`."""
        planned = self.precision.at(epoch, epochs)
        if planned is not self.in_force:
            layer_formats.assign(self.model, planned)
            self.in_force = planned

    def learning_rate(self, applied: int | None = None) -> float:
        """The learning rate of the next step, or of the one that comes after `applied` steps."""
        if self._schedule is None:
            self.set_total_steps(None)
        assert self._schedule is not None
        return self._schedule(self.counters.applied_steps if applied is None else applied)

    def set_total_steps(self, total: int | None) -> None:
        """Lay the schedule out over `total` steps; None is enough for "constant"."""
        self._schedule = schedules.get(self.config.schedule, self.base_lr, total, self.config.warmup)

    @contextmanager
    def randomness(self) -> Iterator[None]:
        """Draw from this state's counters, so that trainers next to one another do not disturb each other."""
        with random.using(self.random):
            try:
                yield
            finally:
                self.random = random.get_state()

    def gradients(self) -> list[Array]:
        """The gradients there are, in the order of the parameters."""
        return [parameter.grad.data for _, parameter in self.parameters if parameter.grad is not None]

    def checked(self) -> list[tuple[str, Array | None]]:
        """What must be finite after a backward pass, in words, the first to become infinite last.

        Running statistics are made before any gradient; the backward pass meets parameters in reverse order.
        """
        gradients = [(f"the gradient of {name!r}", p.grad) for name, p in self.parameters]
        averages = [
            (f"the buffer {name!r}", buffer)
            for name, buffer in reversed(self.buffers)
            if buffer.dtype.startswith("float")  # no counter
        ]
        return [(words, None if t is None else t.data) for words, t in (*gradients, *averages)]

    def first_nonfinite(self) -> str | None:
        """The gradient or running statistic that was the first not to be finite, in words, or None."""
        backend = backends.get(self.device)
        checked = [(words, data) for words, data in self.checked() if data is not None]
        if not checked or backend.all_finite([data for _, data in checked]):
            return None
        return next(words for words, data in reversed(checked) if not backend.all_finite([data]))

    def gradient_ranges(self) -> Ranges:
        """Where all gradients, as they are stored, lie on binary16's number line."""
        backend = backends.get(self.device)
        return Ranges.of_counts(backend.to_numpy(backend.range_statistics(self.gradients())).sum(axis=0))

    def state_dict(self) -> dict[str, Any]:
        """Counters, randomness and loss scale as JSON values; weights and optimizer state are apart."""
        return {
            **self.counters.to_dict(),
            "random": dict(self.random),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; ValueError or KeyError for anything else."""
        counters = StepCounters.from_dict(state)
        if (state["scaler"] is None) != (self.scaler is None):
            raise ValueError(
                "scaler must be in the state of a policy with a loss scale only, got "
                + ("none" if state["scaler"] is None else "one")
            )
        with random.using(state["random"]):
            drawn = random.get_state()
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.counters, self.random = counters, drawn

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Bring weights, buffers, optimizer state, randomness, counters and schedule back after the block.

        They are copied to the host and back, bit for bit.
        """
        weights, slots, rest = self.model.state_dict(), self.optimizer.state_dict(), self.state_dict()
        schedule, training = self._schedule, self.model.training
        try:
            yield
        finally:
            self.optimizer.zero_grad()
            self.model.load_state_dict(weights)
            self.optimizer.load_state_dict(slots)
            self.load_state_dict(rest)
            self._schedule = schedule
            self.model.train(training)


def _host_values(parameter: Tensor) -> np.ndarray:
    """A parameter's values, float32 on the host."""
    # a model not yet moved lives in NumPy arrays, whether or not the "cpu" backend is there
    host = parameter.data if isinstance(parameter.data, np.ndarray) else parameter.numpy()
    return np.array(host, np.float32)
