"""The check of a GPU without one: its parts run at tiny sizes, survive each other, and are not run twice."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def check() -> Iterator[Any]:
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("gpu_check.command")
    sys.path.remove(str(BENCHMARKS))


def module(name: str) -> Any:
    return importlib.import_module(f"gpu_check.{name}")


@pytest.fixture
def claims(check: Any) -> Any:
    return module("claims")


@pytest.fixture(scope="module")
def dry(check: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("dry")
    status = check.main(["--device", "cpu", "--dry", "--out", str(out)])
    return SimpleNamespace(out=out, status=status, result=json.loads((out / "gpu_check.json").read_text()))


def test_every_part_runs_or_says_that_it_needs_a_gpu(check: Any, dry: Any) -> None:
    found = dry.result["parts"]
    logs = {
        name: (dry.out / f"{name}.log").read_text() for name in found if (dry.out / f"{name}.log").exists()
    }
    assert dry.status == 0, {name: (part["reason"], logs.get(name)) for name, part in found.items()}
    assert set(found) == {part.name for part in check.PARTS}
    for part in check.PARTS:
        if part.needs_gpu:
            assert (found[part.name]["status"], found[part.name]["reason"]) == ("skipped", "needs a GPU")
        else:
            assert found[part.name]["status"] == "done" and found[part.name]["seconds"] > 0
            assert json.loads((dry.out / f"{part.name}.json").read_text()) == found[part.name]
    assert found["suite"]["result"]["counts"]["passed"] >= 1
    assert found["rates"]["result"]["copy"][0]["gb_per_s"] > 0
    assert len(found["kernels"]["result"]["kernels"]) > 40
    assert found["steps"]["result"]["models"]["dnn"]["contenders"]
    assert any("blocks of 32" in line for line in found["accumulators"]["result"]["own_sentences"])


SANITIZER = """#!/bin/sh
# --tool NAME [--target-processes all] --error-exitcode 9 COMMAND: finds every fault but "nothing"
while [ "${1#--}" != "$1" ]; do shift 2; done
case "$2" in bounds|race|divergent_barrier|unset) exit 9;; nothing) exit 0;; esac
exec "$@"
"""


@pytest.fixture(scope="module")
def made_up(check: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All parts on a GPU made of the simulator, with a compute-sanitizer that is none."""
    for compiled in ("_cpu", "_simt"):
        if importlib.util.find_spec(f"fp16engine.{compiled}") is None:
            pytest.skip(f"fp16engine.{compiled} is not built")
    out = tmp_path_factory.mktemp("fake")
    tool = out / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text(SANITIZER)
    tool.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
        check.main(["--fake", "--dry", "--out", str(out)])
    return SimpleNamespace(out=out, result=json.loads((out / "gpu_check.json").read_text()))


def test_all_parts_end_inside_the_budget_on_the_fakes(check: Any, made_up: Any) -> None:
    """Where the simulator is slow, a part may be out of time on a busy machine; none fails otherwise."""
    found = made_up.result["parts"]
    assert set(found) == {part.name for part in check.PARTS}
    assert sum(part["seconds"] for part in found.values()) <= 60 * check.MINUTES
    for name, part in found.items():
        late = name in ("suite", "captured", "steps", "baselines", "epochs") and part["status"] == "failed"
        expected = "not done after" if late else "None"
        log = (made_up.out / f"{name}.log").read_text()
        assert str(part["reason"]).startswith(expected), (name, part["reason"], log)
    assert {row["verdict"] for row in made_up.result["must_show"]} == {"awaiting"}
    assert json.loads((made_up.out / "device_properties.json").read_text())
    assert found["plans"]["result"]["plans"] and found["plans"]["result"]["implementations"]
    for tool in module("tests").FAULTS:
        result = found[tool]["result"]
        assert list(result["control"].values()) == [True, True] and result["counts"]["passed"] >= 1


