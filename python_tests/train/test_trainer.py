"""One step, many steps, evaluation, prediction: results, accounts and errors."""

import itertools
import math
import re

import bounds
import numpy as np
import pytest
import tiny_run

import fp16engine as fe
from fp16engine import nn
from fp16engine.loss_scale import LossScale
from fp16engine.precision import Precision

POLICIES = ["fp32", "fp16", "fp16-strict", "mp"]


def batch(dtype="float32", count=16):
    data = tiny_run.data()
    return data.normalised("train", dtype)[:count], data.train.labels[:count]


def bits(trainer):
    """Everything a step may change, as bytes."""
    state = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
    return {key: np.asarray(value).tobytes() for key, value in state.items()}


def mp(**changes):
    choices = ("float16", "float16", "float32", "float32", "master32")
    return Precision("scaled mp", *choices, LossScale(**changes))


@pytest.mark.parametrize("precision", POLICIES)
def test_overfits_one_batch(precision, backend_name):
    trainer = tiny_run.trainer(precision, backend_name)
    x, y = batch()
    results = [trainer.step(x, y) for _ in range(40)]
    assert all(r.applied and r.reason is None for r in results)
    assert results[0].loss > 0.8 and results[-1].loss < 0.1
    assert trainer.predict(x).argmax(axis=1).tolist() == y.tolist()
    assert (trainer.step_count, trainer.applied_steps) == (40, 40)


