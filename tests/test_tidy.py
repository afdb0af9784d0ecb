"""The house rules hold in the whole tree: layers, imports, sizes, words, dead modules, and the manner of the tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import tidy

ROOT = Path(__file__).resolve().parents[1]
MODULES = tidy.load(ROOT / "src")
TESTS = [
    tidy.parse(path.read_text("utf-8"), path.stem, str(path.relative_to(ROOT)))
    for path in sorted((ROOT / "tests").rglob("*.py"))
]


@pytest.mark.parametrize(
    "rule",
    [
        tidy.layer_order,
        tidy.pure_imports,
        tidy.library_owners,
        tidy.sizes,
        tidy.module_docstring,
        tidy.banned_words,
    ],
    ids=lambda rule: rule.__name__,
)
def test_source_keeps_the_rule(rule: Callable[[tidy.Module], list[str]]) -> None:
    """Every module of the package keeps the rule."""
    assert MODULES, "the package's modules were not found"
    wrong = [line for module in MODULES for line in rule(module)]
    assert not wrong, "\n".join(["", *wrong])


def test_no_module_is_dead() -> None:
    """Every module of the package is reached from an entry point."""
    wrong = tidy.dead_modules(MODULES)
    assert not wrong, "\n".join(["", *wrong])


@pytest.mark.parametrize(
    "rule", [tidy.claims, tidy.silent_skips, tidy.module_docstring], ids=lambda rule: rule.__name__
)
def test_tests_keep_the_rule(rule: Callable[[tidy.Module], list[str]]) -> None:
    """Every test file keeps the rule."""
    wrong = [line for module in TESTS for line in rule(module)]
    assert not wrong, "\n".join(["", *wrong])


def test_no_test_sleeps_outside_the_system_tests() -> None:
    """No test, helper or fixture outside tests/system waits for time to pass."""
    outside = [module for module in TESTS if not module.path.startswith("tests/system/")]
    wrong = [line for module in outside for line in tidy.sleeps(module)]
    assert not wrong, "\n".join(["", *wrong])


def test_importing_the_package_loads_no_library() -> None:
    """`import understudy` loads neither the store's nor the network's library nor any web framework."""
    heavy = ["lmdb", "zenoh", "flask", "werkzeug", "django", "starlette", "fastapi"]
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); import understudy; "
        f"print(*sorted(set({heavy!r}) & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
