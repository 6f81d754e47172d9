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


def test_inverse_sqrt_rises_to_lr_and_falls_with_the_root_of_the_step():
    """lr at the last of the warm-up steps, half of it at four times as many steps."""
    rate = schedule.get("inverse-sqrt", 0.2, None, 10)
    assert math.isclose(rate(0), 0.02)
    assert math.isclose(rate(4), 0.1)
    assert rate(9) == 0.2
    assert math.isclose(rate(39), 0.1)
    values = [rate(n) for n in range(50)]
    assert values[:10] == sorted(values[:10]) and values[9:] == sorted(values[9:], reverse=True)


def test_any_schedule_takes_a_warm_up():
    assert [schedule.get("constant", 1.0, None, 4)(n) for n in (0, 1, 3, 4, 100)] == [0.25, 0.5, 1, 1, 1]
    plain, warm = schedule.get("cosine", 0.2, 10), schedule.get("cosine", 0.2, 10, 2)
    assert warm(0) == plain(0) / 2
    assert [warm(n) for n in range(1, 11)] == [plain(n) for n in range(1, 11)]


def test_linear_and_triangle():
    """Against the scheduler of airbench94: 0.2 to 1 over int(0.23 T) steps, then down to 0.07 at T."""
    down = schedule.get("linear", 0.5, 8)
    assert [down(n) for n in (0, 2, 8, 9)] == [0.5, 0.375, 0.0, 0.0]
    for total in (1, 4, 5, 476):
        rate, top = schedule.get("triangle", 2.0, total), int(0.23 * total)
        for n in range(total + 1):
            share = n / top if n < top else (n - top) / (total - top)
            expected = 0.2 * (1 - share) + share if n < top else 1 - share + 0.07 * share
            assert abs(rate(n) - 2 * expected) < 1e-12
        assert rate(total + 5) == rate(total)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"schedule must .* got 'quadratic'"):
        schedule.check("quadratic")
    with pytest.raises(ValueError, match=r"total_steps must .* got None"):
        schedule.get("cosine", 0.1, None)
    with pytest.raises(ValueError, match=r"total_steps .* schedule 'triangle', got None"):
        schedule.get("triangle", 0.1, None)
    with pytest.raises(ValueError, match=r"warmup must .* got 0"):
        schedule.get("inverse-sqrt", 0.1, None)
    with pytest.raises(ValueError, match="total_steps"):
        schedule.cosine(0.1, 0)
