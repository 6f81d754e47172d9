"""What our optimizers for PyTorch share: groups, state that keeps its dtype, one kernel for all tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch

from .. import optim as ours
from ..tensor import Tensor, tensor
from ..validate import instance, must_be, number, shown
from .arrays import DTYPES, array, device_of, is_dense, laid_out_as, wait_for

Group = dict[str, Any]
Around = Callable[[ours.Optimizer, list[torch.Tensor], float], None]

_ONE_KERNEL = "one kernel takes all tensors"
_REFUSED = {
    "maximize": "negate the loss instead",
    "amsgrad": "no kernel keeps the maximum of v",
    "centered": "no kernel keeps the mean gradient",
    "dampening": "scale lr instead",
    "differentiable": "the step is in place",
    "foreach": _ONE_KERNEL,
    "fused": _ONE_KERNEL,
    "capturable": _ONE_KERNEL,
}


class Optimizer(torch.optim.Optimizer):
    """The base of SGD, Adam, AdamW, RMSprop and Muon: a `torch.optim.Optimizer` with our kernels.

    Args:
        params: as for `torch.optim.Optimizer`: tensors of any shape, named ones, or groups with options of
            their own; float16 or float32, on the CPU or a GPU, dense in memory in any order of the axes.
        options: of every group that does not name its own: lr, update, state, seed and the class's numbers.
        refused: options of `torch.optim` that have no counterpart here.

    Attributes:
        around: None, or what is called in place of each kernel call, with our optimizer over the tensors, the
            tensors and the factor on the gradients; instruments set it.

    Rounding:
        As in `fp16engine.optim`: all of a step is in FP32 registers, and each stored value is rounded once.

    Raises:
        ValueError: a number is out of range, or a tensor is of another dtype, device or layout.
        TypeError: an argument is of another type, or no option of this class.

    >>> import torch
    >>> import fp16engine.torch as fet
    >>> w = torch.ones(1, dtype=torch.float16, requires_grad=True)
    >>> isinstance(fet.SGD([w], lr=0.5), torch.optim.Optimizer)
    True
    """

    engine: ClassVar[type[ours.Optimizer]]
    around: Around | None = None

    # torch.amp.GradScaler then leaves float16 gradients as they are, and hands us its scale and verdict.
    _step_supports_amp_scaling = True

    def __init__(self, params: Any, options: Group, refused: Mapping[str, Any]) -> None:
        for name in refused.keys() - _REFUSED.keys():
            raise TypeError(must_be("options", f"of {type(self).__name__}: {', '.join(options)}", name))
        _refuse(refused)
        super().__init__(params, options)

    def add_param_group(self, param_group: Group) -> None:
        """Add tensors with options of their own, as `torch.optim.Optimizer.add_param_group`.

        Args:
            param_group: "params", and options by name.

        Raises:
            ValueError: as the class.
            TypeError: as the class.

        >>> import torch
        >>> import fp16engine.torch as fet
        >>> a, b = (torch.ones(1, dtype=torch.float16, requires_grad=True) for _ in range(2))
        >>> optimizer = fet.SGD([a], lr=0.5)
        >>> optimizer.add_param_group({"params": [b], "lr": 0.25, "update": "kahan"})
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.5, 0.25]
        """
        super().add_param_group(param_group)
        try:
            self._check(self.param_groups[-1])
        except BaseException:
            self.param_groups.pop()
            raise

    def _check(self, group: Group) -> None:
        _refuse({name: group[name] for name in _REFUSED if name in group})
        for p in group["params"]:
            if p.dtype not in DTYPES:
                raise ValueError(must_be("params", "float16 or float32", str(p.dtype)))
            if not is_dense(p):
                raise ValueError(
                    f"params must be dense in memory, got shape {tuple(p.shape)} with strides {p.stride()}"
                )
            device_of(p)
        group["lr"] = number("lr", group["lr"], minimum=0)
        names = [str(dtype).removeprefix("torch.") for dtype in {p.dtype for p in group["params"]}]
        # Our own constructor checks the numbers, on one element per dtype, and finds eps.
        sample = [tensor([0.0], name, "reference", requires_grad=True) for name in names or ["float16"]]
        made = self.engine(sample, lr=1.0, **self._arguments(group))
        if "eps" in group:
            group["eps"] = made.eps  # type: ignore[attr-defined]

    def _arguments(self, group: Group) -> dict[str, Any]:
        """Return the arguments of our constructor, all but lr, by name."""
        return {name: group[name] for name in self.defaults if name != "lr"}

    def _numbers(self, group: Group) -> dict[str, Any]:
        """Return the attributes of our optimizer, by name."""
        shared = ("weight_decay", "seed", "update")
        lr = number("lr", group["lr"], minimum=0)  # a schedule may end at 0
        return {"lr": lr, **{name: group[name] for name in shared}}

    def _of_each(self, group: Group, params: list[torch.Tensor]) -> dict[str, Any]:
        """Return the attributes of our optimizer that hold something of each parameter."""
        return {}

    def _slots(self, group: Group) -> tuple[str, ...]:
        return self.engine.slots

    def _array(self, tensor: torch.Tensor) -> Any:
        """Return a tensor's memory as the kernels take it."""
        return array(tensor)

    # Stepping

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, grad_scale: float = 1.0) -> Any:
        """Update every tensor that has a gradient.

        Args:
            closure: computes the loss and its gradients again; None takes the gradients as they are.
            grad_scale: factor on the gradients, applied in the register: 1 / loss scale.

        Returns:
            What `closure` returned, or None.

        Raises:
            ValueError: `grad_scale` or a learning rate is out of range, or a gradient is sparse.
            TypeError: a tensor's dtype changed after its state was made.

        >>> import torch
        >>> import fp16engine.torch as fet
        >>> w = torch.ones(1, dtype=torch.float16, requires_grad=True)
        >>> w.grad = torch.full_like(w, 512.0)
        >>> fet.SGD([w], lr=1.0).step(grad_scale=1 / 1024)
        >>> w.item()
        0.5
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        factor = number("grad_scale", grad_scale, above=0)
        # What torch.amp.GradScaler sets for the time of a step.
        found, scale = getattr(self, "found_inf", None), getattr(self, "grad_scale", None)
        if found is not None and float(found):
            return loss
        if scale is not None:
            factor /= float(scale)
        for group, members in list(self._batches()):
            self._launch(group, members, factor)
        for device in {device_of(p) for group in self.param_groups for p in group["params"]}:
            wait_for(device)
        return loss

    def _batches(self) -> Iterator[tuple[Group, dict[int, torch.Tensor]]]:
        """Yield each group's tensors that have a gradient, by index over all groups: one kernel call each."""
        index = 0
        for group in self.param_groups:
            batches: dict[Any, dict[int, torch.Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    key = p.dtype, p.device, self._made(p, index, group)["step"]
                    batches.setdefault(key, {})[index] = p
                index += 1
            for members in batches.values():
                yield group, members

    def _made(self, p: torch.Tensor, index: int, group: Group) -> dict[str, Any]:
        """Return the state of a tensor, made at its first gradient."""
        if p.grad is not None and p.grad.layout != torch.strided:
            raise ValueError(f"the gradient of parameter {index} must be dense, got {p.grad.layout}")
        state: dict[str, Any] = self.state[p]
        if not state:
            state["step"] = 0
            for name, dtype in self._layout(p, group).items():
                state[name] = p.to(dtype, copy=True) if name == "master" else torch.zeros_like(p, dtype=dtype)
        for name, dtype in self._layout(p, group).items():
            if state[name].dtype != dtype or state[name].device != p.device:
                raise TypeError(
                    f"parameter {index} must stay as it was when its state was made, got {p.dtype} on "
                    f"{p.device}; make the optimizer after model.half() and model.to(...)"
                )
            state[name] = laid_out_as(p, state[name])
        return state

    def _layout(self, p: torch.Tensor, group: Group) -> dict[str, torch.dtype]:
        """Return the tensors of the state of a parameter, by name, with their dtypes."""
        update = group["update"]
        has_master = update == "master32" and p.dtype == torch.float16
        layout = dict.fromkeys(self._slots(group), torch.float32 if has_master else p.dtype)
        if has_master:
            layout["master"] = torch.float32
        if update == "kahan":
            layout["compensation"] = p.dtype
        return layout

    def _launch(self, group: Group, members: dict[int, torch.Tensor], factor: float) -> None:
        params, states = list(members.values()), [self.state[p] for p in members.values()]
        device = device_of(params[0])
        views = []
        for p in params:
            view = Tensor(self._array(p), device)
            assert p.grad is not None
            view.grad = Tensor(self._array(laid_out_as(p, p.grad)), device)
            views.append(view)
        over = self.engine.over(
            views,
            {**self._numbers(group), **self._of_each(group, params)},
            {slot: [self._array(state[slot]) for state in states] for slot in self._slots(group)},
            [self._array(state["master"]) if "master" in state else None for state in states],
            [self._array(state["compensation"]) for state in states if "compensation" in state],
            list(members),
        )
        over.step_count = states[0]["step"]
        if self.around is None:
            over.step(factor)
        else:
            self.around(over, params, factor)
        torch.autograd.graph.increment_version(
            params
        )  # a backward pass that still needs the old weights raises
        for state in states:
            state["step"] = over.step_count

    # State

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy what `state_dict` returned, bit for bit; nothing changes when anything is wrong.

        Options of the groups, `update`, `state` and `seed` too, become those of the state. PyTorch's own
        method would cast float32 masters to the parameters' float16.

        Args:
            state_dict: what `state_dict` returned for an optimizer of this class and of such parameters.

        Raises:
            ValueError: an entry is missing or unknown, or a shape or number of parameters differs.
            TypeError: an entry is of another type, or a dtype differs.

        >>> import torch
        >>> import fp16engine.torch as fet
        >>> w = torch.ones(1, dtype=torch.float16, requires_grad=True)
        >>> a, b = fet.SGD([w], lr=0.5), fet.SGD([w], lr=0.25)
        >>> a.load_state_dict(b.state_dict())
        >>> a.param_groups[0]["lr"]
        0.25
        """
        saved = instance("state_dict", state_dict, Mapping, "what state_dict returned")
        pairs = list(self._pairs(saved))
        for p, group, values in pairs:
            self._check_state(p, group, values)
        super().load_state_dict(dict(saved))
        for p, _, values in pairs:
            if values:
                copies = {key: _copied(value, p) for key, value in values.items()}
                self.state[p] = copies

    def _pairs(self, saved: Mapping[str, Any]) -> Iterator[tuple[torch.Tensor, Group, dict[str, Any]]]:
        """Yield each parameter with the saved options of its group and its saved state."""
        groups, state = saved.get("param_groups"), saved.get("state")
        if not isinstance(groups, list) or not isinstance(state, Mapping):
            raise TypeError("load_state_dict: the state must hold 'state' and 'param_groups', got neither")
        if [len(g["params"]) for g in groups] != [len(g["params"]) for g in self.param_groups]:
            raise ValueError(
                "load_state_dict: the state must be of as many parameters, group by group, got others"
            )
        for group, own in zip(groups, self.param_groups, strict=True):
            missing = sorted(self.defaults.keys() - group.keys())
            if missing:
                raise ValueError(
                    f"load_state_dict: the state must be of {type(self).__name__}, got one without "
                    f"{', '.join(missing)}; is this the state of another optimizer?"
                )
            self._check({**group, "params": own["params"]})
            for number_, p in zip(group["params"], own["params"], strict=True):
                yield p, group, state.get(number_, {})

    def _check_state(self, p: torch.Tensor, group: Group, values: Mapping[str, Any]) -> None:
        layout = self._layout(p, group)
        if values and set(values) != {"step", *layout}:
            raise ValueError(
                f"load_state_dict: the state of a parameter must hold step, {', '.join(layout)}, "
                f"got {shown(sorted(values))}"
            )
        for name, dtype in layout.items() if values else ():
            value = instance(f"load_state_dict: {name!r}", values[name], torch.Tensor, "a tensor")
            if value.shape != p.shape:
                raise ValueError(
                    f"load_state_dict: {name!r} must be of shape {tuple(p.shape)}, got {tuple(value.shape)}"
                )
            if value.dtype != dtype:
                raise TypeError(f"load_state_dict: {name!r} must be {dtype}, got {value.dtype}")


def _refuse(options: Mapping[str, Any]) -> None:
    """TypeError for an option of PyTorch's that has no counterpart here and asks for something."""
    for name, value in options.items():
        if value:
            raise TypeError(f"{name} must be left out, got {shown(value)}; {_REFUSED[name]}")


def _copied(value: Any, p: torch.Tensor) -> Any:
    return value.detach().to(p.device, copy=True) if isinstance(value, torch.Tensor) else int(value)
