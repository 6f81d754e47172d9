"""What must be shown of a GPU: every claim, what was measured of it, and whether that is enough."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean
from typing import Any

from gpu_check.networks import NETWORKS
from gpu_check.tests import FAULTS

Parts = dict[str, dict[str, Any] | None]
Finding = tuple[str, bool | None]  # in words; None: not known

# Families bound by memory, whose kernels must come near the rate of a copy where no cache helps.
MEMORY_BOUND = ("batch norm", "layer norm", "softmax", "softmax + cross-entropy", "pooling", "optimizer")
COPY_SHARE = 0.9
MOST_KERNELS = 308  # of ResNet-56, as docs/captured-step.md counts them without a GPU
MOST_HOST_MICROSECONDS = 30
MOST_NODE_MICROSECONDS = 1.5  # what the goals of bench.step take a kernel to cost
OVER_PLAN = 1.1
OVER_FP32, OVER_MP = 1.6, 1.3
PEERS = {"torch-amp": 2.0, "torch-fp16": 1.2, "torch-compiled": 1.2}
VERDICTS = {True: "pass", False: "fail", None: "awaiting"}


def must_show(parts: Parts, dry: bool) -> list[dict[str, Any]]:
    """Return a row per claim: what, expected, measured in words, verdict.

    The verdict is "pass", "fail", or "awaiting": not measured yet, or on a dry run.
    """
    rows: list[dict[str, Any]] = []

    def row(what: str, expected: str, found: Finding) -> None:
        measured, passed = found
        verdict = VERDICTS[None if dry else passed]
        rows.append({"what": what, "expected": expected, "measured": measured, "verdict": verdict})

    row("the operations' and training tests on the device", "all pass", _tests(parts, "suite"))
    row("captured step against eager, 50 steps, schedule, skips", "identical bits", _captured(parts))
    row("accumulators: what was asked for is what adds", "found and named", _accumulators(parts))
    row("the device as cuDNN sees it", "written down", _device(parts))
    row("a node of a CUDA graph", f"<= {MOST_NODE_MICROSECONDS} us", _node(parts))
    row("kernels per step, ResNet-56", f"<= {MOST_KERNELS}", _kernels(parts))
    row("host time per captured step", f"< {MOST_HOST_MICROSECONDS} us", _host(parts))
    row("epoch of 50 000 images, captured FP16", "<= the goal of each network", _goals(parts))
    for name, expected in PEERS.items():
        row(f"step against {name}", f">= {expected}x on each network", _over_peer(parts, name, expected))
    for name, expected in (("fp32", OVER_FP32), ("mp", OVER_MP)):
        row(f"step against our own {name}", f">= {expected}x on the mean", _over_own(parts, name, expected))
        row(f"epoch against our own {name}", f">= {expected}x on the mean", _epochs(parts, name, expected))
    row("the library's first plan", f"<= {OVER_PLAN}x the quickest, in all", _plans(parts))
    row("memory-bound kernels, 256 MB and more", f">= {COPY_SHARE:.0%} of the copy rate", _copy_share(parts))
    for tool in FAULTS:
        row(
            f"compute-sanitizer {tool} on the kernels",
            "finds a planted fault, else clean",
            _tool(parts, tool),
        )
    return rows


def result_of(parts: Parts, name: str) -> dict[str, Any] | None:
    """Return what a part has found, None if nothing."""
    found = parts.get(name)
    return found["result"] if found and found.get("result") else None


def _unknown(parts: Parts, name: str) -> Finding:
    found = parts.get(name)
    return ("not run" if found is None else found.get("reason") or found["status"]), None


def _known(parts: Parts, name: str, key: str) -> dict[str, Any] | None:
    result = result_of(parts, name)
    return result if result is not None and result.get(key) else None


def _tests(parts: Parts, name: str) -> Finding:
    result = _known(parts, name, "counts")
    if result is None:
        return _unknown(parts, name)
    numbers = ", ".join(f"{count} {word}" for word, count in result["counts"].items())
    return numbers, not result.get("failed")


def _tool(parts: Parts, name: str) -> Finding:
    control = (result_of(parts, name) or {}).get("control")
    if not control:
        return _unknown(parts, name)
    if not all(control.values()):
        return f"wrong about {', '.join(fault for fault, right in control.items() if not right)}", False
    words, passed = _tests(parts, name)
    return f"planted fault found; {words}", passed


def _captured(parts: Parts) -> Finding:
    result = result_of(parts, "captured")
    if result is None:
        return _unknown(parts, "captured")
    if "trainings" not in result:
        return result.get("skipped", "nothing compared"), None
    words = f"{result['steps']} steps of {', '.join(result['trainings'])}, {result['skipped_steps']} skipped"
    failed = result.get("failed")
    return words + (f"; {failed}" if failed else ": the same bits"), not failed


def _accumulators(parts: Parts) -> Finding:
    result = _known(parts, "accumulators", "library_sentences")
    if result is None:
        return _unknown(parts, "accumulators")
    return "; ".join(result["library_sentences"]), not result.get("failed")


def _device(parts: Parts) -> Finding:
    module = (result_of(parts, "build") or {}).get("module", {})
    properties = module.get("device_properties")
    return (f"{len(properties)} properties", True) if properties else _unknown(parts, "build")


def _node(parts: Parts) -> Finding:
    result = result_of(parts, "rates")
    if result is None:
        return _unknown(parts, "rates")
    node = result.get("node_us")
    return ("not measured", None) if node is None else (f"{node:.2f} us", node <= MOST_NODE_MICROSECONDS)


def contenders(parts: Parts, part: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what `steps` or `baselines` measured: network, contender's name, its row."""
    models = (result_of(parts, part) or {}).get("models", {})
    return {
        model: {row["name"]: row for row in found["contenders"]}
        for model, found in models.items()
        if "contenders" in found
    }


