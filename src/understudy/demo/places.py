"""Tells where a session is, in the terms of the demo's pages; and what a shop must know of the demo around it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from understudy.agent import control
from understudy.config import load, open_directory, read_secrets
from understudy.errors import UnderstudyError
from understudy.model.ids import Keys

COOKIE_NAME = "prop_shop"
"""Not Flask's "session": a browser sends it to every port of 127.0.0.1, also to what else is developed there."""
SHOPS_VARIABLE = "PROP_SHOP_MEMBERS"
CONTROL_VARIABLE = "PROP_SHOP_CONTROL"

SAYS = {
    "primary": "answers for your session: changes are made here",
    "backup": "holds a copy, and takes over when the primary dies",
    "proxy": "holds no data, but knows where your session is",
    "ended": "knows that your session has ended",
    "nothing": "there is no session yet",
}


class Shops(NamedTuple):
    """The members' names and addresses, and that of the control page ("" when there is none)."""

    members: dict[str, str]
    control: str


class Place(NamedTuple):
    """What one member is for one session."""

    member: str
    role: str
    says: str
    url: str


def variables(members: Mapping[str, str], control_url: str) -> dict[str, str]:
    """Gives the variables that tell a shop of the others. Member's name -> address of its shop."""
    shops = ",".join(f"{name}={url}" for name, url in members.items())
    return {SHOPS_VARIABLE: shops, CONTROL_VARIABLE: control_url}


def from_environment() -> Shops:
    """Gives what ``variables`` told."""
    pairs = [part.split("=", 1) for part in os.environ.get(SHOPS_VARIABLE, "").split(",") if "=" in part]
    return Shops({name: url for name, url in pairs}, os.environ.get(CONTROL_VARIABLE, ""))


def locate(cookie: str) -> dict[str, Any] | None:
    """Gives what this member's agent says of the session with this cookie; None when it cannot."""
    here = _here()
    found = here.keys.read_cookie(cookie) if cookie else None
    if found is None:
        return None
    try:
        return control.ask(here.directory, "locate", here.keys.key(here.application, found[0]))
    except UnderstudyError:
        return None


def own_name() -> str:
    """The name of the member that this process belongs to."""
    return _here().member


def role_of(name: str, located: Mapping[str, Any] | None) -> str:
    """What a member is for a session that was located so."""
    if located is None or not located.get("known"):
        return "nothing"
    if located["ended"]:
        return "ended"
    return "primary" if name == located["primary"] else "backup" if name in located["backups"] else "proxy"


def of_session(located: Mapping[str, Any] | None, members: Mapping[str, str]) -> list[Place]:
    """What each of the members is for it, in the order of their names, so that boxes on a page keep their places."""
    roles = {name: role_of(name, located) for name in members}
    return [Place(name, role, SAYS[role], members[name]) for name, role in roles.items()]


class _Here(NamedTuple):
    member: str
    application: str
    directory: Path
    keys: Keys


@lru_cache(maxsize=1)
def _here() -> _Here:
    config = load()
    directory = open_directory(config)
    return _Here(config.member, config.application, directory, Keys.from_secrets(read_secrets(config, directory)))
