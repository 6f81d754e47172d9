"""Files made to harm: the command line refuses each in one sentence with its name, cheaply."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("PIL.Image", reason="Pillow (extra `data`) is not installed")

_MEMORY = 300  # megabytes, of the whole process
_SECONDS = 60  # a file takes less than 5; a machine that tests may be busy
# Imports what the commands need, once; each command then is a process of its own, forked from this one.
_SERVER = """
import importlib, json, os, signal, sys
from pathlib import Path
from fp16engine.cli import main
import fp16engine.experiments.translation, fp16engine.train, PIL.Image, safetensors.numpy
if importlib.util.find_spec("tokenizers"):
    import tokenizers
for line in sys.stdin:
    folder, seconds, *argv = json.loads(line)
    child = os.fork()
    if not child:
        signal.alarm(seconds)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        status = main(argv)
        lines = ["VmHWM: 0 kB"]
        if sys.platform == "linux":
            lines = Path("/proc/self/status").read_text().splitlines()
        print(next(line.split()[1] for line in lines if line.startswith("VmHWM")), flush=True)
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    """Takes [folder for output, seconds, *command line] as JSON and answers with the exit status."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()


@pytest.fixture
def refused(server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Refused:
    """Runs a command, checks how it ends, and returns the sentence."""

    def run(*arguments: str | Path, names: str) -> str:
        folder = tmp_path_factory.mktemp("output")
        assert server.stdin is not None and server.stdout is not None
        print(json.dumps([str(folder), _SECONDS, *map(str, arguments)]), file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        lines = (folder / "stderr").read_text().splitlines()
        assert status == 2 and len(lines) == 1, (status, lines[-20:])
        assert lines[0].startswith("fp16engine: ") and names in lines[0] and len(lines[0]) < 500, lines
        assert int((folder / "stdout").read_text().split()[-1]) / 1024 < _MEMORY
        return lines[0]

    return run


def sparse(path: Path, size: int = 3 << 30) -> Path:
    """A file of `size` zeros that takes no room on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as stream:
        stream.truncate(size)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth: int = 8, colour: int = 2, size: int = 4) -> bytes:
    row = b"\0" + b"\xff" * (size * {0: 1, 2: 3, 4: 2, 6: 4}[colour] * depth // 8)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row * size)) + chunk(b"IEND", b"")


# --- images

ODD = "train/cat/odd.png"


VAST_WEBP = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\0\xff\xff\0"
VAST_JPEG = (
    b"\xff\xd8\xff\xc2\0\x11\x08\xff\xdc\xff\xdc\x03\x01\x11\0\x02\x11\0\x03\x11\0"
    b"\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\0\0"
)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


NO_FILES: dict[str, Callable[[Path], object]] = {"fifo": fifo, "endless": endless, "sparse": sparse}
IMAGES: dict[str, Callable[[Path], object]] = {
    "fifo": fifo,
    "endless-device": endless,
    "link-to-itself": lambda path: path.symlink_to(path),
    "3-gigabytes": sparse,
    "empty": lambda path: path.write_bytes(b""),
    "webp-of-gigapixels": lambda path: path.write_bytes(VAST_WEBP),
    "progressive-of-gigapixels": lambda path: path.write_bytes(VAST_JPEG),
}


def empty_png(size: int) -> bytes:
    """A PNG that says it has size x size pixels, and holds none."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [4097, 10_000])  # Pillow warns from 9460 on
def test_an_image_of_too_many_pixels(refused: Refused, tmp_path: Path, size: int) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "cat" / "odd.png").write_bytes(empty_png(size))
    assert "pixels" in refused("train", "--data", "image_folder", "--data-dir", tmp_path, names=ODD)


def test_images_that_unpack_to_too_much(refused: Refused, tmp_path: Path) -> None:
    for split, count in (("train", 40), ("test", 1)):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(count):
                (tmp_path / split / label / f"{number}.png").write_bytes(empty_png(4000))
    said = refused("train", "--data", "image_folder", "--data-dir", tmp_path, names="train/cat/0.png")
    assert "must decode to at most" in said


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("size", [(), ("--image-size", "8")])
def test_a_class_of_one_such_image(
    refused: Refused, tmp_path: Path, kind: str, size: tuple[str, ...]
) -> None:
    for split in ("train", "test"):
        (tmp_path / "x" / split / "dog").mkdir(parents=True)
        (tmp_path / "x" / split / "dog" / "0.png").write_bytes(png())
    (tmp_path / "x" / ODD).parent.mkdir()
    IMAGES[kind](tmp_path / "x" / ODD)
    refused("train", "--data", "image_folder", "--data-dir", tmp_path / "x", *size, names=ODD)


# --- pickles

_DATA = b"\x80\x02}(U\x04data"
PICKLES = {
    "deep-tuple": _DATA + b"N" + b"\x85" * 500_000 + b"u.",
    "deep-tuple-as-key": b"\x80\x02}N" + b"\x85" * 500_000 + b"Ns.",
    "deep-list": _DATA + b"(" * 500_000 + b"l" * 500_000 + b"u.",
    "memo-index": b"\x80\x02}r\xff\xff\xff\x0f.",
    "doubled-key": b"\x80\x02}N" + b"".join(b"\x85q%c0h%ch%c\x86" % ((n,) * 3) for n in range(60)) + b"Ns.",
    "doubled-dtype": (
        b"cnumpy\ndtype\nN" + b"".join(b"q%c0h%ch%c\x86" % ((n,) * 3) for n in range(60)) + b"\x85R."
    ),
    "shape-that-repeats": (
        b"cnumpy.core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\nU\x02u1\x85R(NNNt"
        + b"\x8a\x05\x00\xca\x9a\x3b\x00\x86U\x01CtR."
    ),
    "text-encoded-again": (
        b"\x80\x02}U\x04data](c_codecs\nencode\nq\x000X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"\x85q\x01"
        + b"h\x00h\x01R" * 100_000 + b"es."
    ),
    "too-many-commands": b"\x80\x02}" + b"N0" * 5_000_000 + b".",
    "long-claim": b"\x80\x02}\x8b\xff\xff\xff\x7f.",
    "text-claim": b"\x80\x04}\x8d" + struct.pack("<Q", 1 << 62) + b".",
}  # fmt: skip


@pytest.mark.parametrize("kind", PICKLES)
def test_pickles(refused: Refused, tmp_path: Path, kind: str) -> None:
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        (tmp_path / name).write_bytes(PICKLES[kind])
    refused("train", "--data", "cifar10", "--data-dir", tmp_path, names="data_batch_1")


@pytest.mark.parametrize("kind", ["fifo", "endless", "sparse"])
def test_batches_that_are_no_files(refused: Refused, tmp_path: Path, kind: str) -> None:
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        NO_FILES[kind](tmp_path / name)
    refused("train", "--data", "cifar10", "--data-dir", tmp_path, names="data_batch_1")


# --- archives


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(fields: dict[str, str], name: str = "train/cat/0.png") -> bytes:
    info = tarfile.TarInfo(name)
    info.pax_headers = fields
    return info.tobuf(tarfile.PAX_FORMAT)


def gnu_sparse(size: int) -> bytes:
    """A member of `size` bytes that are all a hole."""
    block = bytearray(header("train/cat/0.png", 0, tarfile.GNUTYPE_SPARSE))
    block[386:410] = b"%011o\0%011o\0" % (size, 0)
    block[483:495] = b"\x80" + size.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


def repeated(path: Path, megabyte: bytes, count: int, start: bytes = b"") -> None:
    """Write `start` and `count` times a megabyte, packed: gzip members in a row, ten megabytes in each."""
    member = gzip.compress(megabyte * 10, compresslevel=1)
    path.write_bytes(gzip.compress(start) + member * (count // 10))


def zeros(path: Path, megabytes: int, start: bytes = b"") -> None:
    repeated(path, bytes(1 << 20), megabytes, start)


def zipped(path: Path, method: int, damage: int | None = None, size: int = 1000) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("train/cat/0.png", bytes(size))
    if damage is not None:
        data = bytearray(path.read_bytes())
        at = len("train/cat/0.png") + 30 + damage
        data[at : at + 4] = b"\xff" * 4
        path.write_bytes(data)


def zip_that_lies(path: Path) -> None:
    """A member of 300 megabytes, packed, whose directory says 100 bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("train/cat/0.png", bytes(300 << 20))
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\1\2") + 24
    data[at : at + 4] = struct.pack("<I", 100)
    path.write_bytes(data)


END = bytes(1024)
SPARSE_MAP = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x"}
ARCHIVES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "sparse": ("a.tar", lambda p: p.write_bytes(gnu_sparse(1 << 26) * 58 + END)),
    "sparse-packed": ("a.tar.gz", lambda p: p.write_bytes(gzip.compress(gnu_sparse(1 << 26) * 58 + END))),
    "sparse-pax": (
        "a.tar", lambda p: p.write_bytes(pax({**SPARSE_MAP, "GNU.sparse.realsize": "3900000000"}) + END),
    ),
    "zeros": ("a.tar.gz", lambda p: zeros(p, 2000)),
    "zeros-in-a-member": ("a.tgz", lambda p: zeros(p, 2000, header("notes", 2000 << 20))),
    "zeros-plain": ("a.tar", lambda p: sparse(p)),
    "pax-size": ("a.tar", lambda p: p.write_bytes(header("x", 1 << 40, tarfile.XHDTYPE) + END)),
    "pax-content": ("a.tar.gz", lambda p: zeros(p, 1000, header("x", 1000 << 20, tarfile.XGLTYPE))),
    "pax-upon-pax": ("a.tar", lambda p: p.write_bytes(pax({"comment": "x"})[:1024] * 20_000 + END)),
    "pax-member-size": ("a.tar", lambda p: p.write_bytes(pax({"size": "9" * 4000}) + END)),
    "pax-length": (
        "a.tar", lambda p: p.write_bytes(header("x", 9, tarfile.XHDTYPE) + b"0 a=b\n".ljust(512, b"0") + END),
    ),
    "long-name": ("a.tar", lambda p: p.write_bytes(header("x", 1 << 33, tarfile.GNUTYPE_LONGNAME) + END)),
    "unwanted-2-58": ("a.tar", lambda p: p.write_bytes(header("notes", 1 << 58) + END)),
    "unwanted-2-58-packed": ("a.tar.gz", lambda p: p.write_bytes(gzip.compress(header("n", 1 << 58) + END))),
    "negative-size": (
        "a.tar", lambda p: p.write_bytes(header("a/0.png", 1 << 70).replace(b"\x80\0", b"\xff\xff") + END),
    ),
    "folders": (
        "a.tar.gz", lambda p: p.write_bytes(gzip.compress(header("d/", 0, b"5") * 70_000 + END)),
    ),
    "others": ("a.tar", lambda p: p.write_bytes(header("notes") * 70_000 + END)),
    "empty-images": ("a.tar", lambda p: p.write_bytes(header("train/cat/0.png") * 70_000 + END)),
    "headers": ("a.tar", lambda p: p.write_bytes(header("x", 0, tarfile.XGLTYPE) * 70_000 + END)),
    "fifo": ("a.tar", fifo),
    "endless": ("a.zip", endless),
    "zip-lzma": ("a.zip", lambda p: zipped(p, zipfile.ZIP_LZMA)),
    "zip-lzma-damaged": ("a.zip", lambda p: zipped(p, zipfile.ZIP_LZMA, 0)),
    "zip-bz2-damaged": ("a.zip", lambda p: zipped(p, zipfile.ZIP_BZIP2, 0)),
    "zip-deflate-damaged": ("a.zip", lambda p: zipped(p, zipfile.ZIP_DEFLATED, 0)),
    "zip-bomb": ("a.zip", lambda p: zipped(p, zipfile.ZIP_DEFLATED, size=1 << 26)),
    "zip-size-that-lies": ("a.zip", zip_that_lies),
    "zip-directory": (
        "a.zip", lambda p: p.write_bytes(
            sparse(p, 1 << 25).read_bytes() + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 9, 9, 1 << 25, 0, 0)
        ),
    ),
    "capitals-zip": ("A.ZIP", lambda p: zipped(p, zipfile.ZIP_DEFLATED, 0)),
    "capitals-tar": ("A.TAR", lambda p: p.write_bytes(header("notes", 1 << 58) + END)),
    "capitals-tar-gz": ("A.TAR.GZ", lambda p: p.write_bytes(gzip.compress(header("n", 1 << 58) + END))),
    "gzip-damaged": ("a.tar.gz", lambda p: p.write_bytes(b"\x1f\x8b\x08\0" + bytes(6) + b"\xff" * 50)),
    "bz2-in-gz": ("a.tar.gz", lambda p: p.write_bytes(bz2.compress(header("n") + END))),
    "lzma-in-gz": ("a.tgz", lambda p: p.write_bytes(lzma.compress(header("n") + END))),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives(refused: Refused, tmp_path: Path, kind: str) -> None:
    name, make = ARCHIVES[kind]
    make(tmp_path / name)
    refused("train", "--data", "image_folder", "--data-dir", tmp_path / name, names=name)


