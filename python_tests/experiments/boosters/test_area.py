"""The area model: its cells and circuits by hand, its outcome next to the paper's."""

from __future__ import annotations

import math

import pytest

from fp16engine.experiments.boosters import area
from fp16engine.experiments.boosters.study import PAPER_GAINS

# 2211.10737, Table I and text: gain over FP32 by mantissa bits and block; k, c as in 1 / gain = k + c / N.
PAPER = {(4, 16): 15.5, (4, 64): 21.3, (4, 576): 23.9, (6, 16): 11.2, (6, 64): 13.9, (6, 256): 14.8}
PAPER |= {(8, 576): 10.0}
PAPER_PRODUCT = {4: 0.0411, 6: 0.0662, 8: 0.0994}
PAPER_SHARED = 0.37
PAPER_BF16 = 4.9


def _gain(mantissa: int, block: int) -> float:
    return area.gain(area.block_unit(mantissa, block), block)


def test_cells_are_counted_in_nand_gates() -> None:
    assert pytest.approx(4 / 3) == area.AND
    assert pytest.approx(2) == area.XOR
    assert pytest.approx(16 / 3) == area.FULL_ADDER


def test_circuits_by_hand() -> None:
    # 2 x 2: four AND gates and two half adders
    assert area.multiplier(2) == pytest.approx(4 * area.AND + 2 * area.HALF_ADDER)
    # 5 x 5, the operands of HBFP4
    assert area.multiplier(5) == pytest.approx(25 * area.AND + 15 * area.FULL_ADDER + 5 * area.HALF_ADDER)
    assert area.shifter(27, 27) == pytest.approx(27 * 5 * area.MUX)
    # four numbers of 9 bits: two adders of 10, one of 11
    assert area.adder_tree(9, 4) == pytest.approx(31 * area.FULL_ADDER)
    assert area.adder_tree(9, 3) == pytest.approx(21 * area.FULL_ADDER)
    assert area.adder_tree(9, 1) == 0


def test_a_sum_of_the_largest_products_fits_its_adders() -> None:
    """2m + 1 bits hold a product of numbers of magnitude below 2^m, and each level adds one."""
    for m in (2, 4, 8, 16):
        largest = (2**m - 1) ** 2
        assert largest < 2 ** (2 * m)
        for terms in (16, 64, 1024):
            assert terms * largest < 2 ** (2 * m + math.ceil(math.log2(terms)))


def test_what_the_paper_measured_is_met_where_it_is() -> None:
    """Within 5 %: BF16, HBFP6 at every block, and the shared part; the figures of HBFP4 and HBFP8 are not."""
    assert area.gain(area.float_unit(area.BF16, 64), 64) == pytest.approx(PAPER_BF16, rel=0.05)
    for (mantissa, block), gain in PAPER.items():
        if mantissa == 6:
            assert _gain(mantissa, block) == pytest.approx(gain, rel=0.05), block
    assert area.parts(6, 64)[0] == pytest.approx(PAPER_PRODUCT[6], rel=0.05)
    assert area.parts(4, 64)[1] == pytest.approx(PAPER_SHARED, rel=0.05)


def test_where_it_differs_it_says_so() -> None:
    """docs/hbfp.md: our multipliers shrink faster with the mantissa, so HBFP4 comes out 13 % denser."""
    ratio = {key: _gain(*key) / gain for key, gain in PAPER.items()}
    assert 1.10 < ratio[4, 64] < 1.15
    assert 0.88 < ratio[8, 576] < 0.93


def test_the_narrow_form_meets_every_row_of_the_paper() -> None:
    """docs/hbfp.md: within 4.4 % of all 15 block rows."""
    rows = {(int(name[4:]), block): gain for (name, block), gain in PAPER_GAINS.items() if name != "bf16"}
    assert len(rows) == 15
    off = [
        area.gain(area.block_unit(mantissa, block, narrow=True), block) / gain - 1
        for (mantissa, block), gain in rows.items()
    ]
    assert 0.0435 < max(map(abs, off)) < 0.0445


def test_what_a_product_costs_by_its_circuits() -> None:
    """docs/hbfp.md: multiplier, share of the adder tree and shared part, in FP32 multiply-adds."""
    unit = area.float_multiplier(area.FP32) + area.float_adder(area.FP32)
    multipliers = [round(area.multiplier(m + 1) / unit, 4) for m in (4, 6, 8)]
    trees = [round(area.adder_tree(2 * m + 1, 64) / 64 / unit, 4) for m in (4, 6, 8)]
    shared = [round(area.parts(m, 64)[1], 2) for m in (4, 6, 8)]
    assert multipliers == [0.0247, 0.0524, 0.0902] and trees == [0.0109, 0.0149, 0.0189]
    assert shared == [0.37, 0.40, 0.42]


def test_density_falls_with_bits_and_rises_with_blocks() -> None:
    for block in (1, 16, 64, 576):
        gains = [_gain(m, block) for m in range(2, 17)]
        assert gains == sorted(gains, reverse=True)
    for mantissa in (4, 8):
        gains = [_gain(mantissa, block) for block in (4, 16, 64, 256, 1024)]
        assert gains == sorted(gains)


def test_more_exponent_bits_cost_little() -> None:
    """The paper: at a block of 4, five bits instead of ten gain a tenth at most."""
    assert 1 < area.block_unit(4, 4, 10) / area.block_unit(4, 4, 5) < 1.1


def test_parts_add_up() -> None:
    product, shared = area.parts(5, 36)
    per_term = area.float_multiplier(area.FP32) + area.float_adder(area.FP32)
    assert (product * 36 + shared) * per_term == pytest.approx(area.block_unit(5, 36))
