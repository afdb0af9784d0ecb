"""Django's ``SessionStore`` under Django's own middleware, and what is Django's alone among the adapters."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.middleware import SessionMiddleware as DjangosMiddleware
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.utils import timezone
from tests.agents import Line, ScriptedAgent
from tests.django_settings import DJANGO_SETTINGS

from understudy.client.member import _members
from understudy.django import SessionStore, cluster
from understudy.django.runtime import RUNTIME, configured
from understudy.errors import ConfigurationError, SessionUnavailable
from understudy.model import values
from understudy.model.commit import Commit, Creation, Outcome, Stamp, created
from understudy.model.entry import Entry
from understudy.protocol.messages import (
    CommitAnswer,
    CommitRequest,
    FetchAnswer,
    FetchOutcome,
    FetchRequest,
    Reply,
    SettleRequest,
)
from understudy.store.lmdb import LmdbStore

MINUTE_MS = 60_000
Response = Any


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    monkeypatch.setenv("UNDERSTUDY_MEMBER", "web1")
    for name, value in DJANGO_SETTINGS.items():
        setattr(settings, name, value)
    settings.UNDERSTUDY, settings.SESSION_SAVE_EVERY_REQUEST = {}, False
    RUNTIME.reset()
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


def request(view: Callable[[Any], object], cookie: str = "") -> Response:
    """One request through Django's own middleware."""
    made = RequestFactory().get("/")
    if cookie:
        made.COOKIES["session"] = cookie

    def get_response(given: Any) -> HttpResponse:
        return HttpResponse(str(view(given.session)))

    return DjangosMiddleware(get_response)(made)


def cookie_of(response: Response) -> str | None:
    return response.cookies["session"].value if "session" in response.cookies else None


def begun(**attributes: Any) -> str:
    """The key of a new session."""
    session = SessionStore()
    session.update(attributes)
    session.save()
    assert session.session_key is not None
    return str(session.session_key)


def store() -> LmdbStore:
    return RUNTIME.client().member.store


def entry() -> Entry:
    (key,) = cluster.manager.sessions
    found = store().read(bytes.fromhex(key)).entry
    assert found is not None
    return found


def made_older(ms: int) -> None:
    """The one session was used last so much earlier."""

    def change(found: Entry | None) -> tuple[Outcome, Entry | None]:
        assert found is not None
        times = msgspec.structs.replace(found.times, accessed_ms=found.times.accessed_ms - ms)
        return Outcome.COMMITTED, msgspec.structs.replace(found, times=times)

    (key,) = cluster.manager.sessions
    with store().write() as transaction:
        transaction.change(bytes.fromhex(key), change)


# --- changes ---------------------------------------------------------------------------------------------------------


def test_djangos_middleware_saves_a_nested_change() -> None:
    """S06: without ``modified = True``; and a request that changed nothing saves nothing and sends no cookie."""
    key = begun(cart={"items": [1]})
    before = entry()
    read = request(lambda session: session["cart"]["items"], key)
    assert (read.content, cookie_of(read), entry()) == (b"[1]", None, before)
    changed = request(lambda session: session["cart"]["items"].append(2), key)
    assert cookie_of(changed) == key
    assert SessionStore(key)["cart"] == {"items": [1, 2]}


def test_modified_can_be_taken_back() -> None:
    """``modified = False`` passes over what was changed before it, and nothing that is changed after it."""
    session = SessionStore(begun(cart=[1]))
    session["cart"].append(2)
    assert session.modified
    session.modified = False
    assert not session.modified
    session["cart"].append(3)
    assert session.modified


def test_values_of_all_kinds_come_back() -> None:
    """What Django's own serializer refuses or changes: times, decimals, ids, tuples, sets, keys that are numbers."""
    values = {
        "when": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "price": Decimal("9.90"),
        "id": UUID(int=7),
        "pair": (1, 2),
        "tags": {"a", "b"},
        "counts": {1: 2},
    }
    assert dict(SessionStore(begun(**values)).items()) == values


def test_concurrent_requests_keep_each_others_keys() -> None:
    """S02: whichever is saved first."""
    key = begun(n=1)
    one, two = SessionStore(key), SessionStore(key)
    one["one"], two["two"] = 1, 2
    two.save()
    one.save()
    assert dict(SessionStore(key).items()) == {"n": 1, "one": 1, "two": 2}


def test_two_transactions_add_two() -> None:
    """S03: in a new session as well, blocking or not; the cookie follows."""
    session = SessionStore()
    assert session.transact(lambda s: s.update(n=s.get("n", 0) + 1) or s["n"]) == 1
    assert session.modified and session.session_key
    other = SessionStore(session.session_key)
    assert asyncio.run(other.atransact(lambda s: s.update(n=s["n"] + 1) or s["n"])) == 2


