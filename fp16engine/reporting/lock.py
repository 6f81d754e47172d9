"""A results folder belongs to one run at a time: the second is told who has it."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ..validate import path as checked_path
from .files import NO_LINK, make_folder, refused
from .owner import Owner

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # of flock, on some network drives
_held: dict[str, int] = {}  # by real path, the thread of this process that holds the folder
_guard = threading.Lock()
F = TypeVar("F", bound=Callable[..., Any])


class FolderInUse(ValueError):
    """Another run fills the folder."""


@contextlib.contextmanager
def hold(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Keep a folder, made if it is missing, for this thread; None is no folder and needs nothing.

    The system frees the lock of a process that ends, however it ends. Holding it again in the same thread is
    fine. Folders made here that stay empty are removed.

    Raises:
        FolderInUse: another run has it; the message names the process, its machine and since when.
        SaveError: the disk is full, or fails.
        ValueError: there can be no such folder.
    """
    if folder is None:
        yield
        return
    path = checked_path("out", folder)
    key = os.path.realpath(path)
    with _guard:
        again = _held.get(key) == threading.get_ident()
    if again:
        yield
        return
    missing = [p for p in (path, *path.parents) if not p.exists()]
    make_folder(path)
    try:
        with _locked(path):
            with _guard:
                _held[key] = threading.get_ident()
            try:
                yield
            finally:
                with _guard:
                    del _held[key]
    finally:
        with contextlib.suppress(OSError):
            for made in missing:
                made.rmdir()


def holds_out(function: F) -> F:
    """Decorate a function that fills the folder named by its argument `out`, which it holds meanwhile."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def holding(*arguments: Any, **options: Any) -> Any:
        with hold(signature.bind(*arguments, **options).arguments["out"]):
            return function(*arguments, **options)

    return holding  # type: ignore[return-value]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    path, owner = folder / NAME, Owner.this()
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    note = json.dumps({"owner": owner.to_json(), "since": since}).encode()
    try:
        handle = _flocked(path, note)
        if handle is None:
            _made_alone(path, note)
    except OSError as error:
        owner.retire()
        raise refused(path, error) from error
    except BaseException:
        owner.retire()
        raise
    try:
        yield
    finally:
        owner.retire()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # while it is locked, so it is ours
        if handle is not None:
            os.close(handle)


def _flocked(path: Path, note: bytes) -> int | None:
    """Lock the file and return its handle; None where the system or the drive has no such locks."""
    if fcntl is None:
        return None
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(path, handle):  # or else its last holder has removed it between the two lines above
                os.ftruncate(handle, 0)
                os.write(handle, note)
                return handle
        except BlockingIOError:
            os.close(handle)
            _refuse(path)
        except OSError as error:
            path.unlink(missing_ok=True)
            os.close(handle)
            if error.errno in _UNSUPPORTED:
                return None
            raise
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _made_alone(path: Path, note: bytes) -> None:
    """Make the file exclusively, in place of one whose process has ended."""
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o644)
        except FileExistsError:
            owner, _ = _holder(path)
            if owner is None or owner.gone() is not True:
                _refuse(path, f"; remove {path} if that process has ended")
            with contextlib.suppress(FileNotFoundError):
                stale = path.with_name(f"{NAME}.{secrets.token_hex(8)}.tmp")
                os.rename(path, stale)  # of several that try, one succeeds
                stale.unlink()
            continue
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(note)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return


def _refuse(path: Path, advice: str = "") -> None:
    owner, since = _holder(path)
    who = "another process" if owner is None else f"process {owner.pid} on {owner.host}, since {since}"
    raise FolderInUse(f"out must be a folder that no run is using, got {path.parent} (used by {who}{advice})")


def _holder(path: Path) -> tuple[Owner | None, str]:
    try:
        with path.open("rb") as file:
            note = json.loads(file.read(4096))
        return Owner.of_json(note["owner"]), str(note["since"])[:40]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None, ""


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
