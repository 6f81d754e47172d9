from __future__ import annotations

import subprocess
import sys

import pytest

from fp16engine import data
from fp16engine.errors import DataError


def test_names():
    assert data.names() == ["digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "image_folder"]


def test_exports():
    others = {"Augmentation", "Dataset", "ParallelText", "Split", "load", "names", "parallel_text"}
    assert others | set(data.names()) == set(data.__all__)


def test_loads_by_name():
    assert len(data.load("digits").train) == 1437


def test_unknown_name_lists_the_names(fails):
    with fails(ValueError, "'imagenet'", *data.names()):
        data.load("imagenet")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "image_folder"])
def test_missing_root(name, tmp_path, fails):
    with fails(DataError, name, "root (--data-dir) must", "got none"):
        data.load(name)
    with fails(FileNotFoundError, name, "must", "nowhere"):
        data.load(name, tmp_path / "nowhere")


def test_own_images_are_not_downloaded(fails, tmp_path):
    with fails(DataError, "image_folder", "download"):
        data.load("image_folder", tmp_path, download=True)


def test_import_is_light():
    code = "import sys, fp16engine.data; print(*({'PIL', 'pooch', 'requests'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
