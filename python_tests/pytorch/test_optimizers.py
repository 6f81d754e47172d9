"""Our optimizers on PyTorch's tensors: the engine's bits, in the tensors' memory, through save and resume."""

from __future__ import annotations

import copy
import importlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fp16engine as fe

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fp16engine[torch]'")
fet: Any = importlib.import_module("fp16engine.torch")

SHAPES = ((1000,), (8, 3, 3, 3), (), (0,), (5, 7))
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd-momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": ("Adam", {"lr": 0.01, "weight_decay": 0.01}),
    "adam-plain": ("Adam", {"lr": 0.01, "state": "plain"}),
    "adamw": ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6}),
    "rmsprop": ("RMSprop", {"lr": 0.01, "alpha": 0.9}),
    "rmsprop-momentum": ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.9}),
}
UPDATES = ("nearest", "stochastic", "kahan", "master32")


def drawn(step: int, scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(step)
    return [np.asarray(rng.normal(size=shape) * scale) for shape in SHAPES]


def parameters(dtype: str = "float16") -> list[Any]:
    kind = getattr(torch, dtype)
    made = [torch.tensor(a, dtype=kind) for a in drawn(0)]
    made[1] = made[1].to(memory_format=torch.channels_last)
    return [p.requires_grad_() for p in made]


def give(params: list[Any], step: int, scale: float = 1.0) -> None:
    for p, a in zip(params, drawn(step, scale), strict=True):
        p.grad = torch.tensor(a, dtype=p.dtype)


def in_memory(p: Any) -> np.ndarray:
    """The elements in the order of the tensor's memory."""
    order = p.permute(0, 2, 3, 1) if p.ndim == 4 else p
    return order.detach().contiguous().numpy()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("case", CASES)
def test_the_bits_are_those_of_the_engine(case: str, update: str, dtype: str) -> None:
    name, options = CASES[case]
    theirs = parameters(dtype)
    mine = [fe.tensor(in_memory(p), dtype, "reference", requires_grad=True) for p in theirs]
    optimizer = getattr(fet, name)(theirs, update=update, seed=5, **options)
    peer = getattr(fe.optim, name)(mine, update=update, seed=5, **options)
    for step in range(1, 4):
        give(theirs, step, 8.0)
        for p, m in zip(theirs, mine, strict=True):
            m.grad = fe.tensor(in_memory(p.grad), dtype, "reference")
        optimizer.step(grad_scale=0.125)
        peer.step(grad_scale=0.125)
    for i, (p, m) in enumerate(zip(theirs, mine, strict=True)):
        np.testing.assert_array_equal(in_memory(p), m.numpy(), strict=True)
        for slot, arrays in peer.state.items():
            np.testing.assert_array_equal(in_memory(optimizer.state[p][slot]), arrays[i], strict=True)


def test_a_step_is_in_the_tensors_own_memory() -> None:
    from fp16engine.torch.arrays import array

    params = parameters()
    optimizer = fet.AdamW(params, update="kahan")
    give(params, 1)
    optimizer.step()
    kept = [t for p in params for t in (p, *optimizer.state[p].values()) if isinstance(t, torch.Tensor)]
    before = [(t.data_ptr(), t._version) for t in kept]
    fe.backend.get("cpu").reset_peak()
    peak = fe.backend.get("cpu").memory()["peak"]
    optimizer.step()
    assert [t.data_ptr() for t in kept] == [pointer for pointer, _ in before]
    assert all(array(t).ctypes.data == t.data_ptr() for t in kept if t.numel())
    assert fe.backend.get("cpu").memory()["peak"] == peak


class Loop:
    """A small network, its optimizer and a schedule, step by step."""

    def __init__(self, make: Callable[[Iterator[Any]], Any]) -> None:
        torch.manual_seed(0)
        layers = torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)
        self.model = torch.nn.Sequential(*layers).half()
        self.optimizer = make(self.model.parameters())
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr=0.05, total_steps=20)

    def run(self, steps: range) -> None:
        for step in steps:
            torch.manual_seed(step)
            x = torch.randn(32, 8).half()
            self.optimizer.zero_grad()
            (self.model(x) - x[:, :1]).float().square().mean().backward()
            self.optimizer.step()
            self.schedule.step()

    def weights(self) -> list[Any]:
        return [p.detach().clone() for p in self.model.parameters()]


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("case", ["sgd-momentum", "adamw", "rmsprop-momentum"])
def test_resume_is_bit_exact(case: str, update: str) -> None:
    name, options = CASES[case]

    def make(params: Any) -> Any:
        return getattr(fet, name)(params, update=update, seed=3, **options)

    whole, first, second = Loop(make), Loop(make), Loop(make)
    whole.run(range(20))
    first.run(range(9))
    file = io.BytesIO()
    parts = {"model": first.model, "optimizer": first.optimizer, "schedule": first.schedule}
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    first.run(range(9, 20))  # in place, on tensors that the other must not share
    for name, state in loaded.items():
        getattr(second, name).load_state_dict(state)
    dtypes = {
        key: value.dtype
        for key, value in second.optimizer.state[next(second.model.parameters())].items()
        if isinstance(value, torch.Tensor)
    }
    if update == "master32":
        assert set(dtypes.values()) == {torch.float32}
    second.run(range(9, 20))
    for a, b, c in zip(whole.weights(), first.weights(), second.weights(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_a_loaded_state_is_a_copy() -> None:
    (a, b) = (parameters()[:1] for _ in range(2))
    first, second = fet.Adam(a), fet.Adam(b)
    give_one = torch.ones_like(a[0])
    a[0].grad, b[0].grad = give_one, give_one.clone()
    first.step()
    second.load_state_dict(first.state_dict())
    kept = second.state[b[0]]["m"].clone()
    first.step()
    assert torch.equal(second.state[b[0]]["m"], kept)
    assert not torch.equal(first.state[a[0]]["m"], kept)


def test_groups_have_their_own_options() -> None:
    a, b, c = (torch.ones(100, dtype=torch.float16, requires_grad=True) for _ in range(3))
    optimizer = fet.SGD(
        [{"params": [a], "update": "nearest"}, {"params": [b], "lr": 0.25, "momentum": 0.5}], lr=1e-4, seed=1
    )
    optimizer.add_param_group({"params": [c], "update": "kahan"})
    for p in (a, b, c):
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert [sorted(optimizer.state[p]) for p in (a, b, c)] == [
        ["step"],
        ["momentum", "step"],
        ["compensation", "step"],
    ]
    assert a[0] == 1.0
    assert b[0] == 0.75
    assert optimizer.state[c]["compensation"][0] != 0


def test_two_tensors_alike_draw_different_bits() -> None:
    """Equal tensors of two groups must not round the same way, nor the same tensor in two steps."""
    a, b = (torch.ones(1000, dtype=torch.float16, requires_grad=True) for _ in range(2))
    optimizer = fet.SGD([{"params": [a]}, {"params": [b]}], lr=2.4e-4)
    moved = []
    for _ in range(2):
        before = [p.detach().clone() for p in (a, b)]
        for p in (a, b):
            p.grad = torch.ones_like(p)
        optimizer.step()
        moved += [p != old for p, old in zip((a, b), before, strict=True)]
    shares = [float(m.float().mean()) for m in moved]
    assert all(0.3 < share < 0.7 for share in shares)
    assert not torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])


