"""The loss scale for PyTorch: float16 gradients, skipped steps with their reason, and clipping."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fp16engine[torch]'")
fet: Any = importlib.import_module("fp16engine.torch")


def weight(*gradient: float, dtype: str = "float16") -> Any:
    w = torch.ones(len(gradient), dtype=getattr(torch, dtype), requires_grad=True)
    w.grad = torch.tensor(gradient, dtype=w.dtype)
    return w


def test_pytorchs_own_refuses_float16_gradients() -> None:
    """What this scaler is for: the other one raises."""
    for scaler, fails in ((torch.amp.GradScaler("cpu"), True), (fet.GradScaler(), False)):
        w = torch.ones(1, dtype=torch.float16, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.5)
        scaler.scale((w * 1.0).sum()).backward()
        if fails:
            with pytest.raises(ValueError, match="unscale FP16 gradients"):
                scaler.step(optimizer)
        else:
            scaler.step(optimizer)
            assert w.item() == 0.5


def test_what_the_scale_saved_is_not_lost_again() -> None:
    """A gradient of 2^-30 is 0 in float16, scaled by 2^15 it is not; lr 2^20 makes it 2^-10 of the weight."""
    moved = []
    for scaler in (fet.GradScaler(), fet.GradScaler(enabled=False)):
        w = torch.ones(1, dtype=torch.float16, requires_grad=True)
        optimizer = fet.SGD([w], lr=2.0**20, update="nearest")
        scaler.scale(((w * 2.0**-15) * 2.0**-15).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        moved.append(1 - w.item())
    assert moved == [2.0**-10, 0.0]


@pytest.mark.parametrize("ours", [True, False])
def test_an_overflow_skips_the_step_and_says_why(ours: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)).half()
    named = list(model.named_parameters())
    optimizer = (fet.AdamW if ours else torch.optim.AdamW)(named)
    scaler = fet.GradScaler(init_scale=4.0)
    for _, p in named:
        p.grad = torch.ones_like(p)
    named[2][1].grad[0, 1] = math.inf
    named[3][1].grad[0] = math.nan
    before = [p.detach().clone() for _, p in named]
    assert scaler.step(optimizer) is None
    scaler.update()
    assert all(torch.equal(p, old) for (_, p), old in zip(named, before, strict=True))
    assert not optimizer.state
    assert (scaler.get_scale(), scaler.applied, scaler.skipped) == (2.0, 0, 1)
    assert scaler.skips == [(0, 4.0, "1.weight", 1, 0, 2)]
    assert scaler.summary().splitlines()[-1] == scaler.skips[0].text


def test_it_grows_and_stays_within_floor_and_cap() -> None:
    scaler = fet.GradScaler(init_scale=2.0, growth_interval=2, floor=1.0, cap=8.0)
    good, bad = weight(1.0), weight(math.nan)
    scales = []
    for w in (good,) * 8 + (bad,) * 5:
        scaler.step(fet.SGD([w], lr=1e-3))
        scaler.update()
        scales.append(scaler.get_scale())
    assert scales == [2, 4, 4, 8, 8, 8, 8, 8, 4, 2, 1, 1, 1]
    assert (scaler.applied, scaler.skipped) == (8, 5)


def test_a_run_that_overflows_at_the_floor_is_diagnosed() -> None:
    scaler, w = fet.GradScaler(init_scale=1.0), weight(math.inf)
    for _ in range(20):
        assert scaler.diagnosis is None
        scaler.step(fet.SGD([w], lr=1.0))
        scaler.update()
    assert "no step was ever applied" in scaler.diagnosis
    assert len(scaler.skips) == 20


def test_the_scale_from_the_histogram_needs_no_crash() -> None:
    """Gradients of 2^-20: the largest one is put at 2^13 as far as the cap lets it."""
    scaler = fet.GradScaler(from_histogram=True, cap=2.0**24)
    w = torch.zeros(4, requires_grad=True)
    optimizer = fet.SGD([w], lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale((w * 2.0**-8).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 2.0**21
    assert scaler.skipped == 0
    assert w.grad[0] == 2.0**13


def test_two_optimizers_share_a_verdict_and_a_scale() -> None:
    good, bad = weight(4.0), weight(math.inf)
    scaler = fet.GradScaler(init_scale=4.0, growth_interval=1)
    scaler.step(fet.SGD([good], lr=0.5, update="nearest"))
    scaler.step(fet.SGD([bad], lr=0.5))
    scaler.update()
    assert (good.item(), scaler.get_scale()) == (0.5, 2.0)


def test_order_of_calls() -> None:
    w = weight(8.0)
    optimizer, scaler = fet.SGD([w], lr=0.5, update="nearest"), fet.GradScaler(init_scale=8.0)
    with pytest.raises(RuntimeError, match="update must come after step"):
        scaler.update()
    scaler.unscale_(optimizer)
    assert w.grad.item() == 1.0
    with pytest.raises(RuntimeError, match="unscale_ must come once"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert w.item() == 0.5
    with pytest.raises(RuntimeError, match="step must come once"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="after step"):
        scaler.unscale_(optimizer)
    scaler.update()
    with pytest.raises(RuntimeError, match="without a closure"):
        scaler.step(optimizer, lambda: 1.0)


def test_disabled_is_passed_through() -> None:
    w = weight(1.0)
    optimizer, scaler = torch.optim.SGD([w], lr=0.5), fet.GradScaler(enabled=False)
    assert scaler.scale("anything") == "anything"
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert w.item() == 0.5
    assert scaler.state_dict() == {}


def test_state_goes_round() -> None:
    first, second = (fet.GradScaler(from_histogram=True, growth_interval=7) for _ in range(2))
    w = weight(1.0)
    first.step(fet.SGD([w], lr=1.0))
    first.update()
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    for state in ({}, torch.amp.GradScaler("cpu").state_dict(), {**first.state_dict(), "scale": 3.0}):
        with pytest.raises(ValueError, match="must"):
            second.load_state_dict(state)
    assert second.state_dict() == first.state_dict()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fet.GradScaler(init_scale=3.0), r"init_scale must be a power of two.*, got 3"),
        (lambda: fet.GradScaler(init_scale=2.0**17), r"init_scale must .* got 131072"),
        (lambda: fet.GradScaler(growth_factor=0.5), r"growth_factor must .* got 0.5"),
        (lambda: fet.GradScaler(backoff_factor=2.0), r"backoff_factor must .* got 2"),
        (lambda: fet.GradScaler(growth_interval=0), r"growth_interval must .* got 0"),
        (lambda: fet.GradScaler(floor=3.0, init_scale=4.0), r"floor must .* got 3"),
        (lambda: fet.GradScaler().update(5.0), r"new_scale must .* got 5"),
        (lambda: fet.GradScaler().set_growth_factor(3.0), r"new_factor must .* got 3"),
    ],
)
def test_what_is_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_what_cannot_be_scaled() -> None:
    one = torch.tensor(1.0)
    assert fet.GradScaler(init_scale=2.0).scale([one, (one,)]) == [2.0, (2.0,)]
    with pytest.raises(TypeError, match=r"outputs must .* got 'loss'"):
        fet.GradScaler().scale("loss")


# clip_grad_norm_


def test_a_norm_beyond_the_largest_half_is_clipped() -> None:
    """PyTorch's own makes every such gradient 0: its norm is inf in float16."""
    gradient = (60000.0,) * 100
    theirs, ours = weight(*gradient), weight(*gradient)
    assert math.isinf(torch.nn.utils.clip_grad_norm_([theirs], 1.0))
    assert not theirs.grad.any()
    norm = fet.clip_grad_norm_([ours], 1.0)
    assert norm.dtype == torch.float32
    assert norm.item() == 10 * torch.tensor(60000.0).half().item()
    assert torch.equal(ours.grad, torch.full_like(ours.grad, 0.1))


