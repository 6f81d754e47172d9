"""Networks with another non-linearity than their own: "resnet20+gelu"."""

from __future__ import annotations

from ..nn import GELU, BatchNorm2d, Module, ReLU, ReLU6, Sequential, Tanh

_LAYERS: dict[str, type[Module]] = {"relu": ReLU, "relu6": ReLU6, "gelu": GELU, "tanh": Tanh}
NAMES = tuple(_LAYERS)


def replace(model: Module, name: str) -> None:
    """Put the non-linearity called `name` in the place of every ReLU, ReLU6, GELU and tanh of a network.

    That includes those that follow a norm within its own operation, which are then operations of their own.
    """
    layer = _LAYERS[name]
    others = tuple(_LAYERS.values())
    for _, module in list(model.named_modules()):
        if isinstance(module, BatchNorm2d) and module.activation is not None:
            module.activation = name
        if isinstance(module, Sequential):
            module.layers = [layer() if isinstance(old, others) else old for old in module.layers]
        for attribute, old in vars(module).items():
            if isinstance(old, others):
                setattr(module, attribute, layer())
