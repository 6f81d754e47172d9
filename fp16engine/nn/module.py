"""`Module` and `Parameter`: a tree of layers and the tensors they own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from .. import backend as backends
from .. import observer
from ..block_format import BlockFormat
from ..precision import Precision, active
from ..tensor import Tensor


class Parameter(Tensor):
    """A leaf tensor that an optimizer trains.

    Attributes:
        weight_decay: this tensor's own L2 factor (gradient += weight_decay * value), or None for the
            optimizer's.
    """

    __slots__ = ("weight_decay",)

    weight_decay: float | None

    def __init__(self, data: Any, device: str = "cpu", weight_decay: float | None = None) -> None:
        super().__init__(data, device, requires_grad=True)
        self.weight_decay = weight_decay


class Module:
    """A layer or a network: tensors and other modules as attributes, and `forward`.

    Modules and parameters are found in attributes, and in lists and tuples of them, in the order of
    assignment. A class names its state that is not trained in `buffers`, and what the precision policy keeps
    as norm statistics in `statistics`.

    >>> import fp16engine as fe
    >>> class Net(fe.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = fe.nn.Linear(4, 8)
    ...         self.out = fe.nn.Linear(8, 2)
    ...     def forward(self, x):
    ...         return self.out(fe.functional.relu(self.hidden(x)))
    >>> [name for name, _ in Net().named_parameters()]
    ['hidden.weight', 'hidden.bias', 'out.weight', 'out.bias']
    """

    buffers: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
    # Whether this layer multiplies by a weight, so that a precision may give it an operand format of its own.
    dot_product: bool = False
    # That format, for this layer and those below it; None: the active precision's. See `Precision.layers`.
    operand: str | BlockFormat | None = None

    training: bool = True
    # How `models.create` made this network, for checkpoints; None for networks of one's own.
    config: dict[str, Any] | None = None

    def forward(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **options: Any) -> Any:
        try:
            observed = observer.observed()
            if not observed and self.operand is None:
                return self.forward(*args, **options)
            with ExitStack() as scopes:
                if observed:
                    scopes.enter_context(observer.running(self))
                if self.operand is not None:
                    scopes.enter_context(active().with_operand(self.operand).use())
                return self.forward(*args, **options)
        except (TypeError, ValueError) as error:
            self._name_layer(error)
            raise

    def _name_layer(self, error: Exception) -> None:
        """Put the path of the layer that failed, as seen from the outermost module, before the message."""
        layer, message = getattr(error, "_origin", (self, error.args[0] if error.args else ""))
        error._origin = (layer, message)  # type: ignore[attr-defined]
        path = next((path for path, module in self.named_modules() if module is layer), "")
        if path:
            error.args = (f"{path}: {message}", *error.args[1:])

    # The tree

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for the modules directly below this one."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                for i, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{name}.{i}", item

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield (path, module) for this module, whose path is `prefix`, and all below it."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def _named_tensors(self) -> Iterator[tuple[str, Module, str, Tensor]]:
        """Yield (path, owner, attribute, tensor) of parameters and buffers, each once, by its first path."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, value in module._own_tensors():
                if id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, module, name, value

    def _own_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in vars(self).items():
            if isinstance(value, Parameter) or (name in self.buffers and isinstance(value, Tensor)):
                yield name, value
            elif isinstance(value, (list, tuple)):
                yield from (
                    (f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Parameter)
                )

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield (path, parameter), e.g. ("blocks.0.conv1.weight", ...); a shared parameter comes once."""
        for path, _, _, value in self._named_tensors():
            if isinstance(value, Parameter):
                yield path, value

    def parameters(self) -> Iterator[Parameter]:
        """Yield every parameter once."""
        for _, value in self.named_parameters():
            yield value

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, tensor) for state that is not trained, such as running statistics."""
        for path, _, _, value in self._named_tensors():
            if not isinstance(value, Parameter):
                yield path, value

    def num_parameters(self) -> int:
        """Return the number of trained values."""
        return sum(p.size for p in self.parameters())

    # State

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters and buffers as NumPy arrays in their own dtypes, by path."""
        return {path: np.array(value.numpy()) for path, _, _, value in self._named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, bit for bit; nothing changes when anything is wrong.

        Running statistics of another form, see `BatchNorm2d`, are converted.

        Raises:
            ValueError: a key is missing or unknown, or a shape differs; the message names the key.
            TypeError: a dtype differs. Load before `.to(precision=...)` to have float32 values rounded.
        """
        state = self.adapted(state)
        own = {path: value for path, _, _, value in self._named_tensors()}
        missing = [key for key in own if key not in state]
        unknown = [key for key in state if key not in own]
        if missing:
            raise ValueError(
                f"load_state_dict: {missing[0]!r} is missing ({len(missing)} of {len(own)} keys are)"
            )
        if unknown:
            raise ValueError(
                f"load_state_dict: {unknown[0]!r} is not part of this model ({len(unknown)} keys are not)"
            )
        arrays = {key: np.ascontiguousarray(state[key]).reshape(np.shape(state[key])) for key in own}
        for key, value in own.items():
            if arrays[key].shape != value.shape:
                raise ValueError(
                    f"load_state_dict: {key!r} has shape {arrays[key].shape}, {value.shape} is wanted"
                )
            if str(arrays[key].dtype) != value.dtype:
                raise TypeError(
                    f"load_state_dict: {key!r} is {arrays[key].dtype}, {value.dtype} is wanted; "
                    "load before .to(precision=...) to have it rounded"
                )
        for key, value in own.items():
            value.data = _backend_array(arrays[key], value.device)

    def adapted(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return `state`, made for a model of this shape, in the form that its layers have here."""
        found = dict(state)
        for path, module in self.named_modules():
            found = module._own_form(f"{path}." if path else "", found)
        return found

    def _own_form(self, prefix: str, state: dict[str, Any]) -> dict[str, Any]:
        """What a layer that keeps its state in several forms makes of one; `prefix` is before its names."""
        return state

    def _take_form(self, policy: Precision) -> None:
        """Bring the state that is not trained into the form of `policy`; most layers have one only."""

    def train(self, mode: bool = True) -> Module:
        """Switch this module and all below to training (or evaluation) and return it."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch this module and all below to evaluation and return it."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Drop the gradients of all parameters."""
        for p in self.parameters():
            p.grad = None

    def to(self, device: str | None = None, precision: str | Precision | None = None) -> Module:
        """Move all tensors to `device`, round them as `precision` says, drop gradients; return the module.

        With a precision, parameters and buffers are rounded to its storage dtype, and a layer's `statistics`
        (norm scale, shift and running averages) to its statistics dtype. Make the optimizer afterwards.

        Raises:
            BackendUnavailable: the device is not there.
            UnsupportedPrecision, ValueError: the precision does not run here, or does not exist.
        """
        policy = None if precision is None else Precision.get(precision)
        if policy is not None:
            for _, module in self.named_modules():
                module._take_form(policy)
        for _, module, name, value in self._named_tensors():
            target = value.device if device is None else device
            dtype = value.dtype
            if policy is not None:
                policy.check(backends.get(target))
            if policy is not None and dtype.startswith("float"):  # counters stay
                dtype = policy.statistics if name in module.statistics else policy.storage
            with np.errstate(over="ignore"):
                host = np.asarray(_host_array(value)).astype(dtype)
            value.data = _backend_array(host, target)
            value.device = target
            value.grad = None
        return self

    # Display

    def extra_repr(self) -> str:
        """Return what `repr` shows between this module's brackets."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        extra = self.extra_repr()
        if not children:
            return f"{type(self).__name__}({extra})"
        return f"{type(self).__name__}({extra}\n  " + "\n  ".join(children) + "\n)"


class Sequential(Module):
    """Modules applied one after the other; `model[i]` is the i-th.

    >>> import fp16engine as fe
    >>> len(fe.nn.Sequential(fe.nn.Flatten(), fe.nn.Linear(4, 2)))
    2
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"Sequential: layer {i} is a {type(layer).__name__}, a Module is wanted")
        self.layers = list(layers)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        for i, layer in enumerate(self.layers):
            yield str(i), layer

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Module:
        return self.layers[index]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def _host_array(value: Tensor) -> Any:
    # A new model lives in NumPy arrays, so it can be made and moved without the compiled backend.
    return value.data if isinstance(value.data, np.ndarray) else value.numpy()


def _backend_array(host: np.ndarray, device: str) -> Any:
    return backends.get(device).from_numpy(host)