@pytest.mark.parametrize("name", ["A.ZIP", "A.TAR", "A.TAR.GZ", "A.Tgz"])
def test_capitals_are_read(tmp_path: Path, name: str) -> None:
    from fp16engine.data import image_folder

    files = [f"{split}/{label}/0.png" for split in ("train", "test") for label in ("cat", "dog")]
    if name == "A.ZIP":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for file in files:
                archive.writestr(file, png())
    else:
        with tarfile.open(tmp_path / name, "w" if name == "A.TAR" else "w:gz") as tar:
            for file in files:
                info = tarfile.TarInfo(file)
                info.size = len(png())
                tar.addfile(info, io.BytesIO(png()))
    data = image_folder(tmp_path / name, cache=False)
    assert data.name == "A" and data.classes == ("cat", "dog")


# --- other data files


@pytest.mark.parametrize("kind", ["fifo", "endless", "sparse", "bomb"])
def test_idx(refused: Refused, tmp_path: Path, kind: str) -> None:
    name = "train-images-idx3-ubyte" + (".gz" if kind == "bomb" else "")
    head = struct.pack(">4i", 0x0803, 1 << 13, 1 << 7, 1 << 8)
    {**NO_FILES, "bomb": lambda path: zeros(path, 500, head)}[kind](tmp_path / name)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x0801, 1) + b"\0")
    refused("train", "--data", "mnist", "--data-dir", tmp_path, names=name)


