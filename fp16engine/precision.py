"""The precision policy: five choices and a loss scale, made in one place.

Every other file that needs an accumulator asks `active().accumulate`; none names one.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from .block_format import BlockFormat
from .errors import UnsupportedPrecision

if TYPE_CHECKING:
    from .backend import Backend

Operand: TypeAlias = str | BlockFormat

CHUNKS = (8, 16, 32, 64, 128, 256)  # terms of a chunk that binary16 partial sums may cover
NO_TF32 = "precision: 'tf32' needs the tensor cores of a CUDA device; use 'fp32' on a CPU"

_WORDS = {
    "float16": "binary16 (FP16)",
    "float32": "binary32 (FP32)",
    "float64": "binary64 (FP64)",
    "tf32": "TF32",
}
STATISTICS_FORMS = ("native", "plain")
_UPDATES = {
    "nearest": "in place, rounded to nearest",
    "stochastic": "in place, rounded stochastically (right on the mean)",
    "kahan": "in place, with a compensation of the storage type that keeps what rounding takes, on the mean",
    "master32": "on an FP32 master copy, then rounded to storage",
}
UPDATES = tuple(_UPDATES)


def _is_chunked(accumulate: object) -> bool:
    return accumulate in [f"float16:{terms}" for terms in CHUNKS]


def chunk_terms(accumulate: str) -> int:
    """Return the n of "float16:n", 0 for an accumulator without chunks.

    >>> chunk_terms("float16:32"), chunk_terms("float16")
    (32, 0)
    """
    return int(accumulate.partition(":")[2] or 0)


def _accumulate_in_words(accumulate: str) -> str:
    terms = chunk_terms(accumulate)
    if not terms:
        return _WORDS[accumulate]
    return f"{_WORDS['float16']} within {terms} terms of a dot product, else {_WORDS['float32']}"


@dataclass(frozen=True)
class LossScale:
    """Factor on the loss that keeps small FP16 gradients from underflowing (Micikevicius et al., 1710.03740).

    The scale starts at `initial`, is multiplied by `growth` after `interval` applied steps in a row and by
    `backoff` at every overflow, and stays within [`floor`, `cap`]; `dynamic=False` keeps it constant. All
    five factors are powers of two, so that scaling is exact. The scale enters the backward pass as a binary16
    gradient of the loss, so its cap is the largest power of two there is in binary16.

    `automatic=True` chooses the scale from the histogram of the gradients instead, without crash and halve:
    the power of two that puts the largest of the last measured gradients of weights at 2^13, a factor of
    eight below infinity. `LossScale.from_histogram()` is such a policy, starting at 1.

    Raises:
        ValueError: a factor is no power of two, or `initial` is outside [`floor`, `cap`].
    """

    initial: float = 32768.0
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000
    floor: float = 1.0
    cap: float = 32768.0
    dynamic: bool = True
    automatic: bool = False

    @classmethod
    def from_histogram(cls) -> LossScale:
        """Return the policy that chooses the scale from the histogram of the gradients.

        >>> LossScale.from_histogram().initial
        1.0
        """
        return cls(initial=1.0, automatic=True)

    def __post_init__(self) -> None:
        for name in ("initial", "growth", "backoff", "floor", "cap"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0 and math.frexp(value)[0] == 0.5):
                raise ValueError(f"{name}: {value} given, a power of two is wanted (scaling must be exact)")
        if self.growth < 1 or self.backoff > 1:
            raise ValueError(
                f"growth {self.growth} and backoff {self.backoff} given, growth >= 1 >= backoff is wanted"
            )
        if not self.floor <= self.initial <= self.cap:
            raise ValueError(
                f"initial: {self.initial} given, a value in [{self.floor}, {self.cap}] is wanted"
            )
        if self.interval < 1:
            raise ValueError(f"interval: {self.interval} given, an integer >= 1 is wanted")


@dataclass(frozen=True)
class OperandPlan:
    """The layers and epochs whose dot products take other operands than the policy's own.

    `layers`: (path, operand) pairs, each for the layer of that path or all layers below it. `late`: the
    operand of every other layer in the last `late_epochs` epochs. `edges`: that of the first and the last
    layer with weights in the epochs before. An operand is a `BlockFormat` or "float32".
    """

    edges: Operand | None = None
    layers: tuple[tuple[str, Operand], ...] = ()
    late: Operand | None = None
    late_epochs: int = 1

    def __post_init__(self) -> None:
        if (
            isinstance(self.late_epochs, bool)
            or not isinstance(self.late_epochs, int)
            or self.late_epochs < 1
        ):
            raise ValueError(f"late_epochs: {self.late_epochs!r} given, a whole number >= 1 is wanted")
        for operand in (self.edges, self.late, *(operand for _, operand in self.layers)):
            if operand is not None:
                _check_operand(operand)

    def words(self) -> list[str]:
        """Return the exceptions in words, the strongest first."""
        said = [f"{path} in {operand_name(operand)}" for path, operand in self.layers]
        if self.late is not None:
            epochs = "the last epoch" if self.late_epochs == 1 else f"the last {self.late_epochs} epochs"
            said.append(f"{epochs} in {operand_name(self.late)}")
        if self.edges is not None:
            said.append(f"first and last layer in {operand_name(self.edges)}")
        return said


def operand_name(operand: Operand) -> str:
    """Return the short name of an operand type: "float32", "hbfp4-b16"."""
    return operand if isinstance(operand, str) else operand.name


def _check_operand(operand: Operand) -> None:
    if not isinstance(operand, BlockFormat) and operand != "float32":
        raise UnsupportedPrecision(f"operand: {operand!r} given, a BlockFormat or 'float32' is wanted")


def _choices(storage: str, accumulate: str, statistics: str) -> dict[str, Any]:
    return {"storage": storage, "operand": storage, "accumulate": accumulate, "statistics": statistics}


@dataclass(frozen=True)
class Precision:
    """What each part of training is kept and computed in.

    `storage`: weights, activations, gradients and optimizer state. `operand`: what dot-product operands are
    rounded to, a dtype or a `BlockFormat`; `plan`: layers and epochs where that is another, an `OperandPlan`.
    `weights`: the block format weights are kept in between steps, None for the storage dtype. `accumulate`:
    what dot products and sums are accumulated in; "float16:n", n in 8, 16, ... 256,
    lies between the two: a dot product's partial sums are binary16 within chunks of n terms, the sums of the
    chunks are added in FP32 and rounded once, and all other sums are FP32. `statistics`: norm statistics,
    their scale and shift, and running averages. `statistics_form`: how batch norms keep float16 averages,
    "native" as standard deviations, with what rounding takes, or "plain", the study's, as variances, which
    are infinite from a standard deviation of 256 on. `update`: how a weight update is applied.
    `loss_scale`: a `LossScale` or None.

    Presets (`Precision.get(name)`):

    - `fp32`: everything binary32;
    - `tf32`: as `fp32`, and factors of dot products are rounded to TF32 (8 exponent and 10 fraction bits) by
      the tensor cores of a CUDA device, the only one that runs it;
    - `fp16`: everything stored in binary16, dot products and reductions accumulate in FP32 registers and
      round once;
    - `fp16-strict`: as `fp16`, and every accumulator is binary16 too, but `clip_norm`'s norm;
    - `fp16-chunk<n>`: as `fp16`, with dot products accumulated as "float16:n";
    - `mp`: FP16 compute, FP32 master weights and norm statistics, dynamic loss scaling (1710.03740);
    - `hbfp<m>`, m = 2 to 16: dot products on block floating point with m-bit mantissas, everything else
      binary32 (1804.01526). `BlockFormat` says what may follow: `hbfp6-b256` is in blocks of 256. `-w16` at
      the end keeps the weights in 16-bit mantissas;
    - `booster`: `hbfp4`, with first and last layer in `hbfp6`, and all in `hbfp6` in the last epoch
      (2211.10737); `booster-k10`: in the last 10.

    A preset's name may end in what is not the preset's: `fp16+master32` updates FP32 master weights,
    `fp16+auto-scale` takes its loss scale from the histogram of the gradients, `fp16+plain-statistics` keeps
    binary16 variances. `changed` makes such a policy.

    Raises:
        ValueError: the name is a preset's, and a choice is not.
        UnsupportedPrecision: the combination has no implementation.

    >>> Precision.get("fp16").accumulate
    'float32'
    """

    name: str
    storage: str
    operand: Operand
    accumulate: str
    statistics: str
    update: str = "nearest"
    loss_scale: LossScale | None = None
    plan: OperandPlan | None = None
    weights: BlockFormat | None = None
    statistics_form: str = "native"

    def __post_init__(self) -> None:
        blocks = isinstance(self.operand, BlockFormat) or self.plan is not None or self.weights is not None
        if blocks and self.storage != "float32":
            raise UnsupportedPrecision(
                f"storage: {self.storage!r} with block floating point given, 'float32' is wanted"
            )
        tensor_cores = self.operand == "tf32" and self.storage == "float32"
        scalars = ("storage", "accumulate", "statistics")
        for field in scalars if isinstance(self.operand, BlockFormat) else ("operand", *scalars):
            value = getattr(self, field)
            if field == "accumulate" and _is_chunked(value):
                continue
            if value not in ("float16", "float32") and not (field == "operand" and tensor_cores):
                raise UnsupportedPrecision(f"{field}: {value!r} given, 'float16' or 'float32' is wanted")
        if isinstance(self.operand, str) and self.operand != self.storage and not tensor_cores:
            raise UnsupportedPrecision(
                f"operand: {self.operand!r} with {self.storage!r} storage given; "
                "the operands of a dot product are the stored tensors, so the two must be equal"
            )
        for field in ("accumulate", "statistics"):
            if self.storage == "float32" and getattr(self, field) != "float32":
                raise UnsupportedPrecision(
                    f"{field}: {getattr(self, field)!r} with float32 storage given, 'float32' is wanted"
                )
        if self.update not in _UPDATES:
            raise UnsupportedPrecision(
                f"update: {self.update!r} given, one of {', '.join(_UPDATES)} is wanted"
            )
        if self.statistics_form not in STATISTICS_FORMS:
            raise UnsupportedPrecision(
                f"statistics_form must be one of {', '.join(STATISTICS_FORMS)}, got {self.statistics_form!r}"
            )
        if self.statistics_form == "plain" and self.statistics == "float32":
            raise UnsupportedPrecision("statistics_form 'plain' needs float16 statistics, got float32")
        if self.update == "stochastic" and self.storage == "float32":
            raise UnsupportedPrecision(
                "update: 'stochastic' with float32 storage given; the weight update is a float32 register, "
                "so nothing is rounded, 'nearest' is wanted"
            )
        if self.accumulate != "float32" and self.statistics == "float32":
            raise UnsupportedPrecision(
                f"statistics: 'float32' with {self.accumulate} accumulators given, 'float16' is wanted"
            )
        self._check_name()

    @classmethod
    def get(cls, name: str | Precision) -> Precision:
        """Return the preset called `name` (a `Precision` passes through).

        Raises:
            UnsupportedPrecision: the preset is known but needs a backend that is not here.
            ValueError: no preset has this name.
        """
        if isinstance(name, Precision):
            return name
        known = _known(str(name))
        if known is not None:
            return known
        wanted = f"one of {', '.join(_PRESETS)}, hbfp<m>, booster is wanted"
        if str(name).startswith(("hbfp", "booster")):
            wanted = "hbfp<m> or booster, then -b<block> and the like is wanted"
        raise ValueError(f"precision: {name!r} given, {wanted}")

    def _check_name(self) -> None:
        """A preset's name promises the preset's choices."""
        meant = _meaning(str(self.name))
        if meant is None:
            return
        for field in fields(self)[1:]:
            ours, preset = getattr(self, field.name), meant.get(field.name, field.default)
            if ours != preset:
                raise ValueError(
                    f"name: {self.name!r} is a preset with {field.name} {preset!r}, got {ours!r}; "
                    "use Precision.changed or another name"
                )

    def changed(self, **choices: Any) -> Precision:
        """Return this policy with another `update`, `loss_scale` or `statistics_form`, named after it.

        Raises:
            ValueError: the choice has no name; make a policy with a name of its own then.

        >>> Precision.get("fp16").changed(update="master32").name
        'fp16+master32'
        >>> Precision.get("fp16").changed(update="nearest").name
        'fp16'
        """
        made = replace(self, name="unnamed", **choices)
        base, *suffixes = self.name.split("+")
        preset = _meaning(base) or {}
        for field, value in choices.items():
            if value == getattr(self, field, None):
                continue
            suffixes = [suffix for suffix in suffixes if _SUFFIXES.get(suffix, ("",))[0] != field]
            if not preset or value != preset.get(field, _DEFAULTS.get(field)):
                suffixes.append(_suffix(field, value))
        return replace(made, name="+".join((base, *sorted(suffixes, key=_ORDER))))

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the presets that run on every device, without hbfp<m> and booster."""
        return list(_PRESETS)

    @property
    def native_statistics(self) -> bool:
        """Whether batch norms keep standard deviations, and what rounding takes from their averages."""
        return self.statistics == "float16" and self.statistics_form == "native"

    @property
    def products(self) -> str:
        """What dot products accumulate in, as backends are told: `accumulate`, or "tf32" for TF32 factors."""
        return "tf32" if self.operand == "tf32" else self.accumulate

    def check(self, backend: Backend) -> None:
        """Require a backend that can honour this policy.

        Raises:
            UnsupportedPrecision: it cannot, and would not say so by itself.
        """
        if self.products == "tf32" and not backend.capabilities.tf32:
            raise UnsupportedPrecision(NO_TF32)

    @property
    def block_format(self) -> BlockFormat | None:
        """The block format of dot-product operands, or None where they are taken as stored."""
        return self.operand if isinstance(self.operand, BlockFormat) else None

    def at(self, epoch: int, epochs: int) -> Precision:
        """Return the policy in force in `epoch` (from 0) of a run of `epochs`; itself unless a plan says so.

        >>> operand_name(Precision.get("booster").at(159, 160).operand)
        'hbfp6'
        """
        plan = self.plan
        if plan is None or plan.late is None or epoch < epochs - plan.late_epochs:
            return self
        left = OperandPlan(layers=plan.layers) if plan.layers else None
        return replace(self, name=_named_after(self, plan.late), operand=plan.late, plan=left)

    def layers(self, paths: Sequence[str]) -> dict[str, Operand]:
        """Return the operands of the layers that have another than the policy's own.

        paths: of the layers with weights, in the order of the model.

        Raises:
            ValueError: the plan names a layer that is not there.

        >>> {path: f.name for path, f in Precision.get("booster").layers(["stem", "mid", "top"]).items()}
        {'stem': 'hbfp6', 'top': 'hbfp6'}
        """
        plan = self.plan
        if plan is None or not paths:
            return {}
        chosen = {} if plan.edges is None else {path: plan.edges for path in (paths[0], paths[-1])}
        for name, operand in plan.layers:
            inside = [path for path in paths if path == name or path.startswith(f"{name}.")]
            if not inside:
                raise ValueError(f"layers: {name!r} given, one of {', '.join(paths)} is wanted")
            chosen |= dict.fromkeys(inside, operand)
        return chosen

    def with_operand(self, operand: Operand) -> Precision:
        """Return this policy with other dot-product operands, for one layer."""
        return _with_operand(self, operand)

    def with_layers(self, layers: dict[str, str]) -> Precision:
        """Return this policy with operands of their own for some layers, by path, all below a path included.

        layers: the name of a block format, or "fp32", by path, e.g. {"stem": "hbfp8", "classifier": "fp32"}.

        >>> Precision.get("hbfp4").with_layers({"stem": "hbfp8"}).name
        'hbfp4, stem in hbfp8'
        """
        chosen = tuple(
            (path, "float32" if name == "fp32" else BlockFormat.named(name)) for path, name in layers.items()
        )
        plan = replace(self.plan or OperandPlan(), layers=chosen)
        extra = "".join(f", {path} in {name}" for path, name in layers.items())
        return replace(self, name=self.name + extra, plan=plan)

    @contextmanager
    def use(self) -> Iterator[Precision]:
        """Make this the active policy inside a `with` block.

        >>> with Precision.get("fp16-strict").use():
        ...     active().accumulate
        'float16'
        """
        token = _active.set(self)
        try:
            yield self
        finally:
            _active.reset(token)

    def describe(self) -> dict[str, str]:
        """Return the five choices and the loss scale in words, for reports and checkpoints."""
        scale = self.loss_scale
        if scale is None:
            loss_scale = "none"
        elif scale.automatic:
            loss_scale = f"from the histogram of the gradients, within [{scale.floor:g}, {scale.cap:g}]"
        elif scale.dynamic:
            loss_scale = f"dynamic, from {scale.initial:g} within [{scale.floor:g}, {scale.cap:g}]"
        else:
            loss_scale = f"constant {scale.initial:g}"
        operand = _WORDS[self.operand] if isinstance(self.operand, str) else self.operand.words()
        exceptions = [] if self.plan is None else self.plan.words()
        kept = "" if self.weights is None else f"; weights: {self.weights.words()}"
        return {
            "storage": _WORDS[self.storage] + kept,
            "operand": "; ".join([operand, *exceptions]),
            "accumulate": _accumulate_in_words(self.accumulate),
            "statistics": _WORDS[self.statistics] + self._form_in_words(),
            "update": _UPDATES[self.update],
            "loss_scale": loss_scale,
        }

    def _form_in_words(self) -> str:
        if self.statistics != "float16":
            return ""
        if self.statistics_form == "native":
            return "; running averages of standard deviations, with what rounding takes"
        return "; running averages of variances"


