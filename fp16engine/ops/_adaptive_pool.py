"""Average pooling to a size of the output."""

from __future__ import annotations

from collections.abc import Sequence

from ..tensor import Tensor
from ..validate import pair
from . import _check
from ._pool import avg_pool2d
from ._reduce import mean
from ._shape import cat, getitem, reshape


def adaptive_avg_pool2d(x: Tensor, output_size: int | Sequence[int]) -> Tensor:
    """Return the means of as many windows as the output has pixels.

        y[n, i, j, c] = mean of x[n, h, w, c] over h in [floor(i H / OH), ceil((i + 1) H / OH)), w alike

    Args:
        x: images (N, H, W, C), float16, bfloat16 or float32.
        output_size: integer >= 1 or (vertical, horizontal); larger than the image repeats pixels.

    Returns:
        (N, OH, OW, C), dtype of x; (1, 1) is `global_avg_pool2d` with two axes of size 1.

    Rounding:
        A window's sum accumulates as the active `Precision` says; its quotient is rounded once. The gradient
        of a pixel is dy / n, rounded once, and where windows overlap the sum of several, each addition
        rounded once.

    Raises:
        TypeError: `x` is no floating-point Tensor, or a size is no integer or pair.
        ValueError: `x` has not four axes, or a size is < 1.
        UnsupportedPrecision: x is float32 under a precision with binary16 accumulators.

    Source:
        `torch.nn.AdaptiveAvgPool2d` (windows).

    >>> import fp16engine as fe
    >>> x = fe.tensor([[[[1.0], [2.0], [6.0]]]], device="reference")
    >>> fe.functional.adaptive_avg_pool2d(x, (1, 2)).numpy().ravel().tolist()
    [1.5, 4.0]
    """
    _check.floating("adaptive_avg_pool2d", "x", x)
    _check.rank("adaptive_avg_pool2d", "x", x, "N, H, W, C")
    size = pair("adaptive_avg_pool2d: output_size", output_size, 1)
    image = x.shape[1:3]
    if image[0] % size[0] == image[1] % size[1] == 0:
        return avg_pool2d(x, (image[0] // size[0], image[1] // size[1]))
    rows, columns = (
        [slice(i * n // out, -(-(i + 1) * n // out)) for i in range(out)]
        for n, out in zip(image, size, strict=True)
    )
    means = [mean(getitem(x, (slice(None), r, c)), (1, 2)) for r in rows for c in columns]
    y = cat([reshape(m, (x.shape[0], 1, x.shape[3])) for m in means], axis=1)
    return reshape(y, (x.shape[0], *size, x.shape[3]))
