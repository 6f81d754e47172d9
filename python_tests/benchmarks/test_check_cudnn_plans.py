"""What of the cuDNN check needs no cuDNN: which graphs it asks for, and what it writes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "check_cudnn_plans.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("check_cudnn_plans", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_graph_of_several_models_is_asked_for_once(script: Any) -> None:
    alone = script.expected(["resnet20"], 4)
    both = script.expected(["resnet20", "resnet32"], 4)
    assert [row["graph"] for row in both] == [row["graph"] for row in alone]
    inner = next(row for row in both if row["what"] == "conv 3x3/1 64->64 at 8x8, data gradient")
    assert inner["models"] == {"resnet20": 5, "resnet32": 9}
    assert set(inner["plans"]) == {"fp16, mp", "fp16-strict", "fp32", "tf32"}
    assert inner["graph"]["shape"][0] == 4
    passes = {row["graph"]["pass"] for row in both if row["graph"]["graph"] == "convolution"}
    assert passes == {"forward", "data gradient", "weight gradient"}


def test_strict_attention_is_products_of_every_head(script: Any) -> None:
    rows = script.expected(["vit-block"], 8)
    scores = next(row for row in rows if "attention scores" in row["what"])
    assert scores["graph"]["shape"] == [8 * 4, 25, 25, 64]
    assert list(scores["plans"]) == ["fp16-strict"]
    fused = next(row for row in rows if row["graph"]["graph"] == "attention")
    assert list(fused["plans"]) == ["fp16, mp"]


def test_files_hold_every_answer_and_name_what_has_none(script: Any, tmp_path: Path) -> None:
    rows = script.expected(["dnn"], 2)
    good = {"plans": 3, "offered": 3, "workspace": 2048, "engine": "eng", "compiled": True}
    none = {"plans": 0, "reason": "no engine | at all"}
    for row in rows:
        row["plans"] = {policy: [good, good] for policy in row["plans"]}
    rows[0]["plans"]["fp16, mp"][1] = none
    result = {
        "what": "", "cudnn": "9.19.0", "cudnn_frontend": "1.32.0", "batch": 2, "models": ["dnn"],
        "devices": ["A (sm_90)", "B (sm_80)"], "graphs": len(rows), "asked": 4 * len(rows),
        "without_plan": 1, "largest_workspace": 2048, "rows": rows,
    }  # fmt: skip
    script.save(result, tmp_path / "plans")
    stored = json.loads((tmp_path / "plans.json").read_text())
    assert stored["rows"][0]["plans"]["fp16, mp"] == [[3, 2048, 1], "no engine | at all"]
    text = (tmp_path / "plans.md").read_text()
    assert "3*, 2.0 KiB" in text and "**1 without a plan**" in text
    assert f"- {rows[0]['what']}, fp16, mp, B (sm_80): no engine" in text


def test_a_program_that_dies_is_a_sentence(script: Any) -> None:
    dies = [sys.executable, "-c", "import sys; print('{}'); sys.exit('cuDNN fell over')"]
    answers = script.ask(dies, [{}, {}])
    with pytest.raises(script.CannotRun, match="ended with status 1: cuDNN fell over"):
        list(answers)


def test_devices_have_every_property_cudnn_asks_for(script: Any) -> None:
    """9.28 refuses every graph for a device without the last two; 9.19 does not look at them."""
    known = json.loads((script.CSRC / "testing" / "devices.json").read_text())
    asked = {
        *("deviceVer", "deviceName", "multiProcessorCount", "maxSharedMemoryPerBlockOptin", "maxCtasPerSM"),
        *("maxThreadsPerSM", "totalGlobalMem", "smClockRateKHz", "l2CacheSize", "memClockRateKHz"),
        *("memoryBusWidth", "oversizedSharedMemoryPerBlock"),
    }
    for name in set(known) - {"about", "all"}:
        assert set(known[name]["properties"]) == asked
