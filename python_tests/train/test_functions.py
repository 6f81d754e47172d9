"""A loss, a schedule and an optimizer of one's own: the bits of the names, and what resuming compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run

import fp16engine as fe
from fp16engine import functional as F
from fp16engine.train import TrainConfig


def down(step: int, steps: int) -> float:
    return 1.0 - step / steps


def up(step: int, steps: int) -> float:
    return step / steps


def adam(parameters: list[fe.Tensor]) -> fe.optim.Optimizer:
    return fe.optim.Adam(parameters, lr=0.02, seed=3)  # as tiny_run.trainer


def masters(parameters: list[fe.Tensor]) -> fe.optim.Optimizer:
    return fe.optim.SGD(parameters[::-1], lr=0.05, momentum=0.9, update="master32")


def state(trainer: fe.Trainer) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in trainer.model.state_dict().items()}


def trained(epochs: int = 1, precision: str = "fp16", **options: Any) -> fe.Trainer:
    trainer = tiny_run.trainer(precision, **options)
    trainer.fit(tiny_run.data(), epochs, tiny_run.BATCH, progress=False)
    return trainer


@pytest.mark.parametrize(
    ("named", "own"),
    [
        ({}, {"loss": F.cross_entropy}),
        ({"schedule": "linear", "warmup": 2}, {"schedule": down, "warmup": 2}),
        ({"optimizer": "adam", "lr": 0.02}, {"optimizer": adam, "lr": 0.01}),
        ({"precision": "mp"}, {"precision": "mp", "optimizer": masters, "lr": 0.01}),
    ],
    ids=["loss", "schedule", "optimizer", "masters-in-another-order"],
)
def test_a_function_gives_the_bits_of_the_name(named: dict[str, Any], own: dict[str, Any]) -> None:
    assert state(trained(**named)) == state(trained(**own))


@pytest.mark.parametrize(
    ("precision", "make", "named"),
    [
        ("fp16", adam, {"optimizer": "adam", "lr": 0.02}),
        (
            "fp16",
            lambda p: fe.optim.Adam(p, lr=0.02, seed=3, state="plain"),
            {"optimizer": "adam", "lr": 0.02, "state": "plain"},
        ),
        ("mp", masters, {"lr": 0.05}),
    ],
    ids=["state", "eps-of-the-state", "masters"],
)
def test_an_optimizer_made_before_gives_the_bits_of_the_name(
    precision: str, make: Any, named: dict[str, Any]
) -> None:
    """It is made of FP32 parameters, which the trainer rounds."""
    model = tiny_run.model()
    optimizer = make(list(model.parameters()))
    trainer = fe.Trainer(model, precision, optimizer, device=tiny_run.DEVICE, seed=3)
    assert trainer.optimizer is optimizer
    trainer.fit(tiny_run.data(), 1, tiny_run.BATCH, progress=False)
    assert state(trainer) == state(trained(precision=precision, **named))
    with pytest.raises(ValueError, match="optimizer must be a new one, got one after 4 steps"):
        fe.Trainer(model, precision, optimizer, device=tiny_run.DEVICE)


def test_another_loss_trains_otherwise_and_is_evaluated() -> None:
    def twice(logits: fe.Tensor, labels: fe.Tensor) -> fe.Tensor:
        return F.cross_entropy(logits, labels) * 2.0

    one, other = trained(0), trained(0, loss=twice)
    assert other.evaluate(tiny_run.data())[1] == pytest.approx(2 * one.evaluate(tiny_run.data())[1], rel=1e-3)
    assert state(trained(1)) != state(trained(1, loss=twice))


@pytest.mark.parametrize(
    "options",
    [{"schedule": down, "loss": F.cross_entropy}, {"optimizer": adam, "lr": 0.01}, {"accumulate": 2}],
    ids=["functions", "optimizer", "accumulate"],
)
def test_resuming_is_exact(options: dict[str, Any], tmp_path: Path) -> None:
    whole = trained(2, **options)
    steps = iter(range(100))
    with pytest.raises(fe.train.Interrupted):
        tiny_run.trainer(**options).fit(
            tiny_run.data(), 2, tiny_run.BATCH, tmp_path, progress=False,
            stop=lambda: "test" if next(steps) == 2 else None,
        )  # fmt: skip
    again = tiny_run.trainer(**options)
    again.fit(tiny_run.data(), 2, tiny_run.BATCH, tmp_path, resume=True, progress=False)
    assert state(again) == state(whole)
    assert again.optimizer.state_dict().keys() == whole.optimizer.state_dict().keys()


@pytest.mark.parametrize(
    ("saved", "other", "words"),
    [
        ({"schedule": down}, {"schedule": up}, "schedule: .*down.*up"),
        ({"schedule": down}, {"schedule": "linear"}, "schedule: .*down.*'linear'"),
        ({"loss": F.cross_entropy}, {}, "loss: .*cross_entropy.*None"),
        (
            {"optimizer": adam, "lr": 0.01},
            {"optimizer": lambda p: fe.optim.Adam(p, lr=0.5), "lr": 0.01},
            "optimizer: ",
        ),
        ({"accumulate": 2}, {}, "accumulate: .*2.*None"),
    ],
)
def test_resuming_with_another_function_is_refused(
    saved: dict[str, Any], other: dict[str, Any], words: str, tmp_path: Path
) -> None:
    tiny_run.trainer(**saved).fit(tiny_run.data(), 1, tiny_run.BATCH, tmp_path, progress=False)
    with pytest.raises(fe.CheckpointError, match=words):
        tiny_run.trainer(**other).fit(tiny_run.data(), 1, tiny_run.BATCH, tmp_path, True, progress=False)


def test_an_optimizer_of_the_same_name_with_another_rate_is_refused(tmp_path: Path) -> None:
    rates = iter((0.02, 0.03))

    def make(parameters: list[fe.Tensor]) -> fe.optim.Optimizer:
        return fe.optim.Adam(parameters, lr=next(rates))

    tiny_run.trainer(optimizer=make, lr=0.01).fit(tiny_run.data(), 1, 16, tmp_path, progress=False)
    with pytest.raises(fe.CheckpointError, match=r"lr: the checkpoint has 0\.02, this run has 0\.03"):
        tiny_run.trainer(optimizer=make, lr=0.01).fit(tiny_run.data(), 1, 16, tmp_path, True, progress=False)


def _loss(result: Any) -> Any:
    return {"loss": lambda logits, labels: result(logits)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": lambda p: 3, "lr": 0.01}, "optimizer must be a function that returns .*, got 3"),
        ({"optimizer": lambda p: fe.optim.SGD(p[1:], 0.1), "lr": 0.01}, "optimizer must be made of all 6"),
        ({"optimizer": masters, "lr": 0.01}, "optimizer must have update='nearest' .*, got 'master32'"),
        ({"optimizer": adam, "lr": 0.5}, r"lr must be 0\.01, its default, .*, got 0\.5"),
        ({"optimizer": adam, "lr": 0.01, "momentum": 0.5}, r"momentum must be None .*, got 0\.5"),
        (
            {"optimizer": fe.optim.SGD([fe.tensor([1.0], requires_grad=True)], 0.1), "lr": 0.01},
            "optimizer must be made of all 6 parameters of the model .*, got one of 1",
        ),
        ({"schedule": lambda step: 1.0}, "schedule must be a function of .* other arguments: function"),
        ({"loss": lambda logits: logits.sum()}, "loss must be a function of .* other arguments: function"),
        ({"optimizer": fe.optim.SGD}, "optimizer must be an Optimizer .* other arguments: function .*SGD"),
        ({"loss": "mse"}, "loss must be one of|loss must be cross_entropy, or a function, got 'mse'"),
        ({"loss": F.cross_entropy, "label_smoothing": 0.1}, "label_smoothing must be 0 .*, got 0.1"),
        ({"accumulate": 0}, "accumulate must be an integer >= 1, got 0"),
        ({"callbacks": [3]}, r"callbacks\[0\] must be a train.Callback, got 3"),
        ({"callbacks": [fe.train.Callback]}, r"callbacks\[0\] must be .*, got the class Callback"),
    ],
)
def test_wrong_functions_are_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        tiny_run.trainer(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (_loss(lambda logits: 0.0), "loss must be a function that returns a Tensor, got 0.0"),
        (_loss(lambda logits: logits), r"loss must be .* one floating-point value, got float16 of shape"),
        ({"schedule": lambda step, steps: float("nan")}, "schedule: the factor must be .*, got nan"),
        ({"schedule": lambda step, steps: -1}, "schedule: the factor must be .*, got -1"),
    ],
)
def test_wrong_results_of_functions_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        trained(**options)


def test_a_record_of_a_function_asks_for_the_function() -> None:
    stored = TrainConfig(schedule=down).to_dict()
    assert stored["schedule"].startswith("function ") and stored["schedule"].endswith("test_functions.down")
    with pytest.raises(ValueError, match="schedule must be given again as a function"):
        TrainConfig.from_dict(stored)


@pytest.mark.simt
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"loss": F.cross_entropy}, "the loss is a function"),
        ({"accumulate": 2}, "several micro-batches"),
        ({"schedule": down}, None),
    ],
    ids=["loss", "accumulate", "schedule"],
)
def test_what_a_captured_step_does_with_them(options: dict[str, Any], reason: str | None) -> None:
    fits = {}
    for capture in (False, True):
        trainer = tiny_run.trainer(device="simt", capture=capture, **options)
        history = trainer.fit(tiny_run.data(20, 4), 1, 8, progress=False)
        fits[capture] = state(trainer), history.run.get("capture")
    assert fits[False][0] == fits[True][0]
    captured: Any = fits[True][1]
    assert (captured["kernels_per_step"] > 0) == (reason is None)
    assert reason is None or any(reason in words for words in captured["reasons"])


class TestAccumulation:
    def test_gradients_of_parts_are_added_in_fp32_and_their_mean_is_rounded_once(self) -> None:
        """The step's own gradients equal the mean of backward passes, each from the loss scale itself."""
        data, labels = tiny_run.data().normalised("train", "float16")[:12], tiny_run.data().train.labels[:12]
        trainer, twin = (
            fe.Trainer(plain(), lr=0.5, device="reference", **o) for o in ({"accumulate": 3}, {})
        )
        trainer.step(data, labels)
        found: list[list[np.ndarray]] = []
        with twin.precision.use():
            for i in range(0, 12, 4):
                x = fe.tensor(data[i : i + 4], device="reference")
                F.cross_entropy(twin.model(x), fe.tensor(labels[i : i + 4], device="reference")).backward()
                found.append([p.grad.numpy().astype(np.float32) for p in twin.model.parameters()])
                twin.optimizer.zero_grad()
            pairs = list(zip(trainer.model.parameters(), twin.model.parameters(), strict=True))
            for (ours, theirs), first, second, third in zip(pairs, *found, strict=True):
                mean = ((first + second + third) / np.float32(3)).astype(np.float16)
                assert ours.grad.numpy().tobytes() == mean.tobytes()
                theirs.grad = fe.tensor(mean, device="reference")
            twin.optimizer.step()
        assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in pairs)

    def test_an_fp32_step_of_parts_is_the_step_of_the_whole_batch(self) -> None:
        data, labels = tiny_run.data().normalised("train", "float32"), tiny_run.data().train.labels
        losses, weights = [], []
        for accumulate in (1, 4):
            trainer = fe.Trainer(plain(), "fp32", lr=0.5, device="reference", accumulate=accumulate)
            losses.append(trainer.step(data, labels).loss)
            weights.append(np.concatenate([p.numpy().ravel() for p in trainer.model.parameters()]))
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)
        scale = np.abs(weights[0]).max()
        assert np.abs(weights[0] - weights[1]).max() <= 16 * np.finfo(np.float32).eps * scale

    def test_the_sum_in_binary16_is_as_good_as_the_gradient_of_the_whole_batch(self) -> None:
        """Measured: 0.464 % off at once, 0.488 % in 256 micro-batches of one image."""
        data = fe.data.digits().limit(256)
        x, y = data.normalised("train", "float16"), data.train.labels

        def gradient(precision: str, accumulate: int) -> np.ndarray:
            model = fe.models.create("dnn", image_size=8, channels=1)
            weights = {name: w.astype(np.float16).astype("float32") for name, w in model.state_dict().items()}
            model.load_state_dict(weights)
            fe.Trainer(model, precision, lr=1e-30, accumulate=accumulate).step(x, y)
            return np.concatenate([p.grad.numpy().astype(np.float64).ravel() for p in model.parameters()])

        exact = gradient("fp32", 1)
        whole, parts = (np.linalg.norm(gradient("fp16", k) - exact) for k in (1, 256))
        assert parts <= 1.1 * whole and whole <= 0.01 * np.linalg.norm(exact)

    def test_fit_takes_so_many_batches_for_an_update(self) -> None:
        assert trained(1, accumulate=2).applied_steps == 2  # 50 images: 32 and 18
        assert trained(1).applied_steps == 4

    def test_a_bad_part_leaves_everything_as_it_was(self) -> None:
        data, labels = tiny_run.data().normalised("train", "float16")[:16], tiny_run.data().train.labels[:16]
        data[12] = np.inf
        trainer = tiny_run.trainer(accumulate=4)
        before = state(trainer)
        result = trainer.step(data, labels)
        assert not result.applied and "the input x holds" in str(result.reason)
        assert state(trainer) == before
        explaining = tiny_run.trainer(accumulate=4, on_nonfinite="explain")
        with pytest.raises(fe.NonFiniteError, match="the input is not finite"):
            explaining.step(data, labels)

    def test_a_monitor_sees_every_part(self) -> None:
        trainer = tiny_run.trainer(accumulate=2, monitor=1)
        trainer.fit(tiny_run.data(), 1, 16, progress=False)
        assert len(trainer.monitor.samples) == 2
        assert trainer.monitor.samples[0].updates


