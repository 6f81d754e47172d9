"""Launches of arrays too large to compute here: recorded, which checks their grids and runs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fp16engine as fe

ROWS = 65536 * 1024 + 1  # more groups of 1024 rows than a grid has blocks along y


def _half(*shape: int) -> np.ndarray:
    return np.empty(shape, np.float16)  # never touched, so it takes no memory


def _forward(native: Any) -> None:
    x, y, none = _half(ROWS, 1), _half(ROWS, 1), None
    gamma, beta, mean, variance, found, inv_std = (_half(1) for _ in range(6))
    count, eps = np.zeros(1, np.int64), 1e-5
    native.batch_norm_forward(
        x, none, gamma, beta, mean, variance, count, none, none, none, y, found, inv_std, 0.1, eps, "relu",
        True
    )  # fmt: skip


def _backward(native: Any) -> None:
    x, dy, dx = (_half(ROWS, 1) for _ in range(3))
    gamma, beta, mean, inv_std, dgamma, dbeta = (_half(1) for _ in range(6))
    native.batch_norm_backward(
        x, gamma, beta, mean, inv_std, None, dy, None, dx, dgamma, dbeta, None, None, "relu", True
    )  # fmt: skip


def _layer_norm(native: Any) -> None:
    x, dy, dx = (_half(ROWS, 1) for _ in range(3))
    mean, inv_std = _half(ROWS), _half(ROWS)
    native.layer_norm_backward(x, _half(1), mean, inv_std, dy, dx, _half(1), _half(1), True)


def _sum(native: Any) -> None:
    native.reduce("sum", _half(ROWS), _half(1), 1, ROWS, 1, True)


@pytest.mark.parametrize("launch", [_forward, _backward, _layer_norm, _sum])
def test_grids_of_large_arrays_are_within_a_gpus_limits(launch: Callable[[Any], None]) -> None:
    simt: Any = fe.backend.get("simt")
    simt.native.begin_recording()
    try:
        launch(simt.native)
    finally:
        recording = simt.native.end_recording()
    assert recording.kernels >= 2
