"""Will FP16 work here? A minute before a run: the device, a probing batch in FP32, memory, and a policy.

The probing steps run in FP32, so they see every magnitude as it is; what binary16 would make of them
(infinite, 0, an update without effect) is counted along its number line.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import backend as backends
from .numerics import advice, words
from .numerics.monitor import ACTIVATIONS, BACKWARD_GRADIENTS, GRADIENTS, Monitor, Sample
from .numerics.ranges import EMPTY, Ranges, percent
from .precision import Precision
from .train import Trainer
from .validate import integer, number

STEPS = 3
PROBE = 32  # images of the probing batch, at most
PRECISIONS = ("fp16", "mp", "fp32")
UNDERFLOW_SHARE = advice.UNDERFLOW_SHARE
_FAR = 1000.0  # times the first loss; no run whose steps are sane comes near it in three
LOST_SHARE = advice.LOST_SHARE

_SHAPES = {"linear": (64, 96, 48), "conv": (4, 8, 8, 16, 24)}


@dataclass(frozen=True)
class LayerForecast:
    """What binary16 would do to a layer: shares of values, and the exponent of the largest activation."""

    layer: str
    largest_activation: int | None
    overflow: float  # of activations
    gradient_underflow: float  # of nonzero gradients passed back
    weight_gradient_underflow: float  # of nonzero gradients of its weights
    lost_updates: float | None  # of nonzero updates; None without weights
    variance: float | None = None  # the largest of a batch norm whose running variance would be FP16's plain

    @property
    def problems(self) -> list[str]:
        """The faults to be expected, in words."""
        found = []
        if self.overflow:
            found.append(f"{percent(self.overflow)} of activations beyond 65504")
        worst = max(self.gradient_underflow, self.weight_gradient_underflow)
        if worst >= UNDERFLOW_SHARE:
            found.append(f"{percent(worst)} of gradients underflow to 0")
        if self.lost_updates is not None and self.lost_updates >= LOST_SHARE:
            found.append(f"{percent(self.lost_updates)} of updates lost")
        if self.variance is not None and self.variance >= advice.VARIANCE_NEAR:
            found.append(advice.variance_in_words(self.variance))
        return found


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes under one precision; activations and work buffers for the batch asked for, by proportion."""

    precision: str
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def run(
    make: Callable[[Precision], Trainer],
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Probe a run before it starts.

    Args:
        make: gives a new trainer of the run under a policy, the same weights each time.
        images: (N, H, W, C), float16 or float32, N >= 2 * `PROBE` or as many as there are.
        labels: (N,), int64.
        batch_size: of the planned run, >= 1.
        note: is told what is done next.

    Returns:
        JSON values: `device` (self-test), `layers` (forecasts), `memory`, `loss_scale`, `suggestion`,
        `diverged` (the FP32 steps did, by the learning rate), `ok` (the device computes FP16 as it should),
        `seconds`.

    Raises:
        ValueError: batch_size is below 1, or the images do not fit the network.
        TypeError: batch_size is no integer.

    >>> import fp16engine as fe
    >>> from fp16engine import preflight
    >>> def make(policy):
    ...     model = fe.models.create("dnn", image_size=8, channels=1)
    ...     return fe.Trainer(model, precision=policy, lr=0.05, device="reference")
    >>> data = fe.data.digits().limit(32)
    >>> images = data.normalised("train", "float32")
    >>> found = preflight.run(make, images, data.train.labels, 64)
    >>> found["ok"], found["suggestion"]["precision"]
    (True, 'fp16')
    """
    integer("batch_size", batch_size, 1)
    start = time.perf_counter()
    note("testing the device")
    probe = make(Precision.get("fp32"))
    device = self_test(probe.device)
    note("a probing batch in FP32")
    samples, lost, losses = _probe(probe, images, labels)
    plain = not make(Precision.get("fp16")).precision.native_statistics
    layers = _forecast(samples, lost, plain)
    # what overflows in the first step is not the learning rate's doing
    at_once = any(layer.overflow for layer in _forecast(samples[:1], {}, plain))
    diverged = _diverged(losses) and not at_once
    tops = [
        row.ranges.exponent_range[1]
        for sample in samples
        for row in sample.rows
        if row.kind in (BACKWARD_GRADIENTS, GRADIENTS) and row.ranges.exponent_range
    ]
    scale = advice.loss_scale(max(tops)) if tops else 1.0
    learning_rate, base_lr = float(probe.optimizer.lr), float(probe.state.base_lr)
    del probe
    note("memory under each precision")
    memory = [_plan(make, name, images, labels, batch_size) for name in PRECISIONS]
    return {
        "device": device,
        "layers": [{**asdict(layer), "problems": layer.problems} for layer in layers],
        "memory": [{**asdict(plan), "total": plan.total} for plan in memory],
        "loss_scale": scale,
        "learning_rate": learning_rate,
        "suggestion": suggest(layers, scale, bool(device["passed"]), base_lr if diverged else None),
        "diverged": diverged,
        "ok": bool(device["passed"]),
        "seconds": round(time.perf_counter() - start, 2),
    }


def suggest(
    layers: list[LayerForecast],
    scale: float,
    device_passed: bool = True,
    diverged_at: float | None = None,
) -> dict[str, Any]:
    """Choose a policy from the forecasts: its name, further settings, and the reasons in words.

    Args:
        layers: what binary16 would do to each.
        scale: a loss scale, > 0, for gradients that underflow.
        device_passed: whether the device computes FP16 as it should.
        diverged_at: the learning rate at which the FP32 steps themselves diverged, or None.

    Returns:
        JSON values: `precision`, `settings` and `reasons`.

    Raises:
        ValueError: scale is no finite number > 0.

    >>> from fp16engine.preflight import LayerForecast, suggest
    >>> layer = LayerForecast("conv1", 3, 0.0, 0.0, 0.0, 1.0)
    >>> suggest([layer], 1.0)["precision"]
    'mp'
    """
    number("scale", scale, above=0)
    overflow = [layer for layer in layers if layer.overflow]
    underflow = [
        layer
        for layer in layers
        if max(layer.gradient_underflow, layer.weight_gradient_underflow) >= UNDERFLOW_SHARE
    ]
    lost = [layer for layer in layers if (layer.lost_updates or 0.0) >= LOST_SHARE]
    wide = [layer for layer in layers if (layer.variance or 0.0) >= advice.VARIANCE_NEAR]
    if not device_passed:
        return _choice("fp32", {}, ["this device does not compute FP16 as it should"])
    if diverged_at is not None:
        return _choice(
            "fp32",
            {},
            [
                f"FP32 itself diverges at learning rate {diverged_at:g}, and no policy trains there; lower "
                "the learning rate (--lr) or check the input, then ask again"
            ],
        )
    if overflow:
        return _choice(
            "fp32",
            {},
            [f"activations of {_names(overflow)} leave binary16, under every policy that stores FP16"],
        )
    reasons: list[str] = []
    settings: dict[str, Any] = {}
    name = "fp16"
    if wide:
        settings["statistics"] = "native"
        largest = max(layer.variance or 0.0 for layer in wide)
        reasons.append(f"{_names(wide)}: {advice.variance_in_words(largest)}")
    if underflow:
        settings["loss_scale"] = scale
        reasons.append(f"gradients of {_names(underflow)} underflow without a loss scale of {scale:g}")
        name = "mp"
    if lost:
        settings["update"] = "master32"
        reasons.append(f"{_lost(layers)}; from {percent(LOST_SHARE)} on, FP16 weights need a master copy")
        name = "mp"
    return _choice(name, settings, reasons or [_fits(layers)])


def _fits(layers: list[LayerForecast]) -> str:
    """What the shares say that suggest nothing else than FP16."""
    gradients = {
        layer.layer: max(layer.gradient_underflow, layer.weight_gradient_underflow) for layer in layers
    }
    return f"no activation overflows; {words.worst(gradients, words.GRADIENTS)}; {_lost(layers)}"


def _lost(layers: list[LayerForecast]) -> str:
    shares = {layer.layer: layer.lost_updates for layer in layers if layer.lost_updates is not None}
    return f"{words.worst(shares, words.UPDATES)} at this learning rate"


def _choice(precision: str, settings: dict[str, Any], reasons: list[str]) -> dict[str, Any]:
    return {"precision": precision, "settings": settings, "reasons": reasons}


def _names(layers: list[LayerForecast]) -> str:
    first = ", ".join(layer.layer for layer in layers[:3])
    return first if len(layers) <= 3 else f"{first} and {len(layers) - 3} more"


# The probing steps


def _diverged(losses: list[float]) -> bool:
    """Tell whether a loss is not finite, or far above where it began."""
    return not np.isfinite(losses).all() or max(losses) > _FAR * max(losses[0], 1.0)


def _probe(
    trainer: Trainer, images: np.ndarray, labels: np.ndarray
) -> tuple[list[Sample], dict[str, float], list[float]]:
    """Samples and losses of a few FP32 steps; by layer the share of updates that FP16 weights would lose."""
    trainer.monitor = monitor = Monitor(every=1, shadow=0)
    backend = backends.get(trainer.device)
    trainer.set_total_steps(STEPS)
    nonzero: dict[str, int] = {}
    lost: dict[str, int] = {}
    losses: list[float] = []
    for step in range(STEPS):
        part = np.arange(step * PROBE, (step + 1) * PROBE) % len(images)
        before = {name: np.array(backend.to_numpy(p.data)) for name, p in trainer.model.named_parameters()}
        losses.append(trainer.step(images[part], labels[part]).loss)
        for name, parameter in trainer.model.named_parameters():
            layer = name.rpartition(".")[0] or name
            old, new = before[name], backend.to_numpy(parameter.data)
            changed = old != new
            with np.errstate(over="ignore"):
                half = old.astype(np.float16)
            with np.errstate(over="ignore", invalid="ignore"):
                moved = (half.astype(np.float32) + (new - old)).astype(np.float16)
            stays = changed & (moved == half)
            nonzero[layer] = nonzero.get(layer, 0) + int(np.count_nonzero(changed))
            lost[layer] = lost.get(layer, 0) + int(np.count_nonzero(stays))
    return monitor.samples, {layer: lost[layer] / n for layer, n in nonzero.items() if n}, losses


def _forecast(samples: list[Sample], lost: dict[str, float], plain: bool) -> list[LayerForecast]:
    total: dict[tuple[str, str], Ranges] = {}
    for sample in samples:
        for row in sample.rows:
            total[row.layer, row.kind] = total.get((row.layer, row.kind), EMPTY) + row.ranges
    variances: dict[str, float] = {}
    for norm in (norm for sample in samples for norm in sample.running if plain):
        variances[norm.layer] = max(variances.get(norm.layer, 0.0), norm.largest_var)
    layers = list(dict.fromkeys(layer for layer, kind in total if kind == ACTIVATIONS))
    layers += [layer for layer in lost if layer not in layers]
    result = []
    for layer in layers:
        forward = total.get((layer, ACTIVATIONS), EMPTY)
        span = forward.exponent_range
        result.append(
            LayerForecast(
                layer,
                span[1] if span else None,
                forward.share(forward.over + forward.inf + forward.nan),
                _under(total.get((layer, BACKWARD_GRADIENTS), EMPTY)),
                _under(total.get((layer, GRADIENTS), EMPTY)),
                lost.get(layer),
                variances.get(layer),
            )
        )
    return result


def _under(ranges: Ranges) -> float:
    """Share of the values that are not 0 that binary16 makes 0."""
    nonzero = ranges.values - ranges.zeros
    return ranges.under / nonzero if nonzero else 0.0


# Memory


def _plan(
    make: Callable[[Precision], Trainer], name: str, images: np.ndarray, labels: np.ndarray, batch_size: int
) -> MemoryPlan:
    """Measure one step on the probing batch and scale what depends on the batch up to the planned one."""
    trainer = make(Precision.get(name))
    backend = backends.get(trainer.device)
    count = min(PROBE, len(images))
    weights = sum(a.nbytes for a in _arrays(trainer, "weights"))
    optimizer = sum(a.nbytes for a in _arrays(trainer, "optimizer"))
    trainer.set_total_steps(1)
    x, y = images[:count], labels[:count]
    gc.collect()
    backend.reset_peak()
    before = int(backend.memory()["current"])
    trainer.step(x, y)
    peak = int(backend.memory()["peak"]) - before
    gradients = sum(p.data.nbytes for p in trainer.model.parameters())
    activations = max(peak - gradients, 0)
    return MemoryPlan(name, weights, gradients, optimizer, activations * batch_size // count)


def _arrays(trainer: Trainer, kind: str) -> list[Any]:
    if kind == "weights":
        tensors = [*trainer.model.named_parameters(), *trainer.model.named_buffers()]
        return [tensor.data for _, tensor in tensors]
    optimizer = trainer.optimizer
    state = [a for values in optimizer.state.values() for a in values if a is not None]
    return state + [master for master in optimizer.masters if master is not None]


# The device


def self_test(device: str) -> dict[str, Any]:
    """Compute matrix products, convolutions, norms and softmax in FP16 on `device` and hold them to FP32.

    A sum of n products of random values, accumulated in FP32 and rounded once, may miss FP32's result by half
    a unit in the last place of binary16, and by what two orders of n additions differ.

    Args:
        device: "cpu", "cuda", "cuda:1" or "reference".

    Returns:
        `device`, `passed`, and `operations`: a row each with its largest error and what is allowed.

    Raises:
        BackendUnavailable: the device has no backend here.
        ValueError: there is no such device.

    >>> from fp16engine import preflight
    >>> preflight.self_test("reference")["passed"]
    True
    """
    backend = backends.get(device)
    rng = np.random.default_rng(0)
    rows = []
    for name, call, arrays, terms in _operations(rng):
        half = [backend.from_numpy(a.astype(np.float16)) for a in arrays]
        wide = [backend.cast(a, "float32") for a in half]
        got = backend.to_numpy(call(backend, *half)).astype(np.float64)
        want = backend.to_numpy(call(backend, *wide)).astype(np.float64)
        largest = float(np.abs(want).max())
        u16, u32 = (float(np.finfo(t).eps) / 2 for t in ("float16", "float32"))
        allowed = largest * (u16 + 4 * u32 * terms)
        error = float(np.abs(got - want).max()) if np.isfinite(got).all() else float("inf")
        rows.append(
            {"operation": name, "error": error if np.isfinite(error) else None, "allowed": allowed}
            | {"passed": bool(error <= allowed)}
        )
    return {"device": device, "passed": all(row["passed"] for row in rows), "operations": rows}


def _operations(rng: np.random.Generator) -> list[tuple[str, Callable[..., Any], list[np.ndarray], int]]:
    m, k, n = _SHAPES["linear"]
    batch, height, width, inputs, outputs = _SHAPES["conv"]
    same = (1, 1, 1, 1)
    x, w = rng.standard_normal((m, k)) / 8, rng.standard_normal((n, k)) / 8
    dy = rng.standard_normal((m, n)) / 8
    images = rng.standard_normal((batch, height, width, inputs)) / 8
    kernel = rng.standard_normal((outputs, 3, 3, inputs)) / 8
    dimages = rng.standard_normal((batch, height, width, outputs)) / 8
    rows = rng.standard_normal((m, k))

    def back(part: int) -> Callable[..., Any]:
        return lambda f, a, b, d: f.conv2d_backward(a, b, d, (1, 1), same, 1, (True, True, False), "float32")[
            part
        ]

    return [
        ("linear", lambda f, a, b: f.linear_forward(a, b, None, "float32"), [x, w], k),
        (
            "linear gradient",
            lambda f, a, b, d: f.linear_backward(a, b, d, (True, True, False), "float32")[1],
            [x, w, dy],
            m,
        ),
        (
            "convolution",
            lambda f, a, b: f.conv2d_forward(a, b, None, (1, 1), same, 1, "float32"),
            [images, kernel],
            9 * inputs,
        ),
        ("convolution, data gradient", back(0), [images, kernel, dimages], 9 * outputs),
        ("convolution, weight gradient", back(1), [images, kernel, dimages], batch * height * width),
        ("softmax", lambda f, a: f.softmax(a, 1, "float32"), [rows], k),
        ("sum", lambda f, a: f.sum(a, (0,), "float32"), [rows], m),
    ]
