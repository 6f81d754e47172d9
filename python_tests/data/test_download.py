from __future__ import annotations

import gzip
import hashlib
import struct
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fp16engine.data import cifar10, download, mnist
from fp16engine.data.download import PUBLISHED, File, Published
from fp16engine.errors import DataError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[tuple[str, Path]]:
    """Serves a folder on this machine, and gives its address and the folder."""
    pytest.importorskip("pooch", reason="pooch (extra `data`) is not installed")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/", folder
        http.shutdown()
        thread.join()


def serve_mnist(folder: Path) -> dict[str, File]:
    """Writes a small MNIST and returns the sizes and checksums."""
    for prefix in ("train", "t10k"):
        images = struct.pack(">4I", 0x0803, 2, 3, 3) + bytes(range(18))
        labels = struct.pack(">2I", 0x0801, 2) + bytes([1, 2])
        for name, data in (
            (f"{prefix}-images-idx3-ubyte.gz", images),
            (f"{prefix}-labels-idx1-ubyte.gz", labels),
        ):
            (folder / name).write_bytes(gzip.compress(data))
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {name: File(len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()}


def test_downloads_into_root(server, tmp_path, monkeypatch):
    address, folder = server
    monkeypatch.setitem(PUBLISHED, "mnist", Published((address,), serve_mnist(folder)))
    root = tmp_path / "data" / "mnist"
    assert len(mnist(root, download=True).train) == 2
    assert sorted(path.name for path in root.iterdir()) == sorted(PUBLISHED["mnist"].files)
    for path in folder.iterdir():
        path.unlink()
    assert len(mnist(root, download=True).train) == 2  # nothing is fetched again


def test_downloads_into_the_user_cache(server, own_cache, monkeypatch):
    address, folder = server
    monkeypatch.setitem(PUBLISHED, "mnist", Published((address,), serve_mnist(folder)))
    mnist(download=True)
    assert list(own_cache.rglob("mnist/t10k-labels-idx1-ubyte.gz"))


def test_second_address(server, tmp_path, monkeypatch):
    address, folder = server
    monkeypatch.setitem(PUBLISHED, "mnist", Published((address + "gone/", address), serve_mnist(folder)))
    assert len(mnist(tmp_path / "x", download=True).train) == 2


def test_wrong_checksum_leaves_nothing(server, tmp_path, monkeypatch, fails):
    address, folder = server
    sums = serve_mnist(folder)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"something else")
    monkeypatch.setitem(PUBLISHED, "mnist", Published((address,), dict(sorted(sums.items(), reverse=True))))
    with fails(DataError, "train-images-idx3-ubyte.gz must", "got "):
        mnist(tmp_path / "x", download=True)
    assert not list((tmp_path / "x").glob("train-images*"))


def test_too_long_an_answer_is_cut(server, tmp_path, monkeypatch, fails):
    address, folder = server
    sums = serve_mnist(folder)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(bytes(1 << 22))
    monkeypatch.setitem(PUBLISHED, "mnist", Published((address,), sums))
    with fails(
        DataError, "train-images-idx3-ubyte.gz", f"more than {sums['train-images-idx3-ubyte.gz'].size} bytes"
    ):
        mnist(tmp_path / "x", download=True)
    assert not list((tmp_path / "x").glob("train-images*"))


def test_no_server(server, tmp_path, monkeypatch, fails):
    address, _ = server
    monkeypatch.setitem(
        PUBLISHED, "cifar10", Published((address,), {"cifar-10-binary.tar.gz": File(9, "0" * 64)})
    )
    with fails(DataError, "cifar-10-binary.tar.gz must", "got 404"):
        cifar10(tmp_path, download=True)


def test_files_that_are_there_are_kept(server, tmp_path, monkeypatch):
    address, folder = server
    monkeypatch.setitem(PUBLISHED, "mnist", Published((address,), serve_mnist(folder)))
    own = tmp_path / "own"
    own.mkdir()
    plain = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    (own / "train-images-idx3-ubyte").write_bytes(plain)
    mnist(own, download=True)
    assert not (own / "train-images-idx3-ubyte.gz").exists()


def test_without_pooch(tmp_path, monkeypatch, fails):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with fails(DataError, "package pooch", "pip install 'fp16engine[data]'"):
        mnist(tmp_path, download=True)


def test_table_is_well_formed():
    for name, published in download.PUBLISHED.items():
        assert published.addresses and all(address.endswith("/") for address in published.addresses), name
        for size, checksum in published.files.values():
            assert size > 0 and len(checksum) == 64 and not set(checksum) - set("0123456789abcdef")
