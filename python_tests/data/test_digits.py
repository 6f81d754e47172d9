from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

import fp16engine.data
from fp16engine.data import digits

_FILES = Path(fp16engine.data.__file__).parent / "files"


def test_sizes_and_values():
    data = digits()
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.image_size == (8, 8) and data.channels == 1
    assert data.classes == tuple("0123456789")
    pixels = np.concatenate([data.train.images, data.test.images])
    assert (pixels.min(), pixels.max()) == (0, 16)


def test_split_is_stratified_and_without_overlap():
    data = digits()
    shares = np.bincount(data.test.labels) / np.bincount(
        np.concatenate([data.train.labels, data.test.labels])
    )
    assert (np.abs(shares - 0.2) < 0.02).all()
    assert (np.bincount(data.limit(100).train.labels, minlength=10) == 10).all()
    train = {image.tobytes() for image in data.train.images}
    assert not any(image.tobytes() in train for image in data.test.images)


def test_class_counts_are_the_published_ones():
    data = digits()
    counts = np.bincount(np.concatenate([data.train.labels, data.test.labels]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_file_is_the_documented_one():
    note = (_FILES / "README.md").read_text(encoding="utf-8")
    raw = (_FILES / "digits.npz").read_bytes()
    assert hashlib.sha256(raw).hexdigest() in note
    assert len(raw) < 60_000
    for word in ("CC BY 4.0", "Alpaydin", "Kaynak", "10.24432/C50P49"):
        assert word in note
