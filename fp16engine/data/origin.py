"""Where the images of a data set came from, so that a later command finds and shapes them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WHITE = {"digits": 16}  # where it is not 255


@dataclass(frozen=True)
class Origin:
    """What `data.load` needs to make a data set again.

    Args:
        kind: a name that `data.load` takes, or "arrays" for images that were given in memory.
        path: folder or archive, absolute; None for what comes with the package or from memory.
        options: further arguments of `data.load`, JSON values.

    >>> Origin("digits").path is None
    True
    """

    kind: str
    path: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def white(self) -> int:
        """The largest pixel value."""
        return _WHITE.get(self.kind, 255)

    @classmethod
    def at(cls, kind: str, root: Path, **options: Any) -> Origin:
        """Return the origin of what lies at `root`; options that are None say nothing.

        >>> from pathlib import Path
        >>> Origin.at("mnist", Path("/data")).kind
        'mnist'
        """
        given = {name: value for name, value in options.items() if value is not None}
        return cls(kind, str(root.absolute()), given)
