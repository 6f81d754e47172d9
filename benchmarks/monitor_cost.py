"""What the monitor costs: the same training steps without it, between its samples, and sampled.

    python benchmarks/monitor_cost.py [--model resnet20] [--batch-size 128] [--rounds 9] [--device cpu]

Turns of the contenders are interleaved in one process. A turn is one step; `sampled` is a step that is looked
at, with the shadow of every fourth operation. The share of the run's time at one sample in N steps is
(sampled / plain - 1) / N.
"""

from __future__ import annotations

import json
from typing import Any

from turns import asked, images, step_seconds

import fp16engine as fe
from fp16engine.numerics.monitor import EVERY, Monitor


class Always(Monitor):
    """Looks at every step."""

    def due(self, trainer: Any) -> bool:
        return True


class Never(Monitor):
    """Is there, and never looks."""

    def due(self, trainer: Any) -> bool:
        return False


def main() -> None:
    arguments = asked(__doc__, rounds=9)
    trainers = {}
    for name, monitor in (("plain", None), ("between samples", Never()), ("sampled", Always())):
        model = fe.models.create(arguments.model, num_classes=10, image_size=32, channels=3)
        trainers[name] = fe.Trainer(model, "fp16", lr=0.01, device=arguments.device, monitor=monitor)
    middle = step_seconds(trainers, images(arguments.batch_size), arguments.rounds)
    extra = middle["sampled"] / middle["plain"] - 1
    print(
        json.dumps(
            {
                "model": arguments.model,
                "batch_size": arguments.batch_size,
                "rounds": arguments.rounds,
                "step_ms": {name: round(1e3 * value, 2) for name, value in middle.items()},
                "between_samples_share": round(middle["between samples"] / middle["plain"] - 1, 4),
                "a_sample_costs_steps": round(extra, 3),
                f"share_at_{EVERY}": round(extra / EVERY, 4),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
