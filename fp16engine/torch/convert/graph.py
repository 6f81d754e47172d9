"""The module that a graph of PyTorch's becomes: layers under the paths they have there, run step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...nn import Module, Parameter
from ...tensor import Tensor
from .held import IMAGE, Held


class Branch(Module):
    """A place in the tree of modules: it holds those below it."""


@dataclass(frozen=True)
class Ref:
    """An argument that is the result of another step."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operation: `call(*args, **kwargs)`, with the layer at `layer` first where there is one.

    `done` are the results that no later step reads.
    """

    name: str
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    layer: str | None = None
    done: tuple[str, ...] = ()


class Graph(Module):
    """A network that `from_torch` made.

    Args:
        source: the name of PyTorch's class.
        steps: the operations in their order.
        image: whether the input is images, (N, H, W, C) here.
        output: the argument that is the result.

    Call:
        x: images (N, H, W, C), or PyTorch's shape for any other input; float16, float32, or int64 ids. The
            result is PyTorch's, images (N, H, W, C). What is rounded, each operation says.
    """

    def __init__(self, source: str, steps: tuple[Step, ...], image: bool, output: Any) -> None:
        super().__init__()
        self.source, self.image = source, image
        self._steps, self._output = steps, output

    def put(self, path: str, value: Module | Parameter) -> None:
        """Add a layer or a parameter below its path, with the branches that lead to it."""
        *above, name = path.split(".")
        owner: Module = self
        for part in above:
            if not isinstance(vars(owner).get(part), Module):
                setattr(owner, part, Branch())
            owner = vars(owner)[part]
        setattr(owner, name, value)

    def at(self, path: str) -> Any:
        """Return the layer or parameter at a path."""
        found: Any = self
        for part in path.split("."):
            found = vars(found)[part]
        return found

    def forward(self, x: Tensor) -> Any:
        values: dict[str, Any] = {INPUT: Held(x, IMAGE) if self.image else Held.plain(x)}
        for step in self._steps:
            args = [_value(arg, values) for arg in step.args]
            kwargs = {name: _value(arg, values) for name, arg in step.kwargs.items()}
            if step.layer is not None:
                args.insert(0, self.at(step.layer))
            try:
                values[step.name] = step.call(*args, **kwargs)
            except (TypeError, ValueError) as error:
                if step.layer is None and error.args:
                    error.args = (f"{step.name}: {error.args[0]}", *error.args[1:])
                raise
            for name in step.done:
                del values[name]
        return _result(_value(self._output, values))

    def extra_repr(self) -> str:
        return f"of {self.source}"


INPUT = "(input)"


def held(parameter: Parameter) -> Held:
    """Return a parameter as a value of the graph."""
    return Held.plain(parameter)


def _value(arg: Any, values: Mapping[str, Any]) -> Any:
    """Return an argument with results in the place of references, in lists and slices too."""
    if isinstance(arg, Ref):
        return values[arg.name]
    if isinstance(arg, list | tuple):
        return type(arg)(_value(item, values) for item in arg)
    if isinstance(arg, slice):
        return slice(*(_value(part, values) for part in (arg.start, arg.stop, arg.step)))
    return arg


def _result(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_result, value))
    if not isinstance(value, Held):
        return value
    return value.arranged(IMAGE) if value.ndim == 4 else value.in_order()
