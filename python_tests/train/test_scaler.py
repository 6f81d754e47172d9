"""The loss scale: powers of two, floor, cap, growth, backoff, and the account of skipped steps."""

import json
import math
from typing import Any

import numpy as np
import pytest
import tiny_run as tiny
from planted import Times, batch, net

import fp16engine as fe
from fp16engine.loss_scale import LossScale
from fp16engine.numerics import ranges
from fp16engine.precision import Precision
from fp16engine.train.scaler import LossScaler, largest_power_of_two


def feed(scaler: LossScaler, finite: str) -> None:
    for mark in finite:
        scaler.update(mark == "+")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_largest_power_of_two_is_finite_and_its_double_is_not(dtype):
    value = largest_power_of_two(dtype)
    with np.errstate(over="ignore"):
        assert np.isfinite(np.array(value).astype(dtype))
        assert np.isinf(np.array(2 * value).astype(dtype))


def test_float16_seeds_never_exceed_what_binary16_holds():
    scaler = LossScaler(LossScale(initial=2.0**16, cap=2.0**24, interval=1), "float16")
    assert scaler.scale == 2.0**15
    feed(scaler, "+++")
    assert scaler.scale == 2.0**15
    assert LossScaler(LossScale(initial=2.0**16, cap=2.0**24), "float32").scale == 2.0**16


def test_grows_after_interval_applied_steps_in_a_row():
    scaler = LossScaler(LossScale(initial=8.0, interval=3))
    feed(scaler, "++")
    assert scaler.scale == 8
    feed(scaler, "+")
    assert scaler.scale == 16
    feed(scaler, "++-")
    assert scaler.scale == 8
    feed(scaler, "++")
    assert scaler.scale == 8  # the overflow started the count afresh
    feed(scaler, "+")
    assert scaler.scale == 16


def test_stays_within_floor_and_cap_and_a_power_of_two():
    rng = np.random.default_rng(0)
    scaler = LossScaler(LossScale(initial=64.0, interval=2, floor=4.0, cap=256.0), patience=10**6)
    seen = set()
    for finite in rng.random(2000) < 0.6:
        scaler.update(bool(finite))
        seen.add(scaler.scale)
        assert math.frexp(scaler.scale)[0] == 0.5
    assert min(seen) == 4 and max(seen) == 256
    assert scaler.applied + scaler.skipped == 2000


def test_fixed_scale_never_moves():
    scaler = LossScaler(LossScale(initial=128.0, dynamic=False, interval=1), patience=3)
    feed(scaler, "+-+--")
    assert scaler.scale == 128 and scaler.diagnosis is None
    feed(scaler, "-")
    assert "fixed value 128" in (scaler.diagnosis or "")


def test_search_for_the_start_scale_is_not_broken_training():
    scaler = LossScaler(LossScale(), patience=1)
    feed(scaler, "-" * 15)
    assert scaler.scale == 1 and scaler.searching and scaler.diagnosis is None
    feed(scaler, "+" * 100)
    assert not scaler.searching
    assert "15 of 115 steps skipped, 15 of them while the start scale was found (normal)" in scaler.summary()


def test_diagnosis_after_patience_overflows_at_the_floor():
    scaler = LossScaler(LossScale(initial=2.0, floor=2.0), patience=3)
    feed(scaler, "+--")
    assert scaler.diagnosis is None
    feed(scaler, "-")
    assert "floor 2" in (text := scaler.diagnosis or "") and "after 1 applied steps" in text
    feed(scaler, "+")
    assert scaler.diagnosis is None


def test_summary_tells_many_late_skips_from_few():
    scaler = LossScaler(LossScale(initial=2.0**15, interval=4))
    assert scaler.summary() is None
    feed(scaler, "+" * 8 + "-")
    assert scaler.summary().endswith("1 of 9 steps skipped (normal)")
    feed(scaler, "+-" * 30)
    assert "lower learning rate" in (scaler.summary() or "")


def test_state_goes_through_json_types_and_continues_alike():
    first = LossScaler(LossScale(interval=3))
    feed(first, "--++")
    second = LossScaler(LossScale(interval=3))
    second.load_state_dict(first.state_dict())
    for scaler in (first, second):
        feed(scaler, "+++--+")
    assert first.state_dict() == second.state_dict()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scale": 3.0}, "scale"),
        ({"scale": 2.0**16}, "scale"),
        ({"scale": math.nan}, "scale"),
        ({"scale": "8"}, "scale"),
        ({"applied": -1}, "applied"),
        ({"skipped": 1.5}, "skipped"),
        ({"surprise": 1}, r"scaler state must .* got \['surprise'\]"),
    ],
)
def test_refuses_states_it_did_not_write(change, named):
    scaler = LossScaler(LossScale())
    with pytest.raises((TypeError, ValueError), match=named):
        scaler.load_state_dict({**scaler.state_dict(), **change})


