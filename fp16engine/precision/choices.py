"""What a policy may choose, and which choices go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..block_format import BlockFormat
from ..errors import UnsupportedPrecision
from ..floats import SIXTEEN_BIT, numpy_dtype
from ..validate import choice, must_be, one_of, shown

if TYPE_CHECKING:
    from .policy import Precision

CHUNKS = (8, 16, 32, 64, 128, 256)  # terms of a chunk that binary16 partial sums may cover
STATISTICS_FORMS = ("native", "plain")
CONVOLUTIONS = ("direct", "winograd")
UPDATES = ("nearest", "stochastic", "kahan", "master32")
NO_BFLOAT16 = "bfloat16 runs on the devices 'cpu' and 'reference' alone: the GPU kernels have no such type"
NO_TF32 = "precision: 'tf32' needs the tensor cores of a CUDA device; use 'fp32' on a CPU"


def is_chunked(accumulate: object) -> bool:
    return accumulate in [f"float16:{terms}" for terms in CHUNKS]


def chunk_terms(accumulate: str) -> int:
    """Return the n of "float16:n", 0 for an accumulator without chunks.

    Args:
        accumulate: a policy's accumulator, such as "float32", "float16" or "float16:32".

    Raises:
        ValueError: what follows the colon is no integer.

    >>> chunk_terms("float16:32"), chunk_terms("float16")
    (32, 0)
    """
    return int(accumulate.partition(":")[2] or 0)


def check(policy: Precision) -> None:
    """Require choices that go together.

    Raises:
        UnsupportedPrecision: the combination has no implementation.
    """
    blocks = isinstance(policy.operand, BlockFormat) or policy.plan is not None or policy.weights is not None
    if blocks and policy.storage != "float32":
        raise UnsupportedPrecision(
            f"storage must be 'float32' with block floating point, got {shown(policy.storage)}"
        )
    tensor_cores = policy.operand == "tf32" and policy.storage == "float32"
    scalars = ("storage", "accumulate", "statistics")
    for field in scalars if isinstance(policy.operand, BlockFormat) else ("operand", *scalars):
        value = getattr(policy, field)
        if field == "accumulate" and is_chunked(value):
            continue
        valid = ("float16", "float32") if field == "accumulate" else (*SIXTEEN_BIT, "float32")
        if value not in valid and not (field == "operand" and tensor_cores):
            raise UnsupportedPrecision(must_be(field, one_of(map(repr, valid)), value))
    if isinstance(policy.operand, str) and policy.operand != policy.storage and not tensor_cores:
        raise UnsupportedPrecision(
            f"operand must be {policy.storage!r} as storage is, got {policy.operand!r}; "
            "the operands of a dot product are the stored tensors"
        )
    numpy_dtype(policy.storage)
    for field in ("accumulate", "statistics"):
        value = getattr(policy, field)
        if policy.storage == "float32" and value != "float32":
            raise UnsupportedPrecision(must_be(field, "'float32' with float32 storage", value))
    if policy.storage == "bfloat16" and policy.accumulate != "float32":
        raise UnsupportedPrecision(
            must_be("accumulate", "'float32' with bfloat16 storage", policy.accumulate)
        )
    if policy.statistics not in (policy.storage, "float32"):
        raise UnsupportedPrecision(
            must_be("statistics", f"{policy.storage!r} as storage is, or 'float32'", policy.statistics)
        )
    choice("update", policy.update, UPDATES, UnsupportedPrecision)
    choice("statistics_form", policy.statistics_form, STATISTICS_FORMS, UnsupportedPrecision)
    if policy.statistics_form == "plain" and policy.statistics == "float32":
        raise UnsupportedPrecision("statistics_form must be 'native' with float32 statistics, got 'plain'")
    if policy.update == "stochastic" and policy.storage == "float32":
        raise UnsupportedPrecision(
            "update must be 'nearest' with float32 storage, where nothing is rounded, got 'stochastic'"
        )
    if policy.accumulate != "float32" and policy.statistics == "float32":
        raise UnsupportedPrecision(
            f"statistics must be 'float16' with {policy.accumulate} accumulators, got 'float32'"
        )
    choice("convolution", policy.convolution, CONVOLUTIONS, UnsupportedPrecision)
    if policy.convolution == "winograd" and not policy.has_winograd:
        raise UnsupportedPrecision(
            must_be("convolution", "'direct' but with stored operands and float32 sums", "winograd")
        )
