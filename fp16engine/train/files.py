"""Writing files so that a kill or a full disk leaves either the old content or the new, never a mixture."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


class SaveError(OSError):
    """A checkpoint or metrics file could not be written; what was saved before is untouched."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> SaveError:
        """One sentence from the system's error; `errno` is kept."""
        reason = error.strerror or str(error)
        made = cls(f"could not write {path}: {reason}; what was saved there before is kept")
        made.errno = error.errno
        return made


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside `path`, bring it to the disk, then rename it over `path`.

    Raises SaveError when the disk refuses (full, read-only); the temporary file is removed then.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        try:
            with temporary.open("wb") as file:
                file.write(content)
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


def _sync_directory(directory: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a directory
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
