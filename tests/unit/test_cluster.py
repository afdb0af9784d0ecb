"""Claims of ``understudy.cluster`` and the sessions' map: a tool's view of sessions, without any cookie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.agents import Line, ScriptedAgent

from understudy import Cluster
from understudy.client.member import _members, member_of
from understudy.client.runtime import Client, Runtime
from understudy.config import Config, load
from understudy.errors import (
    AgentUnavailable,
    ConfigurationError,
    SessionEnded,
    SessionTooLarge,
    SessionUnavailable,
    ValueNotSupported,
    ValueUndecodable,
)
from understudy.model.commit import Outcome
from understudy.model.entry import Role, Sibling
from understudy.protocol.messages import (
    CommitAnswer,
    CommitRequest,
    ControlRequest,
    FetchAnswer,
    FetchOutcome,
    FetchRequest,
    Reply,
    WorkerMessage,
)
from understudy.store import Owner

UNKNOWN = "0" * 32


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    monkeypatch.setenv("UNDERSTUDY_MEMBER", "a")
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


@pytest.fixture
def client() -> Client:
    return Runtime(load).client()


def begun(client: Client, **attributes: object) -> tuple[str, str]:
    """A session of a browser; gives its key and its cookie."""
    session = client.begin("")
    session.update(attributes)
    client.finish(session)
    assert session.visit.opened is not None
    return session.visit.opened.key.hex(), session.visit.cookie_now or ""


def test_it_is_safe_to_make_at_import(directory: Path) -> None:
    """Nothing is opened and nothing read before it is used."""
    cluster = Cluster.from_config()
    assert not directory.exists()
    assert cluster.member == "a" and directory.exists()
    assert repr(cluster.manager) == "<LocalManager>" and cluster.manager.class_name == "LocalManager"


def test_what_changes_while_it_is_read_is_read_again() -> None:
    """A change of settings that falls into the reading of the old ones is not lost; what was counted stays counted."""
    paths = ["/a", "/b", "/c"]

    def read() -> Config:
        if len(paths) == 2:
            runtime.reset()  # another thread's request has seen another setting
        return load().with_overrides("keyword", cookie_path=paths.pop(0))

    runtime = Runtime(read)
    first = runtime.client()
    assert first is runtime.client() and first.config.cookie_path == "/a"
    begun(first, n=1)
    runtime.reset()
    assert [runtime.client().config.cookie_path for _ in range(3)] == ["/b", "/c", "/c"]
    assert runtime.client().statistics is first.statistics


def test_only_options_of_a_request_are_keywords() -> None:
    """What the agent must know too comes from the file or the environment."""
    assert Cluster.from_config(idle_timeout="5m").member == "a"
    with pytest.raises(ConfigurationError, match="UNDERSTUDY_COPIES"):
        Cluster.from_config(copies=2).manager.class_name  # noqa: B018


def test_sessions_are_seen_by_their_keys(client: Client) -> None:
    """What browsers wrote, no id, no reserved attribute; unknown keys and what is no key are not in it."""
    sessions = Cluster.from_config().manager.sessions
    assert len(sessions) == 0 and list(sessions) == []
    key, cookie = begun(client, user="ada", cart=[1])
    assert list(sessions) == [key] and len(sessions) == 1 and key in sessions
    assert dict(sessions[key]) == {"user": "ada", "cart": [1]} and "ada" not in repr(sessions[key])
    assert cookie.split(".")[0] not in repr(list(sessions.all()))
    assert UNKNOWN not in sessions and "nonsense" not in sessions
    for wrong in (UNKNOWN, "nonsense", key.upper(), ""):
        with pytest.raises(KeyError):
            sessions[wrong]


def test_deleting_a_key_logs_out(client: Client) -> None:
    """S04: at once and for everybody; the key can hold nothing any more."""
    sessions = Cluster.from_config().manager.sessions
    key, cookie = begun(client, user="ada")
    running = client.begin(cookie)
    assert running["user"] == "ada"
    del sessions[key]
    running["user"] = "ghost"
    client.finish(running)
    assert running.ended and client.begin(cookie).is_new
    assert key not in sessions and list(sessions) == [] and len(sessions) == 0
    with pytest.raises(KeyError):
        del sessions[key]
    with pytest.raises(SessionEnded):
        sessions[key] = {"user": "back"}


def test_setting_a_key_replaces_its_attributes(client: Client) -> None:
    """And nothing else of the session: its cookie and its principal stay."""
    sessions = Cluster.from_config().manager.sessions
    session = client.begin("")
    session["old"] = 1
    session["kept"] = 2
    session.rotate(principal="ada")
    client.finish(session)
    assert session.visit.opened is not None
    key, cookie = session.visit.opened.key.hex(), session.visit.cookie_now or ""
    sessions[key] = {"kept": 2, "new": [3]}
    again = client.begin(cookie)
    assert dict(again) == {"kept": 2, "new": [3]} and again.principal == "ada"
    with pytest.raises(ValueNotSupported, match="bad"):
        sessions[key] = {"bad": object()}
    with pytest.raises(SessionTooLarge, match="huge"):
        sessions[key] = {"huge": "x" * 2_000_000}
    assert dict(client.begin(cookie)) == {"kept": 2, "new": [3]}


def test_setting_an_unknown_key_begins_a_session_that_no_cookie_opens(client: Client) -> None:
    """It expires like any other."""
    sessions = Cluster.from_config().manager.sessions
    sessions[UNKNOWN] = {"job": 1}
    assert dict(sessions[UNKNOWN]) == {"job": 1} and list(sessions) == [UNKNOWN]
    entry = client.member.store.read(bytes(16)).entry
    assert entry is not None and entry.times.idle_timeout_ms == client.config.idle_timeout_ms


def test_iteration_goes_page_by_page_over_what_is_primary_here(client: Client) -> None:
    """Copies and proxies are in ``all`` only, with their roles; ended sessions nowhere."""
    sessions = Cluster.from_config().manager.sessions
    keys = [begun(client, n=n)[0] for n in range(150)]
    del sessions[keys[0]]
    with client.member.store.write() as transaction:
        for key, role in ((keys[1], Role.BACKUP), (keys[2], Role.PROXY)):
            entry = transaction.get(bytes.fromhex(key))
            assert entry is not None
            changed = msgspec.structs.replace(entry, role=role, primary="b", backups=("a",))
            transaction.put(bytes.fromhex(key), changed)
    assert sorted(sessions) == sorted(keys[3:]) and len(sessions) == 147
    held = {held.key: held for held in sessions.all()}
    assert len(held) == 149 and held[keys[1]].role == "backup" and held[keys[2]].role == "proxy"
    assert held[keys[1]].primary == "b" and held[keys[3]].role == "primary"


def test_one_undecodable_attribute_harms_no_other(client: Client) -> None:
    """S19: it alone raises."""
    sessions = Cluster.from_config().manager.sessions
    key, _ = begun(client, good=1, bad=2)
    with client.member.store.write() as transaction:
        entry = transaction.get(bytes.fromhex(key))
        assert entry is not None
        broken = {**entry.attributes, "bad": (Sibling(1, 1, 1, b"\xc1"),)}
        transaction.put(bytes.fromhex(key), msgspec.structs.replace(entry, attributes=broken))
    assert sessions[key]["good"] == 1 and sorted(sessions[key]) == ["bad", "good"]
    with pytest.raises(ValueUndecodable, match="bad"):
        sessions[key]["bad"]


def test_status_without_an_agent_counts_the_store(client: Client) -> None:
    """Which member, which manager, how many."""
    begun(client, n=1)
    status = Cluster.from_config().status()
    assert (status["member"], status["manager"], status["sessions"]["primary"]) == ("a", "LocalManager", 1)


# --- with an agent ---------------------------------------------------------------------------------------------------


@pytest.fixture
def clustered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_LISTEN", "127.0.0.1:7400")
    monkeypatch.setenv("UNDERSTUDY_SECRET", "a secret of the tests, long enough")
    monkeypatch.setenv("UNDERSTUDY_AUTOSTART", "false")
    monkeypatch.setenv("UNDERSTUDY_AGENT_TIMEOUT_MS", "100")


@pytest.mark.usefixtures("clustered")
def test_a_session_is_looked_up_wherever_it_is(directory: Path) -> None:
    """The agent finds it; "nobody answers" is not "unknown"."""
    member = member_of(load())
    outcomes = [FetchOutcome.FOUND, FetchOutcome.UNKNOWN, FetchOutcome.UNAVAILABLE]

    def answers(line: Line, message: WorkerMessage) -> None:
        if isinstance(message, FetchRequest):
            outcome = outcomes.pop(0)
            entry = local_entry if outcome is FetchOutcome.FOUND else None
            line.reply(Reply(message.request, answer=FetchAnswer(outcome, "b", entry)))
        elif isinstance(message, CommitRequest):
            line.reply(Reply(message.request, commit=CommitAnswer(Outcome.REFUSED)))
        elif isinstance(message, ControlRequest):
            line.reply(Reply(message.request, control=b'{"members":["a","b"]}'))

    with member.store.write() as transaction:
        transaction.set_owner(Owner(True, 7, "a"))
    local_entry = _entry_with(n=1)
    with ScriptedAgent(directory / "agent.sock", answers):
        cluster = Cluster.from_config()
        assert cluster.manager.class_name == "BackupManager"
        assert dict(cluster.manager.sessions[UNKNOWN]) == {"n": 1}
        assert UNKNOWN not in cluster.manager.sessions
        with pytest.raises(SessionUnavailable):
            cluster.manager.sessions[UNKNOWN]
        with pytest.raises(SessionUnavailable):
            del cluster.manager.sessions[UNKNOWN]
        assert cluster.status() == {"members": ["a", "b"]}


@pytest.mark.usefixtures("clustered")
def test_it_is_ready_when_its_agent_says_so(directory: Path) -> None:
    """A balancer that asks gets what the agent says; no agent is a no, and so is one that ends every connection."""
    cluster = Cluster.from_config()
    assert cluster.ready() is False
    told = [b'{"ready":false}', b'{"ready":true}']

    def answers(line: Line, message: WorkerMessage) -> None:
        if isinstance(message, ControlRequest):
            line.reply(Reply(message.request, control=told.pop(0)))

    with ScriptedAgent(directory / "agent.sock", answers):
        assert [cluster.ready(), cluster.ready()] == [False, True]


def test_one_machine_is_ready_when_its_store_can_be_read(directory: Path) -> None:
    """Without a cluster there is nobody to wait for; a store that is none is a no."""
    assert Cluster.from_config().ready() is True
    for member in list(_members.values()):
        member.close()
    (directory / "store" / "data.mdb").write_bytes(b"no store at all" * 1_000)
    assert Cluster.from_config().ready() is False


@pytest.mark.usefixtures("clustered")
def test_without_its_agent_a_clusters_member_says_so() -> None:
    """How to start it is in the message."""
    with pytest.raises(AgentUnavailable, match="understudy agent"):
        Cluster.from_config().status()


def _entry_with(**attributes: int) -> object:
    from understudy.model import values
    from understudy.model.entry import Entry, Epoch

    stored = {name: (Sibling(1, 1, 1, values.encode(value, attribute=name)),) for name, value in attributes.items()}
    return Entry(Role.PRIMARY, "b", ("a",), Epoch(1, 1, 1), attributes=stored)
