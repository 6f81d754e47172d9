"""What the transport uses of `cupy.cuda.nccl`, between processes with a fake_gpu.py each.

A message is a file in the folder that FAKE_NCCL names, written when its turn comes on the stream. As strict
as NCCL is, and more: messages in groups only, of one stream of the current device, in memory of that device;
sender and receiver must agree on count and type, rank by rank in order; a rank joins once.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import time
from functools import partial
from pathlib import Path
from typing import Any

import fake_gpu

available = True
NCCL_UINT8 = 1
ID_BYTES = 128
JOINING = 60.0  # seconds
_group: list[tuple[str, NcclCommunicator, int, int, int, int]] | None = None
_streams: set[int] = set()


class NcclError(RuntimeError):
    pass


def get_unique_id() -> bytes:
    return secrets.token_bytes(ID_BYTES)


def groupStart() -> None:
    global _group
    assert _group is None, "a group in a group"
    _group = []
    _streams.clear()


def groupEnd() -> None:
    global _group
    assert _group is not None, "the end of no group"
    group, _group = _group, None
    if group:
        [stream] = _streams
        fake_gpu._streams[stream]._put(_Group(group))


class NcclCommunicator:
    def __init__(self, ndev: int, commId: bytes, rank: int) -> None:
        assert type(commId) is bytes and len(commId) == ID_BYTES and 0 <= rank < ndev
        self.size, self.rank, self.aborted = ndev, rank, False
        self.device = fake_gpu._devices[-1]
        self.counts: dict[tuple[str, int], int] = {}
        self.folder = Path(os.environ["FAKE_NCCL"]) / commId[:8].hex()
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"rank-{rank}").touch(exist_ok=False)
        began = time.monotonic()
        while len(list(self.folder.glob("rank-*"))) < ndev:
            assert time.monotonic() - began < JOINING, "a rank does not join"
            time.sleep(1e-3)

    def send(self, buffer: int, count: int, datatype: int, peer: int, stream: int) -> None:
        self._note("send", buffer, count, datatype, peer, stream)

    def recv(self, buffer: int, count: int, datatype: int, peer: int, stream: int) -> None:
        self._note("recv", buffer, count, datatype, peer, stream)

    def _note(self, what: str, buffer: int, count: int, datatype: int, peer: int, stream: int) -> None:
        assert _group is not None, f"a {what} outside a group"
        assert not self.aborted and 0 <= peer < self.size and peer != self.rank
        assert datatype == NCCL_UINT8, "a type that changes bits"
        assert self.device == fake_gpu._devices[-1] == fake_gpu._streams[stream].device
        inside = (b.ptr <= buffer and buffer + count <= b.ptr + b.size for b in fake_gpu.blocks)
        assert count > 0 and any(inside), "memory that is not the GPU's"
        number = self.counts[what, peer] = self.counts.get((what, peer), 0) + 1
        _streams.add(stream)
        _group.append((what, self, buffer, count, peer, number))

    def check_async_error(self) -> None:
        assert not self.aborted
        if (self.folder / "error").exists():
            raise NcclError("NCCL_ERROR_REMOTE_ERROR")

    def abort(self) -> None:
        self.aborted = True


class _Group:
    """Work of a stream: all messages at once, done when all have come."""

    def __init__(self, messages: list[tuple[str, NcclCommunicator, int, int, int, int]]) -> None:
        self.left = [partial(getattr(self, what), *rest) for what, *rest in messages]

    def __call__(self) -> Any:
        self.left = [message for message in self.left if not message()]
        return fake_gpu.NOT_YET if self.left else None

    @staticmethod
    def send(own: NcclCommunicator, buffer: int, count: int, peer: int, number: int) -> bool:
        path = own.folder / f"{own.rank}-{peer}-{number}"
        header = json.dumps({"count": count}).encode().ljust(64)
        path.with_suffix(".part").write_bytes(header + ctypes.string_at(buffer, count))
        path.with_suffix(".part").rename(path)
        return True

    @staticmethod
    def recv(own: NcclCommunicator, buffer: int, count: int, peer: int, number: int) -> bool:
        path = own.folder / f"{peer}-{own.rank}-{number}"
        if not path.exists():
            return own.aborted
        data = path.read_bytes()
        path.unlink()
        assert json.loads(data[:64]) == {"count": count}, "sender and receiver disagree"
        ctypes.memmove(buffer, data[64:], count)
        return True
