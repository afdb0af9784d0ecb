"""The balancers' configurations as texts: who is asked first for which cookie, and what cannot be written.

That the real programs take them, and do what is meant, is shown by ``tests/system/test_balancers.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from understudy.cli import main
from understudy.cli.balancer import KINDS, Plan, Upstream, apache, caddy, haproxy, nginx
from understudy.config import OPTIONS, Address

MEMBERS = tuple(Upstream(f"web-{at}", Address(f"10.0.0.{at}", 8000)) for at in (1, 2, 3))
PLAN = Plan(MEMBERS, "session", Address("0.0.0.0", 80))
EVERY = pytest.mark.parametrize("kind", sorted(KINDS))


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test, and no agent."""
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    monkeypatch.delenv("UNDERSTUDY_CONFIG", raising=False)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    monkeypatch.chdir(tmp_path)


@EVERY
def test_every_member_is_in_it_once_for_all_and_once_for_its_route(kind: str) -> None:
    """Each configuration names every member's address, and each name as a route; one member alone will do, too."""
    text = KINDS[kind](PLAN)
    for member in MEMBERS:
        assert str(member.address) in text
        assert re.search(rf"\b{member.name}\b", text)
    alone = KINDS[kind](PLAN._replace(members=MEMBERS[:1]))
    assert str(MEMBERS[0].address) in alone and str(MEMBERS[1].address) not in alone
    assert not any(line.strip().endswith("backup;") for line in alone.splitlines())


@pytest.mark.parametrize(
    ("cookie", "route"),
    [
        ("session=abc.web-1", "web-1"),
        ("a=b; session=abc.web-2; c=d", "web-2"),
        ("other=x.web-1;session=abc.web-3", "web-3"),
        ("oursession=abc.web-1", None),
        ("session=abc.web-11", None),
        ("session=abc", None),
        ("session=; x=abc.web-1", None),
    ],
)
def test_the_route_is_found_in_the_right_cookie(cookie: str, route: str | None) -> None:
    """The patterns of nginx and Caddy find the route of our cookie alone, wherever it stands in the header."""
    for text in (nginx(PLAN), caddy(PLAN)):
        patterns = re.findall(r'"~?(\(\^.*)"', text)
        assert len(patterns) == len(MEMBERS)
        found = [name for (name, _), pattern in zip(MEMBERS, patterns, strict=True) if re.search(pattern, cookie)]
        assert found == ([] if route is None else [route])


def test_a_route_tries_its_own_member_first_and_spreads_the_rest() -> None:
    """Behind a route's own member the others stand in the circle's order, so that one's load falls on no single one."""
    assert "reverse_proxy 10.0.0.2:8000 10.0.0.3:8000 10.0.0.1:8000 {" in caddy(PLAN)
    block = re.search(r"upstream understudy_web-3 \{(.*?)\}", nginx(PLAN), re.DOTALL)
    assert block is not None
    servers = re.findall(r"server (\S+) .*?(backup)?;", block.group(1))
    assert servers == [("10.0.0.3:8000", ""), ("10.0.0.1:8000", "backup"), ("10.0.0.2:8000", "backup")]


def test_names_and_paths_go_where_they_belong() -> None:
    """A cookie of any usual name is written as it is, its dots as dots; the check's path goes where one can be set."""
    plan = PLAN._replace(cookie="__Host-my.id", check="/ready")
    assert "req.cook(__Host-my.id)" in haproxy(plan) and "option httpchk GET /ready" in haproxy(plan)
    assert r"__Host-my\.id=" in nginx(plan) and r"__Host-my\.id=" in caddy(plan)
    assert "stickysession=__Host-my.id" in apache(plan) and "hcmethod=GET hcuri=/ready" in apache(plan)
    assert "health_uri /ready" in caddy(plan) and "no checks of its own" in nginx(plan)
    assert "httpchk" not in haproxy(PLAN) and "hcmethod=TCP" in apache(PLAN) and "health" not in caddy(PLAN)


@pytest.mark.parametrize(
    ("bind", "listen", "host"),
    [
        (Address("0.0.0.0", 80), None, "*:80"),
        (Address("0.0.0.0", 8080), "Listen *:8080", "*:8080"),
        (Address("127.0.0.1", 8080), "Listen 127.0.0.1:8080", "127.0.0.1:8080"),
        (Address("::1", 8080), "Listen [::1]:8080", "[::1]:8080"),
    ],
)
def test_apache_listens_once(bind: Address, listen: str | None, host: str) -> None:
    """Apache is told to listen except on the ports on which it is delivered listening, and takes only ``*`` for all."""
    text = apache(PLAN._replace(bind=bind))
    assert re.findall(r"^Listen .*$", text, re.MULTILINE) == ([] if listen is None else [listen])
    assert f"<VirtualHost {host}>" in text


@EVERY
def test_the_command_prints_it(kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`understudy balancer` prints the same text for its arguments, with the configured cookie's name."""
    monkeypatch.setenv("UNDERSTUDY_COOKIE_NAME", "sid")
    assert main(["balancer", kind, "a=10.0.0.1:8000", "b=h:81", "--bind", "127.0.0.1:8080", "--check", "/up"]) == 0
    upstreams = (Upstream("a", Address("10.0.0.1", 8000)), Upstream("b", Address("h", 81)))
    assert capsys.readouterr().out == KINDS[kind](Plan(upstreams, "sid", Address("127.0.0.1", 8080), "/up"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name the members, like web1=10.0.0.1:8000"),
        (["10.0.0.1:8000"], "is not NAME=HOST:PORT"),
        (["Web1=10.0.0.1:8000"], "is not NAME=HOST:PORT"),
        (["a=10.0.0.1"], "member a: '10.0.0.1' is not HOST:PORT"),
        (["a=h:1", "a=h:2"], "two members have the same name"),
        (["a=h:1", "b=h:1"], "two members have the same address"),
        (["a=h:1", "--bind", "80"], "--bind: '80' is not HOST:PORT"),
        (["a=h:1", "--check", "ready; drop"], "is no path"),
        (["a=h:1", "--cookie-name", "a#b"], "use letters, digits"),
    ],
)
def test_what_cannot_be_written_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong members, addresses, paths and cookie names end with code 2 and what to write, and print nothing."""
    assert main(["balancer", "nginx", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.out == ""
