"""An ONNX graph while it is written: its nodes, its constants, and which value an array of ours is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .trace import Pair

Axes = tuple[int, ...]
INPUT, OUTPUT = "images", "logits"


@dataclass(frozen=True)
class Value:
    """A value of the graph; its axis i is axis `axes[i]` of our array."""

    name: str
    axes: Axes


class Writer:
    """Gathers nodes; `value` and `put` go between our arrays and the graph's values.

    Args:
        dtype: "float16" or "float32", in which values and weights are stored.
        own: the arrays that are the network's, constants of the graph.
    """

    def __init__(self, dtype: str, own: tuple[np.ndarray, ...]) -> None:
        import onnx

        self.onnx = onnx
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._own = {_address(array) for array in own}
        self._values: dict[tuple[int, tuple[int, ...]], Value] = {}
        self._pairs: dict[int, Pair] = {}
        self._known: dict[tuple[Any, ...], str] = {}

    # Nodes

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result and return its name; equal ones are written once."""
        key = (op, inputs, repr(sorted(attributes.items())))
        if key not in self._known:
            self._known[key] = name = f"{op.lower()}_{len(self.nodes)}"
            self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return self._known[key]

    def constant(self, values: Any, dtype: str | None = None) -> str:
        """Add a constant in the graph's dtype, or in another one, and return its name."""
        given = np.asarray(values)
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(given.astype(dtype or self.dtype)).reshape(given.shape)
        if given.dtype.kind == "f" and not np.isfinite(array[np.isfinite(given)]).all():
            raise ValueError(
                f"dtype must hold every weight, got {array.dtype} for one of {np.abs(given).max():.4g}; "
                "export in float32"
            )
        key = (array.dtype.str, array.shape, array.tobytes() if array.size < 64 else _address(given))
        if key not in self._known or array.size >= 64:
            self._known[key] = name = f"constant_{len(self.constants)}"
            self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return self._known[key]

    def integers(self, *values: int) -> str:
        """Add a vector of int64 and return its name."""
        return self.constant(np.array(values, np.int64), "int64")

    def wide(self, name: str) -> str:
        """Return a value in FP32."""
        return name if self.dtype == "float32" else self.node("Cast", name, to=self.onnx.TensorProto.FLOAT)

    def narrow(self, name: str) -> str:
        """Return an FP32 value in the graph's dtype."""
        return name if self.dtype == "float32" else self.node("Cast", name, to=self.onnx.TensorProto.FLOAT16)

    def batch(self) -> str:
        """Return the number of images, a vector of one int64."""
        return self.node("Shape", INPUT, start=0, end=1)

    def is_own(self, array: Pair) -> bool:
        """Whether an array is one of the network's."""
        return _address(array.first) in self._own

    # Our arrays

    def put(self, result: Pair, name: str, axes: Axes | None = None) -> None:
        """Say which value a result is; without `axes`, in our order of axes."""
        array = result.first
        self._values[_address(array), array.shape] = Value(name, axes or tuple(range(array.ndim)))
        self._pairs[_address(array)] = result

    def value(self, array: Pair) -> Value:
        """Return the value of an array: a result, one in another shape, or a constant."""
        key = (_address(array.first), array.first.shape)
        if key in self._values:
            return self._values[key]
        if key[0] in self._own:
            return Value(self.constant(array.first), tuple(range(array.first.ndim)))
        base = self._pairs.get(key[0])
        if base is None or base.first.size != array.first.size:
            raise ValueError(
                f"the model must compute with operations of ours alone, got an array of shape "
                f"{array.first.shape} that no operation made"
            )
        shape = [-1 if a != b else a for a, b in zip(array.first.shape, array.second.shape, strict=True)]
        if shape.count(-1) > 1:
            raise ValueError(f"a reshape must have one size that follows the batch, got {shape.count(-1)}")
        name = self.node("Reshape", self.arranged(base), self.integers(*shape))
        self.put(array, name)
        self._pairs[key[0]] = base
        return self._values[key]

    def arranged(self, array: Pair, axes: Axes | None = None) -> str:
        """Return the name of an array's value with these axes of ours in this order; without, in ours."""
        value = self.value(array)
        target = axes or tuple(range(len(value.axes)))
        if value.axes == target:
            return value.name
        return self.node("Transpose", value.name, perm=[value.axes.index(axis) for axis in target])


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
