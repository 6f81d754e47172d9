"""Where the elements of PyTorch's tensors lie on binary16's number line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from .. import backend as backends
from ..numerics.ranges import EMPTY, Ranges
from .arrays import DTYPES, array, device_of, is_dense


def by_device(tensors: Iterable[torch.Tensor]) -> Mapping[str, list[Any]]:
    """Return the arrays of tensors, by the device's name.

    >>> [len(arrays) for arrays in by_device([torch.zeros(1), torch.zeros(2)]).values()]
    [2]
    """
    groups: dict[str, list[Any]] = {}
    for tensor in tensors:
        if tensor.numel():
            groups.setdefault(device_of(tensor), []).append(array(tensor))
    return groups


def counted(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as the kernels count it: dense, and float32 where it is neither float16 nor float32.

    >>> counted(torch.zeros(4, dtype=torch.bfloat16)[::2]).dtype
    torch.float32
    """
    known = tensor.detach() if tensor.dtype in DTYPES else tensor.detach().float()
    return known if is_dense(known) else known.contiguous()


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Tell whether no element is infinite or NaN.

    >>> all_finite([torch.zeros(1), torch.tensor([float("inf")])])
    False
    """
    return all(backends.unobserved(name).all_finite(arrays) for name, arrays in by_device(tensors).items())


def ranges_of(tensors: Iterable[torch.Tensor]) -> Ranges:
    """Return where the elements of floating tensors lie on binary16's number line.

    >>> ranges_of([torch.tensor([1.0, 0.0, 1e-9])]).under
    1
    """
    total = EMPTY
    for name, arrays in by_device(map(counted, tensors)).items():
        backend = backends.unobserved(name)
        counts = backend.to_numpy(backend.range_statistics(arrays))
        total = total + Ranges.of_counts(counts.sum(axis=0))
    return total
