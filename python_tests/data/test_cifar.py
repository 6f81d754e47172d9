from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16engine.data import Dataset, archive, cifar, cifar10, cifar100
from fp16engine.data.unpickle import read_dict
from fp16engine.errors import DataError

_FORMS = [("cifar10", "python"), ("cifar10", "binary"), ("cifar100", "python"), ("cifar100", "binary")]
_LOAD = {"cifar10": cifar10, "cifar100": cifar100}
_PACKINGS = ["folder", "inside", "archive", "archive itself"]


def sample(number: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3072), planes in the order red, green, blue, and labels (N,)."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (number, 3072), dtype=np.uint8), random.integers(0, classes, number)


def python2_pickle(pixels: np.ndarray, labels: np.ndarray, key: bytes) -> bytes:
    """What Python 2 and NumPy 1 wrote: protocol 2, byte strings, the old module names."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    dtype = (
        b"cnumpy\ndtype\n("
        + text(b"u1")
        + b"K\x00K\x01tR(K\x03"
        + text(b"|")
        + b"NNN"
        + number(-1) * 2
        + b"K\x00tb"
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    state = b"(K\x01(" + number(len(pixels)) + number(3072) + b"t" + dtype + b"\x89"
    raw = pixels.tobytes()
    state += b"T" + struct.pack("<i", len(raw)) + raw + b"tb"
    entries = text(b"data") + array + state + text(key) + b"(" + b"".join(map(number, labels)) + b"l"
    return b"\x80\x02}(" + entries + b"u."


def pack(name: str, form: str, batch: tuple[np.ndarray, np.ndarray]) -> bytes:
    pixels, labels = batch
    if form == "python":
        return python2_pickle(pixels, labels, b"labels" if name == "cifar10" else b"fine_labels")
    columns = (
        [labels[:, None], pixels] if name == "cifar10" else [labels[:, None] % 20, labels[:, None], pixels]
    )
    return np.concatenate(columns, axis=1).astype(np.uint8).tobytes()


def make_files(name: str, form: str, number: int = 3) -> tuple[str, dict[str, bytes], list]:
    layout = next(item for item in cifar._LAYOUTS[name] if form in item.archive)
    classes = 10 if name == "cifar10" else 100
    batches = [sample(number, classes, seed) for seed in range(len(layout.train) + 1)]
    files = {
        file: pack(name, form, batch)
        for file, batch in zip((*layout.train, layout.test), batches, strict=True)
    }
    return layout.folder, files, batches


def tar_bytes(files: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info in extra:
            tar.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def write_archive(root: Path, name: str, form: str, extra: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    folder, files, _ = make_files(name, form)
    path = root / f"cifar-{name.removeprefix('cifar')}-{form}.tar.gz"
    path.write_bytes(
        gzip.compress(tar_bytes({f"{folder}/{file}": data for file, data in files.items()}, extra), 1)
    )
    return path


def write_set(root: Path, name: str, form: str, packing: str = "folder") -> Path:
    if packing.startswith("archive"):
        path = write_archive(root, name, form)
        return path if packing == "archive itself" else root
    folder, files, _ = make_files(name, form)
    (root / folder).mkdir()
    for file, data in files.items():
        (root / folder / file).write_bytes(data)
    return root / folder if packing == "inside" else root


@pytest.mark.parametrize("packing", _PACKINGS)
@pytest.mark.parametrize(("name", "form"), _FORMS)
def test_loads_every_form(tmp_path, name, form, packing):
    root = write_set(tmp_path, name, form, packing)
    before = sorted(tmp_path.rglob("*"))
    data = _LOAD[name](root)
    batches = make_files(name, form)[2]
    pixels, labels = (np.concatenate([batch[i] for batch in batches[:-1]]) for i in (0, 1))
    assert isinstance(data, Dataset) and (data.name, data.image_size, data.channels) == (name, (32, 32), 3)
    np.testing.assert_array_equal(data.train.labels, labels)
    np.testing.assert_array_equal(data.test.labels, batches[-1][1])
    for channel in range(3):
        plane = pixels[:, 1024 * channel : 1024 * (channel + 1)].reshape(-1, 32, 32)
        np.testing.assert_array_equal(data.train.images[..., channel], plane)
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked to disk


def test_class_names(tmp_path):
    assert cifar10(write_set(tmp_path, "cifar10", "binary")).classes[3] == "cat"
    names = cifar100(write_set(tmp_path, "cifar100", "binary")).classes
    assert len(set(names)) == 100 and list(names) == sorted(names)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("old_numpy", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_pickles_of_today(protocol, old_numpy, order):
    pixels = np.asarray(sample(4, 10, 0)[0], order=order)
    wide = np.arange(4, dtype=">i8")
    raw = pickle.dumps({"data": pixels, "labels": [1, 2, 3, 4], "wide": wide}, protocol)
    if old_numpy and protocol < 4:  # later protocols store the length of the name
        raw = raw.replace(b"numpy._core", b"numpy.core")
    entries = read_dict(raw, "batch")
    np.testing.assert_array_equal(entries["data"], pixels)
    np.testing.assert_array_equal(entries["wide"], wide)
    assert entries["labels"] == [1, 2, 3, 4]


class Hostile:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def hostile_pickles(marker: Path) -> dict[str, bytes]:
    import builtins
    import os

    command = f"echo > {marker}"
    return {
        "system": pickle.dumps({"data": Hostile(os.system, command), "labels": []}),
        "eval": pickle.dumps(Hostile(builtins.eval, f"open({str(marker)!r}, 'w')")),
        "getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nU\x03abctR.",
        "numpy.load": b"cnumpy\nload\n(U\x01xtR.",
        "ctypes": b"cnumpy.ctypeslib\nload_library\n(U\x01xU\x01ytR.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        "instance": b"(cos\nsystem\nU\x04echoos\nsystem\n.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"Pabc\n.",
    }


@pytest.mark.parametrize("kind", sorted(hostile_pickles(Path("x"))))
def test_hostile_pickle(tmp_path, kind, fails):
    marker = tmp_path / "ran"
    root = write_set(tmp_path, "cifar10", "python")
    (root / "cifar-10-batches-py" / "data_batch_2").write_bytes(hostile_pickles(marker)[kind])
    with fails(DataError, "data_batch_2", "must"):
        cifar10(root)
    assert not marker.exists()


def test_hostile_pickle_is_named(fails):
    import os

    with fails(DataError, "batch", f"{os.system.__module__}.system"):
        read_dict(pickle.dumps({"data": Hostile(os.system, "true")}), "batch")


def test_object_arrays_are_refused(fails):
    with fails(DataError, "batch", "O8"):
        read_dict(pickle.dumps({"data": np.array([{}], object)}, 2), "batch")


def test_array_larger_than_its_bytes(fails):
    raw = pickle.dumps({"data": np.zeros((2, 3072), np.uint8)}, 2)
    grown = raw.replace(struct.pack("<BH", ord("M"), 3072), struct.pack("<BH", ord("M"), 60000))
    assert grown != raw
    with fails(DataError, "batch", "(2, 60000)"):
        read_dict(grown, "batch")


@given(st.data())
def test_damaged_pickles_fail_in_words(data):
    raw = bytearray(python2_pickle(*sample(1, 10, 0), b"labels"))
    # The pixels are the greater part and hold no commands, so aim at what is around them.
    places = [i for i in range(len(raw)) if i < 250 or i > len(raw) - 60]
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.sampled_from(places))] = data.draw(st.integers(0, 255))
    try:
        entries = read_dict(bytes(raw), "batch")
    except DataError as error:
        assert "batch" in str(error) and "\n" not in str(error)
    else:
        assert isinstance(entries, dict)


@given(st.binary(max_size=200))
def test_random_bytes_fail_in_words(raw):
    try:
        read_dict(raw, "batch")
    except DataError as error:
        assert "batch" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("kept", [0, 1, 100, 3000, -2])
def test_truncated_pickle(tmp_path, kept, fails):
    root = write_set(tmp_path, "cifar100", "python", "inside")
    path = root / "train"
    path.write_bytes(path.read_bytes()[:kept])
    with fails(DataError, "train", "truncated"):
        cifar100(root)


@pytest.mark.parametrize("kept", [0, 1, 3072, 5000, -1])
def test_truncated_binary(tmp_path, kept, fails):
    root = write_set(tmp_path, "cifar10", "binary", "inside")
    path = root / "data_batch_4.bin"
    data = path.read_bytes()[:kept]
    path.write_bytes(data)
    with fails(DataError, "data_batch_4.bin must", "3073 bytes", f"got {len(data)}"):
        cifar10(root)


@pytest.mark.parametrize("form", ["python", "binary"])
def test_uneven_batches(tmp_path, form, fails):
    root = write_set(tmp_path, "cifar10", form, "inside")
    path = next(root.glob("data_batch_3*"))
    path.write_bytes(pack("cifar10", form, sample(2, 10, 0)))
    with fails(DataError, path.name, "3 images", "got 2"):
        cifar10(root)


@pytest.mark.parametrize(("name", "form"), _FORMS)
def test_label_out_of_range(tmp_path, name, form, fails):
    root = write_set(tmp_path, name, form, "inside")
    path = next(path for path in root.iterdir() if path.name.startswith("test"))
    path.write_bytes(pack(name, form, (sample(3, 10, 0)[0], np.array([0, 100, 1]))))
    with fails(DataError, path.name, "got 100", "index 1"):
        _LOAD[name](root)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"labels": [1]}, ("entry 'data'",)),
        ({"data": np.zeros((1, 3072), np.uint8)}, ("entry 'labels'",)),
        ({"data": np.zeros((1, 3071), np.uint8), "labels": [1]}, ("(1, 3071)", "3072")),
        ({"data": np.zeros((1, 3072), np.int32), "labels": [1]}, ("int32", "uint8")),
        ({"data": [1, 2], "labels": [1]}, ("list", "uint8")),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, ("2 images", "got 1 labels")),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [2**70]}, ("small integers",)),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": "1"}, ("str", "small integers")),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, ("at least one",)),
        ([1, 2], ("list", "dictionary")),
    ],
)
def test_wrong_contents(tmp_path, entries, words, fails):
    root = write_set(tmp_path, "cifar10", "python", "inside")
    for path in root.iterdir():
        path.write_bytes(pickle.dumps(entries))
    with fails(DataError, *words):
        cifar10(root)


def test_truncated_archive(tmp_path, fails):
    path = write_archive(tmp_path, "cifar10", "binary")
    whole = path.read_bytes()
    for kept in (0, 5, 1000, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with fails(DataError, f"{path.name} must"):
            cifar10(tmp_path)


def test_corrupted_archive(tmp_path, fails):
    path = write_archive(tmp_path, "cifar10", "binary")
    whole = path.read_bytes()
    for place in range(10, len(whole), len(whole) // 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with fails(DataError, f"{path.name} must"):
            cifar10(tmp_path)


def test_archive_without_a_batch(tmp_path, fails):
    folder, files, _ = make_files("cifar10", "binary")
    files.pop("data_batch_5.bin")
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(tar_bytes({f"{folder}/{file}": data for file, data in files.items()})))
    with fails(DataError, path.name, "cifar-10-batches-bin/data_batch_5.bin"):
        cifar10(path)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "..\\outside", "C:/x"])
def test_path_traversal(tmp_path, name, fails):
    write_archive(tmp_path, "cifar10", "binary", (tarfile.TarInfo(name),))
    with fails(DataError, "cifar-10-binary.tar.gz", repr(name), "got a path outside"):
        cifar10(tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices(tmp_path, kind, fails):
    info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    info.type, info.linkname = kind, "/etc/passwd"
    write_archive(tmp_path, "cifar10", "binary", (info,))
    with fails(DataError, "cifar-10-binary.tar.gz", "data_batch_1.bin", "link or device"):
        cifar10(tmp_path)


def test_member_that_claims_too_much(tmp_path, monkeypatch, fails):
    monkeypatch.setattr(cifar._Layout, "file_limit", 5000)
    write_archive(tmp_path, "cifar10", "binary")
    with fails(DataError, "data_batch_1.bin", "at most 5000", "got 9219"):
        cifar10(tmp_path)


def test_file_over_the_limit(tmp_path, monkeypatch, fails):
    monkeypatch.setattr(cifar._Layout, "file_limit", 5000)
    write_set(tmp_path, "cifar10", "binary")
    with fails(DataError, "data_batch_1.bin", "at most 5000"):
        cifar10(tmp_path)


def test_bomb_takes_no_memory(tmp_path, monkeypatch, fails):
    monkeypatch.setattr(cifar, "_ARCHIVE_LIMIT", 1 << 23)
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(tar_bytes({"other": bytes(1 << 26)}), 1))
    tracemalloc.start()
    try:
        with fails(DataError, path.name, "the archive may unpack to 8388608"):
            cifar10(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 22


def test_plain_tar_without_end(tmp_path, fails):
    path = tmp_path / "set.tar"
    whole = tar_bytes({"a": bytes(range(256)) * 4, "b": bytes(range(256)) * 4})
    path.write_bytes(whole[: 2 * (512 + 1024)])  # two whole members, no end mark
    with fails(DataError, "set.tar", "end mark"):
        list(archive.members(path, lambda name: True, 1 << 20, 1 << 20))


def test_missing(tmp_path, fails):
    for load, archives in ((cifar10, "cifar-10-binary.tar.gz"), (cifar100, "cifar-100-python.tar.gz")):
        with fails(DataError, "root", archives):
            load()
        with fails(FileNotFoundError, "nowhere", archives):
            load(tmp_path / "nowhere")
        with fails(FileNotFoundError, "root", archives):
            load(tmp_path)
    other = tmp_path / "data.rar"
    other.write_bytes(b"x")
    with fails(FileNotFoundError, "data.rar", "cifar-10-binary.tar.gz"):
        cifar10(other)
    (write_set(tmp_path, "cifar10", "python", "inside") / "test_batch").unlink()
    with fails(FileNotFoundError, "test_batch must", "got none"):
        cifar10(tmp_path)


def test_a_folder_of_images_is_pointed_out(tmp_path, fails):
    (tmp_path / "train").mkdir()
    with fails(FileNotFoundError, "image_folder reads this folder"):
        cifar10(tmp_path)
    (tmp_path / "my-images.tar.gz").touch()
    with fails(FileNotFoundError, "image_folder reads my-images.tar.gz"):
        cifar10(tmp_path)