# The choices of each preset; the table is not made of `Precision`, which checks its name against it.
_PRESETS: dict[str, dict[str, Any]] = {
    "fp32": _choices("float32", "float32", "float32"),
    "fp16": _choices("float16", "float32", "float16"),
    "fp16-strict": _choices("float16", "float16", "float16"),
    "mp": {**_choices("float16", "float32", "float32"), "update": "master32", "loss_scale": LossScale()},
}
_TF32 = {**_choices("float32", "float32", "float32"), "operand": "tf32"}
# What may follow a preset's name after "+", and the choice it stands for.
_SUFFIXES: dict[str, tuple[str, Any]] = {
    **{update: ("update", update) for update in _UPDATES},
    "auto-scale": ("loss_scale", LossScale.from_histogram()),
    "no-scale": ("loss_scale", None),
    "plain-statistics": ("statistics_form", "plain"),
}
_DEFAULTS = {"update": "nearest", "loss_scale": None, "statistics_form": "native"}
_ORDER = [*_SUFFIXES].index  # of suffixes, so that one policy has one name
_HYBRID = re.compile(
    r"(?P<family>hbfp\d+|booster(?:-k(?P<late>\d+))?)(?P<format>(?:-[bte]\d+|-sr)*)(?:-w(?P<kept>\d+))?"
)


