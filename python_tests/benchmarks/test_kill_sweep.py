"""A small sweep of killed jobs has the store of an undisturbed one, on this machine and on Slurm."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import slurm_node

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("submitit") is None,
        reason="submitit is not installed: pip install 'fp16engine[cluster]'",
    ),
]

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_sweep.py"
NODE = Path(slurm_node.__file__)
NO_SLURM = slurm_node.missing()


@pytest.mark.parametrize(
    "cluster",
    ["local", pytest.param("slurm", marks=pytest.mark.skipif(NO_SLURM is not None, reason=str(NO_SLURM)))],
)
def test_a_sweep_of_killed_jobs_equals_an_undisturbed_one(cluster: str, tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--cluster", cluster, "--kills", "3", "--seeds", "2", "--jobs", "2"]
    node = [sys.executable, str(NODE)] if cluster == "slurm" else []
    done = subprocess.run(
        [*node, *words, "--folder", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["equal"] and result["runs"] == 6 and sum(result["disturbed"].values()) == 3
