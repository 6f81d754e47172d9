"""init, rank, size and all_reduce; and who is asked for mpi4py."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from ranks import ThreadTransport, gradients, on_threads

import fp16engine as fe
from fp16engine.distributed import group


def test_a_run_of_one_process_does_nothing() -> None:
    fe.distributed.init()
    assert (fe.distributed.rank(), fe.distributed.size()) == (0, 1)
    array = np.ones(3, np.float16)
    assert fe.distributed.all_reduce([array])[0] is array


@pytest.mark.parametrize("reduce", ["one-rounding", "ring-fp16", "fp32"])
def test_all_reduce_is_the_mean_of_each_array(reduce: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = gradients(3, 24).reshape(3, 2, 3, 4)

    local: dict[int, Any] = {}

    def ranked(transport: ThreadTransport) -> list[np.ndarray]:
        local[threading.get_ident()] = transport
        return fe.distributed.all_reduce(
            [values[transport.rank], np.full(1, 20_000 + transport.rank, np.float32)], reduce
        )

    monkeypatch.setattr(group, "transport", lambda: local[threading.get_ident()])
    found = on_threads(3, ranked)
    assert found[0][0].shape == (2, 3, 4) and found[0][0].dtype == np.float16
    assert all(np.array_equal(a, b) for other in found for a, b in zip(other, found[0], strict=True))
    exact = values.astype(np.float64).mean(0)
    ulp = np.spacing(np.abs(values).astype(np.float64).max(0).astype(np.float16))
    assert np.all(np.abs(found[0][0] - exact) <= 2 * ulp)
    assert found[0][1].tolist() == [20_001]


@pytest.mark.parametrize(
    ("arrays", "reduce", "words"),
    [
        (
            [np.zeros(2)],
            "one-rounding",
            r"arrays\[0\] must be one of float16, bfloat16, float32, got 'float64'",
        ),
        ([[1.0]], "one-rounding", r"arrays\[0\] must be a NumPy array"),
        ([], "sum", "reduce must be one of one-rounding, ring-fp16, fp32, got 'sum'"),
    ],
)
def test_wrong_arguments_are_refused(arrays: Any, reduce: str, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        fe.distributed.all_reduce(arrays, reduce)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"transport": "tcp"}, "transport must be"), ({"limit": 0}, "limit must be a finite number > 0, got 0")],
)
def test_init_checks_its_arguments(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fe.distributed.init(**options)


def test_a_process_of_several_without_mpi4py_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setattr(group.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(fe.BackendUnavailable, match=r"pip install 'fp16engine\[mpi\]'"):
        fe.distributed.init()
