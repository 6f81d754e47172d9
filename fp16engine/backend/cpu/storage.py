"""Array storage from the pool, and moves of data that round nothing."""

from __future__ import annotations

import numpy as np

from .native import DTYPES, empty, native


class Storage:
    def empty(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return empty(shape, dtype)

    def full(self, shape: tuple[int, ...], value: float, dtype: str) -> np.ndarray:
        x = empty(shape, dtype)
        x.fill(value)
        return x

    def zeros(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return self.full(shape, 0, dtype)

    def from_numpy(self, a: np.ndarray) -> np.ndarray:
        return self.copy(a)

    def to_numpy(self, a: np.ndarray) -> np.ndarray:
        return np.array(a)

    def copy(self, x: np.ndarray) -> np.ndarray:
        y = empty(x.shape, x.dtype)
        np.copyto(y, x)
        return y

    def cast(self, x: np.ndarray, dtype: str) -> np.ndarray:
        if x.dtype == DTYPES[dtype]:
            return self.copy(x)
        y = empty(x.shape, dtype)
        native.cast(x, y)
        return y

    def transpose(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return self.copy(x.transpose(axes))

    def getitem(self, x: np.ndarray, index: object) -> np.ndarray:
        return self.copy(np.asarray(x[index]))  # type: ignore[index]

    def broadcast_to(self, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return self.copy(np.broadcast_to(x, shape))

    def cat(self, xs: list[np.ndarray], axis: int) -> np.ndarray:
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        y = empty(tuple(shape), xs[0].dtype)
        np.concatenate(xs, axis=axis, out=y)
        return y

    def pad2d(self, x: np.ndarray, pads: tuple[int, int, int, int]) -> np.ndarray:
        top, bottom, left, right = pads
        n, height, width, channels = x.shape
        y = self.zeros((n, height + top + bottom, width + left + right, channels), str(x.dtype))
        y[:, top : top + height, left : left + width] = x
        return y

    def crop2d(self, x: np.ndarray, pads: tuple[int, int, int, int]) -> np.ndarray:
        top, bottom, left, right = pads
        return self.copy(x[:, top : x.shape[1] - bottom, left : x.shape[2] - right])

    def gather(self, data: np.ndarray, index: np.ndarray) -> np.ndarray:
        rows = empty((len(index), *data.shape[1:]), data.dtype)
        np.take(data, index, axis=0, out=rows, mode="clip")
        return rows

    def memory(self) -> dict[str, int]:
        return native.memory()

    def reset_peak(self) -> None:
        native.reset_peak()

    def info(self) -> dict[str, object]:
        """Instruction set, threads and convolution library in use."""
        return {
            "isa": native.isa(),
            "threads": native.num_threads(),
            "onednn": native.onednn_version() or None,
        }

    def set_num_threads(self, count: int) -> None:
        native.set_num_threads(count)

    def implementations(self) -> list[str]:
        """One line per distinct convolution run so far: shape, pass, implementation."""
        return native.conv2d_implementations()