@pytest.mark.parametrize("precision", POLICIES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_two_runs_give_the_same_bits(precision, optimizer, backend_name):
    x, y = batch()
    first, second = (
        tiny_run.trainer(precision, backend_name, optimizer=optimizer, lr=0.01) for _ in range(2)
    )
    for _ in range(3):
        assert first.step(x, y) == second.step(x, y)  # interleaved: neither disturbs the other's dropout
    assert bits(first) == bits(second)


def test_leaves_the_global_randomness_alone():
    fe.manual_seed(11)
    before = fe.random.get_state()
    trainer = tiny_run.trainer()
    state = fe.random.get_state()
    trainer.step(*batch())
    assert fe.random.get_state() == state
    assert before["seed"] != state["seed"]  # tiny_run.model seeds on its own


def test_every_step_draws_another_dropout_mask():
    trainer = tiny_run.trainer("fp32", lr=1e-9)
    losses = [trainer.step(*batch()).loss for _ in range(4)]
    assert min(abs(a - b) for a, b in itertools.pairwise(losses)) > 1e-3


def test_step_takes_tensors_lists_and_casts_to_storage():
    x, y = batch()
    results = [
        tiny_run.trainer().step(images, labels)
        for images, labels in (
            (x, y),
            (x.astype(np.float16), y.astype(np.int32)),
            (fe.tensor(x, device=tiny_run.DEVICE), fe.tensor(y, device=tiny_run.DEVICE)),
            (x.tolist(), y.tolist()),
        )
    ]
    assert len(set(results)) == 1


@pytest.mark.parametrize("precision", POLICIES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_in_the_input_changes_nothing_and_is_counted(precision, bad, backend_name):
    trainer = tiny_run.trainer(precision, backend_name)
    x, y = batch()
    trainer.step(x, y)
    before, scaler = bits(trainer), trainer.scaler and trainer.scaler.state_dict()
    x = x.copy()
    x[0, 0, 0, 0] = bad
    result = trainer.step(x, y)
    assert not result.applied and "the input x holds nan" in result.reason
    assert bits(trainer) == before  # running statistics and optimizer state included
    assert (trainer.applied_steps, trainer.skipped_steps, trainer.nonfinite_steps) == (1, 0, 1)
    assert scaler == (trainer.scaler and trainer.scaler.state_dict())  # no loss scale would help
    assert trainer.step(*batch()).applied


def test_values_beyond_binary16_are_named_too():
    x, y = batch()
    assert "beyond float16" in tiny_run.trainer().step(x * 1e6, y).reason
    assert tiny_run.trainer("fp32").step(x * 1e6, y).applied


def test_broken_parameter_is_named():
    trainer = tiny_run.trainer()
    trainer.model[4].bias.data[1] = np.nan
    assert "the parameter '4.bias' is not finite" in trainer.step(*batch()).reason


def test_gives_up_after_max_bad_steps_in_a_row():
    trainer = tiny_run.trainer(max_bad_steps=3)
    x, y = batch()
    for _ in range(2):
        trainer.step(x * math.nan, y)
    trainer.step(x, y)  # a good one starts the count afresh
    for _ in range(2):
        trainer.step(x * math.nan, y)
    with pytest.raises(fe.NonFiniteError, match=r"3 steps in a row were not applied.*the input x holds nan"):
        trainer.step(x * math.nan, y)
    assert trainer.nonfinite_steps == 5 and trainer.step_count == 6


class Scaled(nn.Module):
    """A linear layer whose gradient is `factor` times what its output suggests."""

    def __init__(self, factor):
        super().__init__()
        fe.manual_seed(0)
        self.factor = factor
        self.first = nn.Linear(16, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = fe.functional.flatten(x)
        return self.last(self.first(x) * self.factor / self.factor)


def test_overflowing_gradient_names_the_first_parameter_of_the_backward_pass():
    x, y = batch()
    trainer = fe.Trainer(Scaled(2.0**14), "fp16", device=tiny_run.DEVICE)
    trainer.model.first.weight.data *= np.float16(2.0**-10)  # the product stays finite, its gradient does not
    trainer.model.last.weight.data *= np.float16(2.0**10)
    x = x * 100
    result = trainer.step(x, y)
    assert not result.applied
    assert re.search(r"the gradient of 'first\.(bias|weight)' is not finite", result.reason)
    assert trainer.nonfinite_steps == 1


def test_the_parameter_the_backward_pass_meets_first_is_named():
    trainer = fe.Trainer(Scaled(1.0), "fp32", device=tiny_run.DEVICE)
    trainer.step(*batch())
    assert trainer.state.first_nonfinite() is None
    for parameter in (trainer.model.first.weight, trainer.model.last.weight):
        parameter.grad.data[0] = np.inf
    assert trainer.state.first_nonfinite() == "the gradient of 'last.weight'"


def test_mp_finds_its_start_scale_and_tells_skipped_from_applied():
    trainer = fe.Trainer(tiny_run.model(0.0), mp(), lr=0.05, device=tiny_run.DEVICE)
    x, y = batch()
    before = bits(trainer)
    trainer.model[4].weight.data *= np.float16(512)  # large weights: the scaled gradient overflows at first
    trainer.optimizer.masters[4] *= np.float32(512)
    before = bits(trainer)
    result = trainer.step(x * 50, y)
    assert not result.applied and "at loss scale 32768" in result.reason
    assert bits(trainer) == before
    assert any(trainer.step(x * 50, y).applied for _ in range(15))
    assert trainer.scaler.scale < 2.0**15
    assert trainer.skipped_steps == trainer.scaler.skipped >= 1
    assert trainer.nonfinite_steps == 0
    assert trainer.step_count == trainer.applied_steps + trainer.skipped_steps


def test_mp_stops_with_a_diagnosis_at_the_floor():
    trainer = fe.Trainer(tiny_run.model(0.0), mp(initial=1.0), device=tiny_run.DEVICE, max_bad_steps=2)
    trainer.state.first_nonfinite = lambda: "the gradient of '0.weight'"
    trainer.step(*batch())
    with pytest.raises(fe.NonFiniteError, match="loss scale is at its floor 1 and 2 steps in a row"):
        trainer.step(*batch())


def test_the_loss_scale_changes_no_bit_of_an_fp32_update():
    x, y = batch()
    results = []
    for scale in (1.0, 1024.0):
        policy = Precision(
            "scaled",
            "float32",
            "float32",
            "float32",
            "float32",
            loss_scale=LossScale(initial=scale, dynamic=False),
        )
        trainer = fe.Trainer(tiny_run.model(), policy, lr=0.05, device=tiny_run.DEVICE)
        trainer.step(x, y)
        results.append(bits(trainer))
    assert results[0] == results[1]


def test_mp_rescues_gradients_that_underflow_in_fp16():
    # exp(-17.5) = 2.5e-8 rounds to 0 in binary16: what a confident model's other classes still have to learn
    x, y = batch(count=1)
    moved = {}
    for precision in ("fp16", "mp"):
        trainer = fe.Trainer(Scaled(1.0), precision, lr=1e-3, device=tiny_run.DEVICE)
        bias = np.full(3, -17.5, np.float32)
        bias[y[0]] = 0.0
        for name, array in (("weight", np.zeros((3, 8))), ("bias", bias)):
            parameter = getattr(trainer.model.last, name)
            parameter.data[...] = array.astype(parameter.dtype)
        trainer.step(x, y)
        moved[precision] = np.count_nonzero(trainer.model.last.bias.grad.numpy())
    assert moved["fp16"] == 0 and moved["mp"] >= 2


def test_mp_masters_start_from_the_unrounded_weights_and_are_float32():
    model = tiny_run.model()
    initial = [np.array(p.data) for p in model.parameters()]
    trainer = fe.Trainer(model, "mp", device=tiny_run.DEVICE)
    rounded = 0
    for parameter, master, values in zip(
        trainer.optimizer.params, trainer.optimizer.masters, initial, strict=True
    ):
        if parameter.dtype == "float16":
            assert master.dtype == np.float32 and np.array_equal(master, values)
            rounded += int(np.count_nonzero(parameter.numpy() != values))
    assert rounded > 0
    names = dict(trainer.model.named_parameters())
    assert names["1.gamma"].dtype == "float32" and names["0.weight"].dtype == "float16"


def test_cosine_counts_applied_steps_only():
    trainer = tiny_run.trainer(schedule="cosine")
    trainer.set_total_steps(4)
    x, y = batch()
    trainer.step(x, y)
    rate = trainer.state.learning_rate()
    trainer.step(x * math.nan, y)
    assert trainer.state.learning_rate() == rate < 0.05
    trainer.step(x, y)
    assert trainer.state.learning_rate() < rate


def test_cosine_without_a_length_says_so():
    with pytest.raises(ValueError, match=r"total_steps must .* got None"):
        tiny_run.trainer(schedule="cosine").step(*batch())


def test_predict_gives_float32_rows_that_sum_to_one():
    trainer = tiny_run.trainer()
    x = tiny_run.data().normalised("test", "float32")
    rows = trainer.predict(x, batch_size=7)
    assert rows.dtype == np.float32 and rows.shape == (20, 3)
    assert abs(rows.sum(axis=1) - 1).max() < 3 * np.finfo(np.float16).eps
    assert np.array_equal(rows, trainer.predict(x, batch_size=20))
    assert np.array_equal(rows[:1], trainer.predict(x[:1]))


def test_evaluate_agrees_with_predict_and_changes_nothing():
    trainer = tiny_run.trainer()
    trainer.step(*batch())
    before = bits(trainer)
    data = tiny_run.data()
    accuracy, loss = trainer.evaluate(data, batch_size=6)
    rows = trainer.predict(data.normalised("test", "float32"))
    assert accuracy == np.mean(rows.argmax(axis=1) == data.test.labels)
    exact = -np.log(rows.astype(np.float64)[np.arange(20), data.test.labels]).mean()
    assert abs(loss - exact) < 0.01
    assert bits(trainer) == before and trainer.model.training


def test_mode_is_restored_after_inference():
    trainer = tiny_run.trainer()
    trainer.model.eval()
    trainer.predict(tiny_run.data().normalised("test", "float32"))
    assert not trainer.model.training
    with pytest.raises(ValueError, match=r"x must .* got 2"):
        trainer.predict(np.zeros((1, 4, 4, 2), np.float32))
    assert not trainer.model.training


def test_model_with_another_output_is_explained():
    trainer = fe.Trainer(nn.Sequential(nn.Conv2d(1, 2, 3)), device=tiny_run.DEVICE)
    with pytest.raises(ValueError, match=r"model must .* got \(16, 4, 4, 2\)"):
        trainer.step(*batch())


def test_label_beyond_the_classes_is_refused():
    x, _ = batch()
    with pytest.raises(ValueError, match="labels"):
        tiny_run.trainer().step(x, np.full(16, 3))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"precision": "fp17"}, ValueError, "precision must be .*, got 'fp17'"),
        ({"precision": "tf32"}, fe.UnsupportedPrecision, "tf32"),
        (
            {"optimizer": "lion"},
            ValueError,
            "optimizer must be one of sgd, adam, adamw, rmsprop, muon, got 'lion'",
        ),
        ({"lr": math.nan}, ValueError, "lr must be a finite number > 0, got nan"),
        ({"lr": 0}, ValueError, "lr must be a finite number > 0, got 0"),
        ({"lr": "0.1"}, TypeError, "lr must be a finite number > 0, got '0.1'"),
        ({"momentum": 1.5}, ValueError, "momentum"),
        ({"optimizer": "adam", "nesterov": True}, ValueError, r"nesterov must .* got True"),
        ({"eps": 1e-3}, ValueError, r"eps must .* got 0.001"),
        (
            {"optimizer": "adam", "eps": 1e-9, "state": "plain"},
            ValueError,
            "eps must be > 2.98e-08",
        ),
        ({"optimizer": "adam", "state": "half"}, ValueError, "state must be native or plain, got 'half'"),
        ({"state": "plain"}, ValueError, r"state must .* got 'plain'"),
        ({"update": "up"}, fe.UnsupportedPrecision, "update must be one of nearest, .*, got 'up'"),
        ({"schedule": "step"}, ValueError, r"schedule must .* got 'step'"),
        ({"seed": -1}, ValueError, r"seed must .* got -1"),
        ({"seed": 1.5}, TypeError, r"seed must .* got 1.5"),
        ({"max_bad_steps": 0}, ValueError, "max_bad_steps must be .*, got 0"),
        ({"device": "cuda:7"}, fe.BackendUnavailable, "cuda:7"),
    ],
)
def test_wrong_settings_are_named(options, error, words):
    with pytest.raises(error, match=words):
        tiny_run.trainer(**options)


