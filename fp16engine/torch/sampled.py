"""One sampled step of a PyTorch module, by hooks: the ranges of what every layer gives and passes back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle

from .. import backend as backends
from ..numerics import stagnation
from ..numerics.monitor import ACTIVATIONS, BACKWARD_GRADIENTS, GRADIENTS, KINDS, STATE, WEIGHTS, Row
from ..numerics.ranges import Ranges
from ..numerics.watch import LOSS, MODEL
from .ranges import by_device, counted, ranges_of
from .updates import layer_of

Key = tuple[str, str]  # layer, kind
_NORM = torch.nn.modules.batchnorm._BatchNorm
# What may run twice: it draws no random number and keeps no count but a norm's averages.
_REPEATABLE = (
    torch.nn.Linear,
    torch.nn.modules.conv._ConvNd,
    torch.nn.LayerNorm,
    torch.nn.GroupNorm,
    _NORM,
)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the floating tensors in nested tuples, lists and tables.

    >>> [t.shape for t in tensors_in({"a": [torch.zeros(2), 3], "b": (torch.zeros(1),)})]
    [torch.Size([2]), torch.Size([1])]
    """
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() and value.layout == torch.strided else []
    if isinstance(value, dict):
        value = list(value.values())
    return [t for part in value for t in tensors_in(part)] if isinstance(value, tuple | list) else []


