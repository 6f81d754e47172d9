"""The precision policy: five choices and a loss scale, made in one place.

Every other file that needs an accumulator asks `active().accumulate`; none names one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Any

from .block_format import MANTISSAS, BlockFormat
from .errors import UnsupportedPrecision
from .loss_scale import LossScale
from .operand_plan import Operand, OperandPlan, operand_name
from .validate import choice, instance, integer, must_be, one_of, shown

CHUNKS = (8, 16, 32, 64, 128, 256)  # terms of a chunk that binary16 partial sums may cover
NO_TF32 = "precision: 'tf32' needs the tensor cores of a CUDA device; use 'fp32' on a CPU"

_WORDS = {
    "float16": "binary16 (FP16)",
    "float32": "binary32 (FP32)",
    "float64": "binary64 (FP64)",
    "tf32": "TF32",
}
STATISTICS_FORMS = ("native", "plain")
_WINOGRAD_CHANNELS = 16  # with fewer, the transforms take longer than the products that are saved
_CONVOLUTIONS = {
    "direct": "direct sums",
    "winograd": "Winograd's algorithm (where the device has it: 3x3 kernels, stride 1, 16 channels or more), "
    "else direct sums",
}
CONVOLUTIONS = tuple(_CONVOLUTIONS)
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

    Args:
        accumulate: a policy's accumulator, such as "float32", "float16" or "float16:32".

    Raises:
        ValueError: what follows the colon is no integer.

    >>> chunk_terms("float16:32"), chunk_terms("float16")
    (32, 0)
    """
    return int(accumulate.partition(":")[2] or 0)


def _accumulate_in_words(accumulate: str) -> str:
    terms = chunk_terms(accumulate)
    if not terms:
        return _WORDS[accumulate]
    return f"{_WORDS['float16']} within {terms} terms of a dot product, else {_WORDS['float32']}"


def _choices(storage: str, accumulate: str, statistics: str, convolution: str = "direct") -> dict[str, Any]:
    return {
        "storage": storage,
        "operand": storage,
        "accumulate": accumulate,
        "statistics": statistics,
        "convolution": convolution,
    }


_LONGEST_NAME = 80


