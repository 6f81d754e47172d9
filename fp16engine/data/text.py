"""Parallel text: one sentence a line, the same line of two files in two languages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..validate import integer, must_be
from . import archive, folders

_LIMIT = 1 << 30  # bytes of one unpacked file
_LONGEST = 10_000  # characters of a line; more is no sentence
_MOST_LINES, _FREE_LINES = 1 << 23, 1 << 16  # of a file, and of any file however well it is packed
_LONGEST_BYTES = 4 * _LONGEST + 1024  # UTF-8 and some white space around it


@dataclass(frozen=True)
class Pairs:
    """Sentences and their translations: `source[i]` means `target[i]`.

    Args:
        source: sentences.
        target: their translations, as many.

    Raises:
        DataError: the numbers differ, or there are none.

    >>> len(Pairs(("guten Tag",), ("good day",)))
    1
    """

    source: tuple[str, ...]
    target: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.source) != len(self.target) or not self.source:
            raise DataError(
                f"pairs must be at least one sentence and as many translations, got {len(self.source)} and "
                f"{len(self.target)}"
            )

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class ParallelText:
    """A corpus: what to train on, what to watch while training, and what to judge by.

    Args:
        name: what reports call the data.
        source: the language translated from, as in the names of the files.
        target: the language translated to.
        train: pairs to train on.
        val: pairs to watch while training.
        test: pairs to judge by.

    >>> pairs = Pairs(("guten Tag", "danke"), ("good day", "thanks"))
    >>> ParallelText("two", "de", "en", pairs, pairs, pairs)
    ParallelText('two', de to en, 2 training, 2 validation and 2 test pairs)
    """

    name: str
    source: str
    target: str
    train: Pairs
    val: Pairs
    test: Pairs

    def __repr__(self) -> str:
        return (
            f"ParallelText({self.name!r}, {self.source} to {self.target}, {len(self.train)} training, "
            f"{len(self.val)} validation and {len(self.test)} test pairs)"
        )

    def limit(self, n: int) -> ParallelText:
        """Return the first pairs of each part.

        Args:
            n: pairs of each part, >= 1; a shorter part is kept whole.

        Raises:
            TypeError: n is no integer.
            ValueError: n is less than 1.

        >>> pairs = Pairs(("guten Tag", "danke"), ("good day", "thanks"))
        >>> len(ParallelText("two", "de", "en", pairs, pairs, pairs).limit(1).train)
        1
        """
        integer("limit", n, 1)
        parts = (Pairs(part.source[:n], part.target[:n]) for part in (self.train, self.val, self.test))
        return ParallelText(self.name, self.source, self.target, *parts)


def read_lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a UTF-8 text file, gzip-compressed if its name ends in .gz.

    A line ends at a line feed (and a carriage return before it), at nothing else that Unicode calls a line
    break; white space around it is dropped.

    Args:
        path: of the file.

    Raises:
        DataError: damaged compression, more than 1 GiB or 8 388 608 lines, far more lines than a file of its
            bytes has, another encoding, or a line that is empty or longer than 10 000 characters.
    """
    lines: list[str] = []
    most = min(
        _MOST_LINES, _FREE_LINES + path.stat().st_size // 10
    )  # real text has more bytes a line, even packed
    with archive.open_unpacked(path, _LIMIT) as stream, archive.damage(path.name):
        while data := stream.readline(_LONGEST_BYTES):
            lines.append(_line(data, len(lines) + 1, path.name))
            if len(lines) > most:
                raise DataError(f"{path.name} must have at most {most} lines, got more")
    if not lines:
        raise DataError(f"{path.name} must hold a sentence in every line, got an empty line 1")
    return tuple(lines)


def _line(data: bytes, number: int, name: str) -> str:
    try:
        # a part of a line may end inside a character, but then it is too long anyway
        whole = "strict" if len(data) < _LONGEST_BYTES else "ignore"
        line = data.decode("utf-8-sig" if number == 1 else "utf-8", whole).strip()
    except UnicodeDecodeError:
        raise DataError(f"{name} must be UTF-8 text, got other bytes in line {number}") from None
    if not line:
        raise DataError(f"{name} must hold a sentence in every line, got an empty line {number}")
    if len(line) > _LONGEST or len(data) == _LONGEST_BYTES:
        raise DataError(f"{name}: line {number} must have at most {_LONGEST} characters, got more")
    return line


def _find(root: Path, part: str, language: str) -> Path:
    ends = (f".{language}", f".{language}.gz")
    found = [root / (part + end) for end in ends if archive.is_there(root / (part + end))]
    if not found and part == "test":  # test_2016_flickr.de.gz, say
        found = sorted(path for end in ends for path in root.glob(f"test_*{end}") if archive.is_there(path))
    if not found:
        kinds = " or test_*" if part == "test" else ""
        raise FileNotFoundError(
            f"{root} must hold {part}{ends[0]}{kinds}, plain or .gz, got a folder without"
        )
    if len(found) > 1:
        names = " and ".join(path.name for path in found[:2])
        raise DataError(f"{root} must hold one {part} file in {language!r}, got {names}")
    return found[0]


def _pairs(root: Path, part: str, languages: tuple[str, str]) -> Pairs:
    paths = [_find(root, part, language) for language in languages]
    if part == "test" and len({path.name.split(".")[0] for path in paths}) > 1:
        raise DataError(f"{root} must hold one test set, got {paths[0].name} and {paths[1].name}")
    source, target = (read_lines(path) for path in paths)
    if len(source) != len(target):
        raise DataError(
            f"{paths[1].name} must hold {len(source)} lines as {paths[0].name} does, got {len(target)}"
        )
    return Pairs(source, target)


def parallel_text(root: str | Path | None = None, source: str = "de", target: str = "en") -> ParallelText:
    """Return the corpus in a folder of text files, such as Multi30k.

    Args:
        root: folder with `train.de`, `train.en`, `val.de`, `val.en` and `test.de`, `test.en` (or `test_NAME`
            of one name), plain or with `.gz`: UTF-8, a sentence in every line, the same line a translation.
        source: the ending of the files to translate from.
        target: the ending of the files to translate to.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        DataError: no root, a file is damaged or no UTF-8, a line is empty or endless, or the two files of a
            part have different numbers of lines.
        ValueError: a language is no plain file ending, or both are the same.

    Source:
        Elliott et al., 2016, arXiv 1605.00459 (Multi30k).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for part in ("train", "val", "test"):
    ...         _ = Path(folder, f"{part}.de").write_text("guten Tag")
    ...         _ = Path(folder, f"{part}.en").write_text("good day")
    ...     parallel_text(folder).train.target
    ('good day',)
    """
    for name, language in (("source", source), ("target", target)):
        if not isinstance(language, str) or not language.replace("-", "").replace("_", "").isalnum():
            raise ValueError(must_be(name, "the ending of a file, such as 'de'", language))
    if source == target:
        raise ValueError(must_be("target", "another language than the source", target))
    folder = folders.existing(root, "parallel_text", "a folder with train, val and test in two languages")
    if not folder.is_dir():
        raise DataError(f"{folder} must be a folder with train, val and test, got a file")
    parts = (_pairs(folder, part, (source, target)) for part in ("train", "val", "test"))
    return ParallelText(folder.resolve().name, source, target, *parts)
