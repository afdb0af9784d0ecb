"""How members find each other and exchange messages: the seam between the agent and the network.

A transport knows bytes, member names and incarnations; it decides nothing. It may lose, repeat, delay and reorder
messages: whatever must arrive is sent again by the protocol. No call of an agent into a transport waits for the
network. ``zenoh`` and ``memory`` pass one conformance suite.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Peer(NamedTuple):
    """One life of one member."""

    name: str
    incarnation: int


class Listener(Protocol):
    """What an agent gives to its transport. Calls may come from any thread and must return at once."""

    def peer_found(self, peer: Peer) -> None:
        """A member is there; called for those that were there before us, too. May be called again for one life."""

    def peer_lost(self, peer: Peer) -> None:
        """The network says that this life has ended or can be reached no more."""

    def received(self, sender: Peer, frame: bytes) -> None:
        """A frame whose sender has proved that it shares the cluster's secret."""

    def refused(self, reason: str) -> None:
        """A peer or frame was turned away: wrong secret, wrong format version, a name that is taken."""


class Transport(Protocol):
    """The network as one member sees it."""

    def start(self, listener: Listener) -> None:
        """Join. Raises: TransportError (address in use, bad seed) with what to do."""

    def send(self, to: Peer, frame: bytes) -> None:
        """Give a frame to the network; never waits, never raises for an unreachable peer."""

    def flush(self) -> None:
        """Let everything leave that was sent since the last time: what one turn sends to a member may go at once."""

    def failure(self) -> str:
        """Why this transport does not work any more, for good, or ""; asked once a second while it is started."""

    def leave(self) -> None:
        """Tell the others that this member goes, before its last frames; they report ``peer_lost``."""

    def close(self) -> None:
        """End everything, also after a failed start; nothing is called afterwards."""
