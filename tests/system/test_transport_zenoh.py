"""zenoh between real processes: kill -9, stopped members, late seeds, strangers on the port, careless exits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zenoh
from tests.conformance.test_transports import Recorder, ZenohNet, free_address
from tests.patience import PATIENCE_S

from understudy import limits
from understudy.errors import TransportError
from understudy.transport import Peer
from understudy.transport.envelope import Shown, cluster_digest, login, token
from understudy.transport.zenoh import ZenohTransport

KEY = b"k" * 32
SOURCE = str(Path(limits.__file__).parents[1])
MEMBER = Path(__file__).with_name("transport_member.py")


@pytest.fixture
def net() -> Iterator[ZenohNet]:
    made = ZenohNet((KEY,))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a member's process; whatever still runs at the end is killed."""
    made: list[subprocess.Popen[str]] = []

    def start(**options: object) -> subprocess.Popen[str]:
        options = {"incarnation": 1, "listen": free_address(), "seeds": [], "key": KEY.decode(), **options}
        command = [sys.executable, str(MEMBER), json.dumps(options)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": SOURCE})
        made.append(process)
        return process

    yield start
    for process in made:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_zenoh_is_known_to_work_and_to_have_ended(net: ZenohNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """S23: as long as it works each renewal proves it, beside other members and after they have gone; when its session
    has ended underneath, that is told after a while, and closing waits for nothing."""
    monkeypatch.setattr("understudy.transport.zenoh.RENEW_S", 0.1)
    monkeypatch.setattr("understudy.transport.zenoh.SETTLE_S", 0.05)
    monkeypatch.setattr("understudy.transport.pulse.LOOKS_MAX", 10)
    transport, a = net.make("a")
    other, _ = net.make("b")
    net.until(lambda: a.sees(Peer("b", 1)))
    other.close()
    said = set()
    for _ in range(40):
        time.sleep(0.1)
        said.add(transport.failure())
    assert said == {""}
    transport._session.close()
    for _ in range(40):
        time.sleep(0.1)
        said.add(transport.failure())
    assert any("did not answer" in why for why in said)


def test_after_a_panic_nothing_of_zenoh_is_waited_for(net: ZenohNet) -> None:
    """S23: a frame that meets a panic ends nothing in the agent's loop; it is told at the next look, and closing is
    done although the library's own end never comes back."""

    class Panicking:
        """What zenoh's session is like when one of its locks is poisoned."""

        def put(self, *_: object, **__: object) -> None:
            raise type("PanicException", (BaseException,), {})("called `Result::unwrap()` on an `Err` value")

        def close(self) -> None:
            threading.Event().wait()

    transport, _ = net.make("a")
    session, transport._session = transport._session, Panicking()  # type: ignore[assignment]
    try:
        transport.send(Peer("b", 1), b"hello")
        assert transport.failure().startswith("it panicked (called")
        transport.leave()
        transport.close()
    finally:
        session.close()


def test_a_killed_member_is_lost_and_its_next_life_is_found(
    net: ZenohNet, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """S22, S26: kill -9 is noticed by the broken connection, and a new life on the same address is found."""
    _, a = net.make("a")
    listen = free_address()
    member = spawn(name="b", incarnation=1, listen=listen, seeds=[net.seed])
    net.until(lambda: a.sees(Peer("b", 1)))
    member.kill()
    net.until(lambda: a.all("lost") == [Peer("b", 1)])
    spawn(name="b", incarnation=2, listen=listen, seeds=[net.seed])
    net.until(lambda: a.sees(Peer("b", 2)))


def test_a_stopped_member_is_lost_does_not_hold_up_the_sender_and_comes_back(
    net: ZenohNet, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """S25: SIGSTOP is noticed by the lease; frames for the stopped one are dropped, those for others pass meanwhile."""
    to_a, a = net.make("a")
    _, c = net.make("c")
    member = spawn(name="b", seeds=[net.seed])
    b = Peer("b", 1)
    net.until(lambda: a.sees(b) and a.sees(c.me) and c.sees(b))
    member.send_signal(signal.SIGSTOP)
    for _ in range(64):  # 64 MiB: more than the sockets between them take
        to_a.send(b, bytes(1 << 20))
    for _ in range(2_000):
        to_a.send(b, bytes(10_000))
    to_a.send(c.me, b"small")
    net.until(lambda: c.all("received") == [(a.me, b"small")])
    net.until(lambda: a.all("lost") == [b] and c.all("lost") == [b])
    member.send_signal(signal.SIGCONT)
    net.until(lambda: a.sees(b) and c.sees(b))


def test_membership_heals_however_often_a_member_stops(
    net: ZenohNet, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """S25, S41: whenever one of three comes back, both others see it, and frames reach it from both.

    zenoh's routers alone lose a token and a subscription in about every third such return, and keep it lost.
    """
    to_a, a = net.make("a")
    to_c, c = net.make("c")
    member = spawn(name="b", seeds=[net.seed])
    b = Peer("b", 1)
    assert member.stdout is not None
    for round_number in range(1, 5):
        net.until(lambda: a.sees(b) and c.sees(b) and a.sees(c.me) and c.sees(a.me))
        frames = {"a": b"x" * (10 * round_number), "c": b"x" * (10 * round_number + 1)}
        wanted = {f"received {name} {len(frame)}\n" for name, frame in frames.items()}
        while wanted:  # a frame on the way to a member that has just come back may be lost, as any frame may
            to_a.send(b, frames["a"])
            to_c.send(b, frames["c"])
            wanted.discard(member.stdout.readline())
        member.send_signal(signal.SIGSTOP)
        net.until(lambda: not a.sees(b) and not c.sees(b))
        member.send_signal(signal.SIGCONT)


def test_a_seed_that_comes_late_is_found(net: ZenohNet) -> None:
    """``start`` waits for no seed, not even for a name that cannot be looked up; a late one is found."""
    seed = net.seed
    early = Recorder(Peer("early", 1), net.until.__self__._told)  # type: ignore[attr-defined]
    transport = ZenohTransport(
        cluster="shop", me=early.me, listen=free_address(), seeds=[seed, "no-such-host.invalid:7400"], link_keys=(KEY,)
    )
    try:
        transport.start(early)
        _, late = net.make("late")
        net.until(lambda: early.sees(late.me) and late.sees(early.me))
    finally:
        transport.close()


def test_the_address_in_use_is_named(net: ZenohNet) -> None:
    """The error says which address and what to do; a failed start can be closed, and the others do not notice."""
    _, a = net.make("a")
    second = ZenohTransport(cluster="shop", me=Peer("x", 1), listen=net.seed, seeds=[], link_keys=(KEY,))
    with pytest.raises(TransportError, match=rf"cannot listen on {net.seed}: the address is in use; end the other"):
        second.start(Recorder(Peer("x", 1), threading.Condition()))
    second.close()
    assert a.calls == []


def test_an_address_of_another_machine_is_named() -> None:
    """Listening on an address that this machine does not have is an error that names `listen`."""
    transport = ZenohTransport(cluster="c", me=Peer("x", 1), listen="192.0.2.1:7400", seeds=[], link_keys=(KEY,))
    with pytest.raises(TransportError, match=r"192\.0\.2\.1:7400: it is no address of this machine"):
        transport.start(Recorder(Peer("x", 1), threading.Condition()))
    transport.close()


@pytest.mark.parametrize("seed", ["nonsense", "10.0.0.1", "10.0.0.1:0", "10.0.0:7400", "a b:7400", "tcp/10.0.0.1:7400"])
def test_a_malformed_seed_is_named(seed: str) -> None:
    """The error shows the seed as it was written and how to write it."""
    with pytest.raises(TransportError, match=r"seed .* write it like"):
        ZenohTransport(cluster="c", me=Peer("x", 1), listen="127.0.0.1:7400", seeds=[seed], link_keys=(KEY,))


def test_an_exit_without_close_ends(net: ZenohNet, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    """S49: an interpreter that forgets ``close`` still exits, and its member is lost to the others."""
    _, a = net.make("a")
    careless = spawn(name="careless", seeds=[net.seed], exit=True)
    assert careless.wait(PATIENCE_S) == 0
    net.until(lambda: not a.sees(Peer("careless", 1)))


# --- strangers -------------------------------------------------------------------------------------------------------


def _stranger(seed: str, key: bytes | None) -> zenoh.Session:
    """A zenoh session of somebody else's making; with a key it can log in, like a router between members."""
    config: dict[str, object] = {"mode": "client", "connect": {"endpoints": [f"tcp/{seed}"], "timeout_ms": 1000}}
    if key is not None:
        user, password = login(key)
        config["transport"] = {"auth": {"usrpwd": {"user": user, "password": password}}}
    return zenoh.open(zenoh.Config.from_json5(json.dumps(config)))


def test_without_the_secret_there_is_no_link(net: ZenohNet) -> None:
    """S53: a zenoh client without the secret, or with another one, cannot connect, so it can read and join nothing."""
    net.make("a")
    for key in (None, b"x" * 32):
        with pytest.raises(zenoh.ZError):
            _stranger(net.seed, key)


def test_what_strangers_show_and_send_is_refused(net: ZenohNet) -> None:
    """S52, S53: behind the login, too, what has no proof changes nothing; each such token is reported once."""
    to_a, a = net.make("a")
    to_b, b = net.make("b")
    net.until(lambda: a.sees(b.me) and b.sees(a.me))
    with _stranger(net.seed, KEY) as session:
        prefix = f"understudy/{cluster_digest('shop')}"
        kept = [
            session.liveliness().declare_token(f"{prefix}/live/{shown}")
            for shown in (
                "garbage",
                "a/b/c/d",
                token(b"x" * 32, "shop", Shown(Peer("evil", 1), 0), limits.FORMAT_VERSION),
            )
        ]
        recorded: list[bytes] = []
        watch = session.declare_subscriber(f"{prefix}/to/**", lambda sample: recorded.append(sample.payload.to_bytes()))
        net.until(lambda: len(a.all("refused")) >= 3 and len(b.all("refused")) >= 3)
        for _ in range(100):
            session.put(f"{prefix}/to/a/{1:016x}", b"not a frame")
        while not set(recorded) - {b"not a frame"}:  # b learns of the watch at some time
            sent = len(a.all("received"))
            to_b.send(a.me, b"heard")
            net.until(lambda sent=sent: len(a.all("received")) > sent)  # type: ignore[misc]
        heard = a.all("received")
        for frame in list(recorded):  # the watch hears these, too
            session.put(f"{prefix}/to/a/{1:016x}", frame)
            session.put(f"{prefix}/to/b/{1:016x}", frame)
        to_a.send(b.me, b"and")
        to_b.send(a.me, b"again")
        net.until(lambda: (b.me, b"again") in a.all("received") and (a.me, b"and") in b.all("received"))
        del kept, watch
    assert set(heard) == {(b.me, b"heard")}
    assert a.all("received") == [*heard, (b.me, b"again")] and b.all("received") == [(a.me, b"and")]
    assert a.all("found") == [b.me] and b.all("found") == [a.me]
    reasons = [str(reason) for reason in a.all("refused")]
    assert sum("evil has another secret" in reason for reason in reasons) == 1
    assert sum("no member of Understudy" in reason for reason in reasons) == 2
    assert 4 <= len(reasons) <= 10, "a hundred bad frames are a few reports"
