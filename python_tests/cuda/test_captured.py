"""The captured step through the CUDA backend's own code: stream capture, graph, arena, account."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import nn
from fp16engine.data import Dataset, Split
from fp16engine.train import loop

BATCH = 8


def _data() -> Dataset:
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        images = rng.integers(0, 256, (count, 4, 4, 1)).astype(np.uint8)
        return Split(images, rng.integers(0, 3, count))

    return Dataset("tiny", split(3 * BATCH + 2), split(5), tuple("abc"))


def _run(capture: bool | None, **options: Any) -> tuple[Any, dict[str, bytes], Any]:
    fe.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4, activation="relu"),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64, 3),
    )
    trainer = fe.Trainer(model, "fp16", device="cuda", seed=2, capture=capture, lr=0.1, **options)
    history = trainer.fit(_data(), 2, BATCH, progress=False)
    state = {**model.state_dict(), **{k: v for k, v in trainer.optimizer.state_dict().items() if "." in k}}
    losses = [(record.train_loss, record.train_accuracy, record.lr) for record in history.epochs]
    return history, {name: np.asarray(value).tobytes() for name, value in state.items()}, losses


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_same_bits_and_one_launch_a_step(
    cuda: Any, gpu: Any, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    monkeypatch.setattr(loop, "TICK_SECONDS", 1e9)
    _, eager, eager_losses = _run(False, optimizer=optimizer)
    gpu.log.clear()
    history, captured, losses = _run(None, optimizer=optimizer)  # captured without being asked
    assert captured == eager and losses == eager_losses
    found = history.run["capture"]
    assert found["kernels_per_step"] > 20 and found["eager_steps"] == 2
    kinds = [entry[0] for entry in gpu.log]
    assert kinds.count("launch") == 2 * 3 - 1 and kinds.count("upload") == 1
    assert all(entry[1] is cuda.stream for entry in gpu.log if entry[0] in ("launch", "upload"))
    # the second epoch's three steps follow one another with nothing of the host between
    first = len(kinds) - 1 - kinds[::-1].index("launch") - 2
    assert kinds[first : first + 3] == ["launch"] * 3


def test_the_arena_goes_with_the_recording(cuda: Any) -> None:
    before = cuda.memory()["current"]
    history, _, _ = _run(True)
    arena = history.run["capture"]["arena_bytes"]
    assert history.peak_memory_bytes > before + arena > before
    del history
    gc.collect()
    assert cuda.memory()["current"] == before


def test_a_failed_capture_is_ended(cuda: Any, gpu: Any) -> None:
    x = cuda.from_numpy(np.ones(3, np.float16))

    def reads() -> None:
        cuda.to_numpy(x)

    plan = cuda.traced(reads)
    with pytest.raises(fe.errors.CaptureError, match="a value was read back to the host"):
        cuda.recorded(plan, reads)
    assert not cuda.recording
    assert cuda.to_numpy(cuda.binary("add", x, x)).tolist() == [2, 2, 2]
    recording = cuda.recorded(cuda.traced(lambda: cuda._fill(x, 5)), lambda: cuda._fill(x, 5))
    cuda._fill(x, 0)
    assert recording.kernels == 1
    recording.replay()
    assert cuda.to_numpy(x).tolist() == [5, 5, 5]


def test_any_allocation_may_fail(cuda: Any) -> None:
    """A full memory is a MemoryError and frees what the training held; the next one has the same bits."""
    _, expected, losses = _run(True)
    gc.collect()  # what other tests left
    before = cuda.memory()["current"]
    start = cuda._pool.allocations
    _run(True)
    needed = cuda._pool.allocations - start
    for n in range(1, needed + 1, max(needed // 4, 1)):  # also the first, those of the capture, and its arena
        cuda._pool.fails_at = cuda._pool.allocations + n
        with pytest.raises(MemoryError):
            _run(True)
        gc.collect()
        assert cuda.memory()["current"] == before and not cuda.recording
    _, again, later = _run(True)
    assert again == expected and later == losses
