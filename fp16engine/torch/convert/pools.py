"""PyTorch's pools of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import functional as F
from ...tensor import Tensor
from ...validate import pair
from .held import IMAGE, Held


def on_image(x: Held, function: Callable[[Tensor], Tensor]) -> Held:
    """Return an operation on images (N, H, W, C); PyTorch's without a batch, (C, H, W), are refused."""
    if x.ndim != 4:
        raise ValueError(f"images must be of shape (N, C, H, W), got {x.shape}")
    return Held(function(x.arranged(IMAGE)), IMAGE)


ONLY = {"ceil_mode": False, "dilation": (1, 1), "return_indices": False, "divisor_override": None}


def refuse(**given: Any) -> None:
    """Require arguments of a pool to have the one value that ours have."""
    for name, value in given.items():
        value = pair(name, value, 1) if name == "dilation" else value
        if value != ONLY[name]:
            raise ValueError(f"{name} must be {ONLY[name]}, got {value}")


def max_pool2d(
    input: Held,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Held:
    """Return `torch.nn.functional.max_pool2d`."""
    refuse(dilation=dilation, ceil_mode=ceil_mode, return_indices=return_indices)
    return on_image(input, lambda x: F.max_pool2d(x, kernel_size, stride, padding))


def avg_pool2d(
    input: Held,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Held:
    """Return `torch.nn.functional.avg_pool2d`, which counts its padding unless told otherwise."""
    refuse(ceil_mode=ceil_mode, divisor_override=divisor_override)
    if count_include_pad and pair("padding", padding, 0) != (0, 0):
        return on_image(input, lambda x: F.avg_pool2d(F.pad2d(x, padding), kernel_size, stride))
    return on_image(input, lambda x: F.avg_pool2d(x, kernel_size, stride, padding))


def adaptive_avg_pool2d(input: Held, output_size: Any) -> Held:
    """Return `torch.nn.functional.adaptive_avg_pool2d`; a size of None is the image's."""
    given = (output_size,) * 2 if output_size is None or isinstance(output_size, int) else output_size

    def pool(x: Tensor) -> Tensor:
        image = x.shape[1:3]
        return F.adaptive_avg_pool2d(x, [n if to is None else to for n, to in zip(image, given, strict=True)])

    return on_image(input, pool)
