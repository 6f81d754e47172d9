"""`Trainer`: training, evaluation and prediction under one precision policy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from ..data.augment import Augmentation
from ..numerics.monitor import Monitor
from ..precision import Precision
from ..validate import integer, must_be
from . import batches
from .captured import wants_capture
from .config import TrainConfig
from .counters import NonfiniteRule, StepResult
from .evaluator import BATCH as EVALUATION_BATCH
from .evaluator import Evaluator
from .objective import Objective
from .state import TrainState
from .step import take_step

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..data import Dataset
    from ..data.encoded import EncodedText
    from ..nn import Module
    from ..reporting.history import History
    from ..reporting.progress import Reporter


class Trainer:
    """Trains `model` with cross-entropy under one precision policy.

    The model is moved to `device` and rounded once to the policy's storage dtype. `optimizer` is "sgd",
    "adam", "adamw" or "rmsprop"; `momentum` and `nesterov` are sgd's; `eps` None is the optimizer's default
    for its state, `betas` adam's and adamw's, `state` the form of their and rmsprop's FP16 state ("native",
    "plain"). `update` takes the place of the policy's, `statistics` ("native", "plain") that of its form of
    FP16 running statistics. `clip_norm` is the largest norm of all gradients together that a step uses,
    summed in FP32 under every policy. `weight_decay` is for parameters without an L2 factor of their own;
    `fit` says how many have one. `schedule` ("constant", "cosine", "inverse-sqrt") counts applied steps; over
    the first `warmup` of them the rate rises to `lr`. `augment` ("study", "crop-flip", a `data.Augmentation`)
    changes the training images of `fit` at random, those of `step` and of evaluation never; nor is
    `label_smoothing` part of the evaluated loss. `seed` orders the data and drives dropout, augmentation and
    stochastic rounding. A step whose loss or gradient is not finite changes nothing (weights, optimizer
    state, running statistics); after `max_bad_steps` of them in a row NonFiniteError is raised. Under `mp`
    overflows first lower the loss scale; only overflows at its floor count. `on_nonfinite`: "skip" continues
    after such a step, "stop" raises NonFiniteError at the first one, "explain" replays it before and says
    which operation of which layer it was. `monitor`: a `numerics.Monitor`, or every how many steps one is to
    look; it changes no bit. `capture`: `fit` records its step once and replays it, with the same bits
    (docs/captured-step.md); None: where the device is a GPU.

    Counters of the current run: step_count (attempted) = applied_steps + skipped_steps (loss scale too high)
    + nonfinite_steps (no loss scale would help). `state` is everything that a step reads and changes,
    `config` the arguments that decide the bits of a run.

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
        momentum: float | None = 0.9,
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
        statistics: str | None = None,
        clip_norm: float | None = None,
        max_bad_steps: int = 50,
        on_nonfinite: str = "skip",
        monitor: Monitor | int | None = None,
        capture: bool | None = None,
    ) -> None:
        config = TrainConfig(
            optimizer=optimizer,
            lr=lr,
            momentum=momentum,
            eps=eps,
            weight_decay=weight_decay,
            nesterov=nesterov,
            state=state,
            betas=betas,
            clip_norm=clip_norm,
            schedule=schedule,
            warmup=warmup,
            augment=Augmentation.get(augment),
            label_smoothing=label_smoothing,
            update=update,
            statistics=statistics,
        )
        policy = config.policy(precision)
        device = "cpu" if device is None else device
        policy.check(backends.get(device))
        self.capture = wants_capture(capture, device)
        self.nonfinite = NonfiniteRule(on_nonfinite, max_bad_steps)
        self.monitor = _monitor(monitor)
        seed = integer("seed", seed, 0)
        self.state = TrainState(model, policy, config.without_policy(), device, seed, max_bad_steps)
        self.model, self.optimizer, self.scaler = self.state.model, self.state.optimizer, self.state.scaler
        self.precision, self.device, self.seed = policy, device, seed
        self.objective = self.make_objective(self.state)
        self.evaluator = Evaluator(self.state, self.objective)

    @classmethod
    def of(
        cls,
        model: Module,
        precision: str | Precision,
        config: TrainConfig,
        device: str | None = None,
        seed: int = 0,
        **options: Any,
    ) -> Self:
        """The trainer that a config describes; options: arguments that are no part of it."""
        return cls(model, precision, device=device, seed=seed, **config.arguments(), **options)

    def make_objective(self, state: TrainState) -> Objective:
        """What the network is trained for; another kind of trainer has another one."""
        return Objective(state.config.label_smoothing)

    @property
    def config(self) -> TrainConfig:
        """How the network is trained; `precision` has the policy."""
        return self.state.config

    @property
    def overrides_step(self) -> bool:
        """Whether a subclass has a `train_batch` of its own, which a captured step would never call."""
        return type(self).train_batch is not Trainer.train_batch

    @property
    def in_force(self) -> Precision:
        """What `precision` plans for the epoch begun last."""
        return self.state.in_force

    @property
    def step_count(self) -> int:
        """Attempted steps of the current run."""
        return self.state.counters.step_count

    @property
    def applied_steps(self) -> int:
        """Steps that updated the weights."""
        return self.state.counters.applied_steps

    @property
    def skipped_steps(self) -> int:
        """Steps whose loss scale was too high."""
        return self.state.counters.skipped_steps

    @property
    def nonfinite_steps(self) -> int:
        """Steps that no loss scale would have helped."""
        return self.state.counters.nonfinite_steps

    def step(self, x: Any, y: Any) -> StepResult:
        """One training step on images x (N, H, W, C), floating point, and labels y (N,), integers.

        x is rounded once to the storage dtype; loss is the mean cross-entropy of the batch, rounded to it.
        Raises TypeError or ValueError naming x or y, and NonFiniteError after `max_bad_steps` bad steps in a
        row.
        """
        images = batches.device_images(x, self.device, self.precision.storage)
        return self.train_batch(images, batches.host_labels(y, images.shape[0]))[0]

    def train_batch(self, inputs: Any, labels: np.ndarray) -> tuple[StepResult, int]:
        """`step` on checked inputs: images on the device in the storage dtype, labels int64 on the host.

        Also returns how many labels the step's own logits (before its update) predict correctly.
        """
        return take_step(self.state, self.objective, inputs, labels, self.nonfinite, self.monitor)

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
        `resume`, which continues from its checkpoint and gives the same bits as a run that was never stopped.
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
                epochs=integer("epochs", epochs, 0),
                batch_size=integer("batch_size", batch_size, 1),
                out=out,
                resume=resume,
                progress=progress,
                checkpoint_every=(
                    None if checkpoint_every is None else integer("checkpoint_every", checkpoint_every, 1)
                ),
                log_every=integer("log_every", log_every, 1),
                tensorboard=tensorboard,
                stop=stop,
                monitor_every=(None if monitor_every is None else integer("monitor_every", monitor_every, 1)),
            ),
        )

    def evaluate(self, dataset: Dataset, batch_size: int = EVALUATION_BATCH) -> tuple[float, float]:
        """(accuracy, mean cross-entropy) on dataset.test, with running statistics; accuracy in 0..1.

        An output that is not finite is a wrong answer; where none is finite the accuracy is nan. Each batch's
        loss is rounded to the storage dtype; the mean over batches is float64 on the host.
        """
        integer("batch_size", batch_size, 1)
        batches.check_dataset(self.model, dataset)
        data = batches.DeviceSplit.of(dataset, "test", self.precision.storage, self.device)
        return self.evaluator.score(data, batch_size)

    def predict(self, images: Any, batch_size: int = EVALUATION_BATCH) -> np.ndarray:
        """Class probabilities of images (N, H, W, C), floating point: float32 (N, classes) on the host.

        Images are rounded once to the storage dtype and the softmax rounds once to it.
        """
        return self.evaluator.predict(images, integer("batch_size", batch_size, 1))

    def feed(self, dataset: Any, batch_size: int) -> Any:
        """The batches that `fit` trains on and evaluates on."""
        return self.objective.feed(self.state, dataset, batch_size)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Put in force what the precision plans for `epoch` (from 0) of `epochs`; `fit` does so.

        Evaluation and prediction use the policy of the epoch begun last; before the first, that of the start.
        """
        self.state.begin_epoch(epoch, epochs)

    def set_total_steps(self, total: int | None) -> None:
        """Lay the schedule out over `total` steps; `fit` does so. None is enough for "constant"."""
        self.state.set_total_steps(total)

    def state_dict(self) -> dict[str, Any]:
        """Counters, randomness and loss scale as JSON values; weights and optimizer state are apart."""
        return self.state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; ValueError or KeyError for anything else."""
        self.state.load_state_dict(state)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Try steps inside a `with` block and leave no trace: the trainer's bits after are those before.

        Nobody monitors, and a step that is not finite is skipped.
        """
        kept = self.monitor, self.nonfinite
        self.monitor, self.nonfinite = None, NonfiniteRule("skip", sys.maxsize)
        try:
            with self.state.preserved():
                yield
        finally:
            self.monitor, self.nonfinite = kept


def _monitor(given: Monitor | int | None) -> Monitor | None:
    """The monitor that was given, or one that looks every so many steps; TypeError for anything else."""
    if given is None or isinstance(given, Monitor):
        return given
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(must_be("monitor", "a numerics.Monitor or a number of steps", given))
    return Monitor(every=given)
