"""Modules one after the other, in lists and in dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..tensor import Tensor
from ..validate import instance, listed, must_be
from .module import Module


class Sequential(Module):
    """Modules applied one after the other; `model[i]` is the i-th.

    Args:
        *layers: modules, each of which takes what the one before it returns.

    Call:
        x: any shape and dtype that the first module takes; the result is that of the last.

    Raises:
        TypeError: a layer is no Module.

    >>> import fp16engine as fe
    >>> len(fe.nn.Sequential(fe.nn.Flatten(), fe.nn.Linear(4, 2)))
    2
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(must_be(f"Sequential: layer {i}", "a Module", type(layer)))
        self.layers = list(layers)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        for i, layer in enumerate(self.layers):
            yield str(i), layer

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Module:
        return self.layers[index]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class ModuleList(Module):
    """A list of modules; it has no `forward` of its own.

    Args:
        modules: the first ones. A plain list or tuple as an attribute is registered just as well.

    Call:
        *args: none, it is not called.
        **options: none.

    Raises:
        TypeError: an entry is no Module.

    >>> import fp16engine as fe
    >>> blocks = fe.nn.ModuleList([fe.nn.Linear(4, 4) for _ in range(2)])
    >>> len(blocks), [path for path, _ in blocks.named_parameters()]
    (2, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.entries: list[Module] = []
        self.extend(modules)

    def append(self, module: Module) -> None:
        """Add a module at the end.

        Args:
            module: to add.

        Raises:
            TypeError: it is no Module.

        >>> import fp16engine as fe
        >>> blocks = fe.nn.ModuleList()
        >>> blocks.append(fe.nn.ReLU())
        >>> len(blocks)
        1
        """
        self.entries.append(instance(f"ModuleList: entry {len(self)}", module, Module, "a Module"))

    def extend(self, modules: Iterable[Module]) -> None:
        """Add modules at the end.

        Args:
            modules: to add.

        Raises:
            TypeError: one is no Module.

        >>> import fp16engine as fe
        >>> blocks = fe.nn.ModuleList()
        >>> blocks.extend([fe.nn.ReLU(), fe.nn.Tanh()])
        >>> len(blocks)
        2
        """
        for module in listed("ModuleList: modules", modules, "a sequence of modules"):
            self.append(module)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        for i, module in enumerate(self.entries):
            yield str(i), module

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.entries)

    def __getitem__(self, index: int) -> Module:
        return self.entries[index]


class ModuleDict(Module):
    """Modules by name; it has no `forward` of its own.

    Args:
        modules: the first ones, by name.

    Call:
        *args: none, it is not called.
        **options: none.

    Raises:
        TypeError: an entry is no Module, or a name no text.

    >>> import fp16engine as fe
    >>> heads = fe.nn.ModuleDict({"age": fe.nn.Linear(4, 1)})
    >>> heads["name"] = fe.nn.Linear(4, 9)
    >>> [path for path, _ in heads.named_parameters()]
    ['age.weight', 'age.bias', 'name.weight', 'name.bias']
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.entries: dict[str, Module] = {}
        for name, module in instance("modules", modules or {}, Mapping, "modules by name").items():
            self[name] = module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        yield from self.entries.items()

    def keys(self) -> Iterable[str]:
        """Return the names.

        >>> list(ModuleDict().keys())
        []
        """
        return self.entries.keys()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Return (name, module) pairs.

        >>> list(ModuleDict().items())
        []
        """
        return self.entries.items()

    def __setitem__(self, name: str, module: Module) -> None:
        instance("ModuleDict: a name", name, str, "text")
        self.entries[name] = instance(f"ModuleDict: entry {name!r}", module, Module, "a Module")

    def __getitem__(self, name: str) -> Module:
        return self.entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)