# --- whose session ---------------------------------------------------------------------------------------------------


def test_save_never_brings_a_session_back() -> None:
    """S04: UpdateError, also when nothing was changed, else the cookie would follow; and in a coroutine."""
    for change in ({}, {"n": 2}):
        key = begun(n=1)
        late, late_too = SessionStore(key), SessionStore(key)
        for session in (late, late_too):
            assert session["n"] == 1
            session.update(change)
        SessionStore(key).flush()
        with pytest.raises(UpdateError):
            late.save()
        with pytest.raises(UpdateError):
            asyncio.run(late_too.asave())
        with pytest.raises(UpdateError):
            SessionStore(key).save()
        assert not SessionStore().exists(key)
    assert len(cluster.manager.sessions) == 0


def test_a_late_reader_leaves_the_next_logins_cookie_alone() -> None:
    """S04: its own cookie opens nothing any more, and Django's middleware would take the newer one away with it."""
    key = begun(user="ada")
    SessionStore(key).flush()
    assert cookie_of(request(lambda session: session.get("user"), key)) is None
    assert cookie_of(request(lambda session: "unused", "tooshort"[:5])) is None
    assert cookie_of(request(lambda session: session.flush(), key)) == "", "who logs out takes his own away"


def test_an_interrupted_request_is_told() -> None:
    """S04: a slow writer whose session was ended is answered 400 by Django, and no cookie is sent."""
    key = begun(user="ada")

    def slow(session: Any) -> None:
        session["user"] = "ghost"
        SessionStore(key).flush()

    with pytest.raises(SessionInterrupted):
        request(slow, key)
    assert SessionStore(key).get("user") is None


def test_create_takes_no_key_that_somebody_chose() -> None:
    """S05: CreateError where it exists; where it does not, the session gets a key of ours."""
    key = begun(n=1)
    with pytest.raises(CreateError):
        SessionStore(key).save(must_create=True)
    chosen = SessionStore("chosen-by-a-client")
    chosen.save(must_create=True)
    assert chosen.session_key not in ("chosen-by-a-client", None)
    assert not chosen.exists("chosen-by-a-client") and chosen.exists(chosen.session_key)


def test_cycle_key_keeps_the_session_and_fences_the_old_key() -> None:
    """S11 (fixation): the same entry under a new key, at once; the old one neither reads nor writes."""
    for cycle in (lambda s: s.cycle_key(), lambda s: asyncio.run(s.acycle_key())):
        key = begun(cart=[1])
        place = set(cluster.manager.sessions)
        planted = SessionStore(key)
        assert planted["cart"] == [1]
        login = SessionStore(key)
        cycle(login)
        login["_auth_user_id"] = "7"
        login.save()
        assert login.session_key != key and set(cluster.manager.sessions) == place
        assert dict(SessionStore(login.session_key).items()) == {"cart": [1], "_auth_user_id": "7"}
        assert not login.exists(key) and dict(SessionStore(key).items()) == {}
        for late in (planted, SessionStore(key)):
            late["cart"] = ["planted"]
            with pytest.raises(UpdateError):
                late.save()
        assert cookie_of(request(lambda session: session.get("cart"), key)) is None
        SessionStore(login.session_key).flush()


def test_who_planted_the_key_takes_nothing_by_a_login_of_his_own() -> None:
    """S11 (fixation): not with the old key after the victim's login, nor in a request that began before it."""
    key = begun(cart=[1])
    slow = SessionStore(key)
    assert slow["cart"] == [1]
    victim = SessionStore(key)
    victim.cycle_key()
    victim.update({"_auth_user_id": "7", "address": "secret"})
    victim.save()
    for intruder in (slow, SessionStore(key)):
        intruder.cycle_key()
        intruder["_auth_user_id"] = "666"
        intruder.save()
        assert "address" not in SessionStore(intruder.session_key)
    assert SessionStore(victim.session_key)["_auth_user_id"] == "7"


def test_two_logins_at_once_both_succeed() -> None:
    """S11: a double click on the button; each response's cookie opens a session that has what was in it before."""
    key = begun(cart=[1])
    one, two = SessionStore(key), SessionStore(key)
    assert one["cart"] == two["cart"] == [1]
    for session in (one, two):
        session.cycle_key()
        session["_auth_user_id"] = "7"
    for session in (one, two):
        session.save()
        assert dict(SessionStore(session.session_key).items()) == {"cart": [1], "_auth_user_id": "7"}


