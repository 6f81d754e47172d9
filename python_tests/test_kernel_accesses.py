"""The widths of the kernels' accesses, on made-up PTX."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "check_accesses.py"

# Two instances of a kernel, for rows that are aligned and for others, and a helper that is no kernel.
PTX = """
.version 9.0
.visible .entry _ZN3gpu11wide_kernelILi8EEvPK6__half(
	.param .u64 _param_0
)
{
	ld.param.u64 	%rd1, [_param_0];
	ld.shared.v4.u32 	{%r7, %r8, %r9, %r10}, [%r1];
	LOAD 	{%r1, %r2, %r3, %r4}, [%rd1];
	@%p1 STORE 	[%rd1], {%r1, %r2, %r3, %r4};
	ret;
}
.visible .entry _ZN3gpu11wide_kernelILi1EEvPK6__half(
)
{
	ld.global.nc.u16 	%rs1, [%rd1];
	st.global.u16 	[%rd1], %rs1;
}
"""


@pytest.fixture
def script() -> dict[str, Any]:
    if not SCRIPT.exists():
        pytest.skip("no .ci here")
    return runpy.run_path(str(SCRIPT))


def check(script: dict[str, Any], folder: Path, load: str, store: str, narrow: dict[str, Any]) -> int:
    (folder / "one.ptx").write_text(PTX.replace("LOAD", load).replace("STORE", store))
    script["faults"].__globals__["NARROW"] = narrow
    status: int = script["main"]([str(folder)])
    return status


@pytest.mark.parametrize(
    ("load", "store", "words"),
    [
        ("ld.global.nc.v4.u32", "st.global.v4.u32", None),
        ("ld.global.nc.L1::no_allocate.v2.b64", "st.v2.f64", None),
        ("ld.v8.b32", "st.global.v4.b32", None),
        ("ld.global.v4.u16", "st.global.v4.u32", "its widest load must be 16 bytes or more, got 8"),
        ("ld.global.v4.u32", "st.global.v2.u32", "its widest store must be 16 bytes or more, got 8"),
        ("ld.shared.v4.u32", "st.global.v4.u32", "its widest load must be 16 bytes or more, got 2"),
    ],
)  # fmt: skip
def test_the_widest_instance_counts(
    script: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    load: str,
    store: str,
    words: str | None,
) -> None:
    assert check(script, tmp_path, load, store, {}) == (words is not None)
    out = capsys.readouterr().out
    assert f"{int(words is None)} of 1 kernels" in out
    assert words is None or words in out


@pytest.mark.parametrize(
    ("narrow", "store", "words"),
    [
        ({"wide": (("store",), "one sum")}, "st.global.u32", None),
        ({"wide": (("load",), "one sum")}, "st.global.u32", "its widest store must be"),
        ({"wide": (("store",), "one sum")}, "st.global.v4.u32", "says that a store is narrow, none is"),
        ({"other": (("store",), "one sum")}, "st.global.v4.u32", "other: named in NARROW, but there is no"),
    ],
)  # fmt: skip
def test_what_is_named_as_narrow_must_be(
    script: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    narrow: dict[str, Any],
    store: str,
    words: str | None,
) -> None:
    assert check(script, tmp_path, "ld.global.v4.u32", store, narrow) == (words is not None)
    assert words is None or words in capsys.readouterr().out


def test_no_kernel_is_no_success(
    script: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script["main"]([str(tmp_path)]) == 1 and "no kernel was found" in capsys.readouterr().out
