"""The network in memory: one seed decides everything, and each fault does what it says and nothing else."""

from __future__ import annotations

import pytest

from understudy.transport import Peer
from understudy.transport.memory import MemoryNetwork, MemoryTransport


class Log:
    """A listener that writes down what it was told, and when."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.calls: list[tuple[int, str, object]] = []

    def peer_found(self, peer: Peer) -> None:
        self.calls.append((self.network.now_ms, "found", peer.name))

    def peer_lost(self, peer: Peer) -> None:
        self.calls.append((self.network.now_ms, "lost", peer.name))

    def received(self, sender: Peer, frame: bytes) -> None:
        self.calls.append((self.network.now_ms, "received", frame))

    def refused(self, reason: str) -> None:
        self.calls.append((self.network.now_ms, "refused", reason))

    def all(self, kind: str) -> list[object]:
        return [value for _, k, value in self.calls if k == kind]


A, B, C = Peer("a", 1), Peer("b", 1), Peer("c", 1)


def joined(network: MemoryNetwork, *peers: Peer) -> tuple[dict[Peer, MemoryTransport], dict[Peer, Log]]:
    """Members that have found each other, with empty logs."""
    transports = {peer: network.transport(peer) for peer in peers}
    logs = {peer: Log(network) for peer in peers}
    for peer in peers:
        transports[peer].start(logs[peer])
    network.deliver_until(1000)
    for peer, log in logs.items():
        assert sorted(map(str, log.all("found"))) == sorted(p.name for p in peers if p != peer)
        log.calls.clear()
    return transports, logs


def storm(seed: int) -> tuple[list[tuple[int, str, object]], MemoryNetwork]:
    network = MemoryNetwork(seed, loss=0.2, repeat=0.2, reorder=0.3)
    transports, logs = joined(network, A, B)
    for number in range(200):
        transports[A].send(B, b"%d" % number)
        network.deliver_until(network.now_ms + 1)
    network.deliver_until(5000)
    return logs[B].calls, network


def test_one_seed_one_history() -> None:
    """Two runs from one seed are the same, call by call; another seed gives another run."""
    assert storm(1)[0] == storm(1)[0] != storm(2)[0]


def test_loss_repeats_and_reordering_happen() -> None:
    """Each of the three is seen, what arrives is what was sent, and the counters add up (S15)."""
    calls, network = storm(3)
    numbers = [int(str(frame, "ascii")) for _, kind, frame in calls if kind == "received" and isinstance(frame, bytes)]
    assert set(numbers) < set(range(200))
    assert len(numbers) > len(set(numbers))
    assert numbers != sorted(numbers)
    sent, delivered, lost, repeated = network.counters
    assert sent == 200 and lost > 0 and repeated > 0
    assert delivered == len(numbers) == sent - lost + repeated


def test_a_quiet_network_keeps_the_order_and_loses_nothing() -> None:
    """Without loss, repeat and reorder, frames of one pair arrive once and in order, within the delay."""
    network = MemoryNetwork(1, delay_ms=(1, 50))
    transports, logs = joined(network, A, B)
    for number in range(100):
        transports[A].send(B, b"%d" % number)
    network.deliver_until(network.now_ms + 50)
    assert logs[B].all("received") == [b"%d" % number for number in range(100)]
    assert network.next_ms() is None and not network.step()


def test_a_frame_sent_from_a_call_is_delivered_later() -> None:
    """A listener that answers at once is not called again inside its own call."""
    network = MemoryNetwork(1, delay_ms=(0, 0))
    transports, logs = joined(network, A, B)
    transports[A].send(B, b"question")
    assert logs[B].calls == []
    assert network.step() and logs[B].all("received") == [b"question"]


def test_time_stands_where_it_was_put() -> None:
    """``deliver_until`` delivers what is due then, nothing later, and the clock never goes back."""
    network = MemoryNetwork(1, delay_ms=(10, 10))
    transports, logs = joined(network, A, B)
    transports[A].send(B, b"x")
    due_ms = network.next_ms()
    assert due_ms == network.now_ms + 10
    network.deliver_until(due_ms - 1)
    assert logs[B].calls == []
    network.deliver_until(due_ms)
    assert logs[B].calls == [(due_ms, "received", b"x")]
    with pytest.raises(AssertionError):
        network.deliver_until(due_ms - 1)


def test_a_cut_stops_both_ways_and_heals() -> None:
    """S38: frames under way and later ones are lost, both lose each other after ``detect_ms`` and find again."""
    network = MemoryNetwork(1, detect_ms=100)
    transports, logs = joined(network, A, B, C)
    transports[A].send(B, b"under way")
    network.cut("a", "b")
    transports[B].send(A, b"into the cut")
    transports[C].send(B, b"past it")
    network.deliver_until(network.now_ms + 99)
    assert logs[B].all("received") == [b"past it"] and logs[B].all("lost") == []
    network.deliver_until(network.now_ms + 1)
    assert logs[A].all("lost") == ["b"] and logs[B].all("lost") == ["a"] and logs[C].calls == []
    network.heal_all()
    transports[A].send(B, b"healed")
    network.deliver_until(network.now_ms + 100)
    assert logs[A].all("found") == ["b"] and logs[B].all("found") == ["a"]
    assert logs[B].all("received")[1:] == [b"healed"] and logs[A].all("received") == []


def test_a_one_way_cut_is_noticed_by_the_deaf_side() -> None:
    """S40: what is cut is lost, the other direction works, and only the member that hears nothing reports a loss."""
    network = MemoryNetwork(1)
    transports, logs = joined(network, A, B)
    network.cut_one_way("a", "b")
    transports[A].send(B, b"unheard")
    transports[B].send(A, b"heard")
    network.deliver_until(network.now_ms + 1000)
    assert logs[B].calls[0][1:] == ("lost", "a") and len(logs[B].calls) == 1
    assert logs[A].all("received") == [b"heard"] and logs[A].all("lost") == []


def test_a_cut_shorter_than_detection_is_not_noticed() -> None:
    """S41: a flap that heals in time costs frames, not membership."""
    network = MemoryNetwork(1, detect_ms=100)
    _, logs = joined(network, A, B)
    for _ in range(5):
        network.cut("a", "b")
        network.deliver_until(network.now_ms + 60)
        network.heal("a", "b")
        network.deliver_until(network.now_ms + 60)
    assert logs[A].calls == logs[B].calls == []


def test_a_crash_leaves_frames_under_way() -> None:
    """What a crashed member had sent arrives; it hears nothing more, and is lost to the others after ``detect_ms``."""
    network = MemoryNetwork(1, detect_ms=100)
    transports, logs = joined(network, A, B)
    transports[A].send(B, b"last")
    transports[B].send(A, b"too late")
    network.crash("a")
    transports[A].send(B, b"from the dead")
    crashed_ms = network.now_ms
    network.deliver_until(crashed_ms + 1000)
    assert logs[B].all("received") == [b"last"]
    assert logs[B].calls[-1] == (crashed_ms + 100, "lost", "a")
    assert logs[A].calls == []


def test_a_second_life_while_the_first_is_not_yet_missed() -> None:
    """S26: a new life under the same name is found as itself, before or after the old one is lost."""
    network = MemoryNetwork(1, detect_ms=500)
    _, logs = joined(network, A, B)
    network.crash("a")
    again = Log(network)
    network.transport(Peer("a", 2)).start(again)
    network.deliver_until(network.now_ms + 100)
    assert logs[B].all("found") == ["a"] and logs[B].all("lost") == []
    network.deliver_until(network.now_ms + 500)
    assert logs[B].all("lost") == ["a"]
    assert again.all("found") == ["b"]


def test_a_short_pause_only_delays() -> None:
    """Frames for a paused member wait for it, in order; nobody misses it before ``silent_ms``."""
    network = MemoryNetwork(1, silent_ms=1000)
    transports, logs = joined(network, A, B)
    network.pause("b")
    for number in range(3):
        transports[A].send(B, b"%d" % number)
    network.deliver_until(network.now_ms + 999)
    assert logs[B].calls == []
    network.resume("b")
    network.deliver_until(network.now_ms + 5000)
    assert logs[B].all("received") == [b"0", b"1", b"2"]
    assert logs[A].all("lost") == logs[B].all("lost") == []


def test_a_long_pause_is_noticed_by_both_sides() -> None:
    """S25: the others lose a silent member; when it goes on it gets what waited, then loses and finds them."""
    network = MemoryNetwork(1, silent_ms=1000)
    transports, logs = joined(network, A, B)
    network.pause("b")
    network.cut("a", "b")
    network.heal("a", "b")  # a flap meanwhile does not make anybody forget the silence
    transports[A].send(B, b"waits")
    network.deliver_until(network.now_ms + 5000)
    assert logs[A].all("lost") == ["b"] and logs[B].calls == []
    network.resume("b")
    network.deliver_until(network.now_ms + 1000)
    assert [call[1:] for call in logs[B].calls] == [("received", b"waits"), ("lost", "a"), ("found", "a")]
    assert logs[A].all("found") == ["b"]


def test_a_life_joins_once() -> None:
    """Two places for one life would be a mistake of the test that made them."""
    network = MemoryNetwork(1)
    network.transport(A)
    with pytest.raises(AssertionError):
        network.transport(A)
