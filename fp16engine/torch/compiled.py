"""Which roundings torch.compile removed: every operator of a module, compiled against eager, bit by bit.

The graphs that the compiler gets are compiled once more with intermediate results as outputs. An operator
that is run by PyTorch's own kernel on the results as they are stored must give what is stored after it. Where
it does not, and with `emulate_precision_casts` does, its compiled form read an unrounded input. A compiled
function may differ from PyTorch's in a few last digits, flag or not: what differs with the flag too is not
counted, and a rounding is called missing where twice as many values differ without the flag.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import fx

from ..numerics.watch import MODEL

INDUCTOR = "inductor"
_FLAG = "emulate_precision_casts"
FLAG = f"torch._inductor.config.{_FLAG}"

# Kernels of their own, whose result is always stored.
_STORED = ("mm", "addmm", "bmm", "baddbmm", "convolution", "linear")
_VIEWS = (
    "t",
    "view",
    "_unsafe_view",
    "permute",
    "transpose",
    "expand",
    "unsqueeze",
    "squeeze",
    "reshape",
    "slice",
)


class RemovedCast(NamedTuple):
    """A rounding to a short type that the program asks for and the compiled code leaves out.

    Args:
        layer: the module whose operator should have rounded; "(model)" outside of every layer.
        producer: that operator, by its name in `torch.ops.aten`.
        dtype: what it should have rounded to.
        consumer: the operator that read the unrounded result.
        differ: how many values of the consumer's result are others because of it.
        values: how many values it has.

    >>> RemovedCast("0", "gelu", "float16", "mul", 3, 8).text
    '0: gelu is not rounded to float16 before mul, of whose 8 values 3 are others'
    """

    layer: str
    producer: str
    dtype: str
    consumer: str
    differ: int
    values: int

    @property
    def text(self) -> str:
        """Say it in a line."""
        return (
            f"{self.layer}: {self.producer} is not rounded to {self.dtype} before {self.consumer}, of whose "
            f"{self.values:,} values {self.differ:,} are others"
        )


class OtherDifference(NamedTuple):
    """An operator whose compiled form gives other bits from the same stored inputs, flag or not."""

    layer: str
    op: str
    differ: int
    values: int


class _Graph:
    """A graph of the module and what it was called with."""

    def __init__(self, module: fx.GraphModule, layers: dict[str, str]) -> None:
        self._module = module
        self._layers = layers
        self.args: list[Any] = []
        self.watched = [n for n in module.graph.nodes if n.op == "call_function" and _is_float(n)]

    def choices(self) -> Iterator[list[fx.Node]]:
        """Yield sets of nodes to be outputs: all of them, then every other one.

        As an output, a result is stored, and a kernel that reads memory reads it rounded. What is no output
        is computed inside of its reader, as it would be in the module itself.
        """
        yield self.watched
        depths: dict[fx.Node, int] = {}
        for node in self._module.graph.nodes:
            own = node in self.watched and name_of(node) not in _VIEWS
            depths[node] = own + max((depths[n] for n in node.all_input_nodes), default=0)
        for parity in (0, 1):
            yield [node for node in self.watched if depths[node] % 2 == parity]

    def values(self, watched: list[fx.Node], options: dict[str, Any]) -> dict[fx.Node, torch.Tensor]:
        """Return the results of the compiled graph, by node, with these nodes as its outputs."""
        from torch._inductor import compile as compiled
        from torch._inductor import config

        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for node in self._module.graph.nodes:
            if node.op != "output":
                copies[node] = graph.node_copy(node, lambda n: copies[n])
        graph.output(tuple(copies[node] for node in watched))
        graph.eliminate_dead_code()
        whole = fx.GraphModule(self._module, graph)
        args = _cloned(self.args)
        with config.patch(options):
            results = compiled(whole, args)(*args)
        return dict(zip(watched, results, strict=True))

    def differing(self, watched: list[fx.Node], options: dict[str, Any]) -> dict[fx.Node, int]:
        """Return the nodes whose stored results are not PyTorch's own of the stored inputs, with how many."""
        values = self.values(watched, options)
        inputs = dict(zip(self._module.graph.find_nodes(op="placeholder"), self.args, strict=True))
        found = {}
        for node in watched:
            count = others(self._computed(node, {**inputs, **values}, top=True), values[node])
            if count:
                found[node] = count
        return found

    def _computed(self, node: Any, known: dict[Any, Any], top: bool = False) -> Any:
        """Return a node's result from stored ones, by PyTorch's own kernel."""
        if not top and node in known:
            return known[node]
        if node.op == "get_attr":
            return operator.attrgetter(node.target)(self._module)

        def given(n: Any) -> Any:
            value = self._computed(n, known)
            return value.clone() if isinstance(value, torch.Tensor) else value

        return node.target(*fx.map_arg(node.args, given), **fx.map_arg(node.kwargs, given))

    def producers(self, node: fx.Node) -> Iterator[fx.Node]:
        """Yield the operators of short results that a node reads and that are no kernels of their own."""
        for n in node.all_input_nodes:
            if name_of(n) in _VIEWS or not _is_float(
                n
            ):  # one of several results is taken from what is no tensor
                yield from self.producers(n)
            elif n.op == "call_function" and _is_short(n) and name_of(n) not in _STORED:
                yield n

    def layer(self, node: fx.Node) -> str:
        stack = node.meta.get("nn_module_stack") or {}
        ids = [key.partition("@")[0] for key in stack]
        return next((self._layers[i] for i in reversed(ids) if i in self._layers), MODEL)


