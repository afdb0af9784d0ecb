"""The subcommands that look at one member or ask its agent: status, locate, drain, ready, check, balancer."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy import limits
from understudy.agent.control import ask
from understudy.agent.status import counts_document, entry_document, read_counts
from understudy.agent.takeover import open_store
from understudy.cli.balancer import COOKIE_NAME, KINDS, Plan, Upstream
from understudy.cli.show import counts_lines, entry_lines, status_lines
from understudy.config import Address, Config, load, member_directory, open_directory, parse_address, read_secrets
from understudy.config.options import NAME_PATTERN
from understudy.errors import AgentUnavailable, ConfigurationError, StoreError
from understudy.model.ids import KEY_BYTES, Keys
from understudy.store.check import check

YES, NO = 0, 1
DRAIN_S = limits.DRAIN_MS_MAX / 1000 + 5


def status(flags: Mapping[str, str], *, as_json: bool) -> int:
    """Show what the agent knows; without one, what its store holds. 1 if a member of a cluster has no agent."""
    config, directory = _member(flags)
    try:
        document = ask(directory, "status")
        code = NO if "error" in document else YES
    except AgentUnavailable as error:
        document = _without_agent(config, directory, str(error))
        code = NO if config.clustered else YES
    if as_json:
        _print_json(document)
    else:
        _print("\n".join(status_lines(document)))
    return code


def locate(flags: Mapping[str, str], what: str, *, as_json: bool) -> int:
    """Show where one session is, by its cookie or its key; 1 if nobody here knows it. Never prints the cookie."""
    config, directory = _member(flags)
    key = _key(config, directory, what)
    if key is None:
        print(
            "understudy locate: this is no cookie of this cluster and no key of 32 hex digits (is the secret the same?"
            " `understudy doctor` says where it comes from)",
            file=sys.stderr,
        )
        return NO
    try:
        document = ask(directory, "locate", key)
    except AgentUnavailable:
        store = open_store(config, directory, read_only=True)
        try:
            document = entry_document(key, store.read(key), config.member)
        finally:
            store.close()
    if as_json:
        _print_json(document)
    else:
        _print("\n".join(entry_lines(document)))
    return YES if document.get("known") else NO


def drain(flags: Mapping[str, str]) -> int:
    """Have the agent hand over and end; 0 when everything was handed over."""
    _, directory = _member(flags)
    try:
        answer = ask(directory, "drain", timeout_s=DRAIN_S)
    except AgentUnavailable as error:
        print(f"understudy drain: {error}", file=sys.stderr)
        return NO
    if answer.get("drained"):
        _print("drained: every session has its copies elsewhere, as far as there are other members")
        return YES
    print(f"understudy drain: not everything was handed over: {answer.get('detail', '')}", file=sys.stderr)
    return NO


def ready(flags: Mapping[str, str]) -> int:
    """0 if the member is ready; without a cluster, if its store can be read."""
    config, directory = _member(flags)
    try:
        is_ready = bool(ask(directory, "status").get("ready"))
        reason = "the agent is still joining, comparing or leaving"
    except AgentUnavailable as error:
        is_ready, reason = not config.clustered, str(error)
    _print("ready" if is_ready else f"not ready: {reason}")
    return YES if is_ready else NO


def check_store(flags: Mapping[str, str]) -> int:
    """Verify the whole store, beside whatever runs; 1 if anything is wrong."""
    config, directory = _member(flags)
    store = open_store(config, directory, read_only=True)
    try:
        report = check(store)
    except StoreError as error:
        print(f"understudy check: {error}", file=sys.stderr)
        return NO
    finally:
        store.close()
    if report.counts is not None:
        _print("\n".join(counts_lines(counts_document(report.counts))))
    for entry in report.quarantined:
        _print(f"quarantined: {entry}")
    for problem in report.problems:
        _print(f"problem: {problem}")
    _print(f"{len(report.problems)} problems" if report.problems else "the store is whole")
    return NO if report.problems else YES


def balancer(
    flags: Mapping[str, str], kind: str, members: Sequence[str], *, bind: str, check_path: str, port: str
) -> int:
    """Print a balancer's configuration, of one of ``KINDS``, for members that are named, or that the agent sees.

    Raises: ConfigurationError.
    """
    config = load(flags=flags)
    if not re.fullmatch(COOKIE_NAME, config.cookie_name):
        raise ConfigurationError(
            f"cookie name {config.cookie_name!r} ({config.source('cookie_name')}) cannot be written in every balancer's"
            " configuration; use letters, digits, - and _"
        )
    if check_path and not re.fullmatch(r"/[A-Za-z0-9._~/-]*", check_path):
        raise ConfigurationError(f"--check {check_path!r} is no path; write it like /ready")
    upstreams = list(_named(members) if members else _seen(config, port))
    for what, values in (("name", [u.name for u in upstreams]), ("address", [u.address for u in upstreams])):
        if len(set(values)) < len(values):
            raise ConfigurationError(f"two members have the same {what}; each needs its own")
    _print(KINDS[kind](Plan(upstreams, config.cookie_name, _address("--bind", bind), check_path)).rstrip())
    return YES


def _named(members: Iterable[str]) -> Iterator[Upstream]:
    for text in members:
        name, equals, address = text.partition("=")
        if not equals or not re.fullmatch(NAME_PATTERN, name):
            raise ConfigurationError(f"member {text!r} is not NAME=HOST:PORT; write it like web1=10.0.0.1:8000")
        yield Upstream(name, _address(f"member {name}", address))


def _seen(config: Config, port: str) -> Iterator[Upstream]:
    """This member and those that its agent sees; a member's name is its host's first label unless it is configured."""
    try:
        status = ask(member_directory(config), "status")
    except AgentUnavailable as error:
        raise ConfigurationError(f"{error}; name the members, like web1=10.0.0.1:8000") from error
    for name in sorted({config.member, *(member["name"] for member in status.get("members", ()))}):
        yield Upstream(name, _address("--port", f"{name}:{port}"))


def _address(what: str, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise ConfigurationError(f"{what}: {text!r} {error}") from error


def _member(flags: Mapping[str, str]) -> tuple[Config, Path]:
    config = load(flags=flags)
    return config, open_directory(config, create=False)


def _without_agent(config: Config, directory: Path, why: str) -> dict[str, Any]:
    store = open_store(config, directory, read_only=True)
    try:
        counts: dict[str, int] | None = counts_document(read_counts(store))
        note = f"no agent: {why}" if config.clustered else "no agent, and none is needed: LocalManager"
    except StoreError as error:
        counts, note = None, f"no agent, and no store: {error}"
    finally:
        store.close()
    return {
        "member": config.member,
        "cluster": config.name,
        "ready": not config.clustered,
        "agent": False,
        "note": note,
        "members": [],
        "sessions": counts,
    }


def _key(config: Config, directory: Path, what: str) -> bytes | None:
    """The key of a cookie of ours, or one that was given as such."""
    keys = Keys.from_secrets(read_secrets(config, directory))
    read = keys.read_cookie(what)
    if read is not None:
        return keys.key(config.application, read[0])
    try:
        key = bytes.fromhex(what)
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES else None


def _print(text: str) -> None:
    print(text, flush=True)


def _print_json(document: Mapping[str, Any]) -> None:
    _print(json.dumps(document, indent=2, ensure_ascii=False))