def test_the_norm_is_that_of_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    ws = [
        torch.zeros(shape, dtype=torch.float16, requires_grad=True) for shape in ((1000,), (3, 4), (), (0,))
    ]
    for w in ws:
        w.grad = (torch.randn(w.shape, generator=generator) * 1e-4).half()
    ws.append(torch.zeros(3, requires_grad=True))
    exact = math.sqrt(sum(float(w.grad.double().square().sum()) for w in ws if w.grad is not None))
    before = [w.grad.clone() for w in ws[:-1]]
    assert fet.clip_grad_norm_(ws, 10.0).item() == pytest.approx(exact, rel=1e-6)
    assert all(torch.equal(w.grad, old) for w, old in zip(ws, before, strict=False))
    fet.clip_grad_norm_(iter(ws), exact / 4)
    assert torch.allclose(ws[0].grad.float(), before[0].float() / 4, rtol=2.0**-10, atol=2.0**-24)


def test_gradients_that_are_not_finite_stay_or_raise() -> None:
    for bad in (math.inf, math.nan):
        w = weight(bad, 1.0)
        assert str(fet.clip_grad_norm_(w, 0.5).item()) == str(bad)
        assert w.grad[1] == 1.0
        with pytest.raises(RuntimeError, match="norm of the gradients must"):
            fet.clip_grad_norm_(w, 0.5, error_if_nonfinite=True)


def test_no_gradient_and_a_gradient_with_gaps() -> None:
    w = torch.zeros(2, requires_grad=True)
    assert fet.clip_grad_norm_(w, 1.0) == 0
    w.grad = torch.tensor([3.0, 0.0, 4.0, 0.0])[::2]
    assert fet.clip_grad_norm_(w, 1.0) == 5.0
    assert torch.equal(w.grad, torch.tensor([3.0, 4.0]) / 5)
    for max_norm in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"max_norm must .* got"):
            fet.clip_grad_norm_(w, max_norm)
