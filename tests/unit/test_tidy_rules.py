"""Each house rule catches what it is there to catch, and lets pass what is right."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest
from tests import tidy

Rule = Callable[[tidy.Module], list[str]]

LONG_FUNCTION = "def f():\n" + "    x = 1\n" * tidy.FUNCTION_LINES_MAX
FULL_FUNCTION = 'def f():\n    """A\n    docstring."""\n    # why\n\n' + "    x = 1\n" * (tidy.FUNCTION_LINES_MAX - 1)

BAD: list[tuple[Rule, str, str]] = [
    # store and protocol do not know each other, in either direction
    (tidy.layer_order, "understudy.store.lmdb", "from understudy.protocol import engine"),
    (tidy.layer_order, "understudy.protocol.engine", "from understudy.store.memory import MemoryStore"),
    (tidy.layer_order, "understudy.protocol.engine", "from ..store import memory"),
    # upwards, also lazily, relatively, for types only, and by a string
    (tidy.layer_order, "understudy.model.entry", "from understudy.store import memory"),
    (tidy.layer_order, "understudy.model.entry", "def f():\n    import understudy.client.session"),
    (tidy.layer_order, "understudy.errors", "from . import limits, config"),
    (tidy.layer_order, "understudy.client.link", "if TYPE_CHECKING:\n    from understudy.agent.main import Agent"),
    (tidy.layer_order, "understudy.client.link", "import_module('understudy.agent')"),
    # sideways: client and transport, two adapters, an adapter and the agent
    (tidy.layer_order, "understudy.client.link", "from understudy.transport import zenoh"),
    (tidy.layer_order, "understudy.flask", "from understudy.wsgi import SessionMiddleware"),
    (tidy.layer_order, "understudy.agent.main", "from understudy import flask"),
    # settings, the public face, a unit without a place
    (tidy.layer_order, "understudy.model.ids", "from understudy.config import Settings"),
    (tidy.layer_order, "understudy.protocol.members", "from understudy import config"),
    (tidy.layer_order, "understudy.client.link", "from understudy import Cluster"),
    (tidy.layer_order, "understudy.helpers", "x = 1"),
    (tidy.pure_imports, "understudy.model.entry", "import time"),
    (tidy.pure_imports, "understudy.model.ids", "from secrets import token_bytes"),
    (tidy.pure_imports, "understudy.protocol.engine", "def f():\n    import random"),
    (tidy.pure_imports, "understudy.protocol.engine", "import os.path"),
    (tidy.pure_imports, "understudy.protocol.engine", "import asyncio"),
    (tidy.pure_imports, "understudy.model.values", "import uuid"),
    (tidy.pure_imports, "understudy.model.values", "from uuid import uuid4"),
    (tidy.pure_imports, "understudy.model.entry", "from datetime import datetime\nx = datetime.now()"),
    (tidy.library_owners, "understudy.store.memory", "import lmdb"),
    (tidy.library_owners, "understudy.cli", "def f():\n    from lmdb import Environment"),
    (tidy.library_owners, "understudy.agent.main", "import zenoh.handlers"),
    (tidy.library_owners, "understudy.wsgi", "import importlib\nimportlib.import_module('flask')"),
    (tidy.library_owners, "understudy.asgi", "from werkzeug.http import dump_cookie"),
    (tidy.sizes, "understudy.model.entry", "x = 1\n" * (tidy.FILE_LINES_MAX + 1)),
    (tidy.sizes, "understudy.model.entry", LONG_FUNCTION),
    (tidy.sizes, "understudy.model.entry", "class C:\n" + indent("async " + LONG_FUNCTION, "    ")),
    (tidy.module_docstring, "understudy.model", ""),
    (tidy.module_docstring, "understudy.model", "x = 1\n'late'"),
    (tidy.banned_words, "understudy.agent.main", "# the master of the session"),
    (tidy.banned_words, "understudy.agent.main", "is_master = True"),
    (tidy.banned_words, "understudy.agent.main", "class SlaveStore: pass"),
    (tidy.banned_words, "understudy.agent.main", "'ask the Leader'"),
    (tidy.banned_words, "understudy.agent.main", "# leadership"),
    (tidy.banned_words, "understudy.agent.main", "LEADERS = 1"),
    (tidy.banned_words, "understudy.agent.main", "def daemonize(): pass"),
    (tidy.banned_words, "understudy.agent.main", "node_count = 3"),
    (tidy.banned_words, "understudy.agent.main", "nextNode = 3"),
    (tidy.banned_words, "understudy.agent.main", "# the session's owner"),
    (tidy.banned_words, "understudy.agent.main", "# owner of the entry"),
    (tidy.banned_words, "understudy.agent.main", "# sync the session to its backup"),
    (tidy.banned_words, "understudy.agent.main", "timeout_at = 3"),
    (tidy.banned_words, "understudy.agent.main", "# it fails over to b"),
    (tidy.banned_words, "understudy.agent.main", "# TO" + "DO later"),
    (tidy.banned_words, "understudy.agent.main", "raise NotImplemented" + "Error"),
    (tidy.claims, "test_x", "def test_x():\n    assert f()"),
    (tidy.claims, "test_x", "class TestX:\n    async def test_x(self):\n        '''   '''\n        assert f()"),
    (tidy.sleeps, "test_x", "import time\ntime.sleep(0.1)"),
    (tidy.sleeps, "test_x", "from time import sleep\ndef f():\n    sleep(1)"),
    (tidy.sleeps, "test_x", "async def f():\n    await asyncio.sleep(delay)"),
    (tidy.silent_skips, "test_x", "@pytest.mark.skip\ndef test_x(): pass"),
    (tidy.silent_skips, "test_x", "@pytest.mark.skipif(True)\ndef test_x(): pass"),
    (tidy.silent_skips, "test_x", "pytest.skip()"),
]

GOOD: list[tuple[Rule, str, str]] = [
    (
        tidy.layer_order,
        "understudy.store.lmdb",
        "from understudy.model import entry\nfrom understudy import config",
    ),
    (tidy.layer_order, "understudy.store.lmdb", "import lmdb\nfrom . import memory\nfrom ..errors import StoreFull"),
    (tidy.layer_order, "understudy.protocol.engine", "from understudy import errors, limits\nfrom . import members"),
    (tidy.layer_order, "understudy.agent.main", "import understudy.store.lmdb, understudy.transport.zenoh"),
    (tidy.layer_order, "understudy.cli", "from understudy import Cluster\nfrom understudy.demo import shop"),
    (tidy.layer_order, "understudy", "from understudy.cluster import Cluster"),
    (tidy.pure_imports, "understudy.model.values", "from uuid import UUID\nfrom datetime import datetime"),
    (tidy.pure_imports, "understudy.store.lmdb", "import os, time, threading"),
    (tidy.pure_imports, "understudy.protocol.engine", "import timeit_like, hashlib"),
    (tidy.library_owners, "understudy.store.lmdb", "import lmdb"),
    (tidy.library_owners, "understudy.transport.zenoh", "def f():\n    import zenoh"),
    (tidy.library_owners, "understudy.client.link", "from understudy.store.lmdb import LmdbStore\nfrom . import flask"),
    (tidy.sizes, "understudy.model.entry", "x = 1\n" * tidy.FILE_LINES_MAX),
    (tidy.sizes, "understudy.model.entry", FULL_FUNCTION),
    (tidy.module_docstring, "understudy.model", '"""What it gives."""'),
    (
        tidy.banned_words,
        "understudy.agent.main",
        "Thread(f, daemon=True)\nthread.daemon = True\nplatform.node()",
    ),
    (tidy.banned_words, "understudy.agent.main", "# the file's owner and mode\nos.uname().nodename\nmap_sync = sync"),
    (
        tidy.banned_words,
        "understudy.agent.main",
        "# after a failover gunicorn's master ends; annotated mastery",
    ),
    (tidy.claims, "test_x", "def test_x():\n    '''It holds.'''\ndef helper(): pass"),
    (tidy.sleeps, "test_x", "async def f():\n    await asyncio.sleep(0)"),
    (
        tidy.silent_skips,
        "test_x",
        "pytest.skip('needs root')\n@pytest.mark.skipif(x, reason='no ip')\ndef f(): pass",
    ),
]


@pytest.mark.parametrize(("rule", "name", "source"), BAD)
def test_rule_catches(rule: Rule, name: str, source: str) -> None:
    """The rule reports a snippet that breaks it, with its place."""
    wrong = rule(tidy.parse(source, name))
    assert wrong
    assert all(line.startswith("snippet.py:") for line in wrong)


@pytest.mark.parametrize(("rule", "name", "source"), GOOD)
def test_rule_lets_pass(rule: Rule, name: str, source: str) -> None:
    """The rule is silent about a snippet that keeps it."""
    assert rule(tidy.parse(source, name)) == []


def test_dead_module_is_found() -> None:
    """A module that nothing reaches is reported; imports, packages and names in strings reach theirs."""
    modules = [
        tidy.parse("from understudy.errors import E\n'understudy.demo.shop:app'", "understudy.cli"),
        tidy.parse("", "understudy.errors"),
        tidy.parse("from . import pages", "understudy.demo", is_package=True),
        tidy.parse("", "understudy.demo.pages"),
        tidy.parse("", "understudy.demo.shop"),
        tidy.parse("import understudy.cli", "understudy.forgotten", "src/understudy/forgotten.py"),
    ]
    wrong = tidy.dead_modules(modules)
    assert [line.split(":")[0] for line in wrong] == ["src/understudy/forgotten.py"]


def test_relative_imports_are_resolved() -> None:
    """A relative import is named from the module's package, and from the package itself in its `__init__`."""
    plain = tidy.parse("from ..limits import X\nfrom . import ids", "understudy.model.entry")
    package = tidy.parse("from .entry import Entry", "understudy.model", is_package=True)
    assert [found.full for found in tidy.imports(plain)] == ["understudy.limits.X", "understudy.model.ids"]
    assert [found.full for found in tidy.imports(package)] == ["understudy.model.entry.Entry"]
