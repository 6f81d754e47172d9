"""What the kept probabilities of two runs say about one another: delta and Gamma after every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...numerics.tolerance import analyse
from .predictions import Predictions
from .spec import PROBABILITIES, RunSpec, canonical
from .store import DONE, Store

REFERENCE = "fp32"


def update(store: Store, folder: Path, specs: Sequence[RunSpec]) -> None:
    """Compare every done run that kept its probabilities with the fp32 run that it shares the rest with."""
    for reference, other in pairs(specs):
        done = set(store.status([reference.key, other.key]).values()) == {DONE}
        if done and not store.pair(reference.key, other.key):
            store.set_pair(reference.key, other.key, list(_records(folder, reference, other)))


def pairs(specs: Sequence[RunSpec]) -> list[tuple[RunSpec, RunSpec]]:
    """Return (reference, other) for runs that differ in the precision only."""
    kept = [spec for spec in specs if PROBABILITIES in spec.keep]
    references = {_rest(spec): spec for spec in kept if spec.precision == REFERENCE}
    return [
        (references[_rest(spec)], spec)
        for spec in kept
        if spec.precision != REFERENCE and _rest(spec) in references
    ]


def _rest(spec: RunSpec) -> str:
    document = spec.document()
    return canonical({k: v for k, v in document.items() if not k.startswith("precision")})


def _records(folder: Path, reference: RunSpec, other: RunSpec) -> Iterator[dict[str, Any]]:
    stores = [Predictions(folder / spec.key / PROBABILITIES) for spec in (reference, other)]
    for epoch in range(1, reference.epochs + 1):
        p, q = (store.load(epoch) for store in stores)
        if p is not None and q is not None and p.shape == q.shape:
            yield {"epoch": epoch, **analyse(p, q, reference.precision, other.precision).to_dict()}
