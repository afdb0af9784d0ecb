"""Fixtures of the adapters' conformance suite: every adapter in turn, over a member's directory of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conformance.adapter_apps import ADAPTERS
from tests.conformance.app import App

from understudy.client.member import _members


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the member has its store; made by the first request."""
    path = tmp_path / "m"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(path))
    monkeypatch.setenv("UNDERSTUDY_MEMBER", "web1")
    yield path
    for member in list(_members.values()):
        member.close()


@pytest.fixture(params=list(ADAPTERS))
def make(request: pytest.FixtureRequest, directory: Path) -> Callable[..., App]:
    """Makes the application with an adapter around it; keywords are the adapter's."""
    return ADAPTERS[request.param]


@pytest.fixture
def app(make: Callable[..., App]) -> App:
    return make()
