"""`Trainer`: one step, many steps, evaluation and prediction under one precision policy."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .. import functional as F
from .. import optim, random
from ..autograd import no_grad
from ..data.augment import Augmentation
from ..errors import NonFiniteError
from ..optim.optimizer import number
from ..precision import Precision
from ..tensor import Tensor
from . import batches, operands
from . import schedule as _schedules
from .scaler import LossScaler

if TYPE_CHECKING:
    from ..data import Dataset
    from ..data.encoded import EncodedText
    from ..nn import Module
    from ..numerics.explain import Explanation
    from ..numerics.monitor import Monitor
    from ..numerics.ranges import Ranges
    from .history import History
    from .progress import Reporter

Array = Any

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
# Settings that the optimizer does not take.
_NOT_THE_OPTIMIZERS = ("optimizer", "schedule", "warmup", "augment", "label_smoothing", "clip_norm")
ON_NONFINITE = ("skip", "stop", "explain")


@dataclass(frozen=True)
class StepResult:
    """What one training step did. `reason` says in words why a step was not applied, else None."""

    loss: float
    applied: bool
    reason: str | None = None


class Trainer:
    """Trains `model` with cross-entropy under one precision policy.

    The model is moved to `device` and rounded once to the policy's storage dtype. `optimizer` is "sgd",
    "adam", "adamw" or "rmsprop"; `momentum` and `nesterov` are sgd's; `eps` None is the optimizer's default
    for its state, `betas` adam's and adamw's, `state` the form of their and rmsprop's FP16 state ("native",
    "plain"). `update` takes the place of the policy's. `clip_norm` is the largest norm of all gradients
    together that a step uses. `schedule` ("constant", "cosine", "inverse-sqrt") counts applied steps; over
    the first `warmup` of them the rate rises to `lr`. `augment` ("study", "crop-flip", a `data.Augmentation`)
    changes the training images of `fit` at random, those of `step` and of evaluation never; nor is
    `label_smoothing` part of the evaluated loss. `seed` orders the data and drives dropout, augmentation and
    stochastic rounding. A step whose loss or gradient is not finite changes nothing (weights, optimizer
    state, running statistics); after `max_bad_steps` of them in a row NonFiniteError is raised. Under `mp`
    overflows first lower the loss scale; only overflows at its floor count. `on_nonfinite`: "skip" goes on
    after such a step, "stop" raises NonFiniteError at the first one, "explain" replays it before and says
    which operation of which layer it was. `monitor`: a `numerics.Monitor`, or every how many steps one is to
    look; it changes no bit. `capture`: `fit` records its step once and replays it, with the same bits
    (docs/captured-step.md); None: where the device is a GPU.

    Counters of the current run: step_count (attempted) = applied_steps + skipped_steps (loss scale too high)
    + nonfinite_steps (no loss scale would help).

    Raises ValueError or TypeError naming the argument, UnsupportedPrecision, BackendUnavailable.

    >>> import fp16engine as fe
    >>> digits = fe.data.digits().limit(32)
    >>> model = fe.models.create("dnn", image_size=8, channels=1)
    >>> trainer = fe.Trainer(model, precision="fp16", device="reference")
    >>> trainer.step(digits.normalised("train", "float16"), digits.train.labels).applied
    True
    """

    def __init__(
        self,
        model: Module,
        precision: str | Precision = "fp16",
        optimizer: str = "sgd",
        lr: float = 0.01,
        momentum: float = 0.9,
        device: str | None = None,
        seed: int = 0,
        *,
        eps: float | None = None,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        schedule: str = "constant",
        warmup: int = 0,
        betas: tuple[float, float] | None = None,
        augment: str | Augmentation | None = None,
        label_smoothing: float = 0.0,
        update: str | None = None,
        state: str = "native",
        clip_norm: float | None = None,
        max_bad_steps: int = 50,
        on_nonfinite: str = "skip",
        monitor: Monitor | int | None = None,
        capture: bool | None = None,
    ) -> None:
        self.precision = Precision.get(precision)
        if update is not None:
            self.precision = replace(self.precision, update=update)
        self.device = "cpu" if device is None else device
        self.precision.check(backends.get(self.device))
        self.capture = _capture(capture, self.device)
        self.seed = batches.count("seed", seed, 0)
        self.max_bad_steps = batches.count("max_bad_steps", max_bad_steps, 1)
        if on_nonfinite not in ON_NONFINITE:
            raise ValueError(
                f"on_nonfinite: {on_nonfinite!r} given, one of {', '.join(ON_NONFINITE)} is wanted"
            )
        self.on_nonfinite = on_nonfinite
        self.monitor = _monitor(monitor)
        if not (isinstance(lr, int | float | np.number) and math.isfinite(lr) and lr > 0):
            raise ValueError(f"lr: {lr} given, a finite number > 0 is wanted")
        self.base_lr = float(lr)
        self.settings = _optimizer_settings(
            optimizer, self.base_lr, momentum, eps, weight_decay, nesterov, state
        )
        if betas is not None:
            self.settings["betas"] = _betas(optimizer, betas)
        if clip_norm is not None:
            self.settings["clip_norm"] = number("clip_norm", clip_norm, open_end=True)
        self.settings["schedule"] = _schedules.check(schedule)
        warmup = batches.count("warmup", warmup, 0)
        if warmup or schedule == "inverse-sqrt":
            self.settings["warmup"] = _schedules.check_warmup(schedule, warmup)
        self.augment = Augmentation.get(augment)
        if self.augment is not None:
            self.settings["augment"] = self.augment.to_dict()
        if not (isinstance(label_smoothing, int | float) and 0 <= label_smoothing <= 1):
            raise ValueError(f"label_smoothing: {label_smoothing} given, a number in [0, 1] is wanted")
        if label_smoothing:
            self.settings["label_smoothing"] = float(label_smoothing)
        self._schedule: _schedules.Schedule | None = None
        with random.fork(self.seed):
            self._random_state = random.get_state()

        masters = None
        if self.precision.update == "master32":
            # taken before the model is rounded: FP32 masters start from the FP32 initial weights
            masters = [_host_values(parameter) for parameter in model.parameters()]
        self.model = model.to(self.device, self.precision)
        self.in_force = self.precision
        operands.assign(self.model, self.in_force)
        operands.keep_weights(self.model, self.precision)
        self._parameters = list(self.model.named_parameters())
        self._buffers = [buffer for _, buffer in self.model.named_buffers()]
        self.optimizer = _make_optimizer(self.settings, self.model, self.precision.update, masters, self.seed)
        scale = self.precision.loss_scale
        self.scaler = None if scale is None else LossScaler(scale, self.precision.storage, self.max_bad_steps)
        self.audit: Any = None
        self.reset_counters()

    def reset_counters(self) -> None:
        """Start the account of steps afresh; weights, optimizer state and loss scale stay."""
        self.step_count = self.applied_steps = self.skipped_steps = self.nonfinite_steps = 0
        self._bad_streak = 0

    def step(self, x: Any, y: Any) -> StepResult:
        """One training step on images x (N, H, W, C), floating point, and labels y (N,), integers.

        x is rounded once to the storage dtype; loss is the mean cross-entropy of the batch, rounded to it.
        Raises TypeError or ValueError naming x or y, and NonFiniteError after `max_bad_steps` bad steps in a
        row.
        """
        images = batches.device_images(x, self.device, self.precision.storage)
        return self.train_batch(images, batches.host_labels(y, images.shape[0]))[0]

    def train_batch(self, images: Array, labels: np.ndarray) -> tuple[StepResult, int]:
        """`step` on checked inputs: images on the device in the storage dtype, labels int64 on the host.

        Also returns how many labels the step's own logits (before its update) predict correctly.
        """
        backend = backends.get(self.device)
        if not self.model.training:
            self.model.train()
        self.optimizer.lr = self.learning_rate()
        self.optimizer.zero_grad()
        before = [(buffer, backend.copy(buffer.data)) for buffer in self._buffers]
        drawn = dict(self._random_state)
        scale = 1.0 if self.scaler is None else self.scaler.scale
        with self.in_force.use(), self._own_randomness(), self._watched() as phase:
            logits = self._logits(images)
            correct = _correct(logits, labels)
            loss = self._loss(logits, labels)
            value = float(loss.item())
            culprit = None
            if math.isfinite(value):
                phase("backward")
                loss.backward(Tensor(backend.full(loss.shape, scale, loss.dtype), self.device))
                culprit = self._nonfinite_gradient()
            applied = math.isfinite(value) and culprit is None
            if applied:
                self.optimizer.step(grad_scale=self._grad_scale(scale), count=phase("update"))
                operands.keep_weights(self.model, self.precision)
        if not applied:
            for buffer, data in before:
                buffer.data = data
        result = self._settle(
            value,
            culprit,
            lambda: self._why(images),
            explained=lambda: self._explained(images, labels, drawn, scale),
        )
        return result, correct

    def _settle(
        self,
        value: float,
        culprit: str | None,
        why: Callable[[], str],
        gradients: Ranges | None = None,
        explained: Callable[[], Explanation] | None = None,
    ) -> StepResult:
        """Account for a step by its loss and the parameter whose gradient was not finite, if any.

        why: where a loss that is not finite comes from, in words; gradients: their ranges, where they were
        measured in the step itself; explained: where the loss comes from by a replay, for
        `on_nonfinite="explain"`. The optimizer has its step behind it.
        """
        self.step_count += 1
        if math.isfinite(value) and culprit is None:
            self.applied_steps += 1
            self._bad_streak = 0
            if self.scaler is not None:
                if self.scaler.measuring:
                    self.scaler.observe(self._gradient_ranges() if gradients is None else gradients)
                self.scaler.update(True)
            return StepResult(value, True)
        if culprit is None:
            reason = f"the loss is {value}: {why()}"
            self._count_nonfinite(reason, explained)
        elif self.scaler is None:
            reason = f"the gradient of {culprit!r} is not finite"
            self._count_nonfinite(reason, explained)
        else:
            reason = f"the gradient of {culprit!r} is not finite at loss scale {self.scaler.scale:g}"
            self._count_skipped()
        return StepResult(value, False, reason)

    def fit(
        self,
        dataset: Dataset | EncodedText,
        epochs: int,
        batch_size: int,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: bool | Reporter | None = None,
        checkpoint_every: int | None = None,
        *,
        log_every: int = 50,
        tensorboard: bool = False,
        stop: Callable[[], str | None] | None = None,
        monitor_every: int | None = None,
    ) -> History:
        """Train for `epochs` passes over dataset.train, evaluating on dataset.test after each.

        Every call is a run of its own: counters, schedule and data order start afresh, weights and optimizer
        state stay. The last, smaller batch of an epoch is used. With `out`, metrics.jsonl (a row every
        `log_every` steps and every epoch), summary.json and a checkpoint (at the start, after every epoch,
        and every `checkpoint_every` steps) are written there; a directory that holds a run is refused unless
        `resume`, which goes on from its checkpoint and gives the same bits as a run that was never stopped.
        SIGINT and SIGTERM then finish the step, save and raise `train.Interrupted`. progress: None a bar or
        lines on standard error, False nothing, or a `train.progress.Reporter`. stop: asked after every step;
        what it returns, in words, stops the run as a signal does. monitor_every: let a `numerics.Monitor`
        look at every so many steps; what it sees goes into metrics.jsonl (kind "ranges").

        Raises ValueError naming the argument, CheckpointError (nothing to resume, or another run's
        checkpoint), NonFiniteError, and SaveError when the disk refuses (the previous checkpoint survives).
        """
        from . import loop

        return loop.fit(
            self,
            dataset,
            loop.Options(
                epochs=batches.count("epochs", epochs, 0),
                batch_size=batches.count("batch_size", batch_size, 1),
                out=out,
                resume=resume,
                progress=progress,
                checkpoint_every=(
                    None
                    if checkpoint_every is None
                    else batches.count("checkpoint_every", checkpoint_every, 1)
                ),
                log_every=batches.count("log_every", log_every, 1),
                tensorboard=tensorboard,
                stop=stop,
                monitor_every=(
                    None if monitor_every is None else batches.count("monitor_every", monitor_every, 1)
                ),
            ),
        )

    def evaluate(self, dataset: Dataset, batch_size: int = 256) -> tuple[float, float]:
        """(accuracy, mean cross-entropy) on dataset.test, with running statistics; accuracy in 0..1.

        Each batch's loss is rounded to the storage dtype; the mean over batches is float64 on the host.
        """
        batches.count("batch_size", batch_size, 1)
        batches.check_dataset(self.model, dataset)
        return self.score(
            batches.Resident.of(dataset, "test", self.precision.storage, self.device), batch_size
        )

    def score(
        self, data: batches.Labelled, batch_size: int, between: Callable[[], None] | None = None
    ) -> tuple[float, float]:
        """`evaluate` on data that are on the device already; `between` is called after every batch."""
        correct, loss = 0, 0.0
        with self._inference():
            for images, labels in data.in_order(batch_size):
                logits = self._logits(images)
                correct += _correct(logits, labels)
                loss += float(self._loss(logits, labels, training=False).item()) * batches.labelled(labels)
                if between is not None:
                    between()
        return correct / len(data), loss / len(data)

    def predict(self, images: Any, batch_size: int = 256) -> np.ndarray:
        """Class probabilities of images (N, H, W, C), floating point: float32 (N, classes) on the host.

        Images are rounded once to the storage dtype and the softmax rounds once to it.
        """
        batches.count("batch_size", batch_size, 1)
        array = batches.device_images(images, self.device, self.precision.storage)
        backend = backends.get(self.device)
        parts = []
        with self._inference():
            for start in range(0, array.shape[0], batch_size):
                index = np.arange(start, min(start + batch_size, array.shape[0]), dtype=np.int64)
                logits = self._logits(backend.gather(array, backend.from_numpy(index)))
                parts.append(F.softmax(logits).numpy().astype(np.float32))
        return np.concatenate(parts)

    def learning_rate(self, applied: int | None = None) -> float:
        """The learning rate of the next step, or of the one that comes after `applied` steps."""
        if self._schedule is None:
            self.set_total_steps(None)
        assert self._schedule is not None
        return self._schedule(self.applied_steps if applied is None else applied)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Put in force what the precision plans for `epoch` (from 0) of `epochs`; `fit` does so.

        Evaluation and prediction use the policy of the epoch begun last; before the first, that of the start.
        """
        planned = self.precision.at(epoch, epochs)
        if planned is not self.in_force:
            operands.assign(self.model, planned)
            self.in_force = planned

    def set_total_steps(self, total: int | None) -> None:
        """Lay the schedule out over `total` steps; `fit` does so. None is enough for "constant"."""
        self._schedule = _schedules.get(
            self.settings["schedule"], self.base_lr, total, self.settings.get("warmup", 0)
        )

    def state_dict(self) -> dict[str, Any]:
        """Counters, randomness and loss scale as JSON values; weights and optimizer state are apart."""
        return {
            "step_count": self.step_count,
            "applied_steps": self.applied_steps,
            "skipped_steps": self.skipped_steps,
            "nonfinite_steps": self.nonfinite_steps,
            "bad_streak": self._bad_streak,
            "random": dict(self._random_state),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; ValueError or KeyError for anything else."""
        counts = ("step_count", "applied_steps", "skipped_steps", "nonfinite_steps", "bad_streak")
        values = {key: batches.count(key, state[key], 0) for key in counts}
        if (state["scaler"] is None) != (self.scaler is None):
            raise ValueError("scaler: a loss scale belongs to policies that have one, and to no other")
        with random.fork(self.seed):
            random.set_state(state["random"])
            self._random_state = random.get_state()
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        self._bad_streak = values.pop("bad_streak")
        for key, value in values.items():
            setattr(self, key, value)

    # What another task than image classification overrides: how batches are made, read and judged

    def feed(self, dataset: Any, batch_size: int) -> Any:
        """The batches that `fit` trains on and evaluates on; see `batches.ImageFeed`."""
        return batches.ImageFeed.of(self, dataset, batch_size)

    def _loss(self, logits: Tensor, labels: np.ndarray, training: bool = True) -> Tensor:
        return self._device_loss(
            logits, Tensor(backends.get(self.device).from_numpy(labels), self.device), training
        )

    def _device_loss(self, logits: Tensor, labels: Tensor, training: bool = True) -> Tensor:
        smoothing = self.settings.get("label_smoothing", 0.0) if training else 0.0
        return F.cross_entropy(logits, labels, batches.IGNORED, smoothing)

    def _is_finite(self, images: Array) -> bool:
        return bool(backends.get(self.device).all_finite([images]))

    def _logits(self, images: Array) -> Tensor:
        logits: Tensor = self.model(Tensor(images, self.device))
        if logits.ndim != 2 or logits.shape[0] != images.shape[0]:
            raise ValueError(
                f"model: output of shape {logits.shape} for images of shape {tuple(images.shape)}, "
                f"({images.shape[0]}, classes) is wanted"
            )
        return logits

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            with no_grad(), self.in_force.use():
                yield
        finally:
            self.model.train(training)

    @contextlib.contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Dropout draws from the trainer's counter, so trainers side by side do not disturb one another."""
        outer = random.get_state()
        random.set_state(self._random_state)
        try:
            yield
        finally:
            self._random_state = random.get_state()
            random.set_state(outer)

    def _grad_scale(self, scale: float) -> float:
        """The factor on the gradients: 1 / loss scale, and what brings their common norm down to clip_norm.

        It acts in the optimizer's registers, so that clipped gradients are not rounded once more.
        """
        most = self.settings.get("clip_norm")
        if most is None:
            return 1.0 / scale
        backend = backends.get(self.device)
        power, root = backend.global_norm([p.grad.data for _, p in self._parameters if p.grad is not None])
        norm = power * root / scale
        return (most / norm if norm > most else 1.0) / scale

    def _nonfinite_gradient(self) -> str | None:
        """The parameter whose gradient is the first in the backward pass not to be finite, or None."""
        backend = backends.get(self.device)
        named = [(name, p.grad.data) for name, p in self._parameters if p.grad is not None]
        if not named or backend.all_finite([grad for _, grad in named]):
            return None
        # the backward pass meets the parameters in reverse order
        return next(name for name, grad in reversed(named) if not backend.all_finite([grad]))

    def _gradient_ranges(self) -> Ranges:
        """Where the gradients of all parameters, as they are stored, lie on binary16's number line."""
        from ..numerics.ranges import Ranges

        backend = backends.get(self.device)
        grads = [p.grad.data for _, p in self._parameters if p.grad is not None]
        return Ranges.of_counts(backend.to_numpy(backend.range_statistics(grads)).sum(axis=0))

    def _why(self, images: Array) -> str:
        """Where a non-finite loss comes from, as far as input and weights tell."""
        backend = backends.get(self.device)
        if not self._is_finite(images):
            return f"the input x holds nan, infinity or values beyond {self.precision.storage}"
        for name, parameter in self._parameters:
            if not backend.all_finite([parameter.data]):
                return f"the parameter {name!r} is not finite"
        return "input and parameters are finite, so the forward pass overflowed"

    def _count_skipped(self) -> None:
        assert self.scaler is not None
        self.skipped_steps += 1
        self.scaler.update(False)
        if self.scaler.diagnosis is not None:
            raise NonFiniteError(self.scaler.diagnosis)

    def _watched(self) -> contextlib.AbstractContextManager[Callable[[str], bool]]:
        """What surrounds a step: the monitor where it is its turn, nothing otherwise."""
        if self.monitor is not None and self.monitor.due(self):
            return self.monitor.sample(self)
        return contextlib.nullcontext(_unwatched)

    def _explained(
        self, images: Array, labels: np.ndarray, drawn: dict[str, Any], scale: float
    ) -> Explanation:
        from ..numerics.explain import explain

        return explain(self, images, labels, drawn, scale)

    def _count_nonfinite(self, reason: str, explained: Callable[[], Explanation] | None) -> None:
        self.nonfinite_steps += 1
        self._bad_streak += 1
        if self.on_nonfinite == "stop":
            raise NonFiniteError(f"step {self.step_count} was not applied because {reason}")
        if self.on_nonfinite == "explain" and explained is not None:
            explanation = explained()
            error = NonFiniteError(f"{explanation.text}\n({reason})")
            error.explanation = explanation.to_dict()
            raise error
        if self._bad_streak >= self.max_bad_steps:
            raise NonFiniteError(
                f"{self._bad_streak} steps in a row were not applied, the last one (step {self.step_count}) "
                f"because {reason}; lower the learning rate, check the input, or try precision 'mp' or 'fp32'"
            )


def _unwatched(phase: str) -> bool:
    """Where nobody looks, a phase begins unnoticed and nothing is counted."""
    return False


def _monitor(given: Monitor | int | None) -> Monitor | None:
    if given is None:
        return None
    from ..numerics.monitor import Monitor

    if isinstance(given, Monitor):
        return given
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"monitor: {given!r} given, a numerics.Monitor or a number of steps is wanted")
    return Monitor(every=given)


