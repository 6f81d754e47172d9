"""Every public callable says its arguments, shapes, dtypes, errors, and shows an example in one style.

The examples themselves are run by `test_doctests.py`.
"""

from __future__ import annotations

import builtins
import doctest
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from typing import Any

import public_names
import pytest

import fp16engine as fe

NO_EXAMPLE = {
    "experiments.compare.run": "trains and draws for seconds",
    "experiments.translation.run": "trains for seconds and needs the extra `text`",
}
# What raises nothing of its own, and why.
NO_ERROR = {
    "BlockFormat.drawing": "keeps two numbers",
    "Precision.at": "compares two numbers",
    "Trainer.begin_epoch": "compares two numbers",
    "Trainer.make_objective": "takes a checked state",
    "data.tokenizer.Tokenizer": "wraps a checked one",
    "experiments.experiment.plain_arms": "leaves the names to plan()",
    "models.known": "tells whether a name is one",
    "nn.Module.adapted": "leaves to load_state_dict what does not fit",
    "nn.Module.named_modules": "takes any prefix",
    "nn.Module.train": "takes True or False",
    "numerics.Audit.float32_tensors": "compares what was recorded",
    "numerics.Audit.to_dict": "shows what was recorded",
    "numerics.LockStep.layers": "picks rows",
    "numerics.Monitor.due": "counts",
    "numerics.Monitor.sample": "looks only",
    "numerics.Ranges.share": "divides, and not by 0",
    "numerics.Sample.row": "picks a row",
    "operand_plan.operand_name": "takes checked operands",
    "optim.Adam.scalars": "keeps numbers that step() checked",
    "observer.observe": "takes any function",
    "optim.Optimizer.change": "computes on what was stored",
    "optim.Optimizer.scalars": "keeps numbers that step() checked",
    "random.dropout_counter": "counts",
    "train.Callback.on_end": "does nothing",
    "train.Callback.on_epoch": "does nothing",
    "train.Callback.on_start": "does nothing",
    "train.Callback.on_step": "does nothing",
    "train.LossScaler.observe": "takes counts",
    "train.LossScaler.update": "takes True or False",
    "train.TrainState.begin_epoch": "compares two numbers",
}

_ENTRY = re.compile(r"^    (\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*): ", re.MULTILINE)
_SHAPE = re.compile(r"\(.*,.*\)|any shape|scalar|shape (and dtype )?of")
_DTYPE = re.compile(r"float16|float32|float64|int64|uint8|any dtype|dtype (of|that)|`dtype`")
_PARSER = doctest.DocTestParser()
_ARRAY = re.compile(r"\b(Tensor|Array|ndarray|NDArray|ArrayLike)\b")


def _members(cls: type, name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the methods that `cls` describes: one that overrides another may have that one's description."""
    for key, value in vars(cls).items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        overrides = not value.__doc__ and inspect.getdoc(value)
        if not key.startswith("_") and inspect.isfunction(function) and not overrides:
            yield f"{name}.{key}", function


def _public() -> dict[str, Callable[..., Any]]:
    """Return the public callables, each once; exceptions say when they are raised, and nobody calls them."""
    found: dict[str, Callable[..., Any]] = {}
    seen: set[int] = set()
    for module, keys in public_names.names():
        for key in keys:
            value = getattr(public_names.module(module), key)
            is_class = inspect.isclass(value)
            if id(value) in seen or not (is_class or inspect.isfunction(value)):
                continue
            if is_class and issubclass(value, Exception):
                continue
            seen.add(id(value))
            name = f"{module}.{key}".lstrip(".")
            found[name] = value
            if is_class:
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


def _is_record(value: Any) -> bool:
    """Tell whether this is a class that only names its fields: what they hold was checked before."""
    if not inspect.isclass(value):
        return False
    return issubclass(value, tuple) or (is_dataclass(value) and not hasattr(value, "__post_init__"))


def _is_exception(name: str) -> bool:
    if name == "struct.error":
        return True
    found = next(
        (getattr(module, name) for module in (builtins, fe, fe.errors, fe.train) if hasattr(module, name)),
        None,
    )
    return inspect.isclass(found) and issubclass(found, Exception)


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
        found += ["no shape of the result"] * (not _SHAPE.search(text) and "shape" not in text)
        found += ["no dtype of the result"] * (not _DTYPE.search(text))
        found += ["no Returns"] * (not text)
    errors = _entries(_section(doc, "Raises"))
    found += [f"{error} is no exception" for error in errors if not _is_exception(error)]
    if _parameters(value) and not errors and name not in NO_ERROR and not _is_record(value):
        found.append("no Raises")
    runs = any(not example.options.get(doctest.SKIP) for example in _PARSER.get_examples(doc))
    if not runs and name not in NO_EXAMPLE:
        found.append("no example")
    if value.__module__.startswith("fp16engine.ops.") and not _section(doc, "Rounding"):
        found.append("no Rounding")
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_public_callable_is_described(name: str) -> None:
    assert not faults(name)


def test_exceptions_are_public_and_needed() -> None:
    for exceptions, what in ((NO_EXAMPLE, ">>> "), (NO_ERROR, "Raises:\n")):
        assert not [name for name in exceptions if what in (PUBLIC[name].__doc__ or "")]


def test_a_lack_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault this file looks for is found where a part of a whole docstring is taken out."""
    whole = fe.functional.linear.__doc__ or ""
    assert not faults("functional.linear")
    for part, fault in (
        ("(..., in), ", "no shape of x"),
        ("float16, bfloat16 or float32", "no dtype of x"),
        ("    Raises:\n", "no Raises"),
        ("    Rounding:\n", "no Rounding"),
        (">>> ", "no example"),
        ("        bias: ", "Args describes"),
    ):
        monkeypatch.setattr(fe.functional.linear, "__doc__", whole.replace(part, ""))
        assert any(found.startswith(fault) for found in faults("functional.linear")), fault
