"""An ONNX file run by onnxruntime on real images, and how its outputs differ from the network's own."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...floats import limits
from .writer import INPUT, OUTPUT

_BATCH = 64


@dataclass(frozen=True)
class Checked:
    """What a comparison of outputs found.

    Args:
        images: how many were compared.
        same_class: of how many the largest output is the same.
        difference: the largest difference of two outputs.
        ulp: the same in units in the last place of the largest output, in the coarser dtype of the two.
    """

    images: int
    same_class: int
    difference: float
    ulp: float


def available() -> bool:
    """Tell whether onnxruntime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def checked(path: Path, images: np.ndarray, logits: np.ndarray) -> Checked:
    """Run a file on the CPU and compare.

    Args:
        path: of the file.
        images: (N, H, W, C), in the dtype that the file takes.
        logits: (N, classes), float16, bfloat16 or float32: what the network gave for them.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = np.concatenate(
        [session.run([OUTPUT], {INPUT: images[at : at + _BATCH]})[0] for at in range(0, len(images), _BATCH)]
    )
    dtype = max(found.dtype, logits.dtype, key=lambda kind: float(limits(kind).eps))
    theirs, ours = found.astype(np.float64), logits.astype(np.float64)
    difference = float(np.abs(theirs - ours).max(initial=0.0))
    largest = np.abs(ours).max(initial=0.0).astype(dtype)
    same = int((theirs.argmax(1) == ours.argmax(1)).sum())
    return Checked(len(images), same, difference, difference / float(np.spacing(largest)))
