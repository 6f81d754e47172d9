"""`fp16engine bench kernels`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..experiments.report.labels import NOTHING
from ..experiments.runs.results_dir import write_json
from ..reporting.files import make_folder
from . import options
from .output import plain, print_json, print_table
from .parser import add_command

_SIZES = ("tiny", "in-situ", "large")
_PEERS = ("torch",)


def _sizes(text: str) -> list[str]:
    return [options.one_of(_SIZES)(part.strip()) for part in text.split(",")]


def add(kinds: Any) -> None:
    """Add the subcommand to those of `bench`."""
    kernels = add_command(
        kinds,
        "kernels",
        "every kernel against the time its bytes take at the machine's copy rate",
        "Measure every kernel family (norms, softmax, pooling, optimizers, products, ...) and set its "
        "time\nnext to the floor: the bytes it must move at the rate of a copy of the same size, or its "
        "arithmetic\nat the rate of a large matrix product, both measured in the same run. Sizes: in-situ "
        "(as in\nResNet-56, VGG-16 and ViT-8 at batch 256), large (arrays of 256 MB and more), tiny (for "
        "tests).",
        "  fp16engine bench kernels\n"
        "  fp16engine bench kernels --family 'batch norm,softmax' --peer torch\n"
        "  fp16engine bench kernels --device cuda --sizes in-situ,large --out kernels.json",
    )
    kernels.add_argument(
        "--sizes",
        type=_sizes,
        metavar="LIST",
        help="comma-separated (default: in-situ, on a GPU in-situ,large)",
    )
    kernels.add_argument("--family", metavar="LIST", help="only these, comma-separated (default: all)")
    kernels.add_argument(
        "--precision", type=options.precision, default="fp16", metavar="NAME", help="default: fp16"
    )
    kernels.add_argument(
        "--peer", type=options.one_of(_PEERS), metavar="NAME", help="torch: time PyTorch's same operation too"
    )
    kernels.add_argument(
        "--seconds", type=options.number(True), default=0.2, metavar="X", help="per kernel (default: 0.2)"
    )
    options.add_device(kernels)
    kernels.add_argument(
        "--out", type=options.new_file, metavar="FILE", help="write the result as JSON to this new file"
    )
    kernels.add_argument(
        "--json", action="store_true", help="print one JSON document on standard output, nothing else"
    )
    kernels.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry `bench kernels` out; status 1 if a kernel failed."""
    options.use_threads(arguments)
    if arguments.out is not None:
        make_folder(arguments.out.parent)
    from ..bench import kernels

    on_gpu = arguments.device.startswith("cuda")
    families = [part.strip() for part in arguments.family.split(",")] if arguments.family else None
    result = kernels.run(
        arguments.sizes or (["in-situ", "large"] if on_gpu else ["in-situ"]),
        device=arguments.device,
        precision=arguments.precision,
        families=families,
        peer=arguments.peer,
        seconds=arguments.seconds,
        note=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if arguments.json:
        print_json(result)
    else:
        _print(result)
    if arguments.out is not None:
        write_json(arguments.out, result)
    return 1 if result["failures"] else 0


def _print(result: dict[str, Any]) -> None:
    for row in result["copy"]:
        rate = row["bytes_per_second"] / 1e9
        print(f"Copy, {row['size']} ({row['bytes'] / 1e6:.1f} MB): {rate:.1f} GB/s read and written")
    products = result["products"]
    print(f"Product of {products['rows']} rows: {products['flops_per_second'] / 1e9:,.0f} GFLOP/s\n")
    head = (
        "kernel", "size", "largest array", "MB", "MFLOP", "floor us", "us", "range", "GB/s", "of copy",
        "of floor", "resident us", "torch us", "torch / ours",
    )  # fmt: skip
    rows = [
        (
            row["kernel"],
            row["size"],
            row["shape"],
            plain(row["bytes"] / 1e6, 1),
            plain(row["flops"] / 1e6, 1),
            plain(row["floor_us"], 1),
            plain(row["us"], 1),
            f"{row['lowest_us']:.1f} to {row['highest_us']:.1f}",
            plain(row["bytes_per_second"] / 1e9, 1),
            f"{100 * row['share_of_copy']:.0f} %",
            f"{100 * row['share_of_floor']:.0f} %",
            plain(row["resident_us"], 1),
            plain(row["peer"]["us"], 1) if row["peer"] else NOTHING,
            f"{row['peer']['ratio']:.2f}x" if row["peer"] else NOTHING,
        )
        for row in result["kernels"]
    ]
    print_table(f"Kernels of {result['device']}, {result['precision']}: medians", head, rows, left=3)
    for row in result["failures"]:
        print(f"failed: {row['size']} {row['kernel']}: {row['reason']}")
    if result["peer"] and not result["peer"]["available"]:
        print(f"No peer: {result['peer']['reason']}")
