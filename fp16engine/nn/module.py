"""`Module` and `Parameter`: a tree of layers and the tensors they own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import backend as backends
from .. import observer
from ..block_format import BlockFormat
from ..floats import is_float, rounded
from ..precision import Precision, active
from ..tensor import Tensor
from ..validate import flag, instance, number, shown

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` from Python 3.11 on


class Unmatched(NamedTuple):
    """What `Module.load_state_dict(strict=False)` left out.

    Args:
        missing: paths of tensors that the state did not hold.
        unexpected: entries of the state that the module does not have.

    >>> Unmatched((), ("head.bias",)).unexpected
    ('head.bias',)
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


class Parameter(Tensor):
    """A leaf tensor that an optimizer trains.

    Args:
        data: a backend's array of any shape, float16, bfloat16 or float32.
        device: the device that `data` belong to.
        weight_decay: this tensor's own L2 factor (gradient += weight_decay * value), or None for the
            optimizer's.

    Raises:
        TypeError: `data` is no array, or holds integers.
        ValueError: weight_decay is out of range.

    >>> import numpy as np
    >>> import fp16engine as fe
    >>> fe.nn.Parameter(np.zeros(3, np.float32), weight_decay=1e-4).requires_grad
    True
    """

    __slots__ = ("weight_decay",)

    weight_decay: float | None

    def __init__(self, data: Any, device: str = "cpu", weight_decay: float | None = None) -> None:
        super().__init__(data, device, requires_grad=True)
        self.weight_decay = None if weight_decay is None else number("weight_decay", weight_decay, minimum=0)


