"""The data set that comes with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .dataset import Dataset, Split
from .origin import Origin

_FILE = Path(__file__).parent / "files" / "digits.npz"
_TRAIN = 1437


def digits() -> Dataset:
    """Return the 8x8 handwritten digits that come with the package, no file or network needed.

    Images are (N, 8, 8, 1), uint8, with the published values 0 .. 16, labels 0 .. 9. The split is fixed and
    stratified: 1 437 training and 360 test images.

    Source:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (test part), UCI, 1998, DOI
        10.24432/C50P49, CC BY 4.0; `files/README.md` says how the file was made.

    >>> from fp16engine.data import digits
    >>> digits()
    Dataset('digits', 1437 training and 360 test images of 8x8x1, 10 classes)
    """
    with np.load(_FILE, allow_pickle=False) as arrays:
        images, labels = arrays["images"][..., None], arrays["labels"]
    train, test = Split(images[:_TRAIN], labels[:_TRAIN]), Split(images[_TRAIN:], labels[_TRAIN:])
    return Dataset("digits", train, test, tuple("0123456789"), Origin("digits"))
