"""Every public callable says its arguments, shapes, dtypes, errors, and shows an example in one style.

The examples themselves are run by `test_doctests.py`.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fp16engine as fe

# Packages whose `__all__` is public, and files whose every name without an underscore is.
PACKAGES = ("fp16engine", "functional", "ops", "nn", "optim", "data", "models")
FILES = ("block_format", "precision", "random")
# Written anew when the trainer is.
LATER = ("Checkpoint", "Trainer")

# What raises nothing of its own, and why.
NO_ERROR = {
    "BlockFormat.drawing": "keeps two numbers",
    "Precision.at": "compares two numbers",
    "nn.Module.adapted": "leaves to load_state_dict what does not fit",
    "nn.Module.named_modules": "takes any prefix",
    "nn.Module.train": "takes True or False",
    "models.known": "tells whether a name is one",
    "optim.Adam.scalars": "keeps numbers that step() checked",
    "optim.Optimizer.scalars": "keeps numbers that step() checked",
    "optim.StepScalars": "a tuple",
    "data.ParallelText": "a record of checked parts",
    "precision.operand_name": "takes checked operands",
    "random.dropout_counter": "counts",
}

_ENTRY = re.compile(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*): ", re.MULTILINE)
_SHAPE = re.compile(r"\(.*,.*\)|any shape|scalar|shape (and dtype )?of")
_DTYPE = re.compile(r"float16|float32|int64|uint8|any dtype|dtype (of|that)|`dtype`")
_PARSER = doctest.DocTestParser()
_ARRAY = re.compile(r"\b(Tensor|Array|ndarray)\b")


def _members(cls: type, name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the methods that `cls` describes: one that overrides another may have that one's description."""
    for key, value in vars(cls).items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        overrides = not value.__doc__ and inspect.getdoc(value)
        if not key.startswith("_") and inspect.isfunction(function) and not overrides:
            yield f"{name}.{key}", function


def _public() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    seen: set[int] = set()
    for module_name in (*PACKAGES, *FILES):
        path = module_name if module_name == "fp16engine" else f"fp16engine.{module_name}"
        module = importlib.import_module(path)
        names = module.__all__ if module_name in PACKAGES else [n for n in vars(module) if n[0] != "_"]
        for key in names:
            if key in LATER:
                continue
            value = getattr(module, key)
            ours = getattr(value, "__module__", "").startswith("fp16engine")
            if not ours or not (inspect.isclass(value) or inspect.isfunction(value)) or id(value) in seen:
                continue
            if module_name in FILES and value.__module__ != path:
                continue
            if inspect.isclass(value) and issubclass(value, Exception):
                continue  # says when it is raised; nobody calls it
            seen.add(id(value))
            name = key if module_name == "fp16engine" else f"{module_name}.{key}"
            found[name] = value
            if inspect.isclass(value):
                found.update(_members(value, name))
    return found


PUBLIC = _public()


def _section(doc: str, title: str) -> str:
    found = re.search(rf"^{title}:\n((?:    .*\n|\n)+)", doc + "\n", re.MULTILINE)
    return found[1] if found else ""


def _entries(section: str) -> dict[str, str]:
    """Return what an `Args:` section says of each argument."""
    parts = _ENTRY.split(section)[1:]
    return {
        name.lstrip("*"): text
        for names, text in zip(parts[::2], parts[1::2], strict=True)
        for name in names.split(", ")
    }


def _parameters(value: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(value).parameters
    return {key: p for key, p in parameters.items() if key not in ("self", "cls") and key[0] != "_"}


def faults(name: str) -> list[str]:
    """Return what the docstring of a public callable lacks."""
    value = PUBLIC[name]
    doc = inspect.cleandoc(value.__doc__ or "")
    summary = doc.partition("\n")[0]
    if not summary.endswith("."):
        return [f"no sentence on the first line: {summary!r}"]
    found = []
    parameters, entries = _parameters(value), _entries(_section(doc, "Args"))
    if list(entries) != list(parameters):
        found.append(f"Args describes {list(entries)}, the arguments are {list(parameters)}")
    if inspect.isclass(value) and issubclass(value, fe.nn.Module) and value is not fe.nn.Module:
        called, entries_of_call = _parameters(value.forward), _entries(_section(doc, "Call"))
        if list(entries_of_call) != list(called):
            found.append(f"Call describes {list(entries_of_call)}, the arguments are {list(called)}")
        parameters, entries = parameters | called, entries | entries_of_call
    for key, text in entries.items():
        if key in parameters and _ARRAY.search(str(parameters[key].annotation)):
            found += [f"no shape of {key}"] * (not _SHAPE.search(text))
            found += [f"no dtype of {key}"] * (not _DTYPE.search(text))
    returned = "" if inspect.isclass(value) else str(inspect.signature(value).return_annotation)
    if _ARRAY.search(returned):
        text = _section(doc, "Returns")
        found += ["no dtype of the result"] * (not _DTYPE.search(text))
        found += ["no Returns"] * (not text)
    if _parameters(value) and not _section(doc, "Raises") and name not in NO_ERROR:
        found.append("no Raises")
    if not any(not example.options.get(doctest.SKIP) for example in _PARSER.get_examples(doc)):
        found.append("no example")
    if value.__module__.startswith("fp16engine.ops.") and not _section(doc, "Rounding"):
        found.append("no Rounding")
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_public_callable_is_described(name: str) -> None:
    assert not faults(name)


def test_exceptions_are_public_and_needed() -> None:
    assert not [name for name in NO_ERROR if "Raises:\n" in (PUBLIC[name].__doc__ or "")]


def test_a_lack_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault this file looks for is found where a part of a whole docstring is taken out."""
    whole = fe.functional.linear.__doc__ or ""
    assert not faults("functional.linear")
    for part, fault in (
        ("(..., in), ", "no shape of x"),
        ("float16 or float32", "no dtype of x"),
        ("    Raises:\n", "no Raises"),
        ("    Rounding:\n", "no Rounding"),
        (">>> ", "no example"),
        ("        bias: ", "Args describes"),
    ):
        monkeypatch.setattr(fe.functional.linear, "__doc__", whole.replace(part, ""))
        assert any(found.startswith(fault) for found in faults("functional.linear")), fault
