"""What a trainer shares with the other ranks of its run: the model's start, its batches, its settings."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend as backends
from .._version import __version__
from ..distributed.data_parallel import DataParallel
from ..distributed.parallel import Parallel
from ..distributed.sync_norm import synchronise
from . import checkpoint
from .checkpoint import Checkpoint
from .objective import own_rows
from .state import TrainState

if TYPE_CHECKING:
    from .trainer import Trainer

Array = Any


def join(state: TrainState, parallel: Parallel) -> None:
    """Let a state's steps be taken by these ranks."""
    state.parallel = parallel
    if isinstance(parallel, DataParallel) and parallel.sync_norm:
        synchronise(state.model, parallel)


def own_images(state: TrainState, images: Array) -> Array:
    """Of a step's images (N, H, W, C), those that this process takes."""
    if state.parallel.size == 1:
        return images
    rows = own_rows(state, images.shape[0])
    backend = backends.get(state.device)
    return backend.gather(images, backend.from_numpy(rows)) if len(rows) else images[:0]


def require_same(trainer: Trainer, settings: dict[str, Any]) -> None:
    """Raise ValueError where the ranks have different engines, networks, data or settings; all ranks call.

    settings: of the run, as its checkpoints hold them.
    """
    state = trainer.state
    if state.parallel.size == 1:
        return
    digest = hashlib.sha256()
    for array in state.model.state_dict().values():
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    state.parallel.require_same(
        {
            "version": __version__,
            "numpy": np.__version__,
            "machine": platform.machine(),
            "libraries": checkpoint.libraries(trainer.device),
            "precision": asdict(trainer.precision),
            "distributed": state.parallel.record(),
            "seed": trainer.seed,
            "training": state.record(),
            "model": checkpoint.describe_model(trainer.model),
            "run": settings,
            "weights": digest.hexdigest(),
            "steps": state.state_dict(),
        }
    )


def continue_with(trainer: Trainer, saved: Checkpoint) -> str | None:
    """Take over how many micro-batches a step of a distributed run's checkpoint has; what changes, in words.

    Raises CheckpointError where a choice that its bits follow is another one.
    """
    parallel, ours = trainer.state.parallel, trainer.state.parallel.record()
    theirs = saved.body.get("distributed")
    if theirs is None and ours is None:
        return None
    if theirs is not None and ours is not None:
        for choice in ("reduce", "sync_norm"):
            saved.refuse(checkpoint.first_difference(theirs.get(choice), ours[choice], choice))
    before = 1 if theirs is None else theirs.get("ranks")
    if before == parallel.size:
        return None
    kept = saved.body["training"].get("accumulate", 1)
    trainer.state.config = replace(trainer.config, accumulate=kept)
    chosen = theirs or ours or {}
    changes = []
    if chosen.get("sync_norm"):
        changes.append("norms take their statistics from as many micro-batches together as there are ranks")
    if chosen.get("reduce") != "one-rounding":
        changes.append(f"the sums of {chosen.get('reduce')} depend on the number of ranks")
    plural = "" if parallel.size == 1 else "s"
    return (
        f"resumed on {parallel.size} rank{plural}, saved by {before}: a step keeps its {kept} micro-batches; "
        + (" and ".join(changes) + ", so the bits change" if changes else "the bits stay the same")
    )