class SampledStep:
    """Counts what passes through a model until `detach`; bits and gradients stay what they are.

    model: in training; shadow: 1 computes every layer with weights once more in FP32, n every n-th, 0 none;
    turn: which of them; before_forward: called as the model begins a forward pass, and may detach.
    """

    def __init__(
        self, model: torch.nn.Module, shadow: int, turn: int, before_forward: Callable[[], None]
    ) -> None:
        self._before_forward = before_forward
        self._stored: set[int] = set()
        self._shadow, self._calls = shadow, turn
        self._model = model
        self._busy = False
        self.backward = False  # whether a gradient has come back
        self._counts: dict[Key, list[tuple[Any, Any]]] = {}
        self._shadows: dict[Key, list[int]] = {}
        self.running: list[stagnation.Running] = []
        self._before: dict[int, tuple[torch.Tensor, stagnation.Averages]] = {}
        # Outputs of this forward pass, with the layer around the one that gave it, until a layer takes it in.
        self._pending: dict[int, tuple[torch.Tensor, str]] = {}
        self._seen: dict[tuple[int, int], torch.Tensor] = {}
        self._handles: list[RemovableHandle] = []
        for path, module in model.named_modules():
            name = path or MODEL
            self._handles += [
                module.register_forward_pre_hook(partial(self._enter, name), with_kwargs=True),
                module.register_forward_hook(partial(self._leave, name)),
            ]

    def detach(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._pending, self._seen = [], {}, {}

    def rows(self) -> list[Row]:
        """Return the ranges of every layer and kind."""
        rows: dict[Key, Row] = {}
        for key, pairs in self._counts.items():
            total = sum(np.asarray(backend.to_numpy(counts)).sum(axis=0) for backend, counts in pairs)
            rows[key] = Row(*key, Ranges.of_counts(total))
        for key, (values, under) in self._shadows.items():
            row = rows.setdefault(key, Row(*key))
            row.shadowed += values
            row.underflowed += under
        paths = [layer_of(path) for path, _ in self._model.named_parameters()]
        places = {layer: i for i, layer in reversed(list(enumerate(paths)))}

        def place(
            row: Row,
        ) -> tuple[int, int]:  # what was counted one optimizer after the other, in the model's order
            return KINDS.index(row.kind), places[row.layer] if row.kind in (WEIGHTS, GRADIENTS, STATE) else 0

        return sorted(rows.values(), key=place)

    def stored(self, optimizer: torch.optim.Optimizer) -> None:
        """Count an optimizer's weights, gradients and state, before its step."""
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self._count_parameters(own, optimizer)

    def stored_rest(self) -> None:
        """Count weights and gradients that no optimizer had, after the last one's step."""
        self._count_parameters({id(p) for p in self._model.parameters()} - self._stored, None)

    def _count_parameters(self, own: set[int], optimizer: torch.optim.Optimizer | None) -> None:
        self._stored |= own
        for path, p in self._model.named_parameters():
            if id(p) not in own:
                continue
            self._count(layer_of(path), WEIGHTS, p)
            if p.grad is not None:
                self._count(layer_of(path), GRADIENTS, p.grad)
            for value in optimizer.state.get(p, {}).values() if optimizer is not None else ():
                if isinstance(value, torch.Tensor) and value.shape == p.shape and value.is_floating_point():
                    self._count(layer_of(path), STATE, value)

    def forget_gradients(self) -> None:
        """Drop what came back: the step was not taken, and the next forward pass has begun."""
        self._counts = {key: counts for key, counts in self._counts.items() if key[1] == ACTIVATIONS}
        self._shadows = {key: counts for key, counts in self._shadows.items() if key[1] == ACTIVATIONS}
        self.backward = False

    def _count(self, layer: str, kind: str, tensor: torch.Tensor) -> None:
        for name, arrays in by_device([counted(tensor)]).items():
            backend = backends.unobserved(name)
            self._counts.setdefault((layer, kind), []).append((backend, backend.range_statistics(arrays)))

    # Hooks

    def _enter(self, path: str, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        if self._busy or not torch.is_grad_enabled():
            return
        if path == MODEL:
            self._before_forward()
            if not self._handles:
                return
            self._pending, self._seen = {}, {}
            if self.backward and all(p.grad is None for p in self._model.parameters()):
                self.forget_gradients()
        if any(True for _ in module.children()):
            return
        inputs = tensors_in((args, kwargs))
        for x in inputs:
            self._pending.pop(id(x), None)
            if x.requires_grad:
                x.register_hook(partial(self._came_back, path))
        if isinstance(module, _NORM) and module.training and module.running_mean is not None:
            self._before[id(module)] = inputs[0], _averages(module)

    def _leave(self, path: str, module: torch.nn.Module, args: Any, output: Any) -> None:
        if self._busy or not torch.is_grad_enabled():
            return
        is_leaf = not any(True for _ in module.children())
        outputs = tensors_in(output)
        around = path.rpartition(".")[0] or MODEL
        for y in outputs:
            key = (id(y), y._version)
            if is_leaf or key not in self._seen:
                self._count(path, ACTIVATIONS, y)
                self._seen[key] = y
                if y.requires_grad:
                    self._pending[id(y)] = y, around
        if id(module) in self._before:
            self.running.append(_running(path, module, *self._before.pop(id(module))))
        if len(args) == len(outputs) == 1 and self._is_due(module):
            self._follow(path, module, args[0], outputs[0])
        if path == MODEL:
            last = {id(y) for y in outputs}
            for y, layer in self._pending.values():
                y.register_hook(partial(self._came_back, LOSS if id(y) in last else layer))
            self._pending, self._seen = {}, {}

    def _came_back(self, path: str, gradient: torch.Tensor) -> None:
        self.backward = True
        self._count(path, BACKWARD_GRADIENTS, gradient)

    # The shadow in FP32

    def _is_due(self, module: torch.nn.Module) -> bool:
        known = isinstance(module, _REPEATABLE) and type(module).__module__.startswith("torch.nn.modules.")
        if not self._shadow or not known or not any(p.dtype == torch.float16 for p in module.parameters()):
            return False
        self._calls += 1
        return self._calls % self._shadow == 0

    def _follow(self, path: str, module: torch.nn.Module, x: torch.Tensor, output: torch.Tensor) -> None:
        """Compute a layer in FP32 from the same input, and its gradients once its output's has come."""
        state = {name: _wide(p) for name, p in module.named_parameters()}
        buffers = {name: _wide(buffer).detach() for name, buffer in module.named_buffers()}
        wide_x = _wide(x)
        self._busy = True
        try:
            with torch.enable_grad(), torch.autocast(output.device.type, enabled=False):
                y = torch.func.functional_call(module, {**state, **buffers}, (wide_x,))
        finally:
            self._busy = False
        wide = tensors_in(y)[0]
        self._note(path, ACTIVATIONS, wide)
        if output.requires_grad:
            names = [(BACKWARD_GRADIENTS, wide_x)] if x.requires_grad else []
            names += [(GRADIENTS, state[name]) for name, p in module.named_parameters() if p.requires_grad]
            output.register_hook(partial(self._follow_back, path, wide, names))

    def _follow_back(
        self, path: str, wide: torch.Tensor, names: list[tuple[str, torch.Tensor]], gradient: torch.Tensor
    ) -> None:
        found = torch.autograd.grad(wide, [t for _, t in names], gradient.float(), allow_unused=True)
        for (kind, _), one in zip(names, found, strict=True):
            if one is not None:
                self._note(path, kind, one)

    def _note(self, path: str, kind: str, wide: torch.Tensor) -> None:
        ranges = ranges_of([wide])
        entry = self._shadows.setdefault((path, kind), [0, 0])
        entry[0] += ranges.values - ranges.zeros
        entry[1] += ranges.under


def _wide(t: torch.Tensor) -> torch.Tensor:
    """Return an FP32 copy that gathers a gradient, or a copy of what is no floating tensor."""
    copy = t.detach().clone()
    return copy.float().requires_grad_() if t.is_floating_point() else copy


def _averages(module: Any) -> stagnation.Averages:
    mean, var = (t.detach().cpu().double().numpy() for t in (module.running_mean, module.running_var))
    return stagnation.Averages(mean, var, module.running_var.dtype == torch.float16)


def _running(path: str, module: Any, x: torch.Tensor, before: stagnation.Averages) -> stagnation.Running:
    axes = [axis for axis in range(x.ndim) if axis != 1]
    var, mean = torch.var_mean(x.detach().float(), axes, correction=0)
    inv_std = (var + module.eps).rsqrt()
    now = _averages(module)
    return stagnation.running(path, module.eps, before, now, mean.cpu().numpy(), inv_std.cpu().numpy())
