"""Gradients in buckets, exchanged while the backward pass continues."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from ranks import ThreadTransport, on_threads

import fp16engine as fe
from fp16engine import functional as F
from fp16engine.distributed import exchange
from fp16engine.distributed.exchange import ExchangedSum, Exchanger
from fp16engine.distributed.parallel import LocalSum
from fp16engine.errors import PeerLost


def model() -> fe.nn.Module:
    fe.manual_seed(7)
    layers = fe.nn.Linear(6, 5), fe.nn.ReLU(), fe.nn.Linear(5, 5), fe.nn.ReLU(), fe.nn.Linear(5, 3)
    return fe.nn.Sequential(*layers).to("reference", "fp16")


def loss_of(net: fe.nn.Module, index: int) -> fe.Tensor:
    rng = np.random.default_rng(index)
    x = fe.tensor(rng.standard_normal((4, 6)).astype(np.float16), device="reference")
    return F.cross_entropy(net(x), fe.tensor(rng.integers(0, 3, 4), device="reference"))


def seed(loss: fe.Tensor) -> fe.Tensor:
    return fe.tensor(np.float16(64), device="reference").reshape(loss.shape)


def grads(net: fe.nn.Module) -> list[bytes]:
    return [p.grad.numpy().tobytes() for p in net.parameters()]


def alone(count: int) -> list[bytes]:
    """The gradients of one process that accumulates the micro-batches."""
    net = model()
    total = LocalSum(list(net.parameters()), count)
    for index in range(count):
        loss = loss_of(net, index)
        total.backward(loss, seed(loss))
    total.finish()
    return grads(net)


@pytest.mark.parametrize("most", [1, 60, 1 << 20], ids=["a bucket each", "some buckets", "one bucket"])
@pytest.mark.parametrize(("size", "count"), [(2, 2), (3, 3), (2, 5), (4, 2)])
def test_ranks_have_the_gradients_of_one_process(
    size: int, count: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "bucket_bytes", lambda ranks: most)

    def work(transport: ThreadTransport) -> list[bytes]:
        net = models[transport.rank]
        total = ExchangedSum(Exchanger(transport, "one-rounding"), list(net.parameters()), count)
        for index in range(transport.rank, count, size):
            loss = loss_of(net, index)
            total.backward(loss, seed(loss))
        total.finish()
        return grads(net)

    models = [model() for _ in range(size)]
    assert on_threads(size, work) == [alone(count)] * size


def test_buckets_start_before_the_backward_pass_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but those of the first layer, whose gradient comes last."""
    monkeypatch.setattr(exchange, "bucket_bytes", lambda ranks: 1)
    net, log = model(), []
    exchanger: Any = Exchanger(ThreadTransport(0, 1, {}, 1), "one-rounding")
    monkeypatch.setattr(exchanger, "put", lambda work: log.append("bucket"))
    total = ExchangedSum(exchanger, list(net.parameters()), 1)
    backward = fe.ops._linear.Linear.backward

    def noted(self: Any, dy: Any) -> Any:
        log.append("linear")
        return backward(self, dy)

    monkeypatch.setattr(fe.ops._linear.Linear, "backward", noted)
    loss = loss_of(net, 0)
    total.backward(loss, seed(loss))
    assert log == ["linear", *["bucket"] * 2, "linear", *["bucket"] * 2, "linear", *["bucket"] * 2]


def test_uses_counts_the_gradients_that_a_leaf_gets() -> None:
    x = fe.tensor([2.0], "float16", "reference", requires_grad=True)
    y = fe.tensor([2.0], "float16", "reference", requires_grad=True)
    loss = (x * x + x * y).sum()
    counts = exchange.uses(loss)
    seen: list[int] = []
    for leaf in (x, y):
        leaf.on_grad = lambda tensor: seen.append(id(tensor))
    loss.backward()
    assert counts == {id(x): 3, id(y): 1}
    assert sorted(seen) == sorted(counts.elements())


def test_a_gradient_that_no_rank_has_stays_away() -> None:
    def work(transport: ThreadTransport) -> list[bool]:
        net = models[transport.rank]
        unused = fe.nn.Parameter(np.zeros(3, np.float16), "reference")
        parameters = [*net.parameters(), unused]
        total = ExchangedSum(Exchanger(transport, "one-rounding"), parameters, 2)
        loss = loss_of(net, transport.rank)
        total.backward(loss, seed(loss))
        total.finish()
        return [p.grad is not None for p in parameters]

    models = [model(), model()]
    assert on_threads(2, work) == [[True] * 6 + [False]] * 2


def test_a_rank_that_is_not_there_is_named() -> None:
    def work(transport: ThreadTransport) -> None:
        if transport.rank == 0:
            net = models[0]
            total = ExchangedSum(Exchanger(transport, "one-rounding"), list(net.parameters()), 2)
            loss = loss_of(net, 0)
            total.backward(loss, seed(loss))
            total.finish()

    models = [model()]
    with pytest.raises(PeerLost, match=r"^rank 1 did not answer within 0.2 s; continue with --resume"):
        on_threads(2, work, limit=0.2)


def test_the_thread_passes_its_error_on() -> None:
    exchanger = Exchanger(ThreadTransport(0, 1, {}, 1), "one-rounding")
    ran = threading.Event()

    def fail() -> None:
        raise PeerLost("rank 1 ended")

    exchanger.put(fail)
    exchanger.put(ran.set)
    with pytest.raises(PeerLost, match="rank 1 ended"):
        exchanger.drain()
    assert not ran.is_set()
