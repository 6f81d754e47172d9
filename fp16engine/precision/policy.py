"""The precision policy: five choices and a loss scale, made in one place.

Every other file that needs an accumulator asks `active().accumulate`; none names one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Any

from ..block_format import MANTISSAS, BlockFormat
from ..errors import UnsupportedPrecision
from ..floats import is_sixteen_bit
from ..loss_scale import LossScale
from ..operand_plan import Operand, OperandPlan, operand_name
from ..validate import instance, integer, must_be, one_of
from .choices import CHUNKS, NO_BFLOAT16, NO_TF32, check
from .presets import DEFAULTS, ORDER, PRESETS, SUFFIXES, meaning, suffix
from .words import describe

_WINOGRAD_CHANNELS = 16  # with fewer, the transforms take longer than the products that are saved
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Precision:
    """What each part of training is kept and computed in.

    Args:
        name: what reports call the policy; a preset's name promises the preset's choices.
        storage: dtype of weights, activations, gradients and optimizer state, "float16", "bfloat16" or
            "float32".
        operand: what dot-product operands are rounded to: `storage`, "tf32" (float32 storage on CUDA), or a
            `BlockFormat` (float32 storage).
        accumulate: what dot products and sums are accumulated in, "float32", or with float16 storage
            "float16" or "float16:n". "float16:n", n in 8, 16, ... 256, lies between the two: a dot product's
            partial sums are binary16 within chunks of n terms, the sums of the chunks are added in FP32 and
            rounded once, and all other sums are FP32.
        statistics: dtype of norm statistics, their scale and shift, and running averages: `storage` or
            "float32".
        update: how a weight update is applied: "nearest", "stochastic", "kahan" or "master32", see
            `optim.Optimizer`.
        loss_scale: a `LossScale`, or None.
        plan: layers and epochs with other operands, an `OperandPlan`, or None.
        weights: the block format that weights are kept in between steps; None means the storage dtype.
        statistics_form: how batch norms keep 16-bit averages: "native", as standard deviations, with their
            rounding errors, or "plain", as variances, which are infinite in float16 from a standard deviation
            of 256 on.
        convolution: "direct", or "winograd", which takes 36 products for 16 outputs of a 3x3 kernel, not 144,
            where the device has it (docs/convolution.md). `fp32`, `fp16`, `bf16` and `mp` have "winograd".

    Presets (`Precision.get(name)`):

    - `fp32`: everything binary32;
    - `tf32`: as `fp32`, and factors of dot products are rounded to TF32 (8 exponent and 10 fraction bits) by
      the tensor cores of a CUDA device, the only one that runs it;
    - `fp16`: everything stored in binary16, dot products and reductions accumulate in FP32 registers and
      round once;
    - `fp16-strict`: as `fp16`, and every accumulator is binary16 too, but `clip_norm`'s norm;
    - `fp16-chunk<n>`: as `fp16`, with dot products accumulated as "float16:n";
    - `bf16`: as `fp16`, stored in bfloat16 (8 exponent and 7 fraction bits); devices "cpu" and "reference",
      with the package ml_dtypes (docs/bfloat16.md);
    - `bf16-sr`: `bf16` whose weight updates are rounded stochastically;
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
        check(self)
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
            name: "fp32", "tf32", "fp16", "fp16-strict", "fp16-chunk<n>", "bf16", "bf16-sr", "mp", "hbfp<m>"
                or "booster", with what may follow, see `Precision`; a `Precision` passes through.

        Raises:
            ValueError: no preset has this name.
            BackendUnavailable: a bfloat16 policy without the package ml_dtypes.

        >>> Precision.get("hbfp4").operand.mantissa
        4
        """
        if isinstance(name, Precision):
            return name
        known = _known(str(name))
        if known is not None:
            return known
        valid = f"one of {', '.join(PRESETS)}, bf16, bf16-sr, fp16-chunk<n>, hbfp<m>, booster"
        if str(name).startswith("fp16-chunk"):
            valid = f"fp16-chunk<n> with n {one_of(map(str, CHUNKS))}"
        elif str(name).startswith(("hbfp", "booster")):
            sizes = f"m from {MANTISSAS[0]} to {MANTISSAS[-1]}"
            valid = f"hbfp<m>, {sizes}, or booster, then options such as -b<block>"
        raise ValueError(must_be("precision", valid, name))

    def _check_name(self) -> None:
        """A preset's name promises the preset's choices."""
        meant = meaning(str(self.name))
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
        preset = meaning(base) or {}
        for field, value in choices.items():
            if value == getattr(self, field, None):
                continue
            suffixes = [suffix for suffix in suffixes if SUFFIXES.get(suffix, ("",))[0] != field]
            if not preset or value != preset.get(field, DEFAULTS.get(field)):
                suffixes.append(suffix(field, value))
        return replace(made, name="+".join((base, *sorted(suffixes, key=ORDER))))

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the presets that run on every device, without hbfp<m> and booster.

        >>> Precision.names()
        ['fp32', 'fp16', 'fp16-strict', 'mp']
        """
        return list(PRESETS)

    @property
    def native_statistics(self) -> bool:
        """Whether batch norms keep standard deviations, and the rounding error of their averages."""
        return is_sixteen_bit(self.statistics) and self.statistics_form == "native"

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
        if self.storage == "bfloat16" and not backend.capabilities.bfloat16:
            raise UnsupportedPrecision(NO_BFLOAT16)

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
        return describe(self, backend)


@functools.lru_cache(maxsize=256)
def _known(name: str) -> Precision | None:
    meant = meaning(name)
    return None if meant is None else Precision(**{"name": name, **meant})


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
        dtype: of the tensors, "float16", "bfloat16", "float32" or "float64".

    Raises:
        UnsupportedPrecision: binary16 accumulators were asked for other tensors.

    >>> with Precision.get("fp16-strict").use():
    ...     accumulator("float16")
    'float16'
    """
    policy = _active.get()
    if policy.accumulate != "float32" and dtype in ("bfloat16", "float32", "float64"):
        raise UnsupportedPrecision(
            f"precision must accumulate in float32 for {dtype} tensors, got {policy.name!r} with "
            f"{policy.accumulate}; cast them with .astype('float16')"
        )
    return policy.accumulate