def plain() -> fe.nn.Module:
    """No batch norm, which takes its statistics from each part, and no dropout."""
    fe.manual_seed(7)
    return fe.nn.Sequential(fe.nn.Flatten(), fe.nn.Linear(16, 8), fe.nn.ReLU(), fe.nn.Linear(8, 3))


class TestFrozen:
    def frozen(self, **options: Any) -> fe.Trainer:
        model: Any = tiny_run.model()
        model[0].weight.requires_grad = False
        return fe.Trainer(model, device=tiny_run.DEVICE, **options)

    def test_not_trained_not_decayed_no_state(self) -> None:
        trainer = self.frozen(weight_decay=0.5, lr=0.1, precision="mp")
        weight = next(trainer.model.parameters())
        before = weight.numpy().tobytes()
        others = [p.numpy().tobytes() for _, p in trainer.state.parameters]
        trainer.fit(tiny_run.data(), 1, 16, progress=False)
        assert weight.numpy().tobytes() == before
        assert all(
            a != p.numpy().tobytes() for a, (_, p) in zip(others, trainer.state.parameters, strict=True)
        )
        assert len(trainer.optimizer.params) == 5
        assert sorted(trainer.optimizer.state_dict())[-2] == "step"
        assert trainer.state.frozen == ["0.weight"]

    def test_resuming_with_another_freezing_is_refused(self, tmp_path: Path) -> None:
        self.frozen().fit(tiny_run.data(), 1, 16, tmp_path, progress=False)
        with pytest.raises(fe.CheckpointError, match=r"frozen: the checkpoint has \['0.weight'\]"):
            fe.Trainer(tiny_run.model(), device=tiny_run.DEVICE).fit(
                tiny_run.data(), 1, 16, tmp_path, True, progress=False
            )
        again = self.frozen()
        again.fit(tiny_run.data(), 1, 16, tmp_path, True, progress=False)
        assert again.step_count == 4

    def test_a_bad_frozen_weight_is_named(self) -> None:
        trainer, data = self.frozen(), tiny_run.data()
        next(trainer.model.parameters()).data[...] = np.nan
        result = trainer.step(data.normalised("train", "float16")[:8], data.train.labels[:8])
        assert "the parameter '0.weight' is not finite" in str(result.reason)

    def test_nothing_to_train_is_refused(self) -> None:
        model = tiny_run.model()
        for parameter in model.parameters():
            parameter.requires_grad = False
        with pytest.raises(ValueError, match="model must have a parameter with requires_grad=True"):
            fe.Trainer(model, device=tiny_run.DEVICE)