def test_a_key_cannot_be_changed_under_somebody_who_has_logged_out() -> None:
    """S04: a password change that runs beside the logout brings nothing back."""
    session = SessionStore(begun(_auth_user_id="7"))
    assert session["_auth_user_id"] == "7"
    SessionStore(session.session_key).flush()
    with pytest.raises(SessionInterrupted):
        session.cycle_key()
    assert len(cluster.manager.sessions) == 0


def test_after_a_flush_a_new_session_begins() -> None:
    """S04: with a new key, and nothing of the old one."""
    key = begun(user="ada")

    def leave(session: Any) -> None:
        session.flush()
        session["message"] = "bye"

    new = cookie_of(request(leave, key))
    assert new and new != key
    assert dict(SessionStore(new).items()) == {"message": "bye"} and dict(SessionStore(key).items()) == {}


def test_the_browser_is_given_the_right_route() -> None:
    """A session that has moved is looked for where it is from then on, also after a request that only read."""
    key = begun(n=1)
    assert cookie_of(request(lambda session: session["n"], key.replace(".web1", ".web9"))) == key


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_session_lives_as_long_as_django_says() -> None:
    """S44: SESSION_COOKIE_AGE, two weeks if nobody says anything; ``set_expiry`` for one session, and back again."""
    key = begun(n=1)
    assert entry().times.idle_timeout_ms == 14 * 24 * 60 * MINUTE_MS
    for given, ms in ((600, 10 * MINUTE_MS), (0, 14 * 24 * 60 * MINUTE_MS), (60, MINUTE_MS)):
        session = SessionStore(key)
        session.set_expiry(given)
        session.save()
        assert entry().times.idle_timeout_ms == ms
    made_older(MINUTE_MS)
    assert "n" not in SessionStore(key)
    with override_settings(SESSION_COOKIE_AGE=120):
        SessionStore(begun(n=1)).set_expiry(None)
        assert {held.times.idle_timeout_ms for held in [entry()]} == {2 * MINUTE_MS}


def test_a_session_ends_at_an_instant() -> None:
    """S46: whatever is done with it; that less is left at each save is no change that would be written."""
    session = SessionStore(begun(n=1))
    session.set_expiry(datetime.now(UTC) + timedelta(minutes=10))
    session.save()
    assert 9 * MINUTE_MS < entry().times.idle_timeout_ms <= 10 * MINUTE_MS
    before = entry()
    later = timezone.now() + timedelta(minutes=5)
    with pytest.MonkeyPatch.context() as clock:
        clock.setattr(timezone, "now", lambda: later)
        again = SessionStore(session.session_key)
        again.modified = True
        again.save()
        assert entry() == before
        clock.setattr(timezone, "now", lambda: later + timedelta(minutes=6))
        assert not session.exists(session.session_key) and "n" not in SessionStore(session.session_key)
    session.set_expiry(timedelta(seconds=-1))
    session.save()
    assert not session.exists(session.session_key) and "n" not in SessionStore(session.session_key)


def test_reading_does_not_prolong_a_session() -> None:
    """S44: as Django documents it; with SESSION_SAVE_EVERY_REQUEST each request does, however short the time is."""
    session = SessionStore()
    session["n"] = 1
    session.set_expiry(20)
    session.save()
    made_older(15_000)
    accessed_ms = entry().times.accessed_ms
    request(lambda s: s["n"], session.session_key)
    assert entry().times.accessed_ms == accessed_ms
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        response = request(lambda s: s["n"], session.session_key)
    assert cookie_of(response) == session.session_key
    assert entry().times.accessed_ms > accessed_ms


def test_a_store_may_have_an_age_of_its_own() -> None:
    """``get_session_cookie_age`` is where Django's users change it."""

    class Short(SessionStore):
        def get_session_cookie_age(self) -> int:
            return 60

    session = Short()
    session.save()
    assert entry().times.idle_timeout_ms == MINUTE_MS and session.get_expiry_age() == 60


# --- asyncio ---------------------------------------------------------------------------------------------------------


def test_coroutines_need_no_thread() -> None:
    """Every ``a`` method runs in the loop itself."""
    threads: set[threading.Thread] = set()

    async def all_of_them() -> None:
        session = SessionStore()
        await session.aset("n", 1)
        await session.asave()
        key = session.session_key
        assert await session.aexists(key)
        await session.acycle_key()
        assert not await session.aexists(key)
        await session.aset_expiry(60)
        await session.asave()
        assert await SessionStore(session.session_key).aget("n") == 1
        other = SessionStore()
        await other.acreate()
        await other.adelete()
        await SessionStore.aclear_expired()
        await session.aflush()
        assert await session.aload() == {}
        threads.update(threading.enumerate())

    before = set(threading.enumerate())
    asyncio.run(all_of_them())
    assert threads <= before and len(cluster.manager.sessions) == 0