def compare(
    model: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[list[RemovedCast], list[OtherDifference]]:
    """Return the roundings that are missing when an eager module is compiled, and what else differs.

    options: of Inductor, by name, in addition to those in force.

    >>> compare(torch.nn.Identity(), (torch.zeros(2),), {})
    ([], [])
    """
    removed: dict[tuple[fx.Node, fx.Node], RemovedCast] = {}
    other: dict[fx.Node, OtherDifference] = {}
    for graph in _graphs(model, args):
        for watched in graph.choices():
            found = graph.differing(watched, options) if watched else {}
            remaining = graph.differing(watched, {**options, _FLAG: True}) if found else {}
            for node, count in found.items():
                values, left = node.meta["val"].numel(), remaining.get(node, 0)
                if count > 2 * left:
                    for producer in graph.producers(node):
                        dtype = str(producer.meta["val"].dtype).removeprefix("torch.")
                        names = graph.layer(producer), name_of(producer), dtype, name_of(node)
                        removed.setdefault((producer, node), RemovedCast(*names, count - left, values))
                if left and watched is graph.watched:
                    other[node] = OtherDifference(graph.layer(node), name_of(node), left, values)
    return list(removed.values()), list(other.values())


def compiler_of(model: Any) -> tuple[str, dict[str, Any]]:
    """Return the compiler of a module of torch.compile, and the options it was given.

    >>> compiler_of(torch.nn.Identity())
    ('unknown', {})
    """
    backend: Any = getattr(getattr(model, "dynamo_ctx", None), "callback", None)
    while hasattr(backend, "_torchdynamo_orig_backend"):
        backend = backend._torchdynamo_orig_backend
    return str(getattr(backend, "compiler_name", "unknown")), dict(getattr(backend, "config", None) or {})


def _graphs(model: torch.nn.Module, args: tuple[Any, ...]) -> list[_Graph]:
    """Return the graphs that torch.compile makes of a module, several where it breaks, with their inputs."""
    from torch._dynamo.backends.common import aot_autograd

    layers = {str(id(module)): path or MODEL for path, module in model.named_modules()}
    found: list[_Graph] = []

    def keep(module: fx.GraphModule, example: Any) -> Callable[[list[Any]], Any]:
        graph = _Graph(module, layers)
        found.append(graph)

        def run(args: list[Any]) -> Any:
            graph.args = _cloned(args)
            return module.forward(*args)

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    torch.compile(model, backend=aot_autograd(fw_compiler=keep), dynamic=False)(*args)
    return [graph for graph in found if graph.args or not graph.watched]


def name_of(node: fx.Node) -> str:
    """Return the short name of what a node calls, or of what gave it several results.

    >>> graph = fx.Graph()
    >>> name_of(graph.call_function(torch.ops.aten.add.Tensor, (1, 2)))
    'add'
    """
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        return name_of(node.args[0])
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet))


def _cloned(args: list[Any]) -> list[Any]:
    return [a.detach().clone() if isinstance(a, torch.Tensor) else a for a in args]


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _is_short(node: fx.Node) -> bool:
    return _is_float(node) and node.meta["val"].dtype in (torch.float16, torch.bfloat16)


def others(a: torch.Tensor, b: torch.Tensor) -> int:
    """Return how many values of two tensors differ; NaN and NaN do not.

    >>> others(torch.tensor([1.0, float("nan")]), torch.tensor([2.0, float("nan")]))
    1
    """
    return int(((a != b) & ~(a.isnan() & b.isnan())).sum())
