"""A sweep on disk: packed, written, read again, refused when it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_sweep
from hypothesis import given
from hypothesis import strategies as st

from fp16engine.experiments.cluster import sweep as sweeps


@given(st.integers(0, 60), st.integers(1, 20))
def test_every_run_is_in_one_job_and_jobs_are_of_equal_size(runs: int, jobs: int) -> None:
    keys = [str(number) for number in range(runs)]
    packed = sweeps.pack(keys, jobs)
    assert sorted(key for job in packed for key in job) == sorted(keys)
    assert len(packed) == min(jobs, runs)
    assert not packed or max(map(len, packed)) - min(map(len, packed)) <= 1


def test_no_job_gets_one_network_of_every_seed() -> None:
    keys = [f"{model}{seed}" for seed in range(4) for model in "abcd"]
    assert all(len({key[0] for key in job}) == 4 for job in sweeps.pack(keys, 4))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    sweep, folder = tiny_sweep.made(tmp_path, options={"gpus": "1", "exclusive": None}, cluster="slurm")
    assert sweeps.Sweep.read(folder) == sweep
    assert sweeps.latest(tmp_path) == folder and sweeps.out_of(folder) == tmp_path
    assert sweeps.following(tmp_path).name == "sweep-0002"


def test_the_last_sweep_is_by_number(tmp_path: Path) -> None:
    for name in ("sweep-0002", "sweep-10000", "sweep-old", "sweep-0003"):
        folder = tmp_path / "cluster" / name
        folder.mkdir(parents=True)
        (folder / "sweep.json").touch()
    assert sweeps.latest(tmp_path).name == "sweep-10000"
    assert sweeps.latest(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 2),
        ("cluster", "moon"),
        ("specs", {}),
        ("specs", []),
        ("plans", {"tiny": [{}]}),
        ("jobs", [["nothing"]]),
        ("data", {"names": 1}),
    ],
)
def test_a_damaged_sweep_is_refused(tmp_path: Path, name: str, value: object) -> None:
    _, folder = tiny_sweep.made(tmp_path)
    path = folder / "sweep.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ValueError, match="must describe a sweep"):
        sweeps.Sweep.read(folder)


def test_runs_of_another_version_are_refused(tmp_path: Path) -> None:
    _, folder = tiny_sweep.made(tmp_path)
    path = folder / "sweep.json"
    document = json.loads(path.read_text())
    for spec in document["specs"].values():
        spec["results_version"] += 1
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="must describe runs of fp16engine"):
        sweeps.Sweep.read(folder)


@pytest.mark.parametrize("text", ["[]", "{", "nan", "[" * 10_000])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"x\.json must be"):
        sweeps.read_json(path)
