"""How much silicon a dot product takes in each format: gates counted, in units of a two-input NAND.

The unit compared is that of Accuracy Boosters (2211.10737): N multipliers, N - 1 adders, one FP32
accumulator and one activation unit; a block floating point one has fixed-point multipliers and adders, an
adder of exponents, and a converter on either side of its result. Its gain in arithmetic density is the
ratio of areas. Wires, registers and control are not counted, for no format.

Assumptions, each the plainest textbook circuit (Weste & Harris, CMOS VLSI Design; Koren, Computer Arithmetic
Algorithms), the same for every format:

- cells have the areas of a published library, the NanGate 45 nm open cell library (SIZE of its X1 macros),
  over that of its NAND2_X1;
- adders are ripple-carry, one full adder a bit; incrementers one half adder a bit;
- multipliers are arrays: n^2 AND gates, n (n - 2) full adders, n half adders; two's complement ones
  (Baugh-Wooley) are as large;
- shifters are logarithmic, one row of multiplexers for each bit of the distance;
- a leading-zero counter of n bits takes n - 1 nodes of a multiplexer and an OR gate;
- floating-point adders have one path: exponent difference, swap, alignment with guard, round and sticky bit,
  addition, leading-zero count, normalisation, rounding to nearest even; subnormals are flushed;
- an operand in block floating point is a two's complement number of m + 1 bits: a sign and m bits; the named
  alternative (`narrow`) counts multipliers of m bits, the sign one of them, and for each product a comparison
  of exponents;
- products are added in a binary tree whose adders grow a bit a level;
- the activation unit is a ReLU: an AND gate a bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...block_format import DEFAULT_EXPONENT_BITS

# Areas in square micrometres of the X1 cells, over NAND2_X1's.
_NAND = 0.798
AND, OR, XOR, MUX, HALF_ADDER, FULL_ADDER = (
    cell / _NAND for cell in (1.064, 1.064, 1.596, 1.862, 2.660, 4.256)
)
GUARDS = 3  # guard, round and sticky bit


@dataclass(frozen=True)
class FloatFormat:
    """A floating-point format: bits of its exponent and of its significand, the hidden one included."""

    name: str
    exponent: int
    significand: int

    @property
    def width(self) -> int:
        """Stored bits: the hidden one is not, the sign is."""
        return self.exponent + self.significand


FP32 = FloatFormat("FP32", 8, 24)
BF16 = FloatFormat("BF16", 8, 8)
FP16 = FloatFormat("FP16", 5, 11)


def adder(bits: int) -> float:
    """Return the gates of a fixed-point adder."""
    return bits * FULL_ADDER


def multiplier(bits: int) -> float:
    """Return the gates of a fixed-point multiplier of two numbers of `bits` each."""
    return bits**2 * AND + bits * (bits - 2) * FULL_ADDER + bits * HALF_ADDER


def incrementer(bits: int) -> float:
    """Return the gates that add a carry to a number, as rounding does."""
    return bits * HALF_ADDER


def shifter(bits: int, distances: int) -> float:
    """Return the gates of a shifter of `bits` by 0 to distances - 1 places."""
    return bits * math.ceil(math.log2(max(distances, 1))) * MUX


def leading_zeros(bits: int) -> float:
    """Return the gates of a leading-zero counter."""
    return (bits - 1) * (MUX + OR)


def negator(bits: int) -> float:
    """Return the gates that negate a two's complement number where its sign says so."""
    return bits * (XOR + HALF_ADDER)


def float_multiplier(f: FloatFormat) -> float:
    """Return the gates of a floating-point multiplier."""
    p = f.significand
    exponents = adder(f.exponent) + adder(f.exponent + 1)  # their sum, less the bias
    normalise = p * MUX  # by one place
    rounding = (p - 1) * OR + incrementer(p) + incrementer(f.exponent)
    return multiplier(p) + exponents + normalise + rounding + XOR


