"""Draws the pictures and pages of stored results again: the repository keeps their numbers only.

    python benchmarks/draw_results.py --out runs/results

reads benchmarks/results, or the folder that is given, and writes to the same folders under --out. It trains
nothing; the pictures need the extra `report`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fp16engine import BlockFormat
from fp16engine.experiments import study_pages, translation
from fp16engine.experiments.boosters import figures
from fp16engine.experiments.boosters import study as boosters
from fp16engine.experiments.boosters.distance import WeightDistance
from fp16engine.experiments.experiment import Arm, Case, Experiment, Planned, Results, plain_arms
from fp16engine.experiments.report import plots
from fp16engine.experiments.runs.spec import RunSpec
from fp16engine.experiments.runs.store import Store
from fp16engine.experiments.standalone_fp16 import study as standalone
from fp16engine.reporting.files import make_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
EXPERIMENTS = {**standalone.EXPERIMENTS, **boosters.EXPERIMENTS}


def draw(folder: Path, out: Path) -> None:
    """Draw into `out` what the files of a folder are the numbers of."""
    for file in sorted(folder.glob("*.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        if file.name == study_pages.RUNS_JSON:
            summary = json.loads((folder / study_pages.SUMMARY).read_text(encoding="utf-8"))
            draw_study(document, summary, out)
        elif "distances" in document:
            save(figures.draw_distances(distances(document)), out, file.stem)
        elif "losses" in document:
            save(figures.draw_landscapes(document["losses"]), out, document["name"])
            if "planes" in document:
                save(figures.draw_planes(document["planes"]), out, f"{document['name']}-plane")
        elif "curves" in document:
            save(plots.per_epoch(document["runs"], "loss"), out, translation.CURVES)


def save(figure: Figure, out: Path, name: str) -> None:
    """Write a picture that belongs to no page."""
    make_folder(out)
    plots.save(figure, out, name)


def draw_study(export: Mapping[str, Any], summary: Mapping[str, Any], out: Path) -> None:
    """Write the page of `fp16engine reproduce`, with the version and the date of its summary."""
    with Store(":memory:") as store:
        found = reported(export, [entry["name"] for entry in summary["experiments"]], store)
        study_pages.write_page(found, out, summary["version"], summary["finished"])


def reported(export: Mapping[str, Any], names: Sequence[str], store: Store) -> list[study_pages.Reported]:
    """Return the results of experiments that share the runs of an export, and what is made of them."""
    specs = enter(export, store)
    found = []
    for experiment in (EXPERIMENTS[name] for name in names):
        rows = [(one, store.row(one.spec.key)) for one in planned(experiment, specs)]
        results = Results(experiment, tuple((one, row) for one, row in rows if row is not None), store)
        found.append((results, experiment.report(results)))
    return found


def enter(export: Mapping[str, Any], store: Store) -> list[RunSpec]:
    """Enter an export into a store and return its runs; their keys are those that this version gives them."""
    specs = {run["key"]: RunSpec.of_document(run["spec"]) for run in export["runs"]}
    store.add(specs.values())
    for run in export["runs"]:
        key = specs[run["key"]].key
        store.claim([key])
        store.finish(key, run["status"], run["figures"], run["measured"], run["history"], run["reason"])
    for record in export["pairs"]:
        pair = {name: specs[record[name]] for name in ("reference", "other")}
        names = {name: spec.precision for name, spec in pair.items()}
        store.set_pair(pair["reference"].key, pair["other"].key, [{**record, **names}])
    return list(specs.values())


def planned(experiment: Experiment, specs: Sequence[RunSpec]) -> list[Planned]:
    """Return the plan that runs came from, in its order."""
    cases = {case.model: case for case in experiment.cases}
    models, arms = list(cases), [arm.label for arm in experiment.arms]

    def order(one: Planned) -> tuple[int, ...]:
        names = ((models, one.case.model), (arms, one.arm.label))
        return (one.spec.seed, *(known.index(name) if name in known else len(known) for known, name in names))

    found = []
    for spec in specs:
        case = cases.get(spec.model, Case(spec.model, experiment.cases[0].data))
        found.append(Planned(case, arm_of(experiment, spec), spec))
    return sorted(found, key=order)


def arm_of(experiment: Experiment, spec: RunSpec) -> Arm:
    """Return the arm that a run was trained in: the one with the most settings of those whose it has."""
    fitting = [
        arm
        for arm in experiment.arms
        if arm.precision == spec.precision and arm.training.items() <= spec.training.items()
    ]
    return max(fitting or plain_arms(spec.precision), key=lambda arm: len(arm.training))


def distances(document: Mapping[str, Any]) -> list[WeightDistance]:
    """Return how far block formats move the weights of every layer, as `hbfp-figure1` has it."""
    rows = document["distances"]
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    return [
        WeightDistance(
            row["layer"],
            layers.index(row["layer"]),
            len(layers),
            BlockFormat.named(row["format"]),
            row["distance"],
        )
        for row in rows
    ]


def main() -> None:
    """Draw everything and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "results", type=Path, nargs="?", default=RESULTS, help="(default: benchmarks/results)"
    )
    parser.add_argument("--out", type=Path, required=True, help="where pictures and pages go")
    arguments = parser.parse_args()
    for folder in sorted({file.parent for file in arguments.results.rglob("*.json")}):
        out = arguments.out / folder.relative_to(arguments.results)
        draw(folder, out)
        if out.exists():
            print(out)


if __name__ == "__main__":
    main()
