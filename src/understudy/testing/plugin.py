"""The pytest plugin: ``understudy_clock`` and ``understudy_cluster``. Imports nothing before a test asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from understudy.testing import Clock, MemoryCluster


@pytest.fixture
def understudy_clock() -> Iterator[Clock]:
    """Sessions in memory for this test alone, and their clock; see ``understudy.testing.isolated``."""
    from understudy.testing import isolated

    with isolated() as clock:
        yield clock


@pytest.fixture
def understudy_cluster() -> Iterator[Callable[..., MemoryCluster]]:
    """Makes a running cluster of members in memory; takes what ``understudy.testing.MemoryCluster`` takes."""
    from understudy.testing import MemoryCluster

    with ExitStack() as exits:

        def make(*arguments: Any, **keywords: Any) -> MemoryCluster:
            return exits.enter_context(MemoryCluster(*arguments, **keywords))

        yield make
