"""The control of a captured step: what the loss and the gradients decide stays on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import backend as backends
from .. import random
from ..errors import CaptureError
from ..tensor import Tensor
from . import layer_formats
from .control_block import ControlBlock
from .state import TrainState

Array = Any


class DeviceControl:
    """The `StepControl` of one captured step; labels: (N,) int64, on the device.

    Made for each step anew, since what it holds lives as long as the step's memory is to live.
    """

    def __init__(self, state: TrainState, block: ControlBlock, labels: Array) -> None:
        self._state, self._block, self._labels = state, block, labels
        self._backend: Any = backends.get(state.device)
        self._buffers: list[Array] = []
        self._before: list[Array] = []

    def keep_buffers(self) -> None:
        backend = self._backend
        self._buffers = [buffer.data for _, buffer in self._state.buffers]
        self._before = [backend.empty(data.shape, str(data.dtype)) for data in self._buffers]
        if self._buffers:  # all of them in one launch
            backend.native.replace(self._before, self._buffers, self._block.never, False)

    @contextmanager
    def micro_batch(self, part: int) -> Iterator[None]:
        """Dropout's offsets count from the control block's while the step runs or is recorded."""
        state, backend = self._state, self._backend
        begin = {**state.random, "dropout": 0}
        with random.using(begin):
            backend.control = self._block.control
            try:
                yield
                end = random.get_state()
            finally:
                backend.control = None
        self._block.draws = end["dropout"]
        drawn = {**end, "dropout": 0}
        if drawn != begin and backend.recording:
            raise CaptureError("the model draws random numbers on the host")
        state.random = {**drawn, "dropout": state.random["dropout"]}

    def judge(self, logits: Tensor, part: int) -> None:
        self._backend.native.count_correct(logits.data, self._labels, self._block.control)

    def loss_gradient(self, loss: Tensor, part: int) -> Tensor | None:
        self._block.forward_draws = random.get_state()["dropout"]
        scale = self._backend.empty(loss.shape, loss.dtype)
        self._backend.native.loss_seed(self._block.control, scale)
        return Tensor(scale, loss.device)

    def backward(self, loss: Tensor, gradient: Tensor) -> None:
        loss.backward(gradient)

    def update(self, inputs: Any, loss: Tensor | None) -> None:
        assert loss is not None
        state, native, block, value = self._state, self._backend.native, self._block, loss.data
        grads = state.gradients()
        checked = [(rank, data) for rank, (_, data) in enumerate(state.checked(), 1) if data is not None]
        native.rank_nonfinite(
            [a for _, a in checked], [rank for rank, _ in checked], value, False, block.control
        )
        native.rank_nonfinite(*self._origins(inputs), value, True, block.control)
        native.decide_step(block.control, value, *self._clipping(grads), block.table, block.scalars)
        state.optimizer.launch(block.scalars)
        if self._buffers:
            native.replace(self._buffers, self._before, block.scalars, False)
        kept = list(layer_formats.requantized_weights(state.model, state.precision))
        if kept:
            native.replace([weight.data for weight, _ in kept], [new for _, new in kept], block.scalars, True)
        if block.ranges is not None:
            native.measure_gradients(grads, block.control, block.ranges)
        native.advance_step(block.control, value, block.results, block.ranges, *block.policy())

    def _clipping(self, grads: list[Array]) -> tuple[Array | None, float]:
        """The norm of the gradients, which stays on the device, and the largest one that a step uses."""
        most = self._state.config.clip_norm
        if most is None:
            return None, 1.0
        norm = self._backend.empty((2,), "float32")
        self._backend.native.global_norm(grads, norm)
        return norm, most

    def _origins(self, inputs: Array) -> tuple[list[Array], list[int]]:
        """What a non-finite loss may come from, first the most telling: the input, then each parameter."""
        arrays = [inputs, *(parameter.data for _, parameter in self._state.weights)]
        return arrays, list(range(len(arrays), 0, -1))
