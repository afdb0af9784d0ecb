"""Gives a network in memory with a virtual clock, on which every loss, delay and repeat comes from one seed.

For tests and the simulator: one thread, no waiting. Nothing happens until ``step`` or ``deliver_until`` is called,
which give the next due frame or membership notice to its listener. What a listener sends meanwhile is queued, never
delivered inside its own call. Two runs from one seed with the same calls are the same run.

Faults go by member name and touch every life of that name. A cut is a cut: no third member forwards around it, which
is harder for the protocol than zenoh is.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from understudy import limits
from understudy.transport import Listener, Peer


class Counters(NamedTuple):
    """What the network did so far, in frames."""

    sent: int
    delivered: int
    lost: int
    repeated: int


class _Place:
    """One life on the network."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.listener: Listener | None = None
        self.shown = False  # its token is there: started, and neither left nor ended
        self.running = False  # started and not ended: frames go out and come in
        self.paused_at_ms: int | None = None
        self.waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []  # what waits for the end of a pause
        self.found: set[Peer] = set()  # what its listener was told


class MemoryTransport:
    """One member's place on a ``MemoryNetwork``; made by ``MemoryNetwork.transport``."""

    def __init__(self, network: MemoryNetwork, me: Peer) -> None:
        self._network = network
        self._me = me

    def start(self, listener: Listener) -> None:
        """Join; others are told after ``found_ms``, and so is this listener."""
        self._network._start(self._me, listener)

    def send(self, to: Peer, frame: bytes) -> None:
        """Give a frame to the network; it may be lost, repeated, delayed or overtaken."""
        self._network._send(self._me, to, frame)

    def flush(self) -> None:
        """Nothing was kept back."""

    def failure(self) -> str:
        """A network in memory does not fail for good."""
        return ""

    def leave(self) -> None:
        """The others report ``peer_lost``, while frames still go both ways. Idempotent."""
        self._network._leave(self._me)

    def close(self) -> None:
        """End everything; nothing is called afterwards. Idempotent."""
        self._network._close(self._me)