def test_a_tool_that_misses_its_planted_fault_proves_nothing(
    check: Any, claims: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tests = module("tests")
    monkeypatch.setattr(tests, "tool", lambda name: "/bin/true")
    monkeypatch.setattr(tests, "planted", lambda run: "planted")
    monkeypatch.setattr(tests, "pytest", lambda *a, **k: pytest.fail("the tests were run all the same"))
    saved: list[dict[str, Any]] = []
    tests.sanitizer(SimpleNamespace(fake=False, save=saved.append), "racecheck")
    assert saved[-1]["failed"] == "racecheck is wrong about the planted fault: race"
    parts = {"racecheck": {"status": "failed", "result": saved[-1]}}
    (row,) = [row for row in claims.must_show(parts, dry=False) if "racecheck" in row["what"]]
    assert (row["measured"], row["verdict"]) == ("wrong about race", "fail")


def test_what_is_missing_comes_from_the_folder_of_wheels(
    check: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """nvcc and compute-sanitizer too; of what the machine has, nothing is installed a second time."""
    build = module("build")
    names = (*build.MODULES.values(), *build.COMPILER, build.SANITIZER, "nvidia-cublas", "rich")
    for name in (*names, "nvidia-cudnn-frontend", "something-else"):
        (tmp_path / f"{name.replace('-', '_')}-1.0-py3-none-any.whl").touch()
    monkeypatch.setattr(build, "tool", lambda name: None)
    monkeypatch.setattr(build, "header_folders", lambda: [])
    monkeypatch.setattr(build, "version", lambda name: "1" if name == "nvidia_cublas" else None)
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: name == "numpy" or None)
    ran: list[list[str]] = []
    monkeypatch.setattr(build.subprocess, "run", lambda argv, check: ran.append(argv))
    there = build.prepare_packages(SimpleNamespace(wheels=tmp_path))
    assert {*build.COMPILER, build.SANITIZER, "cupy-cuda13x", "nvidia-cudnn-frontend", "rich"} <= set(there)
    assert not {"numpy", "nvidia_cublas", "something-else"} & set(there)
    assert "--no-index" in ran[-1] and ran[-1][-len(there) :] == there
    assert build.prepare_packages(SimpleNamespace(wheels=None)) == []


def test_a_dry_run_passes_no_verdict(dry: Any) -> None:
    assert {row["verdict"] for row in dry.result["must_show"]} == {"awaiting"}
    text = (dry.out / "gpu_check.md").read_text()
    assert "nothing is measured" in text and "| kernels | every kernel" in text


def test_what_is_done_is_not_run_again(check: Any, dry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run_part(part: Any, options: Any, limit: float) -> dict[str, Any]:
        ran.append(part.name)
        return {"status": "failed", "seconds": 1.0, "reason": "asked to", "result": None}

    before = (dry.out / "rates.json").read_text()
    monkeypatch.setattr(check, "run_part", run_part)
    same = ["--device", "cpu", "--dry", "--out", str(dry.out)]
    assert check.main(same) == 0
    assert ran == []
    assert check.main([*same, "--again", "rates"]) == 1
    assert ran == ["rates"]
    assert check.main(same) == 1  # what failed is tried again
    assert ran == ["rates", "rates"]
    (dry.out / "rates.json").write_text(before)


def _options(out: Path) -> Any:
    return SimpleNamespace(device="cpu", dry=True, fake=False, out=out, wheels=None)


@pytest.mark.parametrize(
    ("script", "status", "reason", "result"),
    [
        (
            "import sys; sys.exit('the driver fell over')",
            "failed",
            "ended with status 1: the driver fell over",
            None,
        ),
        ("import os; os.kill(os.getpid(), 11)", "failed", "ended with status -11", None),
        ("SAVE({'half': 1}); import time; time.sleep(60)", "failed", "not done after 2 s", {"half": 1}),
        ("SAVE({'failed': 'two tests'})", "failed", "two tests", {"failed": "two tests"}),
        ("SAVE({'all': 1})", "done", None, {"all": 1}),
        ("pass", "failed", "ended with status 0: no output", None),
    ],
)
def test_a_part_may_die_hang_or_fail(
    check: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: str,
    status: str,
    reason: str | None,
    result: Any,
) -> None:
    """Whatever a part does, its neighbours get their turn, and what it had found is kept."""
    save = "SAVE = lambda value: pathlib.Path(sys.argv[-1]).write_text(json.dumps(value))"
    body = f"import json, pathlib, sys\n{save}\n{script}\n"
    (tmp_path / "part.py").write_text(body)

    def command(part: Any, options: Any, result: Path, limit: float) -> list[str]:
        return [sys.executable, str(tmp_path / "part.py"), str(result)]

    monkeypatch.setattr(check, "command", command)
    found = check.run_part(check.Part("rates", "", 1, 1), _options(tmp_path), 2.0)
    assert found["status"] == status and found["result"] == result
    assert (found["reason"] or "").startswith(reason or "")


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("minutes", [None, 4.0, 60.0])
def test_the_budget_is_kept_whatever_parts_take(
    check: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, minutes: float | None
) -> None:
    """Every part takes all the time it gets: each has its least, and the last one ends in time."""
    now, limits = 0.0, {}

    def run_part(part: Any, options: Any, limit: float) -> dict[str, Any]:
        nonlocal now
        now += limit
        limits[part.name] = limit
        return {"status": "failed", "seconds": limit, "reason": "took long", "result": None}

    monkeypatch.setattr(check, "run_part", run_part)
    monkeypatch.setattr(check.time, "monotonic", lambda: now)
    options = ["--device", device, "--dry", "--out", str(tmp_path)]
    check.main(options + ([] if minutes is None else ["--minutes", str(minutes)]))
    assert check.MINUTES == 8 and now <= 60 * (minutes or check.MINUTES)
    assert sum(part.least for part in check.PARTS) == 480
    if minutes == 4.0:
        assert {"environment", "suite"} <= set(limits)
        return
    for part in check.PARTS:
        assert (part.needs_gpu and device == "cpu") or part.least <= limits[part.name] <= part.most
    assert all(part.least > check.GRACE for part in check.PARTS)
    assert minutes is None or all(
        limits[part.name] == part.most for part in check.PARTS if part.name in limits
    )


def test_what_was_found_before_is_not_lost(
    check: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {"part": "steps", "status": "failed", "seconds": 9.0, "result": {"models": {"vgg16": {}}}}
    (tmp_path / "steps.json").write_text(json.dumps(found))
    dies = {"status": "failed", "seconds": 1.0, "reason": "died at once", "result": None}
    monkeypatch.setattr(check, "run_part", lambda part, options, limit: dict(dies))
    options = ["--device", "cpu", "--dry", "--out", str(tmp_path), "--parts", "steps"]
    for minutes in ("2", "0.00001"):
        check.main([*options, "--minutes", minutes])
        assert json.loads((tmp_path / "steps.json").read_text())["result"] == found["result"]


def test_a_network_is_not_lost_with_a_peer_that_takes_too_long(
    check: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    networks = module("networks")
    monkeypatch.setattr(networks, "NETWORKS", ("a", "b", "c"))
    answers: dict[str, Any] = {
        "a": {"contenders": [1], "peer": {"left_out": {"compiled": "TimeoutError: not done after 25 s"}}},
        "b": {"failed": "ended with status 1"},
        "c": {"contenders": [3], "peer": {"left_out": {}}},
    }
    asked: list[str] = []

    def engine(*argv: str) -> Any:
        asked.append(argv[argv.index("--model") + 1])
        assert float(argv[argv.index("--peer-seconds") + 1]) <= 100 / 3
        return dict(answers[asked[-1]])

    saved: list[dict[str, Any]] = [{}]
    run = SimpleNamespace(
        gpu=True,
        dry=False,
        left=lambda: 100.0,
        save=saved.append,
        engine=engine,
        before=lambda part: saved[-1],
    )
    networks.baselines(run)
    assert asked == ["a", "b", "c"] and set(saved[-1]["models"]) == {"a", "c"}
    assert saved[-1]["failed"] == "a, compiled: TimeoutError: not done after 25 s; b: ended with status 1"
    asked.clear()
    answers["b"] = answers["c"]
    answers["a"] = {"failed": "out of time"}
    networks.baselines(
        run
    )  # first what is missing, then what is not complete, which is kept until it is replaced
    assert asked == ["b", "a"] and set(saved[-1]["models"]) == {"a", "b", "c"}
    assert saved[-1]["models"]["a"]["contenders"] == [1]


def test_a_measurement_that_does_not_end_is_a_failure_of_its_own(
    check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = module("part")

    def hangs(argv: Any, timeout: float, **options: Any) -> Any:
        raise part.subprocess.TimeoutExpired(argv, timeout)

    monkeypatch.setattr(part.subprocess, "run", hangs)
    options = {"device": "cuda", "dry": False, "fake": False, "out": None, "wheels": None, "result": None}
    run = part.Run(SimpleNamespace(**options, seconds=7.4))
    found = run.engine("bench", "step")
    assert found == {"failed": "fp16engine bench step was not done after 7 s"}


def test_no_part_starts_without_time(check: Any, tmp_path: Path) -> None:
    assert check.main(["--device", "cpu", "--dry", "--out", str(tmp_path), "--minutes", "0.00001"]) == 0
    stored = json.loads((tmp_path / "rates.json").read_text())
    assert (stored["status"], stored["reason"]) == ("skipped", "no time left, run again")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--device", "cpu"], "--device must be cuda without --dry, got cpu"),
        (["--minutes", "0"], "--minutes must be a finite number > 0, got 0"),
        (["--minutes", "nan"], "--minutes must be a finite number > 0, got nan"),
        (["--fake"], "--fake must be with --dry and --device cuda, got cuda"),
        (["--wheels", "nowhere"], "--wheels must be a folder, got nowhere"),
        (["--parts", "sorting"], "invalid choice: 'sorting'"),
    ],
)
def test_wrong_command_lines(
    check: Any, capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as status:
        check.main(argv)
    assert status.value.code == 2 and words in capsys.readouterr().err


# --- the verdict, on made-up results of a GPU --------------------------------------------------------------


def _row(name: str, rate: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "images_per_second": rate, "lowest": rate, "highest": rate, **more}


def _parts() -> dict[str, Any]:
    contenders = [
        _row("fp16-captured", 1000.0, kernels_per_step=308, host_us_per_step=20.0),
        _row("fp32-captured", 500.0), _row("mp-captured", 700.0), _row("torch-amp", 400.0),
        _row("torch-compiled", 800.0), _row("torch-fp16", 800.0),
    ]  # fmt: skip
    models = {
        n: {"contenders": contenders, "goal_seconds_per_epoch": 60.0} for n in module("networks").NETWORKS
    }
    clean = {"counts": {"passed": 90}, "control": {"fault": True, "nothing": True}}
    epochs = {name: {"fp16": 1.0, "fp32": 1.7, "mp": 1.4} for name in models}
    kernel = {"family": "softmax", "kernel": "softmax", "size": "large", "share_of_copy": 0.93}
    results = {
        "suite": {"counts": {"passed": 900, "skipped": 3}},
        "build": {"module": {"device_properties": {"multiProcessorCount": 132}}},
        "rates": {"copy": [], "node_us": 1.3},
        "plans": {"plans": [{"first_us": 10.0, "quickest_us": 9.5}]},
        "epochs": {"seconds": epochs, "images": 50_000},
        **{tool: dict(clean) for tool in module("tests").FAULTS},
        "captured": {"steps": 50, "skipped_steps": 7, "trainings": {"fp16 resnet20": {}}},
        "kernels": {"kernels": [kernel], "failures": []},
        "steps": {"models": dict(models)},
        "baselines": {"models": dict(models)},
        "accumulators": {"library_sentences": ["matmul asked for float16 sums: float32"]},
    }
    return {name: {"status": "done", "result": result} for name, result in results.items()}


def test_everything_as_expected_passes(claims: Any) -> None:
    assert [row for row in claims.must_show(_parts(), dry=False) if row["verdict"] != "pass"] == []


@pytest.mark.parametrize(
    ("part", "change", "what"),
    [
        (
            "suite",
            {"failed": "pytest ended with status 1", "counts": {"failed": 1, "passed": 899}},
            "operations'",
        ),
        ("captured", {"failed": "mp: loss of step 3"}, "captured step against eager"),
        ("kernels", {"failures": [{"kernel": "softmax"}]}, "memory-bound"),
        (
            "kernels",
            {"kernels": [{"family": "pooling", "kernel": "p", "size": "large", "share_of_copy": 0.89}]},
            "memory-bound",
        ),
        (
            "baselines",
            {"models": {"resnet56": {"contenders": [_row("fp16", 1.0), _row("torch-amp", 0.6)]}}},
            "torch-amp",
        ),
        (
            "steps",
            {"models": {"resnet56": {"contenders": [_row("fp16-captured", 1.0, kernels_per_step=421)]}}},
            "kernels per step",
        ),
        (
            "steps",
            {"models": {"resnet32": {"contenders": [_row("fp16-captured", 1.0, host_us_per_step=31.0)]}}},
            "host time",
        ),
        (
            "steps",
            {"models": {"vgg16": {"contenders": [_row("fp16", 100.0)], "goal_seconds_per_epoch": 499.0}}},
            "epoch of 50 000",
        ),
        ("rates", {"node_us": 1.6}, "a node of"),
        ("plans", {"plans": [{"first_us": 10.0, "quickest_us": 9.0}]}, "first plan"),
        ("initcheck", {"control": {"unset": False, "nothing": True}}, "initcheck"),
        ("synccheck", {"failed": "pytest ended with status 9"}, "synccheck"),
        ("accumulators", {"failed": "1 of our binary16 sums"}, "accumulators"),
    ],
)
def test_what_falls_short_fails(claims: Any, part: str, change: dict[str, Any], what: str) -> None:
    parts = _parts()
    parts[part]["result"] |= change
    failed = [row["what"] for row in claims.must_show(parts, dry=False) if row["verdict"] == "fail"]
    assert len(failed) == 1 and what in failed[0]


def test_what_was_not_measured_is_awaiting(claims: Any) -> None:
    rows = claims.must_show({}, dry=False)
    assert {row["verdict"] for row in rows} == {"awaiting"} and {row["measured"] for row in rows} <= {
        "not run",
        "not measured",
    }
    parts = _parts()
    for part in ("steps", "baselines"):
        del parts[part]["result"]["models"]["vgg16"]
    rows = [row for row in claims.must_show(parts, dry=False) if row["what"].startswith("step against")]
    assert {row["verdict"] for row in rows} == {"awaiting"}  # eleven of twelve networks are no pass


def test_bits_that_differ_are_named(check: Any) -> None:
    bits = importlib.import_module("captured_bits")
    one = {
        "losses": np.array([0.0, 1.0]),
        "applied": [True, True],
        "arrays": {"model w": np.zeros(2, np.float16)},
    }
    assert bits.differences(one, one) == []
    other = {**one, "losses": np.array([-0.0, 1.0]), "arrays": {"model w": np.array([0, -0.0], np.float16)}}
    assert bits.differences(one, other) == ["loss of step 0", "model w"]
    assert bits.differences(one, {**one, "applied": [True, False]}) == ["which steps were applied"]


def test_counts_of_pytest_are_read_from_its_last_line(check: Any) -> None:
    parts = module("tests")
    text = "5 passed in a docstring\n= 1 failed, 20 passed, 3 skipped, 2 errors in 4.5s =\n"
    assert parts.counts(text) == {"failed": 1, "passed": 20, "skipped": 3, "errors": 2}
    assert parts.counts("") == {}


def test_two_eager_trainings_have_the_same_bits_and_skip_steps(check: Any) -> None:
    """Else the comparison of captured and eager steps would see a difference that is none, or no skip."""
    bits = importlib.import_module("captured_bits")
    skipped = 0
    for training in bits.TRAININGS[1:]:
        one, other = (bits.train("cpu", training, 4) for _ in range(2))
        assert bits.differences(one, other) == []
        assert any(name.startswith("optimizer ") for name in one["arrays"])
        assert np.isfinite(one["losses"]).all()
        skipped += one["applied"].count(False)
    assert skipped
