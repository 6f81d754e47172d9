"""The state of training: everything that a step reads and changes, and that a checkpoint brings back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import backend as backends
from .. import optim, random
from ..distributed.parallel import OneProcess, Parallel
from ..floats import is_float
from ..nn import Module
from ..numerics.ranges import Ranges
from ..optim.muon import hidden_matrices
from ..precision import Precision
from ..tensor import Tensor
from ..validate import instance, integer
from . import layer_formats
from . import schedule as schedules
from .config import TrainConfig
from .counters import StepCounters
from .functions import is_ours, optimizer_of
from .lookahead import Lookahead
from .refinements import Refinements
from .scaler import LossScaler

Array = Any


class TrainState:
    """Model, optimizer, loss scale, counters and randomness of a run, and the policy they are under.

    Args:
        model: a `Module`; it is moved to `device` and rounded once to the policy's storage dtype.
        precision: the policy.
        config: how the network is trained.
        device: "cpu", "cuda", "cuda:1" or "reference".
        seed: of dropout and rounding, an integer >= 0.
        patience: overflows in a row at the lowest loss scale that are one too many, >= 1.

    Attributes:
        in_force: what `precision` plans for the epoch begun last.
        parameters: (path, tensor) pairs of what is trained, in the optimizer's order: those with
            `requires_grad` when the state is made.
        frozen: the paths of the other parameters.
        weights: (path, tensor) pairs of all parameters, those that are trained first.
        buffers: (path, tensor) pairs of the model's state that is not trained.
        random: where dropout and stochastic rounding of operands continue; see `random.get_state`.
        counters: of the current run.
        lookahead: the slow average of weights and running statistics, or None.
        audit: what its steps ran in, as `Audit.to_dict` says it, or None.
        parallel: the processes that take its steps together.

    Raises:
        ValueError: an argument is out of range.
        UnsupportedPrecision: the device cannot honour the precision.

    >>> import fp16engine as fe
    >>> model = fe.models.create("dnn", image_size=8, channels=1)
    >>> fe.Trainer(model).state.step_count
    0
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
        named = list(model.named_parameters())
        self.parameters = [(name, parameter) for name, parameter in named if parameter.requires_grad]
        self.frozen = [name for name, parameter in named if not parameter.requires_grad]
        if not self.parameters:
            raise ValueError("model must have a parameter with requires_grad=True to train, got none")
        masters = None
        if precision.update == "master32":
            # taken before the model is rounded: FP32 masters start from the FP32 initial weights
            masters = [_host_values(parameter) for _, parameter in self.parameters]
        self.model = model.to(device, precision)
        layer_formats.assign(self.model, precision)
        layer_formats.requantize_weights(self.model, precision)
        self.buffers = list(self.model.named_buffers())
        self.optimizer = self._make_optimizer(masters)
        self._base_lr = self.optimizer.lr
        names = {id(parameter): name for name, parameter in self.parameters}
        self.parameters = [(names[id(parameter)], parameter) for parameter in self.optimizer.params]
        self.weights = [*self.parameters, *(pair for pair in named if pair[0] in self.frozen)]
        refinements = config.refinements or Refinements()
        refinements.check(name for name, _ in named)
        self.optimizer.lr_factors = [refinements.factor(name) for name, _ in self.parameters]
        every = refinements.lookahead
        self.lookahead = Lookahead(self, every) if every else None
        scale = precision.loss_scale
        self.scaler = None if scale is None else LossScaler(scale, precision.storage, patience)
        with random.fork(seed):
            self.random = random.get_state()
        self.counters = StepCounters()
        self.audit: dict[str, Any] | None = None
        self.parallel: Parallel = OneProcess()
        self._schedule: schedules.Schedule | None = None
        self._total_steps: int | None = None

    def _make_optimizer(self, masters: list[np.ndarray] | None) -> optim.Optimizer:
        tensors: list[Tensor] = [parameter for _, parameter in self.parameters]
        make, update = self.config.optimizer, self.precision.update
        if not isinstance(make, str):
            return optimizer_of(make, tensors, update, masters)
        arguments = self.config.optimizer_arguments()
        if make == "muon":
            arguments["matrices"] = hidden_matrices([p.shape for p in tensors])
        return optim.BY_NAME[make](tensors, update=update, master_values=masters, seed=self.seed, **arguments)

    def record(self) -> dict[str, Any]:
        """Return what tells this training from another, as JSON values: the `training` of a checkpoint.

        In addition to `TrainConfig.to_dict`: class and numbers of an optimizer of one's own, and which
        parameters are frozen.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> fe.Trainer(model, optimizer=lambda p: fe.optim.Adam(p, lr=0.5)).state.record()["lr"]
        0.5
        """
        kept = self.config.to_dict()
        if not isinstance(self.config.optimizer, str):
            numbers = {name: getattr(self.optimizer, name) for name in self.optimizer.hyper if name != "lr"}
            kept |= {"lr": self._base_lr, "made": {"class": type(self.optimizer).__name__, **numbers}}
        return {**kept, "frozen": list(self.frozen)} if self.frozen else kept

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
        return self._base_lr

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Put in force what the precision plans for an epoch.

        Args:
            epoch: the epoch, from 0.
            epochs: of the run.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> state = fe.Trainer(model, "booster").state
        >>> state.begin_epoch(1, 2)
        >>> state.in_force.name
        'booster in hbfp6'
        """
        planned = self.precision.at(epoch, epochs)
        if planned is not self.in_force:
            layer_formats.assign(self.model, planned)
            self.in_force = planned
        refinements = self.config.refinements
        if refinements is not None and refinements.trained_epochs:
            for name, parameter in self.parameters:
                parameter.requires_grad = refinements.trains(name, epoch)

    def learning_rate(self, applied: int | None = None) -> float:
        """Return the learning rate of the next step, or of a later one.

        Args:
            applied: steps applied before it; None means as many as were.

        Raises:
            ValueError: the schedule needs the number of steps, see `set_total_steps`.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> state = fe.Trainer(model, lr=0.5).state
        >>> state.learning_rate()
        0.5
        """
        if self._schedule is None:
            self.set_total_steps(None)
        assert self._schedule is not None
        return self._schedule(self.counters.applied_steps if applied is None else applied)

    def set_total_steps(self, total: int | None) -> None:
        """Lay the schedule out over a number of steps.

        Args:
            total: applied steps of the run; None is enough for "constant" and "inverse-sqrt" without
                lookahead.

        Raises:
            ValueError: the schedule needs the number, or it is out of range.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> state = fe.Trainer(model, lr=0.5, schedule="cosine").state
        >>> state.set_total_steps(100)
        >>> state.learning_rate(50)
        0.25
        """
        if total is not None:
            integer("total", total, 1)
        elif self.lookahead is not None:
            raise ValueError("total must be given with lookahead, got None; train with fit()")
        self._total_steps = total
        self._schedule = schedules.get(self.config.schedule, self.base_lr, total, self.config.warmup)

    def begin_run(self) -> None:
        """Begin to count steps, and to average weights, afresh.

        >>> import fp16engine as fe
        >>> state = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1)).state
        >>> state.begin_run()
        >>> state.step_count
        0
        """
        self.counters = StepCounters()
        if self.lookahead is not None:
            self.lookahead.restart()

    def update(self, grad_scale: float, count: bool = False) -> None:
        """Update weights and optimizer state from finite gradients, and what follows them.

        Args:
            grad_scale: factor on the gradients, as in `Optimizer.step`.
            count: as in `Optimizer.step`.

        Raises:
            ValueError: grad_scale is out of range.

        >>> import fp16engine as fe
        >>> state = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1)).state
        >>> state.update(grad_scale=1.0)
        >>> state.optimizer.step_count
        1
        """
        with self.in_force.use():
            self.optimizer.step(grad_scale=grad_scale, count=count)
        if self.lookahead is not None and self._total_steps is not None:
            self.lookahead.after_step(self.counters.applied_steps + 1, self._total_steps)
        layer_formats.requantize_weights(self.model, self.precision)

    def end_run(self) -> None:
        """End training: with lookahead, at the slow average.

        >>> import fp16engine as fe
        >>> state = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1)).state
        >>> state.end_run()
        """
        if self.lookahead is not None:
            self.lookahead.pull(1.0)
            layer_formats.requantize_weights(self.model, self.precision)

    @property
    def host_reason(self) -> str | None:
        """Why a step needs the host, so that none can be recorded, in words; None where it does not.

        >>> import fp16engine as fe
        >>> fe.Trainer(fe.models.create("dnn", image_size=8, channels=1)).state.host_reason is None
        True
        """
        if self.parallel.size > 1:
            return "ranks exchange gradients through the host"
        if self.lookahead is not None:
            return "lookahead averages the weights"
        if self.config.accumulate > 1:
            return "a step takes several micro-batches"
        if callable(self.config.loss):
            return "the loss is a function, which a recording would call once"
        if not is_ours(self.optimizer):
            return f"{type(self.optimizer).__name__} is an optimizer of its own"
        if self.config.refinements is not None and self.config.refinements.trained_epochs:
            return "some parameters are trained in the first epochs only"
        return self.optimizer.host_reason

    @contextmanager
    def randomness(self) -> Iterator[None]:
        """Draw from this state's counters inside a `with` block, so that trainers do not disturb each other.

        >>> import fp16engine as fe
        >>> state = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1)).state
        >>> with state.randomness():
        ...     _ = fe.random.dropout_counter(8)
        >>> state.random["dropout"]
        2
        """
        with random.using(self.random):
            try:
                yield
            finally:
                self.random = random.get_state()

    def gradients(self) -> list[Array]:
        """Return the gradients there are, in the order of the parameters.

        Returns:
            The device's arrays in the shape and dtype of their parameters.

        >>> import fp16engine as fe
        >>> state = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1)).state
        >>> state.gradients()
        []
        """
        return [parameter.grad.data for _, parameter in self.parameters if parameter.grad is not None]

    def checked(self) -> list[tuple[str, Array | None]]:
        """Return what must be finite after a backward pass, in words, the first to become infinite last.

        Running statistics are made before any gradient; the backward pass meets parameters in reverse order.

        Returns:
            (words, array) pairs, in the shape and dtype of each tensor; None for a gradient that is not
            there.

        >>> import fp16engine as fe
        >>> state = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1)).state
        >>> state.checked()[-1][1] is None
        True
        """
        gradients = [(f"the gradient of {name!r}", p.grad) for name, p in self.parameters]
        averages = [
            (f"the buffer {name!r}", buffer)
            for name, buffer in reversed(self.buffers)
            if is_float(buffer.dtype)  # no counter
        ]
        return [(words, None if t is None else t.data) for words, t in (*gradients, *averages)]

    def first_nonfinite(self) -> str | None:
        """Return the gradient or running statistic that was the first not to be finite, in words, or None.

        >>> import fp16engine as fe
        >>> state = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1)).state
        >>> state.first_nonfinite() is None
        True
        """
        backend = backends.get(self.device)
        checked = [(words, data) for words, data in self.checked() if data is not None]
        if not checked or backend.all_finite([data for _, data in checked]):
            return None
        return next(words for words, data in reversed(checked) if not backend.all_finite([data]))

    def gradient_ranges(self) -> Ranges:
        """Return where all gradients, as they are stored, lie on binary16's number line.

        >>> import fp16engine as fe
        >>> digits = fe.data.digits().limit(32)
        >>> trainer = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1))
        >>> _ = trainer.step(digits.normalised("train", "float16"), digits.train.labels)
        >>> trainer.state.gradient_ranges().finite
        True
        """
        backend = backends.get(self.device)
        return Ranges.of_counts(backend.to_numpy(backend.range_statistics(self.gradients())).sum(axis=0))

    def state_dict(self) -> dict[str, Any]:
        """Return counters, randomness and loss scale as JSON values; weights and optimizer state are apart.

        >>> import fp16engine as fe
        >>> state = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1)).state
        >>> state.state_dict()["scaler"] is None
        True
        """
        return {
            **self.counters.to_dict(),
            "random": dict(self.random),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Args:
            state: what `state_dict` returned for a state of the same kind of policy.

        Raises:
            ValueError: a value is out of range, or there is a loss scale where none belongs.
            TypeError: a value is of the wrong kind.
            KeyError: an entry is missing.

        >>> import fp16engine as fe
        >>> state = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1)).state
        >>> state.load_state_dict({**state.state_dict(), "step_count": 3, "applied_steps": 3})
        >>> state.step_count
        3
        """
        instance("state", state, dict, "what state_dict returned")
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
        """Bring everything that a step changes back after a `with` block.

        Weights, buffers, optimizer state, randomness, counters and schedule are copied to the host and back,
        bit for bit.

        >>> import fp16engine as fe
        >>> digits = fe.data.digits().limit(32)
        >>> trainer = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1))
        >>> with trainer.state.preserved():
        ...     _ = trainer.step(digits.normalised("train", "float16"), digits.train.labels)
        >>> trainer.step_count
        0
        """
        weights, slots, rest = self.model.state_dict(), self.optimizer.state_dict(), self.state_dict()
        schedule, training = (self._schedule, self._total_steps), self.model.training
        slow = None if self.lookahead is None else self.lookahead.state_dict()
        try:
            yield
        finally:
            self.optimizer.zero_grad()
            self.model.load_state_dict(weights)
            self.optimizer.load_state_dict(slots)
            self.load_state_dict(rest)
            self._schedule, self._total_steps = schedule
            if self.lookahead is not None and slow is not None:
                self.lookahead.load_state_dict(slow)
            self.model.train(training)


def _host_values(parameter: Tensor) -> np.ndarray:
    """A parameter's values, float32 on the host."""
    # a model not yet moved lives in NumPy arrays, whether or not the "cpu" backend is there
    host = parameter.data if isinstance(parameter.data, np.ndarray) else parameter.numpy()
    return np.array(host, np.float32)
