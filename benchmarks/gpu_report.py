"""What gpu_check.py found, as the table of what it must show and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

Parts = dict[str, dict[str, Any] | None]

# Families bound by memory, whose kernels must come near the rate of a copy where no cache helps.
MEMORY_BOUND = ("batch norm", "layer norm", "softmax", "softmax + cross-entropy", "pooling", "optimizer")
COPY_SHARE = 0.9
MOST_KERNELS = 308  # of ResNet-56, as docs/captured-step.md counts them without a GPU
MOST_HOST_MICROSECONDS = 30
OVER_EAGER, OVER_COMPILED, OVER_FP32, OVER_MP = 2.0, 1.2, 1.6, 1.3
SHOWN = ("resnet20", "resnet56", "alexnet", "vgg16")


def must_show(parts: Parts, dry: bool) -> list[dict[str, Any]]:
    """Return a row per thing to show: what, expected, measured in words, passed (None: not known)."""
    rows: list[dict[str, Any]] = []

    def row(what: str, expected: str, found: tuple[str, bool | None]) -> None:
        measured, passed = found
        rows.append(
            {"what": what, "expected": expected, "measured": measured, "passed": None if dry else passed}
        )

    row("the operations' and training tests on the device", "all pass", _tests(parts, "suite"))
    row("compute-sanitizer memcheck on the kernels", "clean", _tests(parts, "memcheck"))
    row("compute-sanitizer racecheck on the kernels", "clean", _tests(parts, "racecheck"))
    row("captured step against eager, 50 steps, schedule, skips", "identical bits", _captured(parts))
    row("memory-bound kernels, 256 MB and more", f">= {COPY_SHARE:.0%} of the copy rate", _copy_share(parts))
    for name, expected in (("torch-amp", OVER_EAGER), ("torch-compiled", OVER_COMPILED)):
        row(
            f"step against {name}",
            f">= {expected}x on each network",
            _over(parts, name, expected, every=True),
        )
    for name, expected in (("fp32", OVER_FP32), ("mp", OVER_MP)):
        row(
            f"step against our own {name}",
            f">= {expected}x on the mean",
            _over(parts, name, expected, every=False),
        )
    row("kernels per step, ResNet-56", f"<= {MOST_KERNELS}", _most(parts, "kernels_per_step", MOST_KERNELS))
    row(
        "host time per captured step",
        f"< {MOST_HOST_MICROSECONDS} us",
        _most(parts, "host_us_per_step", MOST_HOST_MICROSECONDS),
    )
    row("accumulators: what was asked for is what adds", "found and named", _accumulators(parts))
    return rows


def _result(parts: Parts, name: str) -> dict[str, Any] | None:
    found = parts.get(name)
    return found["result"] if found and found.get("result") else None


def _unknown(parts: Parts, name: str) -> tuple[str, bool | None]:
    found = parts.get(name)
    return ("not run" if found is None else found.get("reason") or found["status"]), None


def _tests(parts: Parts, name: str) -> tuple[str, bool | None]:
    result = _result(parts, name)
    if result is None or "counts" not in result:
        return _unknown(parts, name)
    numbers = ", ".join(f"{count} {word}" for word, count in result["counts"].items())
    return numbers or "no test ran", not result.get("failed")


def _captured(parts: Parts) -> tuple[str, bool | None]:
    result = _result(parts, "captured")
    if result is None:
        return _unknown(parts, "captured")
    if "trainings" not in result:
        return result.get("skipped", "nothing compared"), None
    words = f"{result['steps']} steps of {', '.join(result['trainings'])}, {result['skipped_steps']} skipped"
    return words + (f"; {result['failed']}" if result.get("failed") else ": the same bits"), not result.get(
        "failed"
    )


def _copy_share(parts: Parts) -> tuple[str, bool | None]:
    result = _result(parts, "kernels")
    if result is None or "kernels" not in result:
        return _unknown(parts, "kernels")
    rows = [r for r in result["kernels"] if r["family"] in MEMORY_BOUND and r["size"] in ("large", "tiny")]
    if not rows:
        return "no large kernel was measured", None
    below = [r for r in rows if r["share_of_copy"] < COPY_SHARE]
    worst = min(rows, key=lambda r: r["share_of_copy"])
    least = f"{worst['kernel']} {100 * worst['share_of_copy']:.0f} %"
    words = f"{len(rows) - len(below)} of {len(rows)}; least {least}"
    return words, not below and not result["failures"]


def _step_rates(parts: Parts) -> dict[str, dict[str, float]]:
    """Images per second by network and contender."""
    result = _result(parts, "steps")
    models = result["models"] if result else {}
    return {
        model: {row["name"]: row["images_per_second"] for row in found["contenders"]}
        for model, found in models.items()
        if "contenders" in found
    }


def ours(rates: dict[str, float]) -> float | None:
    """Return the rate of our fp16 step: the captured one where it was measured."""
    return rates.get("fp16-captured", rates.get("fp16"))


def _over(parts: Parts, name: str, expected: float, every: bool) -> tuple[str, bool | None]:
    """How many times as fast as a contender our fp16 step is; ours are taken captured, where they were."""
    ratios = {}
    for model, rates in _step_rates(parts).items():
        mine, theirs = ours(rates), rates.get(f"{name}-captured", rates.get(name))
        if mine and theirs:
            ratios[model] = mine / theirs
    if not ratios:
        return _unknown(parts, "steps")[0] if _result(parts, "steps") is None else "not measured", None
    words = ", ".join(f"{model} {ratio:.2f}x" for model, ratio in ratios.items())
    passed = min(ratios.values()) >= expected if every else mean(ratios.values()) >= expected
    complete = all(model in ratios for model in SHOWN)
    return words + ("" if every else f"; mean {mean(ratios.values()):.2f}x"), passed and (complete or None)


def _most(parts: Parts, key: str, most: float) -> tuple[str, bool | None]:
    result = _result(parts, "steps")
    if result is None:
        return _unknown(parts, "steps")
    found = {
        model: row[key]
        for model, measured in result["models"].items()
        for row in measured.get("contenders", ())
        if row["name"] == "fp16-captured" and row.get(key) is not None
    }
    if not found:
        return "not measured", None
    words = ", ".join(f"{model} {value:.0f}" for model, value in found.items())
    judged = {"resnet56": found["resnet56"]} if key == "kernels_per_step" and "resnet56" in found else found
    return words, max(judged.values()) <= most


def _accumulators(parts: Parts) -> tuple[str, bool | None]:
    result = _result(parts, "accumulators")
    if result is None or "library_sentences" not in result:
        return _unknown(parts, "accumulators")
    return "; ".join(result["library_sentences"]), not result.get("failed")


# --- Markdown ----------------------------------------------------------------------------------------------


def markdown(result: dict[str, Any], parts: Sequence[Any]) -> str:
    """Return the whole result for people."""
    lines = [
        f"# {result['what'].capitalize()}: {result['device']}",
        "",
        f"{result['seconds']:.0f} s in all.",
        "",
    ]
    environment = _result(result["parts"], "environment")
    if environment:
        gpus = "; ".join(environment["gpus"]) or "no GPU"
        versions = ", ".join(f"{name} {v}" for name, v in environment["packages"].items() if v)
        lines += [f"{gpus}; nvcc {environment['nvcc']}; Python {environment['python']}; {versions}", ""]
    lines += ["| part | what | state | s |", "|---|---|---|---|"]
    for part in parts:
        found = result["parts"].get(part.name)
        state = (
            "not run"
            if found is None
            else found["status"] + (f": {found['reason']}" if found.get("reason") else "")
        )
        lines.append(f"| {part.name} | {part.what} | {_cell(state)} | {found['seconds'] if found else ''} |")
    lines += ["", "| must show | expected | measured | |", "|---|---|---|---|"]
    for row in result["must_show"]:
        verdict = {True: "pass", False: "**fail**", None: ""}[row["passed"]]
        lines.append(f"| {row['what']} | {row['expected']} | {_cell(row['measured'])} | {verdict} |")
    tables: tuple[Callable[[Parts], list[str]], ...] = (_rates_table, _steps_table, _kernels_table)
    for table in tables:
        lines += table(result["parts"])
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _rates_table(parts: Parts) -> list[str]:
    result = _result(parts, "rates")
    if result is None:
        return []
    lines = ["", "## Rates", "", "| copy of | us | GB/s |", "|---|---|---|"]
    lines += [
        f"| {row['megabytes']} MB | {row['us']:.1f} | {row['gb_per_s']:.0f} |" for row in result["copy"]
    ]
    if result["node_us"] is not None:
        lines += ["", f"A node of a graph: {result['node_us']:.2f} us ({result['node']})."]
    return lines


def _steps_table(parts: Parts) -> list[str]:
    result = _result(parts, "steps")
    if result is None:
        return []
    lines = ["", "## Training step", ""]
    lines += [
        "| network | contender | images/s | range | s per 50 000 | goal | kernels | host us |",
        "|---" * 8 + "|",
    ]
    for model, found in result["models"].items():
        for row in found.get("contenders", ()):
            goal = found.get("goal_seconds_per_epoch")
            lines.append(
                f"| {model} | {row['name']} | {row['images_per_second']:,.0f} | {row['lowest']:,.0f} to "
                f"{row['highest']:,.0f} | {50000 / row['images_per_second']:.3f} | {goal or ''} | "
                f"{row.get('kernels_per_step') or ''} | {_number(row.get('host_us_per_step'))} |"
            )
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _kernels_table(parts: Parts) -> list[str]:
    result = _result(parts, "kernels")
    if result is None or "kernels" not in result:
        return []
    lines = ["", "## Kernels", ""]
    lines += [
        "| kernel | size | array | us | GB/s | of copy | of floor | resident us | torch us | torch / ours |",
        "|---" * 10 + "|",
    ]
    for row in result["kernels"]:
        peer = row["peer"]
        theirs = f"{peer['us']:.1f} | {peer['ratio']:.2f}x" if peer else " | "
        lines.append(
            f"| {row['kernel']} | {row['size']} | {row['shape']} | {row['us']:.1f} | "
            f"{1e-9 * row['bytes_per_second']:.0f} | {100 * row['share_of_copy']:.0f} % | "
            f"{100 * row['share_of_floor']:.0f} % | {_number(row['resident_us'])} | {theirs} |"
        )
    return lines + [f"\nFailed: {row['size']} {row['kernel']}: {row['reason']}" for row in result["failures"]]
