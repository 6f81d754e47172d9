"""The layers and epochs of a precision policy whose dot products take operands of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .block_format import BlockFormat
from .errors import UnsupportedPrecision
from .validate import integer, must_be

Operand: TypeAlias = str | BlockFormat


@dataclass(frozen=True)
class OperandPlan:
    """The layers and epochs whose dot products take other operands than the policy's own.

    Args:
        edges: operand of the first and the last layer with weights, in the epochs before the late ones.
        layers: (path, operand) pairs, each for the layer of that path or all layers below it.
        late: operand of every layer but those of `layers` in the last `late_epochs` epochs.
        late_epochs: how many epochs these are, >= 1.

    An operand is a `BlockFormat` or "float32"; None means no exception.

    Raises:
        ValueError: late_epochs is no integer >= 1.
        UnsupportedPrecision: an operand is neither a `BlockFormat` nor "float32".

    Source:
        Harma et al., 2022, arXiv 2211.10737 (Accuracy Boosters).

    >>> OperandPlan(edges=BlockFormat.named("hbfp6")).words()
    ['first and last layer in hbfp6']
    """

    edges: Operand | None = None
    layers: tuple[tuple[str, Operand], ...] = ()
    late: Operand | None = None
    late_epochs: int = 1

    def __post_init__(self) -> None:
        integer("late_epochs", self.late_epochs, 1)
        for operand in (self.edges, self.late, *(operand for _, operand in self.layers)):
            if operand is not None:
                _check_operand(operand)

    def words(self) -> list[str]:
        """Return the exceptions in words, the strongest first.

        >>> OperandPlan(late="float32", late_epochs=2).words()
        ['the last 2 epochs in float32']
        """
        said = [f"{path} in {operand_name(operand)}" for path, operand in self.layers]
        if self.late is not None:
            epochs = "the last epoch" if self.late_epochs == 1 else f"the last {self.late_epochs} epochs"
            said.append(f"{epochs} in {operand_name(self.late)}")
        if self.edges is not None:
            said.append(f"first and last layer in {operand_name(self.edges)}")
        return said


def operand_name(operand: Operand) -> str:
    """Return the short name of an operand type: "float32", "hbfp4-b16".

    Args:
        operand: a dtype's name or a `BlockFormat`.

    >>> operand_name(BlockFormat.named("hbfp4-b16"))
    'hbfp4-b16'
    """
    return operand if isinstance(operand, str) else operand.name


def _check_operand(operand: Operand) -> None:
    if not isinstance(operand, BlockFormat) and operand != "float32":
        raise UnsupportedPrecision(must_be("operand", "a BlockFormat or 'float32'", operand))
