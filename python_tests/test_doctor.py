"""`fp16engine doctor` reports a broken backend; it does not break."""

from __future__ import annotations

from typing import Any

import pytest

from fp16engine import backend as backends
from fp16engine import doctor
from fp16engine.cli import main
from fp16engine.errors import BackendUnavailable


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("reduce.cu:76: reduce_kernel: no kernel image is available for execution on the device"),
        BackendUnavailable("cudnn could not be opened (libcudnn.so.9: cannot open shared object file)"),
        MemoryError("GPU memory: no room"),
    ],
)
def test_a_self_test_that_cannot_run_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: Exception
) -> None:
    reference = backends.get("reference")

    class Broken:
        capabilities = reference.capabilities

        def __getattr__(self, name: str) -> Any:
            return getattr(reference, name)

        def conv2d_forward(self, *arguments: Any) -> Any:
            raise fault

    monkeypatch.setattr(backends, "_loaded", {**backends._loaded, "cuda": Broken()})
    found = doctor.report()
    assert found["cuda_self_test"]["passed"] is False and not found["ok"]
    assert found["cuda_self_test"]["reason"] == str(fault) and str(fault) in found["advice"]
    assert main(["doctor"]) == 1
    assert "FAILED" in capsys.readouterr().out