class Module:
    """A layer or a network: tensors and other modules as attributes, and `forward`.

    Modules and parameters are found in attributes, and in lists and tuples of them, in the order of
    assignment. Those in a dict, a set or a list within a list are not, of which a warning tells: `ModuleDict`
    and `ModuleList` register theirs. A class names its state that is not trained in `buffers`, and what the
    precision policy keeps as norm statistics in `statistics`.

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
    # Of a network whose weights came from another one: the paths of tensors that did not.
    new_tensors: tuple[str, ...] = ()

    def forward(self, *args: Any, **options: Any) -> Any:
        """Return what the module makes of its input; a class of one's own defines it, `module(x)` calls it.

        Args:
            *args: what the module takes, tensors as a rule.
            **options: by name.

        Raises:
            NotImplementedError: the class defines no `forward`.

        >>> import fp16engine as fe
        >>> fe.nn.ReLU().forward(fe.tensor([-1.0], device="reference")).item()
        0.0
        """
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
        """Yield (name, module) for the modules directly below this one.

        >>> import fp16engine as fe
        >>> [name for name, _ in fe.nn.SeparableConv2d(2, 8, 3).named_children()]
        ['depthwise', 'pointwise']
        """
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                for i, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{name}.{i}", item
                    elif isinstance(item, (list, tuple, dict, set)):
                        _warn_of_unregistered(f"{type(self).__name__}.{name}[{i}]", item)
            elif isinstance(value, (dict, set)):
                _warn_of_unregistered(f"{type(self).__name__}.{name}", value)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield (path, module) for this module and all below it, from the top down.

        Args:
            prefix: the path of this module.

        >>> import fp16engine as fe
        >>> [path for path, _ in fe.nn.Sequential(fe.nn.Flatten(), fe.nn.ReLU()).named_modules("net")]
        ['net', 'net.0', 'net.1']
        """
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
        """Yield (path, parameter), e.g. ("blocks.0.conv1.weight", ...); a shared parameter comes once.

        >>> import fp16engine as fe
        >>> [(path, p.shape) for path, p in fe.nn.Linear(3, 2).named_parameters()]
        [('weight', (2, 3)), ('bias', (2,))]
        """
        for path, _, _, value in self._named_tensors():
            if isinstance(value, Parameter):
                yield path, value

    def parameters(self) -> Iterator[Parameter]:
        """Yield every parameter once.

        >>> import fp16engine as fe
        >>> [p.shape for p in fe.nn.Linear(3, 2).parameters()]
        [(2, 3), (2,)]
        """
        for _, value in self.named_parameters():
            yield value

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, tensor) for state that is not trained, such as running statistics.

        Returns:
            An iterator over paths and tensors of any shape, float16, float32 or int64 (counters).

        >>> import fp16engine as fe
        >>> [path for path, _ in fe.nn.BatchNorm2d(3).named_buffers()]
        ['running_mean', 'running_var', 'updates']
        """
        for path, _, _, value in self._named_tensors():
            if not isinstance(value, Parameter):
                yield path, value

    def num_parameters(self) -> int:
        """Return the number of trained values.

        >>> import fp16engine as fe
        >>> fe.nn.Linear(3, 2).num_parameters()
        8
        """
        return sum(p.size for p in self.parameters())

    # State

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters and buffers by path.

        Returns:
            NumPy arrays in the shape and dtype of the tensors (float16, float32 or int64), not rounded.

        >>> import fp16engine as fe
        >>> sorted(fe.nn.Linear(3, 2).state_dict())
        ['bias', 'weight']
        """
        return {path: np.array(value.numpy()) for path, _, _, value in self._named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Unmatched:
        """Take over what `state_dict` returned, bit for bit; nothing changes when anything is wrong.

        Args:
            state: an array for every parameter and buffer, by path, of its shape and dtype. Running
                statistics of another form, see `BatchNorm2d`, are converted.
            strict: False leaves tensors that the state does not hold as they are, and entries that the module
                does not have aside; shapes and dtypes must fit all the same.

        Returns:
            The names of both, `missing` and `unexpected`; none where strict.

        Raises:
            ValueError: a key is missing or unknown, or a shape differs; the message names the key.
            TypeError: strict is no bool, or a dtype differs. Load before `.to(precision=...)` to have float32
                values rounded.

        >>> import fp16engine as fe
        >>> a, b = fe.nn.Linear(3, 2), fe.nn.Linear(3, 2)
        >>> a.load_state_dict(b.state_dict())
        Unmatched(missing=(), unexpected=())
        >>> bool((a.weight.data == b.weight.data).all())
        True
        """
        flag("strict", strict)
        state = self.adapted(state)
        own = {path: value for path, _, _, value in self._named_tensors()}
        missing = [key for key in own if key not in state]
        unknown = [key for key in state if key not in own]
        if missing and strict:
            raise ValueError(
                f"load_state_dict: the state must hold {missing[0]!r}, got one without it "
                f"({len(missing)} of {len(own)} keys are missing)"
            )
        if unknown and strict:
            raise ValueError(
                f"load_state_dict: the state must be of this model, got key {shown(unknown[0])} "
                f"({len(unknown)} keys are not the model's)"
            )
        own = {key: value for key, value in own.items() if key in state}
        arrays = {key: np.ascontiguousarray(state[key]).reshape(np.shape(state[key])) for key in own}
        for key, value in own.items():
            if arrays[key].shape != value.shape:
                raise ValueError(
                    f"load_state_dict: {key!r} must be of shape {value.shape}, got {arrays[key].shape}"
                )
            if str(arrays[key].dtype) != value.dtype:
                raise TypeError(
                    f"load_state_dict: {key!r} must be {value.dtype}, got {arrays[key].dtype}; "
                    "load before .to(precision=...) to have it rounded"
                )
        for key, value in own.items():
            value.data = _backend_array(arrays[key], value.device)
        self.lay_out()
        return Unmatched(tuple(missing), tuple(unknown))

    def adapted(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a state for a model of this shape, in the form that its layers have here.

        Args:
            state: arrays by path, as `state_dict` returns them.

        >>> import fp16engine as fe
        >>> half = fe.nn.BatchNorm2d(3).to("reference", "fp16")
        >>> sorted(half.adapted(fe.nn.BatchNorm2d(3).state_dict()))
        ['beta', 'gamma', 'rest', 'running_mean', 'running_std', 'updates']
        """
        found = dict(instance("state", state, Mapping, "what state_dict returned"))
        for path, module in self.named_modules():
            found = module._own_form(f"{path}." if path else "", found)
        return found

    def _own_form(self, prefix: str, state: dict[str, Any]) -> dict[str, Any]:
        """What a layer that keeps its state in several forms makes of one; `prefix` is before its names."""
        return state

    def _take_form(self, policy: Precision) -> None:
        """Bring the state that is not trained into the form of `policy`; most layers have one only."""

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all below to training, or to evaluation, and return it.

        Args:
            mode: True for training, False for evaluation.

        >>> import fp16engine as fe
        >>> fe.nn.Dropout(0.5).train(False).training
        False
        """
        flag("mode", mode)
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and all below to evaluation and return it.

        >>> import fp16engine as fe
        >>> fe.nn.Sequential(fe.nn.Dropout(0.5)).eval()[0].training
        False
        """
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let all parameters be trained, or freeze them, and return the module.

        Args:
            requires_grad: False freezes: a trainer made afterwards neither trains nor decays them. Running
                statistics of norms follow the batches all the same.

        Raises:
            TypeError: requires_grad is neither True nor False.

        >>> import fp16engine as fe
        >>> model = fe.nn.Sequential(fe.nn.Linear(4, 3), fe.nn.Linear(3, 2)).requires_grad_(False)
        >>> _ = model[1].requires_grad_()
        >>> [path for path, p in model.named_parameters() if p.requires_grad]
        ['1.weight', '1.bias']
        """
        flag("requires_grad", requires_grad)
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Drop the gradients of all parameters.

        >>> import fp16engine as fe
        >>> layer = fe.nn.Linear(1, 1).to("reference")
        >>> layer(fe.tensor([[1.0]], device="reference")).sum().backward()
        >>> layer.zero_grad()
        >>> layer.bias.grad is None
        True
        """
        for p in self.parameters():
            p.grad = None

    def to(self, device: str | None = None, precision: str | Precision | None = None) -> Self:
        """Move all tensors to a device, round them as a precision says, drop gradients; return the module.

        Args:
            device: "cpu", "cuda", "cuda:1" or "reference"; None leaves each tensor where it is.
            precision: the name of a preset, or a `Precision`. Parameters and buffers are rounded to its
                storage dtype, a layer's `statistics` (norm scale, shift and running averages) to its
                statistics dtype, each to nearest even; counters stay int64. None rounds nothing.

        Make the optimizer afterwards.

        Raises:
            BackendUnavailable: the device is not there.
            UnsupportedPrecision: the precision does not run on this device.
            ValueError: the device or the precision does not exist.

        >>> import fp16engine as fe
        >>> fe.nn.Linear(3, 2).to("reference", "fp16").weight.dtype
        'float16'
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
            if policy is not None and is_float(dtype):  # counters stay
                dtype = policy.statistics if name in module.statistics else policy.storage
            host = np.asarray(_host_array(value))
            host = rounded(host, dtype) if is_float(dtype) else host
            value.data = _backend_array(host, target)
            value.device = target
            value.grad = None
        self.lay_out()
        return self

    def lay_out(self) -> None:
        """Put parameters that are used as one next to each other in memory, where they are not.

        `to` and `load_state_dict` do so themselves. No value, name or shape changes, and a layer whose
        parameters lie elsewhere computes the same from a copy.

        >>> import fp16engine as fe
        >>> layer = fe.nn.MultiHeadAttention(8, 2).to("reference")
        >>> layer.lay_out()
        >>> layer.key.weight.data.base is layer.query.weight.data.base
        True
        """
        for _, module in self.named_modules():
            module._lay_out()

    def _lay_out(self) -> None:
        """`lay_out` of this layer's own; most have nothing to do."""

    # Display

    def summary(self, input_shape: Sequence[int]) -> str:
        """Return a table of the layers: what each returns for one input, and how many parameters it has.

        Args:
            input_shape: (H, W, C), or what the module takes, without the batch's axis. An input of zeros is
                evaluated; nothing of the module is changed.

        Raises:
            ValueError: a size is out of range, or the module does not take the shape.
            TypeError: a size is no integer.

        >>> import fp16engine as fe
        >>> print(fe.nn.Sequential(fe.nn.Flatten(), fe.nn.Linear(12, 3)).summary((2, 2, 3)))
        layer  type     output   parameters
        0      Flatten  (N, 12)  0
        1      Linear   (N, 3)   39
        39 parameters (39 trained, 0 frozen), 156 bytes as they are
        """
        from .summary import summary

        return summary(self, input_shape)

    def extra_repr(self) -> str:
        """Return what `repr` shows between this module's brackets.

        >>> import fp16engine as fe
        >>> fe.nn.Linear(3, 2).extra_repr()
        '3, 2'
        """
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        extra = self.extra_repr()
        if not children:
            return f"{type(self).__name__}({extra})"
        return f"{type(self).__name__}({extra}\n  " + "\n  ".join(children) + "\n)"


def _warn_of_unregistered(where: str, value: Any) -> None:
    """Warn of modules and parameters where nobody finds them."""
    held = value.values() if isinstance(value, dict) else value
    if any(isinstance(item, (Module, Parameter)) for item in held):
        warnings.warn(
            f"{where} holds modules or parameters in a {type(value).__name__}, which are not trained, moved "
            "or saved; use nn.ModuleDict or nn.ModuleList",
            stacklevel=2,
        )


def _host_array(value: Tensor) -> Any:
    # A new model lives in NumPy arrays, so it can be made and moved without the compiled backend.
    return value.data if isinstance(value.data, np.ndarray) else value.numpy()


def _backend_array(host: np.ndarray, device: str) -> Any:
    return backends.get(device).from_numpy(host)