def _capture(wanted: bool | None, device: str) -> bool:
    if wanted is not None and not isinstance(wanted, bool):
        raise TypeError(f"capture: {wanted!r} given, True, False or None is wanted")
    able = hasattr(backends.get(device), "recorded")
    if wanted and not able:
        raise ValueError(f"capture: True given, device {device!r} records no steps; 'cuda' does")
    return device.partition(":")[0] == "cuda" if wanted is None else wanted


def _correct(logits: Tensor, labels: np.ndarray) -> int:
    return int(np.count_nonzero(logits.numpy().argmax(axis=1) == labels))


def _optimizer_settings(
    name: str,
    lr: float,
    momentum: float,
    eps: float | None,
    weight_decay: float,
    nesterov: bool,
    state: str,
) -> dict[str, Any]:
    """The optimizer's name and arguments; ValueError for one that the named optimizer does not have."""
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: {name!r} given, one of {', '.join(OPTIMIZERS)} is wanted")
    settings: dict[str, Any] = {"optimizer": name, "lr": lr, "weight_decay": float(weight_decay)}
    if name == "sgd":
        if eps is not None:
            raise ValueError(f"eps: {eps} given, sgd divides by nothing and has no eps")
        if state != "native":
            raise ValueError(f"state: {state!r} given, only adam, adamw and rmsprop have more than one form")
        return {**settings, "momentum": float(momentum), "nesterov": bool(nesterov)}
    if nesterov:
        raise ValueError(f"nesterov: True given, {name} has no Nesterov momentum; use sgd")
    return {**settings, "eps": None if eps is None else float(eps), "state": state}


def _betas(optimizer: str, betas: tuple[float, float]) -> list[float]:
    if optimizer not in ("adam", "adamw"):
        raise ValueError(f"betas: {betas} given, {optimizer} has none, adam and adamw have")
    first, second = betas
    return [float(first), float(second)]


def _host_values(parameter: Tensor) -> np.ndarray:
    # a model not yet moved lives in NumPy arrays, whether or not the "cpu" backend is there
    host = parameter.data if isinstance(parameter.data, np.ndarray) else parameter.numpy()
    return np.array(host, np.float32)


def _make_optimizer(
    settings: dict[str, Any], model: Module, update: str, masters: list[np.ndarray] | None, seed: int
) -> optim.Optimizer:
    arguments = {key: value for key, value in settings.items() if key not in _NOT_THE_OPTIMIZERS}
    classes: dict[str, Any] = {
        "sgd": optim.SGD,
        "adam": optim.Adam,
        "adamw": optim.AdamW,
        "rmsprop": optim.RMSprop,
    }
    made: optim.Optimizer = classes[settings["optimizer"]](
        model.parameters(), update=update, master_values=masters, seed=seed, **arguments
    )
    return made
