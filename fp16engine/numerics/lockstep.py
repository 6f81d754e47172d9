"""FP16 against FP32 in lock step: one batch through two copies of a network, compared operation by operation.

The relative error of a layer's output, ||a - b|| / ||b||, starts at the rounding of one store and grows from
operation to operation. Independent roundings add up like a random walk, so after k of them an error of about
u sqrt(k) is what is to be expected; a layer whose error is more than `FACTOR` times that amplifies what it is
given, and is worth a look. In the backward pass a ReLU whose input has another sign turns a gradient off
altogether. A share of about u sqrt(k) of them does so, which is an error of its square root in norm: `FACTOR`
times u sqrt(k) is the bound of the forward pass, `BACKWARD_FACTOR` times the root that of the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import backend as backends
from .. import functional as F
from .. import random
from ..floats import is_float, limits, rounded
from ..observer import BackendCall
from ..precision import Precision
from ..tensor import Tensor
from .monitor import _MOVES
from .watch import BACKWARD, Call, watch

if TYPE_CHECKING:
    from ..nn import Module

FACTOR = 16.0
BACKWARD_FACTOR = 4.0


@dataclass(frozen=True)
class Divergence:
    """How far one operation's output is from the other network's, after `roundings` operations."""

    layer: str
    phase: str
    op: str
    roundings: int
    relative_error: float  # NaN where either is not finite
    bound: float

    @property
    def outside(self) -> bool:
        """Whether the error leaves the bound; an error that is no number does."""
        return not self.relative_error <= self.bound

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, an error that is no number as None."""
        error = self.relative_error
        shown = error if np.isfinite(error) else None
        return {**asdict(self), "relative_error": shown, "outside": self.outside}


@dataclass(frozen=True)
class LockStep:
    """Every operation of a forward and a backward pass under two policies, in order.

    Args:
        precision: name of the policy that is looked at.
        reference: name of the policy it is compared with.
        rows: how far each operation's output is from the reference's.

    >>> LockStep("fp16", "fp32", []).first is None
    True
    """

    precision: str
    reference: str
    rows: list[Divergence]

    @property
    def first(self) -> Divergence | None:
        """The first operation that leaves its bound, or None."""
        return next((row for row in self.rows if row.outside), None)

    def layers(self, phase: str) -> list[Divergence]:
        """Return the last operation of each layer in a phase: its output is what leaves the layer.

        Args:
            phase: "forward" or "backward".

        >>> rows = [Divergence("stem", "forward", op, 1, 1e-4, 1e-2) for op in ("conv", "norm")]
        >>> [row.op for row in LockStep("fp16", "fp32", rows).layers("forward")]
        ['norm']
        """
        return list({row.layer: row for row in self.rows if row.phase == phase}.values())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values.

        >>> LockStep("fp16", "fp32", []).to_dict()["rows"]
        []
        """
        first = self.first
        return {
            "precision": self.precision,
            "reference": self.reference,
            "first": None if first is None else first.to_dict(),
            "rows": [row.to_dict() for row in self.rows],
        }


def compare(
    build: Callable[[], Module],
    images: NDArray[Any],
    labels: NDArray[np.int64],
    precision: str | Precision = "fp16",
    reference: str | Precision = "fp32",
    device: str = "cpu",
) -> LockStep:
    """Run one training step's forward and backward pass under two policies and compare every output.

        error = ||a - b|| / ||b||, a the output under `precision`, b the one under `reference`

    Args:
        build: makes the network, the same weights each time.
        images: (N, H, W, C), float16, float32 or float64.
        labels: (N,), int64.
        precision: the policy that is looked at, a name or a `Precision`.
        reference: the policy it is compared with.
        device: "cpu", "cuda", "cuda:1" or "reference".

    Both start from the weights as `precision` stores them, so that only the arithmetic differs. Batch
    statistics are used, dropout masks are the same.

    Raises:
        ValueError: the two do not run the same operations.
        UnsupportedPrecision: the device cannot honour a policy.

    >>> import fp16engine as fe
    >>> digits = fe.data.digits().limit(16)
    >>> def build():
    ...     return fe.models.create("dnn", image_size=8, channels=1)
    >>> step = compare(build, digits.normalised("train", "float32"), digits.train.labels, device="reference")
    >>> step.first is None
    True
    """
    policies = Precision.get(precision), Precision.get(reference)
    model = build().to(device, policies[0])
    twin = build().to(device, policies[1])
    dtypes = {name: str(array.dtype) for name, array in twin.state_dict().items()}
    # running statistics of another form than the twin's are converted when they are loaded
    statistics = policies[1].statistics
    twin.load_state_dict({k: v.astype(dtypes.get(k, statistics)) for k, v in model.state_dict().items()})
    calls = [
        _record(one, images, labels, policy, device)
        for one, policy in zip((model, twin), policies, strict=True)
    ]
    if [call for call, _ in calls[0]] != [call for call, _ in calls[1]]:
        raise ValueError("lockstep: the two networks must run the same operations, got different ones")
    u = float(limits(policies[0].storage).eps) / 2
    rows = []
    for k, ((call, a), (_, b)) in enumerate(zip(*calls, strict=True), start=1):
        expected = u * float(np.sqrt(k))
        backward = call.phase == BACKWARD
        bound = BACKWARD_FACTOR * float(np.sqrt(expected)) if backward else FACTOR * expected
        rows.append(Divergence(call.layer, call.phase, call.op, k, _relative(a, b), bound))
    return LockStep(policies[0].name, policies[1].name, rows)


def _record(
    model: Module, images: NDArray[Any], labels: NDArray[np.int64], policy: Precision, device: str
) -> list[tuple[Call, NDArray[np.float64]]]:
    backend = backends.get(device)
    seen: list[tuple[Call, NDArray[np.float64]]] = []

    def around(call: Call, backend_call: BackendCall) -> Any:
        result = backend_call.run()
        output = result[0] if isinstance(result, tuple) else result
        if call.layer and call.op not in _MOVES and is_float(getattr(output, "dtype", None)):
            seen.append((call, np.array(backend.to_numpy(output), np.float64)))
        return result

    x = backend.from_numpy(np.ascontiguousarray(rounded(images, policy.storage)))
    model.train()
    with random.fork(0), policy.use(), watch(model, around) as state:
        logits = model(Tensor(x, device))
        loss = F.cross_entropy(logits, Tensor(backend.from_numpy(labels.astype(np.int64)), device))
        state.phase = BACKWARD
        loss.backward()
    for parameter in model.parameters():
        parameter.grad = None
    return seen


def _relative(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    with np.errstate(all="ignore"):
        norm = float(np.sqrt(np.sum(b * b)))
        error = float(np.sqrt(np.sum((a - b) ** 2)))
    if error == 0:
        return 0.0
    return error / norm if norm and np.isfinite(norm) and np.isfinite(error) else float("nan")
