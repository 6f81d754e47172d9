"""Where NVIDIA's libraries are looked for, and what is said when they are missing; the files are made up."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

import fp16engine as fe
from fp16engine.backend.gpu import cuda_libraries

FILES = {
    "nvrtc-builtins": "cu13/lib/libnvrtc-builtins.so.13.0",
    "nvrtc": "cu13/lib/libnvrtc.so.13",
    "cublasLt": "cu13/lib/libcublasLt.so.13",
    "cublas": "cu13/lib/libcublas.so.13",
    "cudnn": "cudnn/lib/libcudnn.so.9",
}


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wheel, toolkit or system library, whatever this machine has."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(cuda_libraries, "_loaded_files", list)
    folders = cuda_libraries._folders
    monkeypatch.setattr(cuda_libraries, "_folders", lambda: (f for f in folders() if f[0] == "wheel"))
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)  # an import of it fails


def wheels(root: Path, names: list[str]) -> None:
    for name in names:
        path = root / "nvidia" / FILES[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    sys.path.append(str(root))


def test_nothing_found_names_everything_and_the_extra() -> None:
    assert set(cuda_libraries.find().values()) == {None}
    with pytest.raises(fe.BackendUnavailable) as error:
        cuda_libraries.preload()
    for word in (*FILES, "nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-cuda-nvrtc", "[cuda13-libraries]"):
        assert word in str(error.value)


def test_wheels_are_loaded_in_the_order_of_their_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels(tmp_path, list(FILES))
    loaded: list[tuple[str, int]] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda path, mode: loaded.append((path, mode)))
    paths = cuda_libraries.preload()
    assert [path for path, _ in loaded] == [str(tmp_path / "nvidia" / file) for file in FILES.values()]
    assert all(mode & os.RTLD_GLOBAL for _, mode in loaded)
    assert paths == {name: str(tmp_path / "nvidia" / file) for name, file in FILES.items()}


def test_only_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels(tmp_path, [name for name in FILES if name != "cudnn"])
    monkeypatch.setattr(ctypes, "CDLL", lambda path, mode: None)
    with pytest.raises(fe.BackendUnavailable, match=r"^cudnn not found .* brings nvidia-cudnn-cu13$"):
        cuda_libraries.preload()


def test_a_library_that_is_in_the_process_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels(tmp_path, list(FILES))
    monkeypatch.setattr(cuda_libraries, "_loaded_files", lambda: ["/elsewhere/libcudnn.so.9"])
    found = cuda_libraries.find()
    assert found["cudnn"] == cuda_libraries.Found("/elsewhere/libcudnn.so.9", "loaded")
    assert found["cublas"] == cuda_libraries.Found(str(tmp_path / "nvidia" / FILES["cublas"]), "wheel")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cudnn", "libcudnn.so.9.19.0"),
        ("cublasLt", "libcublasLt.so.13.1.0.3"),
        ("nvrtc", "libnvrtc.so.13.0.88"),
        ("nvrtc-builtins", "libnvrtc-builtins.so.13.0.88"),
    ],
)
def test_the_process_names_a_file_by_all_of_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    """A link is loaded as the file it leads to: a second copy would be a second state."""
    wheels(tmp_path, list(FILES))
    monkeypatch.setattr(cuda_libraries, "_loaded_files", lambda: ["/a/libcudnn_ops.so.9.19.0", f"/a/{file}"])
    assert cuda_libraries.find()[name] == cuda_libraries.Found(f"/a/{file}", "loaded")


@pytest.mark.parametrize(
    "file", ["libcudnn.so.90", "libcudnn.so.8.9.7", "libcublas.so.12.9.1", "libcudnn_ops.so.9"]
)
def test_what_is_loaded_of_other_versions_is_not_taken(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.setattr(cuda_libraries, "_loaded_files", lambda: [f"/a/{file}"])
    assert set(cuda_libraries.find().values()) == {None}


@pytest.mark.parametrize("file", ["libcudnn.so.8", "libcudnn_ops.so.9", "libnvrtc-builtins.alt.so.13.0"])
def test_other_versions_and_parts_are_not_taken(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "nvidia" / "cudnn" / "lib"
    folder.mkdir(parents=True)
    (folder / file).write_bytes(b"")
    sys.path.append(str(tmp_path))
    assert set(cuda_libraries.find().values()) == {None}


def test_a_file_that_is_no_library_is_reported(tmp_path: Path) -> None:
    wheels(tmp_path, list(FILES))
    with pytest.raises(
        fe.BackendUnavailable, match=r"nvrtc-builtins could not be loaded .*fp16engine\[cuda13-libraries\]"
    ):
        cuda_libraries.preload()
