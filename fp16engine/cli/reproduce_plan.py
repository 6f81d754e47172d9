"""What `reproduce` says before it starts: how many runs, how long they take, and a smaller command."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .output import print_json, print_table

EPOCHS, IMAGES = 1, 2000  # of a reduced form; of translations, pairs


@dataclass(frozen=True)
class Plan:
    """The runs of a command line and their estimates.

    Args:
        rows: a run each: "model", "data", "precision", "seconds" (0: done, failed or impossible), "reason" it
            is impossible or None.
        small: the options that make a reduced form, and their values.
        small_seconds: how long the reduced form takes.
        instead: data sets that random images of their size take the place of.
        without_budget: the command takes no --budget.
    """

    rows: Sequence[dict[str, Any]]
    small: Mapping[str, int]
    small_seconds: float
    instead: Sequence[str] = ()
    without_budget: bool = True

    @property
    def seconds(self) -> float:
        """How long all runs take, one after the other."""
        return sum(row["seconds"] for row in self.rows)

    @property
    def open(self) -> int:
        """How many runs are to be done and can be."""
        return _open(self.rows)


def ends(arguments: argparse.Namespace, plan: Plan) -> bool:
    """Print the plan and return True for a dry run.

    Raises:
        ValueError: the runs take longer than a day, and the command line does not say that this is meant.
    """
    from ..reporting.progress import DAY, duration

    if arguments.dry_run:
        if arguments.json:
            print_json({"runs": plan.rows, "seconds": plan.seconds, "not_here": list(plan.instead)})
        else:
            _print(plan)
            if plan.seconds > DAY:
                print(f"A reduced form: {_reduced(plan, arguments.argv)}")
        return True
    if plan.seconds > DAY and not arguments.yes and arguments.budget is None:
        needed = "--yes" if plan.without_budget else "--yes or --budget TIME"
        raise ValueError(
            f"{needed} must be given for more than a day of work, got {duration(plan.seconds)} "
            f"for {plan.open:,} runs on this machine; a reduced form: {_reduced(plan, arguments.argv)}"
        )
    return False


def _open(rows: Sequence[dict[str, Any]]) -> int:
    return sum(row["seconds"] > 0 for row in rows)


def _print(plan: Plan) -> None:
    """Print the plan network by network: how many runs, done and to do, and how long."""
    from ..reporting.progress import duration

    cells = []
    for model, data in dict.fromkeys((row["model"], row["data"]) for row in plan.rows):
        group = [row for row in plan.rows if (row["model"], row["data"]) == (model, data)]
        about = duration(sum(row["seconds"] for row in group))
        cells.append((f"{model} on {data}", len(group), len(group) - _open(group), about))
    print_table(f"{len(plan.rows):,} runs", ("network", "runs", "done or failed", "left, about"), cells)
    refused = dict.fromkeys((row["precision"], row["reason"]) for row in plan.rows if row["reason"])
    for precision, reason in refused:
        print(f"{precision} cannot run: {reason}")
    for name in plan.instead:
        print(
            f"{name} is not here (--data-dir {name}=DIR, or --download): estimated with random images of its "
            "size, and no run of it counts as done."
        )
    print(f"\nIn all about {duration(plan.seconds)} for {plan.open:,} runs, one after the other.")


def _reduced(plan: Plan, argv: Sequence[str]) -> str:
    """Return the same command line made small, and how long it takes."""
    from ..reporting.progress import duration

    kept: list[str] = []
    words = iter(argv)
    for word in words:
        name, sign, _ = word.partition("=")
        if name in plan.small:
            if not sign:
                next(words)
        elif name not in ("--dry-run", "--yes"):
            kept.append(word)
    small = [part for name, value in plan.small.items() for part in (name, str(value))]
    return f"{shlex.join(['fp16engine', *kept, *small])} (about {duration(plan.small_seconds)})"
