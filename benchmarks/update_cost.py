"""What the forms of the weight update cost: the same FP16 training steps with each of them, and FP32's.

    python benchmarks/update_cost.py [--model resnet20] [--batch-size 128] [--rounds 21] [--device cpu]

SGD with momentum; turns of the contenders are interleaved in one process.
"""

from __future__ import annotations

import argparse
import json

from turns import images, step_seconds

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine.experiments.update_forms import FORMS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        backends.get(arguments.device).set_num_threads(arguments.threads)
    trainers = {
        form or "fp32": fe.Trainer(
            fe.models.create(arguments.model),
            "fp16" if form else "fp32",
            lr=0.01,
            momentum=0.9,
            device=arguments.device,
            update=form,
        )
        for form in (*FORMS, None)
    }
    seconds = step_seconds(trainers, images(arguments.batch_size), arguments.rounds)
    print(
        json.dumps(
            {
                "model": arguments.model,
                "batch_size": arguments.batch_size,
                "rounds": arguments.rounds,
                "step_ms": {name: round(1e3 * value, 2) for name, value in seconds.items()},
                "images_per_second": {n: round(arguments.batch_size / s) for n, s in seconds.items()},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
