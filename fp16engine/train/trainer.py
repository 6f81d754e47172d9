"""`Trainer`: training, evaluation and prediction under one precision policy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from ..data.augment import Augmentation
from ..distributed.data_parallel import data_parallel
from ..nn import Module
from ..numerics.monitor import Monitor
from ..optim import Optimizer
from ..precision import Precision
from ..reporting.files import make_folder
from ..reporting.history import EpochSums, History
from ..reporting.loggers import names_of
from ..validate import flag, instance, integer, listed, must_be, path
from . import batches, checkpoint
from .callbacks import Callback
from .captured import wants_capture
from .checkpoint import RunState
from .config import TrainConfig
from .counters import NonfiniteRule, StepResult
from .evaluator import BATCH as EVALUATION_BATCH
from .evaluator import Evaluator
from .functions import Factor, Loss, MakeOptimizer
from .objective import Objective
from .ranks import join, own_images
from .refinements import Refinements
from .state import TrainState
from .step import take_step

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..data import Dataset
    from ..reporting.progress import Reporter


class Trainer:
    """Trains a network under one precision policy, with cross-entropy or a loss of one's own.

    Args:
        model: a `Module` from (N, H, W, C) to logits (N, classes). It is moved to `device` and rounded once
            to the policy's storage dtype. Parameters with `requires_grad=False` are not trained, not decayed
            and not in the optimizer's state.
        precision: the name of a preset, or a `Precision`.
        optimizer: "sgd", "adam", "adamw", "rmsprop" or "muon"; or an `optim.Optimizer` of the model's
            parameters with the precision's `update`, that has taken no step, or a function of the list of
            parameters that returns one. Its rate, momentum and the like, and the seed of its rounding, are
            its own then, and these arguments are not given. The model's rounding comes before its state.
        lr: learning rate, finite, > 0.
        momentum: of sgd and muon, in [0, 1); None means 0.9.
        device: "cpu", "cuda", "cuda:1" or "reference"; None means "cpu".
        seed: orders the data and drives dropout, augmentation and stochastic rounding.
        eps: of adam, adamw and rmsprop; None is the optimizer's default for its state.
        weight_decay: L2 factor >= 0 of parameters without one of their own; `fit` says how many have one.
        nesterov: of sgd; muon's momentum is always Nesterov's.
        schedule: "constant", "cosine", "linear", "triangle" or "inverse-sqrt"; or a function of (applied
            steps, all steps of the run) that returns the factor >= 0 on the rate. It counts applied steps.
        warmup: applied steps over which the rate rises to `lr`.
        betas: of adam and adamw; None is the optimizer's default.
        augment: "study", "crop-flip", "airbench", a `data.Augmentation` or None: changes the training images
            of `fit` at random, those of `step` and of evaluation never.
        label_smoothing: in [0, 1]; no part of the evaluated loss.
        update: replaces the policy's; None keeps that.
        state: the form of FP16 state of adam, adamw and rmsprop, "native" or "plain".
        statistics: "native" or "plain" replaces the policy's form of FP16 running statistics; None
            keeps that.
        convolution: "direct" or "winograd" takes the place of the policy's algorithm; None keeps that. A
            GPU takes direct sums.
        clip_norm: the largest norm of all gradients together that a step uses, summed in FP32 under every
            policy; None clips nothing.
        refinements: a `train.Refinements`, its fields by name, or None: rates of single parameters, freezing,
            lookahead, test-time views, and what muon takes.
        loss: "cross_entropy", or a function of (logits, labels), labels a tensor (N,), int64, that returns a
            tensor of one value, the mean over the batch; evaluation uses it, too.
        accumulate: micro-batches of a step: `fit` takes `accumulate` batches for one update, `step` cuts its
            batch into so many. Their gradients are added in FP32 in their order, and the mean is rounded once
            to the gradient's own dtype. Norms take their statistics from each micro-batch; running statistics
            become the mean of what each makes of them.
        callbacks: `train.Callback` objects that `fit` tells what happens.
        max_bad_steps: steps in a row that may be not finite.
        on_nonfinite: "skip" continues after a step that is not finite, "stop" raises at the first one,
            "explain" replays it before and says which operation of which layer it was.
        monitor: a `numerics.Monitor`, or every how many steps one is to look; it changes no bit.
        distributed: several processes train one network, each with a share of every step's micro-batches, of
            which there are `accumulate` times their number; started by `mpiexec -n P`. All call the same
            methods with the same arguments. A process alone trains as without (docs/scale-data-parallel.md).
        sync_norm: batch norms take the statistics of all processes' micro-batches together, FP32 sums rounded
            once, in place of each one's own.
        reduce: how the processes' gradients become their mean: "one-rounding", with the bits of one process
            that accumulates the same micro-batches; "ring-fp16" or "fp32", see `distributed.all_reduce`.
        capture: `fit` records its step once and replays it, with the same bits (docs/captured-step.md); None:
            where the device is a GPU.

    Functions are stored in a checkpoint by their qualified name, which is all that resuming compares; of an
    optimizer of one's own, also its class and numbers. A function of the loss, several micro-batches and an
    optimizer class of one's own keep a GPU from capturing the step; a schedule does not, and is asked for the
    rates of later steps ahead of them.

    A step whose loss or gradient is not finite changes nothing (weights, optimizer state, running
    statistics). Under `mp` overflows first lower the loss scale; only overflows at its floor count.
    step_count (attempted) = applied_steps + skipped_steps (loss scale too high) + nonfinite_steps (no loss
    scale would help), of the current run.

    Raises:
        ValueError: an argument is out of range, or the optimizer has no such argument.
        TypeError: an argument is of the wrong kind.
        UnsupportedPrecision: the device cannot honour the precision.
        BackendUnavailable: the device is not there.

    Source:
        Keras (what `fit` and `evaluate` do).

    >>> import fp16engine as fe
    >>> digits = fe.data.digits().limit(32)
    >>> model = fe.models.create("dnn", image_size=8, channels=1)
    >>> trainer = fe.Trainer(model, precision="fp16")
    >>> trainer.step(digits.normalised("train", "float16"), digits.train.labels).applied
    True
    """

    def __init__(
        self,
        model: Module,
        precision: str | Precision = "fp16",
        optimizer: str | Optimizer | MakeOptimizer = "sgd",
        lr: float = 0.01,
        momentum: float | None = 0.9,
        device: str | None = None,
        seed: int = 0,
        *,
        eps: float | None = None,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        schedule: str | Factor = "constant",
        warmup: int = 0,
        betas: tuple[float, float] | None = None,
        augment: str | Augmentation | None = None,
        label_smoothing: float = 0.0,
        update: str | None = None,
        state: str = "native",
        statistics: str | None = None,
        convolution: str | None = None,
        clip_norm: float | None = None,
        refinements: Refinements | Mapping[str, Any] | None = None,
        loss: str | Loss = "cross_entropy",
        accumulate: int = 1,
        callbacks: Iterable[Callback] = (),
        max_bad_steps: int = 50,
        on_nonfinite: str = "skip",
        monitor: Monitor | int | None = None,
        distributed: bool = False,
        sync_norm: bool = False,
        reduce: str = "one-rounding",
        capture: bool | None = None,
    ) -> None:
        instance("model", model, Module, "a Module")
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
            convolution=convolution,
            refinements=Refinements.get(refinements),
            loss=loss,
            accumulate=accumulate,
        )
        policy = config.policy(precision)
        device = "cpu" if device is None else device
        policy.check(backends.get(device))
        self.capture = wants_capture(capture, device)
        self.nonfinite = NonfiniteRule(on_nonfinite, max_bad_steps)
        self.monitor = _monitor(monitor)
        seed = integer("seed", seed, 0)
        parallel = data_parallel(distributed, sync_norm, reduce, policy, on_nonfinite)
        config = replace(config.without_policy(), accumulate=config.accumulate * parallel.size)
        self.state = TrainState(model, policy, config, device, seed, max_bad_steps)
        join(self.state, parallel)
        self.model, self.optimizer, self.scaler = self.state.model, self.state.optimizer, self.state.scaler
        self.precision, self.device, self.seed = policy, device, seed
        self.objective = self.make_objective(self.state)
        self.evaluator = Evaluator(self.state, self.objective)
        self.callbacks = [
            instance(f"callbacks[{i}]", callback, Callback, "a train.Callback")
            for i, callback in enumerate(listed("callbacks", callbacks, "a sequence of train.Callback"))
        ]
        self.run: RunState | None = None
        self.ending: str | None = None

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
        """Return the trainer that a config describes.

        Args:
            model: a `Module`, as in `Trainer`.
            precision: the name of a preset, or a `Precision`.
            config: how it is trained.
            device: as in `Trainer`.
            seed: as in `Trainer`.
            **options: arguments of `Trainer` that are no part of a config.

        Raises:
            ValueError: as `Trainer`.
            TypeError: as `Trainer`.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> config = fe.train.TrainConfig("adam", lr=1e-3)
        >>> fe.Trainer.of(model, "fp16", config).config == config
        True
        """
        instance("config", config, TrainConfig, "a TrainConfig")
        return cls(model, precision, device=device, seed=seed, **config.arguments(), **options)

    def make_objective(self, state: TrainState) -> Objective:
        """Return what the network is trained for; another kind of trainer has another one.

        Args:
            state: of the trainer.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> trainer = fe.Trainer(model)
        >>> type(trainer.make_objective(trainer.state)).__name__
        'Objective'
        """
        return Objective.of(state.config)

    @property
    def config(self) -> TrainConfig:
        """How the network is trained; `precision` has the policy."""
        return self.state.config

    @property
    def overrides_step(self) -> bool:
        """Whether a subclass has a `train_batch` of its own, which a captured step would never call."""
        return type(self).train_batch is not Trainer.train_batch

    @property
    def history(self) -> History:
        """What `fit` has measured so far, in the run that began last."""
        return self._run().history

    def _run(self) -> RunState:
        return RunState({}, 0, 0, EpochSums(), History()) if self.run is None else self.run

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a checkpoint of this moment, in place of one that is there.

        Args:
            folder: for the checkpoint; made where there is none.

        Outside `fit` it has no data order to continue; `Checkpoint.create_model` and `load_model` take it. Of
        a distributed run, rank 0 writes.

        Raises:
            TypeError: folder is no path.
            SaveError: the disk refuses.

        >>> import tempfile
        >>> import fp16engine as fe
        >>> trainer = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer.save(folder)
        ...     fe.Checkpoint.load(folder).step
        0
        """
        checked = path("folder", folder)
        if self.state.parallel.rank:
            return
        make_folder(checked)
        checkpoint.save(checked, self.state, self._run())

    def end_training(self, reason: str) -> None:
        """Make the epoch in progress the last one of `fit`, for a callback.

        Args:
            reason: in words, for the run's notes and its summary.

        Raises:
            TypeError: the reason is no text.

        >>> import fp16engine as fe
        >>> trainer = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1))
        >>> trainer.end_training("good enough")
        >>> trainer.ending
        'good enough'
        """
        self.ending = instance("reason", reason, str, "text")

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
        """Take one training step on a batch.

        Args:
            x: images (N, H, W, C), float16, float32 or float64, on the host or the device; rounded once to
                the storage dtype.
            y: labels (N,), integers.

        Returns:
            A `StepResult`; its loss is the mean of the batch, rounded to the storage dtype by
            micro-batch.

        Raises:
            TypeError: x is not floating point, or y are no integers.
            ValueError: a shape does not fit, or a label is out of range.
            NonFiniteError: `max_bad_steps` steps in a row were not finite, or one was and `on_nonfinite` says
                so.

        >>> import fp16engine as fe
        >>> digits = fe.data.digits().limit(32)
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> trainer = fe.Trainer(model)
        >>> trainer.step(digits.normalised("train", "float16"), digits.train.labels).applied
        True
        """
        images = batches.device_images(x, self.device, self.precision.storage)
        labels = batches.host_labels(y, images.shape[0])
        return self.train_batch(own_images(self.state, images), labels)[0]

    def train_batch(self, inputs: Any, labels: np.ndarray) -> tuple[StepResult, int]:
        """Take `step` on checked inputs.

        Args:
            inputs: images (N, H, W, C) of the device, in the storage dtype; of a distributed run, those of
                this process's own micro-batches.
            labels: (N,), int64, on the host; of the whole step.

        Returns:
            The `StepResult`, and how many labels the step's own logits (before its update) predict correctly.

        Raises:
            NonFiniteError: as `step`.

        >>> import fp16engine as fe
        >>> digits = fe.data.digits().limit(32)
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> trainer = fe.Trainer(model)
        >>> result, correct = trainer.train_batch(digits.normalised("train", "float16"), digits.train.labels)
        >>> result.applied, 0 <= correct <= 32
        (True, True)
        """
        return take_step(self.state, self.objective, inputs, labels, self.nonfinite, self.monitor)

    def fit(
        self,
        dataset: Any,
        epochs: int = 10,
        batch_size: int = 128,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: bool | Reporter | None = None,
        checkpoint_every: int | None = None,
        *,
        log_every: int = 50,
        log: str | Sequence[str] = (),
        tensorboard: bool = False,
        stop: Callable[[], str | None] | None = None,
        monitor_every: int | None = None,
    ) -> History:
        """Train for passes over dataset.train, evaluating on dataset.test after each.

        Args:
            dataset: images and labels: a `data.Dataset`; a pair (x, y) as `data.Dataset.from_arrays` takes,
                of which a fifth of every class is the test part; or an iterable of such pairs or batches
                (PyTorch's `Dataset` and `DataLoader`, Hugging Face `datasets`), read into memory once.
            epochs: passes, >= 0.
            batch_size: images in a micro-batch, of which a step takes `accumulate`, >= 1; the last, smaller
                batch of an epoch is used.
            out: folder for metrics.jsonl, summary.json and a checkpoint (at the start, after every epoch, and
                every `checkpoint_every` steps); None writes nothing. One that holds a run is refused unless
                `resume`.
            resume: continue from the checkpoint in `out`, with the same bits as a run that was never stopped.
            progress: True or None shows a bar on a terminal, plain lines elsewhere; False nothing; a
                `Reporter` is told.
            checkpoint_every: steps between checkpoints; None means epochs only.
            log_every: steps between rows of metrics.jsonl.
            log: where the rows of metrics.jsonl go, too, by name: "tensorboard", "wandb", "trackio",
                "mlflow"; one or several. One that fails is left with a warning; resuming continues its run.
            tensorboard: the same as "tensorboard" in `log`.
            stop: asked after every step; what it returns, in words, stops the run as a signal does.
            monitor_every: let a `numerics.Monitor` look at every so many steps; what it sees goes into
                metrics.jsonl (kind "ranges").

        Every call is a run of its own: counters, schedule and data order start afresh, weights and optimizer
        state stay. SIGINT and SIGTERM finish the step, save, and raise.

        Raises:
            ValueError: an argument is out of range, or the data do not fit the network.
            TypeError: an argument is of the wrong kind.
            CheckpointError: there is nothing to resume, or the checkpoint is another run's.
            NonFiniteError: as `step`.
            Interrupted: a signal or `stop` ended the run after it was saved.
            SaveError: the disk refuses; the previous checkpoint survives.
            ImportError: the package of a logger is missing.

        >>> import fp16engine as fe
        >>> digits = fe.data.digits().limit(32)
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> trainer = fe.Trainer(model)
        >>> history = trainer.fit(digits, epochs=1, batch_size=16, progress=False)
        >>> len(history.epochs), trainer.applied_steps
        (1, 2)
        """
        from . import loop

        if stop is not None and not callable(stop):
            raise TypeError(must_be("stop", "a function without arguments or None", stop))
        return loop.fit(
            self,
            dataset,
            loop.Options(
                epochs=integer("epochs", epochs, 0),
                batch_size=integer("batch_size", batch_size, 1),
                out=out,
                resume=flag("resume", resume),
                progress=progress,
                checkpoint_every=(
                    None if checkpoint_every is None else integer("checkpoint_every", checkpoint_every, 1)
                ),
                log_every=integer("log_every", log_every, 1),
                log=names_of(log, flag("tensorboard", tensorboard)),
                stop=stop,
                monitor_every=(None if monitor_every is None else integer("monitor_every", monitor_every, 1)),
            ),
        )

    def evaluate(self, dataset: Dataset, batch_size: int = EVALUATION_BATCH) -> tuple[float, float]:
        """Return accuracy (0 to 1) and mean loss on dataset.test, with running statistics.

        Args:
            dataset: images and labels, a `data.Dataset`.
            batch_size: images at a time, >= 1.

        An output that is not finite is a wrong answer; where none is finite the accuracy is nan. Each batch's
        loss is rounded to the storage dtype; the mean over batches is float64 on the host.

        Raises:
            ValueError: an argument is out of range, or the data do not fit the network.
            TypeError: batch_size is no integer.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> accuracy, loss = fe.Trainer(model).evaluate(fe.data.digits().limit(32))
        >>> 0 <= accuracy <= 1 and loss > 0
        True
        """
        integer("batch_size", batch_size, 1)
        batches.check_dataset(self.model, dataset)
        data = batches.DeviceSplit.of(dataset, "test", self.precision.storage, self.device)
        return self.evaluator.score(data, batch_size)

    def predict(self, images: Any, batch_size: int = EVALUATION_BATCH) -> np.ndarray:
        """Return class probabilities of images.

            softmax(logits), with running statistics

        Args:
            images: (N, H, W, C), float16, float32 or float64; rounded once to the storage dtype.
            batch_size: images at a time, >= 1.

        Returns:
            (N, classes), float32, on the host; the softmax rounds once to the storage dtype.

        Raises:
            ValueError: a shape does not fit, or batch_size is out of range.
            TypeError: images are not floating point, or batch_size is no integer.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> trainer = fe.Trainer(model)
        >>> trainer.predict(fe.data.digits().limit(5).normalised("test", "float16")).shape
        (5, 10)
        """
        return self.evaluator.predict(images, integer("batch_size", batch_size, 1))

    def feed(self, dataset: Any, batch_size: int) -> Any:
        """Return the batches that `fit` trains on and evaluates on.

        Args:
            dataset: what `fit` takes.
            batch_size: as in `fit`.

        Raises:
            ValueError: the data do not fit the network.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> fe.Trainer(model).feed(fe.data.digits().limit(32), 10).steps
        4
        """
        return self.objective.feed(self.state, dataset, batch_size)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Put in force what the precision plans for an epoch; `fit` does so.

        Args:
            epoch: the epoch, from 0.
            epochs: of the run.

        Evaluation and prediction use the policy of the epoch begun last; before the first, that of the start.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> trainer = fe.Trainer(model, "booster")
        >>> trainer.begin_epoch(1, 2)
        >>> trainer.in_force.name
        'booster in hbfp6'
        """
        self.state.begin_epoch(epoch, epochs)

    def set_total_steps(self, total: int | None) -> None:
        """Lay the schedule out over a number of steps; `fit` does so.

        Args:
            total: applied steps of the run; None is enough for "constant" and "inverse-sqrt".

        Raises:
            ValueError: the schedule needs the number, or it is out of range.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> trainer = fe.Trainer(model, lr=0.5, schedule="cosine")
        >>> trainer.set_total_steps(100)
        >>> trainer.state.learning_rate(50)
        0.25
        """
        self.state.set_total_steps(total)

    def state_dict(self) -> dict[str, Any]:
        """Return counters, randomness and loss scale as JSON values; weights and optimizer state are apart.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> fe.Trainer(model).state_dict()["step_count"]
        0
        """
        return self.state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Args:
            state: what `state_dict` returned for a trainer of the same kind of policy.

        Raises:
            ValueError: a value is out of range, or there is a loss scale where none belongs.
            TypeError: a value is of the wrong kind.
            KeyError: an entry is missing.

        >>> import fp16engine as fe
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> trainer = fe.Trainer(model)
        >>> trainer.load_state_dict({**trainer.state_dict(), "step_count": 3, "applied_steps": 3})
        >>> trainer.step_count
        3
        """
        self.state.load_state_dict(state)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Try steps inside a `with` block and leave no trace: the trainer's bits after are those before.

        Nobody monitors, and a step that is not finite is skipped.

        >>> import fp16engine as fe
        >>> digits = fe.data.digits().limit(32)
        >>> model = fe.models.create("dnn", image_size=8, channels=1)
        >>> trainer = fe.Trainer(model)
        >>> with trainer.rehearsal():
        ...     _ = trainer.step(digits.normalised("train", "float16"), digits.train.labels)
        >>> trainer.step_count
        0
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
