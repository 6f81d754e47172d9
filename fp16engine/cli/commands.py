"""The parser of the whole command line: every subcommand added."""

from __future__ import annotations

from .._version import __version__
from . import (
    bench,
    compare,
    doctor,
    evaluate,
    export,
    predict,
    preflight,
    reproduce,
    tolerance,
    train,
    translate,
)
from .parser import Help, Parser


def build() -> Parser:
    """Return the parser; after parsing, `arguments.run(arguments)` carries the command out."""
    parser = Parser(
        prog="fp16engine",
        formatter_class=Help,
        description="Train neural networks entirely in binary16 (FP16), and measure what that costs.",
        epilog="examples:\n"
        "  fp16engine doctor                           what this machine can do\n"
        "  fp16engine compare                          FP16, FP32 and mixed precision on digits\n"
        "  fp16engine train --data mnist --data-dir D  one run\n"
        "  fp16engine predict RUN photo.jpg            what a trained network says of an image\n\n"
        "precisions: fp32, fp16, fp16-strict, fp16-chunk<n>, mp; bf16, bf16-sr (on a CPU); hbfp<m> and "
        "booster (block floating point); tf32 (on a GPU).\n"
        "devices: cpu; cuda, cuda:1 (a GPU); reference (NumPy).\n\n"
        "Exit status: 0 done, 1 the run failed, 2 the command line or an input was wrong, 130 stopped by "
        "Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fp16engine {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (
        doctor, preflight, train, compare, evaluate, predict, export, tolerance, reproduce, bench, translate,
    ):  # fmt: skip
        command.add(commands)
    return parser
