"""Weights by PyTorch's names and in its layouts, and back; needs NumPy alone.

Kernels are (K, C / groups, kh, kw) there, norms have `weight`, `bias` and `num_batches_tracked`, and
attention whose heads fill its width has `in_proj_weight`, `in_proj_bias` and `out_proj`. Nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..nn import BatchNorm2d, LayerNorm, Module, MultiHeadAttention
from ..nn.running import WARM, converted, count
from ..validate import instance, must_be, shown

_NORM = {"gamma": "weight", "beta": "bias", "updates": "num_batches_tracked"}
_STATISTICS = ("running_mean", "running_var", "running_std", "rest")
_TO_THEIRS, _TO_OURS = (0, 3, 1, 2), (0, 2, 3, 1)
State = dict[str, np.ndarray]


def to_torch_state(model: Module) -> State:
    """Return the weights and buffers of a network as the state dict of its equal in PyTorch.

    Args:
        model: any network of ours.

    Returns:
        Copies by PyTorch's names, float16, float32 or int64. Running statistics that are kept as standard
        deviations are variances here, float32; all else has its exact bits.

    Raises:
        TypeError: model is no Module.

    >>> import fp16engine as fe
    >>> state = to_torch_state(fe.nn.Sequential(fe.nn.Conv2d(3, 8, 5), fe.nn.BatchNorm2d(8)))
    >>> state["0.weight"].shape, [name for name in state if name.startswith("1.")]
    ((8, 3, 5, 5), ['1.weight', '1.bias', '1.running_mean', '1.running_var', '1.num_batches_tracked'])
    """
    instance("model", model, Module, "a Module")
    state: State = {}
    for prefix, module in _owners(model):
        if _joined(module):
            state |= _attention(prefix, module)
            continue
        own = {name: np.array(value.numpy()) for name, value in module._own_tensors()}
        if isinstance(module, BatchNorm2d):
            own = _plain(own)
        for name, values in own.items():
            state[prefix + _their_name(module, name)] = _their_layout(module, name, values)
    return state


def from_torch_state(model: Module, state: Mapping[str, Any]) -> None:
    """Give a network the weights and buffers of its equal in PyTorch, bit for bit.

    Args:
        model: of ours; nothing changes when anything is wrong.
        state: arrays by PyTorch's names. `num_batches_tracked` may be missing, as in old files.

    Raises:
        ValueError: a key is missing or unknown, or a shape differs; the message names the key.
        TypeError: a dtype differs, or an argument is of another kind.

    >>> import fp16engine as fe
    >>> model = fe.nn.Linear(3, 2)
    >>> from_torch_state(model, {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)})
    >>> model.weight.numpy().sum().item()
    6.0
    """
    instance("model", model, Module, "a Module")
    left = dict(instance("state", state, Mapping, "a table of arrays by name"))
    shapes = {name: values.shape for name, values in to_torch_state(model).items()}
    missing = [name for name in shapes if name not in left and not name.endswith("num_batches_tracked")]
    unknown = [name for name in left if name not in shapes]
    for words, names in (("with", missing), ("without", unknown)):
        if names:
            raise ValueError(
                f"state must be {words} {shown(names[0])} for this model, got {len(names)} such names"
            )
    for name, values in left.items():
        if np.shape(values) != shapes[name]:
            raise ValueError(must_be(f"state: the shape of {name!r}", str(shapes[name]), np.shape(values)))
    ours: dict[str, Any] = {}
    for prefix, module in _owners(model):
        if _joined(module):
            ours |= _parts(prefix, module, left)
            continue
        names = [name for name, _ in module._own_tensors() if name not in _STATISTICS]
        if isinstance(module, BatchNorm2d):
            names += ["running_mean", "running_var"]
        for name in names:
            key = prefix + _their_name(module, name)
            if key in left:
                ours[prefix + name] = _our_layout(module, name, np.asarray(left[key]))
        if isinstance(module, BatchNorm2d) and (key := f"{prefix}updates") in ours:
            mean, var = ours[f"{prefix}running_mean"], ours[f"{prefix}running_var"]
            ours[key] = np.full(1, count(int(ours[key][0]), mean, var), np.int64)
    model.load_state_dict(_once(model, ours))


def _owners(model: Module) -> Iterator[tuple[str, Module]]:
    """Yield every module with its path and a dot; nothing below attention that PyTorch has as one layer."""

    def below(prefix: str, module: Module) -> Iterator[tuple[str, Module]]:
        yield prefix, module
        if not _joined(module):
            for name, child in module.named_children():
                yield from below(f"{prefix}{name}.", child)

    return below("", model)


def _joined(module: Module) -> bool:
    """Whether a layer is what `torch.nn.MultiheadAttention` is: heads as wide together as the values."""
    return isinstance(module, MultiHeadAttention) and len(set(module.query.weight.shape)) == 1


def _their_name(module: Module, name: str) -> str:
    return _NORM.get(name, name) if isinstance(module, BatchNorm2d | LayerNorm) else name


def _their_layout(module: Module, name: str, values: np.ndarray) -> np.ndarray:
    if module.dot_product and values.ndim == 4:
        return np.ascontiguousarray(values.transpose(_TO_THEIRS))
    if name == "updates":
        updates = int(values[0])
        return np.array(updates - WARM if updates >= WARM else updates, np.int64)
    return values


def _our_layout(module: Module, name: str, values: np.ndarray) -> np.ndarray:
    if module.dot_product and values.ndim == 4:
        return np.ascontiguousarray(values.transpose(_TO_OURS))
    if name == "updates":
        return np.full(1, int(values), np.int64)
    return values


def _plain(own: State) -> State:
    """Return a norm's tensors with running variances, in PyTorch's order."""
    statistics = {name: own.pop(name) for name in _STATISTICS if name in own}
    native = "running_std" in statistics
    found = converted(statistics, native=False, dtype="float32") if native else statistics
    updates = own.pop("updates")
    return {**own, **found, "updates": updates}


def _attention(prefix: str, module: Any) -> State:
    parts = (module.query, module.key, module.value)
    state = {f"{prefix}in_proj_weight": np.concatenate([part.weight.numpy() for part in parts])}
    if module.out.bias is not None:
        state[f"{prefix}in_proj_bias"] = np.concatenate([part.bias.numpy() for part in parts])
    state[f"{prefix}out_proj.weight"] = np.array(module.out.weight.numpy())
    if module.out.bias is not None:
        state[f"{prefix}out_proj.bias"] = np.array(module.out.bias.numpy())
    return state


def _parts(prefix: str, module: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("weight", "bias") if module.out.bias is not None else ("weight",):
        thirds = np.split(np.asarray(state[f"{prefix}in_proj_{kind}"]), 3)
        found |= {
            f"{prefix}{part}.{kind}": third
            for part, third in zip(("query", "key", "value"), thirds, strict=True)
        }
        found[f"{prefix}out.{kind}"] = state[f"{prefix}out_proj.{kind}"]
    return found


def _once(model: Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is shared under its first path only, as `load_state_dict` takes it."""
    again = set(state) - {path for path, _, _, _ in model._named_tensors()}
    return {
        name: values
        for name, values in state.items()
        if name not in again or name.rpartition(".")[2] in _STATISTICS
    }
