"""What shares of lost values are called in a sentence, so that no sentence contradicts its numbers."""

from __future__ import annotations

from collections.abc import Mapping

from .ranges import percent

_TYPES = {"float16": "binary16 (beyond 65504)", "bfloat16": "bfloat16 (beyond 3.39e38)"}
MOST = 0.5  # "more than half" is above it, here and nowhere else

UPDATES = ("updates", "are lost to rounding")
GRADIENTS = ("gradients", "underflow to 0")


def range_of(storage: str) -> str:
    """Name a storage type and where it ends, as what a value leaves.

    >>> range_of("bfloat16")
    'bfloat16 (beyond 3.39e38)'
    """
    return _TYPES.get(storage, "binary32 (beyond 3.4e38)")


def worst(shares: Mapping[str, float], what: tuple[str, str]) -> str:
    """Say how much of `what` the worst layer loses, and in how many layers it is more than half.

    shares: by layer, of its values that are not 0.

    >>> worst({"stem": 0.43, "head": 0.0}, UPDATES)
    'at most 43 % of the updates of a layer are lost to rounding (stem), in no layer more than half'
    >>> worst({"stem": 0.43, "head": 0.9}, UPDATES)
    'up to 90 % of the updates of a layer are lost to rounding (head), more than half in 1 of 2 layers'
    """
    noun, fate = what
    layer = max(shares, key=lambda name: shares[name], default="")
    if not layer or not shares[layer]:
        return f"no {noun} {fate}"
    many = sum(share > MOST for share in shares.values())
    if not many:
        return (
            f"at most {percent(shares[layer])} of the {noun} of a layer {fate} ({layer}), "
            "in no layer more than half"
        )
    layers = "layer" if len(shares) == 1 else "layers"
    return (
        f"up to {percent(shares[layer])} of the {noun} of a layer {fate} ({layer}), "
        f"more than half in {many} of {len(shares)} {layers}"
    )
