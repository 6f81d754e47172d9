"""A user's own function that builds a PyTorch module, named on the command line as FILE.py:FUNCTION."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ..nn import Module
from ..validate import must_be
from .convert import from_torch

_BATCH = 2  # images of the example; of one, a norm could not tell a batch's statistics


class Images(Protocol):
    """What a data set says of its images, and a checkpoint too."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def image_size(self) -> tuple[int, int]: ...

    @property
    def channels(self) -> int: ...


@dataclass(frozen=True)
class UserModel:
    """A function of a file of the user's; called, it gives the network, converted.

    Args:
        name: "FILE.py:FUNCTION", without folders.
        function: takes none or some of num_classes, image_size (height, width) and channels, by name.
        digest: the SHA-256 of the file.
    """

    name: str
    function: Callable[..., Any]
    digest: str

    def __call__(self, images: Images, seed: int) -> Module:
        """Return the network for these images, with the initial weights of PyTorch's own generator.

        Args:
            images: whose number of classes, image size and channels the function may ask for.
            seed: of the weights.

        Raises:
            ValueError: the function fails, returns no module, or one that `from_torch` refuses.
        """
        offered = {
            "num_classes": len(images.classes),
            "image_size": tuple(images.image_size),
            "channels": images.channels,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                taken = inspect.signature(self.function).parameters
                module = self.function(**{name: value for name, value in offered.items() if name in taken})
            except Exception as error:  # the user's code may raise anything
                raise ValueError(
                    f"--torch: {self.name} must build a module, got {type(error).__name__}: {error}"
                ) from error
            if not isinstance(module, torch.nn.Module):
                raise ValueError(
                    must_be(f"--torch: what {self.name} returns", "a torch.nn.Module", type(module))
                )
            example = torch.randn(_BATCH, images.channels, *images.image_size)
            try:
                model = from_torch(module, example)
            except (TypeError, ValueError) as error:
                raise ValueError(f"--torch: {self.name}: {error}") from error
            return model


def user_model(text: str) -> UserModel:
    """Run a file of the user's and return the function that it names.

    Args:
        text: FILE.py:FUNCTION.

    Raises:
        ValueError: the text is of another form, the file fails, or it has no such function.
        FileNotFoundError: there is no such file.
    """
    file, colon, name = text.rpartition(":")
    if not colon or not file.endswith(".py") or not name.isidentifier():
        raise ValueError(must_be("--torch", "FILE.py:FUNCTION", text))
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"--torch must name a file that exists, got {file}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = importlib.util.spec_from_file_location(f"_fp16engine_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    sys.path.insert(0, str(path.resolve().parent))  # what lies next to it can be imported, as in a script
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise ValueError(f"--torch: {file} must run, got {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(must_be(f"--torch: {name} of {file}", "a function", function))
    return UserModel(f"{path.name}:{name}", function, digest)
