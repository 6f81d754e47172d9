"""Files that others made cost a bounded amount: only regular files, of a bounded size, are opened.

Bytes bound the time too. There is no clock, because a slow disk is no attack.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from .errors import DataError

# A parsed entry or list takes twenty times its bytes in memory, so that a JSON file is bounded by all three.
_CONTAINERS = 1 << 18
_ENTRIES = 1 << 20
MEMBER_LIMIT = 1 << 20  # files and folders of one archive
HEADER_LIMIT = 1 << 16  # bytes of one extended header of an archive
_FREE = 1 << 25  # bytes that any file may unpack to
_RATIO = 100  # and so many times its own size; packed text reaches 10, packed zeros 1000
# What wrong values in a file raise, wherever they are first used.
FAULTS = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, MemoryError,
)  # fmt: skip
_LONGEST_WORDS = 200
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_regular(
    path: Path, limit: int, name: str | None = None, error: type[ValueError] = DataError
) -> os.stat_result:
    """Returns the facts of a regular file of at most `limit` bytes (links followed), or raises `error`.

    `name` is what the error calls it, or else its file name.
    """
    name = path.name if name is None else name
    try:
        facts = os.stat(path)
    except OSError as refused:
        if refused.errno != errno.ELOOP:
            raise
        raise error(f"{name} must be a regular file, got a link to itself") from None
    kind = stat.S_IFMT(facts.st_mode)
    if kind != stat.S_IFREG:
        raise error(f"{name} must be a regular file, got {_KINDS.get(kind, 'a special file')}")
    if facts.st_size > limit:
        raise error(f"{name} must have at most {limit} bytes, got {facts.st_size}")
    return facts


def read_regular(
    path: Path, limit: int, name: str | None = None, error: type[ValueError] = DataError
) -> bytes:
    """Returns the bytes of a file after `check_regular`, never more than `limit`, though it may grow."""
    name = path.name if name is None else name
    facts = check_regular(path, limit, name, error)
    with open(path, "rb") as stream:
        data = stream.read(facts.st_size)
        if stream.read(1):
            raise error(f"{name} must stay as it is while it is read, got more bytes")
    return data


def parse_json(data: bytes, entries: int = _ENTRIES) -> Any:
    """Returns the value of a JSON text of at most so many entries; commas inside text count as well.

    Raises:
        ValueError: no JSON, nested too deeply, or more entries, lists and tables than any file of ours has.
    """
    if data.count(b",") > entries:
        raise ValueError(f"JSON must have at most {entries} entries, got more")
    if data.count(b"[") + data.count(b"{") > _CONTAINERS:
        raise ValueError(f"JSON must have at most {_CONTAINERS} lists and tables, got more")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("JSON must be nested less deeply") from None


def unpacked_limit(packed: int, most: int) -> int:
    """Returns how many bytes a compressed file of `packed` bytes may unpack to, at most `most`."""
    return min(most, _FREE + _RATIO * packed)


def machine_memory() -> int | None:
    """Returns the bytes of this machine's memory, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def said(error: Exception) -> str:
    """Returns what went wrong, on one line of bounded length."""
    text = " ".join(str(error).removeprefix("load_state_dict: ").split()) or type(error).__name__
    return text if len(text) <= _LONGEST_WORDS else text[: _LONGEST_WORDS - 3] + "..."
