"""What the forms of the weight update cost: the same FP16 training steps with each of them, and FP32's.

    python benchmarks/update_cost.py [--model resnet20] [--batch-size 128] [--rounds 21] [--device cpu]

SGD with momentum; turns of the contenders are interleaved in one process.
"""

from __future__ import annotations

import json

from turns import asked, images, step_seconds

import fp16engine as fe
from fp16engine.experiments.standalone_fp16.update_forms import FORMS


def main() -> None:
    arguments = asked(__doc__, rounds=21)
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
