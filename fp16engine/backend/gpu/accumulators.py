"""Which accumulator a matrix product or convolution really used: integers whose partial sums pass 2048.

Products of small integers are exact, and so are their sums in binary32; in binary16 a partial sum beyond 2048
is rounded. So the bits of a result tell where sums were rounded: not before the end (binary32), after every
product, or after every few products that a tensor core adds at once. A library that accepts a compute type
has promised nothing: what was found here is what counts, for one GPU and one version of the library.

Findings of a GPU are kept in `proven_accumulators.json` next to the backends (`benchmarks/gpu_check`
writes one). `fp16-strict` means every partial sum in binary16: a library's sums are used for it only where
the findings say so on every path, otherwise the engine's own kernels add.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

PATHS = ("matmul", "conv2d forward", "conv2d data gradient", "conv2d weight gradient")
TERMS = (64, 288, 2304)  # products per sum: a tile, ResNet-56's 3x3 of 32 channels, VGG's of 256
BINARY32 = "float32"
EVERY_PRODUCT = (
    "float16, rounded after every product",
    "float16, rounded after every product, in blocks of 32",
)
UNKNOWN = "narrower than float32, in an order that is not recognised"
KNOWN_FILE = Path(__file__).parents[1] / "backend" / "proven_accumulators.json"
VARIABLE = "FP16ENGINE_ACCUMULATORS"  # another file of findings
_OUTPUTS = 64


@dataclass(frozen=True)
class AccumulatorProbe:
    """What one path did when it was asked for sums in `asked`.

    found: "float32", one of `EVERY_PRODUCT`, "float16, rounded after every N products", or `UNKNOWN`.
    differing: the share of results whose bits are not those of a binary32 accumulator. ones: what it gives
    for a sum of 4096 ones (4096, or 2048 where every partial sum is rounded in order).
    """

    path: str
    asked: str
    terms: int
    found: str
    differing: float
    ones: float


def probe(backend: Any, asked: Iterable[str] = ("float32", "float16")) -> list[AccumulatorProbe]:
    """Find the accumulators of `backend` (any device's) on every path, for sums of 64, 288 and 2304 products.

    >>> from fp16engine import backend
    >>> [f.found for f in probe(backend.get("reference"), ["float32"])[:2]]
    ['float32', 'float32']
    """
    return [_probe(backend, path, acc, terms) for acc in asked for path in PATHS for terms in TERMS]


def _probe(backend: Any, path: str, acc: str, terms: int) -> AccumulatorProbe:
    a, b = _factors(terms)
    got = _run(backend, path, a, b, acc)
    products = a.astype(np.float64)[:, None, :] * b.astype(np.float64)[None, :, :]
    exact = _halved(products.sum(-1))
    ones = _run(backend, path, np.ones((1, 4096), np.float16), np.ones((1, 4096), np.float16), acc)
    differing = float(np.mean(got != exact))
    return AccumulatorProbe(
        path, acc, terms, _recognise(got, exact, products), differing, float(ones.reshape(-1)[0])
    )


def _factors(terms: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers (outputs, terms), twice: products up to 961, so that sums soon pass 2048, of random sign, so
    that they stay far below 65504."""
    generator = np.random.default_rng(terms)
    many = max(8, min(_OUTPUTS, 16384 // terms))
    drawn = (generator.integers(-31, 32, (many, terms)) for _ in range(2))
    a, b = (values.astype(np.float16) for values in drawn)
    return a, b


def _run(backend: Any, path: str, a: np.ndarray, b: np.ndarray, acc: str) -> np.ndarray:
    """The sums of a[m] * b[n] over their terms, (M, N), by one of the paths, in its documented order."""
    (m, terms), n = a.shape, b.shape[0]
    move = backend.from_numpy
    one, none = (1, 1), (0, 0, 0, 0)
    if path == "matmul":
        y = backend.matmul(move(a), move(b), False, True, acc)
    elif path == "conv2d forward":  # images of one pixel, a term per channel
        y = backend.conv2d_forward(
            move(a.reshape(m, 1, 1, terms)), move(b.reshape(n, 1, 1, terms)), None, one, none, 1, acc
        )
    elif path == "conv2d data gradient":  # a term per output channel
        dy, w = a.reshape(m, 1, 1, terms), np.ascontiguousarray(b.T).reshape(terms, 1, 1, n)
        x = backend.zeros((m, 1, 1, n), "float16")
        y = backend.conv2d_backward(x, move(w), move(dy), one, none, 1, (True, False, False), acc)[0]
    else:  # a term per image
        dy = np.ascontiguousarray(a.T).reshape(terms, 1, 1, m)
        x = np.ascontiguousarray(b.T).reshape(terms, 1, 1, n)
        w = backend.zeros((m, 1, 1, n), "float16")
        y = backend.conv2d_backward(move(x), w, move(dy), one, none, 1, (False, True, False), acc)[1]
    return np.asarray(backend.to_numpy(y)).reshape(m, n)


def _recognise(got: np.ndarray, exact: np.ndarray, products: np.ndarray) -> str:
    if np.array_equal(got, exact):
        return BINARY32
    if np.array_equal(got, _rounded_every(products, 1)):
        return EVERY_PRODUCT[0]
    if np.array_equal(got, _blocks_of_32(products)):
        return EVERY_PRODUCT[1]
    for at_once in (2, 4, 8, 16, 32, 64, 128, 256):
        if np.array_equal(got, _rounded_every(products, at_once)):
            return f"float16, rounded after every {at_once} products"
    return UNKNOWN


def _halved(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16)


def _rounded_every(products: np.ndarray, at_once: int) -> np.ndarray:
    """Sums in order, exact over `at_once` products and then rounded, as a tensor core with binary16 sums."""
    total = np.zeros(products.shape[:-1], np.float16)
    for begin in range(0, products.shape[-1], at_once):
        total = _halved(total.astype(np.float64) + products[..., begin : begin + at_once].sum(-1))
    return total


def _blocks_of_32(products: np.ndarray) -> np.ndarray:
    """Sums in the order of backend/base.py: blocks of 32 terms, merged as a binary counter."""
    levels: list[np.ndarray | None] = []
    for begin in range(0, products.shape[-1], 32):
        carried = _rounded_every(products[..., begin : begin + 32], 1)
        level = 0
        while level < len(levels) and (older := levels[level]) is not None:
            carried, levels[level] = _halved(older.astype(np.float64) + carried), None
            level += 1
        if level == len(levels):
            levels.append(None)
        levels[level] = carried
    rest = [one for one in levels if one is not None]
    total = rest[0]
    for older in rest[1:]:
        total = _halved(older.astype(np.float64) + total)
    return total


# --- what has been found on GPUs ---------------------------------------------------------------------------


def record(
    file: str | os.PathLike[str], gpu: str, libraries: dict[str, str], findings: Iterable[AccumulatorProbe]
) -> None:
    """Add the findings of a GPU and its libraries' versions to a file, in place of older ones of both."""
    entries = [entry for entry in load(file) if not _same(entry, gpu, libraries)]
    entries.append({"gpu": gpu, "libraries": libraries, "findings": [asdict(one) for one in findings]})
    text = json.dumps({"entries": entries}, indent=1, allow_nan=False)
    Path(file).write_text(text + "\n", encoding="utf-8")


def load(file: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
    """Return the entries of a file of findings: by default that named by FP16ENGINE_ACCUMULATORS, else the
    engine's own; none if it does not exist.

    Raises ValueError for a file that is none of findings.
    """
    path = Path(file or os.environ.get(VARIABLE) or KNOWN_FILE)
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        known = [e for e in entries if e["gpu"] and e["libraries"] is not None and e["findings"] is not None]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be a file of accumulators that benchmarks/gpu_check wrote, got {error!r}"
        ) from None
    return list(known)


def _same(entry: dict[str, Any], gpu: str, libraries: dict[str, str]) -> bool:
    return bool(entry["gpu"] == gpu and entry["libraries"] == libraries)


def identify(backend: Any) -> tuple[str, dict[str, str]]:
    """Return the name of a CUDA backend's GPU and its libraries' versions: what findings hold for."""
    properties = backend.xp.cuda.runtime.getDeviceProperties(backend.index)
    native = backend.native
    libraries = {"cublasLt": str(native.cublaslt_version()), "cudnn": str(native.cudnn_version())}
    return properties["name"].decode(), libraries


def proven(gpu: str, libraries: dict[str, str], entries: list[dict[str, Any]] | None = None) -> bool:
    """Tell whether a GPU's libraries were found to round after every product, on every path.

    gpu: its name; libraries: versions by name, {"cublasLt": ..., "cudnn": ...}, equal to those of the entry.
    """
    for entry in load() if entries is None else entries:
        if _same(entry, gpu, libraries):
            halves = [one for one in entry["findings"] if one["asked"] == "float16"]
            paths = {one["path"] for one in halves}
            return set(PATHS) <= paths and all(one["found"] in EVERY_PRODUCT for one in halves)
    return False


def summary(findings: Iterable[AccumulatorProbe]) -> list[str]:
    """Return one sentence per path and accumulator asked for.

    >>> summary([AccumulatorProbe("matmul", "float16", n, "float32", 0.0, 4096.0) for n in (64, 288)])
    ['matmul asked for float16 sums: float32 (64, 288 products); 4096 ones give 4096']
    """
    groups: dict[tuple[str, str, str, float], list[int]] = {}
    for one in findings:
        groups.setdefault((one.path, one.asked, one.found, one.ones), []).append(one.terms)
    return [
        f"{path} asked for {asked} sums: {found} ({', '.join(map(str, terms))} products); "
        f"4096 ones give {ones:g}"
        for (path, asked, found, ones), terms in groups.items()
    ]
