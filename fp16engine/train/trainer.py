"""`Trainer`: training, evaluation and prediction under one precision policy."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .. import random
from ..data.augment import Augmentation
from ..precision import Precision
from ..validate import number
from . import batches, operands, settings
from . import schedule as _schedules
from .account import StepResult
from .scaler import LossScaler
from .scoring import Scoring
from .step import Stepping

if TYPE_CHECKING:
    from ..data import Dataset
    from ..data.encoded import EncodedText
    from ..nn import Module
    from ..numerics.monitor import Monitor
    from ..reporting.history import History
    from ..reporting.progress import Reporter

__all__ = ["StepResult", "Trainer"]


class Trainer(Stepping, Scoring):
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
        statistics: str | None = None,
        clip_norm: float | None = None,
        max_bad_steps: int = 50,
        on_nonfinite: str = "skip",
        monitor: Monitor | int | None = None,
        capture: bool | None = None,
    ) -> None:
        self.precision = Precision.get(precision)
        if update is not None:
            self.precision = self.precision.changed(update=update)
        if statistics is not None:
            self.precision = self.precision.changed(statistics_form=statistics)
        self.device = "cpu" if device is None else device
        self.precision.check(backends.get(self.device))
        self.capture = settings.capture(capture, self.device)
        self.seed = batches.count("seed", seed, 0)
        self.max_bad_steps = batches.count("max_bad_steps", max_bad_steps, 1)
        if on_nonfinite not in settings.ON_NONFINITE:
            raise ValueError(
                f"on_nonfinite: {on_nonfinite!r} given, one of {', '.join(settings.ON_NONFINITE)} is wanted"
            )
        self.on_nonfinite = on_nonfinite
        self.monitor = settings.monitor(monitor)
        if not (isinstance(lr, int | float | np.number) and math.isfinite(lr) and lr > 0):
            raise ValueError(f"lr: {lr} given, a finite number > 0 is wanted")
        self.base_lr = float(lr)
        self.settings = settings.of_optimizer(
            optimizer, self.base_lr, momentum, eps, weight_decay, nesterov, state
        )
        if betas is not None:
            self.settings["betas"] = settings.betas(optimizer, betas)
        if clip_norm is not None:
            self.settings["clip_norm"] = number("clip_norm", clip_norm, above=0)
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
            masters = [settings.host_values(parameter) for parameter in model.parameters()]
        self.model = model.to(self.device, self.precision)
        self.in_force = self.precision
        operands.assign(self.model, self.in_force)
        operands.keep_weights(self.model, self.precision)
        self._parameters = list(self.model.named_parameters())
        self._buffers = [buffer for _, buffer in self.model.named_buffers()]
        self._averages = [(n, b) for n, b in self.model.named_buffers() if b.dtype.startswith("float")]
        self.optimizer = settings.make_optimizer(
            self.settings, self.model, self.precision.update, masters, self.seed
        )
        scale = self.precision.loss_scale
        self.scaler = None if scale is None else LossScaler(scale, self.precision.storage, self.max_bad_steps)
        self.audit: Any = None
        self.reset_counters()

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

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Put in force what the precision plans for `epoch` (from 0) of `epochs`; `fit` does so.

        Evaluation and prediction use the policy of the epoch begun last; before the first, that of the start.
        """
        planned = self.precision.at(epoch, epochs)
        if planned is not self.in_force:
            operands.assign(self.model, planned)
            self.in_force = planned
