"""Direct paths between real sockets: they carry frames, break, come back, and let no stranger in."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from tests.conformance.test_transports import DirectNet, InLoop, Recorder
from tests.patience import PATIENCE_S

from understudy.protocol.settings import Settings
from understudy.transport import Peer, Transport, direct, handshake

A, B = ("a", 11), ("b", 12)
Pair = tuple[tuple[InLoop, Recorder], tuple[InLoop, Recorder]]


@pytest.fixture
def net() -> Iterator[DirectNet]:
    made = DirectNet()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pair(net: DirectNet) -> Pair:
    """Two members that send directly to each other."""
    a, b = net.make(*A), net.make(*B)
    net.soon(lambda: net.paired(a, b))
    return a, b


def port_of(member: InLoop) -> int:
    listening = member.paths._socket
    assert listening is not None
    return int(listening.getsockname()[1])


def test_small_frames_go_directly_and_large_ones_are_routed(net: DirectNet, pair: Pair) -> None:
    """S40: both arrive; heartbeats never wait behind a whole session."""
    (to_b, _a), (_, b) = pair
    routed: list[int] = []
    inner = to_b.paths._routed
    to_b.paths._routed = _Noting(inner, routed)  # type: ignore[assignment]
    for size in (1, 1_000, handshake.PAYLOAD_BYTES_MAX, 500_000):
        to_b.send(b.me, bytes(size))
    net.until(lambda: len(b.all("received")) == 4)
    assert routed == [handshake.PAYLOAD_BYTES_MAX + 1, 500_001]
    to_b.paths._routed = inner


class _Noting:
    """Passes frames on and notes their sizes."""

    def __init__(self, inner: object, sizes: list[int]) -> None:
        self._inner, self._sizes = inner, sizes

    def send(self, to: Peer, frame: bytes) -> None:
        self._sizes.append(len(frame))
        self._inner.send(to, frame)  # type: ignore[attr-defined]


def test_order_is_kept_when_a_path_opens(net: DirectNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """S40: frames that are sent all the time while the path comes up arrive in the order in which they were sent."""
    monkeypatch.setattr(direct, "HOLD_S_MAX", PATIENCE_S)  # no mark is lost here, but on a busy machine it is late
    a, b = net.make(*A), net.make(*B)
    net.until(lambda: a[1].sees(b[1].me) and b[1].sees(a[1].me))
    sent = 0
    while not net.in_loop(lambda: net.paired(a, b)) or sent < 500:
        a[0].send(b[1].me, b"%d" % sent)
        sent += 1
    for _ in range(200):
        a[0].send(b[1].me, b"%d" % sent)
        sent += 1
    net.until(lambda: b[1].all("received")[-1:] == [(a[1].me, b"%d" % (sent - 1))])
    assert b[1].all("received") == [(a[1].me, b"%d" % number) for number in range(sent)]


def test_a_broken_path_is_routed_around_and_comes_back(net: DirectNet, pair: Pair) -> None:
    """S40: frames pass while there is no path, and a new one is made."""
    (to_b, a), (to_a, b) = pair
    net.in_loop(lambda: [path.abort() for path in list(to_b.paths._paths.values())])
    net.soon(lambda: not to_a.paths.has_path(a.me) or net.paired(*pair))
    to_b.send(b.me, b"around")
    to_a.send(a.me, b"back")
    net.until(lambda: (a.me, b"around") in b.all("received") and (b.me, b"back") in a.all("received"))
    net.soon(lambda: net.paired(*pair))
    to_b.send(b.me, b"direct again")
    net.until(lambda: (a.me, b"direct again") in b.all("received"))


def test_a_path_comes_back_without_the_routed_transport(net: DirectNet, pair: Pair) -> None:
    """S40, S41: zenoh may take seconds after a cut until it carries an offer again: who dials remembers the address."""
    (to_b, a), (_, b) = pair
    for member, _ in pair:
        member.paths._routed = _Silent(member.paths._routed)  # type: ignore[assignment]
    for _ in range(2):
        net.in_loop(lambda: [path.abort() for path in list(to_b.paths._paths.values())])
        assert not net.in_loop(lambda: to_b.paths.has_path(b.me))
        net.soon(lambda: net.paired(*pair))
    to_b.send(b.me, b"direct again")
    net.until(lambda: (a.me, b"direct again") in b.all("received"))


class _Silent:
    """Carries nothing any more."""

    def __init__(self, inner: Transport) -> None:
        self.close, self.leave = inner.close, inner.leave

    def send(self, to: Peer, frame: bytes) -> None:
        pass


@pytest.mark.parametrize("who", [0, 1], ids=["who dials", "who is dialled"])
def test_a_path_that_one_end_has_given_up_is_made_anew(net: DirectNet, pair: Pair, who: int) -> None:
    """S40: in a cut of one direction the other end may not hear that its path has ended, and sends into nowhere."""
    (gone, me), (other, peer) = pair[who], pair[1 - who]
    ended = net.in_loop(lambda: gone.paths._paths[peer.me])
    kept = net.in_loop(lambda: other.paths._paths[me.me])
    net.in_loop(lambda: gone.paths.ended(ended))  # the other end is told nothing
    net.soon(lambda: net.paired(*pair) and other.paths._paths[me.me] is not kept)
    other.send(me.me, b"heard")
    net.until(lambda: (peer.me, b"heard") in me.all("received"))


def test_a_lost_mark_makes_nobody_suspect() -> None:
    """S40: the first frames of a new path wait for less than the silence after which a heartbeat is missed."""
    settings = Settings(member="a", incarnation=1, chooser=1)
    assert settings.lease_ms - settings.lease_ms // 3 > direct.HOLD_S_MAX * 1000


def test_a_member_without_direct_paths_is_reached(net: DirectNet) -> None:
    """``direct = false``: it dials nobody and offers nothing; frames go both ways all the same."""
    (to_b, a), (to_a, b) = net.make(*A), net.make(*B, dials=False)
    net.until(lambda: a.sees(b.me) and b.sees(a.me))
    to_b.send(b.me, b"there")
    to_a.send(a.me, b"back")
    net.until(lambda: b.all("received") == [(a.me, b"there")] and a.all("received") == [(b.me, b"back")])
    assert not net.in_loop(lambda: to_b.paths.has_path(b.me) or to_a.paths.has_path(a.me))


def test_a_new_life_gets_a_path_of_its_own(net: DirectNet, pair: Pair) -> None:
    """S26: what is sent to it does not end up with its former life."""
    (to_b, a), (first, b) = pair
    first.close()
    again = net.make("b", 13)
    net.soon(lambda: net.paired((to_b, a), again))
    to_b.send(again[1].me, b"to the new life")
    net.until(lambda: again[1].all("received") == [(a.me, b"to the new life")])
    assert not net.in_loop(lambda: to_b.paths.has_path(b.me))


FOREIGN = handshake.greeting(Peer("a", 1), Peer("c", 1), b"1" * 16)
HOSTILE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\xff\xff\xff\xff",
    (10).to_bytes(4, "big") + b"x" * 10,
    len(FOREIGN).to_bytes(4, "big") + FOREIGN,
]


@pytest.mark.parametrize("data", HOSTILE, ids=["http", "huge", "garbage", "for another"])
def test_a_hostile_connection_ends_alone(net: DirectNet, pair: Pair, data: bytes) -> None:
    """S52: it is closed with a reason, and the members' own path goes on."""
    (to_b, a), (_, b) = pair
    with socket.create_connection(("127.0.0.1", port_of(to_b)), timeout=PATIENCE_S) as stranger:
        stranger.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(100) == b""
    net.until(lambda: a.all("refused") != [])
    to_b.send(b.me, b"on")
    net.until(lambda: b.all("received") == [(a.me, b"on")])


def test_without_the_secret_nothing_is_said(net: DirectNet, pair: Pair) -> None:
    """S53: a stranger who greets properly and cannot prove the secret gets an answer that proves ours, and no more."""
    (to_b, a), _ = pair
    greeting = handshake.greeting(Peer("z", 99), a.me, b"1" * 16)
    with socket.create_connection(("127.0.0.1", port_of(to_b)), timeout=PATIENCE_S) as stranger:
        stranger.sendall(len(greeting).to_bytes(4, "big") + greeting)
        assert len(stranger.recv(100)) == 4 + handshake.NONCE_BYTES + handshake.MAC_BYTES
        stranger.sendall((16).to_bytes(4, "big") + b"p" * 16)
        assert stranger.recv(100) == b""
    net.until(lambda: a.all("refused") != [])
    assert "another secret" in str(a.all("refused")[0])
    assert a.all("received") == []
