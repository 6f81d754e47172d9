"""The command line's grammar: how a subcommand is added, its help, and errors in one sentence."""

from __future__ import annotations

import argparse
import re
import sys
from itertools import groupby
from typing import Any, NoReturn

from ..reporting.tables import wrapped
from . import suggest


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one sentence, without the usage text before it."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse; what is left over is refused here, by the subcommand that it was given to."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Print the error and leave with status 2."""
        message = re.sub(
            r"^(\S+): must ", r"\1 must ", suggest.known(message.removeprefix("argument "), self)
        )
        print(f"fp16engine: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


class Help(argparse.RawDescriptionHelpFormatter):
    """Wraps descriptions between words, keeps examples (indented lines), leaves room for long names."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"max_help_position": 30, **options})

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(" ".join(text.split()), width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for kept, group in groupby(text.splitlines(), lambda line: not line or line[0] == " "):
            if kept:
                lines += [part for line in group for part in _continued(line, width)]
            else:
                lines += wrapped(" ".join(group), width)
        return "\n".join(lines)


def _continued(line: str, width: int) -> list[str]:
    """Break an example between words where it is too long, so that it still can be copied."""
    if len(line) <= width:
        return [line]
    if not line.startswith("  fp16engine"):
        return wrapped(line, width, "    ")
    *first, last = wrapped(line, width - 2, "      ")
    return [*(f"{part} \\" for part in first), last]


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
