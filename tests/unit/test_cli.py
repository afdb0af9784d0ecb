"""The command line: what each subcommand prints, how it exits, and what it says about wrong usage."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from understudy.agent.log import Journal, open_log
from understudy.agent.process import Agent, Life
from understudy.agent.takeover import open_store
from understudy.cli import main
from understudy.cli.show import status_lines
from understudy.config import OPTIONS, SOCKET_NAME, load, open_directory, read_secrets
from understudy.config.options import default_text
from understudy.model.commit import Outcome
from understudy.model.entry import Entry, Epoch, Role
from understudy.model.ids import Keys, cookie_value
from understudy.protocol.commands import DrainAsked, Event, Started
from understudy.transport import Peer

SECRET = "a secret that is long enough for tests"
MEMBER = "web1"


@pytest.fixture(autouse=True)
def member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A member of its own for each test, described by the environment alone; gives its directory."""
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    directory = tmp_path / "m"
    monkeypatch.setenv("UNDERSTUDY_DIR", str(directory))
    monkeypatch.setenv("UNDERSTUDY_SECRET", SECRET)
    monkeypatch.setenv("UNDERSTUDY_MEMBER", MEMBER)
    monkeypatch.delenv("UNDERSTUDY_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return directory


@pytest.fixture
def clustered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_LISTEN", "127.0.0.1:7499")


class TinyExecutor:
    """An executor whose engine is ready, sees one other member, and is drained as soon as it is asked to be."""

    ready = True
    drained = False

    @property
    def engine(self) -> TinyExecutor:
        return self

    def describe(self) -> dict[str, Any]:
        other = {"name": "web2", "standing": "suspect", "lease_ms": 0, "leaving": False, "ready": False}
        return {"ready": self.ready, "members": [other]}

    def submit(self, event: Event) -> None:
        if event == DrainAsked():
            self.drained = True

    def turn(self) -> bool:
        return False

    def deadline_ms(self) -> int:
        return 60_000

    def now_ms(self) -> int:
        return 0


class NoNetwork:
    def start(self, listener: object) -> None: ...

    def send(self, to: Peer, frame: bytes) -> None: ...

    def flush(self) -> None: ...

    def leave(self) -> None: ...

    def close(self) -> None: ...


@contextmanager
def running_agent(directory: Path) -> Iterator[list[bool]]:
    """An agent's loop in a thread, over the member's store; the list holds whether it ended cleanly, once it did."""
    up = threading.Event()
    ended: list[bool] = []
    ends: list[Any] = []

    async def live() -> None:
        config = load()
        store = open_store(config, open_directory(config))
        agent = Agent(
            Life(Peer(MEMBER, 7), "default", "0", frozenset(), None),
            store,
            Journal(MEMBER, open_log(directory, terminal_level=None)),
        )
        agent.begin(TinyExecutor(), NoNetwork(), Started((), False, False))
        await agent.server.start(directory / SOCKET_NAME)
        loop = asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(agent.stop, "the test is over"))
        up.set()
        try:
            ended.append(await agent.serve())
        finally:
            await agent.server.close()
            store.close()

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    assert up.wait(30)
    try:
        yield ended
    finally:
        if thread.is_alive():
            with suppress(RuntimeError):  # its loop has ended by itself
                ends[0]()
        thread.join(30)
        assert not thread.is_alive()


def with_store(role: Role = Role.PRIMARY) -> tuple[str, bytes]:
    """Put one session in the member's store; gives its cookie and its key."""
    config = load()
    directory = open_directory(config)
    keys = Keys.from_secrets(read_secrets(config, directory))
    session_id = keys.mint(bytes(range(16)))
    key = keys.key("default", session_id)
    store = open_store(config, directory)
    with store.write() as transaction:
        primary, backups = (MEMBER, ("web2",)) if role is Role.PRIMARY else ("web2", (MEMBER,))
        entry = Entry(role, primary, backups, Epoch(3, 99, 2), context={1: 1}, number=transaction.next_number())
        transaction.change(key, lambda _: (Outcome.COMMITTED, entry))
    store.close()
    return cookie_value(session_id, MEMBER), key


