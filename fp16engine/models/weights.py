"""Weights of a trained network in a new one, whose last layer may have other outputs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from .. import tensor_file
from ..errors import CheckpointError
from ..floats import is_sixteen_bit
from ..nn import Module
from ..validate import path as checked_path
from ..validate import shown

_TENSORS = re.compile(tensor_file.NAME)
_REST = ("optimizer.", "lookahead.")


def load(model: Module, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Give a network the weights and buffers of a run or a safetensors file; see `create`.

    Returns the paths of the tensors that stay new: those of the last layer, where it has other outputs.

    Raises:
        CheckpointError: there are no weights, they are damaged or not finite, or of another network; nothing
            is changed then.
    """
    source, digest = _found(checked_path("weights", path))
    try:
        tensors = tensor_file.read(source, model.num_parameters(), digest, whole=False)
    except OSError as error:
        raise CheckpointError(f"{source} cannot be read: {error.strerror or error}") from error
    kept = {name: _wide(array) for name, array in tensors.items() if not name.startswith(_REST)}
    state = model.adapted({name.removeprefix(tensor_file.MODEL): array for name, array in kept.items()})
    own = {name: t for name, t in (*model.named_parameters(), *model.named_buffers())}
    new = tuple(n for n in own if n in state and state[n].shape != own[n].shape and n in _last_layer(model))
    for name in sorted({*own, *state} - {*new}):
        ours, theirs = (tuple(found[name].shape) if name in found else None for found in (own, state))
        if ours != theirs:
            valid = "absent" if ours is None else f"of shape {ours}"
            raise CheckpointError(
                f"{source} must be of this network: {shown(name)} must be {valid}, got {theirs or 'none'}"
            )
        if not np.isfinite(state[name]).all():
            raise CheckpointError(f"{source} must hold finite weights, got others in {shown(name)}")
    fitting = {name: state[name].astype(own[name].dtype) for name in own if name not in new}
    model.load_state_dict(fitting, strict=False)
    return new


def _found(path: Path) -> tuple[Path, str]:
    """The file of tensors, and what its SHA-256 starts with."""
    if path.suffix == ".safetensors":
        known = _TENSORS.fullmatch(path.name)
        return path, known[1] if known else ""
    folder = path.parent if path.suffix == ".json" else path
    try:
        names = [found for entry in folder.iterdir() if (found := _TENSORS.fullmatch(entry.name))]
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror or error}") from error
    if len(names) != 1:
        got = f"{len(names)} such files"
        raise CheckpointError(f"{folder} must hold the tensors of one checkpoint, got {got}")
    return folder / names[0][0], names[0][1]


def _wide(array: np.ndarray) -> np.ndarray:
    """The values in float32, before running statistics change their form; counters as they are."""
    return array.astype(np.float32) if is_sixteen_bit(array.dtype) else array


def _last_layer(model: Module) -> set[str]:
    """The paths of the tensors of the last layer that multiplies by a weight."""
    path, layer = [(path, module) for path, module in model.named_modules() if module.dot_product][-1]
    return {f"{path}.{name}".lstrip(".") for name, _ in layer.named_parameters()}
