"""Holds the kernels to accesses of sixteen bytes, by their PTX (the files or folders named).

A kernel passes if one of its instances, that for aligned rows, has a load and a store of global memory of at
least sixteen bytes. NARROW names the others: what is narrow of them, and why. Exit status 1 if a kernel is
neither, if a line of NARROW fits nothing narrow, or if no kernel was found.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

WIDE = 16  # bytes of an access of one thread
LOAD, STORE = "load", "store"
BOTH = (LOAD, STORE)
# How names of kernels begin: (what is narrow of them, why). The first that fits counts.
NARROW: dict[str, tuple[tuple[str, ...], str]] = {
    r"(advance|decide)_step|loss_seed|count_correct|batch_indices": (BOTH, "a few numbers of a step"),
    r"counted_labels|cross_entropy_mean": (BOTH, "one number a row"),
    r"\w*strict|chunked_product|avg_pool_blocks": (BOTH, "term by term, in the order of binary16 sums"),
    r"\w*_(add_slices|finish|parameters)": (BOTH, "partial sums, few and by columns"),
    r"attention": (BOTH, "heads are walked through one by one: known to be slow, csrc/kernels/attention.cuh"),
    r"augment": (BOTH, "a pixel of three channels at a place of its own"),
    r"quantize_(columns|tiles)": (BOTH, "a warp or a thread takes a block of a format, of few values"),
    r"norm_slice|(rank_)?nonfinite|range_statistics|reduce|(count|share)_maxima": (
        (STORE,),
        "reads a tensor, writes a number",
    ),
    r"fill": ((LOAD,), "reads nothing"),
}

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
    """Yield a sentence for every kernel that is too narrow, and every line of NARROW too many."""
    seen: dict[str, set[str]] = {}
    for name in sorted(found):
        pattern = next((pattern for pattern in NARROW if re.match(pattern, name)), None)
        allowed = NARROW[pattern][0] if pattern is not None else ()
        if pattern is not None:
            seen.setdefault(pattern, set())
        for what, width in found[name].items():
            if width >= WIDE:
                continue
            if pattern is not None and what in allowed:
                seen[pattern].add(what)
            else:
                yield f"{name}: its widest {what} must be {WIDE} bytes or more, got {width}"
    for pattern, (allowed, _) in NARROW.items():
        if pattern not in seen:
            yield f"{pattern}: named in NARROW, but there is no such kernel"
        else:
            for what in sorted(set(allowed) - seen[pattern]):
                yield f"{pattern}: NARROW says that a {what} is narrow, none is"


def named(name: str) -> bool:
    """Tell whether NARROW has a kernel."""
    return any(re.match(pattern, name) for pattern in NARROW)


def main(arguments: list[str]) -> int:
    """Check the files and print how many kernels are wide."""
    paths = [Path(argument) for argument in arguments]
    files = [f for path in paths for f in (sorted(path.glob("*.ptx")) if path.is_dir() else [path])]
    found = widest(files)
    wrong = list(faults(found)) if found else ["no kernel was found"]
    wide = sum(min(widths.values()) >= WIDE for widths in found.values())
    narrow = sum(map(named, found))
    print(f"{wide} of {len(found)} kernels load and store {WIDE} bytes at once; {narrow} are named narrow")
    print("\n".join(wrong or ["all as expected"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
