"""Where data is looked for and where it is kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .. import validate
from ..errors import DataError


def user_cache() -> Path:
    """Return the platform's folder for files that can be made again; it may not exist yet."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        # The XDG base directory rules say that a relative path here is to be ignored.
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = base if base.is_absolute() else Path.home() / ".cache"
    return base / "fp16engine"


DOWNLOADS = "; download=True (--download) gets it"


def existing(root: str | Path | None, name: str, valid: str, remedy: str = "") -> Path:
    """Return `root` as a path that exists; `remedy` ends the error where none is given.

    Raises:
        DataError: no root was given.
        FileNotFoundError: there is nothing at `root`.
        TypeError, ValueError: `root` is no path.
    """
    if root is None:
        raise DataError(f"{name}: root (--data-dir) must be {valid}, got none{remedy}")
    path = validate.path("root", root).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"{name}: root (--data-dir) must be {valid}, got {root}, which does not exist"
        )
    return path


def download_target(root: str | Path | None, name: str) -> Path:
    """Return where downloads of `name` go, made if missing: `root`, else a folder in the user's cache."""
    path = validate.path("root", root).expanduser() if root is not None else user_cache() / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def image_hint(root: Path) -> str:
    """Return the end of a "not found" message when `root` holds images that `image_folder` reads."""
    archives = [*root.glob("*images*.tar.gz"), *root.glob("*images*.zip")]
    if (root / "train").is_dir() or archives:
        where = f"{archives[0].name} there" if archives else "this folder"
        return f"; image_folder reads {where}"
    return ""
