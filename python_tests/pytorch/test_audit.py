"""`audit`: what operators of PyTorch store and add up in, and the roundings that torch.compile removes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fp16engine[torch]'")
fet: Any = importlib.import_module("fp16engine.torch")
planted: Any = importlib.import_module("pytorch_planted")
accumulators: Any = importlib.import_module("fp16engine.torch.accumulators")

# Of PyTorch's own code, when its compiler is first used.
compiler_warns = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def halves(*shape: int) -> Any:
    torch.manual_seed(1)
    return torch.randn(*shape).half()


def test_every_operator_is_a_row_in_its_layer() -> None:
    found = fet.audit(planted.chain(), halves(16, 64))
    rows = {(row.layer, row.op): row for row in found.rows}
    assert list(rows) == [
        ("first", "addmm"),
        ("(model)", "gelu"),
        ("(model)", "mul"),
        ("(model)", "add"),
        ("norm", "native_layer_norm"),
        ("(model)", "sub"),
        ("last", "addmm"),
    ]
    assert all(row.reads == row.stores == ("float16",) for row in found.rows)
    assert rows["first", "addmm"][-3:] == ("float32", "float32", 1)
    assert rows["(model)", "mul"][-3:] == ("none", "none", 3)
    assert rows["norm", "native_layer_norm"].accumulates == "not measured"
    assert found.clean
    assert found.wide == []


def test_autocast_is_seen_below() -> None:
    model = planted.Chain().eval()
    with torch.autocast("cpu", torch.float16):
        found = fet.audit(model, torch.randn(16, 64))
    rows = {(row.layer, row.op): row for row in found.rows}
    assert rows["first", "addmm"].stores == ("float16",)
    assert rows["first", "_to_copy"].calls == 3
    assert rows["(model)", "sub"].stores == ("float32",)
    assert rows["(model)", "sub"] in found.wide


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("mm", (halves(8, 64), halves(64, 4))),
        ("bmm", (halves(2, 8, 64), halves(2, 64, 4))),
        ("addmm", (halves(4), halves(8, 64), halves(64, 4))),
        (
            "convolution",
            (halves(2, 4, 6, 6), halves(8, 4, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        ),
        (
            "convolution",
            (halves(2, 4, 6, 6), halves(8, 2, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 2),
        ),
        (  # the first window inside of the image begins at row 1 and column 2
            "convolution",
            (halves(2, 4, 9, 9), halves(8, 4, 3, 2), None, [2, 3], [1, 1], [2, 3], False, [0, 0], 1),
        ),
        ("sum", (halves(8, 64), [1])),
        ("mean", (halves(8, 64),)),
    ],
)
def test_accumulators_of_half_sums_are_float32(op: str, args: tuple[Any, ...]) -> None:
    accumulators._of.cache_clear()
    products = "none" if op in ("sum", "mean") else "float32"
    assert accumulators.measured(op, args) == (products, "float32")


def test_a_convolution_is_tried_with_its_own_geometry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stride, padding and dilation select the library's algorithm, so a trial without them tells nothing."""
    given: list[Any] = []
    real = torch.ops.aten.convolution
    accumulators._of.cache_clear()
    monkeypatch.setattr(torch.ops.aten, "convolution", lambda *args: given.append(args[3:6]) or real(*args))
    geometry = [2, 2], [2, 2], [1, 1]
    args = (halves(2, 4, 9, 9), halves(8, 4, 3, 3), None, *geometry, False, [0, 0], 1)
    assert accumulators.measured("convolution", args) == ("float32", "float32")
    assert {tuple(map(tuple, g)) for g in given} == {tuple(map(tuple, geometry))}


