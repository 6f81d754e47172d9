"""Byte-pair encoding of text, by the library `tokenizers` (extra `text`), trained on the training text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..bounded import read_regular
from ..errors import DataError
from ..validate import integer
from .tokenizer_file import END, FILE_LIMIT, MOST_TOKENS, SPECIAL, checked

LEAST_VOCABULARY = 256 + len(SPECIAL)  # every byte is a token, so that no text is unknown


class Tokenizer:
    """Text to token numbers and back: byte-level pairs, one vocabulary for all languages.

    0 is padding, 1 begins and 2 ends a sentence. Any text can be encoded, and comes back as it was but for
    white space around it. `train` and `load` make one; both need the extra `text`.

    Args:
        inner: a `tokenizers.Tokenizer` of this kind.

    Source:
        Sennrich et al., 2015, arXiv 1508.07909.

    >>> tokenizer = Tokenizer.train(["the cat", "the mat"], vocabulary=262)
    >>> tokenizer.decode(tokenizer.encode(["the hat"]))
    ['the hat']
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        inner.encode_special_tokens = True  # "<s>" in a text is text

    @classmethod
    def train(cls, lines: Iterable[str], vocabulary: int = 8000) -> Tokenizer:
        """Return a tokenizer that is learnt from lines of text; equal for equal lines.

        Args:
            lines: of text.
            vocabulary: tokens at most, at least those of the 256 bytes and the marks.

        Raises:
            ValueError: the vocabulary has not even room for the 256 bytes, or is over 262 144.
            TypeError: the vocabulary is no integer.
            ImportError: the extra `text` is not installed.

        >>> Tokenizer.train(["the cat", "the mat"], vocabulary=262).size
        262
        """
        integer("vocabulary", vocabulary, LEAST_VOCABULARY, MOST_TOKENS)
        library = _library()
        inner = library.Tokenizer(library.models.BPE())
        inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
        inner.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL),
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        inner.train_from_iterator(lines, trainer)
        return cls(inner)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Return the tokenizer that `to_json` wrote.

        Args:
            path: of the file.

        Raises:
            DataError: the file is no tokenizer of this kind.
            FileNotFoundError: there is none.
            ImportError: the extra `text` is not installed.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "tokenizer.json")
        ...     _ = path.write_text(Tokenizer.train(["the cat"], vocabulary=262).to_json())
        ...     Tokenizer.load(path).size
        262
        """
        path = Path(path)
        data = read_regular(path, FILE_LIMIT)
        try:
            document = checked(data)
        except ValueError as error:
            raise DataError(f"{path.name} must be a tokenizer that fp16engine wrote, got {error}") from None
        return cls(_library().Tokenizer.from_str(document))

    def to_json(self) -> str:
        """Return the whole tokenizer as the library's JSON text.

        >>> Tokenizer.train(["the cat"], vocabulary=262).to_json()[0]
        '{'
        """
        text: str = self._inner.to_str()
        return text

    @property
    def size(self) -> int:
        """Number of tokens."""
        count: int = self._inner.get_vocab_size()
        return count

    def encode(self, lines: Sequence[str]) -> list[np.ndarray]:
        """Return the tokens of each line, each ending in 2.

        Args:
            lines: of text.

        Returns:
            An array of shape (length,), int64, per line.

        Raises:
            TypeError: a line is no text.

        >>> int(Tokenizer.train(["the cat"], vocabulary=262).encode(["the cat"])[0][-1])
        2
        """
        encoded = self._inner.encode_batch(list(lines), add_special_tokens=False)
        return [np.array([*line.ids, END], np.int64) for line in encoded]

    def decode(self, lines: Iterable[Sequence[int] | np.ndarray]) -> list[str]:
        """Return the text of each sequence of tokens, up to its first 2 if there is one.

        Args:
            lines: token numbers: integers or arrays of any shape (length,), int64.

        Raises:
            OverflowError: a number is negative.

        >>> tokenizer = Tokenizer.train(["the cat"], vocabulary=262)
        >>> tokenizer.decode(tokenizer.encode(["the cat"]))
        ['the cat']
        """
        texts = []
        for line in lines:
            ids = [int(token) for token in line]
            ids = ids[: ids.index(END)] if END in ids else ids
            texts.append(self._inner.decode(ids, skip_special_tokens=True).strip())
        return texts


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise ImportError(
            f"tokenizer needs the package tokenizers ({error}); pip install 'fp16engine[text]'"
        ) from None
    return tokenizers