class MemoryNetwork:
    """The network that all members of one simulated cluster share.

    ``loss`` and ``repeat`` are shares of frames, 0 to 1. ``delay_ms`` is the least and the most that a frame takes;
    frames from one life to another keep their order, except for the share ``reorder``, which is late by up to ten
    times the most, and the share ``late``, which is late by up to ``late_ms``. ``found_ms`` is what it takes until a
    member that can be reached is found, ``detect_ms`` until one that cannot be reached or has crashed is lost,
    ``silent_ms`` the same for one that is paused, and ``resumed_ms`` until that one, going on, has lost all others.
    Cost: O(log n) per frame in n frames under way.
    """

    def __init__(
        self,
        seed: int,
        *,
        loss: float = 0.0,
        repeat: float = 0.0,
        reorder: float = 0.0,
        late: float = 0.0,
        late_ms: int = 10_000,
        delay_ms: tuple[int, int] = (1, 5),
        found_ms: tuple[int, int] = (1, 20),
        detect_ms: int = 100,
        silent_ms: int = 1_500,
        resumed_ms: int = 0,
    ) -> None:
        self.loss, self.repeat, self.reorder, self.late, self.late_ms = loss, repeat, reorder, late, late_ms
        self.delay_ms, self.found_ms = delay_ms, found_ms
        self.detect_ms, self.silent_ms, self.resumed_ms = detect_ms, silent_ms, resumed_ms
        self.now_ms = 0
        self._random = Random(seed)
        self._instants: list[int] = []
        """A heap of those at which something happens."""
        self._due: dict[int, deque[tuple[Callable[..., None], tuple[Any, ...]]]] = {}
        """Instant -> what happens then, in order."""
        self._places: dict[Peer, _Place] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._last_ms: dict[tuple[Peer, Peer], int] = {}  # arrival of the last frame in order
        self._views: dict[tuple[Peer, Peer], int] = {}  # (who looks, at whom) -> number of the check that counts
        self._sent = self._delivered = self._lost = self._repeated = 0

    def transport(self, me: Peer) -> MemoryTransport:
        """Gives the place of one life, which no other life may have had."""
        assert me not in self._places, f"{me} is on this network already; a new life has a new incarnation"
        self._places[me] = _Place(me)
        return MemoryTransport(self, me)

    @property
    def counters(self) -> Counters:
        """Gives what happened to frames so far."""
        return Counters(self._sent, self._delivered, self._lost, self._repeated)

    # --- time ----------------------------------------------------------------------------------------------------

    def at(self, due_ms: int, happens: Callable[..., None], *arguments: Any) -> None:
        """Lets something happen at an instant, in one row with frames and notices."""
        due = self._due.get(due_ms)
        if due is None:
            due = self._due[due_ms] = deque()
            heapq.heappush(self._instants, due_ms)
        due.append((happens, arguments))

    def next_ms(self) -> int | None:
        """Gives when the next frame or notice is due, or None when nothing is under way."""
        return self._instants[0] if self._instants else None

    def step(self) -> bool:
        """Delivers the next due frame or notice, with the clock moved to it. False when nothing is under way.

        A frame that is lost on the way, or a notice that no longer holds, takes a step and calls nobody.
        """
        if not self._instants:
            return False
        due_ms = self._instants[0]
        self.now_ms = max(self.now_ms, due_ms)
        happens, arguments = self._due[due_ms].popleft()
        if not self._due[due_ms]:
            del self._due[heapq.heappop(self._instants)]
        happens(*arguments)
        return True

    def deliver_until(self, now_ms: int) -> None:
        """Delivers everything that is due up to and at ``now_ms``, and moves the clock there."""
        assert now_ms >= self.now_ms, "time does not go back"
        instants = self._instants
        while instants and instants[0] <= now_ms:
            due_ms = heapq.heappop(instants)
            self.now_ms = max(self.now_ms, due_ms)
            due = self._due[due_ms]  # stays there, for what is put at this very instant
            while due:
                happens, arguments = due.popleft()
                happens(*arguments)
            del self._due[due_ms]
        self.now_ms = now_ms

    # --- faults --------------------------------------------------------------------------------------------------

    def cut(self, a: str, b: str) -> None:
        """From now on nothing passes between two members; frames under way are lost too."""
        self._cuts |= {(a, b), (b, a)}
        self._look_between(a, b)

    def cut_one_way(self, a: str, b: str) -> None:
        """From now on nothing passes from ``a`` to ``b``; only ``b`` reports ``peer_lost``."""
        self._cuts.add((a, b))
        self._look_between(a, b)

    def is_cut(self, a: str, b: str) -> bool:
        """True while nothing passes in at least one direction."""
        return (a, b) in self._cuts or (b, a) in self._cuts

    def heal(self, a: str, b: str) -> None:
        """Ends cuts between two members, in both directions."""
        self._cuts -= {(a, b), (b, a)}
        self._look_between(a, b)

    def heal_all(self) -> None:
        """Ends every cut."""
        cuts, self._cuts = sorted(self._cuts), set()
        for a, b in cuts:
            self._look_between(a, b)

    def crash(self, name: str) -> None:
        """Ends a member without a word. Frames that it had sent may arrive; its listener is never called again."""
        for place in self._named(name):
            place.shown = place.running = False
            place.waiting.clear()
            self._look_at(place.peer, self.detect_ms)

    def pause(self, name: str) -> None:
        """Stops a member's world: what is for it waits. After ``silent_ms`` the others report ``peer_lost``."""
        for place in self._named(name):
            if place.running and place.paused_at_ms is None:
                place.paused_at_ms = self.now_ms
                self._look_at(place.peer, self.detect_ms)

    def resume(self, name: str) -> None:
        """Lets a member go on: it is given what waited and, if it was silent for long, loses and finds the others."""
        for place in self._named(name):
            if place.paused_at_ms is None:
                continue
            silent = self.now_ms - place.paused_at_ms >= self.silent_ms
            place.paused_at_ms = None
            waiting, place.waiting = place.waiting, []
            for deliver, arguments in waiting:
                self.at(self.now_ms, deliver, *arguments)
            if silent:
                for peer in sorted(place.found):
                    self.at(self.now_ms + self.resumed_ms, self._lose, place, peer)
            self._look_at(place.peer, self.detect_ms)
            for other in list(self._places.values()):
                self._look(place, other, self.detect_ms)

    # --- what a transport calls ----------------------------------------------------------------------------------

    def _start(self, me: Peer, listener: Listener) -> None:
        place = self._places[me]
        assert place.listener is None, "a transport starts once"
        place.listener, place.shown, place.running = listener, True, True
        self._look_at(me, self.detect_ms)
        for other in list(self._places.values()):
            self._look(place, other, self.detect_ms)

    def _send(self, me: Peer, to: Peer, frame: bytes) -> None:
        assert len(frame) <= limits.FRAME_BYTES_MAX, "the protocol bounds what it sends"
        if not self._places[me].running or to == me:
            return
        self._sent += 1
        if (self._cuts and (me.name, to.name) in self._cuts) or (self.loss and self._random.random() < self.loss):
            self._lost += 1
            return
        frame = bytes(frame)
        self.at(self._arrival_ms(me, to), self._arrive, me, to, frame)
        if self.repeat and self._random.random() < self.repeat:
            self._repeated += 1
            late_ms = self.now_ms + self._drawn(*self.delay_ms) * self._drawn(1, 10)
            self.at(late_ms, self._arrive, me, to, frame)

    def _leave(self, me: Peer) -> None:
        place = self._places[me]
        if place.shown:
            place.shown = False
            self._look_at(me, self._drawn(*self.delay_ms))

    def _close(self, me: Peer) -> None:
        self._leave(me)
        place = self._places[me]
        place.running = False
        place.waiting.clear()

    # --- inside --------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> list[_Place]:
        return [place for place in self._places.values() if place.peer.name == name]

    def _drawn(self, least: int, most: int) -> int:
        """``Random.randint``, value for value, at a third of its cost."""
        values = most - least + 1
        bits = values.bit_length()
        drawn = self._random.getrandbits(bits)
        while drawn >= values:
            drawn = self._random.getrandbits(bits)
        return least + drawn

    def _arrival_ms(self, me: Peer, to: Peer) -> int:
        due_ms = self.now_ms + self._drawn(*self.delay_ms)
        if self.reorder and self._random.random() < self.reorder:
            return due_ms + self._drawn(0, 10 * self.delay_ms[1])
        if self.late and self._random.random() < self.late:
            return due_ms + self._drawn(0, self.late_ms)
        due_ms = max(due_ms, self._last_ms.get((me, to), 0))
        self._last_ms[me, to] = due_ms
        return due_ms

    def _arrive(self, sender: Peer, to: Peer, frame: bytes) -> None:
        place = self._places.get(to)
        if place is None or not place.running or (self._cuts and (sender.name, to.name) in self._cuts):
            self._lost += 1
        elif place.paused_at_ms is not None:
            place.waiting.append((self._arrive, (sender, to, frame)))
        else:
            self._delivered += 1
            assert place.listener is not None
            place.listener.received(sender, frame)

    def _reaches(self, place: _Place, seen: _Place) -> bool:
        """What membership comes to once the network has noticed: whether ``place`` hears of ``seen``."""
        silent = seen.paused_at_ms is not None and self.now_ms - seen.paused_at_ms >= self.silent_ms
        return seen.shown and not silent and (seen.peer.name, place.peer.name) not in self._cuts

    def _look_between(self, a: str, b: str) -> None:
        for one in self._named(a):
            for other in self._named(b):
                self._look(one, other, self.detect_ms)
                self._look(other, one, self.detect_ms)

    def _look_at(self, seen: Peer, lost_ms: int) -> None:
        for place in list(self._places.values()):
            self._look(place, self._places[seen], lost_ms)

    def _look(self, place: _Place, seen: _Place, lost_ms: int) -> None:
        """Something changed: ``place`` looks at ``seen`` after the time it takes to find, or to miss, a member.

        A later change makes an earlier look void, so that what lasts shorter than that is not noticed.
        """
        if place is seen or not place.running or not (seen.shown or seen.peer in place.found):
            return
        pair = (place.peer, seen.peer)
        number = self._views[pair] = self._views.get(pair, 0) + 1
        if not self._reaches(place, seen):
            after_ms = lost_ms
        elif seen.paused_at_ms is not None:
            after_ms = seen.paused_at_ms + self.silent_ms - self.now_ms
        else:
            after_ms = self._drawn(*self.found_ms)
        self.at(self.now_ms + after_ms, self._looked, place, seen, number)

    def _looked(self, place: _Place, seen: _Place, number: int) -> None:
        if self._views[place.peer, seen.peer] != number or not place.running:
            return
        if place.paused_at_ms is not None:
            place.waiting.append((self._looked, (place, seen, number)))
        elif not self._reaches(place, seen):
            self._tell_lost(place, seen.peer)
        elif seen.peer not in place.found:
            place.found.add(seen.peer)
            assert place.listener is not None
            place.listener.peer_found(seen.peer)

    def _lose(self, place: _Place, peer: Peer) -> None:
        """What the network of a member that stood still does: it loses the others, and finds those that are there."""
        self._tell_lost(place, peer)
        if self.resumed_ms:
            self._look(place, self._places[peer], self.detect_ms)

    def _tell_lost(self, place: _Place, peer: Peer) -> None:
        if place.running and peer in place.found:
            place.found.remove(peer)
            assert place.listener is not None
            place.listener.peer_lost(peer)