# --- help and usage -------------------------------------------------------------------------------------------------


def test_help_names_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    """`understudy --help` exits with 0 and lists what can be done and the variables that are no options."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    for name in ("run", "agent", "status", "locate", "drain", "ready", "check", "doctor", "balancer", "demo"):
        assert f"\n    {name} " in text
    assert "UNDERSTUDY_DIR" in text and "UNDERSTUDY_SECRET" in text


@pytest.mark.parametrize("command", ["run", "agent", "doctor"])
def test_help_shows_variable_and_default_of_every_member_option(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The help of each option that a member's processes share names its variable and its default."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for option in OPTIONS:
        if option.scope == "member" and not (command == "agent" and option.name == "linger"):
            assert f"--{option.name.replace('_', '-')} " in text
            # Help is wrapped, also at hyphens.
            assert f"[{option.variable}; default: {default_text(option)}]".replace(" ", "") in text.replace(" ", "")


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["status", "--unknown"], ["locate"], ["run", "--member", "a", "gunicorn"], ["agent", "x"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown subcommands, flags and arguments end with code 2 and the usage."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: understudy" in capsys.readouterr().err


def test_no_subcommand_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`understudy` alone shows the help and is wrong usage."""
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["run"], ["run", "--"], ["run", "--member", "a", "--"]])
def test_run_needs_a_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`understudy run` without a command says where to write it."""
    assert main(arguments) == 2
    assert "run -- gunicorn app:app" in capsys.readouterr().err


# --- configuration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["status", "--listen", "nowhere"], {}, "command line --listen"),
        (["status"], {"UNDERSTUDY_LEASE_MS": "soon"}, "environment UNDERSTUDY_LEASE_MS"),
        (["run", "--copies", "0", "--", "true"], {}, "command line --copies"),
        (["agent"], {}, "neither `listen` nor `seeds`"),
        (["agent", "--listen", "10.0.0.1:7400"], {"UNDERSTUDY_SECRET": ""}, "secret that they share"),
        (["run", "--listen", "10.0.0.1:7400", "--", "true"], {"UNDERSTUDY_SECRET": ""}, "secret that they share"),
        (["status"], {}, "does not exist"),
        (["status"], {"UNDERSTUDY_CONFIG": "missing.toml"}, "missing.toml"),
        (["check"], {"UNDERSTUDY_DIR": "relative"}, "not an absolute path"),
    ],
)
def test_wrong_configuration_is_one_clear_message(
    arguments: list[str],
    variables: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is wrong with the configuration is one line that says where it stands, no traceback, and exit code 2."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("understudy: ") and error.count("\n") == 1


def test_an_agent_that_does_not_start_leaves_its_reason(member: Path, clustered: None) -> None:
    """The worker that waits for an agent finds in the directory why there is none."""
    (member / "store").mkdir(parents=True, mode=0o700)
    member.chmod(0o700)
    (member / "store" / "data.mdb").write_bytes(b"no store at all" * 1_000)
    (member / "member").write_text(MEMBER + "\n")
    (member / "member").chmod(0o600)
    (member / "agent.log").mkdir()
    assert main(["agent"]) == 2
    assert "cannot be written" in (member / "agent.error").read_text()


# --- balancer ---------------------------------------------------------------------------------------------------------


def test_the_balancer_is_for_the_members_that_the_agent_sees(
    member: Path, clustered: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without members on the command line they are the agent's: itself and those in sight, at hosts of their names."""
    with running_agent(member):
        assert main(["balancer", "haproxy", "--port", "8001"]) == 0
    text = capsys.readouterr().out
    assert "    server web1 web1:8001\n    server web2 web2:8001\n" in text


# --- status ---------------------------------------------------------------------------------------------------------


