"""What a recipe for fast training adds to optimizer and schedule, in one record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from ..validate import choice, flag, integer, listed, must_be, number

VIEWS = ("none", "mirror", "mirror-shift")


@dataclass(frozen=True)
class Refinements:
    """Rates of single parameters, freezing, lookahead, test-time views, and what Muon takes.

    Args:
        lr_factors: (pattern, factor > 0) pairs: a factor on the learning rate of the parameters whose path
            matches, "*.beta" for example; the first pattern counts. See `Optimizer.lr_factors`.
        trained_epochs: (pattern, epochs >= 0) pairs: parameters that are trained in the first epochs only.
        lookahead: every how many applied steps the weights and running statistics are drawn to their slow
            average, by 1 - 0.95^lookahead * (share of the steps done)^3; 0 never. Training ends at the
            average, unless a callback ends it early: the weights stay the fast ones then.
        views: how the finished network is tested once more: "mirror" means each image and its mirror image,
            "mirror-shift" both, and both moved by a pixel up-left and down-right; logits are averaged.
        muon_steps: Newton-Schulz steps of muon, >= 1.
        unit_rows: of muon; see `optim.Muon`.
        sgd_momentum: of muon's other parameters, in [0, 1); None means its momentum.

    Raises:
        ValueError: a number is out of range.
        TypeError: a field is of the wrong kind.

    Source:
        Jordan, 2024, arXiv 2404.00498; Zhang et al., 2019, arXiv 1907.08610 (lookahead).

    >>> Refinements(lr_factors=[("*.beta", 64)]).factor("groups.0.norm1.beta")
    64.0
    """

    lr_factors: tuple[tuple[str, float], ...] = ()
    trained_epochs: tuple[tuple[str, int], ...] = ()
    lookahead: int = 0
    views: str = "none"
    muon_steps: int = 5
    unit_rows: bool = False
    sgd_momentum: float | None = None

    def __post_init__(self) -> None:
        factors = _pairs("lr_factors", self.lr_factors, lambda name, x: number(name, x, above=0))
        epochs = _pairs("trained_epochs", self.trained_epochs, lambda name, x: integer(name, x, 0))
        object.__setattr__(self, "lr_factors", factors)
        object.__setattr__(self, "trained_epochs", epochs)
        integer("lookahead", self.lookahead, 0)
        choice("views", self.views, VIEWS)
        integer("muon_steps", self.muon_steps, 1)
        flag("unit_rows", self.unit_rows)
        if self.sgd_momentum is not None:
            number("sgd_momentum", self.sgd_momentum, minimum=0, below=1)

    @classmethod
    def get(cls, value: Refinements | Mapping[str, Any] | None) -> Refinements | None:
        """Return refinements, or what `to_dict` described.

        Args:
            value: fields by name, or a Refinements or None, which pass through.

        Raises:
            ValueError: a field is unknown or out of range.
            TypeError: a field, or the value itself, is of the wrong kind.

        >>> Refinements.get({"lookahead": 5}).lookahead
        5
        """
        if value is None or isinstance(value, Refinements):
            return value
        if not isinstance(value, Mapping):
            raise TypeError(must_be("refinements", "a Refinements, fields by name or None", type(value)))
        names = [field.name for field in fields(cls)]
        unknown = sorted(str(name) for name in value if name not in names)
        if unknown:
            raise ValueError(must_be("refinements", f"fields of {', '.join(names)}", unknown))
        return cls(**value)

    def factor(self, path: str) -> float:
        """Return the factor on the learning rate of a parameter.

        Args:
            path: as `Module.named_parameters` yields it.

        Raises:
            TypeError: the path is no string.

        >>> Refinements().factor("head.weight")
        1.0
        """
        return _first(self.lr_factors, path, 1.0)

    def trains(self, path: str, epoch: int) -> bool:
        """Tell whether a parameter is trained in an epoch.

        Args:
            path: as `Module.named_parameters` yields it.
            epoch: from 0.

        Raises:
            TypeError: the path is no string.

        >>> Refinements(trained_epochs=[("stem.*", 3)]).trains("stem.bias", 3)
        False
        """
        last = _first(self.trained_epochs, path, None)
        return last is None or epoch < last

    def check(self, paths: Iterable[str]) -> None:
        """Require that every pattern matches a parameter.

        Args:
            paths: of the network's parameters.

        Raises:
            ValueError: one matches none.

        >>> Refinements(lr_factors=[("*.beta", 64)]).check(["norm.gamma", "norm.beta"])
        """
        known = list(paths)
        for name in ("lr_factors", "trained_epochs"):
            for pattern, _ in getattr(self, name):
                if not any(fnmatchcase(path, pattern) for path in known):
                    raise ValueError(must_be(name, "patterns of parameters that the network has", pattern))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values.

        >>> Refinements(lookahead=5).to_dict()["lookahead"]
        5
        """
        pairs = {"lr_factors": self.lr_factors, "trained_epochs": self.trained_epochs}
        return {**asdict(self), **{name: [list(pair) for pair in value] for name, value in pairs.items()}}


def _pairs(name: str, value: Any, check: Any) -> tuple[tuple[str, Any], ...]:
    result = []
    for i, pair in enumerate(listed(name, value, "(pattern, value) pairs")):
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise TypeError(must_be(f"{name}[{i}]", "a pattern and a value", pair))
        result.append((pair[0], check(f"{name}[{i}]", pair[1])))
    return tuple(result)


def _first(pairs: Iterable[tuple[str, Any]], path: str, default: Any) -> Any:
    return next((value for pattern, value in pairs if fnmatchcase(path, pattern)), default)
