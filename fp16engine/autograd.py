"""The tape: one `Function` per operation, and one walk back over them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from typing import Any

from . import backend as backends
from .block_format import BlockFormat
from .precision import accumulator, active, chunk_terms

Array = Any

_recording: ContextVar[bool] = ContextVar("fp16engine_recording", default=True)
_sequence = itertools.count()


class no_grad(ContextDecorator):
    """Context manager and decorator inside which nothing is recorded for `backward`.

    >>> import fp16engine as fe
    >>> with fe.no_grad():
    ...     fe.autograd.is_recording()
    False
    """

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> no_grad:
        self._tokens.append(_recording.set(False))
        return self

    def __exit__(self, *exc: object) -> None:
        _recording.reset(self._tokens.pop())

    def _recreate_cm(self) -> no_grad:
        # A decorated function may be entered again before it returns, so each call gets its own tokens.
        return no_grad()


def is_recording() -> bool:
    """Return whether operations are recorded for `backward` now."""
    return _recording.get()


class Function:
    """One node of the tape: an operation, what its gradient needs, and where that gradient flows.

    A subclass writes `forward(*arrays, **options) -> array` and `backward(dy) -> (array | None per input)`.
    Before `forward` runs, these are set: `backend`, `acc` (the active accumulator), `operand` (the active
    block format of dot products, or None), `needs` (which inputs want a gradient). Whatever `forward` keeps
    it stores as plain attributes of `self`; they are dropped as soon as `backward` has run.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "acc",
        "backend",
        "device",
        "edges",
        "needs",
        "operand",
        "sequence",
        "used",
    )

    # Casts and moves change the dtype or device on purpose and sum nothing, so any accumulator suits them.
    accumulates = True
    # Dot products, whose factors a policy may round on the way in and whose sums it may take in chunks.
    multiplies = False
    # Whether `backward` takes a gradient of its first input that has come from elsewhere into its own: that
    # is `waiting` then, and what `backward` returns is the sum.
    joins = False
    waiting: Array | None = None
    # The sums over all axes but the last of an incoming gradient, which whoever made it left behind.
    column_sums: tuple[Array, Array] | None = None

    backend: Any
    acc: str
    device: str
    operand: BlockFormat | None
    needs: tuple[bool, ...]
    # Where each input's gradient goes: a node, a leaf tensor, or nowhere. Tensors between nodes are not held.
    edges: tuple[Function | Tensor | None, ...]
    sequence: int
    used: bool

    def forward(self, *arrays: Any, **options: Any) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        raise NotImplementedError

    def biased(self) -> Function | None:
        """Return the node that needs this one's incoming gradient summed over all axes but the last: a bias'.

        A node that writes that gradient may sum it on the way and leave (gradient, sums) in `column_sums`.
        """
        return None

    def sums_of(self, dy: Array) -> Array | None:
        """Return the sums that were left for `dy`; None where there are none, or `dy` is another array."""
        return self.column_sums[1] if self.column_sums is not None and self.column_sums[0] is dy else None

    @classmethod
    def apply(cls, *inputs: Tensor | None, **options: Any) -> Tensor:
        """Run `forward` on the inputs' arrays (None passes through) and record the node where wanted."""
        node = cls()
        present = [t for t in inputs if t is not None]
        node.device = present[0].device
        for t in present:
            if t.device != node.device:
                raise ValueError(
                    f"{cls.__name__.lower()}: tensors on {node.device!r} and {t.device!r} given; "
                    "move one with .to(device)"
                )
        node.backend = backends.get(node.device)
        policy = active()
        if cls.multiplies:
            policy.check(node.backend)
        node.acc = policy.products if cls.multiplies else policy.accumulate
        node.operand = policy.block_format
        if node.acc != "float32" and cls.accumulates:
            for t in present:
                accumulator(t.dtype)
        if chunk_terms(node.acc) and not cls.multiplies:
            node.acc = "float32"
        recording = _recording.get()
        node.needs = tuple(recording and t is not None and t.requires_grad for t in inputs)
        out = Tensor(node.forward(*(None if t is None else t.data for t in inputs), **options), node.device)
        if any(node.needs):
            node.used = False
            node.sequence = next(_sequence)
            node.edges = tuple(
                (t.node or t) if t is not None and need else None
                for t, need in zip(inputs, node.needs, strict=True)
            )
            out.requires_grad = True
            out.node = node
        return out


def backward(root: Tensor, grad: Array) -> None:
    """Add d(root)/d(leaf) * `grad` to the `.grad` of every leaf tensor `root` was computed from.

    Nodes are visited in decreasing order of creation; gradients that meet are added and rounded to their
    dtype, or, by a node that `joins`, added before its own is rounded.

    Raises:
        RuntimeError: the tape under `root` was already walked, or `root` was not computed from any leaf.
    """
    if root.node is None:
        if not root.requires_grad:
            raise RuntimeError(
                "backward: this tensor depends on no tensor with requires_grad=True, "
                "or was computed under no_grad()"
            )
        _deposit(root, grad)
        return
    pending: dict[Function, Array] = {root.node: grad}
    heap: list[tuple[int, Function]] = [(-root.node.sequence, root.node)]
    while heap:
        node = heapq.heappop(heap)[1]
        dy = pending.pop(node)
        joined = node.edges[0] if node.joins and node.edges else None
        if isinstance(joined, Function) and joined in pending:
            node.waiting = pending[joined]
        else:
            joined = None
        for edge, dx in _gradients(node, dy):
            if isinstance(edge, Tensor):
                _deposit(edge, dx)
            elif edge is joined:  # it is in the heap already
                pending[edge], joined = dx, None
            elif edge in pending:
                pending[edge] = node.backend.binary("add", pending[edge], dx)
            else:
                pending[edge] = dx
                heapq.heappush(heap, (-edge.sequence, edge))


def _gradients(node: Function, dy: Array) -> Iterator[tuple[Function | Tensor, Array]]:
    """Run one node's backward and free what it kept."""
    if node.used:
        raise RuntimeError(
            "backward: part of this result was already differentiated and its saved arrays are gone; "
            "compute it again before a second backward()"
        )
    grads = node.backward(dy)
    edges = node.edges
    node.used = True
    node.edges = ()
    node.__dict__.clear()
    return ((edge, dx) for edge, dx in zip(edges, grads, strict=True) if edge is not None and dx is not None)


def _deposit(leaf: Tensor, grad: Array) -> None:
    if leaf.grad is None:
        leaf.grad = Tensor(grad, leaf.device)
    else:
        leaf.grad = Tensor(backends.get(leaf.device).binary("add", leaf.grad.data, grad), leaf.device)


# The two modules need each other: a tensor walks the tape, and the tape makes tensors.
from .tensor import Tensor  # noqa: E402