@functools.lru_cache(maxsize=256)
def _known(name: str) -> Precision | None:
    meant = _meaning(name)
    return None if meant is None else Precision(**{"name": name, **meant})


def _suffix(field: str, value: Any) -> str:
    for suffix, choice in _SUFFIXES.items():
        if choice == (field, value):
            return suffix
    if field not in _DEFAULTS:
        raise ValueError(f"changed: choices must be of {', '.join(_DEFAULTS)}, got {field}")
    raise ValueError(f"{field}: {value!r} has no name; give the policy a name of its own")


@functools.lru_cache(maxsize=256)
def _meaning(name: str) -> dict[str, Any] | None:
    """Return the choices that a preset's name stands for; None for a name that is no preset's."""
    base, *suffixes = name.split("+")
    if suffixes:
        return _suffixed(base, suffixes)
    if name in _PRESETS:
        return _PRESETS[name]
    accumulate = f"float16:{name.removeprefix('fp16-chunk')}"
    if name.startswith("fp16-chunk") and _is_chunked(accumulate):
        return _choices("float16", accumulate, "float16")
    if name == "tf32":
        return _TF32
    match = _HYBRID.fullmatch(name)
    return None if match is None else _hybrid(match)


def _suffixed(base: str, suffixes: Sequence[str]) -> dict[str, Any] | None:
    """Return a preset's choices with those of `suffixes`: each names one choice, once, and another."""
    meant = _meaning(base)
    if meant is None or any(suffix not in _SUFFIXES for suffix in suffixes):
        return None
    choices = dict(_SUFFIXES[suffix] for suffix in suffixes)
    if len(choices) < len(suffixes) or any(
        meant.get(field, _DEFAULTS[field]) == value for field, value in choices.items()
    ):
        return None
    name = "+".join((meant.get("name", base), *sorted(suffixes, key=_ORDER)))
    return {**meant, **choices, "name": name}