def float_adder(f: FloatFormat) -> float:
    """Return the gates of a floating-point adder."""
    p = f.significand
    wide = p + GUARDS
    compare = adder(f.exponent + 1) + f.exponent * MUX
    swap = 2 * p * MUX
    align = shifter(wide, wide) + p * OR  # what is shifted out goes into the sticky bit
    add = wide * XOR + adder(wide + 1)
    normalise = leading_zeros(wide + 1) + shifter(wide + 1, wide + 1) + adder(f.exponent)
    rounding = incrementer(p) + incrementer(f.exponent)
    return compare + swap + align + add + normalise + rounding + XOR


def activation(f: FloatFormat = FP32) -> float:
    """Return the gates of a ReLU."""
    return f.width * AND


def adder_tree(bits: int, terms: int) -> float:
    """Return the gates that add `terms` numbers of `bits`; a level's adders are a bit wider each."""
    total, left, width = 0.0, terms, bits
    while left > 1:
        total += (left // 2) * adder(width + 1)
        left = left - left // 2
        width += 1
    return total


def larger_exponent(bits: int) -> float:
    """Return the gates that compare an exponent with the largest so far and keep the larger."""
    return adder(bits) + bits * MUX


def from_float(mantissa: int, exponent_bits: int) -> float:
    """Return the gates that bring an FP32 result to its block's exponent."""
    largest = larger_exponent(exponent_bits)
    difference = adder(exponent_bits)
    align = shifter(mantissa + 2, mantissa + 2)  # a round and a sticky bit; anything further is zero
    return largest + difference + align + incrementer(mantissa) + negator(mantissa + 1)


def to_float(bits: int, exponent_bits: int) -> float:
    """Return the gates that make an FP32 number of a fixed-point sum of `bits` and its exponent."""
    return negator(bits) + leading_zeros(bits) + shifter(bits, bits) + adder(exponent_bits)


def float_unit(f: FloatFormat, terms: int) -> float:
    """Return the gates of a dot product of `terms` in floating point, accumulated in FP32."""
    products = terms * float_multiplier(f) + (terms - 1) * float_adder(f)
    return products + float_adder(FP32) + activation()


def block_unit(
    mantissa: int, terms: int, exponent_bits: int = DEFAULT_EXPONENT_BITS, *, narrow: bool = False
) -> float:
    """Return the gates of a dot product of `terms` in block floating point, converters included.

    mantissa: magnitude bits. terms: the block size too. narrow: multipliers of `mantissa` bits with the sign
    inside, and a comparison of exponents for each product; adders and converters stay as they are.

    >>> block_unit(4, 64) < block_unit(6, 64) < float_unit(BF16, 64)
    True
    """
    operand = multiplier(mantissa) + larger_exponent(exponent_bits) if narrow else multiplier(mantissa + 1)
    product = 2 * mantissa + 1  # two magnitudes below 2^m and a sign
    total = product + math.ceil(math.log2(terms)) if terms > 1 else product
    products = terms * operand + adder_tree(product, terms)
    fixed = float_adder(FP32) + activation() + adder(exponent_bits)
    return products + fixed + to_float(total, exponent_bits) + from_float(mantissa, exponent_bits)


def gain(area: float, terms: int) -> float:
    """Return the arithmetic density of a unit of `terms` over that of FP32's."""
    return float_unit(FP32, terms) / area


def parts(mantissa: int, terms: int) -> tuple[float, float]:
    """Return (k, c) of 1 / gain = k + c / terms, in units of one FP32 multiplier and adder.

    k is what each product costs with its share of the adder tree, c the part of a unit that all share.
    """
    per_term = float_multiplier(FP32) + float_adder(FP32)
    shared = block_unit(mantissa, terms)
    k = multiplier(mantissa + 1) + adder_tree(2 * mantissa + 1, terms) / terms
    return k / per_term, (shared - k * terms) / per_term
