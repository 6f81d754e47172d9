"""State dicts of PyTorch's, in tensors and in files, for our networks, and back."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..bounded import FAULTS, check_regular, said
from ..errors import CheckpointError
from ..interop import from_torch_state, to_torch_state
from ..nn import Module
from ..validate import instance
from ..validate import path as checked_path

_ANY_MODEL = 1 << 26  # bytes of a file of weights, and so many more for each value of the model
_A_VALUE = 16
_SAFE = "model.safetensors"


def load_state(model: Module, state: Mapping[str, torch.Tensor] | str | os.PathLike[str]) -> None:
    """Give a network of ours the weights of its equal in PyTorch, bit for bit.

    Args:
        model: of `from_torch`, or of layers that PyTorch has under the same names; nothing changes when
            anything is wrong.
        state: a state dict, tensors by name, float16, float32 or int64, of any shape that PyTorch has them
            in; or a file of one: .safetensors (or a folder with model.safetensors), else what torch.save
            wrote, of which tensors alone are read.

    Raises:
        ValueError: a name is missing or unknown, or a shape differs.
        TypeError: a dtype differs, or the state is of another kind.
        CheckpointError: the file is no state dict, or larger than one of this model.
        FileNotFoundError: there is no such file.

    >>> import fp16engine as fe
    >>> import fp16engine.torch as fet
    >>> model = fe.nn.Linear(2, 1)
    >>> fet.load_state(model, torch.nn.Linear(2, 1).state_dict())
    """
    instance("model", model, Module, "a Module")
    if not isinstance(state, Mapping):
        values = sum(tensor.size for tensor in (*model.parameters(), *(b for _, b in model.named_buffers())))
        state = _read(checked_path("state", state), _ANY_MODEL + _A_VALUE * values)
    from_torch_state(model, {name: _array(name, value) for name, value in state.items()})


def to_state(model: Module) -> dict[str, torch.Tensor]:
    """Return the weights of a network of ours as PyTorch's state dict, see `interop.to_torch_state`.

    Args:
        model: any network of ours.

    Returns:
        Copies by PyTorch's names and in its shapes, float16, float32, bfloat16 or int64, on the CPU.

    Raises:
        TypeError: model is no Module.

    >>> import fp16engine as fe
    >>> import fp16engine.torch as fet
    >>> theirs = torch.nn.Conv2d(3, 8, 5)
    >>> ours = fet.from_torch(torch.nn.Sequential(theirs), torch.zeros(1, 3, 8, 8))
    >>> torch.equal(fet.to_state(ours)["0.weight"], theirs.weight)
    True
    """
    return {name: _tensor(values) for name, values in to_torch_state(model).items()}


def _tensor(values: np.ndarray) -> torch.Tensor:
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


def _array(name: str, value: Any) -> Any:
    instance(f"state: {name}", value, torch.Tensor, "a tensor")
    return value.detach().cpu().numpy()


def _read(path: Path, limit: int) -> Mapping[str, torch.Tensor]:
    if path.is_dir():
        path = path / _SAFE
    check_regular(path, limit, str(path), CheckpointError)
    try:
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                return load_file(path)
            except SafetensorError as error:
                raise ValueError(said(error)) from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the error says
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, *FAULTS) as error:
        raise CheckpointError(f"{path} must be a whole file of weights, got {said(error)}") from error
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} must hold a state dict, got {type(found).__name__}")
    return found
