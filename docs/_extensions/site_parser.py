"""The parser of the command line, as the site shows it."""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction

from fp16engine.cli.commands import build


def parser() -> ArgumentParser:
    """Return the parser with each description on one line, which makes it a paragraph."""
    found = build()
    _unwrap(found)
    return found


def _unwrap(parser: ArgumentParser) -> None:
    parser.description = " ".join((parser.description or "").split())
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for command in action.choices.values():
                _unwrap(command)
