"""Every kernel family as a case of `bench kernels`: its arrays, the bytes it must move, its arithmetic.

One table serves the benchmark, its tests (which hold the declared arrays to those of a real call) and the
table in docs/kernels.md. Bytes are those of a call whose arrays do not fit into a cache: an array that is
read twice counts twice. FLOPs count an addition, a multiplication, a comparison or a function such as exp as
one; two for each product of a dot product.
"""

from __future__ import annotations

from ...precision import Precision
from ...validate import choice
from . import attention, losses, norms, pointwise, pooling, products, rows, updates
from .case import SIZES, Kernel, Setting

__all__ = ["SIZES", "Kernel", "Setting", "kernels", "markdown"]


def kernels(size: str) -> list[Kernel]:
    """Return every case of a size.

    Args:
        size: "tiny" (tests), "in-situ" (as in ResNet-56, VGG-16 or ViT-8 at batch 256), or "large" (an array
            of at least 256 MB in binary16, so that no cache holds it).

    Raises:
        ValueError: there is no such size.

    >>> from fp16engine.bench import kernel_cases
    >>> sorted({kernel.family for kernel in kernel_cases.kernels("tiny")})[:3]
    ['attention', 'batch norm', 'cast']
    """
    choice("size", size, SIZES)
    families = (
        norms.batch_norm, norms.layer_norm, losses.softmax, losses.cross_entropy, pooling.pooling,
        pointwise.elementwise, pointwise.dropout, pointwise.cast, rows.reductions, rows.rows,
        attention.attention, updates.optimizers, products.depthwise, products.products,
        products.convolutions,
    )  # fmt: skip
    return [kernel for family in families for kernel in family(size)]


# Of an H200, from public figures (4.8 TB/s of HBM3e, of which a copy reaches nine tenths; 990 TFLOP/s, where
# a large product reaches eight): `bench kernels` measures them where it runs.
COPY_RATE, PRODUCT_RATE = 4.3e12, 790e12


def markdown(size: str = "in-situ", precision: str = "fp16") -> str:
    """Return the table of docs/kernels.md: arrays, bytes, FLOPs and floor of every kernel of a size.

    >>> markdown("tiny").splitlines()[2].split("|")[1:4]
    [' batch_norm_forward ', ' 2x6x6x8 ', ' 2 x, y ']
    """
    setting = Setting("cuda", Precision.get(precision))
    lines = [
        "| kernel | largest array | passes | MB | FLOPs | MFLOP | floor, us |",
        "|---|---|---|---|---|---|---|",
    ]
    for kernel in kernels(size):
        moved = kernel.bytes(setting)
        floor = max(moved / COPY_RATE, kernel.flops / PRODUCT_RATE if kernel.dot_products else 0.0)
        most = max(operand.elements for operand in kernel.operands.values())
        passes = [
            f"{f'{times} ' if times > 1 else ''}{name}"
            for name, operand in kernel.operands.items()
            if (times := operand.moved(setting) // operand.nbytes(setting)) and 16 * operand.elements >= most
        ]
        lines.append(
            f"| {kernel.name} | {kernel.shape()} | {', '.join(passes)} | {moved / 1e6:.3g} | "
            f"{kernel.per_item:g} per {kernel.item} | {kernel.flops / 1e6:.3g} | {1e6 * floor:.2g} |"
        )
    return "\n".join(lines) + "\n"