def lines_bomb(path: Path) -> None:
    repeated(path, b"a\n" * (1 << 19), 500)


TEXTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "zeros": ("train.de.gz", lambda path: zeros(path, 1000)),
    "lines": ("train.de.gz", lines_bomb),
    "lzma": ("train.de.gz", lambda path: path.write_bytes(lzma.compress(b"a\n"))),
    "fifo": ("train.de", fifo),
    "endless": ("train.de", endless),
    "3-gigabytes": ("train.de", sparse),
    "1-gigabyte": ("train.de", lambda path: sparse(path, 1 << 30)),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts(refused: Refused, tmp_path: Path, kind: str) -> None:
    name, make = TEXTS[kind]
    for part, language in itertools.product(("train", "val", "test"), ("de", "en")):
        if not name.startswith(f"{part}.{language}"):
            (tmp_path / f"{part}.{language}").write_text("a\n")
    make(tmp_path / name)
    refused(
        "translate", "train", "--data-dir", tmp_path, "--vocabulary", "300", "--model", "transformer-tiny",
        "--out", tmp_path / "out", names=name,
    )  # fmt: skip


# --- checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished translation run: a checkpoint and a tokenizer."""
    for package in ("tokenizers", "sacrebleu"):
        pytest.importorskip(package, reason=f"{package} (extra `text`) is not installed")
    from fp16engine.cli import main

    root = tmp_path_factory.mktemp("run")
    for part, language in itertools.product(("train", "val", "test"), ("de", "en")):
        (root / f"{part}.{language}").write_text("ein Hund\nzwei Hunde\n")
    options = ["--vocabulary", "270", "--model", "transformer-tiny", "--epochs", "1", "--beam", "1"]
    status = main(["translate", "train", "--data-dir", str(root), *options, "--out", str(root / "out")])
    assert status == 0
    return root / "out" / "fp16"


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Iterator[Path]:
    """The run, of which a test may change a file."""
    folder = tmp_path / "run"
    folder.mkdir()
    for path in run.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    yield folder