def _hybrid(match: re.Match[str]) -> dict[str, Any]:
    """Block floating point for dot products, binary32 for the rest; `name` is the short one."""
    booster = match["family"].startswith("booster")
    try:
        base = BlockFormat.named(("hbfp4" if booster else match["family"]) + match["format"])
        plan = None
        if booster:
            better = replace(base, mantissa=6)
            plan = OperandPlan(edges=better, late=better, late_epochs=int(match["late"] or 1))
        kept = None if match["kept"] is None else replace(base, mantissa=int(match["kept"]))
    except ValueError as error:
        raise ValueError(f"precision: {error}") from None
    family = ("booster" + (f"-k{plan.late_epochs}" if plan.late_epochs > 1 else "")) if plan else ""
    short = base.name if plan is None else family + base.name.removeprefix("hbfp4")
    return {
        **_choices("float32", "float32", "float32"),
        "name": short if kept is None else f"{short}-w{kept.mantissa}",
        "operand": base,
        "plan": plan,
        "weights": kept,
    }


@functools.lru_cache(maxsize=256)
def _with_operand(policy: Precision, operand: Operand) -> Precision:
    return replace(policy, name=_named_after(policy, operand), operand=operand, plan=None)


def _named_after(policy: Precision, operand: Operand) -> str:
    """Return what `policy` is called in the layers or epochs that have operands of their own."""
    return policy.name if operand == policy.operand else f"{policy.name} in {operand_name(operand)}"


_FP32 = Precision.get("fp32")
_active: ContextVar[Precision] = ContextVar("fp16engine_precision", default=_FP32)


def active() -> Precision:
    """Return the policy in force; outside any `use()` it is `fp32`, so sums accumulate in FP32."""
    return _active.get()


def accumulator(dtype: str) -> str:
    """Return the active accumulator for tensors of `dtype`.

    Raises:
        UnsupportedPrecision: binary16 accumulators were asked for wider tensors.
    """
    policy = _active.get()
    if policy.accumulate != "float32" and dtype in ("float32", "float64"):
        raise UnsupportedPrecision(
            f"precision {policy.name!r} accumulates in {policy.accumulate}, but a {dtype} tensor came; "
            "cast it with .astype('float16')"
        )
    return policy.accumulate
