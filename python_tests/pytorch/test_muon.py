"""Muon on PyTorch's tensors: the engine's bits, on matrices in their own memory."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import fp16engine as fe

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fp16engine[torch]'")
fet: Any = importlib.import_module("fp16engine.torch")

SHAPES = ((8, 5), (6, 3, 3, 3), (7,), (0, 4))


def in_memory(p: Any) -> np.ndarray:
    return (p.permute(0, 2, 3, 1) if p.ndim == 4 else p).detach().contiguous().numpy()


def drawn(rng: np.random.Generator, dtype: str) -> list[Any]:
    made = [torch.tensor(rng.normal(size=shape), dtype=getattr(torch, dtype)) for shape in SHAPES]
    return [t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for t in made]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("update", ["nearest", "stochastic", "kahan", "master32"])
def test_the_bits_are_those_of_the_engine(update: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    theirs = [p.requires_grad_() for p in drawn(rng, dtype)]
    mine = [fe.tensor(in_memory(p), dtype, "cpu", requires_grad=True) for p in theirs]
    optimizer = fet.Muon(theirs, update=update, weight_decay=0.01, seed=3)
    peer = fe.optim.Muon(mine, update=update, weight_decay=0.01, seed=3)
    places = [p.data_ptr() for p in theirs]
    for _ in range(3):
        for p, m, gradient in zip(theirs, mine, drawn(rng, dtype), strict=True):
            p.grad, m.grad = gradient, fe.tensor(in_memory(gradient), dtype, "cpu")
        optimizer.step()
        peer.step()
    for p, m in zip(theirs, mine, strict=True):
        np.testing.assert_array_equal(in_memory(p), m.numpy(), strict=True)
    assert [p.data_ptr() for p in theirs] == places


def test_a_group_without_matrices_steps_by_sgd() -> None:
    ws = [torch.ones(2, 2, dtype=torch.float16, requires_grad=True) for _ in range(3)]
    for w in ws:
        w.grad = torch.tensor([[4.0, 0.0], [0.0, 1.0]]).half()
    options: dict[str, Any] = {"lr": 0.125, "momentum": 0.5, "update": "nearest"}
    fet.Muon([{"params": [ws[0]], "matrices": False}, {"params": [ws[1]]}], **options).step()
    fet.SGD([ws[2]], nesterov=True, **options).step()
    assert torch.equal(ws[0], ws[2])
    assert not torch.equal(ws[1], ws[2])


def test_what_is_refused() -> None:
    for tensor, options, error, words in (
        (torch.zeros(3, 4).T, {}, ValueError, r"params must have the rows .* strides \(1, 4\)"),
        (torch.zeros(3, 4), {"matrices": 1}, TypeError, r"matrices must .* got 1"),
        (torch.zeros(3, 4), {"steps": 0}, ValueError, r"steps must .* got 0"),
        (torch.zeros(3, 4), {"fused": True}, TypeError, r"fused must .* got True"),
    ):
        with pytest.raises(error, match=words):
            fet.Muon([tensor.half()], **options)
    fet.Muon([torch.zeros(3, 4).T.half()], matrices=False)
