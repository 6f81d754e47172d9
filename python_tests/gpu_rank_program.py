"""A rank with a fake GPU: `python gpu_rank_program.py FOLDER TRANSPORT JSON`, started as torchrun does.

Takes steps of the tiny network of tiny_run.py and writes FOLDER/rank-R.json, as rank_program.py.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import fake_gpu
import fake_nccl
import rank_program
import tiny_run

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine.backend.gpu.cuda import CudaBackend
from fp16engine.distributed import group

STEPS, IMAGES = 2, 8


def steps(at: Any = None, **options: Any) -> fe.Trainer:
    """The trainer after a few steps on the GPU; at: [rank, step, what], a signal before that step."""
    data = tiny_run.data()
    trainer = fe.Trainer(tiny_run.model(0.25), device="cuda", lr=0.05, seed=3, **options)
    images = data.normalised("train", "float32")
    for step in range(STEPS):
        if at is not None and at[:2] == [fe.distributed.rank(), step]:
            os.kill(os.getpid(), getattr(signal, at[2]))
        rows = slice(step * IMAGES, (step + 1) * IMAGES)
        trainer.step(images[rows], data.train.labels[rows])
    return trainer


def main() -> None:
    folder, transport, asked = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    gpu: Any = fake_gpu
    sys.modules["cupy.cuda.nccl"] = fake_nccl
    backends._loaded["cuda"] = CudaBackend(gpu.Native(), gpu, 0, "cuda")
    fe.distributed.init(transport, limit=asked.pop("limit", 60.0))
    trainer = steps(distributed=True, **asked)
    sent = sum(entry[0] == "get" for entry in fake_gpu.log)
    joined = group.transport()
    found = {
        "digest": rank_program.digest(trainer),
        "distributed": trainer.state.parallel.record(),
        "gets": sent,
        "here": None if joined is None else joined.peers.on_this_machine(),
    }
    (folder / f"rank-{fe.distributed.rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
