"""Where the time of a training step goes: every backend call timed, by operation and by layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from ..observer import BackendCall, arrays_in, observe

_UPDATES = {"sgd", "adam", "rmsprop", "all_finite", "copy"}
UNNAMED = "(shortcuts, pooling, loss, copies)"
UPDATE = "(weight update and checks)"


def profile(
    model: Any, step: Callable[[], object], steps: int, wait: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Time calls of a step, backend call by backend call; return the one of median length, in milliseconds.

    Args:
        model: whose layers the calls are counted for: a call belongs to the layer one of whose parameters it
            is given (their memory tells), forward and backward in the same way.
        step: takes one step.
        steps: how many calls of it, >= 1.
        wait: waits for the device after every backend call, so that its time is the call's; it adds to each.

    Returns:
        `step_ms`, `backend_ms`, `python_ms` (outside the backend: the tape, the checks of arguments, and this
        timer, some microseconds a call), and rows of `operations` and `layers`.

    Raises:
        IndexError: steps is 0.

    >>> import fp16engine as fe
    >>> from fp16engine.bench.profile import profile
    >>> layer, x = fe.nn.Linear(4, 2).to("reference"), fe.tensor([[0.0] * 4], device="reference")
    >>> [row["op"] for row in profile(layer, lambda: layer(x), 1)["operations"]]
    ['linear_forward']
    """
    owners = {_address(p.data): name.rpartition(".")[0] for name, p in model.named_parameters()}
    calls: list[tuple[str, str, float]] = []

    def around(call: BackendCall) -> Any:
        start = time.perf_counter()
        result = call.run()
        wait()
        seconds = time.perf_counter() - start
        given = (*call.args, *call.kwargs.values())
        layer = UPDATE if call.op in _UPDATES else _owner(owners, given)
        calls.append((call.op, layer, seconds))
        return result

    step()
    timed = []
    with observe(around):
        for _ in range(steps):
            calls.clear()
            begin = time.perf_counter()
            step()
            timed.append((time.perf_counter() - begin, calls.copy()))
    timed.sort(key=lambda one: one[0])
    return _account(*timed[len(timed) // 2])


def _account(total: float, calls: list[tuple[str, str, float]]) -> dict[str, Any]:
    ops: dict[str, list[float]] = {}
    layers: dict[str, dict[str, float]] = {}
    for op, layer, seconds in calls:
        ops.setdefault(op, []).append(1e3 * seconds)
        phase = "backward_ms" if op.endswith("_backward") else "forward_ms"
        layers.setdefault(layer, {"forward_ms": 0.0, "backward_ms": 0.0})[phase] += 1e3 * seconds
    inside = 1e3 * sum(seconds for _, _, seconds in calls)
    last = (UNNAMED, UPDATE)
    return {
        "step_ms": 1e3 * total,
        "backend_ms": inside,
        "python_ms": 1e3 * total - inside,
        "operations": [
            {"op": op, "calls": len(times), "ms": sum(times)}
            for op, times in sorted(ops.items(), key=lambda item: -sum(item[1]))
        ],
        "layers": [{"layer": name, **layers[name]} for name in sorted(layers, key=lambda n: n in last)],
    }


def _owner(owners: dict[int, str], values: Iterable[Any]) -> str:
    for array in arrays_in(tuple(values)):
        owner = owners.get(_address(array))
        if owner is not None:
            return owner
    return UNNAMED


def _address(array: Any) -> int:
    for name in ("__array_interface__", "__cuda_array_interface__"):
        if hasattr(array, name):
            address: int = getattr(array, name)["data"][0]
            return address
    return id(array)
