"""The processes behind the ranks: on which machine each is, and whether it is still there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from ..reporting.owner import Owner
from .transport import Transport, gathered_bytes, lost

EAGER = 1e-3  # seconds without new messages before the thread sleeps between two polls
SHORTEST, LONGEST = 20e-6, 1e-3  # seconds between two polls
LOOK_EVERY = 0.5  # seconds between two looks at whether the other processes are there


class Peers:
    """The owners of the ranks' processes, by rank; None of one that is not known yet."""

    def __init__(self, rank: int, owners: Sequence[Owner | None]) -> None:
        self._rank, self._owners = rank, owners

    @classmethod
    def of(cls, transport: Transport) -> Peers:
        """Ask all ranks, which all call."""
        own = json.dumps(Owner.this().to_json()).encode()
        found = [Owner.of_json(json.loads(text)) for text in gathered_bytes(transport, own)]
        return cls(transport.rank, found)

    def named(self, rank: int) -> str:
        """A rank with its process."""
        owner = self._owners[rank]
        return f"{rank}" if owner is None else f"{rank} (process {owner.pid} on {owner.host})"

    def look(self, missing: Sequence[int], waited: float, limit: float) -> None:
        """Raise PeerLost if one of the missing ranks has ended, or they have been missing for too long."""
        gone = [rank for rank in missing if (owner := self._owners[rank]) is not None and owner.gone()]
        if gone:
            raise lost([self.named(rank) for rank in gone], "ended")
        if missing and waited > limit:
            raise lost([self.named(rank) for rank in missing], f"did not answer within {limit:g} s")

    def on_this_machine(self) -> list[int]:
        """The ranks whose processes are on this rank's machine."""
        own = self._owners[self._rank]
        here = (own is not None and owner is not None and owner.host == own.host for owner in self._owners)
        return [rank for rank, found in enumerate(here) if found]


def wait(done: Callable[[], bool], missing: Callable[[], Sequence[int]], peers: Peers, limit: float) -> None:
    """Poll until messages are through; raises PeerLost, which names the ranks that they wait for.

    done: whether all are through; missing: the ranks of those that are not; limit: seconds.
    """
    began = looked = time.monotonic()
    eager, pause = began + EAGER, SHORTEST
    while not done():
        now = time.monotonic()
        if now > eager:
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)
        if now - looked >= LOOK_EVERY:
            looked = now
            peers.look(missing(), now - began, limit)
