"""Block floating point: runs or tiles of values that share one exponent (Drumond et al., 1804.01526)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

from .validate import choice, integer, must_be

MANTISSAS = range(2, 17)
BLOCKS = range(1, 1025)
EXPONENT_BITS = range(2, 17)
DEFAULT_BLOCK = 64
DEFAULT_EXPONENT_BITS = 10

_NAME = re.compile(r"hbfp(\d+)((?:-(?:b\d+|t\d+|e\d+|sr))*)")


@dataclass(frozen=True)
class BlockFormat:
    """A sign and `mantissa` bits a value, and one exponent for every `block` values.

        e = the smallest integer with max|x| <= 2^e, within the range of exponents, over a block
        y = sign(x) * min(round(|x| * 2^(mantissa - e)), 2^mantissa - 1) * 2^(e - mantissa)

    Args:
        mantissa: bits of a value's mantissa, 2 to 16.
        block: values that share an exponent, 1 to 1024: in a run along the reduction, or with `tile` in a
            square of sqrt(block) x sqrt(block).
        exponent_bits: bits of the exponent in two's complement, 2 to 16; beyond its range a block saturates.
        rounding: "nearest" (ties to even) or "stochastic".
        tile: whether a block is a square tile.
        draw: (seed, counter) of the random words of stochastic rounding, given anew for every array.

    Names (`BlockFormat.named`): hbfp<m>, then in any order -b<N> for runs of N values (64 unless given),
    -t<T> for tiles of T x T, -e<n> for n exponent bits (10 unless given), -sr for stochastic rounding.

    Raises:
        ValueError: a number is out of range, or a tile's block is no square.

    Source:
        Drumond et al., 2018, arXiv 1804.01526.

    >>> BlockFormat.named("hbfp4-b16")
    BlockFormat(mantissa=4, block=16, exponent_bits=10, rounding='nearest', tile=False)
    """

    mantissa: int
    block: int = DEFAULT_BLOCK
    exponent_bits: int = DEFAULT_EXPONENT_BITS
    rounding: str = "nearest"
    tile: bool = False
    draw: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, allowed in (("mantissa", MANTISSAS), ("block", BLOCKS), ("exponent_bits", EXPONENT_BITS)):
            integer(name, getattr(self, name), allowed[0], allowed[-1])
        choice("rounding", self.rounding, ("nearest", "stochastic"))
        if self.tile and math.isqrt(self.block) ** 2 != self.block:
            raise ValueError(must_be("block", "a square number for square tiles", self.block))

    @classmethod
    def named(cls, name: str) -> BlockFormat:
        """Return the format of a name.

        Args:
            name: hbfp<m>, then -b<N> or -t<T>, -e<n>, -sr as needed, see `BlockFormat`.

        Raises:
            ValueError: this is no name of a format, or a number in it is out of range.

        >>> BlockFormat.named("hbfp6-t8-sr").block
        64
        """
        match = _NAME.fullmatch(name) if isinstance(name, str) else None
        if match is None:
            raise ValueError(
                must_be(
                    "name",
                    "hbfp<m>, m from 2 to 16, then any of -b<block>, -t<tile side>, -e<exponent bits>, -sr",
                    name,
                )
            )
        parts = match[2].split("-")[1:]
        kinds = ["b" if part[0] == "t" else part[0] for part in parts]
        if len(set(kinds)) < len(kinds):
            raise ValueError(must_be("name", "one block, one exponent width and one rounding at most", name))
        made = cls(int(match[1]))
        for part in parts:
            if part == "sr":
                made = replace(made, rounding="stochastic")
            elif part[0] == "e":
                made = replace(made, exponent_bits=int(part[1:]))
            elif part[0] == "b":
                made = replace(made, block=int(part[1:]))
            else:
                made = replace(made, block=int(part[1:]) ** 2, tile=True)
        return made

    @property
    def name(self) -> str:
        """The shortest name that `named` reads back, e.g. "hbfp4" or "hbfp6-t8-sr"."""
        parts = [f"hbfp{self.mantissa}"]
        if self.tile:
            parts.append(f"t{math.isqrt(self.block)}")
        elif self.block != DEFAULT_BLOCK:
            parts.append(f"b{self.block}")
        if self.exponent_bits != DEFAULT_EXPONENT_BITS:
            parts.append(f"e{self.exponent_bits}")
        if self.rounding == "stochastic":
            parts.append("sr")
        return "-".join(parts)

    @property
    def stochastic(self) -> bool:
        """Whether values are rounded stochastically."""
        return self.rounding == "stochastic"

    @property
    def exponents(self) -> tuple[int, int]:
        """The lowest and highest exponent of a block.

        No step is smaller than 2^-149, FP32's smallest number, and no exponent above 128, the first beyond
        its largest.
        """
        half = 1 << (self.exponent_bits - 1)
        return max(-half, self.mantissa - 149), min(half - 1, 128)

    @property
    def bits(self) -> float:
        """Stored bits a value: sign, mantissa, and its share of the exponent."""
        return 1 + self.mantissa + self.exponent_bits / self.block

    def drawing(self, seed: int, counter: int) -> BlockFormat:
        """Return this format with other random words.

        Args:
            seed: of the words, in [0, 2^64).
            counter: the number of their first block of four.

        >>> BlockFormat.named("hbfp4-sr").drawing(7, 0).draw
        (7, 0)
        """
        return replace(self, draw=(seed, counter))

    def to_nearest(self) -> BlockFormat:
        """Return this format with rounding to nearest.

        >>> BlockFormat.named("hbfp4-sr").to_nearest().name
        'hbfp4'
        """
        return self if not self.stochastic else replace(self, rounding="nearest")

    def words(self) -> str:
        """Return the format in words, for reports and checkpoints.

        >>> BlockFormat.named("hbfp4").words().partition(",")[0]
        'block floating point'
        """
        side = math.isqrt(self.block)
        shape = f"tiles of {side} x {side}" if self.tile else f"runs of {self.block} along the reduction"
        rounding = "stochastically" if self.stochastic else "to nearest"
        return (
            f"block floating point, {self.mantissa}-bit mantissas, {shape}, "
            f"{self.exponent_bits}-bit shared exponents, rounded {rounding}"
        )
