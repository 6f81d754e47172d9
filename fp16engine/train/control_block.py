"""The block of a few numbers on the device that decides captured steps, and the host's account of the same.

What changes from step to step lies in the control block (csrc/common/step_control.h), which the step's own
kernels read and advance: the batch's index in the epoch's order, dropout's counter, the loss scale and its
counters, and the row of a table with the learning rate and Adam's corrections. These are bookkeeping, as the
host's counters are, and no tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import backend as backends
from ..numerics.advice import TOP_EXPONENT
from ..numerics.ranges import EMPTY
from .counters import NonfiniteRule
from .outcome import origin_in_words
from .scaler import MEASURED_EVERY, SETTLING, WINDOW
from .state import TrainState

Array = Any

# struct StepControl of csrc/common/step_control.h
CONTROL = np.dtype(
    [
        ("steps", "<i8"),
        ("applied", "<i8"),
        ("batch", "<i8"),
        ("dropout", "<i8"),
        ("loss_scale", "<f8"),
        ("clean_steps", "<i8"),
        ("stuck_steps", "<i8"),
        ("bad_streak", "<i8"),
        ("halted", "<i8"),
        ("settled", "<i8"),
        ("measured", "<i4"),
        ("tops", "<i4", (WINDOW,)),
        ("measuring", "<i4"),
        ("correct", "<i4"),
        ("culprit", "<i4"),
        ("origin", "<i4"),
    ],
    align=True,
)
SCALARS = 32  # bytes of struct StepScalars, StepScalars.pack of backend/base.py
RESULTS = 4  # loss, correct, culprit, origin


def _structs(backend: Any, nbytes: int) -> Array:
    """Return zeroed bytes for C structs: made of their widest member, so aligned as they need."""
    return backend.zeros((nbytes // 8,), "int64").view(np.uint8)


class ControlBlock:
    """The control block of a run's captured steps, and the arrays that go with it.

    rows: the most steps between two `begin`.

    Attributes:
        control: the block itself; table: the optimizer's scalars, by how many steps were applied; scalars:
            those of the step that runs, never: those of a step that is not applied; results and ranges: a row
            for each step, ranges None without an automatic loss scale.
        draws, forward_draws: by how much a step, and one whose loss is not finite, moves dropout's counter.
    """

    def __init__(self, state: TrainState, rule: NonfiniteRule, rows: int) -> None:
        backend: Any = backends.get(state.device)
        self._state, self._rule, self._backend, self._rows = state, rule, backend, rows
        self.control = _structs(backend, CONTROL.itemsize)
        self.table = _structs(backend, rows * SCALARS)
        self.scalars = _structs(backend, SCALARS)
        self.never = _structs(backend, SCALARS)
        self.results = backend.zeros((rows, RESULTS), "int32")
        automatic = state.scaler is not None and state.scaler.automatic
        self.ranges = backend.zeros((rows, len(EMPTY.counts)), "int64") if automatic else None
        self.draws = self.forward_draws = 0

    def begin(self, batch: int) -> None:
        """Lay out the next steps, the first of which takes the batch of that index."""
        backend = self._backend
        backend.write(self.table, np.frombuffer(b"".join(self._rates()), np.uint8))
        control = np.zeros((), CONTROL)
        for name, value in self._account().items():
            control[name] = value
        control["batch"] = batch
        backend.write(self.control, np.frombuffer(control.tobytes(), np.uint8))
        if self.ranges is not None:
            backend.write(self.ranges, np.zeros(self.ranges.shape, np.int64))

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Wait, and return (loss bits, correct, culprit, origin) by step; and gradients' counts, or None."""
        ranges = None if self.ranges is None else self._backend.to_numpy(self.ranges)
        return self._backend.to_numpy(self.results), ranges

    def put_back(self, arrays: list[Array], values: list[Array]) -> None:
        """Write values into the arrays that a recording holds."""
        self._backend.native.replace(arrays, values, self.never, False)

    def origin_in_words(self, rank: int) -> str:
        """Where a loss that is not finite comes from, by the `origin` of its step."""
        return origin_in_words(self._state, len(self._state.weights) + 1 - rank if rank else None)

    def policy(self) -> tuple[float | int | bool, ...]:
        """The arguments of `advance_step` that stay, struct StepPolicy of csrc/common/step_control.h."""
        scaler, bad_steps = self._state.scaler, self._rule.max_bad_steps
        draws = self.draws, self.forward_draws
        if scaler is None:
            never = False, False, False, 0, 1, 0
            return 1.0, 1.0, 1.0, 1.0, 1, 1, bad_steps, *draws, *never
        return (
            scaler.growth,
            scaler.backoff,
            scaler.floor,
            scaler.cap,
            scaler.interval,
            scaler.patience,
            bad_steps,
            *draws,
            True,
            scaler.dynamic,
            scaler.automatic,
            SETTLING,
            MEASURED_EVERY,
            TOP_EXPONENT,
        )

    def _rates(self) -> Iterator[bytes]:
        """The scalars of the optimizer's next steps, by how many were applied before."""
        state, optimizer = self._state, self._state.optimizer
        lr, count = optimizer.lr, optimizer.step_count
        try:
            for i in range(self._rows):
                optimizer.lr = state.learning_rate(state.counters.applied_steps + i)
                optimizer.step_count = count + i + 1
                yield optimizer.scalars().pack()
        finally:
            optimizer.lr, optimizer.step_count = lr, count

    def _account(self) -> dict[str, Any]:
        """What the control block says while the host's account is the same."""
        state, scaler = self._state, self._state.scaler
        none: dict[str, Any] = {"scale": 1.0, "clean_steps": 0, "stuck_steps": 0, "applied": 0}
        scaling = none if scaler is None else scaler.state_dict()
        tops = scaling.get("tops", [])
        return {
            "dropout": state.random["dropout"],
            "loss_scale": scaling["scale"],
            "clean_steps": scaling["clean_steps"],
            "stuck_steps": scaling["stuck_steps"],
            "bad_streak": state.counters.bad_streak,
            "settled": scaling["applied"],
            "measured": len(tops),
            "tops": [*tops, *[0] * (WINDOW - len(tops))],
            "measuring": scaler is not None and scaler.measuring,
        }

    def compare(self, steps: int) -> None:
        """The device has counted `steps` and all else as the host, or something must not stay unseen."""
        found = np.frombuffer(self._backend.to_numpy(self.control).tobytes(), CONTROL)[0]
        for name, value in {"steps": steps, **self._account()}.items():
            if np.any(found[name] != value):
                raise RuntimeError(
                    f"captured step: the device's {name} is {found[name]}, the host's {value}; "
                    "train with capture=False and please report this"
                )
