"""Calls of a compiled module's private functions with wrong arguments: what `python native_calls.py` runs.

Valid calls come from the table of cases, run through a recorder. Each is then repeated with one or two of
its arguments mutated, on memory of its own between guard bytes. Whatever comes, the call must end with a
result or an ordinary exception. Usage: native_calls.py DEVICE CALLS SEED LOG; the last line of LOG is the
last call begun.
"""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from op_case import arrays, call
from op_cases import CASES

from fp16engine import backend as backends

# Under AddressSanitizer the memory's own red zones are the guards, and find reads too.
GUARD = 0 if "asan" in os.environ.get("LD_PRELOAD", "") else 64
REFUSALS = (ValueError, TypeError, OverflowError, MemoryError, IndexError)
INTEGERS = (-1, 0, 1, 3, 255, 256, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63), 2**63, 2**64)
NUMBERS = (-1.0, 0.0, 1.0, 1e300, float("nan"), float("inf"))
DTYPES = (
    "float16",
    "float32",
    "float64",
    "uint8",
    "int32",
    "int64",
    "uint64",
    "bool",
    "complex64",
    "O",
    "S3",
)
# Values that are no array of the wrong kind: of every argument.
STRANGE: tuple[Any, ...] = (None, "nonsense", -1, 2**70, 0.5, (), [], [None], {}, object(), b"x")
LARGEST = 1 << 14  # elements of an array of a call that is repeated
PER_FUNCTION = 8


class Recorder:
    """A module whose functions note their arguments, a few of each, before they run."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.calls: dict[str, list[tuple[Any, ...]]] = {}

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        if not callable(function) or isinstance(function, type):
            return function

        def noted(*arguments: Any) -> Any:
            known = self.calls.setdefault(name, [])
            if len(known) < PER_FUNCTION and all(a.size <= LARGEST for a in arrays_in(arguments)):
                known.append(copied(arguments))
            return function(*arguments)

        return noted


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from arrays_in(part)


def copied(value: Any, memory: list[bytearray] | None = None) -> Any:
    """`value` with its arrays on memory of their own, which is noted in `memory`."""
    if isinstance(value, np.ndarray):
        block = bytearray(b"\xa5" * (GUARD + value.nbytes + GUARD))
        if memory is not None:
            memory.append(block)
        if not value.size:
            return np.empty(value.shape, value.dtype)
        y = np.frombuffer(block, value.dtype, value.size, GUARD).reshape(value.shape)
        y[...] = value
        return y
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return type(value)(copied(part, memory) for part in value)
    return value


def recorded(device: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return valid calls of every function of the table of cases and of a captured step."""
    backend: Any = backends.get(device)
    module, gemm = backend.native, backend.gemm
    recorder = Recorder(module)
    backend.native = recorder
    if gemm is module:
        backend.gemm = recorder
    else:
        gemm._kernels = recorder
    try:
        for case in CASES:
            if "bfloat16" in case.name and not backend.capabilities.bfloat16:
                continue
            for acc in ("float32", "float16") if case.accumulates else ("float32",):
                for dtype in case.storage:
                    if acc == "float32" or dtype == "float16":
                        call(backend, case, arrays(case, case.ranges[0], dtype), acc)
    finally:
        backend.native, backend.gemm = module, gemm
        if gemm is not module:
            gemm._kernels = module
    others = captured() if device == "simt" else {"empty": [((3, 4), np.dtype("float16"))]}
    calls = {**recorder.calls, **others}
    calls.pop("move", None)  # takes addresses, which nobody can check
    return calls


def captured() -> dict[str, list[tuple[Any, ...]]]:
    """Return calls of what only a captured step runs."""
    control, scalars = np.zeros(136, np.uint8), np.zeros(32, np.uint8)
    weights, loss = np.ones((3, 5), np.float16), np.ones((), np.float32)
    ranges, numbers = np.zeros((2, 47), np.int64), np.arange(6)
    policy = (2.0, 0.5, 1.0, 65536.0, 10, 5, 5, 0, 0, True, True, True, 8, 4, 10)
    return {
        "nonfinite": [([weights], np.zeros((), np.int32))],
        "fill": [(weights, 7)],
        "dropout_counted": [(weights, weights.copy(), 0.5, 1, 2, control)],
        "quantize_counted": [
            (
                np.ones((2, 3), np.float32),
                np.ones((2, 3), np.float32),
                2,
                3,
                1,
                2,
                1,
                4,
                8,
                True,
                1,
                2,
                control,
            )
        ],
        "batch_indices": [(control, numbers, numbers[:2].copy())],
        "loss_seed": [(control, loss)],
        "count_correct": [(weights, numbers[:3].copy() % 5, control)],
        "rank_nonfinite": [([weights, weights], [1, 2], loss, False, control)],
        "decide_step": [(control, loss, np.ones(2, np.float32), 1.0, np.zeros(96, np.uint8), scalars)],
        "replace": [([weights], [weights.copy()], scalars, True)],
        "measure_gradients": [([weights], control, ranges)],
        "advance_step": [(control, loss, np.zeros((2, 4), np.int32), ranges, *policy)],
    }


