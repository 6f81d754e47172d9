"""Fixtures of the data tests: real data if they are there, checks of messages, a cache of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[2]

Fails = Callable[..., AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps every test out of the cache folder of the person who runs it."""
    folder = tmp_path_factory.mktemp("cache")
    for variable in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(folder))
    return folder


@pytest.fixture
def fails() -> Fails:
    """`with fails(DataError, "a.gz", "9 bytes")`: raises that, one sentence with every word given."""

    @contextmanager
    def check(kind: type[Exception], *words: str) -> Iterator[None]:
        with pytest.raises(kind) as caught:
            yield
        text = str(caught.value)
        assert type(caught.value) is kind
        assert "\n" not in text and len(text) < 400, text
        for word in words:
            assert word in text, text

    return check


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Returns the path of real data by name, or skips the test that asks for it."""
    folder = Path(os.environ.get("FP16ENGINE_TEST_DATA") or _REPOSITORY.parent / "shared" / "data")

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"no {name} in {folder}; FP16ENGINE_TEST_DATA names another folder")
        return path

    return find