# --- while it cannot be ----------------------------------------------------------------------------------------------


@pytest.fixture
def clustered(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_LISTEN", "127.0.0.1:7400")
    monkeypatch.setenv("UNDERSTUDY_SECRET", "a secret of the tests, long enough")
    monkeypatch.setenv("UNDERSTUDY_AUTOSTART", "false")
    directory.mkdir(mode=0o700)


@pytest.mark.usefixtures("clustered")
def test_nothing_is_shown_before_it_is_acknowledged(directory: Path) -> None:
    """S12: Django tells nobody of the end of a request that only read, so the wait is where the session is loaded."""
    settled: list[int] = []

    def answer(line: Line, message: Any) -> None:
        commit = CommitAnswer(Outcome.COMMITTED, True, "web1", 1, 1)
        if isinstance(message, SettleRequest):
            settled.append(message.number)
        if isinstance(message, CommitRequest | SettleRequest):
            line.reply(Reply(message.request, commit=commit))

    with ScriptedAgent(directory / "agent.sock", answer):
        key = begun()
        read = RUNTIME.client().world.keys.read_cookie(key)
        assert read is not None
        place = RUNTIME.client().world.keys.key("default", read[0])
        secret = RUNTIME.client().world.keys.secret_hash(read[0])
        creation = Commit(b"12345678", secret, {"n": values.encode(1, attribute="n")}, creates=Creation(MINUTE_MS))
        _, made = created(creation, Stamp("web1", 1, 7, store().now_ms(), 0, 10_000), (), 0)
        assert made is not None
        with store().write() as transaction:
            transaction.put(place, made)
            transaction.outbox_add(7, place)
        assert SessionStore(key)["n"] == 1 and settled == [7]


@pytest.mark.usefixtures("clustered")
def test_nobody_is_logged_out_by_silence(directory: Path) -> None:
    """S31: under Django's own middleware an error passes, and no cookie is sent or taken away; neither when a change
    cannot be committed."""
    commit = CommitAnswer(Outcome.COMMITTED, True, "web1", 1, 1)

    def answer(line: Line, message: Any) -> None:
        if isinstance(message, FetchRequest):
            line.reply(Reply(message.request, answer=FetchAnswer(FetchOutcome.UNAVAILABLE)))
        elif isinstance(message, CommitRequest):
            line.reply(Reply(message.request, commit=commit))

    with ScriptedAgent(directory / "agent.sock", answer):
        key = begun(user="ada")
        session = SessionStore(key)
        for use in (lambda: session["user"], session.flush, lambda: session.exists(key), session.cycle_key):
            with pytest.raises(SessionUnavailable):
                use()
        assert not session.is_empty() and not session.modified and session.session_key == key
        commit = CommitAnswer(Outcome.REFUSED)
        with pytest.raises(SessionUnavailable):
            request(lambda new: new.update({"n": 1}))


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_over_environment_over_djangos_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dict wins over SESSION_COOKIE_AGE, that over the environment where somebody set it."""
    assert configured().idle_timeout_ms == 14 * 24 * 60 * MINUTE_MS
    monkeypatch.setenv("UNDERSTUDY_IDLE_TIMEOUT", "5m")
    assert configured().idle_timeout_ms == 5 * MINUTE_MS
    with override_settings(SESSION_COOKIE_AGE=600):
        assert configured().idle_timeout_ms == 10 * MINUTE_MS
        with override_settings(UNDERSTUDY={"idle_timeout": "1h", "acknowledge": "local"}):
            assert (configured().idle_timeout_ms, configured().acknowledge) == (60 * MINUTE_MS, "local")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cookie_name": "x"}, "SESSION_COOKIE_NAME"),
        ({"copies": 2}, "UNDERSTUDY_COPIES"),
        ({"acknowlege": "local"}, "acknowledge"),
    ],
)
def test_wrong_settings_say_what_to_do(given: dict[str, object], said: str) -> None:
    """The cookie is Django's; what the agent must know is not an application's; a slip of the pen is named."""
    with override_settings(UNDERSTUDY=given), pytest.raises(ConfigurationError, match=said):
        configured()


def test_the_test_clients_session_works() -> None:
    """``client.session`` before the first request, and changed between two."""
    client = Client()
    session = client.session
    session["n"] = 1
    session.save()
    assert client.session["n"] == 1 and client.cookies["session"].value == session.session_key
