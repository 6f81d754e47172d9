"""What all optimizers share: their parameters, their state, masters, and checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .. import random
from ..backend.base import COUNTS, StepScalars
from ..errors import UnsupportedPrecision
from ..floats import is_sixteen_bit
from ..precision import UPDATES
from ..tensor import Tensor
from ..validate import choice, flag, instance, listed, must_be, number, shown

if TYPE_CHECKING:
    from typing_extensions import Self

Array = Any
STATES = ("native", "plain")


class Optimizer:
    """Updates parameters in place from their gradients; the base of SGD, Adam, AdamW and RMSprop.

    A step runs one multi-tensor kernel per dtype. `update` says how the new weight w - u is stored: "nearest"
    rounds it; "stochastic" rounds it up or down by random bits of (seed, step, parameter, element), right on
    the mean; "kahan" keeps what rounding took in a compensation of the weight's dtype, itself rounded
    stochastically in float16; "master32" updates a float32 master copy and rounds that to the parameter. A
    float32 parameter is its own master and has nothing to round stochastically.

    Args:
        params: leaf tensors of any shape that require a gradient, float16, bfloat16 or float32, on one
            device.
        lr: learning rate, finite, > 0.
        weight_decay: L2 factor >= 0.
        update: "nearest", "stochastic", "kahan" or "master32".
        master_values: float32 arrays to start the masters from; None means the parameters as they are now.
        seed: of stochastic rounding, in [0, 2^64).

    Attributes:
        params: the parameters, in the order given.
        lr: the learning rate; assign to it to change it.
        lr_factors: a factor > 0 on `lr` for each parameter, 1 at first; assign to it to change it. The decay
            is divided by the factor, so that a step takes the same share off a weight whatever its rate.
        step_count: steps taken.
        counts: None, or after `step(count=True)` int64 (parameters, 8), on the host, with the columns
            `COUNTS`: elements that had a weight update, a weight decay, a first and a second state to change,
            and after each how many of them rounding left as they were.

    Rounding:
        Gradient times `grad_scale`, weight decay, state and step are computed in FP32 registers, and each
        stored value is rounded once.

    Raises:
        ValueError: a number is out of range, or `params` is empty, on several devices, or holds one twice.
        TypeError: an argument is no number, or a parameter no Tensor.
        UnsupportedPrecision: the update is unknown.

    >>> import fp16engine as fe
    >>> w = fe.tensor([1.0], "float16", "reference", requires_grad=True)
    >>> (w * 1.0).sum().backward()
    >>> for update in ("nearest", "kahan"):
    ...     optimizer = fe.optim.SGD([w], lr=1e-4, update=update)
    ...     for _ in range(20):
    ...         optimizer.step()
    ...     print(update, w.item())
    nearest 1.0
    kahan 0.998046875
    """

    # Names of the per-parameter state arrays, and of the numbers that state_dict() also keeps.
    slots: tuple[str, ...] = ()
    hyper: tuple[str, ...] = ("lr", "weight_decay", "seed")

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float,
        update: str,
        master_values: Sequence[Any] | None,
        seed: int,
    ) -> None:
        self.params = listed("params", params, "a sequence of tensors")
        _check_parameters(self.params)
        self.lr = number("lr", lr, above=0)
        self.weight_decay = number("weight_decay", weight_decay, minimum=0)
        choice("update", update, UPDATES, UnsupportedPrecision)
        self.update = update
        self.seed = random.checked_seed(seed)
        self.restart(master_values)

    def restart(self, master_values: Sequence[Any] | None = None) -> None:
        """Begin anew with the parameters as they are now: after they were rounded or moved.

        Args:
            master_values: float32 arrays of the parameters' shapes to start the masters from; None means the
                parameters.

        Steps, state and `lr_factors` are those of a new optimizer; the other numbers stay.

        Raises:
            ValueError: a number does not suit the parameters' dtype, or the masters do not fit.

        >>> import fp16engine as fe
        >>> layer = fe.nn.Linear(2, 1)
        >>> optimizer = fe.optim.SGD(layer.parameters(), lr=0.5)
        >>> _ = layer.to("cpu", "fp16")
        >>> optimizer.restart()
        >>> optimizer.dtypes
        ['float16', 'float16']
        """
        self.lr_factors = [1.0] * len(self.params)
        self.step_count = 0
        self.counts: np.ndarray | None = None
        self.device = self.params[0].device
        self.dtypes = [p.dtype for p in self.params]
        self.indices = list(range(len(self.params)))
        self.masters = self._make_masters(master_values)
        self.state_dtypes = [
            dtype if master is None else "float32"
            for dtype, master in zip(self.dtypes, self.masters, strict=True)
        ]
        backend = backends.get(self.device)
        self.state: dict[str, list[Array]] = {
            slot: [
                backend.zeros(p.shape, dtype) for p, dtype in zip(self.params, self.state_dtypes, strict=True)
            ]
            for slot in self.slots
        }
        self.compensations: list[Array] = (
            [backend.zeros(p.shape, p.dtype) for p in self.params] if self.update == "kahan" else []
        )

    @classmethod
    def over(
        cls,
        params: Sequence[Tensor],
        numbers: Mapping[str, Any],
        state: Mapping[str, list[Array]],
        masters: Sequence[Array | None],
        compensations: Sequence[Array],
        indices: Sequence[int],
    ) -> Self:
        """Return an optimizer over arrays that exist already: nothing is allocated, copied or checked.

        Args:
            params: tensors of any shape on one device, float16, bfloat16 or float32, with their gradients.
            numbers: the attributes of a checked optimizer of this class, by name.
            state: by slot, an array of the shape of each parameter, float16, bfloat16 or float32 as the class
                keeps it.
            masters: an array of the shape of each parameter, float32, or None where there is none.
            compensations: an array of the shape and dtype of each parameter, or none at all.
            indices: of the parameters, for the random bits of stochastic rounding.

        Raises:
            IndexError: `params` is empty.

        >>> import fp16engine as fe
        >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
        >>> (w * 2.0).sum().backward()
        >>> numbers = {"lr": 0.5, "weight_decay": 0.0, "seed": 0, "momentum": 0.0, "nesterov": False}
        >>> fe.optim.SGD.over([w], {**numbers, "update": "nearest"}, {}, [None], [], [0]).step()
        >>> w.item()
        0.0
        """
        made = cls.__new__(cls)
        vars(made).update(numbers)
        made.params, made.indices, made.slots = list(params), list(indices), tuple(state)
        made.device, made.dtypes = params[0].device, [p.dtype for p in params]
        made.masters, made.compensations = list(masters), list(compensations)
        made.state_dtypes = [
            dtype if master is None else "float32"
            for dtype, master in zip(made.dtypes, made.masters, strict=True)
        ]
        made.state, made.step_count, made.counts = dict(state), 0, None
        made.lr_factors = [1.0] * len(made.params)
        return made

    def _make_masters(self, values: Sequence[Any] | None) -> list[Array | None]:
        if values is not None:
            values = listed("master_values", values, "a sequence of arrays")
        if self.update != "master32":
            if values is not None:
                raise ValueError(
                    f"master_values must be None with update {self.update!r}, got {len(values)} arrays"
                )
            return [None] * len(self.params)
        if values is not None and len(values) != len(self.params):
            raise ValueError(f"master_values must be {len(self.params)} arrays, got {len(values)}")
        backend = backends.get(self.device)
        masters: list[Array | None] = []
        for i, p in enumerate(self.params):
            if not is_sixteen_bit(p.dtype):
                masters.append(None)
            elif values is None:
                masters.append(backend.cast(p.data, "float32"))
            else:
                host = np.array(values[i], dtype=np.float32, order="C")
                if host.shape != p.shape:
                    raise ValueError(f"master_values[{i}] must be of shape {p.shape}, got {host.shape}")
                masters.append(backend.from_numpy(host))
        return masters

    def start_masters(self, values: Sequence[Any]) -> None:
        """Let the float32 masters start from other values than those of the parameters.

        Args:
            values: an array for each parameter, float32 of its shape.

        Raises:
            ValueError: a shape or the number of arrays differs, or there are no masters.
            TypeError: `values` is no sequence.

        >>> import fp16engine as fe
        >>> w = fe.tensor([1.0], "float16", "reference", requires_grad=True)
        >>> optimizer = fe.optim.SGD([w], lr=0.1, update="master32")
        >>> optimizer.start_masters([[1.125]])
        >>> optimizer.state_dict()["master.0"].tolist()
        [1.125]
        """
        self.masters = self._make_masters(values)

    # Stepping

    def zero_grad(self) -> None:
        """Drop the gradients of all parameters.

        >>> import fp16engine as fe
        >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
        >>> (w * 2.0).sum().backward()
        >>> fe.optim.SGD([w], lr=0.1).zero_grad()
        >>> w.grad is None
        True
        """
        for p in self.params:
            p.grad = None

    def step(self, grad_scale: float = 1.0, count: bool = False) -> None:
        """Update every parameter that has a gradient.

        Args:
            grad_scale: factor on the gradients, applied in the register: 1 / loss scale.
            count: fill `counts` with the updates of this step and those of them that were lost. Same bits,
                and no cost when it is False.

        Raises:
            TypeError: a parameter's dtype or device changed after the optimizer was made.

        >>> import fp16engine as fe
        >>> w = fe.tensor([1.0], "float16", "reference", requires_grad=True)
        >>> (w * 1.0).sum().backward()
        >>> optimizer = fe.optim.SGD([w], lr=1e-4)
        >>> optimizer.step(count=True)
        >>> dict(zip(fe.optim.COUNTS[:2], optimizer.counts[0].tolist()))
        {'updates': 1, 'updates_lost': 1}
        """
        number("grad_scale", grad_scale, above=0)
        flag("count", count)
        self.step_count += 1
        self.counts = self.launch(self.scalars(grad_scale), count)

    def scalars(self, grad_scale: float = 1.0) -> StepScalars:
        """Return the numbers of step `step_count` as the kernels take them.

        Args:
            grad_scale: factor on the gradients, 1 / loss scale.

        >>> import fp16engine as fe
        >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
        >>> fe.optim.SGD([w], lr=0.5, seed=7).scalars(grad_scale=0.25)[:2]
        (0.5, 0.25)
        """
        return StepScalars(self.lr, grad_scale, seed=self.seed, step=self.step_count)

    def launch(self, scalars: StepScalars | Array, count: bool = False) -> np.ndarray | None:
        """Run the kernels of one step and nothing else: `step_count` is the caller's.

        Args:
            scalars: the step's numbers, or a device array (32,), uint8, that holds them packed when the
                kernels run, as in a captured step.
            count: return the counts of this step.

        Returns:
            The counts, (parameters, 8), int64, with the columns `COUNTS`; None unless asked for.

        Raises:
            TypeError: a parameter's dtype or device changed after the optimizer was made.

        >>> import fp16engine as fe
        >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
        >>> (w * 1.0).sum().backward()
        >>> fe.optim.SGD([w], lr=1.0).launch(fe.optim.StepScalars(lr=0.5))
        >>> w.item()
        0.5
        """
        backend = backends.get(self.device)
        totals = np.zeros((len(self.params), len(COUNTS)), np.int64) if count else None
        for members in self._groups():
            counts = None if totals is None else backend.zeros((len(members), len(COUNTS)), "int64")
            self._kernel(backend, members, self._with_rate(scalars, members[0]), counts)
            if totals is not None:
                totals[members] = backend.to_numpy(counts)
        return totals

    def change(
        self, i: int, grad: np.ndarray, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
    ) -> np.ndarray | None:
        """Return what the last step subtracts from a parameter, before the new weight is rounded.

        Args:
            i: the parameter's index in `params`.
            grad: elements of its scaled gradient, float32 of any shape.
            before: "w", the same elements of the weight or its master, and of the arrays of `state` by slot,
                as they were stored before the step: shape of `grad`, float32.
            after: the same arrays as they are stored after it: shape of `grad`, float32.

        Returns:
            float32 of the shape of `grad`; None from an optimizer that does not say, of whose updates the
            stagnation meter then knows the counts, not the sizes.

        >>> import fp16engine as fe, numpy as np
        >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
        >>> half = np.float32([0.5])
        >>> fe.optim.SGD([w], lr=0.5).change(0, half, {"w": half}, {"w": half}).tolist()
        [0.25]
        """
        return None

    def _groups(self) -> list[list[int]]:
        """Return the parameters that have a gradient, by what one kernel call takes: dtype, update and
        rate."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, p in enumerate(self.params):
            if p.grad is None:
                continue
            if p.dtype != self.dtypes[i] or p.device != self.device:
                raise TypeError(
                    f"parameter {i} must stay {self.dtypes[i]} on {self.device!r}, got {p.dtype} on "
                    f"{p.device!r}; make the optimizer after model.to(...)"
                )
            groups.setdefault((p.dtype, self.masters[i] is None, *self._kind(i)), []).append(i)
        return list(groups.values())

    def _kind(self, i: int) -> tuple[Any, ...]:
        """Return what parameters must have in common for one kernel call."""
        return (self.lr_factors[i],)

    @property
    def host_reason(self) -> str | None:
        """Why a step needs the host, so that none can be recorded, in words; None where it does not.

        >>> import fp16engine as fe
        >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
        >>> optimizer = fe.optim.SGD([w], lr=1.0)
        >>> optimizer.lr_factors = [2.0]
        >>> optimizer.host_reason
        'parameters have learning rates of their own'
        """
        return None if set(self.lr_factors) == {1.0} else "parameters have learning rates of their own"

    def _with_rate(self, scalars: StepScalars | Array, i: int) -> StepScalars | Array:
        """Return the numbers of the step with the learning rate of parameter i."""
        factor = self.lr_factors[i]
        if factor == 1:
            return scalars
        if not isinstance(scalars, StepScalars):
            raise TypeError("scalars must be StepScalars with lr_factors other than 1, got an array")
        return scalars._replace(lr=scalars.lr * factor)

    def _kernel(
        self, backend: Any, members: list[int], scalars: StepScalars | Array, counts: Array | None
    ) -> None:
        raise NotImplementedError

    def _arrays(self, members: list[int]) -> dict[str, Any]:
        """Return what every kernel takes of a group of parameters, by name."""
        return {
            "params": [self.params[i].data for i in members],
            "grads": [grad.data for grad in (self.params[i].grad for i in members) if grad is not None],
            "masters": None if self.masters[members[0]] is None else [self.masters[i] for i in members],
            "compensations": [self.compensations[i] for i in members] if self.compensations else None,
            "weight_decay": [self._decay(i) for i in members],
            "stochastic": self.update == "stochastic",
            "indices": [self.indices[i] for i in members],
        }

    def _decay(self, i: int) -> float:
        own = getattr(self.params[i], "weight_decay", None)
        return float(self.weight_decay if own is None else own) / self.lr_factors[i]

    def _rate(self, i: int) -> np.float32:
        return np.float32(self.lr * self.lr_factors[i])

    def _decayed(self, i: int, grad: np.ndarray, weight: np.ndarray) -> np.ndarray:
        decay = self._decay(i)
        return grad + np.float32(decay) * weight if decay else grad

    def _pick(self, slot: str, members: list[int]) -> list[Array]:
        return [self.state[slot][i] for i in members]

    # State

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the optimizer's arrays and numbers by name.

        Names are "momentum.0" and the like for the state of parameter 0, "master.0", "compensation.0" (NumPy
        arrays in the dtypes of the state), and "lr", "step" and other numbers.

        >>> import fp16engine as fe
        >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
        >>> sorted(fe.optim.SGD([w], lr=0.1, momentum=0.9).state_dict())
        ['lr', 'momentum', 'momentum.0', 'nesterov', 'seed', 'step', 'weight_decay']
        """
        backend = backends.get(self.device)
        state: dict[str, Any] = {name: getattr(self, name) for name in self.hyper}
        state["step"] = self.step_count
        for key, array in self.state_arrays().items():
            state[key] = np.array(backend.to_numpy(array))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, bit for bit; nothing changes when anything is wrong.

        Args:
            state: what `state_dict` returned for an optimizer of this class and of these parameters.

        Raises:
            ValueError: a key is missing or unknown, or a shape differs; the message names the key.
            TypeError: a dtype differs.

        >>> import fp16engine as fe
        >>> w = fe.tensor([1.0], device="reference", requires_grad=True)
        >>> a, b = fe.optim.SGD([w], lr=0.1), fe.optim.SGD([w], lr=0.2)
        >>> a.load_state_dict(b.state_dict())
        >>> a.lr
        0.2
        """
        instance("state", state, Mapping, "what state_dict returned")
        arrays = self.state_arrays()
        expected = [*self.hyper, "step", *arrays]
        for key in expected:
            if key not in state:
                raise ValueError(
                    f"load_state_dict: the state must hold {key!r}, got one without; "
                    "is this the state of another optimizer?"
                )
        for key in state:
            if key not in expected:
                raise ValueError(
                    f"load_state_dict: the state must be of this {type(self).__name__}, got entry "
                    f"{shown(key)}"
                )
        hosts = {key: np.asarray(state[key]) for key in arrays}
        for key, array in arrays.items():
            if hosts[key].shape != array.shape:
                raise ValueError(
                    f"load_state_dict: {key!r} must be of shape {array.shape}, got {hosts[key].shape}"
                )
            if str(hosts[key].dtype) != str(array.dtype):
                raise TypeError(f"load_state_dict: {key!r} must be {array.dtype}, got {hosts[key].dtype}")
        backend = backends.get(self.device)
        for slot, values in self.state.items():
            self.state[slot] = [backend.from_numpy(hosts[f"{slot}.{i}"]) for i in range(len(values))]
        for i, master in enumerate(self.masters):
            if master is not None:
                self.masters[i] = backend.from_numpy(hosts[f"master.{i}"])
        for i in range(len(self.compensations)):
            self.compensations[i] = backend.from_numpy(hosts[f"compensation.{i}"])
        for name in self.hyper:
            kind = type(getattr(self, name))
            setattr(self, name, kind(state[name]))
        self.step_count = int(state["step"])

    def state_arrays(self) -> dict[str, Array]:
        """Return the arrays that `state_dict` copies, as they lie on the device, by the same names.

        Returns:
            Arrays in the shape of their parameter, float16, bfloat16 or float32.

        >>> import fp16engine as fe
        >>> w = fe.tensor([1.0], "float16", "reference", requires_grad=True)
        >>> sorted(fe.optim.SGD([w], lr=0.1, momentum=0.9, update="master32").state_arrays())
        ['master.0', 'momentum.0']
        """
        arrays = {
            f"{slot}.{i}": array for slot, values in self.state.items() for i, array in enumerate(values)
        }
        arrays.update({f"master.{i}": array for i, array in enumerate(self.masters) if array is not None})
        arrays.update({f"compensation.{i}": array for i, array in enumerate(self.compensations)})
        return arrays


def _check_parameters(params: list[Any]) -> None:
    if not params:
        raise ValueError("params must be at least one tensor, got none")
    for i, p in enumerate(params):
        if not isinstance(p, Tensor):
            raise TypeError(must_be(f"params[{i}]", "a Tensor", type(p)))
        if not p.requires_grad or p.node is not None:
            raise ValueError(
                f"params[{i}] must be a leaf with requires_grad=True, got "
                + ("a computed tensor" if p.requires_grad else "requires_grad=False")
            )
        if p.device != params[0].device:
            raise ValueError(f"params[{i}] must be on {params[0].device!r} as params[0] is, got {p.device!r}")
    if len({id(p) for p in params}) != len(params):
        raise ValueError("params must be different tensors, got one of them twice")
