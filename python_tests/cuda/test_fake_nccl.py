"""The fake NCCL moves bytes in the order of its stream and refuses what NCCL would, or would hang on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ranks import ThreadTransport, on_threads

from fp16engine.distributed.nccl import NCCLTransport
from fp16engine.errors import BackendUnavailable, PeerLost
from fp16engine.numerics.audit import Audit


@pytest.fixture
def pair(cuda: Any, gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two communicators of this process, the stream that they use, and an array of the GPU each."""
    import fake_nccl

    monkeypatch.setenv("FAKE_NCCL", str(tmp_path))
    monkeypatch.setattr(fake_nccl, "_group", None)
    identity = fake_nccl.get_unique_id()
    made: list[Any] = [None, None]

    def join(rank: int) -> None:
        made[rank] = fake_nccl.NcclCommunicator(2, identity, rank)

    other = threading.Thread(target=join, args=(1,))
    other.start()
    join(0)
    other.join(10)
    arrays = [cuda.from_numpy(np.full(8, rank, np.float16)) for rank in range(2)]
    cuda.synchronize()
    stream = gpu.Stream(non_blocking=True)
    return SimpleNamespace(nccl=fake_nccl, ranks=made, identity=identity, stream=stream, arrays=arrays)


def message(pair: Any, call: Callable[..., None], array: Any, count: int, peer: int, kind: int = 1) -> None:
    pair.nccl.groupStart()
    try:
        call(array.data.ptr, count, kind, peer, pair.stream.ptr)
    finally:
        pair.nccl.groupEnd()


def test_bytes_move_when_both_turns_have_come(pair: Any, cuda: Any) -> None:
    message(pair, pair.ranks[1].recv, pair.arrays[1], 16, 0)
    assert not pair.stream._advance()
    assert cuda.to_numpy(pair.arrays[1]).tolist() == [1.0] * 8
    other = SimpleNamespace(**{**vars(pair), "stream": type(pair.stream)(non_blocking=True)})
    message(other, pair.ranks[0].send, pair.arrays[0], 16, 1)
    assert other.stream._advance() and pair.stream._advance()
    assert cuda.to_numpy(pair.arrays[1]).tolist() == [0.0] * 8


def test_sender_and_receiver_must_agree_on_the_count(pair: Any) -> None:
    message(pair, pair.ranks[0].send, pair.arrays[0], 16, 1)
    message(pair, pair.ranks[1].recv, pair.arrays[1], 8, 0)
    with pytest.raises(AssertionError, match="sender and receiver disagree"):
        pair.stream._advance()


def test_what_nccl_has_no_place_for_is_refused(pair: Any) -> None:
    send, array = pair.ranks[0].send, pair.arrays[0]
    with pytest.raises(AssertionError, match="a send outside a group"):
        send(array.data.ptr, 16, 1, 1, pair.stream.ptr)
    for arguments, words in (
        ((array, 16, 1, 7), "a type that changes bits"),
        ((array, 1 << 20, 1), "memory that is not the GPU's"),
        ((array, 0, 1), "memory that is not the GPU's"),
    ):
        with pytest.raises(AssertionError, match=words):
            message(pair, send, *arguments)
    with pytest.raises(AssertionError):
        message(pair, send, array, 16, 0)  # to itself
    with pytest.raises(FileExistsError):
        pair.nccl.NcclCommunicator(2, pair.identity, 0)  # a rank twice


def test_an_error_of_nccl_names_the_ranks_and_ends_the_communicator(
    cuda: Any, gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fake_nccl

    monkeypatch.setenv("FAKE_NCCL", str(tmp_path))
    monkeypatch.setattr(fake_nccl, "_group", None)
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", fake_nccl)
    array = cuda.from_numpy(np.zeros(8, np.float16))

    def work(transport: ThreadTransport) -> Any:
        with Audit() as audit:
            carrier: Any = NCCLTransport(transport).for_device("cuda")
        if transport.rank == 0:
            (carrier._communicator.folder / "error").touch()
            with pytest.raises(
                PeerLost, match=r"^rank 1 cannot be reached by NCCL \(NCCL_ERROR_REMOTE_ERROR\); continue"
            ):
                carrier.swap(0, [], [(1, array)])
            assert carrier._communicator.aborted and not audit.rows

    on_threads(2, work)


@pytest.mark.parametrize("identity", [bytes(range(128)), tuple(range(-64, 64))])
def test_all_ranks_get_the_identity_of_rank_0_as_cupy_has_it(
    identity: Any, cuda: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 alone asks NCCL for one; a tuple of C's char before CuPy 14."""
    asked: list[Any] = []
    joined: dict[int, Any] = {}
    monkeypatch.setitem(
        sys.modules,
        "cupy.cuda.nccl",
        SimpleNamespace(
            available=True,
            get_unique_id=lambda: asked.append(identity) or identity,
            NcclCommunicator=lambda size, own, rank: joined.update({rank: own}),
        ),
    )
    on_threads(2, lambda transport: NCCLTransport(transport).for_device("cuda") and None)
    assert asked == [identity] and joined == {0: identity, 1: identity}
    assert {type(own) for own in joined.values()} == {type(identity)}


def test_without_nccl_the_transport_says_what_is_missing(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", SimpleNamespace(available=False))
    transport = NCCLTransport(ThreadTransport(0, 2, {}, 1))
    with pytest.raises(BackendUnavailable, match="needs NCCL next to CuPy: pip install nvidia-nccl-cu13"):
        transport.for_device("cuda")
    assert transport.for_device("simt") is None
    carrier = transport.for_device("cpu")
    assert carrier is not None and not hasattr(carrier, "_communicator")
