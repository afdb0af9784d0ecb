"""Takes what the network's own threads bring, and hands it to the agent's loop: bounded, in order, without waiting.

Also decides which life of a member a message goes to, and notices a stranger who bears our name.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from understudy import limits
from understudy.errors import FrameError
from understudy.protocol.commands import Event, PeerFound, PeerLost, Received
from understudy.protocol.messages import decode_member_message
from understudy.transport import Peer


class Frame(Struct, frozen=True, gc=False):
    sender: Peer
    data: bytes


class Seen(Struct, frozen=True, gc=False):
    """A life was found, or lost."""

    peer: Peer
    found: bool


class Refusal(Struct, frozen=True, gc=False):
    reason: str


Arrival = Frame | Seen | Refusal


class Inbox:
    """The transport's Listener: any thread puts in, the agent's loop takes out.

    ``wake`` is called from those threads, once whenever something lies in an inbox that was empty. Frames beyond
    ``INBOX_FRAMES_MAX`` or ``INBOX_BYTES_MAX`` are dropped and counted, as a network drops them.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._arrivals: deque[Arrival] = deque()
        self._frames = 0
        self._bytes = 0
        self._dropped = 0

    def peer_found(self, peer: Peer) -> None:
        self._put(Seen(peer, True))

    def peer_lost(self, peer: Peer) -> None:
        self._put(Seen(peer, False))

    def refused(self, reason: str) -> None:
        self._put(Refusal(reason))

    def received(self, sender: Peer, frame: bytes) -> None:
        with self._lock:
            if self._frames >= limits.INBOX_FRAMES_MAX or self._bytes + len(frame) > limits.INBOX_BYTES_MAX:
                self._dropped += 1
                return
            self._frames += 1
            self._bytes += len(frame)
            first = not self._arrivals
            self._arrivals.append(Frame(sender, frame))
        if first:
            self._wake()

    def take(self) -> tuple[list[Arrival], int]:
        """Everything that has arrived, in order, and how many frames were dropped since the last time."""
        with self._lock:
            taken, dropped = list(self._arrivals), self._dropped
            self._arrivals.clear()
            self._frames = self._bytes = self._dropped = 0
        return taken, dropped

    def _put(self, arrival: Arrival) -> None:
        with self._lock:
            first = not self._arrivals
            self._arrivals.append(arrival)
        if first:
            self._wake()


class Directory:
    """Which lives of other members the network shows, and which of them a message to a name is for."""

    def __init__(self, me: Peer, own_lives: frozenset[int]) -> None:
        self._me = me
        self._own_lives = own_lives
        self._lives: dict[str, list[Peer]] = {}
        self._heard: dict[str, Peer] = {}
        """Lives that have written and are not shown: ahead of the news that they are there, or after their last."""
        self.strangers: set[Peer] = set()
        """Lives of our name that are neither ours nor an earlier one of ours: two members with one name."""

    def life_of(self, name: str) -> Peer | None:
        lives = self._lives.get(name)
        return lives[-1] if lives else self._heard.get(name)

    def seen(self, seen: Seen) -> list[Event]:
        """What the engine is told of a life that was found or lost."""
        peer = seen.peer
        if peer.name == self._me.name:
            if peer.incarnation not in (self._me.incarnation, *self._own_lives):
                (self.strangers.add if seen.found else self.strangers.discard)(peer)
            return []
        lives = self._lives.setdefault(peer.name, [])
        self._heard.pop(peer.name, None)
        if seen.found:
            if peer not in lives:
                lives.append(peer)
            return [PeerFound(peer.name, peer.incarnation)]
        if peer in lives:
            lives.remove(peer)
        events: list[Event] = [PeerLost(peer.name, peer.incarnation)]
        if lives:
            # Two lives of a name were shown for a while, and the one that the engine took for the last was the earlier.
            events.append(PeerFound(*lives[-1]))
        else:
            del self._lives[peer.name]
        return events

    def read(self, frame: Frame) -> Event:
        """The message in a frame. Raises: FrameError."""
        sender = frame.sender
        if sender.name == self._me.name:
            raise FrameError(f"another life of {sender.name!r} writes to us")
        message = decode_member_message(frame.data)
        if sender.name not in self._lives and len(self._heard) < limits.MEMBERS_MAX:
            self._heard[sender.name] = sender
        return Received(sender.name, sender.incarnation, message)
