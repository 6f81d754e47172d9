"""PyTorch's tensors as arrays of our backends, in the same memory."""

from __future__ import annotations

from typing import Any

import torch

from .. import backend as backends
from ..validate import must_be

Array = Any
DTYPES = (torch.float16, torch.float32)


def device_of(tensor: torch.Tensor) -> str:
    """Return our name of a tensor's device; ValueError for one that no backend computes on.

    >>> device_of(torch.zeros(2))
    'cpu'
    """
    if tensor.device.type == "cpu":
        return "cpu"
    if tensor.device.type == "cuda":
        return f"cuda:{tensor.device.index}"
    raise ValueError(must_be("device", "cpu or cuda", str(tensor.device)))


def is_dense(tensor: torch.Tensor) -> bool:
    """Tell whether the elements fill a piece of memory without gaps, in the order of any of the axes.

    >>> is_dense(torch.zeros(2, 3).T), is_dense(torch.zeros(4)[::2]), is_dense(torch.zeros(1).expand(4))
    (True, False, False)
    """
    if tensor.layout != torch.strided:
        return False
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected and tensor.numel():
            return False
        expected *= size
    return True


def laid_out_as(pattern: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose elements lie in memory in the order of `pattern`'s: itself where they do.

    >>> x = torch.arange(4).reshape(2, 2)
    >>> laid_out_as(torch.zeros(2, 2).T, x).stride(), laid_out_as(torch.zeros(2, 2), x) is x
    ((1, 2), True)
    """
    if tensor.stride() == pattern.stride():
        return tensor
    return torch.empty_strided(
        pattern.shape, pattern.stride(), dtype=tensor.dtype, device=tensor.device
    ).copy_(tensor)


def array(tensor: torch.Tensor) -> Array:
    """Return a dense tensor's memory as an array (elements,) of its backend: NumPy's or CuPy's, no copy.

    >>> x = torch.zeros(2, 2)
    >>> array(x)[3] = 7.0
    >>> x[1, 1].item()
    7.0
    """
    flat = tensor.detach().as_strided((tensor.numel(),), (1,))
    if tensor.device.type == "cpu":
        return flat.numpy()
    backend: Any = backends.unobserved(device_of(tensor))
    with backend.exporting():  # the backend's stream waits for PyTorch's
        return backend.xp.from_dlpack(flat)


def wait_for(device: str) -> None:
    """Let PyTorch's current stream wait for what our backend has started; a processor has no stream."""
    if device == "cpu":
        return
    backend: Any = backends.unobserved(device)
    ours = torch.cuda.ExternalStream(backend.stream.ptr, device=torch.device(device))
    torch.cuda.current_stream(torch.device(device)).wait_stream(ours)
