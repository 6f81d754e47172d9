"""What the predictions of compared runs say about one another: delta, Gamma and who agrees where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..numerics.tolerance import analyse, delta, gamma_sound
from .comparison import reference
from .report.page_plots import Scatter
from .runs.predictions import Predictions
from .runs.spec import PROBABILITIES

Points = dict[str, NDArray[np.float32]]  # probabilities (N, classes) of the test images, by precision


def tolerances(
    runs: list[dict[str, Any]], folders: list[Path], epochs: int
) -> tuple[list[dict[str, Any]], Points]:
    """Compare each finished run with the reference, after every epoch; also return the last probabilities."""
    stores = {
        run["precision"]: Predictions(folder / PROBABILITIES)
        for run, folder in zip(runs, folders, strict=True)
        if run["status"] == "finished"
    }
    last = {name: stores[name].load(epochs) for name in stores}
    points = {name: p for name, p in last.items() if p is not None}
    base, result = reference(points), []
    for other in points:
        if other == base or base not in points:
            continue
        rows = []
        for epoch in range(1, epochs + 1):
            p, q = (stores[name].load(epoch) for name in (base, other))
            if p is not None and q is not None and p.shape == q.shape:
                rows.append({"epoch": epoch, **analyse(p, q, base, other).to_dict()})
        final = analyse(points[base], points[other], base, other).to_dict()
        result.append({**final, "epochs": rows})
    return result, points


def main_tolerance(found: list[dict[str, Any]], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return `tolerance`: fp16 against fp32 if both are there, else the first pair, else None."""
    if found:
        first = next((t for t in found if t["other"] == "fp16"), found[0])
        kept = {key: value for key, value in first.items() if key not in ("epochs", "seed")}
        return {"tolerance": kept, "tolerance_reason": None}
    base = reference(run["precision"] for run in runs)
    base_run = next((run for run in runs if run["precision"] == base), None)
    if base_run is None:
        reason = f"{base} is not among the precisions, so there is no reference to compare with"
    elif base_run["status"] == "failed":
        reason = f"the {base} run failed, so there is no reference to compare with"
    else:
        reason = f"no other run than {base} finished"
    return {"tolerance": None, "tolerance_reason": reason}


def scatters(points: Points) -> list[Scatter]:
    """Return each pair's distances and margins, image by image, for the report."""
    base = reference(points)
    if base not in points:
        return []
    p, result = points[base], []
    for name, q in points.items():
        if name != base:
            far = delta(p, q)
            agree = np.isfinite(far) & (p.argmax(axis=1) == q.argmax(axis=1))
            result.append(Scatter(base, name, p, q, far, gamma_sound(p), agree))
    return result
