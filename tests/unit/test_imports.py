"""What importing an adapter loads: what a web worker runs, and nothing of what only agents and rare paths need.

Every worker of every machine pays for it at its start. What it takes is measured by ``bench/agent.py``; here stands
what it must not load, which no clock has to judge.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ADAPTERS = (
    "understudy.flask",
    "understudy.quart",
    "understudy.aiohttp",
    "understudy.pyramid",
    "understudy.litestar",
    "understudy.django.sessions",
    "understudy.cachelib",
    "understudy.wsgi",
    "understudy.asgi",
)
OF_AGENTS = {
    "understudy.protocol.changes",
    "understudy.protocol.commands",
    "understudy.protocol.engine",
    "understudy.protocol.facts",
    "understudy.protocol.messages",
    "understudy.model.delta",
    "understudy.model.roles",
    "understudy.store.check",
    "understudy.agent",
    "understudy.transport",
}
"""Above a hundred classes of messages, commands, events and facts, and what handles them."""
RARE = {"asyncio", "ctypes", "difflib", "lmdb.verify", "ssl", "subprocess", "tomllib"}
"""What asking an agent from an event loop, a fork, a mistaken name, a boot, an agent's start or a file needs."""


def loaded(first: str, then: str) -> set[str]:
    """The modules that importing ``then`` loads in a new interpreter that has imported ``first``."""
    script = f"import sys, {first}; before = set(sys.modules); import {then}; print(*set(sys.modules) - before)"
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "DJANGO_SETTINGS_MODULE": "tests.django_settings"}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_loads_nothing_of_an_agents(adapter: str) -> None:
    """A worker asks its agent, and holds none of an agent's parts."""
    found = loaded("sys", adapter)
    assert adapter in found
    assert found & OF_AGENTS == set()


@pytest.mark.parametrize(
    ("framework", "adapter"),
    [("flask", "understudy.flask"), ("pyramid.session", "understudy.pyramid"), ("sys", "understudy.wsgi")],
)
def test_a_blocking_adapter_loads_nothing_for_rare_paths(framework: str, adapter: str) -> None:
    """What its framework has not loaded, the adapter loads only where it is used."""
    found = loaded(framework, adapter)
    assert adapter in found
    assert found & RARE == set()