def test_refuses_a_floor_above_what_the_dtype_holds():
    with pytest.raises(ValueError, match="floor"):
        LossScaler(LossScale(initial=2.0**20, floor=2.0**17, cap=2.0**24), "float16")
    with pytest.raises(ValueError, match="patience"):
        LossScaler(LossScale(), patience=0)


# The automatic scale


def automatic(tops: list[int], **policy: Any) -> list[float]:
    """The scales that gradients of these unscaled sizes give, one after the other."""
    scaler = LossScaler(LossScale(initial=1.0, automatic=True, **policy))
    scales = []
    for top in tops:
        scaled = np.array([2.0**top * scaler.scale, 2.0**-20], np.float16)
        scaler.observe(ranges.of(scaled, "reference"))
        scaler.update(True)
        scales.append(scaler.scale)
    return scales


def test_the_largest_gradient_goes_to_two_to_the_thirteen():
    assert automatic([3, 3, 0]) == [2.0**10] * 3  # the largest of the last measurements counts
    assert automatic([-3]) == [2.0**15]  # the cap: 2^16 is infinite as the gradient of the loss
    assert automatic([15]) == [1.0]  # the floor
    assert automatic([5] + [-1] * 8) == [2.0**8] * 8 + [2.0**14]


def test_nothing_left_raises_the_scale():
    scaler = LossScaler(LossScale.from_histogram())
    scaler.observe(ranges.of(np.zeros(4, np.float16), "reference"))
    assert scaler.scale == 2.0**13 and scaler.zero_share == 1.0


def test_an_overflow_still_halves_and_forgets():
    scaler = LossScaler(LossScale.from_histogram())
    scaler.observe(ranges.of(np.array([8.0], np.float16), "reference"))
    assert scaler.scale == 2.0**10
    scaler.update(False)
    assert scaler.scale == 2.0**9 and scaler.state_dict()["tops"] == []


def test_an_automatic_scale_resumes_where_it_was():
    one, two = (LossScaler(LossScale.from_histogram()) for _ in range(2))
    one.observe(ranges.of(np.array([8.0, 2.0**-20, 0.0], np.float16), "reference"))
    one.update(True)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert two.state_dict() == one.state_dict() and two.subnormal_share == 0.5
    with pytest.raises(ValueError, match=r"scaler state: tops must .* got 'x'"):
        two.load_state_dict({**one.state_dict(), "tops": "x"})
    with pytest.raises(ValueError, match=r"scaler state must .* got "):
        two.load_state_dict(LossScaler(LossScale()).state_dict())


def test_measurements_are_rare_once_it_has_settled():
    scaler = LossScaler(LossScale.from_histogram())
    measured = []
    for step in range(64):
        if scaler.measuring:
            measured.append(step)
            scaler.observe(ranges.of(np.array([1.0], np.float16), "reference"))
        scaler.update(True)
    assert measured == [*range(16), 16, 32, 48]
    assert not LossScaler(LossScale()).measuring


@pytest.mark.parametrize("precision", ["fp16", "mp"])
def test_gradients_that_would_underflow_are_kept_without_a_skipped_step(precision, backend_name):
    policy = Precision.get(precision).changed(loss_scale=LossScale.from_histogram())
    x, y = batch()
    trainer = fe.Trainer(net(Times(2.0**-18)), policy, device=backend_name, lr=1e-3)
    for _ in range(3):
        assert trainer.step(x, y).applied
    assert trainer.scaler.scale > 1 and trainer.skipped_steps == 0
    kept = trainer.model.hidden.weight.grad.numpy()
    plain = fe.Trainer(net(Times(2.0**-18)), "fp16", device=backend_name, lr=1e-3)
    plain.step(x, y)
    lost = plain.model.hidden.weight.grad.numpy()
    assert np.count_nonzero(kept) == kept.size > 1.5 * np.count_nonzero(lost)


def test_a_run_with_an_automatic_scale_resumes_bit_for_bit(tmp_path):
    policy = Precision.get("fp16").changed(loss_scale=LossScale.from_histogram())

    def fit(out, epochs, resume=False):
        tiny.trainer(policy).fit(tiny.data(), epochs, tiny.BATCH, out, resume, progress=False)
        return fe.Checkpoint.load(out).body

    whole = fit(tmp_path / "whole", 2)
    fit(tmp_path / "parts", 1)
    parts = fit(tmp_path / "parts", 2, resume=True)
    assert parts["tensors"] == whole["tensors"] and parts["trainer"] == whole["trainer"]
    assert whole["trainer"]["scaler"]["tops"]


def test_it_is_described_and_summed_up():
    policy = Precision.get("fp16").changed(loss_scale=LossScale.from_histogram())
    assert policy.describe()["loss_scale"].startswith("from the histogram of the gradients")
    assert policy.loss_scale is not None
    scaler = LossScaler(policy.loss_scale)
    scaler.observe(ranges.of(np.array([8.0, 2.0**-20, 0.0, 0.0], np.float16), "reference"))
    assert scaler.summary() == (
        "loss scale 1024, chosen from the histogram: no step skipped, 50.0 % of the gradients have fewer "
        "digits (below 2^-14), 50.0 % are 0"
    )
