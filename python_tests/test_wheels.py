"""A built wheel is split into the CPU's and the CUDA plugin's, and both are looked at: packaging/."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

PACKAGING = Path(__file__).parents[1] / "packaging"
SUFFIX = "cpython-311-x86_64-linux-gnu.so"
MANYLINUX = "manylinux_2_28_x86_64"


@pytest.fixture
def scripts() -> Iterator[None]:
    sys.path.insert(0, str(PACKAGING))
    yield
    sys.path.remove(str(PACKAGING))


@pytest.fixture
def check(scripts: None) -> Any:
    return importlib.import_module("check_wheels")


@pytest.fixture
def build(scripts: None) -> Any:
    pytest.importorskip("wheel.wheelfile", reason="wheel is not installed (extra release)")
    return importlib.import_module("build_wheels")


def made_up(build: Any, folder: Path, *modules: str, plat: str = "linux_x86_64") -> Path:
    """A wheel as pip builds it: Python, compiled modules, the metadata of an installer."""
    about = "fp16engine-0.1.0.dist-info"
    files = {f"fp16engine/{module}.{SUFFIX}": module.encode() for module in modules}
    files |= {
        "fp16engine/__init__.py": b"",
        "fp16engine/_version.py": b'__version__ = "0.1.0"\n',
        f"{about}/METADATA": b"Metadata-Version: 2.4\nName: fp16engine\nVersion: 0.1.0\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nTag: cp311-cp311-{plat}\n".encode(),
    }
    wheel: Path = build.write(folder / f"fp16engine-0.1.0-cp311-cp311-{plat}.whl", files)
    return wheel


def test_a_wheel_becomes_two(build: Any, tmp_path: Path) -> None:
    cpu, plugin = build.split(made_up(build, tmp_path, "_cpu", "_cuda", "_simt"), parts := _folder(tmp_path))
    assert [wheel.name for wheel in (cpu, plugin)] == [
        "fp16engine-0.1.0-cp311-cp311-linux_x86_64.whl",
        "fp16engine_cuda13-0.1.0-cp311-cp311-linux_x86_64.whl",
    ]
    assert cpu.parent == plugin.parent == parts
    package, cuda = (set(ZipFile(wheel).namelist()) for wheel in (cpu, plugin))
    assert {name for name in package if name.endswith(".so")} == {f"fp16engine/_cpu.{SUFFIX}"}
    assert {name for name in cuda if name.endswith(".so")} == {f"fp16engine_cuda13/_cuda.{SUFFIX}"}
    for wheel, names in ((cpu, package), (plugin, cuda)):
        assert sum(name.endswith("/RECORD") for name in names) == 1
        with build.WheelFile(wheel) as checked:  # reading compares with RECORD
            for name in names:
                checked.read(name)
    assert not package & cuda


def test_the_plugin_asks_for_this_version_and_its_libraries(build: Any, check: Any, tmp_path: Path) -> None:
    wheel = made_up(build, tmp_path, "_cpu", "_cuda", plat=MANYLINUX)
    for part in build.split(wheel, _folder(tmp_path)):
        check.look(part)
    about = check.metadata(part)
    assert about["Requires-Dist"] == "fp16engine[cuda13-libraries]==0.1.0"
    with ZipFile(part) as archive:
        assert archive.read("fp16engine_cuda13/_version.py") == b'__version__ = "0.1.0"\n'


def test_a_wheel_without_the_module_has_no_plugin(build: Any, tmp_path: Path) -> None:
    (cpu,) = build.split(made_up(build, tmp_path, "_cpu", "_simt"), _folder(tmp_path))
    assert f"fp16engine/_cpu.{SUFFIX}" in ZipFile(cpu).namelist()


def _folder(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    return tmp_path / "parts"


@pytest.mark.parametrize(
    ("modules", "plat", "most", "words"),
    [
        (("_cpu", "_cuda"), MANYLINUX, None, "must be one fp16engine/_cpu.*.so, got fp16engine/_cpu"),
        (("_simt",), MANYLINUX, None, "its libraries must be one"),
        (("_cpu",), "linux_x86_64", None, "not repaired by auditwheel"),
        (("_cpu",), MANYLINUX, 10, "must be at most 10 bytes, got"),
    ],
)  # fmt: skip
def test_what_a_wheel_may_not_hold(
    build: Any,
    check: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    modules: tuple[str, ...],
    plat: str,
    most: int | None,
    words: str,
) -> None:
    if most is not None:
        monkeypatch.setattr(check, "MOST_BYTES", most)
    with pytest.raises(check.Wrong) as wrong:
        check.look(made_up(build, tmp_path, *modules, plat=plat))
    assert words in str(wrong.value)


def test_a_folder_without_the_wheel(check: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert check.main([str(tmp_path)]) == 1
    assert "must have one wheel of fp16engine, got []" in capsys.readouterr().err


def test_the_built_wheels(check: Any) -> None:
    """Those of packaging/build_wheels.py, in the folder named by FP16ENGINE_WHEELS; .ci/run names one."""
    folder = os.environ.get("FP16ENGINE_WHEELS")
    if not folder:
        pytest.skip("FP16ENGINE_WHEELS names no folder of built wheels")
    wheels = sorted(Path(folder).glob("*.whl"))
    assert wheels
    for wheel in wheels:
        check.look(wheel)
        about = check.metadata(wheel)
        assert about["License-Expression"] == "MIT" and about["Requires-Python"] == ">=3.10"
