"""What the check has found, for people: Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpu_check.claims import Parts, contenders, result_of

EPOCH = 50_000  # images


def markdown(result: dict[str, Any], parts: Sequence[Any]) -> str:
    """Return the whole result: the claims, the parts, a table of each kind of measurement."""
    found = result["parts"]
    lines = [
        f"# {result['what'].capitalize()}: {result['device']}",
        "",
        f"{result['seconds']:.0f} s in all.",
        "",
    ]
    environment = result_of(found, "environment")
    if environment:
        gpus = "; ".join(environment["gpus"]) or "no GPU"
        versions = ", ".join(f"{name} {v}" for name, v in environment["packages"].items() if v)
        lines += [
            f"{gpus}; commit {environment['commit']}; nvcc {environment['nvcc']}; "
            f"Python {environment['python']}; {versions}",
            "",
        ]
    lines += ["| claim | expected | measured | verdict |", "|---|---|---|---|"]
    for row in result["must_show"]:
        verdict = "**fail**" if row["verdict"] == "fail" else row["verdict"]
        lines.append(f"| {row['what']} | {row['expected']} | {_cell(row['measured'])} | {verdict} |")
    lines += ["", "| part | what | state | s |", "|---|---|---|---|"]
    for part in parts:
        one = found.get(part.name)
        state = "not run" if one is None else one["status"]
        state += f": {one['reason']}" if one and one.get("reason") else ""
        lines.append(f"| {part.name} | {part.what} | {_cell(state)} | {one['seconds'] if one else ''} |")
    tables: tuple[Callable[[Parts], list[str]], ...] = (_rates, _steps, _baselines, _epochs, _plans, _kernels)
    for table in tables:
        lines += table(found)
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _table(title: str, columns: str) -> list[str]:
    return ["", f"## {title}", "", f"| {columns} |", "|---" * (columns.count("|") + 1) + "|"]


def _rates(parts: Parts) -> list[str]:
    result = result_of(parts, "rates")
    if result is None:
        return []
    lines = _table("Rates", "copy of | us | GB/s")
    lines += [
        f"| {row['megabytes']} MB | {row['us']:.1f} | {row['gb_per_s']:.0f} |" for row in result["copy"]
    ]
    if result["node_us"] is not None:
        lines += ["", f"A node of a graph: {result['node_us']:.2f} us ({result['node']})."]
    return lines


def _steps(parts: Parts) -> list[str]:
    return _contenders(parts, "steps", "Training step")


def _baselines(parts: Parts) -> list[str]:
    return _contenders(parts, "baselines", "Training step next to PyTorch's")


def _contenders(parts: Parts, part: str, title: str) -> list[str]:
    measured = contenders(parts, part)
    if not measured:
        return []
    models = (result_of(parts, part) or {})["models"]
    lines = _table(
        title, f"network | contender | images/s | range | s per {EPOCH} | goal | kernels | host us"
    )
    for model, rows in measured.items():
        goal = models[model].get("goal_seconds_per_epoch") or ""
        for row in rows.values():
            rate = row["images_per_second"]
            lines.append(
                f"| {model} | {row['name']} | {rate:,.0f} | {row['lowest']:,.0f} to {row['highest']:,.0f} | "
                f"{EPOCH / rate:.3f} | {goal} | {row.get('kernels_per_step') or ''} | "
                f"{_number(row.get('host_us_per_step'))} |"
            )
    return lines


def _epochs(parts: Parts) -> list[str]:
    result = result_of(parts, "epochs")
    if result is None or not result.get("seconds"):
        return []
    lines = _table(f"Seconds of an epoch of {result['images']} images", "network | fp16 | fp32 | mp")
    for model, found in result["seconds"].items():
        cells = (f"{found[name]:.3f}" if name in found else "" for name in ("fp16", "fp32", "mp"))
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return lines


def _plans(parts: Parts) -> list[str]:
    plans = (result_of(parts, "plans") or {}).get("plans")
    if not plans:
        return []
    lines = _table("Plans of convolutions and products", "kernel | array | first, us | quickest, us")
    for row in plans:
        lines.append(
            f"| {row['kernel']} | {row['shape']} | {row['first_us']:.1f} | {row['quickest_us']:.1f} |"
        )
    return lines


def _kernels(parts: Parts) -> list[str]:
    result = result_of(parts, "kernels")
    if result is None or "kernels" not in result:
        return []
    lines = _table(
        "Kernels",
        "kernel | size | array | us | GB/s | of copy | of floor | resident us | torch us | torch / ours",
    )
    for row in result["kernels"]:
        peer = row["peer"]
        theirs = f"{peer['us']:.1f} | {peer['ratio']:.2f}x" if peer else " | "
        lines.append(
            f"| {row['kernel']} | {row['size']} | {row['shape']} | {row['us']:.1f} | "
            f"{1e-9 * row['bytes_per_second']:.0f} | {100 * row['share_of_copy']:.0f} % | "
            f"{100 * row['share_of_floor']:.0f} % | {_number(row['resident_us'])} | {theirs} |"
        )
    return lines + [f"\nFailed: {row['size']} {row['kernel']}: {row['reason']}" for row in result["failures"]]
