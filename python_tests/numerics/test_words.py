"""Sentences about shares, held to the shares: whatever the numbers are, the words say the same."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16engine import preflight
from fp16engine.numerics import advice, words
from fp16engine.numerics.ranges import percent

SHARES = st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True), st.floats(0, 1), max_size=8)


def says(text: str, shares: dict[str, float]) -> None:
    """Hold a sentence to the shares it is about."""
    above = sum(share > 0.5 for share in shares.values())
    largest = max(shares.values(), default=0.0)
    if not largest:
        assert text.startswith("no ") and "%" not in text
        return
    assert f"{percent(largest)} of the" in text
    found = re.search(r"more than half in (\d+) of (\d+) layers?", text)
    if above:
        assert found and (int(found[1]), int(found[2])) == (above, len(shares))
    else:
        assert found is None and "in no layer more than half" in text


@pytest.mark.slow
@given(SHARES)
def test_the_sentence_agrees_with_the_shares(shares: dict[str, float]) -> None:
    says(words.worst(shares, words.UPDATES), shares)


@given(SHARES, SHARES)
def test_preflight_says_what_its_table_shows(lost: dict[str, float], gradients: dict[str, float]) -> None:
    layers = [
        preflight.LayerForecast(name, 0, 0.0, gradients.get(name, 0.0), 0.0, lost.get(name))
        for name in {**lost, **gradients}
    ]
    suggestion = preflight.suggest(layers, 8.0)
    reasons = "; ".join(suggestion["reasons"])
    assert (suggestion["precision"] == "mp") == any(layer.problems for layer in layers)
    if suggestion["precision"] == "fp16":
        under, updates = reasons.split("; ")[1:]
        says(under, {layer.layer: layer.gradient_underflow for layer in layers})
        says(updates, lost)
    elif max(lost.values(), default=0.0) >= advice.LOST_SHARE:
        says(next(reason for reason in suggestion["reasons"] if "updates" in reason), lost)


@pytest.mark.parametrize("share", [0.38, 0.43, 0.51, 0.89, 0.97])
def test_a_loss_is_never_called_none(share: float) -> None:
    (reason,) = preflight.suggest([preflight.LayerForecast("stem", 0, 0.0, 0.0, 0.0, share)], 1.0)["reasons"]
    assert "updates count" not in reason and percent(share) in reason