def _rate(rows: dict[str, dict[str, Any]], name: str) -> float | None:
    """Return a contender's images per second: captured, where that was measured."""
    row = rows.get(f"{name}-captured", rows.get(name))
    return row["images_per_second"] if row else None


def _ratios(parts: Parts, part: str, other: str) -> dict[str, float]:
    """Return by network how many times as fast as a contender our fp16 step is."""
    ratios = {}
    for model, rows in contenders(parts, part).items():
        mine, theirs = _rate(rows, "fp16"), _rate(rows, other)
        if mine and theirs:
            ratios[model] = mine / theirs
    return ratios


def _each(
    parts: Parts, part: str, values: dict[str, float], passes: Callable[[float], bool], unit: str
) -> Finding:
    """Judge a value per network: it fails with the first that falls short, and passes with all twelve."""
    if not values:
        return _unknown(parts, part) if result_of(parts, part) is None else ("not measured", None)
    words = ", ".join(f"{model} {value:.2f}{unit}" for model, value in values.items())
    if not all(map(passes, values.values())):
        return words, False
    return words, True if all(model in values for model in NETWORKS) else None


def _mean(parts: Parts, part: str, ratios: dict[str, float], expected: float) -> Finding:
    """Judge the mean of all twelve networks."""
    words, passed = _each(parts, part, ratios, lambda ratio: True, "x")
    if not ratios:
        return words, passed
    average = mean(ratios.values())
    return f"{words}; mean {average:.2f}x", passed and average >= expected


def _over_peer(parts: Parts, name: str, expected: float) -> Finding:
    ratios = _ratios(parts, "baselines", name)
    return _each(parts, "baselines", ratios, lambda ratio: ratio >= expected, "x")


def _over_own(parts: Parts, name: str, expected: float) -> Finding:
    return _mean(parts, "steps", _ratios(parts, "steps", name), expected)


def _epochs(parts: Parts, name: str, expected: float) -> Finding:
    seconds = (result_of(parts, "epochs") or {}).get("seconds", {})
    ratios = {
        model: found[name] / found["fp16"]
        for model, found in seconds.items()
        if name in found and found.get("fp16")
    }
    return _mean(parts, "epochs", ratios, expected)


def _goals(parts: Parts) -> Finding:
    models = (result_of(parts, "steps") or {}).get("models", {})
    over = {}
    for model, rows in contenders(parts, "steps").items():
        rate, goal = _rate(rows, "fp16"), models[model].get("goal_seconds_per_epoch")
        if rate and goal:
            over[model] = 50_000 / rate / goal
    return _each(parts, "steps", over, lambda share: share <= 1, " of the goal")


def _kernels(parts: Parts) -> Finding:
    found = {
        model: rows["fp16-captured"]["kernels_per_step"]
        for model, rows in contenders(parts, "steps").items()
        if rows.get("fp16-captured", {}).get("kernels_per_step") is not None
    }
    if not found:
        return _each(parts, "steps", {}, lambda value: True, "")
    words = ", ".join(f"{model} {value:.0f}" for model, value in found.items())
    return words, found["resnet56"] <= MOST_KERNELS if "resnet56" in found else None


def _host(parts: Parts) -> Finding:
    found = {
        model: rows["fp16-captured"]["host_us_per_step"]
        for model, rows in contenders(parts, "steps").items()
        if rows.get("fp16-captured", {}).get("host_us_per_step") is not None
    }
    return _each(parts, "steps", found, lambda value: value < MOST_HOST_MICROSECONDS, " us")


def _plans(parts: Parts) -> Finding:
    result = _known(parts, "plans", "plans")
    if result is None:
        skipped = (result_of(parts, "plans") or {}).get("skipped")
        return (skipped, None) if skipped else _unknown(parts, "plans")
    first, quickest = (sum(row[key] for row in result["plans"]) for key in ("first_us", "quickest_us"))
    words = f"{len(result['plans'])} plans: {first:.0f} us, the quickest {quickest:.0f} us"
    return f"{words}, {first / quickest:.2f}x", first <= OVER_PLAN * quickest


def _copy_share(parts: Parts) -> Finding:
    result = result_of(parts, "kernels")
    if result is None or "kernels" not in result:
        return _unknown(parts, "kernels")
    rows = [r for r in result["kernels"] if r["family"] in MEMORY_BOUND and r["size"] in ("large", "tiny")]
    if not rows:
        return "no large kernel was measured", None
    below = [r for r in rows if r["share_of_copy"] < COPY_SHARE]
    worst = min(rows, key=lambda r: r["share_of_copy"])
    least = f"{worst['kernel']} {100 * worst['share_of_copy']:.0f} %"
    return f"{len(rows) - len(below)} of {len(rows)}; least {least}", not below and not result["failures"]
