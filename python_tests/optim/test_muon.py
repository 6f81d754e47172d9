"""Muon against a float64 version of its paper, and what FP16 may do to it: overflow, scales, lost updates."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.optim import SGD, Muon, StepScalars
from fp16engine.optim.muon import hidden_matrices, orthogonalised

A, B, C = 3.4445, -4.7750, 2.0315
SHAPES = [(6, 10), (10, 6), (5, 3, 3, 2), (7,)]  # wide, tall, a convolution, a bias
STEPS = 4


def plain_orthogonal(s: np.ndarray, steps: int) -> np.ndarray:
    x = s.reshape(len(s), -1)
    x = x / np.sqrt(np.sum(x.astype(np.float64) ** 2)).astype(x.dtype)
    x = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(steps):
        product = x @ x.T
        x = x * x.dtype.type(A) + (product * x.dtype.type(B) + product @ product * x.dtype.type(C)) @ x
    return (x.T if len(s) != len(x) else x).reshape(s.shape)


def plain_muon(w, grads, lr, momentum, nesterov, weight_decay=0.0, steps=5, unit_rows=False):
    kind = w.dtype.type
    m = np.zeros_like(w)
    for g in grads:
        if w.ndim == 1:
            g = g + w * kind(weight_decay)
        m = m * kind(momentum) + g
        s = g + m * kind(momentum) if nesterov else m
        if w.ndim == 1:
            w = w - s * kind(lr)
            continue
        if unit_rows:
            w = w * kind(np.sqrt(len(w)) / np.sqrt(np.sum(w.astype(np.float64) ** 2)))
        else:
            w = w - w * kind(lr * weight_decay)
        w = w - plain_orthogonal(s, steps) * kind(lr * np.sqrt(max(1, len(w) / (w.size / len(w)))))
    return w


OPTIONS = [
    {"lr": 0.02, "momentum": 0.95, "nesterov": True},
    {"lr": 0.1, "momentum": 0.5, "nesterov": False, "weight_decay": 0.1},
    {"lr": 0.24, "momentum": 0.6, "nesterov": True, "weight_decay": 0.02, "steps": 3, "unit_rows": True},
]


def parameter(value: Any, dtype: str, device: str) -> fe.Tensor:
    return fe.tensor(value, dtype, device, requires_grad=True)


def set_grad(p: fe.Tensor, value: Any) -> None:
    p.grad = fe.tensor(np.broadcast_to(value, p.shape), p.dtype, p.device)


def drawn(dtype: str) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    rng = np.random.default_rng(3)
    draw = lambda shape: np.asarray(rng.normal(size=shape)).astype(dtype)  # noqa: E731
    return [draw(shape) for shape in SHAPES], [[draw(shape) for shape in SHAPES] for _ in range(STEPS)]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_trajectory(backend_name: str, options: dict[str, Any], dtype: str) -> None:
    starts, grads = drawn(dtype)
    params = [parameter(start, dtype, backend_name) for start in starts]
    optimizer = Muon(params, **options)
    for step in grads:
        for p, g in zip(params, step, strict=True):
            set_grad(p, g)
        optimizer.step()
    for i, p in enumerate(params):
        own = [step[i] for step in grads]
        exact = plain_muon(starts[i].astype(np.float64), [g.astype(np.float64) for g in own], **options)
        bounds.relative(p.numpy(), plain_muon(starts[i], own, **options), exact, dtype)


@pytest.mark.parametrize("options", OPTIONS)
def test_trajectory_of_masters(backend_name: str, options: dict[str, Any]) -> None:
    starts, grads = drawn("float32")
    halves = [[g.astype(np.float16) for g in step] for step in grads]
    params = [parameter(start, "float16", backend_name) for start in starts]
    optimizer = Muon(params, update="master32", master_values=starts, **options)
    for step in halves:
        for p, g in zip(params, step, strict=True):
            set_grad(p, g * np.float16(64))
        optimizer.step(grad_scale=1 / 64)
    state = optimizer.state_dict()
    for i, p in enumerate(params):
        assert state[f"momentum.{i}"].dtype == np.float32
        own = [step[i] for step in halves]
        exact = plain_muon(starts[i].astype(np.float64), [g.astype(np.float64) for g in own], **options)
        naive = plain_muon(starts[i].astype(np.float16), own, **options)  # the iteration runs in float16
        if p.ndim > 1:
            bounds.relative(np.asarray(state[f"master.{i}"]).astype(np.float16), naive, exact, "float16")
        bounds.same_bits(p.numpy(), state[f"master.{i}"].astype(np.float16))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_singular_vectors_stay_and_values_end_near_one(backend_name: str, dtype: str) -> None:
    """In FP16 too, where what the matrix lacks grows out of its rounding: that alone is what precision
    costs."""
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    v = np.linalg.qr(rng.normal(size=(20, 20)))[0][:, :12]
    sizes = np.array([1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02, 0.0, 0.0])
    s = fe.tensor((u * sizes) @ v.T, dtype, backend_name)
    got = fe.backend.get(backend_name).to_numpy(orthogonalised(s.data, 8, backend_name))
    values = (u.T @ got.astype(np.float64) @ v).diagonal()
    assert np.all((values[:10] > 0.6) & (values[:10] < 1.25)), values
    if dtype == "float32":
        assert np.all(np.abs(values[10:]) < 0.05), values


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(
    ("dtype", "update", "power"),
    [
        *(("float16", "nearest", power) for power in (-14, -7, 7, 14)),
        *(("float16", "master32", power) for power in (-14, 14)),
        *(("float32", "nearest", power) for power in (-60, -14, 14, 60)),
    ],
)
def test_the_size_of_the_gradient_does_not_matter(
    backend_name: str, dtype: str, update: str, power: int, nesterov: bool
) -> None:
    """From the smallest normal numbers to 2^14, whose squares overflow binary16 and whose norm does too."""
    rng = np.random.default_rng(1)
    signs = rng.choice([-1.0, 1.0], (16, 16))  # of both steps: no momentum falls below the normal numbers
    grads = (signs * rng.uniform(1, 2, (2, 16, 16))).astype(dtype)
    results = []
    for scale in (1.0, 2.0**power):
        p = parameter(np.zeros((16, 16)), dtype, backend_name)
        optimizer = Muon([p], lr=1.0, momentum=0.95, nesterov=nesterov, update=update)
        for g in grads:
            set_grad(p, g.astype(np.float64) * scale)
            optimizer.step()
        results.append(p.numpy())
    bounds.same_bits(results[1], results[0])
    assert np.isfinite(results[0]).all() and np.abs(results[0]).max() > 0.1


def test_a_zero_gradient_is_no_direction(backend_name: str) -> None:
    for unit_rows, start in ((False, 1.0), (True, 0.0)):
        p = parameter(np.full((4, 4), start), "float16", backend_name)
        set_grad(p, 0.0)
        Muon([p], lr=0.5, unit_rows=unit_rows).step()
        assert p.numpy().tolist() == np.full((4, 4), start).tolist()


def test_others_step_as_sgd_does(backend_name: str) -> None:
    """Vectors, and the matrices that are named as such, bit for bit."""
    starts, grads = drawn("float16")
    flags = [True, False, True, False]
    ours = [parameter(start, "float16", backend_name) for start in starts]
    theirs = [parameter(starts[i], "float16", backend_name) for i in (1, 3)]
    muon = Muon(ours, lr=0.1, momentum=0.6, weight_decay=0.1, matrices=flags, sgd_momentum=0.85)
    sgd = SGD(theirs, lr=0.1, momentum=0.85, nesterov=True, weight_decay=0.1)
    for step in grads:
        for p, g in zip(ours, step, strict=True):
            set_grad(p, g)
        for p, i in zip(theirs, (1, 3), strict=True):
            set_grad(p, step[i])
        muon.step()
        sgd.step()
    bounds.same_bits(ours[1].numpy(), theirs[0].numpy())
    bounds.same_bits(ours[3].numpy(), theirs[1].numpy())


@pytest.mark.parametrize("update", ["nearest", "stochastic", "kahan"])
def test_small_updates(backend_name: str, update: str) -> None:
    """lr = 1e-4 from weights of 1: every update is below half a gap; only to nearest they are all lost."""
    p = parameter(np.ones((16, 16)), "float16", backend_name)
    optimizer = Muon([p], lr=1e-4, momentum=0.0, nesterov=False, update=update)
    set_grad(p, np.eye(16))
    for _ in range(50):
        optimizer.step(count=True)
    assert optimizer.counts is not None and optimizer.counts[0, 0] >= 16
    moved = np.mean(1.0 - p.numpy().diagonal().astype(np.float64))
    assert moved == 0 if update == "nearest" else 0.6 < moved / (50 * 1e-4) < 1.4
    assert (optimizer.counts[0, 1] == optimizer.counts[0, 0]) == (update == "nearest")


@pytest.mark.parametrize("update", ["nearest", "stochastic", "kahan", "master32"])
def test_state_continues_bit_for_bit(backend_name: str, update: str) -> None:
    starts, grads = drawn("float16")
    options: dict[str, Any] = {"lr": 0.1, "update": update, "seed": 5}

    def run(params: list[fe.Tensor], optimizer: Muon, part: list[list[np.ndarray]]) -> None:
        for step in part:
            for p, g in zip(params, step, strict=True):
                set_grad(p, g)
            optimizer.step()

    ours = [parameter(start, "float16", backend_name) for start in starts]
    optimizer = Muon(ours, **options)
    run(ours, optimizer, grads[:2])
    again = [parameter(p.numpy(), "float16", backend_name) for p in ours]
    resumed = Muon(again, **{**options, "seed": 6, "steps": 2})
    resumed.load_state_dict(optimizer.state_dict())
    run(ours, optimizer, grads[2:])
    run(again, resumed, grads[2:])
    for p, q in zip(ours, again, strict=True):
        bounds.same_bits(q.numpy(), p.numpy())


def test_products_accumulate_as_the_precision_says() -> None:
    """Binary16 accumulators give other bits, float32 weights no silent other accumulator."""
    rng = np.random.default_rng(2)
    s = rng.normal(size=(8, 300)).astype(np.float16)
    results = []
    for precision in ("fp16", "fp16-strict"):
        with fe.Precision.get(precision).use():
            results.append(orthogonalised(s, 5, "reference"))
    assert not np.array_equal(*results)
    assert np.max(np.abs(results[0].astype(np.float64) - results[1])) < 0.05
    with fe.Precision.get("fp16-strict").use(), pytest.raises(fe.UnsupportedPrecision):
        orthogonalised(np.ones((2, 2), np.float32), 5, "reference")


def test_own_rates(backend_name: str) -> None:
    """A factor on the rate takes its inverse on the decay: the share that decay takes off stays."""
    for make in (SGD, Muon):
        params = [parameter([1.0], "float32", backend_name) for _ in range(2)]
        optimizer = make(params, lr=0.25, weight_decay=0.5, momentum=0.0, nesterov=False)
        optimizer.lr_factors = [1.0, 4.0]
        for p, g in zip(params, (0.0, 0.5), strict=True):
            set_grad(p, g)
        optimizer.step()
        assert [p.item() for p in params] == [1 - 0.125, 1 - 0.125 - 0.5]
        with pytest.raises(TypeError, match="scalars must be StepScalars"):
            optimizer.launch(np.zeros(32, np.uint8))


def test_hidden_matrices() -> None:
    assert hidden_matrices([(3, 3), (3,), (4, 2, 2, 3)]) == [True, False, False]
    assert hidden_matrices([(3,)]) == [False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be .*got 0"),
        ({"momentum": 0.0}, r"momentum must be > 0 with nesterov=True, got 0"),
        ({"sgd_momentum": 1.0}, "sgd_momentum must be .*got 1"),
        ({"matrices": [True]}, "matrices must be 2 flags, got 1"),
        (
            {"matrices": [True, True]},
            r"matrices\[1\] must be False for a parameter of shape \(2,\), got True",
        ),
        ({"lr": float("nan")}, "lr must be .*got nan"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    params = [parameter(np.zeros(shape), "float16", "reference") for shape in ((2, 2), (2,))]
    with pytest.raises(ValueError, match=message):
        Muon(params, **options)


def test_step_that_is_not_finite_spoils_its_own_matrix_only(backend_name: str) -> None:
    params = [parameter(np.ones((3, 3)), "float16", backend_name) for _ in range(2)]
    set_grad(params[0], np.inf)
    set_grad(params[1], 1.0)
    optimizer = Muon(params, lr=0.5)
    optimizer.launch(StepScalars(lr=0.5))
    assert not np.isfinite(params[0].numpy()).any() and np.isfinite(params[1].numpy()).all()


@pytest.mark.parametrize("precision", ["fp16", "fp16-strict", "mp"])
def test_no_tensor_is_wider_than_the_precision_says(precision: str) -> None:
    from fp16engine.numerics import strict
    from fp16engine.numerics.audit import audit_batch

    digits = fe.data.digits().limit(16)
    trainer = fe.Trainer(fe.models.create("resnet8", image_size=8, channels=1), precision, optimizer="muon")
    strict.check(trainer, *audit_batch(digits, trainer.precision))