def test_a_convolution_without_a_window_inside_the_image_is_not_measured() -> None:
    args = (halves(2, 4, 2, 2), halves(8, 4, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    assert accumulators.measured("convolution", args) == ("not measured", "not measured")


def in_float16(a: Any, b: Any, key: Any) -> Any:
    """One product, one rounding; one sum, one rounding."""
    total = torch.zeros((), dtype=a.dtype)
    for x, y in zip(a, b, strict=True):
        total = total + x * y
    return total


def in_parts(a: Any, b: Any, key: Any) -> Any:
    return sum(in_float16(a[i : i + 16], b[i : i + 16], key) for i in range(0, len(a), 16))


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (in_float16, ("float16", "float16")),
        (in_parts, ("float16", "float16, in parts")),
        (lambda a, b, key: (a.float() * b.float()).half().float().sum(), ("float16", "float32")),
        (lambda a, b, key: (a.float() @ b.float()).half(), ("float32", "float32")),
    ],
)
def test_the_trial_tells_who_adds_up_in_what(
    run: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulators._of.cache_clear()
    monkeypatch.setitem(accumulators._RUNS, "mm", run)
    assert accumulators.measured("mm", (halves(8, 64), halves(64, 4))) == expected
    accumulators._of.cache_clear()


def test_too_few_terms_tell_nothing() -> None:
    assert accumulators.measured("mm", (halves(8, 3), halves(3, 4))) == ("not measured", "not measured")


@compiler_warns
@pytest.mark.slow
def test_the_casts_that_the_compiler_removed_are_named_and_with_the_flag_it_is_clean() -> None:
    model, x = planted.chain(), halves(16, 64)
    found = fet.audit(torch.compile(model), x)
    assert not found.clean
    assert 0 < found.differ <= found.values == 128
    named = {(cast.layer, cast.producer, cast.consumer) for cast in found.removed_casts}
    assert ("(model)", "gelu", "mul") in named
    assert ("norm", "native_layer_norm", "add") in named
    # matrix products are kernels of their own: their results are stored
    assert not [cast for cast in found.removed_casts if cast.producer == "addmm"]
    assert all(cast.dtype == "float16" and 0 < cast.differ <= cast.values for cast in found.removed_casts)
    table = found.table()
    assert "(model): gelu is not rounded to float16 before mul, of whose" in table
    assert "torch._inductor.config.emulate_precision_casts = True restores them" in table

    torch._dynamo.reset()
    flagged = fet.audit(torch.compile(model, options={"emulate_precision_casts": True}), x)
    assert (flagged.clean, flagged.removed_casts, flagged.differ) == (True, [], 0)
    assert flagged.table().splitlines()[-1].startswith("clean: the compiled module rounds as the eager one")


@compiler_warns
@pytest.mark.slow
def test_a_cast_inside_of_a_reduction_is_named() -> None:
    """Seen only where the activation's result is not kept: kept, the norm reads it from memory, rounded."""
    found = fet.audit(torch.compile(planted.activation_and_norm()), halves(16, 64))
    assert [cast[:4] for cast in found.removed_casts] == [("1", "gelu", "float16", "native_layer_norm")]
    assert found.differ > 0


@compiler_warns
@pytest.mark.slow
def test_another_compiler_is_compared_as_a_whole() -> None:
    found = fet.audit(torch.compile(planted.chain(), backend="eager"), halves(16, 64))
    assert (found.clean, found.compiler, found.removed_casts) == (True, "eager", [])


def test_float64_is_wide_and_not_measured() -> None:
    found = fet.audit(
        torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU()).double(), torch.zeros(4, 64).double()
    )
    layer, relu = found.rows
    assert (layer.multiplies, layer.accumulates) == ("not measured", "not measured")
    assert (relu.multiplies, relu.accumulates) == ("none", "none")
    assert "2 of 2 operators store 32 bits or more" in found.table()
    assert accumulators.measured("sum", (torch.zeros(64).double(),)) == ("none", "not measured")


def test_nothing_of_the_model_changes_and_random_numbers_are_refused() -> None:
    model = planted.conv_net()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"model must draw no random numbers.*model.eval\(\)"):
        fet.audit(model, halves(2, 3, 8, 8))
    model[2].p = 0.0
    fet.audit(model, halves(2, 3, 8, 8))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match=r"model must .* got 'model'"):
        fet.audit("model")
    with pytest.raises(ValueError, match="model must return a floating tensor, got none"):
        fet.audit(torch.nn.Identity(), torch.zeros(2, dtype=torch.int64))
