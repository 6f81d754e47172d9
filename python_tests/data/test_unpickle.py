"""Pickles whose cost is not in their commands."""

from __future__ import annotations

import struct

import pytest

from fp16engine.data import unpickle
from fp16engine.errors import DataError

TEXT = b"X" + struct.pack("<I", 2000) + b"a" * 2000
TEXT8 = b"\x8d" + struct.pack("<Q", 2000) + b"a" * 2000
BYTES = b"B" + struct.pack("<I", 2000) + b"X" * 2000


@pytest.mark.parametrize("text", [TEXT, TEXT8])
def test_long_text_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    pickle = b"\x80\x04}\x8c\x04data" + text + b"s."
    assert unpickle.read_dict(pickle, "x")["data"] == "a" * 2000
    monkeypatch.setattr(unpickle, "_LONGEST_UNICODE", 1999)
    with pytest.raises(DataError, match=r"^x must .*text of 2000 bytes"):
        unpickle.read_dict(pickle, "x")


def test_bytes_may_be_long_and_hold_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickle, "_LONGEST_UNICODE", 10)
    pickle = b"\x80\x04}\x8c\x04dataq\x58" + BYTES + b"s."  # memo index 0x58, the command for text
    assert unpickle.read_dict(pickle, "x")["data"] == b"X" * 2000
