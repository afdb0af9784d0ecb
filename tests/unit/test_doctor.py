"""`understudy doctor`: each setting with its origin, and what stands in the way of this member."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from understudy.cli import main
from understudy.config import OPTIONS

SECRET = "a secret that is long enough for tests"


@pytest.fixture(autouse=True)
def member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A member of its own for each test; gives its directory."""
    for name in [name for name in os.environ if name.startswith("UNDERSTUDY_")]:
        monkeypatch.delenv(name)
    directory = tmp_path / "m"
    monkeypatch.setenv("UNDERSTUDY_DIR", str(directory))
    monkeypatch.setenv("UNDERSTUDY_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    return directory


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def doctor(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    code = main(["doctor", *flags])
    return code, capsys.readouterr().out


def row(text: str, name: str) -> str:
    return " ".join(next(line for line in text.splitlines() if line.split()[:1] == [name]).split())


def test_every_setting_and_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each option has one line, with the value and whether a flag, the environment, the file or nobody set it."""
    (tmp_path / "understudy.toml").write_text('[cluster.manager]\nidle_timeout = "45m"\n')
    monkeypatch.setenv("UNDERSTUDY_APPLICATION", "shop")
    code, text = doctor(capsys, "--member", "web7")
    assert code == 0
    for option in OPTIONS:
        assert row(text, option.name)
    assert row(text, "member") == "member web7 command line --member"
    assert row(text, "application") == "application shop environment UNDERSTUDY_APPLICATION"
    assert row(text, "idle_timeout") == "idle_timeout 45m file understudy.toml [cluster.manager] idle_timeout"
    assert row(text, "copies") == "copies 1 default"


def test_where_things_are_and_nothing_is_made(member: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Directory, socket path, secret, versions and agent are told, no secret is, and looking makes nothing."""
    code, text = doctor(capsys)
    assert code == 0
    assert f"{member} (not made yet)" in text
    assert row(text, "secret") == "secret environment UNDERSTUDY_SECRET"
    assert row(text, "agent") == "agent none, and none is needed (LocalManager)"
    assert row(text, "lmdb") and row(text, "python")
    assert SECRET not in text
    assert not member.exists()


def test_a_free_port_and_a_taken_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A port that somebody else listens on is a problem (exit 1), a free one is not."""
    address = free_address()
    code, text = doctor(capsys, "--listen", address)
    assert code == 0 and f"{address} is free" in text
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(address.rpartition(":")[2])))
        other.listen(1)
        code, text = doctor(capsys, "--listen", address)
    assert code == 1
    assert f"problem: {address} cannot be listened on" in text


def test_an_address_of_another_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """An address that this machine does not have is a problem before the agent finds out."""
    code, text = doctor(capsys, "--listen", "192.0.2.1:7400")
    assert code == 1 and "problem: 192.0.2.1:7400 cannot be listened on" in text


def test_a_missing_secret_is_a_problem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """S53: off the loopback interface a member without a secret is told how to make one."""
    monkeypatch.delenv("UNDERSTUDY_SECRET")
    code, text = doctor(capsys, "--listen", "192.0.2.1:7400")
    assert code == 1
    assert row(text, "secret") == "secret missing"
    assert "problem:" in text and "UNDERSTUDY_SECRET_FILE" in text


def test_a_directory_open_to_others_is_a_problem(member: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory in which others could plant things is a problem, with the command that mends it."""
    member.mkdir()
    (member / "planted").touch()
    member.chmod(0o777)
    code, text = doctor(capsys)
    assert code == 1 and "chmod 700" in text


def test_a_path_too_long_for_a_socket_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The length of the socket's path is checked before anything is made there."""
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / ("x" * 120)))
    code, text = doctor(capsys)
    assert code == 1 and "UNDERSTUDY_DIR to a shorter path" in text


@pytest.mark.parametrize(
    ("flags", "variables", "said"),
    [
        ((), {"UNDERSTUDY_ACKNOWLEDGE": "local"}, "`acknowledge` is 'local'"),
        (("--seeds", "10.9.9.9:7400"), {}, "other machines cannot reach"),
        ((), {}, "`seeds` names no other member"),
        ((), {"UNDERSTUDY_COOKIE_SECURE": "false"}, "over plain http"),
        ((), {"UNDERSTUDY_BLUE": "1"}, "UNDERSTUDY_BLUE"),
    ],
)
def test_warnings(
    flags: tuple[str, ...],
    variables: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is allowed and probably not meant is a warning, and exits with 0."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, text = doctor(capsys, "--listen", free_address(), *flags)
    assert code == 0
    warnings = [line for line in text.splitlines() if line.startswith("warning: ")]
    assert any(said in line for line in warnings)


def test_wrong_configuration_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration that cannot be read at all is the one message, as everywhere."""
    assert main(["doctor", "--copies", "many"]) == 2
    assert "command line --copies" in capsys.readouterr().err


def test_the_last_failed_start_is_told(member: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Why the last agent did not start is part of what stands in the way."""
    member.mkdir(mode=0o700)
    (member / "agent.error").write_text("cannot listen on somewhere\n")
    code, text = doctor(capsys, "--listen", free_address())
    assert code == 1 and "problem: the last start of an agent failed: cannot listen on somewhere" in text