def test_status_of_a_local_manager_reads_the_store(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a cluster `status` says that no agent is needed, and counts the sessions in the store itself."""
    with_store()
    assert main(["status"]) == 0
    text = capsys.readouterr().out
    assert "none is needed: LocalManager" in text and "primary        1" in text
    assert main(["status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["sessions"]["primary"] == 1 and document["agent"] is False


def test_status_without_the_agent_of_a_cluster_is_a_no(clustered: None, capsys: pytest.CaptureFixture[str]) -> None:
    """In a cluster a missing agent is said and exits with 1; the store's counts are shown all the same."""
    with_store()
    assert main(["status"]) == 1
    text = capsys.readouterr().out
    assert "no agent is running" in text and "backup         0" in text
    assert main(["ready"]) == 1


def test_status_of_an_unreadable_store_says_so(member: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store that cannot be read is a message, no traceback."""
    with_store()
    (member / "store" / "data.mdb").write_bytes(b"no store at all" * 1_000)
    assert main(["status"]) == 0
    assert "no store" in capsys.readouterr().out
    assert main(["check"]) == 1
    assert "understudy check: " in capsys.readouterr().err


def test_status_shows_what_the_agent_tells(member: Path, clustered: None, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` shows members with their standing, sessions by role and the agent; `ready` agrees."""
    with_store()
    with running_agent(member):
        assert main(["status"]) == 0
        text = capsys.readouterr().out
        assert main(["status", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert main(["ready"]) == 0
    assert f"member {MEMBER} of cluster default: ready" in text
    assert "web2    suspect   none   not ready" in text
    assert "unprotected    0" in text
    assert document["member"] == MEMBER and document["members"][0]["name"] == "web2"
    assert document["sessions"]["primary"] == 1 and document["incarnation"] == "0000000000000007"


# --- locate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_agent", [False, True])
@pytest.mark.parametrize("by", ["cookie", "key", "stdin"])
def test_locate_says_where_and_never_prints_the_cookie(
    member: Path,
    by: str,
    with_agent: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S54: by cookie or key, through the agent or in the store, `locate` gives role and places, and no usable id."""
    cookie, key = with_store()
    argument = {"cookie": cookie, "key": key.hex(), "stdin": "-"}[by]
    outputs = []
    with running_agent(member) if with_agent else open_nothing():
        for more in ([], ["--json"]):
            monkeypatch.setattr(sys, "stdin", io.StringIO(cookie + "\n"))
            assert main(["locate", argument, *more]) == 0
            outputs.append(capsys.readouterr().out)
    text, document = outputs[0], json.loads(outputs[1])
    assert f"here      primary (on {MEMBER})" in text and "backups   web2" in text and "reign 3, list 2" in text
    assert document["key"] == key.hex() and document["epoch"] == [3, 99, 2]
    for output in outputs:
        assert cookie.partition(".")[0] not in output


@contextmanager
def open_nothing() -> Iterator[None]:
    yield


def test_locate_of_a_copy_shows_the_view(member: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the session is not primary, the answer has the standing of the members too."""
    _, key = with_store(Role.BACKUP)
    with running_agent(member):
        assert main(["locate", key.hex()]) == 0
    text = capsys.readouterr().out
    assert f"here      backup (on {MEMBER})" in text and "members   web2 suspect" in text


@pytest.mark.parametrize("what", ["ab" * 16, "x" * 32, "", "a" * 5_000, "z" * 32 + ".web1"])
def test_locate_of_something_unknown_is_a_no(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """S51: an unknown key, a forged cookie and nonsense exit with 1, without a look-up for what is no key."""
    with_store()
    assert main(["locate", what]) == 1
    printed = capsys.readouterr()
    assert "unknown" in printed.out or "no cookie of this cluster" in printed.err


# --- drain, check -----------------------------------------------------------------------------------------------------


def test_drain_waits_for_the_end(member: Path, clustered: None, capsys: pytest.CaptureFixture[str]) -> None:
    """`drain` exits with 0 when everything was handed over, and the agent has then ended cleanly."""
    with running_agent(member) as ended:
        assert main(["drain"]) == 0
    assert ended == [True]
    assert capsys.readouterr().out.startswith("drained")


def test_drain_without_an_agent_is_a_no(clustered: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing can be handed over by an agent that does not run."""
    with_store()
    assert main(["drain"]) == 1
    assert "not running" in capsys.readouterr().err


def test_check_tells_a_whole_store_from_a_broken_one(capsys: pytest.CaptureFixture[str]) -> None:
    """`check` exits with 0 and the counts for a whole store, with 1 and the problem for one that is not."""
    with_store()
    assert main(["check"]) == 0
    text = capsys.readouterr().out
    assert "primary        1" in text and "the store is whole" in text
    config = load()
    store = open_store(config, open_directory(config))
    with store.write() as transaction:
        transaction.outbox_add(12_345, b"\x07" * 16)
    store.close()
    assert main(["check"]) == 1
    assert "problem: outbox row 12345" in capsys.readouterr().out


def test_check_and_status_tell_what_was_quarantined(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing while there is nothing; then its number, and what it is, without its values; the store is whole."""
    with_store()
    assert main(["check"]) == 0
    assert "quarantined" not in capsys.readouterr().out
    config = load()
    store = open_store(config, open_directory(config))
    with store.write() as transaction:
        (held,) = transaction.keys(None, 9)
        transaction.set_aside(held)
    store.close()
    assert main(["check"]) == 0
    text = capsys.readouterr().out
    assert "quarantined: 1, set aside because agents died of them twice" in text
    assert f"quarantined: entry {held.hex()}, " in text and "the store is whole" in text


# --- run without a cluster ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("import os, sys; sys.exit(0 if os.environ['UNDERSTUDY_IDLE_TIMEOUT'] == '1h' else 9)", 0),
        ("import sys; sys.exit(7)", 7),
        ("import os; os.kill(os.getpid(), 15)", 143),
    ],
)
def test_run_gives_its_commands_exit_code(
    script: str, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a cluster `run` starts the command alone, with our variables, and ends as it ended."""
    monkeypatch.setenv("UNDERSTUDY_IDLE_TIMEOUT", "1h")
    assert main(["run", "--member", "m7", "--", sys.executable, "-c", script]) == code
    assert "no agent is needed" in capfd.readouterr().err


def test_run_exports_its_flags(capfd: pytest.CaptureFixture[str]) -> None:
    """A flag of `run` reaches the command as its variable."""
    script = "import os; print(os.environ['UNDERSTUDY_MEMBER'], os.environ['UNDERSTUDY_LEASE_MS'])"
    assert main(["run", "--member", "m7", "--lease-ms=300", "--", sys.executable, "-c", script]) == 0
    assert capfd.readouterr().out == "m7 300\n"


def test_run_of_a_missing_command_is_127(capfd: pytest.CaptureFixture[str]) -> None:
    """A command that is not there is said, and exits as in a shell."""
    assert main(["run", "--", "no-such-command-anywhere"]) == 127
    assert "there is no command" in capfd.readouterr().err


def test_status_names_members_that_are_configured_otherwise() -> None:
    """What differs, and what to do: give all the same values, or stop all first where sessions could be lost."""
    member = {"name": "b", "standing": "alive", "differs": ["copies is 2 there, 1 here"], "unfit": False}
    document = {"member": "a", "cluster": "shop", "members": [member, {"name": "c", "standing": "alive"}]}
    (line,) = [line for line in status_lines(document) if "otherwise" in line]
    assert line == "member b is configured otherwise: copies is 2 there, 1 here; give all members the same values"
    member["unfit"] = True
    assert "stop all members" in "\n".join(status_lines(document))


def test_status_says_that_copies_are_being_made() -> None:
    """S36: while sweeps are under way, and not when they are over."""
    document = {"member": "web1", "cluster": "shop", "sweeping": {"sessions_in_flight": 90, "lists": 1}}
    assert "90 sessions on their way" in "\n".join(status_lines(document))
    document["sweeping"] = {"sessions_in_flight": 0, "lists": 0}
    assert "on their way" not in "\n".join(status_lines(document))
