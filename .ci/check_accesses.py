"""Holds the kernels to accesses of sixteen bytes, by their PTX (the files or folders named).

A kernel passes if one of its instances, that for aligned rows, has a load and a store of global memory of at
least sixteen bytes. NARROW names the others: what is narrow of them, and why. Exit status 1 if a kernel is
neither, if one of NARROW is wide or gone, or if no kernel was found.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

WIDE = 16  # bytes of an access of one thread
LOAD, STORE = "load", "store"
# kernel: (what is narrow, why)
NARROW: dict[str, tuple[tuple[str, ...], str]] = {}

Widths = dict[str, int]  # of a kernel: the widest load and the widest store, in bytes


def instances(text: str) -> Iterator[tuple[str, Widths]]:
    """Yield every entry function of a PTX file by its kernel's name."""
    for piece in re.split(r"\.entry\s+", text)[1:]:
        widest = {LOAD: 0, STORE: 0}
        for what, vector, bits in re.findall(
            r"^\s+(?:@!?%p\d+ )?(ld|st)(?:\.(?:global|volatile|relaxed|gpu|nc|L\w+::[\w:]+))*"
            r"(?:\.v(\d))?\.[busf](\d+)\s", piece, re.MULTILINE
        ):  # fmt: skip
            key = LOAD if what == "ld" else STORE
            widest[key] = max(widest[key], int(vector or 1) * int(bits) // 8)
        yield kernel(re.match(r"\w+", piece)[0]), widest  # type: ignore[index]


def kernel(mangled: str) -> str:
    """Return the kernel's own name, without namespaces and template arguments.

    >>> kernel("_ZN10fp16engine3gpu10map_kernelI6__halfEEvPT_")
    'map_kernel'
    """
    for found in re.finditer(r"(?<!\d)\d+", mangled):
        name = mangled[found.end() :][: int(found[0])]
        if name.endswith("_kernel") and len(name) == int(found[0]):
            return name
    return mangled


def widest(files: Iterable[Path]) -> dict[str, Widths]:
    """Return of every kernel what its widest instances load and store."""
    result: dict[str, Widths] = {}
    for file in files:
        for name, widths in instances(file.read_text()):
            known = result.setdefault(name, {LOAD: 0, STORE: 0})
            for key, value in widths.items():
                known[key] = max(known[key], value)
    return result


def faults(found: dict[str, Widths]) -> Iterator[str]:
    """Yield a sentence for every kernel that is narrower than it should be, or wider than NARROW says."""
    for name in sorted(found.keys() | NARROW.keys()):
        allowed = NARROW.get(name, ((), ""))[0]
        if name not in found:
            yield f"{name}: named in NARROW, but there is no such kernel"
            continue
        for what, width in found[name].items():
            if width < WIDE and what not in allowed:
                yield f"{name}: its widest {what} must be {WIDE} bytes or more, got {width}"
            if width >= WIDE and what in allowed:
                yield f"{name}: NARROW says that its {what} is narrow, got {width} bytes"


def main(arguments: list[str]) -> int:
    """Check the files and print how many kernels are wide."""
    paths = [Path(argument) for argument in arguments]
    files = [f for path in paths for f in (sorted(path.glob("*.ptx")) if path.is_dir() else [path])]
    found = widest(files)
    wrong = list(faults(found)) if found else ["no kernel was found"]
    wide = sum(min(widths.values()) >= WIDE for widths in found.values())
    print(
        f"{wide} of {len(found)} kernels load and store {WIDE} bytes at once; {len(NARROW)} are named narrow"
    )
    print("\n".join(wrong or ["all as expected"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