def test_a_tensor_without_a_gradient_has_no_state_and_no_step() -> None:
    a, b = (torch.ones(3, dtype=torch.float16, requires_grad=True) for _ in range(2))
    optimizer = fet.Adam([a, b], lr=0.125, update="nearest")
    a.grad = torch.ones_like(a)
    optimizer.step()
    assert not optimizer.state.get(b)
    b.grad = torch.ones_like(b)
    optimizer.step()
    assert (optimizer.state[a]["step"], optimizer.state[b]["step"]) == (2, 1)
    assert b[0] == 0.875  # Adam's first step is lr, whenever it comes


def test_a_closure_is_called_with_gradients_on() -> None:
    w = torch.ones(1, dtype=torch.float16, requires_grad=True)
    optimizer = fet.SGD([w], lr=0.25, update="nearest")

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (w * 2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 2.0
    assert w.item() == 0.5


def test_a_learning_rate_of_zero_changes_nothing() -> None:
    w = torch.ones(10, dtype=torch.float16, requires_grad=True)
    optimizer = fet.AdamW([w], lr=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert torch.equal(w, torch.ones_like(w))
    optimizer.param_groups[0]["lr"] = float("nan")
    with pytest.raises(ValueError, match=r"lr must .* got nan"):
        optimizer.step()
    assert torch.equal(w, torch.ones_like(w))


def test_gradients_are_unscaled_in_the_register() -> None:
    """2^-20 / 2^15 has no binary16; the same update in FP32 does."""
    w = torch.zeros(1, dtype=torch.float16, requires_grad=True)
    w.grad = torch.full_like(w, 2.0**-20)
    fet.SGD([w], lr=2.0**15, update="nearest").step(grad_scale=2.0**-15)
    assert w.item() == -(2.0**-20)


def test_pytorchs_own_scaler_works_with_float16_gradients() -> None:
    w = torch.ones(2, dtype=torch.float16, requires_grad=True)
    optimizer, scaler = fet.SGD([w], lr=1.0, update="nearest"), torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((w * 0.25).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert w.tolist() == [0.75, 0.75]
    w.grad = torch.tensor([float("inf"), 0.0], dtype=torch.float16)
    scaler.step(optimizer)
    scaler.update()
    assert w.tolist() == [0.75, 0.75]
    assert scaler.get_scale() == 512.0


def test_autograd_sees_that_a_step_changed_the_weights() -> None:
    """A backward pass through weights that a step has overwritten must not be wrong in silence."""
    w, x = half(2), torch.ones(2, dtype=torch.float16, requires_grad=True)
    loss = (w * w * x).sum()
    loss.backward(retain_graph=True)
    fet.SGD([w], lr=1.0).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_copy_of_an_optimizer_steps_alike() -> None:
    params = parameters()
    optimizer = fet.AdamW(params, lr=0.01)
    give(params, 1)
    optimizer.step()
    twins = copy.deepcopy((params, optimizer))
    for own, one in ((params, optimizer), twins):
        give(own, 2)
        one.step()
    for p, q in zip(params, twins[0], strict=True):
        assert torch.equal(p, q)


def half(*shape: int) -> Any:
    return torch.zeros(*shape, dtype=torch.float16, requires_grad=True)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: fet.SGD([half(1)], lr=-1), ValueError, r"lr must .* got -1"),
        (lambda: fet.SGD([half(1)], nesterov=True), ValueError, r"momentum must .* got 0"),
        (lambda: fet.SGD([half(1)], dampening=0.1), TypeError, r"dampening must .* got 0.1; scale lr"),
        (lambda: fet.Adam([half(1)], maximize=True), TypeError, r"maximize must .* got True; negate"),
        (lambda: fet.Adam([half(1)], amsgrad=True), TypeError, r"amsgrad must .* got True"),
        (lambda: fet.Adam([{"params": [half(1)], "amsgrad": True}]), TypeError, r"amsgrad must .* got True"),
        (
            lambda: fet.Adam([half(1)], foreach=True),
            TypeError,
            r"foreach must be left out, got True; one kernel",
        ),
        (
            lambda: fet.AdamW([half(1)], fused=True),
            TypeError,
            r"fused must be left out, got True; one kernel",
        ),
        (lambda: fet.Adam([half(1)], capturable=True), TypeError, r"capturable must be left out, got True"),
        (lambda: fet.Adam([half(1)], betas=(0.9, 1.0)), ValueError, r"betas\[1\] must .* got 1"),
        (lambda: fet.Adam([half(1)], learning_rate=1), TypeError, r"options must .* got 'learning_rate'"),
        (lambda: fet.Adam([half(1)], update="exact"), ValueError, r"update must .* got 'exact'"),
        (lambda: fet.Adam([half(1)], state="fp8"), ValueError, r"state must .* got 'fp8'"),
        (lambda: fet.Adam([half(1)], state="plain", eps=1e-8), ValueError, r"eps must .* got 1e-08"),
        (lambda: fet.Adam([half(1)], seed=-1), ValueError, r"seed must .* got -1"),
        (lambda: fet.Adam([half(1).bfloat16().detach()]), ValueError, r"params must .* got 'torch.bfloat16'"),
        (lambda: fet.Adam([half(8).detach()[::2]]), ValueError, r"params must .* strides \(2,\)"),
    ],
)
def test_what_is_refused(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_options_of_pytorch_that_are_off_are_taken() -> None:
    fet.AdamW([half(1)], amsgrad=False, foreach=None, maximize=False, fused=None)
    fet.SGD([half(1)], dampening=0, foreach=False, fused=False, differentiable=False)
    fet.Adam([half(1)], capturable=False)


def test_states_of_others_are_refused() -> None:
    w = torch.ones(2, requires_grad=True)
    w.grad = torch.ones_like(w)
    theirs, ours = torch.optim.AdamW([w]), fet.AdamW([w])
    theirs.step()
    ours.step()
    before = copy.deepcopy(ours.state_dict())
    short, wide, other = (copy.deepcopy(ours.state_dict()) for _ in range(3))
    short["state"][0]["m"] = short["state"][0]["m"][:1]
    wide["state"][0]["v"] = wide["state"][0]["v"].double()
    del other["state"][0]["v"]
    for state, error, words in (
        (theirs.state_dict(), ValueError, r"AdamW, got one without state, update|seed"),
        (fet.SGD([w]).state_dict(), ValueError, r"got one without betas, eps, state"),
        (fet.AdamW([w, half(1)]).state_dict(), ValueError, r"must be of as many parameters"),
        (short, ValueError, r"'m' must be of shape \(2,\), got \(1,\)"),
        (wide, TypeError, r"'v' must be torch.float32, got torch.float64"),
        (other, ValueError, r"must hold step, m, v, got \['m', 'step'\]"),
        ({"state": {}}, TypeError, r"'param_groups'"),
        ([], TypeError, r"state_dict must"),
    ):
        with pytest.raises(error, match=words):
            ours.load_state_dict(state)
    now = ours.state_dict()
    assert now["param_groups"] == before["param_groups"]
    assert all(torch.equal(now["state"][0][key], before["state"][0][key]) for key in ("m", "v"))


def test_what_changed_after_the_state_was_made() -> None:
    w = half(2)
    optimizer = fet.Adam([w])
    w.grad = torch.ones_like(w)
    optimizer.step()
    w.data = w.data.float()
    w.grad = torch.ones_like(w)
    with pytest.raises(TypeError, match=r"parameter 0 must stay .* got torch.float32 on cpu"):
        optimizer.step()


def test_sparse_gradients_are_refused() -> None:
    table = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = fet.SGD(table.parameters(), lr=1.0)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"gradient of parameter 0 must be dense, got torch.sparse_coo"):
        optimizer.step()
