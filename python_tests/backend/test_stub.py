"""The stub fp16engine/_cpu.pyi lists the compiled module's functions, their arguments and what these are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import fp16engine
from fp16engine import _cpu

STUB = Path(fp16engine.__file__).with_name("_cpu.pyi")
# pybind11 spells a type in several ways, by its version; the first that matches counts.
KINDS = {
    "array": r"ndarray|Array",
    "float": r"[Ff]loat",
    "int": r"[Ii]nt",
    "word": r"bool|str|tuple|dtype|dict|None",
}


def kind(annotation: str) -> tuple[bool, str]:
    """Return whether it is a sequence, and of what."""
    many = re.match(r"(collections\.abc\.|typing\.)?(Sequence|[Ll]ist)\[", annotation) is not None
    if annotation.lower().startswith("dict"):
        return False, "dict"
    for name, pattern in KINDS.items():
        if found := re.search(pattern, annotation):
            return many, found[0] if name == "word" else name
    return many, annotation


def signature(function: ast.FunctionDef) -> tuple[dict[str, tuple[bool, str]], tuple[bool, str]]:
    """Return the kind of every argument by its name, and of the result."""
    arguments = {a.arg: kind(ast.unparse(a.annotation)) for a in function.args.args if a.annotation}
    assert function.returns
    return arguments, kind(ast.unparse(function.returns))


def functions(text: str) -> dict[str, tuple[dict[str, tuple[bool, str]], tuple[bool, str]]]:
    return {f.name: signature(f) for f in ast.parse(text).body if isinstance(f, ast.FunctionDef)}


def test_the_stub_says_what_the_module_has() -> None:
    documented = [f.__doc__ for name, f in sorted(vars(_cpu).items()) if not name.startswith("__")]
    built = functions("\n".join(f"def {text.strip()}: ..." for text in documented))
    assert len(built) > 40
    assert functions(STUB.read_text()) == built


def test_a_stale_stub_is_told() -> None:
    text = STUB.read_text()
    for before, after in (
        ("momenta", "momentum_arrays"),
        ("causal_rows: int", "causal_rows: float"),
        ("isa()", "isas()"),
    ):
        assert before in text
        assert functions(text.replace(before, after, 1)) != functions(text)
