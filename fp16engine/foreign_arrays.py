"""Arrays of other GPU libraries: found by the protocols they share, DLPack and the CUDA array interface."""

from __future__ import annotations

from typing import Any

_DLPACK_CUDA = (2, 13)  # kDLCUDA and kDLCUDAManaged of dlpack.h


def gpu_of(data: Any) -> str | None:
    """Return the device, "cuda:N", whose memory another library's array lies in; None for the host's.

    Asks the array alone, no driver: CuPy, PyTorch and JAX tell by `__dlpack_device__`, Numba by
    `__cuda_array_interface__` only, which names no device and is taken for the first GPU.
    """
    if hasattr(data, "__dlpack_device__"):
        kind, index = data.__dlpack_device__()
        return f"cuda:{int(index)}" if int(kind) in _DLPACK_CUDA else None
    return "cuda:0" if hasattr(data, "__cuda_array_interface__") else None
