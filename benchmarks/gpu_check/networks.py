"""The parts that train networks: single steps, next to PyTorch's, and whole epochs."""

from __future__ import annotations

import os
import time
from typing import Any

from gpu_check.part import BUILD, Run

# The twelve of the study's Table 2, those first that differ most in what bounds them.
NETWORKS = (
    "resnet56", "vgg16", "densenet121", "vit8", "mobilenetv2", "alexnet", "xception", "resnet110", "vgg19",
    "resnet32", "vit12", "densenet169",
)  # fmt: skip
PRECISIONS = ("fp16", "fp32", "mp")  # of Table 2
PEER_SHARE = 0.3  # of a network's time, for each of the peer's steps to be compiled


def names(run: Run) -> tuple[str, ...]:
    """Return the networks of a run: on a dry one, the smallest."""
    return ("dnn",) if run.dry else NETWORKS


def step(run: Run, model: str, *more: str) -> dict[str, Any]:
    """Measure a training step of a network."""
    size = ["--batch-size", "4", "--image-size", "8"] if run.dry else ["--batch-size", "256"]
    pace = ["--rounds", "1", "--seconds", "0.001"] if run.dry else ["--rounds", "5", "--seconds", "0.1"]
    precisions = ",".join([*PRECISIONS[:2], *(("tf32",) if run.gpu else ()), PRECISIONS[2]])
    capture = ["--capture"] if run.gpu else []
    return run.engine(
        "bench", "step", "--model", model, "--precision", precisions, *size, *pace, *capture, *more
    )


def steps(run: Run) -> None:
    """Our own step of each network, one after the other, as many as there is time for.

    What was measured before stays; a network that failed is measured again.
    """
    models: dict[str, Any] = dict(run.before("steps").get("models", {}))
    failed: dict[str, str] = {}
    for model in (m for m in names(run) if m not in models):
        found = step(run, model, "--peer", "none")
        if found.get("failed"):
            failed[model] = found["failed"]
        else:
            models[model] = found
        _save(run, models, failed)
    if not failed:
        _save(run, models, failed)


def baselines(run: Run) -> None:
    """The same steps next to PyTorch's: eager autocast, eager FP16, torch.compile.

    What was measured before stays; a network that failed, or whose peer was not ready in time, is measured
    again.
    """
    models: dict[str, Any] = dict(run.before("baselines").get("models", {}))
    # What torch.compile has compiled is kept, so that a run that was cut short continues from there.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(BUILD / "inductor"))
    waiting = [m for m in names(run) if m not in models]
    waiting += [m for m in names(run) if m in models and (models[m].get("peer") or {}).get("left_out")]
    failed: dict[str, str] = {}
    for position, model in enumerate(waiting):
        # Three of the four that wait longest for a compiler would leave nothing to the others.
        ready = max(PEER_SHARE * run.left() / min(len(waiting) - position, 4), 5)
        found = step(run, model, "--peer", "torch", "--peer-seconds", f"{ready:.0f}")
        if found.get("failed"):
            failed[model] = found["failed"]
        else:
            models[model] = found
            left_out = (found["peer"] or {}).get("left_out") or {}
            failed |= {f"{model}, {peer}": why for peer, why in left_out.items()}
        _save(run, models, failed)
    if not waiting:
        _save(run, models, failed)


def _save(run: Run, models: dict[str, Any], failed: dict[str, str]) -> None:
    reasons = "; ".join(f"{what}: {why}" for what, why in failed.items())
    run.save({"models": models, **({"failed": reasons} if reasons else {})})


def epochs(run: Run) -> None:
    """Two epochs of each network on random images as many and as large as CIFAR-10's, the second timed."""
    import fp16engine as fe
    from fp16engine.experiments import random_images

    limits = (16, 8) if run.dry else (None, None)
    data = random_images.of_size("mnist" if run.dry else "cifar10", *limits)
    seconds: dict[str, dict[str, float]] = dict(run.before("epochs").get("seconds", {}))
    for model in names(run):
        for precision in PRECISIONS:
            if precision in seconds.get(model, {}):
                continue
            net = fe.models.create(model, image_size=data.train.images.shape[1], channels=1 if run.dry else 3)
            trainer = fe.Trainer(net, precision=precision, momentum=0.9, device=run.device)
            start = time.perf_counter()
            history = trainer.fit(data, epochs=2, batch_size=8 if run.dry else 256, progress=False)
            print(model, precision, f"{time.perf_counter() - start:.1f} s", flush=True)
            seconds.setdefault(model, {})[precision] = history.epochs[-1].seconds
            run.save({"seconds": seconds, "images": len(data.train.labels)})
    run.save({"seconds": seconds, "images": len(data.train.labels)})
