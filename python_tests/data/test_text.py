"""Parallel text: what is read, how it is cut into batches, and one sentence for every fault."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16engine.data import parallel_text
from fp16engine.data.encoded import EncodedPairs, EncodedText, cut
from fp16engine.data.text import Pairs, read_lines
from fp16engine.data.tokenizer import LEAST_VOCABULARY, Tokenizer
from fp16engine.errors import DataError

TEXT = {
    "train.de": "Ein Hund läuft.\r\nZwei Männer.\nEin\u2028Mann \n",
    "train.en": "A dog runs.\nTwo men.\nA man",
    "val.de": "Hund\n",
    "val.en": "Dog\n",
    "test_2016.de": "Eine Katze\n",
    "test_2016.en": "A cat\n",
}


def corpus(root: Path, end: str = "", **changed: str | bytes | None) -> Path:
    """The files of TEXT, some of them `changed` (None: left out); dots in names are written "__"."""
    changes = {name.replace("__", "."): value for name, value in changed.items()}
    root.mkdir(exist_ok=True)
    for name, content in {**TEXT, **changes}.items():
        if content is not None:
            data = content.encode() if isinstance(content, str) else content
            (root / (name + end)).write_bytes(gzip.compress(data) if end else data)
    return root


@pytest.mark.parametrize("end", ["", ".gz"])
def test_reads_both_sides_line_by_line(tmp_path: Path, end: str) -> None:
    text = parallel_text(corpus(tmp_path / "tiny", end))
    assert text.train.source == ("Ein Hund läuft.", "Zwei Männer.", "Ein\u2028Mann")
    assert text.train.target == ("A dog runs.", "Two men.", "A man")
    assert (text.name, text.source, text.target) == ("tiny", "de", "en")
    assert repr(text) == ("ParallelText('tiny', de to en, 3 training, 1 validation and 1 test pairs)")
    other = parallel_text(tmp_path / "tiny", "en", "de")
    assert other.test.source == ("A cat",) and other.test.target == ("Eine Katze",)
    assert len(text.limit(2).train) == 2 and text.limit(2).test == text.test


FAULTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "missing": ({"val__en": None}, FileNotFoundError, r"/c must .* got a folder without"),
    "no-test": ({"test_2016__de": None}, FileNotFoundError, r"/c must .* got a folder without"),
    "two-tests": ({"test_2017__de": "x\n"}, DataError, r"/c must .* got test_2016.de and test_2017.de"),
    "other-test": (
        {"test_2016__en": None, "test_2017__en": "x\n"},
        DataError,
        r"/c must .* got test_2016.de and test_2017.en",
    ),
    "lengths": ({"train__en": "A dog\n"}, DataError, r"train.en must .* got 1"),
    "empty": ({"val__de": ""}, DataError, r"val.de must .* got an empty line 1"),
    "blank-line": ({"train__de": "a\n \nb\n"}, DataError, r"train.de must .* got an empty line 2"),
    "encoding": ({"train__de": b"a\nb\xff\n"}, DataError, r"train.de must .* got other bytes in line 2"),
    "endless": ({"val__de": "a" * 10_001}, DataError, "val.de: line 1 must have at most 10000 characters"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_in_one_sentence(tmp_path: Path, fault: str) -> None:
    changed, kind, words = FAULTS[fault]
    with pytest.raises(kind, match=words):
        parallel_text(corpus(tmp_path / "c", **changed))


def test_damaged_gzip_and_wrong_arguments(tmp_path: Path) -> None:
    root = corpus(tmp_path / "c", ".gz")
    (root / "train.de.gz").write_bytes((root / "train.de.gz").read_bytes()[:-9])
    with pytest.raises(
        DataError, match=r"train.de.gz must .* got one that is truncated or damaged \(Compressed file ended"
    ):
        parallel_text(root)
    with pytest.raises(DataError, match=r"parallel_text: root \(--data-dir\) must .* got none"):
        parallel_text()
    with pytest.raises(
        FileNotFoundError,
        match=r"parallel_text: root \(--data-dir\) must .* got .*nowhere, which does not exist",
    ):
        parallel_text(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"source must .* got '../x'"):
        parallel_text(root, "../x")
    with pytest.raises(ValueError, match=r"target must .* got 'de'"):
        parallel_text(root, "de", "de")
    with pytest.raises(DataError, match=r"pairs must .* got 2 and 1"):
        Pairs(("a", "b"), ("c",))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")), max_size=5))
def test_any_lines_come_back_or_are_refused(tmp_path_factory: Any, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("lines") / "x.de"
    path.write_bytes("\n".join(lines).encode())
    stripped = [
        line.strip() for line in "\n".join(lines).removeprefix("\ufeff").removesuffix("\n").split("\n")
    ]
    if all(stripped):
        assert read_lines(path) == tuple(stripped)
    else:
        with pytest.raises(DataError, match="got an empty line"):
            read_lines(path)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    lines = ["the red dog sees the cat", "the cat sees a dog", "ein Hund läuft"] * 3
    return Tokenizer.train(lines, LEAST_VOCABULARY + 20)


def test_tokenizer_takes_any_text_and_gives_it_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    lines = ["the dog", "Größe 漢字 🙂 <s> a  b", "x"]
    encoded = tokenizer.encode(lines)
    assert [line[-1] for line in encoded] == [2] * 3 and encoded[0].dtype == np.int64
    assert len(encoded[0]) < len(encoded[2]) + 6  # "the" and "dog" were learnt
    assert tokenizer.decode(encoded) == lines
    assert tokenizer.decode([[*encoded[0], *encoded[1]]]) == lines[:1]  # up to the end mark
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json())
    again = Tokenizer.load(path)
    assert again.size == tokenizer.size <= LEAST_VOCABULARY + 20
    assert all(map(np.array_equal, again.encode(lines), encoded))


def test_tokenizer_faults(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^vocabulary must .* {LEAST_VOCABULARY} to .* got 10$"):
        Tokenizer.train(["a"], 10)
    path = tmp_path / "tokenizer.json"
    for content in (b"", b"{}", b"\xff", b'{"version": "1.0"}'):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"tokenizer\.json must be a tokenizer that fp16engine wrote"):
            Tokenizer.load(path)
    with pytest.raises(FileNotFoundError):
        Tokenizer.load(tmp_path / "none.json")


def test_batch_is_padded_and_shifted() -> None:
    pairs = EncodedPairs((np.array([5, 6, 2]), np.array([7, 2])), (np.array([8, 2]), np.array([9, 4, 3, 2])))
    batch = pairs.batch([1, 0])
    assert batch.source.tolist() == [[7, 2, 0], [5, 6, 2]]
    assert batch.source_lengths.tolist() == [2, 3]
    assert batch.target.tolist() == [[1, 9, 4, 3], [1, 8, 0, 0]]
    assert batch.labels.tolist() == [9, 4, 3, 2, 8, 2, -1, -1]
    assert pairs.tokens == 6


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(0, 5), st.integers(1, 100))
def test_cuts_hold_the_limit_and_do_not_depend_on_ties(sizes: list[int], seed: int, most: int) -> None:
    of = np.array(sizes)
    shuffled = np.random.default_rng(seed).permutation(len(of))
    batches = cut(of, shuffled[np.argsort(of[shuffled], kind="stable")], most)
    assert sorted(i for batch in batches for i in batch) == list(range(len(of)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * of[batch].max() <= most
    plain = cut(of, np.argsort(of, kind="stable"), most)
    assert [of[b].tolist() for b in batches] == [of[b].tolist() for b in plain]


def test_long_sentences_are_left_out_of_training_only(tokenizer: Tokenizer) -> None:
    long = "a dog " * 30
    pairs = Pairs(("the dog", long), ("ein Hund", "x"))
    from fp16engine.data.text import ParallelText

    text = ParallelText("t", "en", "de", pairs, pairs, pairs)
    encoded = EncodedText.of(tokenizer, text, longest=20)
    assert (len(encoded.train), len(encoded.test)) == (1, 2)
    with pytest.raises(DataError, match=r"pairs must .* got none"):
        EncodedText.of(tokenizer, text, longest=1)
