"""The lock of a results folder: who holds it is named, a killed holder's is free, no way round it."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from fp16engine.reporting import lock
from fp16engine.reporting.lock import FolderInUse, hold

_HOLDER = """
import sys, time
from fp16engine.reporting import lock
if sys.argv[2] == "exclusive":
    lock.fcntl = None
with lock.hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["flock", "exclusive"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of locking: the system's, and that of systems without flock."""
    if request.param == "exclusive":
        monkeypatch.setattr(lock, "fcntl", None)
    elif lock.fcntl is None:
        pytest.skip("this system has no flock")
    return str(request.param)


@pytest.fixture
def holder(tmp_path: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds tmp_path/out."""
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, tmp_path / "out", kind], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_the_second_is_told_who_holds_it_and_touches_nothing(tmp_path: Path, holder: Any) -> None:
    words = rf"got .*out \(used by process {holder.pid} on {platform.node()}, since 20\d\d-"
    for resume in (False, True):
        with pytest.raises(FolderInUse, match=words):
            tiny_run.trainer().fit(tiny_run.data(), 1, 16, tmp_path / "out", resume=resume, progress=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [lock.NAME]


def test_a_killed_holders_lock_is_free(tmp_path: Path, holder: Any) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "out" / lock.NAME).exists()
    history = tiny_run.trainer().fit(tiny_run.data(), 1, 16, tmp_path / "out", progress=False)
    assert len(history.epochs) == 1 and not (tmp_path / "out" / lock.NAME).exists()


def test_one_thread_holds_it_twice_and_another_one_not_at_all(tmp_path: Path, kind: str) -> None:
    refused: list[BaseException] = []

    def other() -> None:
        try:
            with hold(tmp_path / "out"):
                pass
        except FolderInUse as error:
            refused.append(error)

    (tmp_path / "link").symlink_to(tmp_path / "out")
    with hold(tmp_path / "out"), hold(tmp_path / "link"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1 and f"process {os.getpid()}" in str(refused[0])
    with hold(tmp_path / "out"):
        pass


def test_many_threads_hold_it_one_at_a_time(tmp_path: Path, kind: str) -> None:
    inside, most, entered = [0], [0], [0]

    def work() -> None:
        for _ in range(50):
            try:
                with hold(tmp_path):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    entered[0] += 1
                    inside[0] -= 1
            except FolderInUse:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and entered[0] >= 50 and not list(tmp_path.iterdir())


def test_a_symbolic_link_as_the_lock_is_refused(tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / lock.NAME).symlink_to(victim)
    with pytest.raises((OSError, FolderInUse)), hold(tmp_path / "out"):
        pass
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "[" * 5000, json.dumps({"owner": {}, "since": 1})])
def test_a_lock_that_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / lock.NAME).write_text(text)
    if lock.fcntl is not None:
        with hold(tmp_path):
            pass
    assert lock._holder(tmp_path / lock.NAME) == (None, "")


def test_folders_made_in_vain_are_removed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold(tmp_path / "a" / "b"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="out must be a path, got ''"), hold(""):
        pass
