"""Explain a NaN of PyTorch's: the first operation, forward or backward, that left the finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

from ..numerics.explain import Explanation
from ..numerics.ranges import Ranges
from ..numerics.watch import BACKWARD, FORWARD, LOSS
from ..validate import instance, must_be, number
from .modules import RunningLayers, buffers_kept
from .ranges import all_finite, counted, ranges_of
from .sampled import tensors_in
from .updates import layer_of

Cause = tuple[str, str]  # with its remedy

INPUT = "(input)"
_UNINITIALISED = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
_SUM = "sum of gradients"

# What makes an operation leave the finite numbers, and the remedy, by the operation's name.
_CAUSES = {
    "log": ("the logarithm of 0 or of a negative number", "use log_softmax, or cross_entropy on the logits"),
    "sqrt": ("the square root of a negative number", "clip its input at 0"),
    "rsqrt": ("the root of a number that is not above 0", "add an eps of at least 6e-8 (better 1e-3)"),
    "exp": ("exp overflows from 11.09 on in float16", "subtract the maximum first, as softmax does"),
    "softmax": (
        "a row that is masked as a whole has no probabilities",
        "leave one entry of each row unmasked",
    ),
}
_ROOT_OF_0 = (
    "the slope of the square root is infinite at 0",
    "add an eps of at least 6e-8 (better 1e-3) under the root",
)


class _Found(Exception):
    """Ends the replay at the first operation that is to be named."""


def explain(
    model: torch.nn.Module, batch: Any, loss: Callable[[Any], torch.Tensor], scale: float = 1.0
) -> Explanation:
    """Run a forward and a backward pass and name the first operation whose result is not finite.

    Args:
        model: any module; one of torch.compile is run as the eager one it was made of.
        batch: what it is called with: a tensor of any shape, float16, float32 or any dtype, a tuple of
            arguments, or a table of arguments by name.
        loss: takes what the module returns and gives the loss, a scalar of any dtype.
        scale: factor on the loss, the loss scale of the step.

    Returns:
        An `Explanation`; its `layer` is the path of the innermost module, "loss" outside of the model, and
        None where everything was finite. -inf on purpose, as masks have it, is no fault.

    The module's weights, gradients, buffers and the random numbers that it will draw stay what they were.

    Raises:
        TypeError: an argument is of another type.
        ValueError: the loss is not one element, or needs no gradient.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)).half()
    >>> _ = model[1].weight.data.fill_(60000.0)
    >>> found = fet.explain(model, torch.full((1, 2), 100.0).half(), lambda y: y.sum())
    >>> found.phase, found.layer, found.op
    ('forward', '1', 'linear')
    """
    instance("model", model, torch.nn.Module, "a torch.nn.Module")
    model = getattr(model, "_orig_mod", model)
    factor = number("scale", scale, above=0)
    if not callable(loss):
        raise TypeError(must_be("loss", "a function of the module's output", loss))
    given = _given(model, batch)
    if given is not None:
        return given
    search = _Search(model)
    with _restored(model), search.layers.hooks(model):
        try:
            with search:
                output = _call(model, batch)
                found = loss(output)
                if not isinstance(found, torch.Tensor) or found.numel() != 1 or not found.requires_grad:
                    raise ValueError(must_be("loss", "one element that needs a gradient", _shape(found)))
            found.backward(torch.full_like(found, factor))
        except _Found:
            assert search.found is not None
            return search.found
    return Explanation(
        None, FORWARD, None, None, {}, None, "every result was finite", "explain the step that failed"
    )


def _call(model: torch.nn.Module, batch: Any) -> Any:
    if isinstance(batch, dict):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple) else model(batch)


def _shape(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


def _given(model: torch.nn.Module, batch: Any) -> Explanation | None:
    """Return what was not finite before any operation ran: the input, or a parameter."""
    for x in tensors_in(batch):
        if bool((torch.isnan(x) | torch.isposinf(x)).any()):  # -inf is a mask's
            remedy = "check the data; values beyond 65504 are infinite in float16, so normalise them"
            ranges = {"x": ranges_of([x])}
            return Explanation(None, FORWARD, INPUT, "x", ranges, None, "the input is not finite", remedy)
    for name, p in model.named_parameters():
        if p.is_floating_point() and not all_finite([counted(p)]):
            remedy = "go back to an earlier checkpoint; lower the learning rate or clip the gradient"
            cause = f"the parameter {name!r} is not finite"
            ranges = {name: ranges_of([p])}
            what = name.rpartition(".")[2]
            return Explanation(None, FORWARD, layer_of(name), what, ranges, None, cause, remedy)
    return None


@contextmanager
def _restored(model: torch.nn.Module) -> Iterator[None]:
    """Put gradients, buffers and random numbers back after the block."""
    grads = [(p, p.grad) for p in model.parameters()]
    for p, _ in grads:
        p.grad = None
    try:
        with buffers_kept(model), torch.random.fork_rng():
            yield
    finally:
        for p, grad in grads:
            p.grad = grad


class _Search(TorchFunctionMode):
    """Sees every function of PyTorch in the block, and through hooks every node of its backward pass."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._names = {id(p): path for path, p in model.named_parameters()}
        self.layers = RunningLayers()
        self._nodes: dict[Any, None] = {}  # held, so that their identity lasts
        self.found: Explanation | None = None

    @property
    def _layer(self) -> str:
        return self.layers.innermost(LOSS)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op = _name(func)
        inputs = tensors_in((args, kwargs))
        # in place, an operation overwrites them
        before = {name: ranges_of([x]) for name, x in self._named(inputs)} if inputs else {}
        result = func(*args, **kwargs)
        outputs = [y for y in tensors_in(result) if y.numel()]
        if inputs and outputs and op not in _UNINITIALISED:
            self._judge(FORWARD, self._layer, op, before, outputs, _scalars((args, kwargs)))
            for y in outputs:
                if y.grad_fn is not None:
                    known = _ROOT_OF_0 if op == "sqrt" and not bool(y.all()) else None
                    self._follow(y.grad_fn, self._layer, op, known)
        return result

    def _named(self, inputs: list[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        for i, x in enumerate(inputs):
            yield self._names.get(id(x), f"argument {i}"), x

    def _follow(self, root: Any, layer: str, op: str, known: Cause | None) -> None:
        """Hook the nodes that an operation has added to the graph; known: why its gradient is not finite."""
        left = [root]
        while left:
            node = left.pop()
            if node is None or node in self._nodes:
                continue
            self._nodes[node] = None
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                name = self._names.get(id(leaf))
                node.register_prehook(partial(self._summed, layer if name is None else layer_of(name)))
                continue
            node.register_prehook(partial(self._summed, layer))
            node.register_hook(partial(self._back, layer, op, known))
            left += [following for following, _ in node.next_functions]

    def _summed(self, layer: str, gradients: Any) -> None:
        """Judge what comes back to an operation: the sum over all that use its result."""
        self._judge(BACKWARD, layer, _SUM, {}, tensors_in(gradients), [])

    def _back(self, layer: str, op: str, known: Cause | None, results: Any, gradients: Any) -> None:
        before = {f"gradient {i}": ranges_of([g]) for i, g in enumerate(tensors_in(gradients))}
        self._judge(BACKWARD, layer, f"backward of {op}", before, tensors_in(results), [], known)

    def _judge(
        self,
        phase: str,
        layer: str,
        op: str,
        inputs: dict[str, Ranges],
        outputs: list[torch.Tensor],
        scalars: list[float],
        known: Cause | None = None,
    ) -> None:
        outputs = [y for y in outputs if y.numel()]
        if all_finite(map(counted, outputs)):
            return
        output = ranges_of(outputs)
        came = all(r.finite for r in inputs.values()) and all(map(math.isfinite, scalars))
        had_nan = any(r.nan for r in inputs.values()) or any(map(math.isnan, scalars))
        if not came and (had_nan or not output.nan):
            return
        cause, remedy = _cause(phase, op, inputs, output, outputs[0].dtype, known)
        self.found = Explanation(None, phase, layer, op, inputs, output, cause, remedy)
        raise _Found


def _name(func: Any) -> str:
    """Return the last part of a function's name, without the underscores of operators and in-place forms."""
    full = resolve_name(func) or getattr(func, "__name__", str(func))
    return full.rpartition(".")[2].strip("_")


def _scalars(value: Any) -> list[float]:
    if isinstance(value, float):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [n for part in value for n in _scalars(part)] if isinstance(value, tuple | list) else []


def _cause(
    phase: str,
    op: str,
    inputs: dict[str, Ranges],
    output: Ranges,
    dtype: torch.dtype,
    known: Cause | None,
) -> Cause:
    """Say in words why an operation is not finite, and what to do."""
    kinds = " or ".join(name for name, count in (("infinite", output.inf), ("NaN", output.nan)) if count)
    how_many = f"{output.inf + output.nan:,} of {output.values:,} values are {kinds}"
    largest = f"beyond {torch.finfo(dtype).max:g}, the largest number of {str(dtype).removeprefix('torch.')}"
    if known is not None:
        return f"{how_many}: {known[0]}", known[1]
    if phase == BACKWARD:
        where = "a sum of finite gradients is" if op == _SUM else "the gradient is"
        remedy = "lower the loss scale or the learning rate, clip the gradient, or keep this layer in float32"
        return f"{how_many}: {where} {largest}", remedy
    last = list(inputs.values())[-1] if inputs else None
    if ("div" in op or op == "reciprocal") and last is not None and last.zeros:
        return f"{how_many}: divided by 0", "add an eps of at least 6e-8 (better 1e-3) to the divisor"
    if op in _CAUSES and (op != "softmax" or output.nan):
        cause, remedy = _CAUSES[op]
        return f"{how_many}: {cause}", remedy
    remedy = "normalise or scale down what this layer takes in, or keep it in float32"
    return f"{how_many}: the result is {largest}", remedy
