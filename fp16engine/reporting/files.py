"""Writing files so that a kill or a full disk leaves either the old content or the new, never a mixture."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import IO

# Faults of a folder's name: with another one it can be made.
_NOT_HERE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.ENAMETOOLONG)
# Ends the name of a temporary file: drawn at random, so that no other process has it or can foresee it.
TEMPORARY = r"\.[0-9a-f]{16}\.tmp"
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class SaveError(OSError):
    """A checkpoint or metrics file could not be written; what was saved before is untouched."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> SaveError:
        """One sentence from the system's error; `errno` is kept."""
        made = cls.because(path, error.strerror or str(error))
        made.errno = error.errno
        return made

    @classmethod
    def because(cls, path: Path, reason: str) -> SaveError:
        """One sentence with this reason."""
        return cls(f"could not write {path}: {reason}; what was saved there before is kept")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write to a new temporary file in the folder of `path`, bring it to the disk, rename it over `path`.

    Text is written as UTF-8; what UTF-8 cannot hold (a part of a file name in another encoding) is escaped.
    The temporary file is made exclusively and no symbolic link is followed. Raises SaveError when the disk
    refuses (full, read-only); the temporary file is removed then.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            with open_new(temporary) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_directory(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SaveError.of(path, error) from error


def open_new(path: Path) -> IO[bytes]:
    """Make a file that does not exist yet, for writing; FileExistsError where anything has the name."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o666), "wb")


def open_to_append(path: Path) -> IO[bytes]:
    """Open a file to append to; OSError where a symbolic link has the name."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_LINK, 0o666), "ab")


def make_folder(path: Path) -> None:
    """Make a folder with its parents; SaveError where the disk fails, ValueError where there can be none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"out must be a folder, got {path}, which is a file or lies in one") from None
    except OSError as error:
        raise refused(path, error) from error


def refused(path: Path, error: OSError) -> Exception:
    """Return the error to raise: a ValueError where another name would do, else a SaveError."""
    if error.errno in _NOT_HERE:
        return ValueError(f"out must be a folder that can be written, got {path}: {error.strerror}")
    return SaveError.of(path, error)


def _sync_directory(directory: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a directory
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
