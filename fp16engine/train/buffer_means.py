"""Running statistics of a step's micro-batches become one: their mean, rounded once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import backend as backends
from ..floats import is_float, rounded

if TYPE_CHECKING:
    from .state import TrainState


def values_of(state: TrainState) -> np.ndarray:
    """The values of all buffers of the model, one after the other: (values,), float64, which holds counts."""
    backend = backends.get(state.device)
    arrays = [buffer.data for _, buffer in state.buffers]
    host = [data if type(data) is np.ndarray else backend.to_numpy(data) for data in arrays]
    return np.concatenate([np.zeros(0), *(array.ravel().astype(np.float64) for array in host)])


def mean_buffers(state: TrainState, rows: np.ndarray) -> None:
    """Give each buffer of the model the mean of its values after each micro-batch.

    rows: (micro-batches, values of all buffers in their order), float64. Sums are FP32 in the order of the
    rows. Of standard deviations, squares are averaged, and the rounding error of mean and deviation goes
    to `rest`. A counter moves once a step, whatever the number of micro-batches. A buffer that all
    micro-batches leave with the same values keeps its bits.
    """
    backend, values, start = backends.get(state.device), {}, 0
    buffers = dict(state.buffers)
    for name, buffer in state.buffers:
        values[name] = rows[:, start : start + buffer.size].reshape(len(rows), *buffer.shape)
        start += buffer.size
    means = {name: _mean(column) for name, column in values.items()}
    for name in values:
        if name.rpartition(".")[2] == "rest" and f"{name[:-4]}running_std" in values:
            means |= _native(name[:-4], values, buffers[f"{name[:-4]}running_std"].dtype)
    for name, buffer in state.buffers:
        if is_float(buffer.dtype):
            values_now = np.ascontiguousarray(rounded(means[name], buffer.dtype))
        else:
            values_now = np.ascontiguousarray(values[name][0].astype(buffer.dtype))
        if type(buffer.data) is np.ndarray:
            buffer.data[...] = values_now
        else:
            buffer.data = backend.from_numpy(values_now)


def _native(prefix: str, values: dict[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """Mean, deviation and the rounding error of them, of a norm in the native form."""
    mean, std, rest = (values[prefix + name] for name in ("running_mean", "running_std", "rest"))
    with np.errstate(all="ignore"):
        exact = np.stack([_mean(mean + rest[:, 0]), np.sqrt(_mean((std + rest[:, 1]) ** 2))])
        stored = rounded(exact, dtype).astype(np.float32)
        lost = exact - stored
    same = [(column == column[0]).all(0) for column in (mean, std, rest)]
    unmoved = same[0] & same[1] & same[2].all(0)
    means = {"running_mean": stored[0], "running_std": stored[1], "rest": lost}
    return {prefix + name: np.where(unmoved, values[prefix + name][0], new) for name, new in means.items()}


def _mean(rows: np.ndarray) -> np.ndarray:
    """The mean (...) of rows (n, ...): float32 sums in order, then a division; equal values stay."""
    total = rows[0].astype(np.float32)
    with np.errstate(all="ignore"):
        for row in rows[1:]:
            total = total + row.astype(np.float32)
        return np.where((rows == rows[0]).all(0), rows[0], total / np.float32(len(rows)))
