"""How a network is trained, in one record: what a trainer, a comparison, a study and the options use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..data.augment import Augmentation
from ..optim import BY_NAME, Optimizer
from ..optim.adam import checked_betas
from ..precision import Precision
from ..validate import flag, instance, integer, must_be, number
from . import schedule
from .functions import LOSSES, Factor, Loss, MakeOptimizer, named_or_own, stored
from .refinements import Refinements

SGD_MOMENTUM = 0.9
MOMENTUM_OPTIMIZERS = ("sgd", "muon")
LR = 0.01


@dataclass(frozen=True)
class TrainConfig:
    """Optimizer, schedule, augmentation and loss of a training run, checked when it is made.

    Args:
        optimizer: as in `Trainer`.
        lr: as in `Trainer`.
        momentum: as in `Trainer`; None means 0.9 for sgd and muon, the other optimizers have none.
        eps: as in `Trainer`.
        weight_decay: as in `Trainer`.
        nesterov: as in `Trainer`.
        state: as in `Trainer`.
        betas: as in `Trainer`.
        clip_norm: as in `Trainer`.
        schedule: as in `Trainer`.
        warmup: as in `Trainer`.
        augment: as in `Trainer`.
        label_smoothing: as in `Trainer`.
        update: a change of the precision, which `policy` makes; as in `Trainer`.
        statistics: a change of the precision, which `policy` makes; as in `Trainer`.
        convolution: a change of the precision, which `policy` makes; as in `Trainer`.
        refinements: as in `Trainer`.
        loss: as in `Trainer`.
        accumulate: as in `Trainer`.

    Raises:
        ValueError: a field is out of range, or the optimizer has no such argument.
        TypeError: a field is of the wrong kind.

    >>> TrainConfig(lr=0.1, augment="crop-flip").to_dict()["momentum"]
    0.9
    """

    optimizer: str | Optimizer | MakeOptimizer = "sgd"
    lr: float = LR
    momentum: float | None = None
    eps: float | None = None
    weight_decay: float = 0.0
    nesterov: bool = False
    state: str = "native"
    betas: tuple[float, float] | None = None
    clip_norm: float | None = None
    schedule: str | Factor = "constant"
    warmup: int = 0
    augment: Augmentation | None = None
    label_smoothing: float = 0.0
    update: str | None = None
    statistics: str | None = None
    convolution: str | None = None
    refinements: Refinements | None = None
    loss: str | Loss = "cross_entropy"
    accumulate: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, Optimizer):
            named_or_own("optimizer", self.optimizer, BY_NAME)
        named_or_own("loss", self.loss, LOSSES)
        checked: dict[str, Any] = {
            "lr": number("lr", self.lr, above=0),
            "weight_decay": number("weight_decay", self.weight_decay, minimum=0),
            "schedule": schedule.check(self.schedule),
            "warmup": schedule.check_warmup(self.schedule, integer("warmup", self.warmup, 0)),
            "augment": Augmentation.get(self.augment),
            "label_smoothing": number("label_smoothing", self.label_smoothing, minimum=0, maximum=1),
            "refinements": Refinements.get(self.refinements),
            "accumulate": integer("accumulate", self.accumulate, 1),
            **self._of_optimizer(),
        }
        if callable(self.loss) and self.label_smoothing:
            raise ValueError(must_be("label_smoothing", "0 with a loss of your own", self.label_smoothing))
        if self.clip_norm is not None:
            checked["clip_norm"] = number("clip_norm", self.clip_norm, above=0)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def _of_optimizer(self) -> dict[str, Any]:
        if not isinstance(self.optimizer, str):
            return self._of_own()
        return self._of_momentum() if self.optimizer in MOMENTUM_OPTIMIZERS else self._of_adaptive()

    def _of_own(self) -> dict[str, Any]:
        plain = {"lr": LR, "eps": None, "weight_decay": 0.0, "nesterov": False, "state": "native"}
        for name, value in {**plain, "betas": None}.items():
            if getattr(self, name) != value:
                valid = f"{value!r}, its default, with an optimizer of your own, which has its own"
                raise ValueError(must_be(name, valid, getattr(self, name)))
        if self.momentum not in (None, SGD_MOMENTUM):  # the default comes along, and is not used
            valid = "None with an optimizer of your own, which has its own"
            raise ValueError(must_be("momentum", valid, self.momentum))
        return {"momentum": None}

    def _of_momentum(self) -> dict[str, Any]:
        name = self.optimizer
        if self.eps is not None:
            raise ValueError(must_be("eps", f"None with {name}, which divides by nothing", self.eps))
        if self.state != "native":
            raise ValueError(must_be("state", f"'native' with {name}, which has one form", self.state))
        if self.betas is not None:
            raise ValueError(must_be("betas", f"None with {name}; adam and adamw have them", self.betas))
        momentum = SGD_MOMENTUM if self.momentum is None else self.momentum
        return {
            "momentum": number("momentum", momentum, minimum=0, below=1),
            "nesterov": flag("nesterov", self.nesterov) or name == "muon",  # muon's is always Nesterov's
        }

    def _of_adaptive(self) -> dict[str, Any]:
        if flag("nesterov", self.nesterov):
            raise ValueError(f"nesterov must be False with {self.optimizer}, got True; use sgd")
        if self.betas is None:
            betas = None
        elif self.optimizer == "rmsprop":
            raise ValueError(must_be("betas", "None with rmsprop; adam and adamw have them", self.betas))
        else:
            betas = checked_betas(self.betas)
        eps = None if self.eps is None else number("eps", self.eps, minimum=0)
        if self.momentum is not None:  # sgd's default comes along, and is not used
            number("momentum", self.momentum, minimum=0, below=1)
        return {"momentum": None, "eps": eps, "betas": betas}

    def policy(self, precision: str | Precision) -> Precision:
        """Return a precision with this `update`, `statistics` and `convolution`, where they are given.

        Args:
            precision: the name of a preset, or a `Precision`.

        Raises:
            ValueError: there is no such precision, or the changed one has no name.
            UnsupportedPrecision: the combination has no implementation.

        >>> TrainConfig(update="kahan").policy("fp16").name
        'fp16+kahan'
        """
        policy = Precision.get(precision)
        if self.update is not None:
            policy = policy.changed(update=self.update)
        if self.statistics is not None:
            policy = policy.changed(statistics_form=self.statistics)
        if self.convolution is not None:
            policy = policy.changed(convolution=self.convolution)
        return policy

    def without_policy(self) -> TrainConfig:
        """Return this without what `policy` changes: for a precision that has it already.

        >>> TrainConfig(update="kahan").without_policy() == TrainConfig()
        True
        """
        return replace(self, update=None, statistics=None, convolution=None)

    def optimizer_arguments(self) -> dict[str, Any]:
        """Return what the optimizer takes, by the names of its arguments.

        >>> TrainConfig("adam", lr=1e-3).optimizer_arguments()
        {'lr': 0.001, 'weight_decay': 0.0, 'eps': None, 'state': 'native'}
        """
        if not isinstance(self.optimizer, str):
            return {}
        arguments: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        if self.optimizer in MOMENTUM_OPTIMIZERS:
            arguments |= {"momentum": self.momentum, "nesterov": self.nesterov}
            if self.optimizer == "muon":
                own = self.refinements or Refinements()
                arguments |= {"steps": own.muon_steps, "unit_rows": own.unit_rows}
                arguments["sgd_momentum"] = own.sgd_momentum
            return arguments
        arguments |= {"eps": self.eps, "state": self.state}
        return arguments if self.betas is None else {**arguments, "betas": self.betas}

    def arguments(self) -> dict[str, Any]:
        """Return the fields by name: keyword arguments of `Trainer`.

        >>> TrainConfig(lr=0.1).arguments()["lr"]
        0.1
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_dict(self) -> dict[str, Any]:
        """Return what tells this run from another, as JSON values: the `training` of a checkpoint.

        A function is there by its qualified name.

        >>> TrainConfig(lr=0.1).to_dict()["optimizer"]
        'sgd'
        """
        entries = {"optimizer": stored(self.optimizer), **self.optimizer_arguments()}
        for name in ("steps", "unit_rows", "sgd_momentum"):  # which the refinements tell
            entries.pop(name, None)
        if self.betas is not None:
            entries["betas"] = list(self.betas)
        if self.clip_norm is not None:
            entries["clip_norm"] = self.clip_norm
        entries["schedule"] = stored(self.schedule)
        if self.warmup or self.schedule == "inverse-sqrt":
            entries["warmup"] = self.warmup
        if self.augment is not None:
            entries["augment"] = self.augment.to_dict()
        if self.label_smoothing:
            entries["label_smoothing"] = self.label_smoothing
        if self.refinements is not None:
            entries["refinements"] = self.refinements.to_dict()
        if callable(self.loss):
            entries["loss"] = stored(self.loss)
        if self.accumulate > 1:
            entries["accumulate"] = self.accumulate
        changes = {"update": self.update, "statistics": self.statistics, "convolution": self.convolution}
        return {**entries, **{name: value for name, value in changes.items() if value is not None}}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> TrainConfig:
        """Return the record that `to_dict` gave; a field that is not there has its default.

        Args:
            stored: fields by name.

        Raises:
            ValueError: a field is unknown or out of range, or names a function, which has to be given again.
            TypeError: a field is of the wrong kind.

        >>> config = TrainConfig("adam", 1e-3, betas=(0.9, 0.98), schedule="inverse-sqrt", warmup=10)
        >>> TrainConfig.from_dict(config.to_dict()) == config
        True
        """
        instance("training", stored, Mapping, "a record by name")
        unknown = stored.keys() - {field.name for field in fields(cls)}
        if unknown:
            names = ", ".join(field.name for field in fields(cls))
            raise ValueError(must_be("training", f"a record with entries of {names}", sorted(unknown)))
        return cls(**stored)
