"""The parts of the check, in the order of what they are worth, and the time that each gets."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_SECONDS = 10  # a part is not started with less time than this
GRACE = 5.0  # of its seconds, after those that a part is told and keeps itself where it can
MINUTES = 8.0


@dataclass(frozen=True)
class Part:
    """A part of the check: what it finds out, in how many seconds, and whether only a GPU can do it.

    Its `least` are kept for it while parts before it run; up to `most` are its own if those left some over.
    """

    name: str
    what: str
    least: int
    most: int
    needs_gpu: bool = False


def _sanitizer(tool: str) -> Part:
    return Part(
        tool, f"compute-sanitizer's {tool}: a planted fault, the kernels' tests", 14, 90, needs_gpu=True
    )


# All that is kept for them is eight minutes.
PARTS = (
    Part("environment", "device, driver, versions, headers, tools", 10, 20),
    Part(
        "build", "the CUDA module, for this GPU, unless it is there; the device's properties", 110, 180, True
    ),
    Part("suite", "the operations' and the training tests on the device", 60, 150),
    Part("rates", "copy bandwidth by size, cost of a node of a CUDA graph", 12, 30),
    Part("captured", "the captured step against the eager one, bit for bit", 20, 40),
    Part("accumulators", "which accumulator products and convolutions really use", 18, 40),
    Part("steps", "a training step of twelve networks in four precisions", 50, 240),
    Part("baselines", "the same steps next to PyTorch's", 60, 300),
    Part("epochs", "whole epochs of CIFAR-10's size, as Table 2 times them", 30, 150),
    Part("plans", "convolutions and products: the library's first plan against the quickest", 20, 60),
    Part("kernels", "every kernel against its floor and PyTorch's", 34, 150),
    _sanitizer("memcheck"),
    _sanitizer("racecheck"),
    _sanitizer("synccheck"),
    _sanitizer("initcheck"),
)