@pytest.mark.parametrize("precision", ["fp32", "mp"])
def test_gradients_are_clipped_in_the_register(precision):
    """A step of plain SGD is lr * clip_norm long, whatever the loss scale; gradients keep their bits."""
    most, lr = 1e-3, 0.5
    x, y = batch()
    trainer = tiny_run.trainer(precision=precision, lr=lr, momentum=0.0, clip_norm=most)
    unclipped = tiny_run.trainer(precision=precision, lr=lr, momentum=0.0)

    def weights():
        pairs = zip(trainer.optimizer.params, trainer.optimizer.masters, strict=True)
        return [np.array(p.data if master is None else master, np.float64) for p, master in pairs]

    before = weights()
    assert trainer.step(x, y).applied and unclipped.step(x, y).applied
    length = np.sqrt(sum(np.sum(np.square(new - old)) for new, old in zip(weights(), before, strict=True)))
    # every weight is rounded to float32 once, and so is what is subtracted from it
    largest = max(np.max(np.abs(w)) for w in before)
    assert abs(length - lr * most) <= largest * bounds.EPS["float32"] * np.sqrt(sum(w.size for w in before))
    for p, q in zip(trainer.optimizer.params, unclipped.optimizer.params, strict=True):
        bounds.same_bits(p.grad.numpy(), q.grad.numpy())
    with pytest.raises(ValueError, match="clip_norm must be a finite number > 0, got 0"):
        tiny_run.trainer(clip_norm=0)


@pytest.mark.parametrize("update", ["stochastic", "kahan"])
def test_the_update_takes_the_place_of_the_policys(update):
    trainer = tiny_run.trainer(update=update)
    assert trainer.precision.update == trainer.optimizer.update == update
    assert trainer.precision.name == f"fp16+{update}" and trainer.optimizer.seed == trainer.seed
    assert ("compensation.0" in trainer.optimizer.state_dict()) == (update == "kahan")
    assert trainer.step(*batch()).applied