@dataclass(frozen=True)
class Precision:
    """What each part of training is kept and computed in.

    Args:
        name: what reports call the policy; a preset's name promises the preset's choices.
        storage: dtype of weights, activations, gradients and optimizer state, "float16" or "float32".
        operand: what dot-product operands are rounded to: `storage`, "tf32" (float32 storage on CUDA), or a
            `BlockFormat` (float32 storage).
        accumulate: what dot products and sums are accumulated in, "float16" or "float32". "float16:n", n in
            8, 16, ... 256, lies between the two: a dot product's partial sums are binary16 within chunks of n
            terms, the sums of the chunks are added in FP32 and rounded once, and all other sums are FP32.
        statistics: dtype of norm statistics, their scale and shift, and running averages.
        update: how a weight update is applied: "nearest", "stochastic", "kahan" or "master32", see
            `optim.Optimizer`.
        loss_scale: a `LossScale`, or None.
        plan: layers and epochs with other operands, an `OperandPlan`, or None.
        weights: the block format that weights are kept in between steps; None means the storage dtype.
        statistics_form: how batch norms keep float16 averages: "native", as standard deviations, with what
            rounding takes, or "plain", as variances, which are infinite from a standard deviation of 256 on.
        convolution: "direct", or "winograd", which takes 36 products for 16 outputs of a 3x3 kernel, not 144,
            where the device has it (docs/convolution.md). `fp32`, `fp16` and `mp` have "winograd".

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
    binary16 variances, `fp16+direct` sums convolutions directly. `changed` makes such a policy.

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
    convolution: str = "direct"

    def __post_init__(self) -> None:
        blocks = isinstance(self.operand, BlockFormat) or self.plan is not None or self.weights is not None
        if blocks and self.storage != "float32":
            raise UnsupportedPrecision(
                f"storage must be 'float32' with block floating point, got {shown(self.storage)}"
            )
        tensor_cores = self.operand == "tf32" and self.storage == "float32"
        scalars = ("storage", "accumulate", "statistics")
        for field in scalars if isinstance(self.operand, BlockFormat) else ("operand", *scalars):
            value = getattr(self, field)
            if field == "accumulate" and _is_chunked(value):
                continue
            if value not in ("float16", "float32") and not (field == "operand" and tensor_cores):
                raise UnsupportedPrecision(must_be(field, "'float16' or 'float32'", value))
        if isinstance(self.operand, str) and self.operand != self.storage and not tensor_cores:
            raise UnsupportedPrecision(
                f"operand must be {self.storage!r} as storage is, got {self.operand!r}; "
                "the operands of a dot product are the stored tensors"
            )
        for field in ("accumulate", "statistics"):
            if self.storage == "float32" and getattr(self, field) != "float32":
                raise UnsupportedPrecision(
                    must_be(field, "'float32' with float32 storage", getattr(self, field))
                )
        choice("update", self.update, _UPDATES, UnsupportedPrecision)
        choice("statistics_form", self.statistics_form, STATISTICS_FORMS, UnsupportedPrecision)
        if self.statistics_form == "plain" and self.statistics == "float32":
            raise UnsupportedPrecision(
                "statistics_form must be 'native' with float32 statistics, got 'plain'"
            )
        if self.update == "stochastic" and self.storage == "float32":
            raise UnsupportedPrecision(
                "update must be 'nearest' with float32 storage, where nothing is rounded, got 'stochastic'"
            )
        if self.accumulate != "float32" and self.statistics == "float32":
            raise UnsupportedPrecision(
                f"statistics must be 'float16' with {self.accumulate} accumulators, got 'float32'"
            )
        choice("convolution", self.convolution, _CONVOLUTIONS, UnsupportedPrecision)
        if self.convolution == "winograd" and not self.has_winograd:
            raise UnsupportedPrecision(
                must_be("convolution", "'direct' but with stored operands and float32 sums", "winograd")
            )
        instance("name", self.name, str, "text")
        if (
            not self.name.isprintable()
            or self.name != self.name.strip()
            or not 0 < len(self.name) <= _LONGEST_NAME
        ):
            raise ValueError(
                must_be("name", f"1 to {_LONGEST_NAME} printable characters, no space at an end", self.name)
            )
        if self.loss_scale is not None:
            instance("loss_scale", self.loss_scale, LossScale, "a LossScale or None")
        self._check_name()

    @classmethod
    def get(cls, name: str | Precision) -> Precision:
        """Return the preset of a name.

        Args:
            name: "fp32", "tf32", "fp16", "fp16-strict", "fp16-chunk<n>", "mp", "hbfp<m>" or "booster", with
                what may follow, see `Precision`; a `Precision` passes through.

        Raises:
            ValueError: no preset has this name.

        >>> Precision.get("hbfp4").operand.mantissa
        4
        """
        if isinstance(name, Precision):
            return name
        known = _known(str(name))
        if known is not None:
            return known
        valid = f"one of {', '.join(_PRESETS)}, fp16-chunk<n>, hbfp<m>, booster"
        if str(name).startswith("fp16-chunk"):
            valid = f"fp16-chunk<n> with n {one_of(map(str, CHUNKS))}"
        elif str(name).startswith(("hbfp", "booster")):
            sizes = f"m from {MANTISSAS[0]} to {MANTISSAS[-1]}"
            valid = f"hbfp<m>, {sizes}, or booster, then options such as -b<block>"
        raise ValueError(must_be("precision", valid, name))

    def _check_name(self) -> None:
        """A preset's name promises the preset's choices."""
        meant = _meaning(str(self.name))
        if meant is None:
            return
        for field in fields(self)[1:]:
            ours, preset = getattr(self, field.name), meant.get(field.name, field.default)
            if ours != preset:
                raise ValueError(
                    f"name must be another than the preset's {self.name!r}, whose {field.name} is "
                    f"{preset!r}, got {field.name} {ours!r}; use Precision.changed"
                )

    def changed(self, **choices: Any) -> Precision:
        """Return this policy with other choices, named after them.

        Args:
            **choices: `update`, `loss_scale`, `statistics_form` or `convolution`.

        Raises:
            ValueError: the choice has no name; make a policy with a name of its own then.
            UnsupportedPrecision: the combination has no implementation.

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
        """Return the names of the presets that run on every device, without hbfp<m> and booster.

        >>> Precision.names()
        ['fp32', 'fp16', 'fp16-strict', 'mp']
        """
        return list(_PRESETS)

    @property
    def native_statistics(self) -> bool:
        """Whether batch norms keep standard deviations, and what rounding takes from their averages."""
        return self.statistics == "float16" and self.statistics_form == "native"

    @property
    def has_winograd(self) -> bool:
        """Whether Winograd's convolution is for this policy: stored operands and FP32 accumulators."""
        blocks = self.plan is not None or self.weights is not None
        return not blocks and self.operand == self.storage and self.accumulate == "float32"

    def convolution_on(self, backend: Any) -> str:
        """Return `convolution` as a backend runs it: "direct" where it has no other.

        Args:
            backend: as `fp16engine.backend.get` returns one.

        Raises:
            AttributeError: `backend` is no backend.

        >>> from fp16engine import backend
        >>> Precision.get("fp16").convolution_on(backend.get("reference"))
        'winograd'
        """
        return self.convolution if backend.capabilities.winograd else "direct"

    def convolution_by(
        self, backend: Any, weight: Sequence[int], stride: tuple[int, int], groups: int
    ) -> str:
        """Return the algorithm, "direct" or "winograd", of a convolution.

        Args:
            backend: as `fp16engine.backend.get` returns one.
            weight: the shape of its weights, (K, kh, kw, C / groups).
            stride: by height and width.
            groups: of the channels.

        Raises:
            ValueError: `weight` has not four axes.

        >>> from fp16engine import backend
        >>> policy, cpu = Precision.get("fp16"), backend.get("cpu")
        >>> [policy.convolution_by(cpu, weight, (1, 1), 1) for weight in ((16, 3, 3, 16), (16, 3, 3, 3))]
        ['winograd', 'direct']
        """
        kernels, height, width, channels = weight
        fits = (height, width) == (3, 3) and stride == (1, 1) and groups == 1
        fits = fits and min(kernels, channels) >= _WINOGRAD_CHANNELS
        return self.convolution_on(backend) if fits else "direct"

    @property
    def dot_accumulator(self) -> str:
        """What dot products accumulate in, as backends are told: `accumulate`, or "tf32" for TF32 factors."""
        return "tf32" if self.operand == "tf32" else self.accumulate

    def check(self, backend: Any) -> None:
        """Require a backend, as `fp16engine.backend.get` returns one, that can honour this policy.

        Args:
            backend: of the device that is to run it, see `fp16engine.backend.get`.

        Raises:
            UnsupportedPrecision: it cannot, and would not say so by itself.

        >>> from fp16engine import backend
        >>> Precision.get("tf32").check(backend.get("reference"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fp16engine.errors.UnsupportedPrecision: ...
        """
        if self.dot_accumulator == "tf32" and not backend.capabilities.tf32:
            raise UnsupportedPrecision(NO_TF32)

    @property
    def block_format(self) -> BlockFormat | None:
        """The block format of dot-product operands, or None where they are taken as stored."""
        return self.operand if isinstance(self.operand, BlockFormat) else None

    def at(self, epoch: int, epochs: int) -> Precision:
        """Return the policy in force in an epoch; itself unless a plan says otherwise.

        Args:
            epoch: the epoch, from 0.
            epochs: of the run.

        >>> operand_name(Precision.get("booster").at(159, 160).operand)
        'hbfp6'
        """
        integer("epoch", epoch, 0)
        integer("epochs", epochs, 0)
        plan = self.plan
        if plan is None or plan.late is None or epoch < epochs - plan.late_epochs:
            return self
        left = OperandPlan(layers=plan.layers) if plan.layers else None
        return replace(self, name=_named_after(self, plan.late), operand=plan.late, plan=left)

    def layers(self, paths: Sequence[str]) -> dict[str, Operand]:
        """Return the operands of the layers that have another than the policy's own, by path.

        Args:
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
                raise ValueError(must_be("layers", one_of(paths), name))
            chosen |= dict.fromkeys(inside, operand)
        return chosen

    def with_operand(self, operand: Operand) -> Precision:
        """Return this policy with other dot-product operands and no plan, for one layer.

        Args:
            operand: a `BlockFormat` or a dtype's name.

        Raises:
            UnsupportedPrecision: the operand does not go with the storage.

        >>> Precision.get("hbfp4").with_operand(BlockFormat.named("hbfp6")).name
        'hbfp4 in hbfp6'
        """
        return _with_operand(self, operand)

    def with_layers(self, layers: dict[str, str]) -> Precision:
        """Return this policy with operands of their own for some layers.

        Args:
            layers: the name of a block format, or "fp32", by the path of a layer, all below it included, e.g.
                {"stem": "hbfp8", "classifier": "fp32"}.

        Raises:
            ValueError: there is no format of this name.
            UnsupportedPrecision: the storage is not float32.

        >>> Precision.get("hbfp4").with_layers({"stem": "hbfp8"}).name
        'hbfp4, stem in hbfp8'
        """
        instance("layers", layers, dict, "names of block formats by path")
        chosen = tuple(
            (path, "float32" if name == "fp32" else BlockFormat.named(name)) for path, name in layers.items()
        )
        plan = replace(self.plan or OperandPlan(), layers=chosen)
        extra = "".join(f", {path} in {name}" for path, name in layers.items())
        return replace(self, name=self.name + extra, plan=plan, convolution="direct")

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

    def describe(self, backend: Any = None) -> dict[str, str]:
        """Return every choice in words, for reports and checkpoints.

        Args:
            backend: of the device that runs it, whose convolution is named; None means any.

        Raises:
            AttributeError: `backend` is not None and no backend.

        >>> Precision.get("fp16").describe()["accumulate"]
        'binary32 (FP32)'
        """
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
            "convolution": _CONVOLUTIONS[
                self.convolution if backend is None else self.convolution_on(backend)
            ],
        }

    def _form_in_words(self) -> str:
        if self.statistics != "float16":
            return ""
        if self.statistics_form == "native":
            return "; running averages of standard deviations, with what rounding takes"
        return "; running averages of variances"


# The choices of each preset; the table is not made of `Precision`, which checks its name against it.
_PRESETS: dict[str, dict[str, Any]] = {
    "fp32": _choices("float32", "float32", "float32", "winograd"),
    "fp16": _choices("float16", "float32", "float16", "winograd"),
    "fp16-strict": _choices("float16", "float16", "float16"),
    "mp": {
        **_choices("float16", "float32", "float32", "winograd"),
        "update": "master32",
        "loss_scale": LossScale(),
    },
}
_TF32 = {**_choices("float32", "float32", "float32"), "operand": "tf32"}
# What may follow a preset's name after "+", and the choice it stands for.
_SUFFIXES: dict[str, tuple[str, Any]] = {
    **{update: ("update", update) for update in _UPDATES},
    "auto-scale": ("loss_scale", LossScale.from_histogram()),
    "no-scale": ("loss_scale", None),
    "plain-statistics": ("statistics_form", "plain"),
    **{convolution: ("convolution", convolution) for convolution in CONVOLUTIONS},
}
_DEFAULTS = {"update": "nearest", "loss_scale": None, "statistics_form": "native", "convolution": "direct"}
_ORDER = [*_SUFFIXES].index  # of suffixes, so that one policy has one name
_HYBRID = re.compile(
    r"(?P<family>hbfp\d+|booster(?:-k(?P<late>\d+))?)(?P<format>(?:-[bte]\d+|-sr)*)(?:-w(?P<kept>\d+))?"
)


@functools.lru_cache(maxsize=256)
def _known(name: str) -> Precision | None:
    meant = _meaning(name)
    return None if meant is None else Precision(**{"name": name, **meant})


def _suffix(field: str, value: Any) -> str:
    for suffix, named in _SUFFIXES.items():
        if named == (field, value):
            return suffix
    if field not in _DEFAULTS:
        raise ValueError(must_be("changed: choices", f"of {', '.join(_DEFAULTS)}", field))
    raise ValueError(
        must_be(field, "a choice that has a name", value) + "; give the policy a name of its own"
    )


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
    convolution = "direct" if isinstance(operand, BlockFormat) else policy.convolution
    name = _named_after(policy, operand)
    return replace(policy, name=name, operand=operand, plan=None, convolution=convolution)


def _named_after(policy: Precision, operand: Operand) -> str:
    """Return what `policy` is called in the layers or epochs that have operands of their own."""
    return policy.name if operand == policy.operand else f"{policy.name} in {operand_name(operand)}"


_FP32 = Precision.get("fp32")
_active: ContextVar[Precision] = ContextVar("fp16engine_precision", default=_FP32)


def active() -> Precision:
    """Return the policy in force; outside any `use()` it is `fp32`, so sums accumulate in FP32.

    >>> active().name
    'fp32'
    """
    return _active.get()


def accumulator(dtype: str) -> str:
    """Return the active accumulator for tensors of a dtype.

    Args:
        dtype: of the tensors, "float16", "float32" or "float64".

    Raises:
        UnsupportedPrecision: binary16 accumulators were asked for wider tensors.

    >>> with Precision.get("fp16-strict").use():
    ...     accumulator("float16")
    'float16'
    """
    policy = _active.get()
    if policy.accumulate != "float32" and dtype in ("float32", "float64"):
        raise UnsupportedPrecision(
            f"precision must accumulate in float32 for {dtype} tensors, got {policy.name!r} with "
            f"{policy.accumulate}; cast them with .astype('float16')"
        )
    return policy.accumulate
