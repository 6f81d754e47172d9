"""Training images changed at random."""

from __future__ import annotations

from ..base import Array
from .device import Device


class Augmentations(Device):
    def augment(
        self,
        data: Array,
        index: Array,
        seed: int,
        epoch: int | Array,
        flip_lr: bool,
        flip_ud: bool,
        rotation: float,
        shift: int,
        brightness: float,
        low: float,
        high: float,
        fill: float | None,
        alternating: bool = False,
    ) -> Array:
        y = self.empty((index.shape[0], *data.shape[1:]), data.dtype)
        clock, number = (epoch, 0) if isinstance(epoch, self.xp.ndarray) else (None, epoch)
        mirrored, outside = fill is None, 0.0 if fill is None else fill
        changes = (flip_lr, flip_ud, rotation, shift, brightness, low, high, mirrored, outside, alternating)
        self.native.augment(data, index, clock, y, seed, number, *changes)
        return y
