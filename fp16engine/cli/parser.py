"""The command line's grammar: subcommands, and errors in one sentence."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from .._version import __version__


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one sentence, without the usage text before it."""

    def error(self, message: str) -> NoReturn:
        """Print the error and leave with status 2."""
        message = message.removeprefix("argument ")
        print(f"fp16engine: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


class Help(argparse.RawDescriptionHelpFormatter):
    """Keeps line breaks of descriptions and examples, and leaves room for long option names."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"max_help_position": 30, **options})


def build() -> Parser:
    """Return the parser; after parsing, `arguments.run(arguments)` carries the command out."""
    from . import bench, compare, doctor, evaluate, preflight, reproduce, tolerance, train, translate

    parser = Parser(
        prog="fp16engine",
        formatter_class=Help,
        description="Train neural networks entirely in binary16 (FP16), and measure what that costs.",
        epilog="examples:\n"
        "  fp16engine doctor                           what this machine can do\n"
        "  fp16engine compare                          FP16, FP32 and mixed precision on digits\n"
        "  fp16engine train --data mnist --data-dir D  one run\n\n"
        "Exit status: 0 done, 1 the run failed, 2 the command line or an input was wrong.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fp16engine {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (
        doctor, preflight, train, compare, evaluate, tolerance, reproduce, bench, translate,
    ):  # fmt: skip
        command.add(commands)
    return parser


def add_command(commands: Any, name: str, summary: str, description: str, examples: str) -> Parser:
    """Add a subcommand with its help text."""
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=Help,
        allow_abbrev=False,
    )
    return parser