@pytest.mark.parametrize("kind", ["fifo", "endless", "sparse"])
@pytest.mark.parametrize("pattern", ["checkpoint.json", "checkpoint-*.safetensors", "tokenizer.json"])
def test_files_of_a_run(refused: Refused, copied: Path, pattern: str, kind: str) -> None:
    (path,) = copied.glob(pattern)
    path.unlink()
    NO_FILES[kind](path)
    refused("translate", "text", copied, names=path.name)


def test_a_json_of_brackets(refused: Refused, copied: Path) -> None:
    for content in (b"[" * 100_000, b"[" + b"[]," * 2_700_000 + b"[]]", b"[" + b"9e9," * 1_000_000 + b"1]"):
        (copied / "checkpoint.json").write_bytes(content)
        refused("translate", "text", copied, names="checkpoint.json")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on digits."""
    from fp16engine.cli import main

    out = tmp_path_factory.mktemp("trained") / "run"
    options = ["--model", "dnn", "--limit", "64", "--epochs", "1", "--threads", "1"]
    assert main(["train", *options, "--out", str(out)]) == 0
    return out


def edited(trained: Path, folder: Path, change: Callable[[dict], object]) -> Path:
    """A copy of the run whose checkpoint says something else, under a right checksum."""
    from fp16engine.train import checkpoint

    shutil.copytree(trained, folder)
    path = folder / "checkpoint.json"
    body = json.loads(path.read_text())["checkpoint"]
    change(body)
    path.write_text(json.dumps({"sha256": checkpoint._digest(body), "checkpoint": body}))
    return folder


CONFIG: dict[str, object] = {"name": "dnn", "num_classes": 10, "image_size": [8, 8], "channels": 1, "seed": 0}


@pytest.mark.parametrize("command", ["evaluate", "tolerance"])
@pytest.mark.parametrize(
    "config",
    [
        {**CONFIG, "num_classes": 400_000},
        {**CONFIG, "num_classes": 2**62},
        {**CONFIG, "image_size": [3000, 3000]},
        {**CONFIG, "name": "resnet18-w2000"},
        {**CONFIG, "name": "resnet9998"},
        {"name": "transformer-base", "vocabulary": 10**7},
    ],
)
def test_a_network_larger_than_its_tensors(
    refused: Refused, trained: Path, tmp_path: Path, command: str, config: dict[str, object]
) -> None:
    folder = edited(trained, tmp_path / "run", lambda body: body["model"].update(config=config))
    assert "None" not in refused(command, folder, names="checkpoint.json")


@pytest.mark.parametrize(
    "run", [{}, {"data": 3}, {"data": {}}, {"data": {"name": [1]}}, {"data": {"name": "digits", "train": -5}}]
)
def test_a_run_on_no_data(refused: Refused, trained: Path, tmp_path: Path, run: dict[str, object]) -> None:
    # as an earlier version wrote it, which kept nothing else of the images
    folder = edited(trained, tmp_path / "run", lambda body: body.update(run=run, images=None))
    for command in ("evaluate", "tolerance"):
        refused(command, folder, names="checkpoint.json is damaged: run: data")


def test_a_run_whose_images_lie_nowhere_good(refused: Refused, trained: Path, tmp_path: Path) -> None:
    origin = {"kind": "image_folder", "path": "/dev/zero", "options": {}}
    folder = edited(trained, tmp_path / "run", lambda body: body["images"].update(origin=origin))
    for command in ("evaluate", "tolerance"):
        refused(command, folder, names="root (--data-dir) must be a folder or .tar")


def test_a_tensor_file_of_zeros_that_the_checkpoint_allows(
    refused: Refused, trained: Path, tmp_path: Path
) -> None:
    folder = edited(trained, tmp_path / "run", lambda body: body["model"].update(parameters=10**12))
    (path,) = folder.glob("*.safetensors")
    os.truncate(path, 3 << 30)
    refused("evaluate", folder, names=path.name)
    refused("train", "--resume", "--model", "dnn", "--out", folder, names=path.name)


def _other(**changes: object) -> Callable[[dict], object]:
    return lambda document: document | changes


def _model(**changes: object) -> Callable[[dict], object]:
    return lambda document: document | {"model": document["model"] | changes}


def _vocabulary(**changes: object) -> Callable[[dict], object]:
    return lambda document: _model(vocab=document["model"]["vocab"] | changes)(document)


TOKENIZERS: dict[str, Callable[[dict], object]] = {
    "empty": lambda document: {},
    "list": lambda document: [],
    "other-model": _other(model={"type": "WordPiece", "vocab": {}}),
    "no-model": _other(model=None),
    "truncation": _other(truncation={"max_length": 0, "stride": 9, "direction": "Left"}),
    "padding": _other(padding={"strategy": {"Fixed": 1 << 60}}),
    "normalizer": _other(normalizer={"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": ""}),
    "precompiled": _other(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "split": _other(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Removed"}),
    "added-token": _other(added_tokens=[{"id": 1 << 40, "content": "x"}]),
    "id-2-32": _vocabulary(x=(1 << 32) - 1),
    "id-2-70": _vocabulary(x=1 << 70),
    "id-negative": _vocabulary(x=-1),
    "id-twice": _vocabulary(x=5),
    "id-bool": _vocabulary(x=True),
    "merge-unknown": _model(merges=[["nowhere", "to be found"]]),
    "merge-short": _model(merges=[["a"]]),
    "merge-empty": _model(merges=[["", "a"]]),
    "merge-number": _model(merges=[[1, 2]]),
    "prefix": _model(continuing_subword_prefix="aaaa"),
    "surrogate": lambda document: _vocabulary(**{"\ud800": len(document["model"]["vocab"])})(document),
    "extra": _other(extra=1),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokenizers(refused: Refused, copied: Path, kind: str) -> None:
    path = copied / "tokenizer.json"
    path.write_text(json.dumps(TOKENIZERS[kind](json.loads(path.read_text()))))
    refused("translate", "text", copied, names="tokenizer.json")


def test_tokenizer_of_a_million_tokens(refused: Refused, copied: Path) -> None:
    document = json.loads((copied / "tokenizer.json").read_text())
    document["model"]["vocab"] = {f"{number:x}": number for number in range(700_000)}
    (copied / "tokenizer.json").write_text(json.dumps(document))
    said = refused("translate", "text", copied, names="tokenizer.json")
    assert "more than 262144 tokens" in said


def test_tokenizer_of_brackets(refused: Refused, copied: Path) -> None:
    (copied / "tokenizer.json").write_bytes(b"[" * 1_000_000)
    refused("translate", "text", copied, names="tokenizer.json")
