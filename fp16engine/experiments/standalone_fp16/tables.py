"""Tables 2 to 4 of the standalone FP16 study: ours next to the printed ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

from ..experiment import Arm, Case, Results, Spread
from ..report.labels import MINUS, label, short, superscript
from ..report.parts import Claim, Column, Part, Table
from ..report.verdict import capital, signed
from ..runs.store import DONE, FAILED, Row
from . import paper

Report = Callable[[Results], list[Part]]
_REFERENCE = "fp32"


def spread(value: Spread) -> str:
    """Write a share 0..1 as a percentage, with the deviation where there are several seeds: "76.0 ± 0.3"."""
    return written(100 * value.mean, None if value.std is None else 100 * value.std)


def written(middle: float, deviation: float | None) -> str:
    """Write a mean and a standard deviation."""
    return f"{middle:.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")


def power(value: float) -> str:
    """Write a power of ten: 1e-5 -> "10⁻⁵"; other numbers as they are."""
    mantissa, _, exponent = f"{value:e}".partition("e")
    if float(mantissa) != 1.0:
        return f"{value:g}"
    return "10" + superscript(int(exponent))


def _printed(value: tuple[float, float]) -> str:
    return written(*value)


def _times(value: float) -> str:
    return f"{value:.2f}x"


def _thousands(value: float) -> str:
    return f"{value:,.0f}"


def _millions(value: float) -> str:
    return f"{value / 1e6:.2f}"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f}"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def table2(results: Results) -> list[Part]:
    """Return Table 2: accuracies, speeds, and memory and inference, which the study left open."""
    rows = [_line(results, case) for case in results.cases]
    names = [arm.label for arm in results.arms]
    return [
        *_points(rows, names),
        Claim(_fallen(results)),
        _accuracies("table2", "Test accuracy, %", rows, names),
        *_speed_tables("table2", rows, names),
    ]


def _line(results: Results, case: Case) -> dict[str, Any]:
    """Return everything about one network as a row of raw values."""
    printed = paper.TABLE2.get(case.model)
    row: dict[str, Any] = {"model": case.model, "parameters": None}
    if printed:
        row["paper_parameters"] = printed.parameters
    for arm in results.arms:
        name = arm.label
        found = results.spread(case, name, "test_accuracy")
        counts = results.spread(case, name, "parameters")
        row["parameters"] = int(counts.mean) if counts else row["parameters"]
        row[f"{name}_accuracy"] = found
        row[f"{name}_loss"] = _loss(results.rows(case, name))
        row[f"{name}_failed"] = len(results.rows(case, name, FAILED)) or None
        for key in _MEASUREMENTS:
            measured = results.spread(case, name, key)
            row[f"{name}_{key}"] = measured.mean if measured else None
        if printed and name in printed.accuracy:
            row[f"paper_{name}_accuracy"] = printed.accuracy[name]
            row[f"paper_{name}_seconds"] = printed.seconds[name]
    ours = row.get("fp16_accuracy")
    for other in (arm.label for arm in results.arms if arm.label != "fp16"):
        theirs, rates = row.get(f"{other}_accuracy"), _rates(row, other)
        if ours and theirs:
            row[f"points_{other}"] = 100 * (ours.mean - theirs.mean)
        if rates:
            row[f"speed_{other}"] = rates
        if printed and other in printed.accuracy:
            row[f"paper_points_{other}"] = printed.accuracy["fp16"][0] - printed.accuracy[other][0]
            row[f"paper_speed_{other}"] = printed.seconds[other] / printed.seconds["fp16"]
    return row


_MEASUREMENTS = ("train_seconds", "images_per_second", "peak_memory_bytes", "inference_images_per_second")


def _rates(row: dict[str, Any], other: str) -> float | None:
    fast, slow = row.get("fp16_images_per_second"), row.get(f"{other}_images_per_second")
    return fast / slow if fast and slow else None


def _accuracies(name: str, title: str, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Table:
    columns = [
        Column("model", "model", left=True),
        Column("parameters", "ours", _millions, "parameters, M"),
        Column("paper_parameters", "paper", "{:.2f}".format, "parameters, M"),
    ]
    for arm in names:
        columns.append(Column(f"{arm}_accuracy", "ours", spread, capital(label(arm))))
        if any(f"paper_{arm}_accuracy" in row for row in rows):
            columns.append(Column(f"paper_{arm}_accuracy", "paper", _printed, capital(label(arm))))
    columns += _against(rows, "points", MINUS, signed)
    note = "Mean ± standard deviation over the seeds; one seed has no deviation. Paper: 50 seeds, 100 epochs."
    failed = [
        f"{row[f'{arm}_failed']} of {row['model']} in {label(arm)}"
        for row in rows
        for arm in names
        if row.get(f"{arm}_failed")
    ]
    if failed:
        note += f" Runs that failed (counted with the accuracy of their last state): {', '.join(failed)}."
    return Table(name, title, columns, rows, note)


def _against(rows: Sequence[dict[str, Any]], key: str, word: str, text: Callable[[Any], str]) -> list[Column]:
    """Return columns that set FP16 against the others, ours and the paper's, where there are values."""
    result = []
    for name in dict.fromkeys(name for row in rows for name in row if name.startswith(f"{key}_")):
        other = name.removeprefix(f"{key}_")
        group = f"FP16 {word} {short(other)}"
        result.append(Column(name, "ours", text, group))
        if any(f"paper_{name}" in row for row in rows):
            result.append(Column(f"paper_{name}", "paper", text, group))
    return result


