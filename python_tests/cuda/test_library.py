"""csrc/cuda/library.cpp, compiled into a program of its own: which file a library is opened from."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
PROGRAM = """
#include <cstdio>

#include "cuda/library.h"

using namespace fp16engine::gpu;

int main(int, char** file) {
    try {
        set_library_path("cudnn", file[1]);
        if (library_function<int()>(Library::cudnn, "answer")() != 42) return 3;
        set_library_path("cudnn", file[2]);
        return library_function<int()>(Library::cudnn, "answer")() == 42 ? 0 : 4;
    } catch (const std::exception& error) {
        std::puts(error.what());
        return 2;
    }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_a_library_is_one_file_whatever_it_is_called(tmp_path: Path) -> None:
    """A second GPU finds it in the process, by the name of the file that the first one's link led to."""

    def compile_(source: str, out: str, *options: str) -> Path:
        (tmp_path / "source.cpp").write_text(source)
        argv = [str(COMPILER), "-std=c++17", f"-I{CSRC}", "source.cpp", *options, "-o", out, "-ldl"]
        subprocess.run(argv, cwd=tmp_path, check=True)
        return tmp_path / out

    answer = 'extern "C" int answer() { return 42; }'
    file = compile_(answer, "libcudnn.so.9.19.0", "-shared", "-fPIC")
    other = compile_(answer, "libother.so", "-shared", "-fPIC")
    link = tmp_path / "libcudnn.so.9"
    link.symlink_to(file.name)
    program = compile_(PROGRAM, "program", str(CSRC / "cuda" / "library.cpp"))

    def opened(first: Path, second: Path) -> tuple[int, str]:
        done = subprocess.run([program, first, second], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip()

    assert opened(link, file) == opened(file, link) == opened(link, link) == (0, "")
    assert opened(link, other) == (2, f"cudnn: already opened from '{link}'")
    status, said = opened(tmp_path / "nowhere.so", link)
    assert status == 2 and "cudnn could not be opened" in said and "pip install" in said
