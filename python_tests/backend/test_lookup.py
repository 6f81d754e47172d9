"""The lookup of a backend by its device's name."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine.observer import BackendCall, observe


def test_same_object_each_time(backend: Any, backend_name: str) -> None:
    assert backends.get(backend_name) is backend
    assert backend.name == backend_name


@pytest.mark.parametrize("device", ["gpu", "", "cuda:", "cuda:x", "CPU"])
def test_unknown_device(device: str) -> None:
    with pytest.raises(ValueError, match=rf"^device must .* cpu, reference, simt, cuda, got {device!r}$"):
        backends.get(device)


def test_device_is_a_string() -> None:
    with pytest.raises(TypeError, match=r"^device must .* got None"):
        backends.get(None)  # type: ignore[arg-type]


def test_devices_lists_what_computes(cpu: Any) -> None:
    from fp16engine.backend.gpu import cuda

    assert backends.devices() == ["cpu", *(f"cuda:{i}" for i in range(cuda.gpus()))]


def test_missing_module_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(device: str) -> Any:
        raise fe.BackendUnavailable(f"device {device!r}: not built")

    monkeypatch.setattr(backends, "_loaded", {})
    monkeypatch.setattr(backends, "_load", missing)
    assert not any(device == "cpu" for device in backends.devices())


def test_an_instruction_set_that_is_not_there_is_refused(cpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fp16engine.backend.cpu import load

    before = cpu.native.isa()
    try:
        monkeypatch.setenv("FP16ENGINE_ISA", "foo")
        with pytest.raises(
            fe.BackendUnavailable, match=r"^FP16ENGINE_ISA must be auto, avx512, .* got 'foo'$"
        ):
            load()
        assert cpu.native.isa() == before
        for accepted in (before, "", "auto"):
            monkeypatch.setenv("FP16ENGINE_ISA", accepted)
            assert load().native.isa() == (cpu.native.select_isa("auto") if accepted == "auto" else before)
    finally:
        cpu.native.select_isa(before)


def test_observers_see_the_calls_of_a_backend_that_they_are_around(reference: Any) -> None:
    seen: list[str] = []

    def around(call: BackendCall) -> Any:
        seen.append(call.op)
        return call.run()

    with observe(around):
        proxy = backends.get("reference")
        assert proxy is backends.get("reference") is not reference
        assert proxy.name == "reference" and proxy.zeros((2,), "float16").tolist() == [0, 0]
        backends.unobserved("reference").zeros((2,), "float16")
    assert backends.get("reference") is reference
    assert seen == ["zeros"]


def test_import_loads_no_backend() -> None:
    code = (
        "import sys, fp16engine\n"
        "print(sorted(m for m in sys.modules if m.startswith(('fp16engine._', 'fp16engine.backend.'))))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    # declarations and views alone: no compiled module, no backend
    names = ("base", "blocks", "capabilities", "heads", "neighbours")
    backend = [f"fp16engine.backend.{name}" for name in names]
    assert loaded.strip() == str(["fp16engine._early_stop", "fp16engine._version", *backend])
