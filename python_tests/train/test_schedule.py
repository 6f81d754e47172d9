"""Learning-rate schedules over applied steps."""

import math

import pytest

from fp16engine.train import schedule


def test_constant():
    assert [schedule.get("constant", 0.1, None)(n) for n in (0, 5, 10**6)] == [0.1] * 3


def test_cosine_runs_from_lr_to_zero_and_stays_there():
    rate = schedule.get("cosine", 0.2, 10)
    assert rate(0) == 0.2
    assert math.isclose(rate(5), 0.1)
    assert rate(10) == rate(11) == 0.0
    values = [rate(n) for n in range(11)]
    assert values == sorted(values, reverse=True)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"schedule: 'linear' given, one of constant, cosine"):
        schedule.check("linear")
    with pytest.raises(ValueError, match="schedule: 'cosine' needs"):
        schedule.get("cosine", 0.1, None)
    with pytest.raises(ValueError, match="total_steps"):
        schedule.cosine(0.1, 0)