def _speed_tables(name: str, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[Table]:
    speed = [Column("model", "model", left=True)]
    for arm in names:
        speed.append(Column(f"{arm}_train_seconds", "seconds", _seconds, capital(label(arm))))
        speed.append(Column(f"{arm}_images_per_second", "images/s", _thousands, capital(label(arm))))
    speed += _against(rows, "speed", "against", _times)
    use = [Column("model", "model", left=True)]
    for key, group, text in (
        ("peak_memory_bytes", "peak memory, MB", _megabytes),
        ("inference_images_per_second", "inference, images/s", _thousands),
    ):
        use += [Column(f"{arm}_{key}", short(arm), text, group) for arm in names]
    loss = [Column("model", "model", left=True)]
    loss += [Column(f"{arm}_loss", short(arm), _from_to, "first to last") for arm in names]
    return [
        Table(
            f"{name}-loss",
            "Training loss",
            loss,
            rows,
            "Mean of the first and of the last tenth of the logged training steps, first seed.",
        ),
        Table(
            f"{name}-speed",
            "Training time",
            speed,
            rows,
            "Seconds of training steps, without evaluation, mean over the seeds, one run after the other: "
            "what else the machine did is in them ('fp16engine bench step' takes steps in turn). The "
            "paper's ratios are of 100 epochs on an RTX 4080.",
        ),
        Table(
            f"{name}-memory",
            "Memory and inference",
            use,
            rows,
            "Peak of all tensors and work buffers while training; inference on the test set after the last "
            "epoch. Both are open questions of the study, so there is nothing printed to compare with.",
        ),
    ]


def _points(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[Claim]:
    """Say per precision how FP16 compares with it, on the mean of the networks."""
    findings = []
    for other in names:
        points = [row[f"points_{other}"] for row in rows if f"points_{other}" in row]
        if points:
            text = f"FP16 {MINUS} {label(other)}: {signed(mean(points))} points on the mean of {len(points)} "
            text += "networks" if len(points) > 1 else "network"
            if other in paper.TABLE2_POINTS:
                text += f" (paper {signed(paper.TABLE2_POINTS[other])})"
            findings.append(Claim(text + "."))
    return findings or [Claim("There is no pair of FP16 and another precision to compare yet.")]


def _ends(row: Row) -> tuple[float, float] | None:
    """Return the mean loss of the first and of the last tenth of a run's logged steps."""
    values = [loss for _, loss in row.figures.get("losses", ()) if loss is not None]
    if len(values) < 2:
        return None
    part = max(1, len(values) // 10)
    return mean(values[:part]), mean(values[-part:])


def _loss(rows: Sequence[Row]) -> tuple[float, float] | None:
    return _ends(rows[0]) if rows else None


def _from_to(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


def _fallen(results: Results) -> str:
    """Say in how many runs the loss fell and everything stayed finite."""
    done = [row for _, row in results.runs if row.status == DONE]
    fell = sum(ends[1] < ends[0] for row in done if (ends := _ends(row)) is not None)
    finite = sum(
        row.figures.get("nonfinite_steps") == 0 and row.figures.get("test_loss") is not None for row in done
    )
    return (
        f"The loss fell in {fell} of {len(done)} runs done; in {finite} every step and the result is finite."
    )


def table3(results: Results) -> list[Part]:
    """Return Table 3: accuracies and speed-ups with augmented images."""
    rows = []
    names = [arm.label for arm in results.arms]
    for case in results.cases:
        row: dict[str, Any] = {"model": case.model, "data": results_data(results, case)}
        for name in names:
            row[f"{name}_accuracy"] = results.spread(case, name, "test_accuracy")
            rate = results.spread(case, name, "images_per_second")
            row[f"{name}_images_per_second"] = rate.mean if rate else None
        row["speed"] = _rates(row, _REFERENCE)
        printed = paper.TABLE3.get(case.model)
        if printed:
            row |= {f"paper_{name}_accuracy": value for name, value in printed.accuracy.items()}
            row["paper_speed"] = printed.speed
        rows.append(row)
    columns = [Column("model", "model", left=True), Column("data", "data", left=True)]
    for name in names:
        columns.append(Column(f"{name}_accuracy", "ours", spread, capital(label(name))))
        if any(f"paper_{name}_accuracy" in row for row in rows):
            columns.append(Column(f"paper_{name}_accuracy", "paper", _printed, capital(label(name))))
    columns += [
        Column("speed", "ours", _times, "speed-up"),
        Column("paper_speed", "paper", _times, "speed-up"),
    ]
    note = "Test accuracy in %, mean ± standard deviation over the seeds; paper: 4 seeds, 300 epochs."
    return [
        Table("table3", "Test accuracy with augmentation, and FP16's speed against FP32", columns, rows, note)
    ]


def results_data(results: Results, case: Case) -> str:
    """Return what a case was trained on."""
    return next(planned.spec.data for planned, _ in results.runs if planned.case == case)


def table4(results: Results) -> list[Part]:
    """Return Table 4: accuracy by epsilon for each network and form of Adam, the printed line below."""
    rows, findings = [], []
    epsilons = sorted({_eps(arm) for arm in results.arms}, reverse=True)
    for case in results.cases:
        by_form: dict[str, dict[float, Spread | None]] = {}
        for arm in results.arms:
            form = arm.label.partition(",")[0]
            by_form.setdefault(form, {})[_eps(arm)] = results.spread(case, arm.label, "test_accuracy")
        for form, values in by_form.items():
            rows.append({"model": case.model, "form": form, **{f"{e:g}": values.get(e) for e in epsilons}})
        printed = paper.TABLE4.get(case.model)
        if printed:
            shares = {f"{e:g}": Spread(v / 100, None, 1) for e, v in printed.items() if e in epsilons}
            rows.append({"model": case.model, "form": "FP16, paper", **shares})
        findings += _adam_finding(case, by_form)
    columns = [Column("model", "model", left=True), Column("form", "Adam", left=True)]
    columns += [Column(f"{e:g}", power(e), spread, "eps") for e in epsilons]
    broken = sum(row.status == FAILED and "test_accuracy" in row.figures for _, row in results.runs)
    note = "Test accuracy in % after the last epoch."
    if broken:
        note += (
            f" {broken} runs failed because step after step was not finite; theirs is the accuracy of the "
            "weights they had, where any output was finite."
        )
    return [*findings, Table("table4", "Test accuracy by epsilon", columns, rows, note)]


def _adam_finding(case: Case, by_form: dict[str, dict[float, Spread | None]]) -> list[Claim]:
    ours, reference = by_form.get("FP16 native", {}), by_form.get("FP32", {})
    gaps = []
    for eps, one in ours.items():
        other = reference.get(eps)
        if one and other:
            gaps.append((100 * (one.mean - other.mean), eps))
    if not gaps:
        return []
    points, eps = max(gaps, key=lambda gap: abs(gap[0]))
    return [
        Claim(
            f"{case.model}: FP16-native Adam is within {abs(points):.1f} points of FP32 Adam at every eps "
            f"(furthest at {eps:g}, {signed(points)})."
        )
    ]


def _eps(arm: Arm) -> float:
    """Return the epsilon that an arm is called by; in binary16 it may be another number."""
    name = arm.label.rpartition("eps ")[2]
    return float(name) if name != arm.label else 0.0
