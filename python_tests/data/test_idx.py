from __future__ import annotations

import gzip
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fp16engine.data import fashion_mnist, mnist
from fp16engine.data.idx import read_idx
from fp16engine.errors import DataError


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def sample(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (number, 5, 4), dtype=np.uint8), random.integers(
        0, 10, number, dtype=np.uint8
    )


def write_set(root: Path, end: str = ".gz", train: int = 7, test: int = 3) -> Path:
    for prefix, number in (("train", train), ("t10k", test)):
        images, labels = sample(number)
        write(root / f"{prefix}-images-idx3-ubyte{end}", idx_bytes(images))
        write(root / f"{prefix}-labels-idx1-ubyte{end}", idx_bytes(labels))
    return root


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3)), st.sampled_from(["x", "x.gz"]))
def test_round_trip(array, name):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / name, idx_bytes(array))
        np.testing.assert_array_equal(read_idx(path, array.ndim), array)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("folder", [".", "MNIST/raw"])
def test_loads_every_form(tmp_path, end, folder):
    write_set(tmp_path / folder, end)
    data = mnist(tmp_path)
    images, labels = sample(7)
    np.testing.assert_array_equal(data.train.images[..., 0], images)
    np.testing.assert_array_equal(data.train.labels, labels)
    assert (len(data.test), data.image_size, data.channels, data.name) == (3, (5, 4), 1, "mnist")
    assert data.classes == tuple("0123456789")


def test_dotted_names(tmp_path):
    write_set(tmp_path, "")
    for path in tmp_path.iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(mnist(str(tmp_path)).train) == 7


def test_fashion(tmp_path):
    data = fashion_mnist(write_set(tmp_path))
    assert (data.name, data.classes[9], len(data.classes)) == ("fashion_mnist", "Ankle boot", 10)


def test_single_sample(tmp_path):
    data = mnist(write_set(tmp_path, train=1, test=1))
    assert (len(data.train), len(data.test)) == (1, 1)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("kept", [0, 3, 15, 16, 17, 155])
def test_truncated(tmp_path, kept, end, fails):
    path = write(tmp_path / f"train-images-idx3-ubyte{end}", idx_bytes(sample(7)[0])[:kept])
    with fails(DataError, f"{path.name} must", str(kept if kept < 16 else kept - 16)):
        read_idx(path, 3)


@pytest.mark.parametrize("kept", [0, 5, 12, 40, -1])
def test_truncated_compression(tmp_path, kept, fails):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(sample(7)[0]))[:kept])
    with fails(DataError, path.name, "truncated"):
        read_idx(path, 3)


def test_corrupted_compression(tmp_path, fails):
    packed = bytearray(gzip.compress(idx_bytes(sample(40)[0])))
    for place in range(10, len(packed), 97):
        damaged = packed.copy()
        damaged[place] ^= 0xFF
        path = tmp_path / f"{place}.gz"
        path.write_bytes(damaged)
        with fails(DataError, f"{path.name} must"):
            read_idx(path, 3)


def test_not_gzip(tmp_path, fails):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(b"<html>not here</html>" * 9)
    with fails(DataError, path.name, "truncated or damaged"):
        read_idx(path, 3)


def test_wrong_magic(tmp_path, fails):
    write_set(tmp_path)
    labels, images = (tmp_path / f"train-{kind}-ubyte.gz" for kind in ("labels-idx1", "images-idx3"))
    images.write_bytes(labels.read_bytes())
    with fails(DataError, images.name, "2051", "got 2049"):
        mnist(tmp_path)


def test_floats_are_refused(tmp_path, fails):
    path = write(tmp_path / "x", struct.pack(">II", 0x0D01, 1) + bytes(4))
    with fails(DataError, "x", str(0x0D01), "2049"):
        read_idx(path, 1)


def test_too_long(tmp_path, fails):
    path = write(tmp_path / "x", idx_bytes(sample(7)[0]) + b"!")
    with fails(DataError, "x", "140 bytes", "(7, 5, 4)", "got more"):
        read_idx(path, 3)


def test_empty(tmp_path, fails):
    path = write(tmp_path / "x", struct.pack(">4I", 0x0803, 0, 28, 28))
    with fails(DataError, "x", "0 bytes", "(0, 28, 28)"):
        read_idx(path, 3)


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**20, 2**10, 2**10)])
def test_huge_header_is_not_believed(tmp_path, shape, fails):
    path = write(tmp_path / "x", struct.pack(">4I", 0x0803, *shape) + bytes(100))
    with fails(DataError, "x must", "got a header of"):
        read_idx(path, 3)


def test_bombs_take_no_memory(tmp_path, fails):
    bomb = bytes(1 << 26)
    after_header = write(tmp_path / "a.gz", struct.pack(">4I", 0x0803, 2, 5, 4) + bomb)
    claimed = write(tmp_path / "b.gz", struct.pack(">4I", 0x0803, 1 << 9, 1 << 7, 1 << 7) + bytes(1000))
    tracemalloc.start()
    try:
        with fails(DataError, "a.gz", "40 bytes", "got more"):
            read_idx(after_header, 3)
        with fails(DataError, "b.gz", "8388608 bytes", "got 1000"):
            read_idx(claimed, 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(bomb) // 16


def test_label_out_of_range(tmp_path, fails):
    write_set(tmp_path)
    write(tmp_path / "t10k-labels-idx1-ubyte.gz", idx_bytes(np.array([1, 10, 3], np.uint8)))
    with fails(DataError, "t10k-labels-idx1-ubyte.gz", "0 to 9", "got 10", "index 1"):
        mnist(tmp_path)


def test_counts_differ(tmp_path, fails):
    write_set(tmp_path)
    write(tmp_path / "train-labels-idx1-ubyte.gz", idx_bytes(np.zeros(6, np.uint8)))
    with fails(DataError, "train-labels-idx1-ubyte.gz", "7 images", "train-images", "got 6 labels"):
        mnist(tmp_path)


def test_image_sizes_differ(tmp_path, fails):
    write_set(tmp_path)
    write(tmp_path / "t10k-images-idx3-ubyte.gz", idx_bytes(np.zeros((3, 6, 6), np.uint8)))
    with fails(DataError, "mnist", "(6, 6, 1)", "(5, 4, 1)"):
        mnist(tmp_path)


def test_missing(tmp_path, fails):
    with fails(DataError, "mnist", "root", "train-images"):
        mnist()
    with fails(FileNotFoundError, "nowhere", "mnist"):
        mnist(tmp_path / "nowhere")
    with fails(FileNotFoundError, "train-images-idx3-ubyte"):
        mnist(tmp_path)
    (write_set(tmp_path) / "t10k-labels-idx1-ubyte.gz").unlink()
    with fails(FileNotFoundError, "t10k-labels-idx1-ubyte"):
        mnist(tmp_path)


def test_real_mnist(real_data):
    data = mnist(real_data("mnist"))
    assert (len(data.train), len(data.test), data.image_size) == (60_000, 10_000, (28, 28))
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    # The mean and std that are quoted for MNIST everywhere, in 0 .. 1.
    assert (round(data.mean / 255, 4), round(data.std / 255, 4)) == (0.1307, 0.3081)
