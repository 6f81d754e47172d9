"""Tests of delta, Gamma and the guaranteed share (fp16engine.numerics.tolerance)."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fp16engine.numerics.tolerance import analyse, delta, gamma_paper, gamma_sound

# Few distinct values make ties and the equality Gamma = 2 delta common.
COARSE = st.sampled_from([0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0])
ANY = st.floats(0, 1, width=32)
SHAPES = st.tuples(st.integers(1, 6), st.integers(2, 5))


@st.composite
def pairs(draw):
    shape = draw(SHAPES)
    elements = draw(st.sampled_from([COARSE, ANY]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return tuple(draw(hnp.arrays(dtype, shape, elements=elements)) for _ in range(2))


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(pairs())
def test_guaranteed_share_never_exceeds_agreement(pair):
    result = analyse(*pair)
    assert result.guaranteed_share <= result.agreement


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(pairs())
def test_every_guaranteed_sample_has_the_same_class(pair):
    p, q = pair
    guaranteed = gamma_sound(p) > 2 * delta(p, q)
    assert (p.argmax(axis=1) == q.argmax(axis=1))[guaranteed].all()


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_definitions_against_plain_loops(pair):
    p, q = pair
    for row, (a, b) in enumerate(zip(p.astype(float).tolist(), q.astype(float).tolist(), strict=True)):
        assert delta(p, q)[row] == max(abs(x - y) for x, y in zip(a, b, strict=True))
        lower = [x for x in a if x != max(a)]
        assert gamma_paper(p)[row] == (max(a) - max(lower) if lower else 0.0)
        assert gamma_sound(p)[row] == sorted(a)[-1] - sorted(a)[-2]


def test_paper_form_breaks_on_a_tie_and_the_sound_form_does_not():
    p = np.array([[0.5, 0.5, 0.0]])
    q = np.array([[0.4990, 0.5010, 0.0]])
    result = analyse(p, q)
    assert result.agreement == 0.0
    assert result.paper_share == 1.0  # the printed lemma claims agreement here
    assert result.guaranteed_share == 0.0


def test_paper_form_breaks_on_equality_and_the_sound_form_does_not():
    p = np.array([[0.25, 0.75]])
    q = np.array([[0.5, 0.5]])  # delta 0.25, Gamma 0.5 = 2 delta; the tie goes to class 0
    result = analyse(p, q)
    assert (result.agreement, result.paper_share, result.guaranteed_share) == (0.0, 1.0, 0.0)


def test_identical_models_are_fully_guaranteed_except_for_ties():
    p = np.array([[0.7, 0.3], [0.5, 0.5]], np.float16)
    result = analyse(p, p)
    assert (result.agreement, result.guaranteed_share, result.delta_max) == (1.0, 0.5, 0.0)


def test_half_precision_input_is_computed_in_float64():
    p = np.array([[0.9, 0.1]], np.float16)
    q = np.array([[0.8999, 0.1001]], np.float32)
    assert delta(p, q).dtype == np.float64
    assert delta(p, q)[0] == np.abs(p.astype(np.float64) - q.astype(np.float64)).max()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", [0, 1])
def test_a_nonfinite_sample_neither_agrees_nor_is_guaranteed(bad, where):
    pair = [np.array([[0.9, 0.1], [0.8, 0.2]]) for _ in range(2)]
    pair[where][0] = bad
    result = analyse(pair[0], pair[1])
    assert (result.samples, result.nonfinite_samples) == (2, 1)
    assert (result.agreement, result.guaranteed_share, result.paper_share) == (0.5, 0.5, 0.5)
    assert result.delta_max == 0.0


def test_all_samples_nonfinite_gives_null_figures_and_valid_json():
    result = analyse(np.full((3, 2), np.nan), np.full((3, 2), 0.5))
    assert (result.delta_mean, result.gamma_mean) == (None, None)
    found = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (found["agreement"], found["guaranteed_share"], found["paper_share"]) == (None, None, None)
    assert (found["samples"], found["nonfinite_samples"]) == (3, 3)


def test_gammas_are_nan_where_a_probability_is_nan():
    p = np.array([[np.nan, 1.0], [0.25, 0.75]])
    assert np.isnan(gamma_paper(p)).tolist() == [True, False]
    assert np.isnan(gamma_sound(p)).tolist() == [True, False]


@pytest.mark.parametrize(
    ("p", "q", "error", "words"),
    [
        ([0.5, 0.5], [0.5, 0.5], ValueError, r"p must .* got \(2,\)"),
        (np.ones((2, 1)), np.ones((2, 1)), ValueError, "at least 2 classes"),
        (np.ones((2, 3)), np.ones((3, 3)), ValueError, r"q must .* got \(3, 3\)"),
        (np.ones((0, 3)), np.ones((0, 3)), ValueError, r"p_ref must .* got none"),
        (np.ones((2, 3), complex), np.ones((2, 3)), TypeError, r"p must .* got complex128"),
    ],
)
def test_wrong_input_is_named(p, q, error, words):
    with pytest.raises(error, match=words):
        analyse(p, q)
