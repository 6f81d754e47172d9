"""Read a module's graph with torch.fx, convert every node, and compare the results on an example."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.nn import functional as torch_f

from ... import nn as ours
from ...autograd import no_grad
from ...precision import Precision
from ...tensor import tensor
from ...validate import instance
from . import layers
from .graph import INPUT, Graph, Ref, Step, held
from .operators import FUNCTIONS, METHODS

TOLERANCE = 1e-3  # of the largest output: a wrong conversion is far beyond, rounding in float32 far below
_IMAGE = 4  # axes
_DROPOUTS = (torch_f.dropout, torch.dropout)


def from_torch(module: torch.nn.Module, example_input: Any) -> Graph:
    """Return a network of ours that computes what a PyTorch module does, with copies of its weights.

    Args:
        module: with float32 parameters; torch.fx must be able to trace it, which control flow that depends
            on values prevents.
        example_input: what the module takes, of any batch size, float32 or int64: images (N, C, H, W), which
            the network takes as (N, H, W, C), or a tensor of another number of axes, which it takes as it is.

    Returns:
        A `Module` with layers under the paths they have in PyTorch, float32 on "cpu", for `.to`, `Trainer`
        and checkpoints. It has been run on the example in FP32, with outputs that differ from PyTorch's by
        less than 1e-3 of the largest.

    In training, running variances take the biased variance of the batch (PyTorch: unbiased), and norms that
    have seen no batch start from the first ones, see `nn.BatchNorm2d`. Each step of functions that are put
    together from ours (Hardswish, LeakyReLU) is rounded.

    Raises:
        TypeError: module is no torch.nn.Module, or the example no tensor.
        ValueError: operators or settings are not supported, all of them named; the module cannot be traced,
            does other operations in training than in evaluation, or the results differ.

    Source:
        Reed et al., 2021, arXiv 2112.08429 (torch.fx).

    >>> import torch
    >>> import fp16engine as fe
    >>> import fp16engine.torch as fet
    >>> theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(32, 2))
    >>> model = fet.from_torch(theirs, torch.zeros(1, 3, 4, 4))
    >>> [name for name, _ in model.named_parameters()]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    >>> model(fe.tensor([[[[1.0, 2.0, 3.0]] * 4] * 4])).shape
    (1, 2)
    """
    instance("module", module, torch.nn.Module, "a torch.nn.Module")
    instance("example_input", example_input, torch.Tensor, "a tensor")
    with _kept_modes(module):
        graph = _same_in_both_modes(module)
        result = _Builder(module, graph, example_input.ndim == _IMAGE).build()
        module.eval()
        _compare(module, result, example_input)
    return result


@contextmanager
def _kept_modes(module: torch.nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _same_in_both_modes(module: torch.nn.Module) -> fx.Graph:
    """Return the graph of evaluation; ValueError where training differs by more than dropout."""
    modes = (True, False)
    graphs = [_traced(module.train(mode)) for mode in modes]
    texts = [[_text(node, mode) for node in graph.nodes] for graph, mode in zip(graphs, modes, strict=True)]
    if texts[0] != texts[1]:
        pairs = zip([*texts[0], "nothing"], [*texts[1], "nothing"], strict=False)
        training, evaluation = next((a, b) for a, b in pairs if a != b)
        raise ValueError(
            "module must do the same operations in training and in evaluation, dropout apart, got "
            f"{training} in training and {evaluation} in evaluation"
        )
    return graphs[1]


def _traced(module: torch.nn.Module) -> fx.Graph:
    try:
        return fx.Tracer().trace(module)
    except Exception as error:  # the module's own code runs there, which may raise anything
        raise ValueError(
            f"module must be one that torch.fx can trace, got {type(error).__name__}: {error}"
        ) from error


def _text(node: fx.Node, training: bool) -> str:
    kwargs = dict(node.kwargs)
    args = node.args
    if node.target in _DROPOUTS:
        flag = _dropout_arguments(node)[2]
        if flag != training:
            return f"{node.name} (dropout with training={flag}, whatever the mode)"
        kwargs, args = {}, _dropout_arguments(node)[:2]
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
    return f"{node.name} ({target}{args}{kwargs or ''})"


def _dropout_arguments(node: fx.Node) -> tuple[Any, float, bool]:
    names = ("input", "p", "training" if node.target is torch_f.dropout else "train")
    given = {"p": 0.5, names[2]: True, **dict(zip(names, node.args, strict=False)), **node.kwargs}
    return given[names[0]], given["p"], given[names[2]]


class _Builder:
    """Converts node by node; what cannot be is gathered, so that one error names it all."""

    def __init__(self, module: torch.nn.Module, graph: fx.Graph, image: bool) -> None:
        self.module, self.graph, self.image = module, graph, image
        self.faults: list[str] = []
        self.layers: dict[str, tuple[ours.Module | None, layers.Call]] = {}
        self.shared: dict[int, ours.Parameter] = {}
        self.placed: dict[str, ours.Module | ours.Parameter] = {}
        self.names: dict[fx.Node, Any] = {}

    def build(self) -> Graph:
        steps, output = [], None
        for node in self.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "output":
                output = self._argument(node.args[0])
            else:
                self.names[node] = Ref(node.name)
                step = self._step(node)
                if step is not None:
                    steps.append(step)
        if self.faults:
            raise ValueError(
                f"module must be of supported operators, got {len(self.faults)} others: "
                + "; ".join(self.faults)
            )
        result = Graph(type(self.module).__name__, tuple(_freeing(steps, output)), self.image, output)
        for path, value in self.placed.items():
            result.put(path, value)
        return result

    def _placeholder(self, node: fx.Node) -> None:
        if not any(isinstance(value, Ref) for value in self.names.values()):
            self.names[node] = Ref(INPUT)
        elif node.args:
            self.names[node] = node.args[0]  # a default
        else:
            self.faults.append(f"a second input, {node.target}")
            self.names[node] = None

    def _step(self, node: fx.Node) -> Step | None:
        args = tuple(self._argument(arg) for arg in node.args)
        kwargs = {name: self._argument(arg) for name, arg in node.kwargs.items()}
        try:
            if node.op == "get_attr":
                return self._attribute(node)
            if node.op == "call_module":
                made, call = self._layer(str(node.target))
                layer = str(node.target) if made is not None else None
                return Step(node.name, call, args if made is not None else (None, *args), kwargs, layer)
            if node.target in _DROPOUTS:
                x, p, _ = _dropout_arguments(node)
                self.placed[node.name] = ours.Dropout(p)
                return Step(node.name, _called, (self._argument(x),), {}, node.name)
            table: dict[Any, Any] = METHODS if node.op == "call_method" else FUNCTIONS
            if node.target not in table:
                raise ValueError("no operation of ours does this")
            return Step(node.name, table[node.target], args, kwargs)
        except ValueError as error:
            kind = (
                node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
            )
            if node.op == "call_module":
                kind = type(self.module.get_submodule(str(node.target))).__name__
            path = node.target if node.op == "call_module" else node.name
            self.faults.append(f"{path} ({kind}): {error}")
            return None

    def _layer(self, path: str) -> tuple[ours.Module | None, layers.Call]:
        if path not in self.layers:
            self.layers[path] = layers.convert(self.module.get_submodule(path))
            made = self.layers[path][0]
            if made is not None:
                self.placed[path] = made
                self._share(path, made)
        return self.layers[path]

    def _share(self, path: str, made: ours.Module) -> None:
        """Let a weight that several linear layers or tables share be one here."""
        weight = getattr(self.module.get_submodule(path), "weight", None)
        if isinstance(made, ours.Linear | ours.Embedding) and weight is not None:
            made.weight = self.shared.setdefault(id(weight), made.weight)

    def _attribute(self, node: fx.Node) -> Step:
        path = str(node.target)
        owner, _, name = path.rpartition(".")
        value = getattr(self.module.get_submodule(owner), name)
        if not isinstance(value, torch.nn.Parameter):
            raise ValueError("a tensor of the module must be a parameter, got a buffer or a constant")
        if path not in self.placed:
            self.placed[path] = self.shared.setdefault(id(value), layers.parameter(value))
        return Step(node.name, held, (), {}, path)

    def _argument(self, arg: Any) -> Any:
        return fx.node.map_arg(arg, lambda node: self.names.get(node))


def _called(module: ours.Module, x: Any) -> Any:
    return x.mapped(module)


def _freeing(steps: list[Step], output: Any) -> list[Step]:
    """Return the steps with the results that each reads last."""
    kept = {ref.name for ref in _refs(output)}
    result: list[Step] = []
    for step in reversed(steps):
        read = {ref.name for ref in _refs([*step.args, *step.kwargs.values()])} | {step.name}
        done = tuple(sorted(read - kept))
        kept |= read
        result.append(Step(step.name, step.call, step.args, step.kwargs, step.layer, done))
    return result[::-1]


def _refs(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _refs(item)
    elif isinstance(value, slice):
        yield from _refs([value.start, value.stop, value.step])


def _compare(module: torch.nn.Module, result: Graph, example: torch.Tensor) -> None:
    with torch.no_grad():
        theirs = module(example)
    instance("what the module returns", theirs, torch.Tensor, "one tensor")
    given = example.detach().cpu().numpy()
    expected = theirs.detach().cpu().numpy()
    if result.image:
        given = given.transpose(0, 2, 3, 1)
    if expected.ndim == _IMAGE:
        expected = expected.transpose(0, 2, 3, 1)
    result.eval()
    with no_grad(), Precision.get("fp32+direct").use():
        found = result(tensor(given)).numpy()
    result.train()
    largest = float(np.abs(expected).max(initial=0.0))
    if found.shape != expected.shape:
        raise ValueError(
            f"the network must return shape {expected.shape} as the module does, got {found.shape}"
        )
    difference = float(np.abs(found - expected).max(initial=0.0))
    if not difference <= TOLERANCE * max(largest, 1e-30):
        raise ValueError(
            f"the network must return what the module does on the example, up to {TOLERANCE:g} of the "
            f"largest output {largest:.4g}, got a difference of {difference:.4g}"
        )
