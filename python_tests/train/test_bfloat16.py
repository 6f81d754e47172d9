"""Training in bfloat16: it learns, gives the same bits again, resumes, and stores nothing wider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bounds
import numpy as np
import pytest
import tiny_run

import fp16engine as fe
from fp16engine.numerics import lockstep, strict

pytest.importorskip("ml_dtypes")
DIGITS = fe.data.digits()


def trainer(precision: str, device: str = "cpu", seed: int = 1, **options: Any) -> fe.Trainer:
    fe.manual_seed(seed)
    model = fe.models.create("dnn", image_size=8, channels=1)
    return fe.Trainer(model, precision=precision, device=device, seed=seed, **options)


@pytest.mark.parametrize("precision", ["bf16", "bf16-sr"])
def test_digits_are_learnt(cpu: object, precision: str) -> None:
    made = trainer(precision, lr=0.05)
    history = made.fit(DIGITS, epochs=6, batch_size=32, progress=False)
    assert history.summary()["test_accuracy"] >= 0.85
    assert history.summary()["nonfinite_steps"] == 0
    assert {p.dtype for p in made.model.parameters()} == {"bfloat16"}


def steps(precision: str, device: str, count: int = 3, **options: Any) -> dict[str, np.ndarray]:
    made = trainer(precision, device, **options)
    images, labels = DIGITS.normalised("train", "bfloat16"), DIGITS.train.labels
    for i in range(count):
        made.step(images[32 * i : 32 * i + 32], labels[32 * i : 32 * i + 32])
    return made.model.state_dict()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_same_bits_again(cpu: object, optimizer: str) -> None:
    first, second = (steps("bf16-sr", "cpu", optimizer=optimizer, lr=1e-3) for _ in range(2))
    for name, array in first.items():
        bounds.same_bits(second[name], array)


@pytest.mark.parametrize(
    ("optimizer", "device"), [("adamw", "cpu"), ("rmsprop", "cpu"), ("sgd", "reference")]
)
def test_a_stopped_run_continues_bit_for_bit(
    cpu: object, tmp_path: Path, optimizer: str, device: str
) -> None:
    def tiny() -> fe.Trainer:
        return tiny_run.trainer("bf16-sr", device, optimizer=optimizer, lr=0.01)

    tiny_run.fit(tiny(), tmp_path / "whole")
    with pytest.raises(MemoryError):
        tiny_run.fit(tiny(), tmp_path / "broken", progress=tiny_run.StopAt(7))
    tiny_run.fit(tiny(), tmp_path / "broken", resume=True)
    assert tiny_run.outcome(tmp_path / "broken") == tiny_run.outcome(tmp_path / "whole")
    saved = fe.Checkpoint.load(tmp_path / "broken")
    assert saved.precision.name == "bf16-sr"
    assert {a.dtype.name for a in saved.tensors.values()} == {"bfloat16", "int64"}


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_strict_finds_nothing_wider(cpu: object, device: str) -> None:
    made = tiny_run.trainer("bf16", device)
    data = tiny_run.data()
    strict.check(made, data.normalised("train", "bfloat16")[:8], data.train.labels[:8])


def test_gpus_refuse(backend_name: str) -> None:
    if backend_name in ("cpu", "reference"):
        pytest.skip("has bfloat16")
    with pytest.raises(fe.UnsupportedPrecision, match="bfloat16 runs on the devices 'cpu' and 'reference'"):
        trainer("bf16", backend_name)


def test_stagnation_is_found_and_named(cpu: object) -> None:
    """Updates of 2^-10 of a weight: FP16 has room for them, bfloat16 with its 2^-8 does not."""
    lost = {}
    for precision in ("fp16", "bf16", "bf16-sr"):
        w = fe.tensor(np.ones(64, np.float32), fe.Precision.get(precision).storage, requires_grad=True)
        w.grad = fe.tensor(np.ones(64, np.float32), w.dtype)
        optimizer = fe.optim.SGD([w], lr=2.0**-10, update=fe.Precision.get(precision).update)
        optimizer.step(count=True)
        assert optimizer.counts is not None
        lost[precision] = int(optimizer.counts[0][fe.optim.COUNTS.index("updates_lost")])
    assert lost == {"fp16": 0, "bf16": 64, "bf16-sr": 0}


def test_lock_step_names_no_layer(cpu: object) -> None:
    def build() -> fe.nn.Module:
        fe.manual_seed(3)
        return fe.models.create("dnn", image_size=8, channels=1)

    images, labels = DIGITS.normalised("train", "float32")[:32], DIGITS.train.labels[:32]
    bf16 = lockstep.compare(build, images, labels, "bf16", "fp32")
    fp16 = lockstep.compare(build, images, labels, "fp16", "fp32")
    assert bf16.first is None
    assert bf16.rows[0].relative_error > 2 * fp16.rows[0].relative_error


def test_logits_as_torch_stores_them(cpu: object) -> None:
    """torch.bfloat16 rounds a product once, as we do: the two differ by the order of their FP32 sums."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    a, b = (bounds.rounded(rng.standard_normal((64, 64)), "bfloat16") for _ in range(2))
    theirs = [torch.from_numpy(x.view(np.int16)).view(torch.bfloat16) for x in (a, b)]
    expected = (theirs[0] @ theirs[1]).float().numpy()
    with fe.Precision.get("bf16").use():
        got = (fe.tensor(a) @ fe.tensor(b)).numpy()
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = bounds.zero_mean(np.square(a.astype(np.float64)) @ np.square(b.astype(np.float64)), 64, "float32")
    bounds.bounded(got, exact, bound, "bfloat16")
    assert np.all(np.abs(got.astype(np.float64) - expected) <= bounds.ulp(exact, "bfloat16") + 2 * bound)
    copied = torch.tensor(rng.standard_normal(1000), dtype=torch.float32)
    ours = fe.tensor(copied.numpy(), "bfloat16").numpy().view(np.int16)
    np.testing.assert_array_equal(ours, copied.bfloat16().view(torch.int16).numpy())
