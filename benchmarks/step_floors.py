"""Count the nodes, bytes and FLOPs of captured steps without a GPU, and say what GPUs take for them.

Writes step_floors.json and step_floors.md: the twelve networks of the study and airbench94, with SGD with
momentum in fp16, and for each GPU the floor by its public rates and the estimate. Needs fp16engine._simt.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fp16engine as fe
from fp16engine.bench import captured_nodes, step_floor
from fp16engine.experiments.standalone_fp16.paper import TABLE2
from fp16engine.train.recipes import get

AIRBENCH = "airbench94"
RESULTS = Path(__file__).parent / "results"


def _row(model: str, batch_size: int) -> dict[str, Any]:
    trainer = fe.Trainer(fe.models.create(model), device="simt", momentum=0.9, capture=False)
    images = np.zeros((batch_size, 32, 32, 3), np.float16)
    counted = captured_nodes.count(trainer, images, np.zeros(batch_size, np.int64))
    return step_floor.row(model, batch_size, counted)


def text(rows: Sequence[dict[str, Any]]) -> str:
    """The page of results."""
    return f"""# What a captured step is, and what it takes at best

Written by `python benchmarks/step_floors.py`, counted on the simulated GPU: SGD with momentum, `fp16`. No
time here is measured. Nodes are kernels, copies and memsets of the graph, a library's call counted as one;
barriers are those of all blocks of a kernel. MB are what the nodes move where nothing stays in a cache,
GFLOP those of the products. Floor: for each node the longer of its bytes and its FLOPs at the GPU's public
rates (`fp16engine/bench/step_floor.py` names them); small networks, whose arrays stay in the L2 cache, can
beat it. Estimate: the floor, {step_floor.NODE_US} us a node and {step_floor.BARRIER_US} us a barrier, both
assumed; no kernel reaches the full rates, so a step takes longer. The goal is that of
`fp16engine.bench.step`.

{step_floor.markdown(rows)}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=[*TABLE2, AIRBENCH])
    parser.add_argument("--batch-size", type=int, default=256, help="of all networks but airbench94")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder to write to")
    given = parser.parse_args(arguments)
    rows = []
    for model in given.models:
        size = get(AIRBENCH).batch_size if model == AIRBENCH else given.batch_size
        rows.append(_row(model, size))
        print(f"{model}: {rows[-1]['nodes']} nodes", flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "step_floors.json").write_text(json.dumps(rows, indent=1) + "\n")
    (given.out / "step_floors.md").write_text(text(rows))


if __name__ == "__main__":
    main()
