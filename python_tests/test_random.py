"""Seeded streams."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import random


@pytest.fixture(autouse=True)
def keep_state() -> object:
    state = random.get_state()
    yield
    random.set_state(state)


def test_seed_repeats_everything() -> None:
    def draw() -> tuple[list[float], tuple[int, int]]:
        return random.generator().random(3).tolist(), random.dropout_counter(10)

    fe.manual_seed(5)
    first, second = draw(), draw()
    fe.manual_seed(5)
    assert (draw(), draw()) == (first, second)
    assert first != second
    fe.manual_seed(6)
    assert draw() != first


def test_dropout_counters_do_not_overlap() -> None:
    fe.manual_seed(3)
    assert [random.dropout_counter(n) for n in (4, 5, 1, 0, 8)] == [(3, 0), (3, 1), (3, 3), (3, 4), (3, 4)]


def test_state_survives_json() -> None:
    fe.manual_seed(2**64 - 1)
    random.generator()
    random.dropout_counter(7)
    state = json.loads(json.dumps(random.get_state()))
    expected = random.generator().random(4).tolist(), random.dropout_counter(1)
    random.set_state(state)
    assert (random.generator().random(4).tolist(), random.dropout_counter(1)) == expected


def test_fork_leaves_the_outer_state_alone() -> None:
    fe.manual_seed(1)
    before = random.get_state()
    with pytest.raises(KeyError), random.fork(9):
        assert random.get_state()["seed"] == 9
        random.generator()
        raise KeyError
    assert random.get_state() == before


@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, ValueError), (2**64, ValueError), (1.0, TypeError), ("1", TypeError), (True, TypeError)],
)
def test_wrong_seeds(seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^seed must .* got {seed!r}$"):
        fe.manual_seed(seed)


@pytest.mark.parametrize("state", [{}, {"seed": 1, "stream": 0}, {"seed": 1, "stream": 0, "dropout": -1}])
def test_wrong_states(state: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"^state.* must .* got "):
        random.set_state(state)


def test_numpy_integers_are_seeds() -> None:
    seed: Any = np.int64(4)
    fe.manual_seed(seed)
    assert random.get_state()["seed"] == 4
    json.dumps(random.get_state())


def test_dropout_follows_the_counter(backend_name: str) -> None:
    x = fe.tensor(np.ones(1000), device=backend_name, requires_grad=True)
    fe.manual_seed(0)
    y = fe.functional.dropout(x, 0.25, training=True)
    again = fe.functional.dropout(x, 0.25, training=True)
    fe.manual_seed(0)
    same = fe.functional.dropout(x, 0.25, training=True)
    assert y.numpy().tolist() == same.numpy().tolist() != again.numpy().tolist()
    assert set(np.unique(y.numpy())) == {0.0, np.float32(1) / np.float32(0.75)}
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