def mutated(value: Any, others: list[np.ndarray], draw: random.Random) -> Any:
    """Return something else than `value`, most of the time of its kind."""
    if draw.random() < 0.1:
        return draw.choice(STRANGE)
    if isinstance(value, np.ndarray):
        try:
            return draw.choice(ARRAYS)(value, others, draw)
        except (TypeError, ValueError, MemoryError):
            return value  # of a second mutation: NumPy has no such array of what the first one left
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw.choice((*INTEGERS, value - 1, value + 1, 2 * value))
    if isinstance(value, float):
        return draw.choice(NUMBERS)
    if isinstance(value, str):
        return draw.choice(("", "sum", "max", "mul", "gelu", "nothing of the kind", "x" * 1000))
    if isinstance(value, tuple | list):
        parts = list(value)
        if not parts or draw.random() < 0.2:
            parts = draw.choice((parts * 2, parts[:-1], parts[1:], [*parts, draw.choice(STRANGE)]))
        else:
            at = draw.randrange(len(parts))
            parts[at] = mutated(parts[at], others, draw)
        return type(value)(parts) if not hasattr(value, "_fields") else tuple(parts)
    return draw.choice(STRANGE)


def _other_dtype(x: np.ndarray, others: list[np.ndarray], draw: random.Random) -> np.ndarray:
    return np.ones(x.shape, draw.choice([dtype for dtype in DTYPES if dtype != x.dtype]))


def _other_shape(x: np.ndarray, others: list[np.ndarray], draw: random.Random) -> np.ndarray:
    shape = list(x.shape)
    change = draw.randrange(6)
    if change == 0 or not shape:
        shape = [*shape, draw.choice((0, 1, 2))]
    elif change == 1:
        shape = shape[1:]
    elif change == 2:
        shape = [1] * draw.randrange(5, 12) + shape
    else:
        at = draw.randrange(len(shape))
        shape[at] = draw.choice((0, 1, shape[at] + 1, max(0, shape[at] - 1), 2 * shape[at]))
    return np.ones(shape, x.dtype)


def _strided(x: np.ndarray, others: list[np.ndarray], draw: random.Random) -> np.ndarray:
    return np.ones((*x.shape, 2), x.dtype)[..., 0]


def _read_only(x: np.ndarray, others: list[np.ndarray], draw: random.Random) -> np.ndarray:
    y = x.copy()
    y.flags.writeable = False
    return y


def _unaligned(x: np.ndarray, others: list[np.ndarray], draw: random.Random) -> np.ndarray:
    return np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)


def _shared(x: np.ndarray, others: list[np.ndarray], draw: random.Random) -> np.ndarray:
    """Memory of another argument, all of it or its end."""
    other = draw.choice(others)
    flat = other.reshape(-1).view(np.uint8) if other.size else np.zeros(0, np.uint8)
    start = draw.choice((0, x.itemsize)) if flat.size - x.nbytes >= x.itemsize else 0
    if x.dtype == np.uint8:
        return x  # structs again, see `_other_values`
    flat = flat[start : start + x.nbytes]
    return flat.view(x.dtype).reshape(x.shape) if flat.size == x.nbytes else other


def _vast(x: np.ndarray, others: list[np.ndarray], draw: random.Random) -> np.ndarray:
    """No memory, but extents whose products are large."""
    shape = list(x.shape) or [1]
    shape[draw.randrange(len(shape))] = 1 << draw.choice((31, 40))
    return np.empty((*shape[:-1], 0), x.dtype)


def _other_values(x: np.ndarray, others: list[np.ndarray], draw: random.Random) -> np.ndarray:
    if x.dtype == np.uint8:
        return x  # the bytes of a captured step's structs: what they say is bookkeeping, not an argument
    with np.errstate(all="ignore"):
        return np.full(x.shape, draw.choice((-1, 0, 2**40, 2**62, -(2**63)))).astype(x.dtype)


ARRAYS: tuple[Callable[..., np.ndarray], ...] = (
    _other_dtype,
    _other_shape,
    _other_shape,
    _strided,
    _read_only,
    _unaligned,
    _shared,
    _vast,
    _other_values,
)


def described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(described, value)) + ")"
    return repr(value)[:40]


def run(device: str, count: int, seed: int, log: Any) -> dict[str, list[int]]:
    """Make `count` calls; returns how many of each function were refused and how many ran."""
    calls, draw = recorded(device), random.Random(seed)
    backend: Any = backends.get(device)
    ended: dict[str, list[int]] = {name: [0, 0] for name in calls}
    for number in range(count):
        name = list(calls)[number % len(calls)]
        memory: list[bytearray] = []
        arguments = list(copied(draw.choice(calls[name]), memory))
        others = list(arrays_in(arguments))
        for _ in range(draw.choice((1, 1, 2))):
            at = draw.randrange(len(arguments))
            arguments[at] = mutated(arguments[at], others or [np.zeros(3)], draw)
        log.write(f"{number} {name}{described(arguments)}\n")
        log.flush()
        try:
            getattr(backend.native, name)(*arguments)
            ended[name][1] += 1
        except REFUSALS as error:
            assert str(error), f"{name}: an exception without a sentence"
            ended[name][0] += 1
        except RuntimeError as error:
            # What a tuple or list of the wrong kind is answered with by the binding's library.
            assert type(error) is RuntimeError and "cast" in str(error), f"{type(error)}: {error}"
            ended[name][0] += 1
        for block in memory:
            ends = block[:GUARD] + block[len(block) - GUARD :]
            assert ends == b"\xa5" * len(ends), f"{name} wrote outside of an array"
    return ended


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with open(sys.argv[4], "w") as opened:
        outcome = run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), opened)
    print(
        sum(refused for refused, _ in outcome.values()),
        "refused,",
        sum(r for _, r in outcome.values()),
        "ran",
    )
    lacking = sorted(name for name, (refused, _) in outcome.items() if not refused)
    if lacking:
        raise SystemExit(f"no wrong argument of {', '.join(lacking)} was refused")
