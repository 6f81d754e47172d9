"""The tape: one `Function` per operation, and one walk back over them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from typing import Any, NamedTuple

from . import backend as backends
from .block_format import BlockFormat
from .precision import accumulator, active, chunk_terms
from .tensor import Tensor

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
    """Return whether operations are recorded for `backward` now.

    >>> is_recording()
    True
    """
    return _recording.get()


class GradAndBiasGrad(NamedTuple):
    """A gradient of the first input, and what it makes that of a bias: its sums over all axes but the last.

    Args:
        grad: (..., C), float16, bfloat16 or float32.
        bias_grad: (C,), dtype of grad.

    `backward` may return one in place of the gradient where there is a `bias_grad_node`.

    >>> import numpy as np
    >>> dy = np.ones((3, 2), np.float32)
    >>> GradAndBiasGrad(dy, dy.sum(0)).bias_grad
    array([3., 3.], dtype=float32)
    """

    grad: Array
    bias_grad: Array


class Edge(NamedTuple):
    """Where the gradient of an input goes that was computed: a node, and which of its results that was.

    Args:
        node: the node that computed the input.
        output: the index of the input among its results.

    >>> import fp16engine as fe
    >>> x = fe.tensor([1.0], device="reference", requires_grad=True)
    >>> y = (x * 2.0).sum()
    >>> type(y.node.edges[0].node).__name__, y.node.edges[0].output
    ('Scalar', 0)
    """

    node: Function
    output: int


class Function:
    """One node of the tape: an operation, what its gradient needs, and where that gradient flows.

    A subclass writes `forward` and `backward`; one with several `outputs` returns a tuple of arrays, is run
    by `apply_all`, and is given a gradient or None for each. Before `forward` runs, these are set: `backend`,
    `acc` (the active accumulator), `operand` (the active block format of dot products, or None), `needs`
    (which inputs want a gradient). Whatever `forward` keeps it stores as plain attributes of `self`; they are
    dropped as soon as `backward` has run.

    >>> import fp16engine as fe
    >>> class Double(fe.autograd.Function):
    ...     def forward(self, x):
    ...         return self.backend.binary("mul", x, 2.0)
    ...     def backward(self, dy):
    ...         return (self.backend.binary("mul", dy, 2.0),)
    >>> x = fe.tensor([1.0, 3.0], "float16", "reference", requires_grad=True)
    >>> y = Double.apply(x)
    >>> y.sum().backward()
    >>> y.numpy().tolist(), x.grad.numpy().tolist()
    ([2.0, 6.0], [2.0, 2.0])
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

    outputs = 1
    # Casts and moves change the dtype or device on purpose and sum nothing, so any accumulator suits them.
    accumulates = True
    # Dot products, whose factors a policy may round on the way in and whose sums it may take in chunks.
    multiplies = False
    # Whether `backward` adds another gradient of its first input, which has come before and is `pending_grad`
    # then, to its own before that is rounded: what it returns is the sum. `forward` may decide it for a node.
    fuses_grad_sum = False
    pending_grad: Array | None = None
    # Which input is a bias. `precomputed_bias_grad` is its gradient where that came with the incoming one.
    bias_input: int | None = None
    precomputed_bias_grad: Array | None = None
    # Whether the bias' gradient is a pass over the incoming one by itself on a GPU, not part of a product.
    bias_grad_apart = False

    backend: Any
    acc: str
    device: str
    operand: BlockFormat | None
    needs: tuple[bool, ...]
    # Where each input's gradient goes: a node, a leaf tensor, or nowhere. Tensors between nodes are not held.
    edges: tuple[Edge | Tensor | None, ...]
    sequence: int
    used: bool

    def forward(self, *arrays: Any, **options: Any) -> Any:
        """Return the result's array; a subclass defines it, `apply` calls it.

        Args:
            *arrays: of the inputs, of the node's backend; None where an input is None.
            **options: what `apply` was given by name.

        Raises:
            NotImplementedError: the class defines no `forward`.

        >>> import fp16engine as fe
        >>> fe.autograd.Function().forward()
        Traceback (most recent call last):
        NotImplementedError
        """
        raise NotImplementedError

    def backward(self, *grads: Any) -> tuple[Array | GradAndBiasGrad | None, ...]:
        """Return the gradients of the inputs; a subclass defines it, `walk` calls it.

        Args:
            *grads: the gradient of each result, in its shape and dtype, or None where none came.

        Returns:
            A gradient per input, in the shape and dtype of that input, or None; the first may be a
            `GradAndBiasGrad`.

        Raises:
            NotImplementedError: the class defines no `backward`.

        >>> import fp16engine as fe
        >>> fe.autograd.Function().backward()
        Traceback (most recent call last):
        NotImplementedError
        """
        raise NotImplementedError

    def bias_grad_node(self) -> Function | None:
        """Return the node that made the first input by adding a bias whose gradient is needed, or None.

        >>> import fp16engine as fe
        >>> layer = fe.nn.Linear(2, 2).to("reference")
        >>> y = fe.functional.relu(layer(fe.tensor([[1.0, 2.0]], device="reference")))
        >>> type(y.node.bias_grad_node()).__name__
        'Linear'
        """
        edge = self.edges[0]
        if not isinstance(edge, Edge) or edge.node.bias_input is None:
            return None
        return edge.node if edge.node.needs[edge.node.bias_input] else None

    @classmethod
    def apply(cls, *inputs: Tensor | None, **options: Any) -> Tensor:
        """Run `forward` on the inputs' arrays and record the node where a gradient is needed.

        Args:
            *inputs: Tensors of any shape and any dtype, on one device; None passes through.
            **options: what `forward` takes by name.

        Returns:
            A Tensor in the shape and dtype of the array that `forward` returned.

        Raises:
            ValueError: the inputs are on several devices.
            UnsupportedPrecision: the active precision has no accumulator for an input's dtype.

        >>> import fp16engine as fe
        >>> class Double(fe.autograd.Function):
        ...     def forward(self, x):
        ...         return self.backend.binary("mul", x, 2.0)
        >>> Double.apply(fe.tensor([1.5], "float16", "reference")).item()
        3.0
        """
        node, array = cls._run(inputs, options)
        return node._result(array, 0)

    @classmethod
    def apply_all(cls, *inputs: Tensor | None, **options: Any) -> tuple[Tensor, ...]:
        """Do what `apply` does for an operation with several `outputs`, and return them all.

        Args:
            *inputs: Tensors of any shape and any dtype, on one device; None passes through.
            **options: what `forward` takes by name.

        Returns:
            A Tensor per result, in the shape and dtype of the array that `forward` returned.

        Raises:
            ValueError: the inputs are on several devices.
            UnsupportedPrecision: the active precision has no accumulator for an input's dtype.

        >>> import fp16engine as fe
        >>> class Twice(fe.autograd.Function):
        ...     outputs = 2
        ...     def forward(self, x):
        ...         return x, self.backend.binary("mul", x, 2.0)
        >>> [y.item() for y in Twice.apply_all(fe.tensor([1.5], "float16", "reference"))]
        [1.5, 3.0]
        """
        node, arrays = cls._run(inputs, options)
        return tuple(node._result(array, output) for output, array in enumerate(arrays))

    @classmethod
    def _run(cls, inputs: tuple[Tensor | None, ...], options: dict[str, Any]) -> tuple[Function, Any]:
        node = cls()
        present = [t for t in inputs if t is not None]
        node.device = present[0].device
        for t in present:
            if t.device != node.device:
                raise ValueError(
                    f"{cls.__name__.lower()}: tensors must be on one device, got {node.device!r} and "
                    f"{t.device!r}; move one with .to(device)"
                )
        node.backend = backends.get(node.device)
        policy = active()
        if cls.multiplies:
            policy.check(node.backend)
        node.acc = policy.dot_accumulator if cls.multiplies else policy.accumulate
        node.operand = policy.block_format
        if node.acc != "float32" and cls.accumulates:
            for t in present:
                accumulator(t.dtype)
        if chunk_terms(node.acc) and not cls.multiplies:
            node.acc = "float32"
        recording = _recording.get()
        node.needs = tuple(recording and t is not None and t.requires_grad for t in inputs)
        results = node.forward(*(None if t is None else t.data for t in inputs), **options)
        if any(node.needs):
            node.used = False
            node.sequence = next(_sequence)
            node.edges = tuple(
                None if t is None or not need else t if t.node is None else Edge(t.node, t.output)
                for t, need in zip(inputs, node.needs, strict=True)
            )
        return node, results

    def _result(self, array: Array, output: int) -> Tensor:
        result = Tensor(array, self.device)
        if any(self.needs):
            result.requires_grad = True
            result.node, result.output = self, output
        return result

    def walk(self, output: int, grad: Array) -> None:
        """Add the gradient of one result to the `.grad` of every leaf it was computed from.

            leaf.grad += grad * d(result) / d(leaf)

        Args:
            output: the index of the result.
            grad: gradient of the loss by it: shape and dtype of the result.

        Nodes are visited in decreasing order of creation; gradients that meet are added and rounded to their
        dtype, or, by a node that `fuses_grad_sum`, added before its own is rounded.

        Raises:
            RuntimeError: the tape under this node was already walked.

        >>> import fp16engine as fe
        >>> x = fe.tensor([3.0], "float16", "reference", requires_grad=True)
        >>> y = x * x
        >>> y.node.walk(0, fe.tensor([1.0], "float16", "reference").data)
        >>> x.grad.item()
        6.0
        """
        pending: dict[Edge, Array | GradAndBiasGrad] = {Edge(self, output): grad}
        queued = {self}
        heap = [(-self.sequence, self)]
        while heap:
            node = heapq.heappop(heap)[1]
            queued.remove(node)
            for edge, dx in node._gradients(pending):
                if isinstance(edge, Tensor):
                    edge.accumulate_grad(dx)
                    continue
                if edge in pending:
                    dx = node.backend.binary("add", _alone(pending[edge]), _alone(dx))
                pending[edge] = dx
                if edge.node not in queued:
                    queued.add(edge.node)
                    heapq.heappush(heap, (-edge.node.sequence, edge.node))

    def _gradients(
        self, pending: dict[Edge, Array | GradAndBiasGrad]
    ) -> Iterator[tuple[Edge | Tensor, Array | GradAndBiasGrad]]:
        """Take what has come for the results, run `backward` and free what this node kept."""
        if self.used:
            raise RuntimeError(
                "backward: part of this result was already differentiated and its saved arrays are gone; "
                "compute it again before a second backward()"
            )
        incoming = [pending.pop(Edge(self, output), None) for output in range(self.outputs)]
        if isinstance(incoming[0], GradAndBiasGrad):
            self.precomputed_bias_grad = incoming[0].bias_grad
        edges = self.edges
        if self.fuses_grad_sum and isinstance(edges[0], Edge):
            self.pending_grad = _alone(pending.pop(edges[0], None))
        grads = self.backward(*map(_alone, incoming))
        self.used = True
        self.edges = ()
        self.__dict__.clear()
        return (
            (edge, dx) for edge, dx in zip(edges, grads, strict=True) if edge is not None and dx is not None
        )


def _alone(grad: Array | GradAndBiasGrad | None) -> Array | None:
    return grad.grad if isinstance(grad, GradAndBiasGrad) else grad
