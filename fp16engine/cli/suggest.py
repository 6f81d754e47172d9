"""What a mistyped name probably was meant to be."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile

# Names that other tools have for our precisions.
_PRECISIONS = {
    "mixed": "mp",
    "amp": "mp",
    "mixed_float16": "mp",
    "float16": "fp16",
    "half": "fp16",
    "f16": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "f32": "fp32",
    "hbfp": "hbfp8",
    "bfloat16": "bf16",
}


def closest(text: str, names: Iterable[str]) -> str:
    """Return a question to append to a message, or nothing where no name is near.

    >>> closest("resnet2O", ["resnet20", "vgg16"])
    "; did you mean 'resnet20'?"
    """
    typed = text.lower()

    def likeness(name: str) -> tuple[float, int]:  # of equally near names the one that begins the same
        begin = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(typed, name, strict=False))))
        return difflib.SequenceMatcher(None, typed, name).ratio(), begin

    found = difflib.get_close_matches(typed, list(names), 8)
    return f"; did you mean {max(found, key=likeness)!r}?" if found else ""


def precision(text: str, names: Iterable[str]) -> str:
    """Return what to append to a message about an unknown precision."""
    name = text.lower()
    if re.match(r"(hbfp|fp16-chunk)\d", name):  # the message says which numbers there are
        return ""
    if name in _PRECISIONS:
        return f"; did you mean {_PRECISIONS[name]!r}?"
    return closest(text, [*names, "bf16", "bf16-sr", "hbfp8", "booster"])


def known(message: str, parser: argparse.ArgumentParser) -> str:
    """Append the nearest command or option to a message of argparse."""
    choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
    if choice:
        return message + closest(choice[1], re.findall(r"[\w-]+", choice[2]))
    option = re.match(r"unrecognized arguments: (--[\w-]+)", message)
    return message + (closest(option[1], _options(parser)) if option else "")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _options(command)
