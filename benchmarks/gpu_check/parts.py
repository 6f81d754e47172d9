"""A part in a process of its own: python -m gpu_check.parts PART ...

A part writes a JSON object to --result, as often as it has found something more: what is there counts when
its time is over. The key "failed" holds a sentence if what it looked at is not as it should be.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gpu_check import build, machine, measure, networks, tests
from gpu_check.part import Run

PARTS: dict[str, Callable[[Run], None]] = {
    "environment": machine.environment,
    "build": build.build,
    "suite": tests.suite,
    "rates": measure.rates,
    "captured": measure.captured,
    "accumulators": measure.accumulators,
    "steps": networks.steps,
    "baselines": networks.baselines,
    "epochs": networks.epochs,
    "plans": measure.plans,
    "kernels": measure.kernels,
} | {tool: partial(tests.sanitizer, checked=tool) for tool in tests.FAULTS}


def main() -> int:
    parser = argparse.ArgumentParser(description="a part of benchmarks/gpu_check")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--fake", action="store_true")
    parser.add_argument("--wheels", type=Path)
    options = parser.parse_args()
    if options.fake:
        from gpu_check import fake

        fake.install()
    PARTS[options.part](Run(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
