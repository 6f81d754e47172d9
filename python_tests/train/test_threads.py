"""Trainers and model builds in several threads of one process: the bits of one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import random
from fp16engine.numerics.audit import audit_step
from fp16engine.numerics.watch import watch
from fp16engine.observer import BackendCall, observe

pytestmark = pytest.mark.slow

DIGITS = fe.data.digits().limit(48)
# two at a time, so different that whatever one takes over from the other shows
RUNS: list[dict[str, Any]] = [
    {"precision": "fp16", "augment": "crop-flip", "update": "stochastic"},
    {"precision": "hbfp4-sr", "optimizer": "adam", "lr": 1e-3, "seed": 5},
]


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    """Call all of them at once, each in a thread of its own; return what they return."""
    results: list[Any] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(index: int) -> None:
        start.wait()
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def build(name: str, seed: int = 0) -> dict[str, bytes]:
    model = fe.models.create(name, image_size=8, channels=1, seed=seed)
    return {key: np.asarray(value).tobytes() for key, value in model.state_dict().items()}


def train(name: str, device: str, **options: Any) -> list[Any]:
    """Losses and final weights of two epochs of a network with dropout."""
    model = fe.models.create(name, image_size=8, channels=1, seed=options.get("seed", 0))
    net = fe.nn.Sequential(fe.nn.Dropout(0.1), model)
    trainer = fe.Trainer(net, device=device, **options)
    history = trainer.fit(DIGITS, 2, 16, progress=False)
    weights = [np.asarray(value).tobytes() for value in trainer.model.state_dict().values()]
    return [[record.train_loss for record in history.epochs], weights]


def test_two_trainers_with_different_policies_equal_serial() -> None:
    calls: list[Callable[[], Any]] = [partial(train, "vit8", "cpu", **options) for options in RUNS]
    serial = [call() for call in calls]
    for _ in range(3):
        assert together(calls) == serial


def test_two_model_builds_equal_serial() -> None:
    calls: list[Callable[[], Any]] = [partial(build, "resnet20", seed) for seed in (0, 1, 2)]
    serial = [call() for call in calls]
    for _ in range(5):
        assert together(calls) == serial


def test_a_thread_starts_from_the_seed_of_the_main_thread_and_keeps_its_own_state() -> None:
    outer = random.get_state()
    try:
        fe.manual_seed(7)
        random.generator()
        mine = random.get_state()

        def draw() -> tuple[dict[str, int], dict[str, int]]:
            first = random.get_state()
            fe.manual_seed(9)
            random.dropout_counter(8)
            return first, random.get_state()

        fresh = {"seed": 7, "stream": 0, "dropout": 0}
        assert together([draw, draw]) == [(fresh, {"seed": 9, "stream": 0, "dropout": 2})] * 2
        assert random.get_state() == mine
        with random.fork(3):  # a network built in the main thread is no seed for the others
            assert together([random.get_state]) == [fresh]
    finally:
        random.set_state(outer)
        fe.manual_seed(0)


class Meeting(fe.nn.Module):
    """Passes its input on, and lets another thread compute while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self._here, self._done = threading.Event(), threading.Event()

    def forward(self, x: fe.Tensor) -> fe.Tensor:
        self._here.set()
        assert self._done.wait(60)
        return x

    def compute_meanwhile(self) -> None:
        """What an FP32 network does in its own thread, while the other is in `forward`."""
        assert self._here.wait(60)
        net = fe.nn.Sequential(fe.nn.Flatten(), fe.nn.Linear(64, 10)).to("reference", "fp32")
        net(fe.tensor(np.ones((4, 8, 8, 1), np.float32), device="reference"))
        self._done.set()


@pytest.mark.parametrize("kind", ["observe", "watch", "audit"])
def test_what_one_thread_watches_is_its_own(kind: str) -> None:
    """A hook sees no call of another thread."""
    meeting = Meeting()
    net = fe.nn.Sequential(fe.nn.Flatten(), meeting, fe.nn.Linear(64, 10))
    trainer = fe.Trainer(net, "fp16", device="reference")
    images = DIGITS.normalised("train", "float16")[:4]
    seen: list[int] = []

    def around(*call: Any) -> Any:
        seen.append(threading.get_ident())
        return call[-1].run()

    def watched() -> set[int] | int:
        if kind == "audit":
            return len(audit_step(trainer, images, DIGITS.train.labels[:4]).float32_tensors())
        with observe(around) if kind == "observe" else watch(net, around):
            trainer.step(images, DIGITS.train.labels[:4])
        return set(seen) - {threading.get_ident()}

    assert together([watched, meeting.compute_meanwhile])[0] in (0, set())
    assert seen or kind == "audit"


def test_a_hook_of_one_thread_survives_that_of_another() -> None:
    """Hooks that open and close in another order than they nest take nothing from one another."""
    opened, closed = threading.Event(), threading.Event()
    net = fe.nn.Sequential(fe.nn.Flatten(), fe.nn.Linear(64, 10)).to("reference", "fp16")
    x = fe.tensor(DIGITS.normalised("train", "float16")[:4], device="reference")

    def counting(seen: list[str]) -> Callable[..., Any]:
        def around(call: BackendCall) -> Any:
            seen.append(call.op)
            return call.run()

        return around

    def first() -> int:
        seen: list[str] = []
        with observe(counting(seen)):
            opened.set()
            assert closed.wait(60)
            net(x)
        return len(seen)

    def second() -> int:
        assert opened.wait(60)
        seen: list[str] = []
        with observe(counting(seen)):
            net(x)
        closed.set()
        net(x)
        return len(seen)

    def alone() -> int:
        seen: list[str] = []
        with observe(counting(seen)):
            net(x)
        return len(seen)

    expected = alone()
    assert together([first, second]) == [expected, expected]
