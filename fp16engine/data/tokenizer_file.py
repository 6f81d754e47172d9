"""What the file of a tokenizer may hold: what ours writes, and nothing that the library could stumble over.

The library trusts its file: a wrong one can end in a panic or an abort of the process.
"""

from __future__ import annotations

import json
from typing import Any

from ..bounded import parse_json

PAD, BEGIN, END = 0, 1, 2
FILE_LIMIT = 1 << 24  # bytes
MOST_TOKENS = 1 << 18
SPECIAL = ("<pad>", "<s>", "</s>")
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
_FIXED: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": number, "content": token, **_FLAGS} for number, token in enumerate(SPECIAL)],
    "normalizer": None,
    "pre_tokenizer": _BYTE_LEVEL,
    "post_processor": None,
    "decoder": _BYTE_LEVEL,
}
_MODEL: dict[str, Any] = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}


def checked(data: bytes) -> str:
    """Return the JSON text of a tokenizer, written anew from parts that were checked.

    Raises:
        ValueError: it is none of ours; the message says what was found, for a sentence that ends in "got".
    """
    try:
        document = parse_json(data)
    except ValueError:
        raise ValueError("text that is no JSON") from None
    model = _same(document, _FIXED, {"model"})["model"]
    _same(model, _MODEL, {"vocab", "merges"})
    vocabulary, merges = model["vocab"], model["merges"]
    if not isinstance(vocabulary, dict) or not all(type(number) is int for number in vocabulary.values()):
        raise ValueError("a vocabulary that is no table of numbers")
    if len(vocabulary) > MOST_TOKENS:
        raise ValueError(f"a vocabulary of more than {MOST_TOKENS} tokens")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("a vocabulary whose numbers are not 0, 1, 2 and so on, each once")
    if [vocabulary.get(token) for token in SPECIAL] != [PAD, BEGIN, END]:
        raise ValueError(f"a vocabulary in which {', '.join(SPECIAL)} are not 0, 1 and 2")
    model = {**_MODEL, "vocab": vocabulary, "merges": _merges(merges, vocabulary)}
    text = json.dumps({**_FIXED, "model": model}, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair in a token") from None
    return text


def _same(found: Any, fixed: dict[str, Any], free: set[str]) -> dict[str, Any]:
    """Return `found` if it has the entries of `fixed`, and those named in `free` with any value."""
    if not isinstance(found, dict):
        raise ValueError("another kind of JSON")
    for key in sorted({*fixed, *free}):
        if key not in found or (key in fixed and found[key] != fixed[key]):
            raise ValueError(f"another entry {key!r}")
    if len(found) > len(fixed) + len(free):
        raise ValueError("entries that it does not have")
    return found


def _merges(merges: Any, vocabulary: dict[str, int]) -> list[list[str]]:
    """Return the pairs to merge; versions of the library before 0.20.2 wrote a pair as "a b"."""
    if not isinstance(merges, list):
        raise ValueError("merges that are no list")
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
    for number, pair in enumerate(pairs):
        if not (
            isinstance(pair, list)
            and len(pair) == 2
            and all(isinstance(part, str) and part and part in vocabulary for part in pair)
            and "".join(pair) in vocabulary
        ):
            raise ValueError(f"a merge, number {number}, of what the vocabulary does not have")
    return pairs
