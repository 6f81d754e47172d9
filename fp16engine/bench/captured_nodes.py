"""The nodes of a captured step, counted without a GPU: what each launches, moves and multiplies.

The step of the simulated GPU is recorded at its full size and nothing of it runs, so that a network is
counted in seconds. Bytes are those of the arrays that a call is given: each once, and again where the kernel
goes over it twice or writes to what it has read. FLOPs are those of products, two a multiply-add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import backend as backends
from ..observer import arrays_in
from ..train.captured import CapturedStep

if TYPE_CHECKING:
    from ..train.trainer import Trainer

COOPERATIVE = " (cooperative)"  # how the simulator marks a kernel whose blocks wait for each other


class Call(NamedTuple):
    """What one call of a kernel's launcher, or of a library, puts into the graph.

    Args:
        name: of the launcher.
        kernels: the nodes, in order.
        bytes: that they move where no cache holds an array from one node to the next.
        flops: of its products.
        library: whether a library multiplies, on tensor cores; else our kernels do.
    """

    name: str
    kernels: tuple[str, ...]
    bytes: int
    flops: int
    library: bool

    @property
    def barriers(self) -> int:
        """How often all blocks of a kernel wait for each other."""
        return sum(kernel.endswith(COOPERATIVE) for kernel in self.kernels)


class Counted(NamedTuple):
    """A captured step.

    Args:
        calls: in the order of the step.
        arena_bytes: the memory that its arrays have to themselves.
    """

    calls: tuple[Call, ...]
    arena_bytes: int

    @property
    def nodes(self) -> int:
        """How many kernels, copies and memsets it is."""
        return sum(len(call.kernels) for call in self.calls)


def count(trainer: Trainer, images: np.ndarray, labels: np.ndarray) -> Counted:
    """Return the nodes of the captured step of `trainer` on a batch.

    Args:
        trainer: on "simt".
        images: (N, H, W, C) in the storage dtype.
        labels: int64 (N,).

    Raises:
        BackendUnavailable: the simulator is not built.
        CaptureError: the step cannot be recorded.
    """
    backend: Any = backends.get(trainer.device)
    step = CapturedStep.on_batch(trainer, backend.from_numpy(images), labels)
    step.begin_again()
    calls: list[Call] = []
    with recorded(backend, calls.append):
        plan = step.traced()
    return Counted(tuple(calls), plan.nbytes)


@contextmanager
def recorded(backend: Any, note: Callable[[Call], None]) -> Iterator[None]:
    """Inside the block the simulated GPU runs nothing, and `note` hears of every call that would."""
    native, gemm = backend.native, backend.gemm
    backend.native, backend.gemm = _Recorder(native, native, note), _Recorder(gemm, native, note)
    backend.recording = True  # nothing comes from the host or goes to it
    try:
        yield
    finally:
        backend.native, backend.gemm, backend.recording = native, gemm, False


class _Recorder:
    """A module whose functions are recorded one by one and dropped."""

    def __init__(self, module: Any, native: Any, note: Callable[[Call], None]) -> None:
        self._module, self._native, self._note = module, native, note

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if not callable(value):
            return value
        native, note = self._native, self._note

        def call(*arguments: Any) -> Any:
            native.begin_recording()
            try:
                result = value(*arguments)
            finally:
                recording = native.end_recording()
            if recording.kernels:
                flops = _FLOPS[name](arguments) if name in _FLOPS else 0
                library = not hasattr(native, name)
                note(Call(name, tuple(recording.names), _moved(name, arguments), flops, library))
            return result

        return call


def _moved(name: str, arguments: tuple[Any, ...]) -> int:
    if name == "move":  # given by address: item, shape and the strides of both
        item, shape = arguments[2:4]
        return 2 * item * prod(shape)
    if name in ("conv2d_backward", "depthwise_backward"):
        x, w, dy, *gradients = arguments[:6]
        passes = zip(gradients, ((w, dy), (x, dy), (dy,)), strict=True)
        return sum(a.nbytes for gradient, read in passes if gradient is not None for a in (gradient, *read))
    given = list({id(array): array for array in arrays_in(arguments)}.values())
    if name == "take_rows":  # the table's rows that are taken
        given = [*arguments[1:], arguments[2]]
    again = _AGAIN[name](*arguments) if name in _AGAIN else ()
    return sum(array.nbytes for array in (*given, *arrays_in(list(again))))


def _updated(update: tuple[Any, ...], *state: Any) -> list[Any]:
    parameters, _, masters, compensations = update[:4]
    # with a master it is read in place of the parameter
    return [masters or parameters, compensations, *(s for s in state if isinstance(s, list))]


# Arrays that a kernel goes over once more, by the arguments of its launcher (csrc/bindings/bind_ops.h).
_AGAIN: dict[str, Callable[..., Any]] = {
    "batch_norm_forward": lambda *a: [a[0] if a[1] is None else a[9], *a[4:8]],
    "batch_norm_backward": lambda *a: [a[0], a[6] if a[11] is None else a[11]],
    "batch_norm_of_cat_forward": lambda *a: [*a[4:9]],
    "batch_norm_of_cat_backward": lambda *a: [a[0], a[5]],
    "sgd": _updated,
    "adam": _updated,
    "rmsprop": _updated,
}

_FLOPS: dict[str, Callable[[tuple[Any, ...]], int]] = {
    "matmul": lambda a: 2 * a[3].size * a[0].shape[-2 if a[4] else -1],
    "scaled_product": lambda a: 2 * a[2].size * a[0].shape[-1],
    "linear_weight_gradient": lambda a: 2 * a[2].size * a[0].shape[0],
    "conv2d_forward": lambda a: 2 * a[3].size * prod(a[1].shape[1:]),
    "conv2d_backward": lambda a: 2 * a[2].size * prod(a[1].shape[1:]) * _given(a[3:5]),
    "depthwise_forward": lambda a: 2 * a[3].size * prod(a[1].shape[1:]),
    "depthwise_backward": lambda a: 2 * a[2].size * prod(a[1].shape[1:]) * _given(a[3:5]),
    "attention_forward": lambda a: 4 * a[3].size * a[4].shape[-1],
    "attention_backward": lambda a: 8 * a[4].size * a[3].shape[-1],
}


def _given(arrays: tuple[Any, ...]) -> int:
    return sum(array is not None for array in arrays)
