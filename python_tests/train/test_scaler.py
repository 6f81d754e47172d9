"""The loss scale: powers of two, floor, cap, growth, backoff, and the account of skipped steps."""

import math

import numpy as np
import pytest

from fp16engine.precision import LossScale
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
    assert "fixed value 128" in scaler.diagnosis


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
    assert "floor 2" in scaler.diagnosis and "after 1 applied steps" in scaler.diagnosis
    feed(scaler, "+")
    assert scaler.diagnosis is None


def test_summary_tells_many_late_skips_from_few():
    scaler = LossScaler(LossScale(initial=2.0**15, interval=4))
    assert scaler.summary() is None
    feed(scaler, "+" * 8 + "-")
    assert scaler.summary().endswith("1 of 9 steps skipped (normal)")
    feed(scaler, "+-" * 30)
    assert "lower learning rate" in scaler.summary()


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
        ({"surprise": 1}, "surprise"),
    ],
)
def test_refuses_states_it_did_not_write(change, named):
    scaler = LossScaler(LossScale())
    with pytest.raises(ValueError, match=named):
        scaler.load_state_dict({**scaler.state_dict(), **change})


def test_refuses_a_floor_above_what_the_dtype_holds():
    with pytest.raises(ValueError, match="floor"):
        LossScaler(LossScale(initial=2.0**20, floor=2.0**17, cap=2.0**24), "float16")
    with pytest.raises(ValueError, match="patience"):
        LossScaler(LossScale(), patience=0)
