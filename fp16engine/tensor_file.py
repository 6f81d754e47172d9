"""A file of tensors, which others may have made: its header is checked before it is read."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np

from .bounded import FAULTS, check_regular, read_regular, said
from .errors import CheckpointError
from .floats import numpy_dtype

_ANY_MODEL = 1 << 26  # bytes of a tensor file, and so many more for each parameter of the model:
_A_PARAMETER = 64  # weights, master weights, the optimizer's state, buffers
_HEADER = 1 << 21  # bytes of the list of tensors, about 20 000 of them
_DTYPES = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}
MODEL = "model."  # before the names of weights and buffers
NAME = r"checkpoint-\d+-([0-9a-f]{12})\.safetensors"  # of a checkpoint's: the step, the start of its SHA-256


def read(path: Path, parameters: int, digest: str, whole: bool = True) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file, float16, bfloat16, float32 or int64, by name.

    Args:
        path: of the file.
        parameters: how many its model has; they bound its size.
        digest: the SHA-256 that the checkpoint states, or what it starts with.
        whole: refuse a file that holds fewer weights than the model has parameters.

    Raises:
        CheckpointError: the file is truncated, altered, or of another size.
        BackendUnavailable: it holds bfloat16, and the package ml_dtypes is not there.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    limit = _ANY_MODEL + _A_PARAMETER * parameters
    check_regular(path, limit, str(path), CheckpointError)
    with open(path, "rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    if header > _HEADER:
        raise CheckpointError(
            f"{path} is damaged: it must be a whole safetensors file, got one whose list of tensors has "
            f"{header} bytes, which is more than {_HEADER}"
        )
    try:
        with safe_open(path, "np") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        held = sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(MODEL))
        if whole and held < parameters:
            raise ValueError(f"{held} weights for a model of {parameters} parameters")
        content = read_regular(path, limit, str(path), CheckpointError)
        if not hashlib.sha256(content).hexdigest().startswith(digest):
            raise CheckpointError(
                f"{path} is damaged: its SHA-256 must be the one that the checkpoint states, got another"
            )
        return decoded(content)
    except CheckpointError:
        raise
    except (SafetensorError, *FAULTS) as error:  # KeyError: a dtype that no file of ours has
        raise CheckpointError(
            f"{path} is damaged: it must be a whole safetensors file, got {said(error)}"
        ) from error


def decoded(content: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of a whole file's content; safetensors' own reader for NumPy knows no bfloat16.

    Raises:
        SafetensorError: it is none.
        KeyError: it holds another dtype.
        BackendUnavailable: it holds bfloat16, and the package ml_dtypes is not there.
    """
    from safetensors import deserialize

    return {
        name: np.frombuffer(view["data"], numpy_dtype(_DTYPES[view["dtype"]])).reshape(view["shape"])
        for name, view in deserialize(content)
    }
