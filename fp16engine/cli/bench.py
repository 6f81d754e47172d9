"""`fp16engine bench`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..experiments.report.labels import NOTHING
from ..experiments.runs.results_dir import write_json
from ..reporting.files import make_folder
from . import bench_kernels, options
from .output import megabytes, plain, print_json, print_table
from .parser import add_command

_PEERS = ("torch", "none")


def add(commands: Any) -> None:
    """Add the command and its subcommand."""
    parser = add_command(
        commands,
        "bench",
        "measure a training step, or the kernels",
        "Measurements of the engine on this machine.",
        "  fp16engine bench step\n  fp16engine bench kernels",
    )
    kinds = parser.add_subparsers(title="measurements", metavar="WHAT", required=True)
    step = add_command(
        kinds,
        "step",
        "a training step, against PyTorch where it is installed",
        "Measure a training step (forward, backward, SGD with momentum) under each precision, and of\n"
        "the same network in PyTorch where that is installed, turn by turn in one process: images per\n"
        "second, share of what the machine computes and copies at best, peak memory, and where the time\n"
        "goes, operation by operation and layer by layer. Images are synthetic.",
        "  fp16engine bench step\n"
        "  fp16engine bench step --model vit8 --batch-size 64 --peer none --out result.json",
    )
    step.add_argument("--model", default="resnet20", metavar="NAME", help="default: resnet20")
    step.add_argument("--batch-size", type=options.whole(1), default=128, metavar="N", help="default: 128")
    step.add_argument(
        "--image-size", type=options.whole(1), metavar="N", help="pixels (default: 32, of dnn 28)"
    )
    step.add_argument(
        "--precision",
        type=options.precisions,
        default=["fp16", "fp32", "mp"],
        metavar="LIST",
        help="comma-separated (default: fp16,fp32,mp)",
    )
    step.add_argument(
        "--peer",
        type=options.one_of(_PEERS),
        default="torch",
        metavar="NAME",
        help="torch: PyTorch's step too, if it is installed (default), or none",
    )
    step.add_argument(
        "--peer-seconds",
        type=options.number(True),
        metavar="X",
        help="leave out a step of the peer that is not ready, compiled, after so long (default: no limit)",
    )
    step.add_argument(
        "--rounds", type=options.whole(1), default=7, metavar="N", help="turns of each contender (default: 7)"
    )
    step.add_argument(
        "--seconds", type=options.number(True), default=1.0, metavar="X", help="length of a turn (default: 1)"
    )
    step.add_argument(
        "--capture", action="store_true", help="measure the captured step next to the eager one"
    )
    options.add_device(step)
    step.add_argument(
        "--out", type=options.new_file, metavar="FILE", help="write the result as JSON to this new file"
    )
    step.add_argument(
        "--json", action="store_true", help="print one JSON document on standard output, nothing else"
    )
    step.set_defaults(run=run)
    bench_kernels.add(kinds)


def run(arguments: argparse.Namespace) -> int:
    """Carry `bench step` out."""
    options.check_model(arguments.model, "--model")
    options.use_threads(arguments)
    if arguments.out is not None:
        make_folder(arguments.out.parent)
    from ..bench import step

    result = step.run(
        arguments.model,
        arguments.batch_size,
        arguments.precision,
        image_size=arguments.image_size,
        device=arguments.device,
        peer=arguments.peer,
        peer_seconds=arguments.peer_seconds,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        capture=arguments.capture,
        note=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if arguments.json:
        print_json(result)
    else:
        _print(result)
    if arguments.out is not None:
        write_json(arguments.out, result)
    return 0


def _print(result: dict[str, Any]) -> None:
    rates = {row["name"]: row["images_per_second"] for row in result["contenders"]}
    fp16 = rates.get("fp16-captured", rates.get("fp16"))
    on_gpu = result["machine"]["device"].startswith("cuda")
    rows = [
        (
            row["name"],
            row["batch_size"],
            _rate(row["images_per_second"]),
            f"{_rate(row['lowest'])} to {_rate(row['highest'])}",
            f"{row['step_ms']:.1f}",
            f"{fp16 / row['images_per_second']:.2f}x" if fp16 else NOTHING,
            _share(row["share_of_peak"]),
            _share(row["share_of_copy"]),
            megabytes(row["peak_memory_bytes"]),
            megabytes(row["scratch_bytes"]),
        )
        for row in result["contenders"]
    ]
    head = (
        "", "batch", "images/s", "range", "ms/step", "fp16 is", "of FP32 peak", "of copy rate", "peak memory",
        "of it scratch",
    )  # fmt: skip
    print_table(f"Training step of {result['model']}, medians of {result['rounds']} rounds", head, rows)
    for row in result["contenders"]:
        if row["host_us_per_step"] is not None:
            kernels = "" if row["kernels_per_step"] is None else f", {row['kernels_per_step']} kernels"
            print(f"{row['name']}: host {row['host_us_per_step']:.1f} us per step{kernels}")
    if on_gpu:
        _print_epochs(result)
    if result["memory_ratio_fp16_fp32"]:
        print(f"\nPeak memory of fp16 over fp32: {result['memory_ratio_fp16_fp32']:.2f}")
    _print_roofline(result)
    if result["peer"]:
        _print_peer(result["peer"])
    names = list(result["time"])
    _print_times(result, names, "operations", "op", lambda row: row["ms"], "Time by operation (ms per step)")
    _print_times(
        result, names, "layers", "layer", lambda row: row["forward_ms"] + row["backward_ms"],
        "Time by layer, forward and backward (ms per step)",
    )  # fmt: skip
    outside = ", ".join(f"{name} {result['time'][name]['python_ms']:.1f} ms" for name in names)
    print(f"\nOutside the backend (Python, and the timer itself): {outside}")
    if result["implementations"]:
        print("\nConvolution implementations chosen:")
        for line in result["implementations"]:
            print(f"  {line}")


def _print_roofline(result: dict[str, Any]) -> None:
    best, gflop = result["roofline"], result["flops_per_image"] / 1e9
    if best:
        print(
            f"\nThe machine at best: {best['multiply-adds'] / 1e9:,.0f} GFLOP/s of FP32 multiply-adds, "
            f"{best['copy'] / 1e9:.1f} GB/s read and written.\nAn image takes {gflop:.3g} GFLOP, "
            "convolutions as direct sums; Winograd's does with fewer."
        )


def _print_peer(peer: dict[str, Any]) -> None:
    if not peer["available"]:
        print(f"\nNo peer: {peer['reason']}")
        return
    found = [f"{name} ({how})" for name, how in peer["arrangements"].items()]
    print(f"\nPeer: {peer['name']} {peer['version']}: {', '.join(found)}")
    for name, reason in peer["left_out"].items():
        print(f"{name} is left out: {reason}")


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.0f} %"


def _print_epochs(result: dict[str, Any]) -> None:
    goal = result["goal_seconds_per_epoch"]
    epochs = ", ".join(f"{row['name']} {row['seconds_per_epoch']:.2f} s" for row in result["contenders"])
    print(f"\nAn epoch of 50 000 images at this rate: {epochs}" + (f"; the goal is {goal} s" if goal else ""))


def _rate(value: float) -> str:
    return plain(value, 1 if value < 100 else 0)


def _print_times(
    result: dict[str, Any], names: list[str], part: str, key: str, value: Any, title: str
) -> None:
    table: dict[str, dict[str, float]] = {}
    for name in names:
        for row in result["time"][name][part]:
            table.setdefault(row[key], {})[name] = value(row)
    rows = [(label, *(f"{times.get(name, 0):.2f}" for name in names)) for label, times in table.items()]
    print()
    print_table(title, ("", *names), rows)
